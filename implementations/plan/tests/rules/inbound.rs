//! What a workload accepts, and what others send it (PeerAuthentication, auto mTLS).

use meshproof_plan::model::{Discovery, DownstreamTls, Transport, UpstreamProtocol, UpstreamTls};

use crate::world::{Ask, Listeners, SLEEP, World, at};

const BACKEND: &str = "outbound|8000||backend.default.svc.cluster.local";

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"
    )
}

/// How the backend listens: for each chain what it takes and whether it ends mesh TLS.
fn accepted(manifest: &str) -> Vec<(Transport, bool)> {
    let plan = World::with_backend().resolve(manifest).plan;
    let chains = &plan.proxy("backend").listener(8000).chains;
    chains.iter().map(|c| (c.matches.transport, c.tls == Some(DownstreamTls::MeshMutual))).collect()
}

/// Whether `sleep` opens mesh TLS to the backend.
fn opens_mesh_tls(manifest: &str) -> bool {
    let plan = World::with_backend().resolve(manifest).plan;
    assert_eq!(plan.goes_to(SLEEP, 8000, "backend", "/"), Some(BACKEND));
    match &plan.cluster(SLEEP, BACKEND).tls {
        Some(UpstreamTls::MeshMutual { .. }) => true,
        None => false,
        Some(other) => panic!("{other:?}"),
    }
}

const MESH_TLS: (Transport, bool) = (Transport::Tls, true);
const BOTH: [(Transport, bool); 2] = [MESH_TLS, (Transport::Plain, false)];
const PLAIN: [(Transport, bool); 1] = [(Transport::Any, false)];

#[test]
fn without_a_policy_mesh_tls_and_plain_text_are_accepted_and_mesh_tls_is_sent() {
    assert_eq!(accepted(""), BOTH);
    assert!(opens_mesh_tls(""));
}

#[test]
fn proxies_that_cannot_speak_mesh_tls_are_asked_for_it_only_where_a_policy_demands_it() {
    let chains = |manifest: &str| -> (Vec<bool>, bool) {
        let mut world = World::with_backend();
        world.mesh.mesh_tls = false;
        let plan = world.resolve(manifest).plan;
        let chains = &plan.proxy("backend").listener(8000).chains;
        (chains.iter().map(|c| c.tls.is_some()).collect(), plan.cluster(SLEEP, BACKEND).tls.is_some())
    };
    assert_eq!(chains(""), (vec![false], false));
    assert_eq!(chains(&policy("p", "default", "{mtls: {mode: PERMISSIVE}}")), (vec![false], false));
    assert_eq!(chains(&policy("p", "default", "{mtls: {mode: STRICT}}")), (vec![true], true));
}

#[test]
fn proxies_that_cannot_speak_http2_are_asked_for_it_only_where_a_rule_demands_it() {
    let to_gateway = "outbound|80||istio-egressgateway.istio-system.svc.cluster.local";
    let upgrade = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: upgraded, namespace: default}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
";
    let protocol = |http2: bool, manifest: &str| {
        let mut world = World::new();
        world.mesh.http2 = http2;
        world.resolve(manifest).plan.cluster(SLEEP, to_gateway).protocol
    };
    assert_eq!(protocol(true, ""), UpstreamProtocol::Http2);
    assert_eq!(protocol(false, ""), UpstreamProtocol::Http1);
    assert_eq!(protocol(false, upgrade), UpstreamProtocol::Http2);
}

#[test]
fn strict_accepts_mesh_tls_alone_and_disable_plain_text_alone() {
    let strict = policy("p", "default", "{mtls: {mode: STRICT}}");
    assert_eq!(accepted(&strict), [MESH_TLS]);
    assert!(opens_mesh_tls(&strict));
    let disabled = policy("p", "default", "{mtls: {mode: DISABLE}}");
    assert_eq!(accepted(&disabled), PLAIN);
    assert!(!opens_mesh_tls(&disabled));
}

#[test]
fn the_workloads_policy_goes_before_the_namespaces_before_the_meshs() {
    let mesh = policy("mesh", "istio-system", "{mtls: {mode: STRICT}}");
    let namespace = policy("namespace", "default", "{mtls: {mode: DISABLE}}");
    let workload =
        policy("workload", "default", "{selector: {matchLabels: {app: backend}}, mtls: {mode: PERMISSIVE}}");
    assert_eq!(accepted(&mesh), [MESH_TLS]);
    assert_eq!(accepted(&[mesh.clone(), namespace.clone()].concat()), PLAIN);
    assert_eq!(accepted(&[mesh.clone(), namespace.clone(), workload].concat()), BOTH);
    let other =
        policy("other", "default", "{selector: {matchLabels: {app: other}}, mtls: {mode: PERMISSIVE}}");
    assert_eq!(accepted(&[mesh, namespace, other].concat()), PLAIN);
}

