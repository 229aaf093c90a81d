//! What is in force in a cluster for one namespace, for `meshproof verify --target cluster`: read, and nothing changed.
//!
//! It reads what decides the requests of the namespace's workloads: the mesh's resources and Services of all namespaces (one that is
//! not exported is what a finding may be about), the labels of pods, the mesh's settings, and of the Secrets that credentials name
//! the names of their keys. Values of Secrets, environment variables of pods and annotations of other tools are left behind here.

mod credentials;
mod workloads;

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use meshproof_model::Resource;
use serde_json::{Map, Value, json};

use crate::api::{ApiError, ClusterClient};
use crate::identify::control_plane;
use crate::whole_mesh::root_namespace;

/// How many lists are requested concurrently.
const AT_ONCE: usize = 8;

/// Istio's kinds that decide where requests go and who opens TLS.
const CARRIED_OUT: &[&str] = &[
    "DestinationRule",
    "Gateway",
    "PeerAuthentication",
    "ServiceEntry",
    "Sidecar",
    "VirtualService",
    "WorkloadEntry",
];
/// Kinds that are only named as not examined.
const NAMED: &[&str] = &["AuthorizationPolicy", "EnvoyFilter"];

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InForce {
    /// The resources, with their `creationTimestamp`; the mesh's settings are the ConfigMap `istio`.
    pub resources: Vec<Resource>,
    /// How many of them are the namespace's own.
    pub own: usize,
    /// Whether all namespaces were read.
    pub whole: bool,
    /// Whether the Secrets that credentials name were read.
    pub secrets: bool,
    /// What could not be read and is taken to be there, in words.
    pub unread: Vec<String>,
}

/// Reads it.
///
/// # Errors
/// The cluster's; the account may not read the namespace's own resources.
pub async fn in_force(
    api: &ClusterClient,
    revision: Option<&str>,
    namespace: &str,
) -> Result<InForce, ApiError> {
    let mut read = InForce { whole: true, ..InForce::default() };
    let (istiod, suffix) = match control_plane(api, revision).await {
        Ok(Some((at, actual))) if actual == "default" => (at, String::new()),
        Ok(Some((at, actual))) => (at, format!("-{actual}")),
        Ok(None) | Err(ApiError::Forbidden(_)) => {
            let suffix = revision.map(|r| format!("-{r}")).unwrap_or_default();
            read.unread
                .push("a control plane in namespace istio-system, because no injector was found".to_owned());
            ("istio-system".to_owned(), suffix)
        }
        Err(e) => return Err(e),
    };
    let root = settings(api, &istiod, &suffix, &mut read).await?;
    let kinds = CARRIED_OUT.iter().chain(NAMED).chain(&["Service", "Pod"]);
    let lists: Vec<_> = kinds.map(|kind| list(api, kind, namespace, &root)).collect();
    let lists: Vec<Listed> = stream::iter(lists).buffered(AT_ONCE).try_collect().await?;
    let (mut pods, mut services) = (Vec::new(), Vec::new());
    for listed in lists {
        read.whole &= listed.whole || NAMED.contains(&listed.kind);
        read.unread.extend(listed.unread);
        match listed.kind {
            "Pod" => pods = listed.objects,
            "Service" => services = listed.objects,
            _ => {
                let served = api.served().await?.api_version(listed.kind).unwrap_or_default();
                let objects = listed.objects.into_iter();
                read.resources.extend(objects.map(|object| reduced(object, &served, listed.kind)));
            }
        }
    }
    read.resources.extend(services.iter().map(|service| workloads::service(service, &pods)));
    let keys = workloads::keys(&read.resources);
    let with_gateways = workloads::gateway_namespaces(&read.resources, &pods);
    read.resources.extend(workloads::workloads(&pods, &keys));
    let places: BTreeSet<String> = with_gateways.into_iter().chain([namespace.to_owned(), root]).collect();
    credentials::read(api, &places, &mut read).await?;
    read.own = read.resources.iter().filter(|r| r.namespace() == namespace).count();
    Ok(read)
}

/// The mesh's settings, added to the resources; the answer is its root namespace.
async fn settings(
    api: &ClusterClient,
    istiod: &str,
    suffix: &str,
    read: &mut InForce,
) -> Result<String, ApiError> {
    let name = format!("istio{suffix}");
    let found = match api.get("ConfigMap", istiod, &name).await {
        Err(ApiError::Forbidden(_)) => None,
        other => other?,
    };
    let root = root_namespace(found.as_ref(), istiod);
    match found {
        Some(map) => {
            let mesh = map.pointer("/data/mesh").cloned().unwrap_or_default();
            read.resources.push(Resource(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": "istio", "namespace": istiod,
                    "creationTimestamp": map.pointer("/metadata/creationTimestamp"),
                },
                "data": {"mesh": mesh},
            })));
        }
        None => read.unread.push(format!(
            "Istio's default settings, because the ConfigMap {istiod}/{name} cannot be read or does not exist"
        )),
    }
    Ok(root)
}

struct Listed {
    kind: &'static str,
    objects: Vec<Value>,
    whole: bool,
    unread: Vec<String>,
}

/// All objects of a kind in the cluster; if the account may not list them, those of the namespace and of the root namespace.
async fn list(
    api: &ClusterClient,
    kind: &'static str,
    namespace: &str,
    root: &str,
) -> Result<Listed, ApiError> {
    let mut listed = Listed { kind, objects: Vec::new(), whole: true, unread: Vec::new() };
    match api.list(kind, None, None).await {
        Ok(objects) => listed.objects = objects,
        Err(ApiError::NotServed(_)) => {}
        Err(ApiError::Forbidden(_)) if NAMED.contains(&kind) => {}
        Err(ApiError::Forbidden(_)) => {
            listed.whole = false;
            listed.objects = api.list(kind, Some(namespace), None).await?;
            listed.unread.push(format!(
                "no {kind} in other namespaces, because the account may not list them in the whole cluster"
            ));
            if namespace != root {
                match api.list(kind, Some(root), None).await {
                    Ok(more) => listed.objects.extend(more),
                    Err(ApiError::Forbidden(_)) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Err(e) => return Err(e),
    }
    Ok(listed)
}

/// An object of the mesh's API without what the API server and other tools keep in it.
fn reduced(mut object: Value, api_version: &str, kind: &str) -> Resource {
    let spec = object.get_mut("spec").map(Value::take).unwrap_or_else(|| json!({}));
    let metadata = metadata(&object, &["name", "namespace", "labels", "creationTimestamp"]);
    Resource(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}))
}

/// These fields of an object's metadata.
fn metadata(object: &Value, fields: &[&str]) -> Map<String, Value> {
    let metadata = object.get("metadata");
    let kept = fields.iter().filter_map(|f| Some(((*f).to_owned(), metadata?.get(*f)?.clone())));
    kept.collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
