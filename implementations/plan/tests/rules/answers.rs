//! What istiod answers, by the description that is compared with it (`describe` and `as_json`).

use meshproof_model::Resource;
use meshproof_plan::cluster_state::ClusterState;
use meshproof_plan::describe;
use meshproof_plan::report::{Questions, as_json};
use serde_json::{Value, json};

pub(crate) fn answers(yaml: &str) -> Value {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    let resources: Vec<Resource> = documents.into_iter().map(Resource).collect();
    let state = ClusterState::from_resources(&resources);
    as_json(&describe(&state.input()), &Questions::default())
}

/// A part of the answer about the sidecar `sleep`.
pub(crate) fn of_sleep(answer: &Value, pointer: &str) -> Value {
    answer.pointer(&format!("/proxies/sleep{pointer}")).cloned().unwrap_or_default()
}

pub(crate) fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

pub(crate) fn virtual_service(spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {spec}\n"
    )
}

pub(crate) fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
const NO_ADDRESS: &str =
    "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled";

#[test]
fn bytes_without_an_address_are_warned_of_where_istiod_allocates_none() {
    let spec = |resolution: &str, protocol: &str| {
        format!(
            "{{hosts: [a.test], resolution: {resolution}, ports: [{{number: 1, name: p, protocol: {protocol}}}]}}"
        )
    };
    for (resolution, protocol, warned) in [
        ("NONE", "TCP", true),
        ("NONE", "''", true),
        ("NONE", "tcp", false),
        ("NONE", "TLS", false),
        ("DNS", "TCP", false),
    ] {
        let answer = answers(&entry("e", &spec(resolution, protocol)));
        let expected = if warned { json!([NO_ADDRESS]) } else { Value::Null };
        assert_eq!(answer["verdicts"][0]["warnings"], expected, "{resolution} {protocol}");
    }
    let opted_out =
        entry("e, labels: {networking.istio.io/enable-autoallocate-ip: 'false'}", &spec("DNS", "TCP"));
    assert_eq!(answers(&opted_out)["verdicts"][0]["warnings"], json!([NO_ADDRESS]));
}

#[test]
fn several_hosts_with_an_address_and_a_tcp_port_are_warned_of() {
    let spec = "{hosts: [a.test, b.test], resolution: DNS, addresses: [240.0.0.1], \
                ports: [{number: 443, name: tls, protocol: TLS}]}";
    let warning =
        "service entry can not have more than one host specified simultaneously with address and tcp port";
    assert_eq!(answers(&entry("e", spec))["verdicts"][0]["warnings"], json!([warning]));
}

#[test]
fn each_host_of_dynamic_dns_that_is_no_wildcard_is_an_error() {
    let spec = format!("{{hosts: [a.test, b.test], resolution: DYNAMIC_DNS, ports: [{HTTP}]}}");
    let text = "\t* host must be wildcarded for resolution mode DYNAMIC_DNS\n";
    let webhook = format!("2 errors occurred:\n{text}{text}\n");
    assert_eq!(answers(&entry("e", &spec))["verdicts"][0]["webhook"], json!(webhook));
}

#[test]
fn several_errors_of_the_schema_are_printed_in_brackets() {
    let spec = format!(
        "{{hosts: [a.test], resolution: DNS, ports: [{HTTP}], addresses: [240.0.0.0/24], \
         endpoints: [{{address: 192.0.2.1}}], workloadSelector: {{labels: {{app: a}}}}}}"
    );
    let expected = "ServiceEntry/e/default: [spec: Invalid value: only one of WorkloadSelector or Endpoints can be \
                    set, spec: Invalid value: CIDR addresses are allowed only for NONE/STATIC resolution types]";
    assert_eq!(answers(&entry("e", &spec))["verdicts"][0]["crd"], json!(expected));
}

#[test]
fn a_headless_service_leads_to_the_address_that_was_dialled() {
    let answer =
        answers(&service("a", "{selector: {app: a}, clusterIP: None, ports: [{port: 80, name: http}]}"));
    let cluster = of_sleep(&answer, "/clusters/outbound|80||a.default.svc.cluster.local");
    assert_eq!((&cluster["type"], &cluster["endpoints"]), (&json!("original-dst"), &json!([])));
}

