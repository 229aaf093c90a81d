//! The types of fields in the CRDs (manifests/charts/base/files/crd-all.gen.yaml of Istio 1.32, version v1, whose schema all
//! versions share), and what the API server says where a value has another one.
//!
//! `types.json` has a specification per kind: an object with its fields, or with `*` for a map; a list with the type of its
//! items; the name of a type, with `?` where null is allowed; the values of an enum; `$N`, a type that occurs more than once.
//! The API server takes null away before it looks at types ("Defaulting and nullable"), so there is none here.

use std::sync::LazyLock;

use serde_json::Value;

static TYPES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("types.json")).unwrap_or_default());

/// A value that does not have the type of its field.
pub(super) struct Mismatch {
    /// The API server's words.
    pub(super) words: Vec<String>,
}

/// Every such value of a specification, by the order of names. Fields that the schema does not have are left alone.
pub(super) fn mismatches(kind: &str, spec: &Value) -> Vec<Mismatch> {
    let mut found = Vec::new();
    if let Some(wanted) = TYPES.get(kind) {
        look(spec, wanted, "spec", &mut found);
    }
    found
}

fn look(value: &Value, wanted: &Value, place: &str, found: &mut Vec<Mismatch>) {
    match (wanted, value) {
        (Value::String(name), _) if name.starts_with('$') => {
            if let Some(shared) = TYPES.get(name) {
                look(value, shared, place, found);
            }
        }
        (Value::String(name), _) => scalar(value, name, place, found),
        (Value::Array(item), Value::Array(items)) => {
            let item = item.first().unwrap_or(&Value::Null);
            for (i, inner) in items.iter().enumerate() {
                look(inner, item, &format!("{place}[{i}]"), found);
            }
        }
        (Value::Object(fields), Value::Object(members)) => {
            for (name, inner) in members {
                if let Some(wanted) = fields.get(name).or_else(|| fields.get("*")) {
                    look(inner, wanted, &format!("{place}.{name}"), found);
                }
            }
        }
        (Value::Array(_), _) => found.push(mismatch(value, "array", place)),
        (Value::Object(_), _) => found.push(mismatch(value, "object", place)),
        (Value::Null | Value::Bool(_) | Value::Number(_), _) => {}
    }
}

fn scalar(value: &Value, name: &str, place: &str, found: &mut Vec<Mismatch>) {
    let (name, values) = name.split_once(' ').unwrap_or((name, ""));
    let (name, nullable) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
    if name == "any" || (nullable && value.is_null()) {
        return;
    }
    let wanted = if name == "enum" { "string" } else { name };
    let fits = match wanted {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    let mut words = if fits { Vec::new() } else { mismatch(value, wanted, place).words };
    let known = |text: &str| values.split(' ').any(|v| v == text);
    if name == "enum" && !value.as_str().is_some_and(known) {
        let all: Vec<String> = values.split(' ').map(|v| format!("{v:?}")).collect();
        words.push(format!("{place}: Unsupported value: {value}: supported values: {}", all.join(", ")));
    }
    if !words.is_empty() {
        found.push(Mismatch { words });
    }
}

fn mismatch(value: &Value, wanted: &str, place: &str) -> Mismatch {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let words =
        format!("{place}: Invalid value: {kind:?}: {place} in body must be of type {wanted}: {kind:?}");
    Mismatch { words: vec![words] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shared_type_is_there_and_every_kind_is_an_object() {
        fn names<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
            match value {
                Value::String(name) if name.starts_with('$') => into.push(name),
                Value::Array(items) => items.iter().for_each(|i| names(i, into)),
                Value::Object(fields) => fields.values().for_each(|f| names(f, into)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut used = Vec::new();
        names(&TYPES, &mut used);
        assert!(!used.is_empty() && used.iter().all(|name| TYPES.get(*name).is_some()), "{used:?}");
        let kinds: Vec<&String> = TYPES.as_object().unwrap().keys().filter(|k| !k.starts_with('$')).collect();
        assert_eq!(kinds.len(), 8, "{kinds:?}");
    }
}
