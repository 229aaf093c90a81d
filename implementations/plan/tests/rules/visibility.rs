//! exportTo, Sidecar egress hosts, and which of several services of one host counts.

use meshproof_plan::model::Discovery;

use crate::world::{Ask, INGRESS, SLEEP, World, at, service};

fn entry(name: &str, namespace: &str, ports: &str, rest: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [edition.cnn.com]
  ports: {ports}
  resolution: DNS
{rest}
"
    )
}

const HTTP: &str = "[{number: 80, name: http, protocol: HTTP}]";
const CNN: Option<&str> = Some("outbound|80||edition.cnn.com");

fn goes(manifest: &str) -> Option<String> {
    let plan = World::new().resolve(manifest).plan;
    plan.goes_to(SLEEP, 80, "edition.cnn.com", "/").map(str::to_owned)
}

#[test]
fn a_service_entry_reaches_the_namespaces_that_it_is_exported_to() {
    for (namespace, export_to, reaches) in [
        ("other", "", true),
        ("other", "  exportTo: ['*']", true),
        ("other", "  exportTo: ['.']", false),
        ("other", "  exportTo: [default]", true),
        ("other", "  exportTo: [third]", false),
        ("other", "  exportTo: ['~']", false),
        ("default", "  exportTo: ['.']", true),
        ("default", "  exportTo: ['~']", false),
    ] {
        let got = goes(&entry("e", namespace, HTTP, export_to));
        assert_eq!(got.as_deref() == CNN, reaches, "{namespace} {export_to}");
    }
}

#[test]
fn a_virtual_service_reaches_the_namespaces_that_it_is_exported_to() {
    for (namespace, export_to, reaches) in [
        ("other", "['.']", false),
        ("other", "[default]", true),
        ("default", "['.']", true),
        ("other", "['*']", true),
    ] {
        let manifest = format!(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a, namespace: {namespace}}}
spec:
  hosts: [edition.cnn.com]
  exportTo: {export_to}
  http: [{{directResponse: {{status: 418}}}}]
"
        );
        let plan = World::new().resolve(&manifest).plan;
        assert_eq!(
            plan.answers(SLEEP, 80, "edition.cnn.com") == Some(418),
            reaches,
            "{namespace} {export_to}"
        );
    }
}

#[test]
fn what_is_private_to_the_gateways_namespace_does_not_serve_a_sidecar_elsewhere() {
    let bucket = "samplebucket1234.s3.ap-southeast-2.amazonaws.com";
    let plan = World::new().resolve(&crate::documents::bucket(false)).plan;
    assert!(plan.proxy(INGRESS).cluster(&format!("outbound|443||{bucket}")).is_some());
    assert_eq!(plan.tls_goes_to(SLEEP, 443, bucket), Some("PassthroughCluster"));
}

#[test]
fn a_private_virtual_service_goes_before_a_public_one_that_is_older() {
    let vs = |name: &str, export_to: &str, status: u16| {
        format!(
            "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [edition.cnn.com]
  exportTo: {export_to}
  http: [{{directResponse: {{status: {status}}}}}]
"
        )
    };
    let plan = World::new().resolve(&[vs("public", "['*']", 410), vs("private", "['.']", 418)].concat()).plan;
    assert_eq!(plan.answers(SLEEP, 80, "edition.cnn.com"), Some(418));
}

#[test]
fn entries_of_one_namespace_and_host_are_merged_and_of_others_the_older_counts() {
    let tls = "[{number: 443, name: https, protocol: HTTPS}]";
    let both = [entry("a", "default", HTTP, ""), entry("b", "default", tls, "")].concat();
    let plan = World::new().resolve(&both).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, "edition.cnn.com", "/"), CNN);
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "edition.cnn.com"), Some("outbound|443||edition.cnn.com"));
    let apart = [entry("a", "one", HTTP, ""), entry("b", "two", tls, "")].concat();
    let plan = World::new().resolve(&apart).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, "edition.cnn.com", "/"), CNN);
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "edition.cnn.com"), Some("PassthroughCluster"));
}

