//! Manifests: Kubernetes resources as YAML.

pub use meshproof_model::Resource;
use serde_json::Value;

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not YAML.
    #[error("{file}: not valid YAML: {source}")]
    Yaml {
        /// The manifest.
        file: String,
        /// With line and column.
        source: Box<serde_saphyr::Error>,
    },
    /// YAML, and not a Kubernetes resource.
    #[error("{file}: document {index}: {problem}")]
    Shape {
        /// The manifest.
        file: String,
        /// Counted from 1.
        index: usize,
        /// What is missing.
        problem: String,
    },
}

/// Reads every document of a manifest, in order. Empty documents are left out; a resource without a namespace gets
/// `namespace`.
///
/// # Errors
/// Not YAML, or a document without `apiVersion`, `kind` and `metadata.name`.
pub fn read(file: &str, yaml: &str, namespace: &str) -> Result<Vec<Resource>, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)
        .map_err(|source| ManifestError::Yaml { file: file.to_owned(), source: Box::new(source) })?;
    let mut resources = Vec::new();
    for (index, mut document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        let shape = |problem: &str| ManifestError::Shape {
            file: file.to_owned(),
            index: index + 1,
            problem: problem.to_owned(),
        };
        for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
            if document.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty) {
                let field = pointer[1..].replace('/', ".");
                return Err(shape(&format!("`{field}` is missing or not a string")));
            }
        }
        if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.entry("namespace").or_insert_with(|| Value::from(namespace));
        }
        resources.push(Resource(document));
    }
    Ok(resources)
}

/// Reads YAML that is no manifest, such as settings inside one; none where it is not one document of YAML.
#[must_use]
pub fn value(yaml: &str) -> Option<Value> {
    serde_saphyr::from_str(yaml).ok()
}

/// The resource as YAML for people; of a Secret, the keys without their values.
#[must_use]
pub fn to_yaml(resource: &Resource) -> String {
    let mut shown = resource.0.clone();
    if resource.kind() == "Secret" {
        for field in ["data", "stringData"] {
            if let Some(data) = shown.get_mut(field).and_then(Value::as_object_mut) {
                data.values_mut().for_each(|v| *v = Value::from("(withheld)"));
            }
        }
    }
    serde_saphyr::to_string(&shown).unwrap_or_else(|e| format!("(cannot be shown: {e})"))
}
