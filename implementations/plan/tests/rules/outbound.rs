//! A sidecar's outbound traffic (httproute.go, tls.go).

use meshproof_plan::model::{Action, Discovery, Transport};
use meshproof_plan::{OutboundPolicy, Service};

use crate::world::{Ask, Listeners, NGINX, SLEEP, World, service, sidecar};

const REGISTRY_ONLY: &str = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";

fn entry(name: &str, host: &str, port: u16, protocol: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: ['{host}']
  ports: [{{number: {port}, name: p, protocol: {protocol}}}]
  resolution: {}
",
        if host.starts_with('*') { "NONE" } else { "DNS" }
    )
}

fn virtual_service(name: &str, host: &str, to: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: ['{host}']
  http: [{{route: [{{destination: {{host: {to}.example.com, port: {{number: 1}}}}}}]}}]
"
    )
}

fn routed(to: &str) -> String {
    format!("outbound|1||{to}.example.com")
}

#[test]
fn registry_only_answers_unknown_hosts_502_and_closes_other_connections() {
    let plan = World::new().resolve(REGISTRY_ONLY).plan;
    assert_eq!(plan.answers(SLEEP, 80, "unknown.example.com"), Some(502));
    let route = plan.route(SLEEP, 80, "unknown.example.com", "/").expect("block_all");
    assert_eq!(route.name, "block_all");
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "unknown.example.com"), Some("BlackHoleCluster"));
    assert_eq!(plan.cluster(SLEEP, "BlackHoleCluster").discovery, Discovery::Nowhere);
    assert!(plan.proxy(SLEEP).cluster("PassthroughCluster").is_none());
}

#[test]
fn the_meshs_own_policy_holds_where_no_sidecar_resource_says_otherwise() {
    let mut world = World::new();
    world.mesh.outbound = OutboundPolicy::RegistryOnly;
    assert_eq!(world.resolve("").plan.answers(SLEEP, 80, "unknown.example.com"), Some(502));
    let any = REGISTRY_ONLY.replace("REGISTRY_ONLY", "ALLOW_ANY");
    assert_eq!(world.resolve(&any).plan.answers(SLEEP, 80, "unknown.example.com"), None);
    let egress_alone = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: ['*/*']}]}
";
    assert_eq!(world.resolve(egress_alone).plan.answers(SLEEP, 80, "unknown.example.com"), Some(502));
}

#[test]
fn an_outbound_policy_without_a_mode_is_registry_only() {
    let plan = World::new().resolve(&REGISTRY_ONLY.replace("{mode: REGISTRY_ONLY}", "{}")).plan;
    assert_eq!(plan.answers(SLEEP, 80, "unknown.example.com"), Some(502));
}

#[test]
fn a_sidecar_resource_counts_by_selector_then_namespace_then_root() {
    let any = REGISTRY_ONLY.replace("REGISTRY_ONLY", "ALLOW_ANY").replace("{name: default}", "{name: any}");
    let blocks = |manifest: &str| {
        World::new().resolve(manifest).plan.answers(SLEEP, 80, "unknown.example.com") == Some(502)
    };
    let root = REGISTRY_ONLY.replace("{name: default}", "{name: root, namespace: istio-system}");
    assert!(blocks(&root));
    assert!(!blocks(&format!("{root}\n---\n{any}")));
    let selecting = format!("{REGISTRY_ONLY}  workloadSelector: {{labels: {{app: sleep}}}}\n");
    assert!(blocks(&format!("{any}\n---\n{selecting}")));
    assert!(!blocks(&format!("{any}\n---\n{}", selecting.replace("app: sleep", "app: other"))));
    assert!(!blocks(&REGISTRY_ONLY.replace("{name: default}", "{name: x, namespace: elsewhere}")));
}