#[test]
fn a_kubernetes_service_beats_an_entry_for_its_host() {
    let mut world = World::new();
    world.registry.push(service("web", "default", (80, "http"), 14_080, None));
    let both = "[{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]";
    // A private entry comes before a public service when services are gathered, and still yields.
    for export_to in ["['*']", "['.']"] {
        let manifest = entry("squatter", "default", both, &format!("  exportTo: {export_to}"))
            .replace("edition.cnn.com", "web.default.svc.cluster.local")
            .replace("resolution: DNS", "resolution: STATIC\n  endpoints: [{address: 127.0.0.9}]");
        let plan = world.resolve(&manifest.replace("exportTo: ['*']", "exportTo: []")).plan;
        let cluster = plan.cluster(SLEEP, "outbound|80||web.default.svc.cluster.local");
        // Endpoints are kept by host and namespace, whichever resource declares them (ServiceEndpointsByPort in push_context.go).
        let entrys = "127.0.0.9:80".parse().unwrap_or_else(|_| at(0));
        assert_eq!(cluster.discovery, Discovery::Endpoints(vec![entrys, at(14_080)]), "{export_to}");
        // No port of the entry is merged into the service (canMergeServices), yet a listener is made for each
        // (DefaultSidecarScopeForNamespace): it leads to a cluster that is not there.
        let nowhere = "outbound|443||web.default.svc.cluster.local";
        assert_eq!(plan.tls_goes_to(SLEEP, 443, "web.default.svc.cluster.local"), Some(nowhere));
        assert!(plan.proxy(SLEEP).cluster(nowhere).is_none());
    }
}

#[test]
fn an_entrys_endpoint_has_its_own_port_else_the_target_port() {
    let addresses = |ports: &str, endpoints: &str| {
        let manifest = entry("e", "default", ports, &format!("  endpoints: [{endpoints}]"));
        World::new().resolve(&manifest).plan.cluster(SLEEP, CNN.unwrap_or_default()).discovery.clone()
    };
    let target = "[{number: 80, name: http, protocol: HTTP, targetPort: 443}]";
    let google = |port| Discovery::Endpoints(vec![at(port)]);
    assert_eq!(addresses(HTTP, "{address: www.googleapis.com}"), google(22_080));
    assert_eq!(addresses(target, "{address: www.googleapis.com}"), google(22_443));
    assert_eq!(addresses(target, "{address: www.googleapis.com, ports: {http: 80}}"), google(22_080));
    assert_eq!(addresses(HTTP, "{address: 127.0.0.1, ports: {http: 7}}"), google(7));
    assert_eq!(addresses(HTTP, "{address: unknown.example.com}"), Discovery::Endpoints(Vec::new()));
}

#[test]
fn a_sidecar_resource_sees_what_its_egress_hosts_import() {
    let sidecar = |hosts: &str| {
        format!(
            "
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default}}
spec: {{egress: [{{hosts: {hosts}}}]}}
"
        )
    };
    let external = entry("e", "other", HTTP, "");
    for (hosts, seen) in [
        ("['*/*']", true),
        ("['other/*']", true),
        ("['*/edition.cnn.com']", true),
        ("['other/*.cnn.com']", true),
        ("['./*']", false),
        ("['other/www.cnn.com']", false),
    ] {
        assert_eq!(goes(&format!("{external}{}", sidecar(hosts))).as_deref() == CNN, seen, "{hosts}");
    }
    // A destination of an imported VirtualService is seen too, where something imported listens.
    let routed = "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a.example.com]
  http: [{route: [{destination: {host: edition.cnn.com, port: {number: 80}}}]}]
";
    let listens = entry("f", "default", HTTP, "").replace("edition.cnn.com", "f.example.com");
    let plan = World::new().resolve(&format!("{external}{listens}{routed}{}", sidecar("['./*']"))).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, "a.example.com", "/"), CNN);
    assert_eq!(
        plan.cluster(SLEEP, CNN.unwrap_or_default()).discovery,
        Discovery::Endpoints(vec![at(21_080)])
    );
}
