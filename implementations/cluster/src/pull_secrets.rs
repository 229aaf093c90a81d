//! Secrets that images are pulled with. A pod can use only those of its own namespace (Kubernetes, "Pull an
//! Image from a Private Registry"), and the namespaces of a run do not exist before it: a Secret of another
//! namespace is copied, and deleted with them.

use std::str::FromStr;

use meshproof_model::Resource;
use serde_json::{Value, json};

use crate::api::{ApiError, ClusterClient};

/// The types that a kubelet accepts (Kubernetes, "Secrets", "Docker config Secrets").
const TYPES: [&str; 2] = ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"];

/// A Secret that images are pulled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecret {
    /// Where it is copied from; absent: something else creates one of this name in the run's namespaces.
    pub namespace: Option<String>,
    /// Its name, there and in the run's namespaces.
    pub name: String,
}

impl FromStr for PullSecret {
    type Err = String;

    /// Reads `NAME` or `NAMESPACE/NAME`.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        };
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if is_name(name) && namespace.is_none_or(is_name) {
            return Ok(Self { namespace: namespace.map(str::to_owned), name: name.to_owned() });
        }
        Err(format!("{text:?} is not the name of a Secret; write NAME, or NAMESPACE/NAME to have it copied"))
    }
}

/// What can be wrong with a Secret that is to be copied.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It does not exist.
    #[error("there is no Secret {name} in the namespace {namespace}")]
    Absent {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// A kubelet cannot use it.
    #[error(
        "the Secret {name} in the namespace {namespace} has the type {kind:?}, with which images cannot be \
         pulled (use {})",
        TYPES.join(" or ")
    )]
    OfAnotherType {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// Its type.
        kind: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl PullSecret {
    /// The type and data to copy; none where nothing is copied.
    ///
    /// # Errors
    /// It does not exist, has the wrong type, or cannot be read.
    pub async fn original(&self, api: &ClusterClient) -> Result<Option<Value>, Unfit> {
        let Some(namespace) = &self.namespace else { return Ok(None) };
        let (name, namespace) = (self.name.clone(), namespace.clone());
        let Some(found) = api.get("Secret", &namespace, &name).await? else {
            return Err(Unfit::Absent { name, namespace });
        };
        let kind = found["type"].as_str().unwrap_or("Opaque").to_owned();
        if !TYPES.contains(&kind.as_str()) {
            return Err(Unfit::OfAnotherType { name, namespace, kind });
        }
        Ok(Some(json!({ "type": kind, "data": found["data"] })))
    }

    /// The copy for one namespace of the run.
    #[must_use]
    pub fn copy(original: &Value, metadata: Value) -> Resource {
        Resource(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "type": original["type"], "data": original["data"],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_namespace_is_copied_and_a_name_alone_is_not() {
        let read = |text: &str| text.parse::<PullSecret>();
        assert_eq!(read("registry"), Ok(PullSecret { namespace: None, name: "registry".to_owned() }));
        let copied = PullSecret { namespace: Some("ops".to_owned()), name: "registry.example".to_owned() };
        assert_eq!(read("ops/registry.example"), Ok(copied));
        for wrong in ["", "/", "ops/", "/registry", "a/b/c", "a b", "$(x)"] {
            assert!(read(wrong).unwrap_err().contains("NAMESPACE/NAME"), "{wrong}");
        }
    }
}
