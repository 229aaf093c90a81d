//! Applications with a sidecar, and the suite's own client without one.

use meshproof_harness::topology::{Application, Workload};
use meshproof_model::Resource;
use serde_json::{Value, json};

use super::{Plan, ROOTS, ROOTS_FOLDER, ROOTS_KEY, SYSTEM_ROOTS};

/// The suite's own client, outside the mesh.
pub const PROBE: &str = "meshproof-probe";
/// The container of an application.
pub const APPLICATION: &str = "application";

/// Unless the run is live, the sidecar believes the suite's CA as one of the system's: its file is mounted over theirs, by the
/// annotations that Istio has for volumes of the proxy's own (Istio,
/// manifests/charts/istio-control/istio-discovery/files/injection-template.yaml, `sidecar.istio.io/userVolume` and
/// `userVolumeMount`: JSON objects by the volume's name).
fn annotations(plan: &Plan<'_>) -> Value {
    // Nothing runs before the sidecar is there to capture it.
    let held = json!({ "proxy.istio.io/config": r#"{"holdApplicationUntilProxyStarts":true}"# });
    if plan.live {
        return held;
    }
    let volume = json!({ ROOTS: { "configMap": { "name": ROOTS } } });
    let mount = json!({ ROOTS: { "mountPath": SYSTEM_ROOTS, "subPath": ROOTS_KEY, "readOnly": true } });
    json!({
        "sidecar.istio.io/userVolume": volume.to_string(),
        "sidecar.istio.io/userVolumeMount": mount.to_string(),
        "proxy.istio.io/config": held["proxy.istio.io/config"],
    })
}

fn service_account(plan: &Plan<'_>, namespace: &str, name: &str) -> Resource {
    Resource(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": plan.metadata(namespace, name),
        "automountServiceAccountToken": false,
    }))
}

/// What a client of the suite's has mounted: the suite's roots, unless the run is live, and a folder to write in.
fn mounts(plan: &Plan<'_>) -> Value {
    let roots = json!({ "name": ROOTS, "mountPath": ROOTS_FOLDER, "readOnly": true });
    let scratch = json!({ "name": "scratch", "mountPath": "/tmp" });
    if plan.live { json!([scratch]) } else { json!([roots, scratch]) }
}

fn volumes(plan: &Plan<'_>) -> Vec<Value> {
    let roots = json!({ "name": ROOTS, "configMap": { "name": ROOTS } });
    let scratch = json!({ "name": "scratch", "emptyDir": { "sizeLimit": "64Mi" } });
    if plan.live { vec![scratch] } else { vec![roots, scratch] }
}

/// A stock curl that waits to be told.
fn curl(plan: &Plan<'_>) -> Value {
    let mut container = plan.container(APPLICATION, "workload");
    // Ends at once when it is told to: the first process of a container ignores signals that it has no handler for.
    let script = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
    container.insert("command".to_owned(), json!(["/bin/sh", "-c", script]));
    container.insert("volumeMounts".to_owned(), mounts(plan));
    container.into()
}

/// The details application before it is told how to look books up: a stock nginx whose configuration the suite writes.
fn details(plan: &Plan<'_>) -> Value {
    let mut container = plan.container(APPLICATION, "details");
    let script = "printf '%s' 'daemon off; pid /tmp/nginx.pid; error_log /dev/stdout; events {} \
                  http { access_log off; include /tmp/details.conf; }' > /tmp/nginx.conf; : > /tmp/details.conf; \
                  exec nginx -c /tmp/nginx.conf -e /dev/stdout";
    container.insert("command".to_owned(), json!(["/bin/sh", "-c", script]));
    container.insert("volumeMounts".to_owned(), mounts(plan));
    container.into()
}

fn deployment(plan: &Plan<'_>, namespace: &str, name: &str, template: Value) -> Resource {
    Resource(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": plan.metadata(namespace, name),
        "spec": {
            "replicas": 1,
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": plan.labels_with(&[("app", name)]) },
            "template": template,
        },
    }))
}