#[test]
fn the_host_selects_among_services_on_one_port() {
    let manifest =
        [entry("a", "edition.cnn.com", 80, "HTTP"), entry("b", "www.googleapis.com", 80, "HTTP")].concat();
    let plan = World::new().resolve(&manifest).plan;
    for host in ["edition.cnn.com", "www.googleapis.com", "edition.cnn.com:80"] {
        let wanted = format!("outbound|80||{}", host.trim_end_matches(":80"));
        assert_eq!(plan.goes_to(SLEEP, 80, host, "/"), Some(wanted.as_str()));
    }
    assert_eq!(plan.goes_to(SLEEP, 80, "unknown.example.com", "/"), Some("PassthroughCluster"));
}

#[test]
fn a_kubernetes_service_has_its_short_names_and_its_bare_name_in_its_own_namespace_alone() {
    let mut world = World::new();
    world.registry.push(service("web", "default", (80, "http"), 14_080, None));
    world.registry.push(service("web", "other", (80, "http"), 14_081, None));
    let plan = world.resolve("").plan;
    let own = Some("outbound|80||web.default.svc.cluster.local");
    let other = Some("outbound|80||web.other.svc.cluster.local");
    for (host, wanted) in [
        ("web", own),
        ("web.default", own),
        ("web.default.svc", own),
        ("web.default.svc.cluster.local", own),
        ("web.other", other),
        ("web.other.svc:80", other),
    ] {
        assert_eq!(plan.goes_to(SLEEP, 80, host, "/"), wanted, "{host}");
    }
}

#[test]
fn a_virtual_service_for_an_unknown_host_works_on_port_80_and_on_no_other() {
    let mut world = World::new();
    world.proxies[0].outbound.push((8000, crate::world::at(9_800)));
    let manifest = virtual_service("a", "unknown.example.com", "a");
    let plan = world.resolve(&manifest).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, "unknown.example.com", "/"), Some(routed("a").as_str()));
    assert_eq!(plan.goes_to(SLEEP, 8000, "unknown.example.com", "/"), Some("PassthroughCluster"));
    let known = format!("{manifest}{}", entry("e", "unknown.example.com", 8000, "HTTP"));
    let plan = world.resolve(&known).plan;
    assert_eq!(plan.goes_to(SLEEP, 8000, "unknown.example.com", "/"), Some(routed("a").as_str()));
}

#[test]
fn of_two_virtual_services_for_a_host_the_older_counts() {
    let manifest = [
        entry("e", "edition.cnn.com", 80, "HTTP"),
        virtual_service("older", "edition.cnn.com", "older"),
        virtual_service("younger", "edition.cnn.com", "younger"),
        virtual_service("free-older", "free.example.com", "older"),
        virtual_service("free-younger", "free.example.com", "younger"),
    ]
    .concat();
    let resolution = World::new().resolve(&manifest);
    for host in ["edition.cnn.com", "free.example.com"] {
        assert_eq!(resolution.plan.goes_to(SLEEP, 80, host, "/"), Some(routed("older").as_str()), "{host}");
    }
    assert!(
        resolution.warnings.iter().any(|w| w.contains("default/free-younger")),
        "{:?}",
        resolution.warnings
    );
}

#[test]
fn the_virtual_service_with_the_most_specific_host_takes_a_service() {
    let wide = virtual_service("wide", "*.com", "wide");
    let narrow = virtual_service("narrow", "*.cnn.com", "narrow");
    let exact = virtual_service("exact", "edition.cnn.com", "exact");
    let known = entry("e", "edition.cnn.com", 80, "HTTP");
    let goes = |manifests: &[&String]| {
        let manifest: String = manifests.iter().map(|m| m.as_str()).collect();
        let plan = World::new().resolve(&manifest).plan;
        plan.goes_to(SLEEP, 80, "edition.cnn.com", "/").map(str::to_owned)
    };
    assert_eq!(goes(&[&known, &wide, &narrow, &exact]), Some(routed("exact")));
    assert_eq!(goes(&[&known, &wide, &narrow]), Some(routed("narrow")));
    assert_eq!(goes(&[&known, &wide]), Some(routed("wide")));
}