#[test]
fn unset_inherits_and_of_equals_the_oldest_counts() {
    let mesh = policy("mesh", "istio-system", "{mtls: {mode: STRICT}}");
    let unset = policy("unset", "default", "{}");
    assert_eq!(accepted(&[mesh, unset].concat()), [MESH_TLS]);
    let older = policy("older", "default", "{mtls: {mode: DISABLE}}");
    let younger = policy("younger", "default", "{mtls: {mode: STRICT}}");
    assert_eq!(accepted(&[older, younger].concat()), PLAIN);
}

#[test]
fn a_policy_for_a_port_holds_for_that_port_alone() {
    let spec = |port: u16| {
        let spec = format!(
            "{{selector: {{matchLabels: {{app: backend}}}}, mtls: {{mode: STRICT}}, \
             portLevelMtls: {{{port}: {{mode: DISABLE}}}}}}"
        );
        policy("p", "default", &spec)
    };
    assert_eq!(accepted(&spec(8000)), PLAIN);
    assert!(!opens_mesh_tls(&spec(8000)));
    assert_eq!(accepted(&spec(8001)), [MESH_TLS]);
}

#[test]
fn a_selector_in_the_root_namespace_selects_nothing() {
    let root = policy("p", "istio-system", "{selector: {matchLabels: {app: backend}}, mtls: {mode: STRICT}}");
    assert_eq!(accepted(&root), BOTH);
}

#[test]
fn a_destination_rule_decides_over_auto_mtls() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: backend}
spec: {host: backend, trafficPolicy: {tls: {mode: DISABLE}}}
";
    assert!(!opens_mesh_tls(rule));
}

#[test]
fn the_application_is_a_cluster_of_its_own() {
    let plan = World::with_backend().resolve("").plan;
    assert_eq!(plan.proxy("backend").listener(8000).name, "virtualInbound");
    let application = plan.cluster("backend", "inbound|8000||");
    assert_eq!(application.discovery, Discovery::Endpoints(vec![at(13_001)]));
    assert_eq!(application.tls, None);
    assert_eq!(plan.goes_to("backend", 8000, "any.example.com", "/"), Some("inbound|8000||"));
}

#[test]
fn a_service_without_a_sidecar_gets_plain_text() {
    let mut world = World::with_backend();
    for service in &mut world.registry {
        service.ports[0].endpoints[0].identity = None;
        service.ports[0].endpoints[0].mesh_tls = false;
    }
    assert_eq!(world.resolve("").plan.cluster(SLEEP, BACKEND).tls, None);
}

#[test]
fn where_some_endpoints_lack_mesh_tls_all_get_plain_text_with_a_warning() {
    let mut world = World::with_backend();
    let backend = world.registry.last_mut().expect("backend");
    let mut plain = backend.ports[0].endpoints[0].clone();
    plain.identity = None;
    plain.mesh_tls = false;
    plain.address = at(13_002);
    backend.ports[0].endpoints.push(plain);
    let resolution = world.resolve("");
    assert_eq!(resolution.plan.cluster(SLEEP, BACKEND).tls, None);
    assert!(
        resolution.warnings.iter().any(|w| w.contains("only some endpoints")),
        "{:?}",
        resolution.warnings
    );
}

#[test]
fn a_subset_keeps_the_endpoints_that_bear_its_labels() {
    let manifest = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: backend}
spec:
  host: backend
  subsets: [{name: here, labels: {app: backend}}, {name: none, labels: {app: other}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: backend}
spec:
  hosts: [backend]
  http:
  - match: [{uri: {prefix: /none}}]
    route: [{destination: {host: backend, subset: none}}]
  - route: [{destination: {host: backend, subset: here}}]
";
    let plan = World::with_backend().resolve(manifest).plan;
    let addresses = |subset: &str| {
        let name = format!("outbound|8000|{subset}|backend.default.svc.cluster.local");
        plan.cluster(SLEEP, &name).discovery.clone()
    };
    assert_eq!(addresses("here"), Discovery::Endpoints(vec![at(13_000)]));
    assert_eq!(addresses("none"), Discovery::Endpoints(Vec::new()));
}
