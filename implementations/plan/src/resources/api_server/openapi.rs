//! What the schema of a CRD says of a value: `validate` of k8s.io/kube-openapi (pkg/validation/validate), `prune` and
//! `ValidateListSetsAndMaps` of k8s.io/apiextensions-apiserver (pkg/apiserver/schema). Fields are looked at by their names.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::resolved;

/// What is wrong with a value at `path`.
pub(super) fn validate(schema: &Value, value: &Value, path: &str) -> Outcome {
    let schema = resolved(schema);
    let mut outcome = Outcome::default();
    outcome.take(types(schema, value, path));
    if !value.is_null() {
        outcome.take(alternatives(schema, value, path));
    }
    match value {
        Value::String(text) => outcome.take(string(schema, text, path)),
        Value::Number(_) => outcome.take(number(schema, value, path)),
        Value::Array(items) => outcome.take(array(schema, items, path)),
        Value::Null | Value::Bool(_) | Value::Object(_) => {}
    }
    let one_of = schema.get("enum").and_then(Value::as_array);
    if let Some(values) = one_of.filter(|values| !values.contains(value)) {
        let known: Vec<String> = values.iter().map(Value::to_string).collect();
        let known = known.join(", ");
        outcome.wrong(format!("{path}: Unsupported value: {}: supported values: {known}", printed(value)));
    }
    if let Value::Object(members) = value {
        outcome.take(object(schema, members, path));
    }
    outcome
}

/// What a schema finds, and how many of its checks went well, by which the likeliest of several alternatives is chosen.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) errors: Vec<String>,
    matches: usize,
}

impl Outcome {
    fn take(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.matches += other.matches + 1;
    }

    fn wrong(&mut self, text: String) {
        self.errors.push(text);
    }

    fn fits(&self) -> bool {
        self.errors.is_empty()
    }
}

/// A value in an error, as `ErrorBody` of k8s.io/apimachinery prints it.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 1e21);
            whole.map_or_else(|| number.to_string(), |f| format!("{f}"))
        }
        Value::Array(_) | Value::Object(_) => sorted(value).to_string(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.to_string(),
    }
}

/// Go prints the members of an object by their names.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let by_name: std::collections::BTreeMap<_, _> = members.iter().collect();
            by_name.into_iter().map(|(name, member)| (name.clone(), sorted(member))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn invalid(path: &str, value: &str, why: &str) -> String {
    format!("{path}: Invalid value: {value}: {path} in body {why}")
}

/// `field.Invalid` without a place.
fn somewhere(text: &str) -> String {
    format!("<nil>: Invalid value: \"\": {text}")
}

/// A whole number, or one like `100.0`.
fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

/// `typeValidator`.
fn types(schema: &Value, value: &Value, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(wanted) = schema.get("type").and_then(Value::as_str) else { return outcome };
    let format = schema.get("format").and_then(Value::as_str);
    let must = |wanted: &str, got: &str| {
        invalid(path, &format!("{got:?}"), &format!("must be of type {wanted}: {got:?}"))
    };
    if value.is_null() {
        if schema.get("nullable") != Some(&json!(true)) {
            outcome.wrong(must(wanted, "null"));
        }
        return outcome;
    }
    let (got, own_format) = match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_f64() => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    };
    let fits = wanted == got
        || (wanted == "integer" && got == "number" && is_whole(value))
        || (wanted == "number" && got == "integer");
    if fits {
        return outcome;
    }
    // Of a number with a format the error names the format, except for texts and lists.
    match format {
        Some(format) if !(value.is_string() || value.is_array()) => outcome.wrong(must(format, own_format)),
        _ => outcome.wrong(must(wanted, got)),
    }
    outcome
}

fn count_of(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok())
}

