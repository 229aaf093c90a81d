//! Services and pods, reduced to what decides where requests go.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::Resource;
use serde_json::{Value, json};

use super::{metadata, text};

/// The container of a proxy (Istio, pkg/kube/inject, `ProxyContainerName`).
const PROXY: &str = "istio-proxy";
/// Which template an injected proxy was made from; `gateway` for gateways (istio.io, "Gateway injection").
const TEMPLATES: &str = "inject.istio.io/templates";
/// Who sees a Service.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    // A sidecar may be an init container that goes on (Kubernetes, "Sidecar containers").
    ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .flat_map(|at| pod.pointer(at).and_then(Value::as_array).into_iter().flatten())
}

/// What of a pod its proxy is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    Nothing,
    Sidecar,
    Gateway,
}

fn carries(pod: &Value) -> Carries {
    let proxy = containers(pod).find(|c| text(c, "/name") == PROXY);
    let Some(proxy) = proxy else { return Carries::Nothing };
    let by_template =
        strings(pod.pointer("/metadata/annotations")).get(TEMPLATES).is_some_and(|t| t.contains("gateway"));
    // `pilot-agent proxy router` runs a gateway, `proxy sidecar` a sidecar.
    let arguments = proxy.get("args").and_then(Value::as_array).into_iter().flatten();
    let router = arguments.filter_map(Value::as_str).any(|a| a == "router");
    if by_template || router { Carries::Gateway } else { Carries::Sidecar }
}

/// A Service, with target ports that are names of containers' ports resolved (Kubernetes, "Service", field `targetPort`).
pub(super) fn service(service: &Value, pods: &[Value]) -> Resource {
    let spec = service.get("spec").cloned().unwrap_or_default();
    let selector = strings(spec.get("selector"));
    let namespace = text(service, "/metadata/namespace");
    let ports: Vec<Value> = spec
        .get("ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|port| {
            let mut port = port.clone();
            let name = port.get("targetPort").and_then(Value::as_str).map(str::to_owned);
            if let Some(number) = name.and_then(|name| container_port(&name, namespace, &selector, pods)) {
                port["targetPort"] = json!(number);
            }
            port
        })
        .collect();
    let mut kept = metadata(service, &["name", "namespace", "labels", "creationTimestamp"]);
    let annotations = strings(service.pointer("/metadata/annotations"));
    if let Some(export) = annotations.get(EXPORT_TO) {
        kept.insert("annotations".to_owned(), json!({EXPORT_TO: export}));
    }
    let mut reduced = json!({"ports": ports});
    for field in ["selector", "clusterIP", "type", "externalName"] {
        if let Some(value) = spec.get(field) {
            reduced[field] = value.clone();
        }
    }
    Resource(json!({"apiVersion": "v1", "kind": "Service", "metadata": kept, "spec": reduced}))
}

fn container_port(
    name: &str,
    namespace: &str,
    selector: &BTreeMap<String, String>,
    pods: &[Value],
) -> Option<u64> {
    let mut behind = pods.iter().filter(|p| {
        text(p, "/metadata/namespace") == namespace
            && selects(selector, &strings(p.pointer("/metadata/labels")))
    });
    behind.find_map(|pod| {
        let ports =
            containers(pod).flat_map(|c| c.get("ports").and_then(Value::as_array).into_iter().flatten());
        ports.into_iter().find(|p| text(p, "/name") == name)?.get("containerPort")?.as_u64()
    })
}

/// The keys of labels by which some resource selects pods or endpoints. All other labels make no difference.
pub(super) fn keys(resources: &[Resource]) -> BTreeSet<String> {
    let mut keys = BTreeSet::from(["app".to_owned()]);
    let mut stack: Vec<&Value> = resources.iter().map(Resource::spec).collect();
    while let Some(value) = stack.pop() {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    if matches!(name.as_str(), "selector" | "matchLabels" | "labels" | "sourceLabels") {
                        keys.extend(strings(Some(inner)).into_keys());
                    }
                    stack.push(inner);
                }
            }
            Value::Array(items) => stack.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    keys
}

/// The namespaces of the pods that Gateways select: their Secrets are read there.
pub(super) fn gateway_namespaces(resources: &[Resource], pods: &[Value]) -> BTreeSet<String> {
    let gateways = resources.iter().filter(|r| r.kind() == "Gateway");
    let selectors: Vec<_> = gateways.map(|g| strings(g.spec().get("selector"))).collect();
    let selected = pods.iter().filter(|pod| {
        let labels = strings(pod.pointer("/metadata/labels"));
        selectors.iter().any(|s| selects(s, &labels))
    });
    selected.map(|pod| text(pod, "/metadata/namespace").to_owned()).collect()
}

/// One pod for all that differ in nothing that decides; pods that have ended are left out.
pub(super) fn workloads(pods: &[Value], keys: &BTreeSet<String>) -> Vec<Resource> {
    let mut found: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for pod in pods {
        if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            continue;
        }
        let mut labels = strings(pod.pointer("/metadata/labels"));
        let name = owner(pod, &labels);
        labels.retain(|key, _| keys.contains(key));
        let (injected, annotations) = match carries(pod) {
            Carries::Sidecar => ("true", json!({})),
            Carries::Gateway => ("false", json!({TEMPLATES: "gateway"})),
            Carries::Nothing => ("false", json!({})),
        };
        let mut annotations = annotations;
        annotations["sidecar.istio.io/inject"] = json!(injected);
        let reduced = json!({
            "labels": labels, "annotations": annotations,
            "account": pod.pointer("/spec/serviceAccountName"),
        });
        let namespace = text(pod, "/metadata/namespace").to_owned();
        let same = found.entry((namespace, name.clone())).or_default();
        if same.iter().any(|known| without_name(known) == reduced) {
            continue;
        }
        let name = if same.is_empty() { name } else { text(pod, "/metadata/name").to_owned() };
        let mut named = reduced;
        named["name"] = json!(name);
        named["created"] = pod.pointer("/metadata/creationTimestamp").cloned().unwrap_or_default();
        same.push(named);
    }
    let all = found.into_iter().flat_map(|((namespace, _), same)| {
        same.into_iter().map(move |one| {
            Resource(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": one["name"], "namespace": namespace, "labels": one["labels"],
                    "annotations": one["annotations"], "creationTimestamp": one["created"],
                },
                "spec": {"serviceAccountName": one["account"]},
            }))
        })
    });
    all.collect()
}

fn without_name(known: &Value) -> Value {
    let mut known = known.clone();
    if let Some(fields) = known.as_object_mut() {
        fields.remove("name");
        fields.remove("created");
    }
    known
}

/// The workload that a pod belongs to: of a Deployment's ReplicaSet, the Deployment (Kubernetes appends the pod template's hash).
fn owner(pod: &Value, labels: &BTreeMap<String, String>) -> String {
    let owner = text(pod, "/metadata/ownerReferences/0/name");
    let owner = match labels.get("pod-template-hash") {
        Some(hash) => owner.strip_suffix(&format!("-{hash}")).unwrap_or(owner),
        None => owner,
    };
    if owner.is_empty() { text(pod, "/metadata/name").to_owned() } else { owner.to_owned() }
}