#[test]
fn https_is_routed_by_server_name_with_and_without_a_virtual_service() {
    let manifest =
        [entry("a", "edition.cnn.com", 443, "HTTPS"), entry("w", "*.example.com", 443, "TLS")].concat();
    let plan = World::new().resolve(&manifest).plan;
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "edition.cnn.com"), Some("outbound|443||edition.cnn.com"));
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "a.example.com"), Some("outbound|443||*.example.com"));
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "other.org"), Some("PassthroughCluster"));
    let to_original = plan.cluster(SLEEP, "outbound|443||*.example.com");
    assert_eq!(to_original.discovery, Discovery::OriginalDestination(World::new().endpoints));
    let routed = format!(
        "{manifest}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a}}
spec:
  hosts: [edition.cnn.com]
  tls:
  - match: [{{port: 443, sniHosts: [edition.cnn.com]}}]
    route: [{{destination: {{host: www.googleapis.com, port: {{number: 443}}}}}}]
"
    );
    let plan = World::new().resolve(&routed).plan;
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "edition.cnn.com"), Some("outbound|443||www.googleapis.com"));
}

#[test]
fn an_exact_server_name_goes_before_a_wildcard_whatever_the_order() {
    let manifest =
        [entry("w", "*.cnn.com", 443, "TLS"), entry("a", "edition.cnn.com", 443, "HTTPS")].concat();
    let plan = World::new().resolve(&manifest).plan;
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "edition.cnn.com"), Some("outbound|443||edition.cnn.com"));
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "www.cnn.com"), Some("outbound|443||*.cnn.com"));
}

#[test]
fn tls_on_a_port_of_http_falls_through_to_what_is_unknown() {
    let manifest = entry("a", "edition.cnn.com", 443, "HTTP");
    let plan = World::new().resolve(&manifest).plan;
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "edition.cnn.com"), Some("PassthroughCluster"));
    assert_eq!(plan.goes_to(SLEEP, 443, "edition.cnn.com", "/"), Some("outbound|443||edition.cnn.com"));
    let plan = World::new().resolve(&format!("{REGISTRY_ONLY}{manifest}")).plan;
    assert_eq!(plan.tls_goes_to(SLEEP, 443, "edition.cnn.com"), Some("BlackHoleCluster"));
}

#[test]
fn a_port_that_nothing_names_takes_tls_and_http_both() {
    let plan = World::new().resolve("").plan;
    let wanted = format!("outbound|443||{NGINX}");
    assert_eq!(plan.tls_goes_to(SLEEP, 443, NGINX), Some(wanted.as_str()));
    assert_eq!(plan.goes_to(SLEEP, 443, "my-nginx.mesh-external", "/"), Some(wanted.as_str()));
    let sniffed = plan.cluster(SLEEP, &wanted);
    assert_eq!(sniffed.protocol, meshproof_plan::model::UpstreamProtocol::Downstream);
}

#[test]
fn a_single_service_of_bytes_takes_all_plain_traffic_of_its_port() {
    let manifest = entry("a", "edition.cnn.com", 80, "TCP");
    let mut world = World::new();
    world.registry.retain(|s: &Service| !s.host.starts_with("istio-"));
    let plan = world.resolve(&manifest).plan;
    let listener = plan.proxy(SLEEP).listener(80);
    // Also TLS, and connections whose server speaks first.
    let [any] = &listener.chains[..] else { panic!("{:#?}", listener.chains) };
    assert_eq!(any.matches.transport, Transport::Any);
    assert_eq!(any.action, Action::Tcp { cluster: "outbound|80||edition.cnn.com".to_owned() });
}

#[test]
fn a_virtual_service_for_gateways_alone_does_not_reach_the_sidecar() {
    let manifest = virtual_service("a", "a.example.com", "a").replace("spec:", "spec:\n  gateways: [g]");
    let plan = World::new().resolve(&manifest).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, "a.example.com", "/"), Some("PassthroughCluster"));
}

#[test]
fn each_sidecar_has_its_own_listener_for_every_captured_port() {
    let mut world = World::new();
    world.proxies.push(sidecar("details", "books", &[(80, 15_080), (443, 15_443)]));
    let plan = world.resolve("").plan;
    assert_eq!(plan.proxy("details").listener(80).bind, crate::world::at(15_080));
    assert_eq!(plan.proxy("details").listener(443).name, "0.0.0.0_443");
}