fn string(schema: &Value, text: &str, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let length = text.chars().count();
    let pattern = schema.get("pattern").and_then(Value::as_str);
    if let Some(most) = count_of(schema, "maxLength").filter(|most| length > *most) {
        let unit = if most == 1 { "byte" } else { "bytes" };
        outcome.wrong(format!("{path}: Too long: may not be more than {most} {unit}"));
    } else if let Some(least) = count_of(schema, "minLength").filter(|least| length < *least) {
        outcome.wrong(invalid(path, &format!("{text:?}"), &format!("should be at least {least} chars long")));
    } else if let Some(pattern) = pattern {
        let matches = regex::Regex::new(pattern).is_ok_and(|expression| expression.is_match(text));
        if !matches {
            outcome.wrong(invalid(path, &format!("{text:?}"), &format!("should match '{pattern}'")));
        }
    }
    if schema.get("format").and_then(Value::as_str) == Some("byte") {
        use base64::Engine as _;
        if base64::engine::general_purpose::STANDARD.decode(text).is_err() {
            outcome.wrong(invalid(path, &format!("{text:?}"), &format!("must be of type byte: {text:?}")));
        }
    }
    outcome
}

fn number(schema: &Value, value: &Value, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let integer = schema.get("type").and_then(Value::as_str) == Some("integer");
    let small = schema.get("format").and_then(Value::as_str) == Some("int32");
    // Read as a text, so that neither `1.5` nor `100.0` is one.
    let in_range = !integer || value.as_i64().is_some_and(|n| !small || i32::try_from(n).is_ok()) || {
        let whole = value.as_f64().filter(|f| value.is_f64() && f.fract() == 0.0 && f.abs() < 9e15);
        whole.is_some_and(|f| !small || (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&f))
    };
    if !in_range {
        let format = if small { "with format int32" } else { "(default format)" };
        outcome.wrong(somewhere(&format!("Checked value must be of type integer {format} in {path}")));
    }
    let Some(got) = value.as_f64() else { return outcome };
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(most) = limit("maximum").filter(|most| got > *most) {
        outcome.wrong(invalid(path, &printed(value), &format!("should be less than or equal to {most}")));
    }
    if let Some(least) = limit("minimum").filter(|least| got < *least) {
        outcome.wrong(invalid(path, &printed(value), &format!("should be greater than or equal to {least}")));
    }
    outcome
}

fn too_many(path: &str, got: usize, most: usize) -> String {
    let unit = if most == 1 { "item" } else { "items" };
    format!("{path}: Too many: {got}: must have at most {most} {unit}")
}

fn array(schema: &Value, items: &[Value], path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    if let Some(of_items) = schema.get("items") {
        for (i, item) in items.iter().enumerate() {
            outcome.take(validate(of_items, item, &format!("{path}[{i}]")));
        }
    }
    let count = items.len();
    if let Some(least) = count_of(schema, "minItems").filter(|least| count < *least) {
        outcome.wrong(invalid(path, &count.to_string(), &format!("should have at least {least} items")));
    }
    if let Some(most) = count_of(schema, "maxItems").filter(|most| count > *most) {
        outcome.wrong(too_many(path, count, most));
    }
    outcome
}

fn object(schema: &Value, members: &Map<String, Value>, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let count = members.len();
    if let Some(least) = count_of(schema, "minProperties").filter(|least| count < *least) {
        outcome.wrong(invalid(path, &count.to_string(), &format!("should have at least {least} properties")));
    }
    if let Some(most) = count_of(schema, "maxProperties").filter(|most| count > *most) {
        outcome.wrong(too_many(path, count, most));
    }
    let of_fields = schema.get("properties").and_then(Value::as_object);
    let of_others = schema.get("additionalProperties").filter(|s| !s.is_boolean());
    for (name, member) in members {
        let known = of_fields.and_then(|fields| fields.get(name));
        if let Some(of_member) = known.or(of_others) {
            outcome.take(validate(of_member, member, &format!("{path}.{name}")));
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            outcome.wrong(format!("{path}.{name}: Required value"));
        }
    }
    outcome
}

