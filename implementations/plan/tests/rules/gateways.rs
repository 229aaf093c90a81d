//! Gateways (gateway.go of pilot/pkg/networking/core and of pilot/pkg/model).

use meshproof_plan::model::{DownstreamTls, UpstreamProtocol, UpstreamTls};

use crate::world::{Ask, EGRESS, INGRESS, Listeners, World, identity};

fn gateway(name: &str, servers: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  selector: {{istio: ingressgateway}}
  servers: {servers}
"
    )
}

fn virtual_service(name: &str, hosts: &str, gateways: &str, http: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: {hosts}
  gateways: {gateways}
  http: {http}
"
    )
}

fn to(host: &str) -> String {
    format!("route: [{{destination: {{host: {host}, port: {{number: 8080}}}}}}]")
}

fn cluster(host: &str) -> String {
    format!("outbound|8080||{host}.default.svc.cluster.local")
}

const HTTP: &str = "[{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]";

#[test]
fn a_gateway_listens_only_where_a_gateway_resource_selects_it() {
    let plan = World::new().resolve("").plan;
    assert!(plan.proxy(INGRESS).listeners.is_empty());
    let plan = World::new().resolve(&gateway("g", HTTP)).plan;
    assert_eq!(plan.proxy(INGRESS).listeners.len(), 1);
    assert_eq!(plan.proxy(INGRESS).listener(80).chains[0].name, "http.80");
    assert!(plan.proxy(EGRESS).listeners.is_empty());
}

#[test]
fn without_a_virtual_service_every_request_gets_404() {
    let plan = World::new().resolve(&gateway("g", HTTP)).plan;
    assert!(plan.route(INGRESS, 80, "a.example.com", "/").is_none());
}

#[test]
fn a_gateway_is_named_short_with_its_namespace_or_by_its_old_full_name() {
    for name in ["g", "default/g", "g.default", "g.default.svc.cluster.local"] {
        let service = virtual_service("a", "['*']", &format!("[{name}]"), &format!("[{{{}}}]", to("first")));
        let plan = World::new().resolve(&format!("{}{service}", gateway("g", HTTP))).plan;
        assert_eq!(
            plan.goes_to(INGRESS, 80, "a.example.com", "/"),
            Some(cluster("first").as_str()),
            "{name}"
        );
    }
    for name in ["other", "elsewhere/g", "mesh"] {
        let service =
            virtual_service("a", "[a.example.com]", &format!("[{name}]"), &format!("[{{{}}}]", to("first")));
        let plan = World::new().resolve(&format!("{}{service}", gateway("g", HTTP))).plan;
        assert!(plan.route(INGRESS, 80, "a.example.com", "/").is_none(), "{name}");
    }
}

#[test]
fn virtual_services_of_one_host_are_joined_in_order_and_catch_alls_go_last() {
    let first = virtual_service("first", "[a.example.com]", "[g]", &format!("[{{{}}}]", to("first")));
    let http = format!("[{{match: [{{uri: {{prefix: /b}}}}], {}}}, {{{}}}]", to("second"), to("third"));
    let second = virtual_service("second", "[a.example.com]", "[g]", &http);
    let plan = World::new().resolve(&format!("{}{first}{second}", gateway("g", HTTP))).plan;
    assert_eq!(plan.goes_to(INGRESS, 80, "a.example.com", "/b"), Some(cluster("second").as_str()));
    assert_eq!(plan.goes_to(INGRESS, 80, "a.example.com", "/"), Some(cluster("first").as_str()));
}

#[test]
fn the_narrower_of_server_and_virtual_service_hosts_is_served() {
    let servers = "[{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com', b.test]}]";
    let service =
        virtual_service("a", "[a.example.com, '*.test', c.org]", "[g]", &format!("[{{{}}}]", to("first")));
    let plan = World::new().resolve(&format!("{}{service}", gateway("g", servers))).plan;
    for host in ["a.example.com", "b.test"] {
        assert!(plan.route(INGRESS, 80, host, "/").is_some(), "{host}");
    }
    let elsewhere = virtual_service("b", "[c.org]", "[g]", &format!("[{{{}}}]", to("welcome")));
    let plan = World::new().resolve(&format!("{}{service}{elsewhere}", gateway("g", servers))).plan;
    assert!(
        plan.proxy(INGRESS).cluster(&cluster("welcome")).is_none(),
        "a host that is not served leads nowhere"
    );
    for host in ["c.example.com", "c.test", "c.org"] {
        assert!(plan.route(INGRESS, 80, host, "/").is_none(), "{host}");
    }
}

#[test]
fn a_server_host_with_a_namespace_takes_virtual_services_of_that_namespace_alone() {
    for (host, served) in [
        ("default/*", true),
        ("./*", true),
        ("'*/*'", true),
        ("other/*", false),
        ("default/a.example.com", true),
    ] {
        let servers = format!("[{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{host}]}}]");
        let service = virtual_service("a", "[a.example.com]", "[g]", &format!("[{{{}}}]", to("first")));
        let plan = World::new().resolve(&format!("{}{service}", gateway("g", &servers))).plan;
        assert_eq!(plan.route(INGRESS, 80, "a.example.com", "/").is_some(), served, "{host}");
    }
}

