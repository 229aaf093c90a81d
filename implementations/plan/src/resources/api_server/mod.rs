//! What the API server says of a resource: whether its CRD allows it (manifests/charts/base/files/crd-all.gen.yaml of Istio
//! 1.32, the schema that all versions of a kind share).
//!
//! `schemas.json` has the schema of `spec` per kind, with the keywords of OpenAPI without descriptions. Beside these: `$N`, a
//! schema that occurs more than once; `open`, for x-kubernetes-preserve-unknown-fields; `listType` and `listKeys`, for
//! x-kubernetes-list-type and -map-keys; `cel`, for x-kubernetes-validations, as pairs of a name for the expression and its
//! message.

mod openapi;
mod rules;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

static SCHEMAS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("schemas.json")).unwrap_or_default());

/// The kinds that need a specification.
const WITH_SPEC: [&str; 5] =
    ["ServiceEntry", "TrafficExtension", "WasmPlugin", "WorkloadEntry", "WorkloadGroup"];

/// The errors of one specification: of its schema, else of lists whose items should differ, else of unknown fields, else of
/// the rules over values.
pub(super) fn errors(kind: &str, spec: &Value) -> Vec<String> {
    let Some(schema) = SCHEMAS.get(kind) else { return Vec::new() };
    if spec.is_null() {
        return WITH_SPEC.iter().filter(|k| **k == kind).map(|_| "spec: Required value".to_owned()).collect();
    }
    let wrong = openapi::validate(schema, spec, "spec").errors;
    if !wrong.is_empty() {
        return wrong;
    }
    let mut found = Vec::new();
    openapi::duplicates(schema, spec, "spec", &mut found);
    if !found.is_empty() {
        return found;
    }
    let mut unknown = BTreeSet::new();
    openapi::unknown(Some(schema), spec, "spec", &mut unknown);
    if !unknown.is_empty() {
        let all: Vec<String> = unknown.into_iter().collect();
        return vec![format!("unknown fields [{}]", all.join(" "))];
    }
    rules::broken(schema, spec, "spec", &mut found);
    found
}

/// A schema, or the one that `$N` stands for.
fn resolved(schema: &Value) -> &Value {
    schema.as_str().and_then(|name| SCHEMAS.get(name)).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shared_schema_is_there() {
        fn names<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
            match value {
                Value::String(name) if name.starts_with('$') => into.push(name),
                Value::Array(items) => items.iter().for_each(|i| names(i, into)),
                Value::Object(fields) => fields.values().for_each(|f| names(f, into)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut used = Vec::new();
        names(&SCHEMAS, &mut used);
        assert!(!used.is_empty() && used.iter().all(|name| SCHEMAS.get(*name).is_some()), "{used:?}");
        let kinds = SCHEMAS.as_object().unwrap().keys().filter(|k| !k.starts_with('$')).count();
        assert_eq!(kinds, 15);
    }
}
