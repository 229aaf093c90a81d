//! Validation against Istio's custom resource definitions, more strictly than in a cluster: an unknown field
//! fails.

use meshproof_harness::manifest;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::everything;

/// The definitions, from the file in `MESHPROOF_CRDS`, else from beside the workspace.
fn definitions() -> Option<String> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/istio/crd-all.gen.yaml");
    let path = std::env::var_os("MESHPROOF_CRDS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let read = std::fs::read_to_string(&path);
    assert!(
        read.is_ok() || std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_none(),
        "Istio's custom resource definitions are required and not at {}: set MESHPROOF_CRDS",
        path.display()
    );
    read.ok()
}

/// The schema in the form that the JSON validator accepts, with every object closed: Kubernetes drops unknown
/// fields, and the suite must not write any.
fn closed(schema: &Value) -> Value {
    let Value::Object(object) = schema else { return schema.clone() };
    let mut out = serde_json::Map::new();
    for (key, value) in object {
        let kept = match (key.as_str(), value) {
            ("properties", Value::Object(fields)) => {
                Value::Object(fields.iter().map(|(name, field)| (name.clone(), closed(field))).collect())
            }
            ("items" | "additionalProperties" | "not", _) => closed(value),
            // The branches of a union state required fields, not all fields.
            ("oneOf" | "anyOf" | "allOf", _) => value.clone(),
            (name, _) if name.starts_with("x-kubernetes-") => continue,
            // The validator does not support Kubernetes's formats.
            ("format", _) => continue,
            (_, _) => value.clone(),
        };
        out.insert(key.clone(), kept);
    }
    let open = object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if object.contains_key("properties") && !open {
        out.entry("additionalProperties".to_owned()).or_insert(Value::Bool(false));
    }
    if object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        out.remove("type");
    }
    Value::Object(out)
}

/// Validators by kind and version.
fn validators(text: &str) -> BTreeMap<(String, String), jsonschema::Validator> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let mut found = BTreeMap::new();
    for definition in documents.iter().filter(|d| d["kind"] == "CustomResourceDefinition") {
        let (group, kind) =
            (definition["spec"]["group"].as_str(), definition["spec"]["names"]["kind"].as_str());
        for version in definition["spec"]["versions"].as_array().unwrap() {
            let mut schema = closed(&version["schema"]["openAPIV3Schema"]);
            // The fields of every object.
            for field in ["apiVersion", "kind", "metadata"] {
                schema["properties"][field] = json!(true);
            }
            let api_version = format!("{}/{}", group.unwrap(), version["name"].as_str().unwrap());
            let validator = jsonschema::validator_for(&schema).unwrap();
            found.insert((api_version, kind.unwrap().to_owned()), validator);
        }
    }
    found
}

fn problems(validator: &jsonschema::Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn istios_resources_are_valid_by_its_own_definitions() {
    let Some(text) = definitions() else {
        eprintln!("ignored: Istio's custom resource definitions are not there; set MESHPROOF_CRDS");
        return;
    };
    let validators = validators(&text);
    let mut held = 0;
    for (name, resources) in everything() {
        for resource in resources.iter().filter(|r| r.api_version().contains(".istio.io/")) {
            let key = (resource.api_version().to_owned(), resource.kind().to_owned());
            let validator = validators.get(&key).unwrap_or_else(|| panic!("no definition of {key:?}"));
            let wrong = problems(validator, &resource.0);
            assert!(
                wrong.is_empty(),
                "{name}: {}: {wrong:#?}\n{}",
                resource.id(),
                manifest::to_yaml(resource)
            );
            held += 1;
        }
    }
    assert!(held > 100, "{held} resources");
}

#[test]
fn an_unknown_field_of_an_istio_resource_is_invalid() {
    let Some(text) = definitions() else {
        eprintln!("ignored: Istio's custom resource definitions are not there; set MESHPROOF_CRDS");
        return;
    };
    let validators = validators(&text);
    let key = ("networking.istio.io/v1".to_owned(), "ServiceEntry".to_owned());
    let entry =
        |spec: Value| json!({"apiVersion": key.0, "kind": key.1, "metadata": {"name": "n"}, "spec": spec});
    let good = json!({"hosts": ["a.example"], "ports": [{"number": 80, "name": "http"}]});
    assert_eq!(problems(&validators[&key], &entry(good.clone())), Vec::<String>::new());
    for bad in [
        json!({"hosts": ["a.example"], "port": []}),
        json!({"hosts": ["a.example"], "ports": [{"number": 80, "name": "http", "protocols": "HTTP"}]}),
        json!({"hosts": "a.example"}),
    ] {
        assert!(!problems(&validators[&key], &entry(bad.clone())).is_empty(), "{bad}");
    }
}