#[test]
fn endpoints_that_istiod_sends_are_found_by_the_name_of_the_port() {
    let input = service("a", "{selector: {app: a}, ports: [{port: 8080, name: http}]}")
        + &entry(
            "e",
            &format!(
                "{{hosts: [a.default.svc.cluster.local], resolution: STATIC, ports: [{HTTP}], \
                 endpoints: [{{address: 192.0.2.1}}]}}"
            ),
        );
    let cluster = of_sleep(&answers(&input), "/clusters/outbound|8080||a.default.svc.cluster.local");
    assert_eq!(cluster["endpoints"], json!(["192.0.2.1:80", "10.1.0.1:8080"]));
}

#[test]
fn each_address_of_an_entry_repeats_its_endpoints_and_localities_come_in_order() {
    let spec = format!(
        "{{hosts: [a.test], resolution: STATIC, ports: [{HTTP}], addresses: [240.0.0.1, 240.0.0.2], \
         endpoints: [{{address: 192.0.2.1, locality: us/a}}, {{address: 192.0.2.2}}]}}"
    );
    let cluster = of_sleep(&answers(&entry("e", &spec)), "/clusters/outbound|80||a.test");
    assert_eq!(cluster["endpoints"], json!(["192.0.2.2:80", "192.0.2.2:80", "192.0.2.1:80", "192.0.2.1:80"]));
}

#[test]
fn the_only_destination_with_a_weight_keeps_its_own_headers() {
    let input = entry("e", &format!("{{hosts: [a.test], resolution: DNS, ports: [{HTTP}]}}"))
        + &virtual_service(
            "{hosts: [a.test], http: [{route: [{destination: {host: a.test}, weight: 100, headers: {request: \
             {set: {x: one}}}}, {destination: {host: b.test}, weight: 0}]}]}",
        );
    let forward = of_sleep(&answers(&input), "/listeners/80/http/a.test/0/action/forward");
    assert_eq!(forward["dest_headers"], json!([["outbound|80||a.test", {"req": {"set": [["x", "one"]]}}]]));
}

#[test]
fn a_cidr_is_a_domain_of_its_service() {
    let spec = format!("{{hosts: [a.test], resolution: NONE, ports: [{HTTP}], addresses: [240.0.0.0/24]}}");
    let routes = of_sleep(&answers(&entry("e", &spec)), "/listeners/80/http/240.0.0.0~124");
    assert_eq!(routes[0]["action"]["forward"]["clusters"], json!([["outbound|80||a.test", 1]]));
}

#[test]
fn a_udp_port_is_no_port_of_a_service_for_routes() {
    let input = service("a", "{selector: {app: a}, ports: [{port: 80, name: u, protocol: UDP}]}")
        + &virtual_service("{hosts: [a.default.svc.cluster.local], http: [{directResponse: {status: 418}}]}")
        + &entry("e", &format!("{{hosts: [b.test], resolution: DNS, ports: [{HTTP}]}}"));
    let routes = of_sleep(&answers(&input), "/listeners/80/http/a.default.svc.cluster.local");
    assert_eq!(routes[0]["action"]["direct"]["status"], json!(418));
}

#[test]
fn a_server_bound_to_every_address_shares_the_ports_listener() {
    let input = service("gw", "{selector: {istio: egressgateway}, ports: [{port: 80, name: http2}]}")
        + "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, bind: 0.0.0.0, hosts: [a.test]}]
";
    let listeners = answers(&input)["proxies"]["gw"]["listeners"].clone();
    assert_eq!(listeners.as_object().map(|l| l.keys().cloned().collect()), Some(vec!["80".to_owned()]));
}

#[test]
fn an_endpoint_without_a_proxy_gets_no_mesh_tls_from_settings_that_the_port_overrides() {
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec:
  host: a.default.svc.cluster.local
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL}
    portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]
";
    let input = service("a", "{selector: {app: a}, ports: [{port: 80, name: http}]}") + rule;
    let cluster = of_sleep(&answers(&input), "/clusters/outbound|80||a.default.svc.cluster.local");
    assert_eq!(cluster["tls"], Value::Null);
}

#[test]
fn a_forwarder_has_no_server_name_of_its_own_for_mesh_tls() {
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec: {host: '*.a.test', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
";
    let spec = format!("{{hosts: ['*.a.test'], resolution: DYNAMIC_DNS, ports: [{HTTP}]}}");
    let cluster = of_sleep(&answers(&(entry("e", &spec) + rule)), "/clusters/outbound|80||*.a.test");
    assert_eq!(cluster["tls"]["mesh"]["sni"], json!(""));
}
