//! What is behind a service: addresses of ServiceEntries, workloads, and identities
//! (pilot/pkg/serviceregistry/serviceentry/conversion.go, pilot/pkg/model/push_context.go).

use meshproof_model::Resource;
use meshproof_plan::cluster_state::ClusterState;
use meshproof_plan::describe;
use meshproof_plan::report::{Questions, as_json};
use serde_json::{Value, json};

use crate::answers::{answers, entry, of_sleep, service, virtual_service};

/// Where TLS with a server name goes from `sleep`.
fn tls(yaml: &str, port: u16, name: &str) -> Value {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    let resources: Vec<Resource> = documents.into_iter().map(Resource).collect();
    let state = ClusterState::from_resources(&resources);
    let mut questions = Questions::default();
    questions.server_names.insert(name.to_owned());
    of_sleep(&as_json(&describe(&state.input()), &questions), &format!("/listeners/{port}/tls/{name}"))
}

const TLS: &str = "[{number: 443, name: tls, protocol: TLS}]";

fn cluster(host: &str) -> Value {
    json!(format!("outbound|443||{host}"))
}

#[test]
fn hosts_that_share_an_address_lead_to_the_first_service_that_has_it() {
    let both = format!(
        "{{hosts: [a.test, b.test], resolution: NONE, addresses: [240.0.0.1/32, 240.0.0.1], ports: {TLS}}}"
    );
    let both = entry("e", &both);
    assert_eq!(tls(&both, 443, "b.test"), cluster("a.test"));
    let other = format!("{{hosts: [c.test], resolution: NONE, addresses: [240.0.0.1], ports: {TLS}}}");
    assert_eq!(tls(&format!("{both}{}", entry("f", &other)), 443, "c.test"), cluster("a.test"));
}

#[test]
fn a_host_without_an_address_leads_to_no_address() {
    let bytes = "{hosts: [a.test], resolution: NONE, ports: [{number: 80, name: tcp, protocol: TCP}]}";
    let pods = "{hosts: [a.test], resolution: STATIC, endpoints: [{address: 192.0.2.7}], \
                ports: [{number: 80, name: http, protocol: HTTP}]}";
    let yaml = format!("{}{}", entry("e", pods), entry("f", bytes));
    let answer = answers(&yaml);
    assert_ne!(of_sleep(&answer, "/listeners/80/vip/192.0.2.7"), Value::Null);
    assert_eq!(tls(&yaml, 80, "a.test"), json!("PassthroughCluster"));
}

#[test]
fn an_address_that_is_listed_twice_counts_once() {
    let twice = format!("{{hosts: [a.test], resolution: DNS, addresses: [1.2.3.4, 1.2.3.4], ports: {TLS}}}");
    let answer = answers(&entry("e", &twice));
    let cluster = &of_sleep(&answer, "/clusters")["outbound|443||a.test"];
    assert_eq!(cluster["endpoints"], json!(["a.test:443"]), "{answer}");
}

#[test]
fn a_headless_service_selects_no_workload_entries() {
    let pods = "
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: a, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: a}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w}
spec: {address: 192.0.2.20, labels: {app: a}}
";
    let of = |more: &str| {
        let spec = format!("{{selector: {{app: a}}, ports: [{{port: 80, name: http}}]{more}}}");
        let answer = answers(&format!("{}{pods}", service("a", &spec)));
        of_sleep(&answer, "/clusters/outbound|80||a.default.svc.cluster.local")
    };
    let endpoints = of("")["endpoints"].clone();
    assert!(endpoints.as_array().is_some_and(|e| e.contains(&json!("192.0.2.20:80"))), "{endpoints}");
    // The WorkloadEntry cannot do mesh TLS. Among the endpoints of a headless Service it would prevent it for all.
    assert_ne!(of(", clusterIP: None")["tls"], Value::Null);
}

