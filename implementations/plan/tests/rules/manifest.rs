//! The tests' manifests. This crate takes resources that are already read, so its tests read YAML themselves.

use meshproof_model::Resource;
use serde_json::{Value, json};

/// Reads every document; a resource without a namespace is in `default`.
pub(crate) fn read(yaml: &str) -> Vec<Resource> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("the test's manifest is YAML");
    let present = documents.into_iter().filter(|document| !document.is_null());
    present
        .map(|mut document| {
            let metadata = document["metadata"].as_object_mut().expect("the test's resource has metadata");
            metadata.entry("namespace").or_insert(json!("default"));
            Resource(document)
        })
        .collect()
}
