//! nginx pods: external services, outside the mesh, and the mesh's plain services.

use meshproof_model::Resource;
use meshproof_nginx::{POD_CONTROL, POD_FOLDER, PodFiles, PodService};
use serde_json::{Map, Value, json};

use super::ManifestContext;
use super::served::low_ports;

/// The container of an nginx pod.
pub const NGINX: &str = "nginx";

/// The pod of an external service, with its files; `number` distinguishes it from others, even of the same
/// host.
///
/// # Errors
/// The service needs something that nginx cannot do.
pub fn external(
    context: &ManifestContext<'_>,
    service: &PodService,
    number: usize,
) -> Result<Vec<Resource>, String> {
    let name = format!("external-{number}");
    let labels = context.labels_with(&[("app", &name), ("sidecar.istio.io/inject", "false")]);
    pod(context, context.places.outside(), &name, &labels, service)
}

/// A plain service of the mesh: its pod, its files, and its Service.
///
/// # Errors
/// The service needs something that nginx cannot do.
pub fn plain(
    context: &ManifestContext<'_>,
    namespace: &str,
    name: &str,
    port: u16,
    service: &PodService,
) -> Result<Vec<Resource>, String> {
    let namespace = context.places.of(namespace);
    let labels = context.labels_with(&[("app", name), ("sidecar.istio.io/inject", "false")]);
    let mut made = pod(context, namespace, name, &labels, service)?;
    made.push(Resource(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": context.metadata(namespace, name),
        "spec": {
            "selector": context.labels_with(&[("app", name)]),
            "ports": [{ "name": "http", "port": port, "targetPort": port }],
        },
    })));
    Ok(made)
}

fn pod(
    context: &ManifestContext<'_>,
    namespace: &str,
    name: &str,
    labels: &Value,
    service: &PodService,
) -> Result<Vec<Resource>, String> {
    let PodFiles { public, private } = service.files()?;
    // Keys of a ConfigMap have no `/` (Kubernetes, "ConfigMaps"); the mount restores the folders.
    let key = |path: &str| path.replace('/', "_");
    let items: Vec<Value> =
        public.iter().map(|(path, _)| json!({ "key": key(path), "path": path })).collect();
    let data: Map<String, Value> =
        public.iter().map(|(path, text)| (key(path), text.as_str().into())).collect();
    let mut made = vec![Resource(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": context.metadata(namespace, name),
        "data": data,
    }))];
    let mut sources = vec![json!({ "configMap": { "name": name, "items": items } })];
    if !private.is_empty() {
        let data: Map<String, Value> =
            private.iter().map(|(path, text)| (key(path), text.0.as_str().into())).collect();
        made.push(Resource(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": context.metadata(namespace, name),
            "stringData": data,
        })));
        sources.push(json!({ "secret": { "name": name } }));
    }
    let mut container = context.container(NGINX, "external");
    let configuration = format!("{POD_FOLDER}/nginx.conf");
    container.insert(
        "command".to_owned(),
        json!(["nginx", "-p", "/tmp", "-c", configuration, "-e", "/dev/stdout"]),
    );
    container.insert(
        "volumeMounts".to_owned(),
        json!([
            { "name": "files", "mountPath": POD_FOLDER, "readOnly": true },
            { "name": "scratch", "mountPath": "/tmp" },
        ]),
    );
    // The suite's own port: a probe of a served port would be among the connections that are counted.
    container.insert(
        "readinessProbe".to_owned(),
        json!({ "tcpSocket": { "port": POD_CONTROL }, "periodSeconds": 1 }),
    );
    let volumes = vec![
        json!({ "name": "files", "projected": { "sources": sources } }),
        json!({ "name": "scratch", "emptyDir": { "sizeLimit": "64Mi" } }),
    ];
    let mut spec = context.pod_spec(container.into(), volumes);
    spec.insert("securityContext".to_owned(), low_ports());
    made.push(Resource(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": context.metadata(namespace, name),
        "spec": {
            "replicas": 1,
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": context.labels_with(&[("app", name)]) },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    })));
    Ok(made)
}
