//! The Secrets and ConfigMaps that credentials name: whether they exist, and which keys they have. Their values stay here.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt};
use meshproof_model::Resource;
use serde_json::{Map, Value, json};

use super::{AT_ONCE, InForce, text};
use crate::api::{ApiError, ClusterClient};

/// How many objects are read at most.
const MAX_READ: usize = 2_000;
/// Stands for a value that was not kept.
const LEFT_OUT: &str = "left in the cluster";
/// By this name Istio looks for a credential's CA first (pilot/pkg/credentials/kube/secrets.go, `GetCaCert`).
const CA_SUFFIX: &str = "-cacert";

type Name = (&'static str, String, String);

/// Adds them to the resources.
pub(super) async fn read(
    api: &ClusterClient,
    namespaces: &BTreeSet<String>,
    read: &mut InForce,
) -> Result<(), ApiError> {
    let mut wanted: BTreeSet<Name> = BTreeSet::new();
    for resource in &read.resources {
        for reference in references(resource.spec()) {
            wanted.extend(objects(reference, namespaces));
        }
    }
    read.secrets = true;
    if wanted.len() > MAX_READ {
        read.unread.push(format!("more than {MAX_READ} credentials"));
        read.secrets = false;
    }
    let asked = wanted.into_iter().take(MAX_READ).map(|name| async move {
        let found = api.get(name.0, &name.1, &name.2).await;
        (name, found)
    });
    let mut answers = stream::iter(asked).buffered(AT_ONCE);
    while let Some(((kind, namespace, name), found)) = answers.next().await {
        match found {
            Ok(None) => {}
            Ok(Some(object)) => read.resources.push(keys_alone(&object, kind, &namespace, &name)),
            Err(ApiError::Forbidden(_)) => {
                if kind == "Secret" {
                    read.secrets = false;
                }
                let words =
                    format!("the {kind}s that credentials name, because the account may not read them");
                if !read.unread.contains(&words) {
                    read.unread.push(words);
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Every credential that a specification names.
fn references(spec: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut stack = vec![spec];
    while let Some(value) = stack.pop() {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    match (name.as_str(), inner) {
                        ("credentialName" | "caCertCredentialName", Value::String(text)) => {
                            found.push(text.as_str());
                        }
                        ("credentialNames", Value::Array(items)) => {
                            found.extend(items.iter().filter_map(Value::as_str));
                        }
                        _ => stack.push(inner),
                    }
                }
            }
            Value::Array(items) => stack.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}

/// The objects that a reference may lead to (`ParseResourceName` in pilot/pkg/model/credentials).
fn objects(reference: &str, namespaces: &BTreeSet<String>) -> Vec<Name> {
    if let Some(path) = reference.strip_prefix("configmap://") {
        let parts = path.split_once('/');
        return parts.map(|(ns, name)| ("ConfigMap", ns.to_owned(), name.to_owned())).into_iter().collect();
    }
    let plain = reference.strip_prefix("kubernetes://").unwrap_or(reference);
    if plain.is_empty() || plain.contains("://") {
        return Vec::new();
    }
    let (only, name) = match plain.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, plain),
    };
    let places = namespaces.iter().filter(|n| only.is_none_or(|only| only == n.as_str()));
    places
        .flat_map(|n| {
            let names = [name.to_owned(), format!("{name}{CA_SUFFIX}")];
            names.map(|name| ("Secret", n.clone(), name))
        })
        .collect()
}

/// An object with a text in place of each value that is not empty.
fn keys_alone(object: &Value, kind: &str, namespace: &str, name: &str) -> Resource {
    let data = object.get("data").and_then(Value::as_object).into_iter().flatten();
    let keys: Map<String, Value> = data
        .filter(|(_, value)| value.as_str().is_some_and(|v| !v.is_empty()))
        .map(|(key, _)| (key.clone(), json!(LEFT_OUT)))
        .collect();
    let field = if kind == "Secret" { "stringData" } else { "data" };
    Resource(json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {
            "name": name, "namespace": namespace,
            "creationTimestamp": text(object, "/metadata/creationTimestamp"),
        },
        field: keys,
    }))
}