#[test]
fn a_match_on_another_gateway_makes_no_route() {
    let http = format!(
        "[{{match: [{{gateways: [other]}}], {}}}, {{match: [{{gateways: [g]}}], {}}}]",
        to("a"),
        to("b")
    );
    let service = virtual_service("a", "['*']", "[g, other]", &http);
    let plan = World::new().resolve(&format!("{}{service}", gateway("g", HTTP))).plan;
    assert_eq!(plan.goes_to(INGRESS, 80, "a.example.com", "/"), Some(cluster("b").as_str()));
}

#[test]
fn the_server_name_selects_among_mesh_tls_servers() {
    let servers = "
  - {port: {number: 80, name: one, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 80, name: two, protocol: HTTPS}, hosts: [default/b.example.com], tls: {mode: ISTIO_MUTUAL}}";
    let plan = World::new().resolve(&gateway("g", servers)).plan;
    let chains = &plan.proxy(INGRESS).listener(80).chains;
    let names: Vec<_> = chains.iter().map(|c| (c.name.as_str(), c.matches.server_names.join(","))).collect();
    let wanted = [
        ("https.80.one.g.default", "a.example.com".to_owned()),
        ("https.80.two.g.default", "b.example.com".to_owned()),
    ];
    assert_eq!(names, wanted);
    assert!(chains.iter().all(|c| c.tls == Some(DownstreamTls::MeshMutual)));
}

#[test]
fn a_mesh_tls_server_for_every_host_takes_any_server_name() {
    let servers =
        "[{port: {number: 80, name: one, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}]";
    let plan = World::new().resolve(&gateway("g", servers)).plan;
    assert!(plan.proxy(INGRESS).listener(80).chains[0].matches.server_names.is_empty());
}

#[test]
fn a_younger_server_that_conflicts_is_left_out_with_a_warning() {
    let mesh = "[{port: {number: 80, name: one, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: ISTIO_MUTUAL}}]";
    let resolution = World::new().resolve(&[gateway("g", mesh), gateway("h", mesh)].concat());
    assert_eq!(resolution.plan.proxy(INGRESS).listener(80).chains.len(), 1);
    let left_out = |w: &String| w.contains("Gateway default/h") && w.contains("left out");
    assert!(resolution.warnings.iter().any(left_out), "{:?}", resolution.warnings);
}

#[test]
fn a_port_that_the_gateways_service_lacks_is_warned_of() {
    let servers = "[{port: {number: 9999, name: http, protocol: HTTP}, hosts: ['*']}]";
    let resolution = World::new().resolve(&gateway("g", servers));
    assert!(resolution.warnings.iter().any(|w| w.contains("9999")), "{:?}", resolution.warnings);
}

#[test]
fn passthrough_hands_tls_on_by_server_name() {
    let servers =
        "[{port: {number: 80, name: tls, protocol: TLS}, hosts: [a.example.com], tls: {mode: PASSTHROUGH}}]";
    let service = "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a.example.com]
  gateways: [g]
  tls:
  - match: [{port: 80, sniHosts: [a.example.com]}]
    route: [{destination: {host: welcome, port: {number: 8080}}}]
";
    let plan = World::new().resolve(&format!("{}{service}", gateway("g", servers))).plan;
    assert_eq!(plan.tls_goes_to(INGRESS, 80, "a.example.com"), Some(cluster("welcome").as_str()));
    assert_eq!(plan.tls_goes_to(INGRESS, 80, "b.example.com"), None);
}

#[test]
fn a_gateway_opens_mesh_tls_to_a_workload_with_a_sidecar_and_does_not_sniff() {
    let http = "[{route: [{destination: {host: backend, port: {number: 8000}}}]}]";
    let manifest = format!("{}{}", gateway("g", HTTP), virtual_service("a", "['*']", "[g]", http));
    let mut world = World::with_backend();
    let plan = world.resolve(&manifest).plan;
    let cluster = plan.cluster(INGRESS, "outbound|8000||backend.default.svc.cluster.local");
    let Some(UpstreamTls::MeshMutual { sni, peer_identities, alpn }) = &cluster.tls else {
        panic!("{cluster:?}")
    };
    assert_eq!(sni, "outbound_.8000_._.backend.default.svc.cluster.local");
    assert_eq!(peer_identities, &[identity("default", "backend")]);
    assert_eq!(alpn, &["istio-http/1.1", "istio", "http/1.1"]);
    for service in &mut world.registry {
        service.ports[0].name.clear();
    }
    let plan = world.resolve(&manifest).plan;
    let cluster = plan.cluster(INGRESS, "outbound|8000||backend.default.svc.cluster.local");
    assert_eq!(cluster.protocol, UpstreamProtocol::Http1);
}