/// An application: its account, its Deployment, and its Service where it serves.
#[must_use]
pub fn workload(plan: &Plan<'_>, workload: &Workload) -> Vec<Resource> {
    let (namespace, name) = (plan.places.of(workload.namespace), workload.name);
    let container = if workload.serves.is_some() { details(plan) } else { curl(plan) };
    let mut containers = vec![container];
    if workload.serves.is_some() {
        // The application's own requests are asked from beside it, through the same sidecar.
        let mut beside = curl(plan);
        beside["name"] = CLIENT.into();
        containers.push(beside);
    }
    let mut spec = plan.pod_spec(Value::Null, volumes(plan));
    spec.insert("serviceAccountName".to_owned(), name.into());
    spec.insert("containers".to_owned(), containers.into());
    let template = json!({
        "metadata": { "labels": plan.labels_with(&[("app", name)]), "annotations": annotations(plan) },
        "spec": spec,
    });
    let mut made = vec![service_account(plan, namespace, name), deployment(plan, namespace, name, template)];
    if let Some(Application { port, .. }) = workload.serves {
        made.push(Resource(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": plan.metadata(namespace, name),
            "spec": {
                "selector": plan.labels_with(&[("app", name)]),
                "ports": [{ "name": "http", "port": port, "targetPort": port }],
            },
        })));
    }
    made
}

/// The container from which a workload's requests are sent, where its application is not a client itself.
pub const CLIENT: &str = "client";

/// The container of a workload that has curl.
#[must_use]
pub const fn client_of(workload: &Workload) -> &'static str {
    if workload.serves.is_some() { CLIENT } else { APPLICATION }
}

/// The suite's own client: a Deployment without a sidecar, outside the mesh.
#[must_use]
pub fn probe(plan: &Plan<'_>) -> Resource {
    let template = json!({
        "metadata": { "labels": plan.labels_with(&[("app", PROBE), ("sidecar.istio.io/inject", "false")]) },
        "spec": plan.pod_spec(curl(plan), volumes(plan)),
    });
    deployment(plan, plan.places.outside(), PROBE, template)
}

/// The configuration of a workload's application. `address` is where it dials for its external service, which its sidecar captures
/// whatever it is. Without an address, the application asks the cluster's name servers and trusts the authorities of its own
/// image.
#[must_use]
pub fn details_configuration(application: &Application, address: Option<&str>, plain: bool) -> String {
    let Application { port, path, host, target, failure, .. } = application;
    let (scheme, upstream, authority) =
        if plain { ("http", 80, format!("{host}:80")) } else { ("https", 443, (*host).to_owned()) };
    let (server, before, roots) = match address {
        Some(address) => {
            (format!("{address}:{upstream}"), String::new(), format!("{ROOTS_FOLDER}/{ROOTS_KEY}"))
        }
        // A group's names are looked up when the configuration is read, as those of a URL with variables in it are not. The roots are
        // where Debian's and Alpine's packages `ca-certificates` put them, and so the stock nginx.
        None => {
            let group = format!("upstream external {{ server {host}:{upstream}; }}\n");
            ("external".to_owned(), group, SYSTEM_ROOTS.to_owned())
        }
    };
    let most = Application::MAX_ID;
    format!(
        r#"client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
{before}server {{
    listen {port};
    location = /ready {{ return 200; }}
    location ~ "^{path}(?<id>[0-9A-Za-z-]{{1,{most}}})$" {{
        proxy_pass {scheme}://{server}{target}$id;
        proxy_http_version 1.1;
        proxy_set_header Host {authority};
        proxy_set_header Connection "";
        proxy_ssl_server_name on;
        proxy_ssl_name {host};
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate {roots};
        proxy_intercept_errors on;
        error_page 301 302 307 308 400 401 403 404 429 500 502 503 504 =200 @error;
    }}
    location @error {{ default_type application/json; return 200 '{{"error":"{failure}"}}'; }}
    location / {{ return 404; }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETAILS: Application = Application {
        port: 9080,
        path: "/details/",
        host: "books.example.com",
        target: "/books/v1/volumes?q=isbn:",
        plain_if: "DO_NOT_ENCRYPT",
        failure: "not found",
    };

    #[test]
    fn the_details_application_of_a_live_run_looks_the_real_host_up_and_believes_its_own_images_authorities()
    {
        for (plain, scheme, port) in [(true, "http", 80), (false, "https", 443)] {
            let live = details_configuration(&DETAILS, None, plain);
            assert!(
                live.contains(&format!("upstream external {{ server books.example.com:{port}; }}")),
                "{live}"
            );
            assert!(live.contains(&format!("proxy_pass {scheme}://external/books/v1/volumes")), "{live}");
            assert!(
                live.contains("proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;"),
                "{live}"
            );
            let pinned = details_configuration(&DETAILS, Some("10.1.0.7"), plain);
            assert!(
                pinned.contains(&format!("proxy_pass {scheme}://10.1.0.7:{port}/books/v1/volumes")),
                "{pinned}"
            );
            assert!(!pinned.contains("upstream") && pinned.contains("/etc/meshproof-roots/"), "{pinned}");
        }
    }
}