fn schemas<'s>(schema: &'s Value, name: &str) -> impl Iterator<Item = &'s Value> + use<'s> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// `schemaPropsValidator`: `anyOf`, `oneOf`, `allOf` and `not`.
fn alternatives(schema: &Value, value: &Value, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    if schema.get("anyOf").is_some() {
        let mut best: Option<Outcome> = None;
        for alternative in schemas(schema, "anyOf") {
            let found = validate(alternative, value, path);
            let better =
                best.as_ref().is_none_or(|b| !b.fits() && (found.fits() || found.matches > b.matches));
            if better {
                best = Some(found);
            }
        }
        if best.as_ref().is_some_and(|b| !b.fits()) {
            outcome.wrong(somewhere(&format!("{path:?} must validate at least one schema (anyOf)")));
        }
        best.into_iter().for_each(|b| outcome.take(b));
    }
    if schema.get("oneOf").is_some() {
        let (fitting, failing): (Vec<Outcome>, Vec<Outcome>) =
            schemas(schema, "oneOf").map(|s| validate(s, value, path)).partition(Outcome::fits);
        let count = fitting.len();
        if count != 1 {
            let found =
                if count == 0 { "none valid".to_owned() } else { format!("{count} valid alternatives") };
            outcome.wrong(somewhere(&format!(
                "{path:?} must validate one and only one schema (oneOf). Found {found}"
            )));
        }
        if count == 0 {
            let mut best: Option<Outcome> = None;
            for found in failing {
                if best.as_ref().is_none_or(|b| found.matches > b.matches) {
                    best = Some(found);
                }
            }
            best.into_iter().for_each(|b| outcome.take(b));
        }
    }
    if schema.get("allOf").is_some() {
        let all: Vec<Outcome> = schemas(schema, "allOf").map(|s| validate(s, value, path)).collect();
        let (fitting, count) = (all.iter().filter(|o| o.fits()).count(), all.len());
        all.into_iter().for_each(|o| outcome.take(o));
        if fitting != count {
            let none = if fitting == 0 { ". None validated" } else { "" };
            outcome.wrong(somewhere(&format!("{path:?} must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(not) = schema.get("not")
        && validate(not, value, path).fits()
    {
        outcome.wrong(somewhere(&format!("{path:?} must not validate the schema (not)")));
    }
    outcome
}

/// `ValidateListSetsAndMaps`: items of a list that is a map have keys of their own.
pub(super) fn duplicates(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let schema = resolved(schema);
    match value {
        Value::Array(items) => {
            if schema.get("listType").and_then(Value::as_str) == Some("map") {
                let keys: Vec<&str> = schemas(schema, "listKeys").filter_map(Value::as_str).collect();
                let key = |item: &Value| -> Map<String, Value> {
                    keys.iter().filter_map(|k| Some(((*k).to_owned(), item.get(*k)?.clone()))).collect()
                };
                let mut seen: Vec<(Map<String, Value>, usize)> = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    let own = key(item);
                    match seen.iter_mut().find(|(known, _)| *known == own) {
                        Some((_, times)) => {
                            *times += 1;
                            if *times == 2 {
                                found.push(format!("{path}[{i}]: Duplicate value: {}", Value::Object(own)));
                            }
                        }
                        None => seen.push((own, 1)),
                    }
                }
            }
            if let Some(of_items) = schema.get("items") {
                for (i, item) in items.iter().enumerate() {
                    duplicates(of_items, item, &format!("{path}[{i}]"), found);
                }
            }
        }
        Value::Object(members) => {
            let of_fields = schema.get("properties").and_then(Value::as_object);
            for (name, member) in members {
                if let Some(of_member) = of_fields.and_then(|fields| fields.get(name)) {
                    duplicates(of_member, member, &format!("{path}.{name}"), found);
                } else if let Some(of_member) = schema.get("additionalProperties") {
                    duplicates(of_member, member, &format!("{path}[{name}]"), found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `prune`: the fields that the schema does not have.
pub(super) fn unknown(schema: Option<&Value>, value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let schema = schema.map(resolved);
    let open = schema.is_some_and(|s| s.get("open").is_some());
    match value {
        Value::Array(items) if !open => {
            for (i, item) in items.iter().enumerate() {
                unknown(schema.and_then(|s| s.get("items")), item, &format!("{path}[{i}]"), found);
            }
        }
        Value::Object(members) => {
            let of_fields = schema.and_then(|s| s.get("properties")).and_then(Value::as_object);
            let of_others = schema.and_then(|s| s.get("additionalProperties"));
            for (name, member) in members {
                let at = format!("{path}.{name}");
                match of_fields.and_then(|fields| fields.get(name)).or(of_others) {
                    Some(of_member) => unknown(Some(of_member), member, &at, found),
                    None if open => {}
                    None => {
                        found.insert(at);
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
    }
}
