//! Pods of the suite's own image: external services and clients, which are processes that the suite starts in them.

use meshproof_model::Resource;
use serde_json::{Map, Value, json};

use super::ManifestContext;
use crate::settings::SUITE;

/// The program in the image; the Dockerfile puts it there.
pub const PROGRAM: &str = "/usr/local/bin/meshproof";
/// The container of an external service.
pub const SERVER: &str = "server";
/// A server or a client with many connections holds bodies of some megabytes.
const MEMORY: &str = "256Mi";

/// A container in which the suite starts [`PROGRAM`]; its first process only waits.
#[must_use]
pub fn container(context: &ManifestContext<'_>, name: &str) -> Map<String, Value> {
    let mut container = context.container(name, SUITE);
    container.insert("command".to_owned(), json!([PROGRAM, "serve", "--wait"]));
    if let Some(resources) = container.get_mut("resources") {
        resources["limits"]["memory"] = MEMORY.into();
    }
    if let Some(security) = container.get_mut("securityContext") {
        security["readOnlyRootFilesystem"] = true.into();
    }
    container
}

/// The pod of an external service; `number` distinguishes it from others, even of the same host. It holds no certificate: the
/// process gets them from the suite.
#[must_use]
pub fn external(context: &ManifestContext<'_>, number: usize) -> Resource {
    let name = format!("external-{number}");
    let labels = context.labels_with(&[("app", &name), ("sidecar.istio.io/inject", "false")]);
    let mut spec = context.pod_spec(container(context, SERVER).into(), Vec::new());
    spec.insert("securityContext".to_owned(), low_ports());
    Resource(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": context.metadata(context.places.outside(), &name),
        "spec": {
            "replicas": 1,
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": context.labels_with(&[("app", &name)]) },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    }))
}

/// Lets a user who is not root listen on ports below 1024 (Kubernetes, "Using sysctls in a Kubernetes Cluster": a safe sysctl).
#[must_use]
pub(super) fn low_ports() -> Value {
    json!({ "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }] })
}
