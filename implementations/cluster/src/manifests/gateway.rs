//! A scenario's own gateways, by gateway injection (Istio, "Installing Gateways"; template
//! manifests/charts/istio-control/istio-discovery/files/gateway-injection-template.yaml).

use meshproof_harness::topology::Gateway;
use meshproof_model::Resource;
use serde_json::{Value, json};

use super::{ManifestContext, ROOTS, ROOTS_KEY, SYSTEM_ROOTS};

/// A gateway: its ServiceAccount, the permission to read its credentials, its Deployment and its Service.
#[must_use]
pub fn gateway(context: &ManifestContext<'_>, gateway: &Gateway) -> Vec<Resource> {
    let (namespace, name) = (context.places.of(&gateway.namespace), gateway.name.as_str());
    let account = account(name);
    let mut made = vec![Resource(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": context.metadata(namespace, &account),
    }))];
    made.extend(permissions(context, namespace, &account));
    made.push(deployment(context, gateway, 1));
    made.push(service(context, gateway));
    made
}

/// Named as in Istio's charts.
fn account(name: &str) -> String {
    format!("{name}-service-account")
}

/// istiod gives a proxy the secrets of its own namespace if its account may read them (Istio,
/// pilot/pkg/credentials/kube/secrets.go, `Authorize`: `list` on secrets; for a sidecar, "Egress TLS Origination": mutual TLS
/// origination at a sidecar).
pub(super) fn permissions(context: &ManifestContext<'_>, namespace: &str, account: &str) -> [Resource; 2] {
    [
        Resource(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": context.metadata(namespace, account),
            "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"] }],
        })),
        Resource(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": context.metadata(namespace, account),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
        })),
    ]
}

fn pod_labels(context: &ManifestContext<'_>, gateway: &Gateway) -> Value {
    let mut labels = context.labels.clone();
    labels.extend(gateway.labels.clone());
    json!(labels)
}

/// The Deployment alone, with this number of pods; 0 removes the gateway.
#[must_use]
pub fn deployment(context: &ManifestContext<'_>, gateway: &Gateway, replicas: u32) -> Resource {
    let (namespace, name) = (context.places.of(&gateway.namespace), gateway.name.as_str());
    let labels = pod_labels(context, gateway);
    let mut of_pod = labels.clone();
    of_pod["sidecar.istio.io/inject"] = "true".into();
    if context.injection.label == "istio.io/rev" {
        of_pod["istio.io/rev"] = context.injection.value.as_str().into();
    }
    let mut spec = json!({
        "serviceAccountName": account(name),
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 2,
        "containers": [{
            "name": "istio-proxy",
            // Istio's webhook replaces it with its own image.
            "image": "auto",
            // Written here, because the API server sets `Always` for an image without a tag before the webhook
            // replaces the image (Kubernetes, "Images": default image pull policy).
            "imagePullPolicy": context.settings.pull_policy.as_ref().unwrap_or(&context.injection.pull_policy),
            "resources": { "requests": { "cpu": "20m", "memory": "64Mi" } },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
            },
            "volumeMounts": [
                { "name": ROOTS, "mountPath": SYSTEM_ROOTS, "subPath": ROOTS_KEY, "readOnly": true },
            ],
        }],
        "volumes": [{ "name": ROOTS, "configMap": { "name": ROOTS } }],
        // Ports below 1024 without privileges, as Istio's own chart for gateways has it
        // (manifests/charts/gateway/templates/deployment.yaml).
        "securityContext": { "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }] },
    });
    if context.live
        && let Some(spec) = spec.as_object_mut()
    {
        // It trusts the authorities of its image.
        spec.remove("volumes");
        spec["containers"][0].as_object_mut().and_then(|proxy| proxy.remove("volumeMounts"));
    }
    context.pull_secrets(&mut spec);
    Resource(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": context.metadata(namespace, name),
        "spec": {
            "replicas": replicas,
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": {
                    "labels": of_pod,
                    "annotations": { "inject.istio.io/templates": "gateway" },
                },
                "spec": spec,
            },
        },
    }))
}

fn service(context: &ManifestContext<'_>, gateway: &Gateway) -> Resource {
    let ports = gateway
        .ports
        .iter()
        .map(|&port| json!({ "name": Gateway::port_name(port), "port": port, "targetPort": port }));
    Resource(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": context.metadata(context.places.of(&gateway.namespace), &gateway.name),
        "spec": {
            "type": "ClusterIP",
            "selector": pod_labels(context, gateway),
            "ports": ports.collect::<Vec<_>>(),
        },
    }))
}
