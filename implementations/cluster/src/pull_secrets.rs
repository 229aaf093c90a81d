//! Secrets that images are pulled with. A pod finds them in its own namespace alone (Kubernetes, "Pull an Image from a Private
//! Registry"), and the namespaces of a run do not exist before it: one that is somewhere else is copied, and goes with them.

use std::str::FromStr;

use meshproof_model::Resource;
use serde_json::{Value, json};

use crate::api::{Api, ApiError};

/// The types that a kubelet takes (Kubernetes, "Secrets", "Docker config Secrets").
const TYPES: [&str; 2] = ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"];

/// A Secret that images are pulled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecret {
    /// Where it is copied from; absent: the run's namespaces get one of this name from somebody else.
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
        Err(format!("{text:?} is no Secret's name; write NAME, or NAMESPACE/NAME for one that is copied"))
    }
}

/// What can be wrong with a Secret that is to be copied.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is not there.
    #[error("there is no Secret {name} in the namespace {namespace}")]
    Absent {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// No kubelet pulls with it.
    #[error(
        "the Secret {name} in the namespace {namespace} is of the type {kind:?}, and not one to pull images with ({})",
        TYPES.join(", ")
    )]
    OfAnotherType {
        /// Its name.
        name: String,
        /// Where it is.
        namespace: String,
        /// Its type.
        kind: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl PullSecret {
    /// What is copied: its type and its data. None where nothing is.
    ///
    /// # Errors
    /// It is not there, not of the right type, or cannot be read.
    pub async fn original(&self, api: &Api) -> Result<Option<Value>, Unfit> {
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
    fn a_name_alone_is_looked_for_where_the_pod_is_and_one_with_a_namespace_is_copied() {
        let read = |text: &str| text.parse::<PullSecret>();
        assert_eq!(read("registry"), Ok(PullSecret { namespace: None, name: "registry".to_owned() }));
        let copied = PullSecret { namespace: Some("ops".to_owned()), name: "registry.example".to_owned() };
        assert_eq!(read("ops/registry.example"), Ok(copied));
        for wrong in ["", "/", "ops/", "/registry", "a/b/c", "a b", "$(x)"] {
            assert!(read(wrong).unwrap_err().contains("NAMESPACE/NAME"), "{wrong}");
        }
    }
}
