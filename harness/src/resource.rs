//! Kubernetes resources as the suite hands them on: read from YAML, not interpreted.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One resource of a manifest. The whole object is kept as it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resource(pub Value);

/// What names a resource within a cluster: kind, namespace, name. The API group is part of the kind's meaning here;
/// the suite uses no two kinds of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// `DestinationRule`.
    pub kind: String,
    /// `default` where the manifest names none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

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

impl Resource {
    /// Reads every document of a manifest, in order. Empty documents are left out; a resource without a namespace gets
    /// `namespace`.
    ///
    /// # Errors
    /// Not YAML, or a document without `apiVersion`, `kind` and `metadata.name`.
    pub fn read_manifest(file: &str, yaml: &str, namespace: &str) -> Result<Vec<Self>, ManifestError> {
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
            resources.push(Self(document));
        }
        Ok(resources)
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `networking.istio.io/v1`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// `DestinationRule`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `metadata.namespace`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// `spec`, or null.
    #[must_use]
    pub fn spec(&self) -> &Value {
        self.0.get("spec").unwrap_or(&Value::Null)
    }

    /// What names it.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId {
            kind: self.kind().to_owned(),
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// The resource as YAML for people; of a Secret, the keys without their values.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut shown = self.0.clone();
        if self.kind() == "Secret" {
            for field in ["data", "stringData"] {
                if let Some(data) = shown.get_mut(field).and_then(Value::as_object_mut) {
                    data.values_mut().for_each(|v| *v = Value::from("(withheld)"));
                }
            }
        }
        serde_saphyr::to_string(&shown).unwrap_or_else(|e| format!("(cannot be shown: {e})"))
    }
}
