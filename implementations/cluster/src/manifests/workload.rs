//! Applications with a sidecar, and the suite's own client without one.

use meshproof_harness::topology::{Application, Workload};
use meshproof_model::Resource;
use serde_json::{Value, json};

use super::gateway::permissions;
use super::served;
use super::{ManifestContext, ROOTS, ROOTS_FOLDER, ROOTS_KEY, SYSTEM_ROOTS};

/// The suite's own client, outside the mesh.
pub const PROBE: &str = "meshproof-probe";
/// The container of an application.
pub const APPLICATION: &str = "application";

/// Unless the run is live, the sidecar trusts the suite's CA as a system root: its file is mounted over the
/// system's, by the annotations that Istio has for volumes of the proxy's own (Istio,
/// manifests/charts/istio-control/istio-discovery/files/injection-template.yaml,
/// `sidecar.istio.io/userVolume` and `userVolumeMount`: JSON objects by the volume's name).
fn annotations(context: &ManifestContext<'_>) -> Value {
    // The application starts after the sidecar that captures its traffic.
    let held = json!({ "proxy.istio.io/config": r#"{"holdApplicationUntilProxyStarts":true}"# });
    if context.live {
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

fn service_account(context: &ManifestContext<'_>, namespace: &str, name: &str) -> Resource {
    Resource(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": context.metadata(namespace, name),
        "automountServiceAccountToken": false,
    }))
}

/// The mounts of the suite's own clients: the suite's roots, unless the run is live, and a folder to write
/// in.
fn mounts(context: &ManifestContext<'_>) -> Value {
    let roots = json!({ "name": ROOTS, "mountPath": ROOTS_FOLDER, "readOnly": true });
    let scratch = json!({ "name": "scratch", "mountPath": "/tmp" });
    if context.live { json!([scratch]) } else { json!([roots, scratch]) }
}

fn volumes(context: &ManifestContext<'_>) -> Vec<Value> {
    let roots = json!({ "name": ROOTS, "configMap": { "name": ROOTS } });
    let scratch = json!({ "name": "scratch", "emptyDir": { "sizeLimit": "64Mi" } });
    if context.live { vec![scratch] } else { vec![roots, scratch] }
}

/// What sends requests: the suite's own image, or a stock curl, which waits for exec.
fn client(context: &ManifestContext<'_>) -> Value {
    if context.suite_image().is_some() {
        return served::container(context, APPLICATION).into();
    }
    let mut container = context.container(APPLICATION, "workload");
    // Exits at once on SIGTERM: the first process of a container ignores signals that it has no handler for.
    let script = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
    container.insert("command".to_owned(), json!(["/bin/sh", "-c", script]));
    container.insert("volumeMounts".to_owned(), mounts(context));
    container.into()
}

/// The details application before it is configured to look books up: a stock nginx whose configuration the
/// suite writes.
fn details(context: &ManifestContext<'_>) -> Value {
    let mut container = context.container(APPLICATION, "details");
    let script = "printf '%s' 'daemon off; pid /tmp/nginx.pid; error_log /dev/stdout; events {} \
                  http { access_log off; include /tmp/details.conf; }' > /tmp/nginx.conf; : > \
                  /tmp/details.conf; \
                  exec nginx -c /tmp/nginx.conf -e /dev/stdout";
    container.insert("command".to_owned(), json!(["/bin/sh", "-c", script]));
    container.insert("volumeMounts".to_owned(), mounts(context));
    container.into()
}

fn deployment(context: &ManifestContext<'_>, namespace: &str, name: &str, template: Value) -> Resource {
    Resource(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": context.metadata(namespace, name),
        "spec": {
            "replicas": 1,
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": context.labels_with(&[("app", name)]) },
            "template": template,
        },
    }))
}

/// An application: its ServiceAccount, its Deployment, and its Service if it serves.
#[must_use]
pub fn workload(context: &ManifestContext<'_>, workload: &Workload) -> Vec<Resource> {
    let (namespace, name) = (context.places.of(&workload.namespace), workload.name.as_str());
    let container = if workload.serves.is_some() { details(context) } else { client(context) };
    let mut containers = vec![container];
    if workload.serves.is_some() {
        // Requests in its name are sent from a container beside it, through the same sidecar.
        let mut beside = client(context);
        beside["name"] = CLIENT.into();
        containers.push(beside);
    }
    let mut spec = context.pod_spec(Value::Null, volumes(context));
    spec.insert("serviceAccountName".to_owned(), name.into());
    spec.insert("containers".to_owned(), containers.into());
    let own = workload.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let labels: Vec<(&str, &str)> = own.chain([("app", name)]).collect();
    let template = json!({
        "metadata": { "labels": context.labels_with(&labels), "annotations": annotations(context) },
        "spec": spec,
    });
    let mut made = vec![service_account(context, namespace, name)];
    made.extend(permissions(context, namespace, name));
    made.push(deployment(context, namespace, name, template));
    if let Some(Application { port, .. }) = &workload.serves {
        made.push(Resource(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": context.metadata(namespace, name),
            "spec": {
                "selector": context.labels_with(&[("app", name)]),
                "ports": [{ "name": "http", "port": port, "targetPort": port }],
            },
        })));
    }
    made
}

/// The container from which a workload's requests are sent, where its application is not a client itself.
pub const CLIENT: &str = "client";

/// The container of a workload that sends its requests.
#[must_use]
pub const fn client_of(workload: &Workload) -> &'static str {
    if workload.serves.is_some() { CLIENT } else { APPLICATION }
}

/// The suite's own client: a Deployment without a sidecar, outside the mesh.
#[must_use]
pub fn probe(context: &ManifestContext<'_>) -> Resource {
    let template = json!({
        "metadata": { "labels": context.labels_with(&[("app", PROBE), ("sidecar.istio.io/inject",
            "false")]) },
        "spec": context.pod_spec(client(context), volumes(context)),
    });
    deployment(context, context.places.outside(), PROBE, template)
}

/// The configuration of a workload's application. `address` is where it dials for its external service, which its sidecar captures
/// whatever it is. Without an address, the application asks the cluster's name servers and trusts the authorities of its own
/// image.
#[must_use]
pub fn application_configuration(application: &Application, address: Option<&str>, plain: bool) -> String {
    let Application { port, path, host, target, failure, .. } = application;
    let (scheme, upstream, authority) =
        if plain { ("http", 80, format!("{host}:80")) } else { ("https", 443, host.clone()) };
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

    fn details() -> Application {
        Application::new(9080, "/details/", "books.example.com", "/books/v1/volumes?q=isbn:")
            .plain_if("DO_NOT_ENCRYPT")
    }

    #[test]
    fn the_application_of_a_live_run_resolves_the_real_host_and_trusts_the_authorities_of_its_image() {
        for (plain, scheme, port) in [(true, "http", 80), (false, "https", 443)] {
            let live = application_configuration(&details(), None, plain);
            assert!(
                live.contains(&format!("upstream external {{ server books.example.com:{port}; }}")),
                "{live}"
            );
            assert!(live.contains(&format!("proxy_pass {scheme}://external/books/v1/volumes")), "{live}");
            assert!(
                live.contains("proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;"),
                "{live}"
            );
            let pinned = application_configuration(&details(), Some("10.1.0.7"), plain);
            assert!(
                pinned.contains(&format!("proxy_pass {scheme}://10.1.0.7:{port}/books/v1/volumes")),
                "{pinned}"
            );
            assert!(!pinned.contains("upstream") && pinned.contains("/etc/meshproof-roots/"), "{pinned}");
        }
    }
}