#[test]
fn subject_alt_names_are_those_of_the_youngest_entry_of_a_host() {
    let names = "{hosts: [a.test], resolution: DNS, subjectAltNames: [old.test], \
                 ports: [{number: 80, name: http, protocol: HTTP}]}";
    let none = format!("{{hosts: [a.test], resolution: DNS, ports: {TLS}}}");
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec: {host: a.test, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
";
    let ids = |first: &str, second: &str| {
        let answer = answers(&format!("{}{}{rule}", entry("e", first), entry("f", second)));
        of_sleep(&answer, "/clusters/outbound|80||a.test/tls/mesh/ids")
    };
    assert_eq!(ids(names, &none), json!([]));
    assert_eq!(ids(&none, names), json!(["old.test"]));
}

#[test]
fn a_listener_on_an_address_of_the_sidecar_is_named_by_it() {
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s}
spec:
  egress:
  - port: {number: 8080, protocol: TCP, name: p}
    bind: 127.0.0.1
    hosts: ['*/*']
";
    let spec = "{selector: {app: a}, ports: [{port: 8080, name: tcp}]}";
    let answer = answers(&format!("{}{sidecar}", service("a", spec)));
    assert_eq!(
        of_sleep(&answer, "/listeners/8080/vip"),
        json!({"127.0.0.1": [{"match": {}, "tcp": "outbound|8080||a.default.svc.cluster.local"}]})
    );
}

#[test]
fn a_service_that_is_exported_to_no_namespace_has_no_endpoints() {
    let of = |annotation: &str| {
        let name = format!("a, annotations: {{networking.istio.io/exportTo: '{annotation}'}}");
        let to = "{hosts: [x.test], http: [{route: [{destination: {host: a, port: {number: 80}}}]}]}";
        let ports = "{selector: {app: a}, ports: [{port: 80, name: http}]}";
        let entry = entry("e", "{hosts: [x.test], ports: [{number: 80, name: http, protocol: HTTP}]}");
        let answer = answers(&format!("{entry}{}{}", service(&name, ports), virtual_service(to)));
        let endpoints =
            &of_sleep(&answer, "/clusters")["outbound|80||a.default.svc.cluster.local"]["endpoints"];
        endpoints.as_array().map(Vec::len)
    };
    assert_eq!((of("*"), of("~")), (Some(1), Some(0)));
}

#[test]
fn a_listener_without_capture_is_on_loopback() {
    let answer = answers(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s}
spec: {hosts: [a.test], resolution: DNS, ports: [{number: 8081, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  egress:
  - {port: {number: 8081, name: http, protocol: HTTP}, captureMode: NONE, hosts: ['*/a.test']}
",
    );
    let listener = of_sleep(&answer, "/listeners/8081");
    assert_eq!(listener["plain_http"], json!("PassthroughCluster"));
    let to = listener.pointer("/vip/127.0.0.1/0/http/a.test/0/action/forward/clusters/0/0");
    assert_eq!(to, Some(&json!("outbound|8081||a.test")));
}

#[test]
fn an_egress_proxy_takes_what_nothing_else_takes() {
    let answer = answers(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s}
spec:
  hosts: [proxy.test]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 3128, name: tcp, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: proxy.test, port: {number: 3128}}}
",
    );
    let listener = of_sleep(&answer, "/listeners/80");
    let proxy = json!("outbound|3128||proxy.test");
    assert_eq!((&listener["fallthrough"], &listener["plain_other"]), (&proxy, &proxy));
    assert_eq!(listener.pointer("/http/*/0/action/forward/clusters/0/0"), Some(&proxy));
    assert_eq!(of_sleep(&answer, "/clusters/outbound|3128||proxy.test/type"), json!("strict-dns"));
}

#[test]
fn a_destination_subnet_of_one_address_is_a_range() {
    let yaml = service("db", "{clusterIP: 10.96.1.1, selector: {app: db}, ports: [{port: 5432, name: tcp}]}")
        + &virtual_service(
            "{hosts: [db.default.svc.cluster.local], tcp: [{match: [{destinationSubnets: [192.0.2.1]}], \
             route: [{destination: {host: db}}]}]}",
        );
    let chain = of_sleep(&answers(&yaml), "/listeners/5432/vip/db.default.svc.cluster.local/0/match");
    assert_eq!(chain, json!({"prefix_ranges": ["192.0.2.1/32"]}));
}

#[test]
fn an_external_secret_without_a_provider_is_a_secret_of_the_cluster() {
    let yaml =
        entry("s", "{hosts: [a.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}")
            + "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec:
  host: a.test
  workloadSelector: {matchLabels: {app: sleep}}
  trafficPolicy: {tls: {mode: SIMPLE, credentialName: 'sds://x'}}
";
    let tls = of_sleep(&answers(&yaml), "/clusters/outbound|80||a.test/tls/originate");
    assert_eq!(tls["ca"], json!("sds:x"));
}
