//! How TLS to servers outside is opened (cluster_tls.go).

use meshproof_plan::model::{
    ClientCertificate, NameCheck, Origination, ServerName, Trust, UpstreamProtocol, UpstreamTls,
};

use crate::world::{Ask, EGRESS, SLEEP, World};

const CLUSTER: &str = "outbound|80||edition.cnn.com";

fn entry(protocol: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: cnn}}
spec:
  hosts: [edition.cnn.com]
  ports: [{{number: 80, name: p, protocol: {protocol}, targetPort: 443}}]
  resolution: DNS
---
"
    )
}

fn rule(policy: &str) -> String {
    format!(
        "{}
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: cnn}}
spec:
  host: edition.cnn.com
  trafficPolicy: {policy}
",
        entry("HTTP")
    )
}

#[track_caller]
fn originates(tls: &str) -> Origination {
    let plan = World::new().resolve(&rule(&format!("{{tls: {tls}}}"))).plan;
    plan.origination(SLEEP, CLUSTER).clone()
}

#[test]
fn simple_without_a_ca_believes_the_systems_roots_and_verifies_the_host() {
    let origination = originates("{mode: SIMPLE}");
    assert_eq!(origination.trust, Trust::SystemRoots);
    assert_eq!(origination.sni, ServerName::FromHost);
    assert_eq!(origination.names, NameCheck::FromHost);
    assert_eq!(originates("{mode: SIMPLE, caCertificates: system}").trust, Trust::SystemRoots);
}

#[test]
fn an_explicit_sni_without_names_leaves_the_chain_alone_to_verify() {
    let origination = originates("{mode: SIMPLE, sni: other.example.com}");
    assert_eq!(origination.sni, ServerName::Fixed("other.example.com".to_owned()));
    assert_eq!(origination.names, NameCheck::ChainOnly);
}

#[test]
fn subject_alt_names_are_what_is_verified_with_and_without_sni() {
    let names = NameCheck::OneOf(vec!["a.example.com".to_owned(), "b.example.com".to_owned()]);
    let origination = originates("{mode: SIMPLE, subjectAltNames: [a.example.com, b.example.com]}");
    assert_eq!(origination.names, names);
    assert_eq!(origination.sni, ServerName::FromHost);
    let origination =
        originates("{mode: SIMPLE, sni: x.example.com, subjectAltNames: [a.example.com, b.example.com]}");
    assert_eq!(origination.names, names);
}

#[test]
fn insecure_skip_verify_believes_anybody() {
    let origination = originates("{mode: SIMPLE, insecureSkipVerify: true}");
    assert_eq!(origination.trust, Trust::Anybody);
    assert_eq!(origination.names, NameCheck::ChainOnly);
    assert_eq!(originates("{mode: SIMPLE, insecureSkipVerify: false}").trust, Trust::SystemRoots);
}

#[test]
fn mutual_with_files_shows_and_believes_the_files() {
    let origination =
        originates("{mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem}");
    assert_eq!(origination.trust, Trust::File("/ca.pem".to_owned()));
    let files = ClientCertificate::Files { certificate: "/c.pem".to_owned(), key: "/k.pem".to_owned() };
    assert_eq!(origination.client_certificate, Some(files));
    assert_eq!(origination.credential, None);
}

#[test]
fn mesh_internal_alpn_never_goes_outside() {
    assert_eq!(originates("{mode: SIMPLE}").alpn, Vec::<String>::new());
    let upgraded = rule("{tls: {mode: SIMPLE}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}");
    let plan = World::new().resolve(&upgraded).plan;
    assert_eq!(plan.cluster(SLEEP, CLUSTER).protocol, UpstreamProtocol::Http2);
    assert_eq!(plan.origination(SLEEP, CLUSTER).alpn, ["h2"]);
}

#[test]
fn use_client_protocol_follows_the_request_even_where_the_mesh_upgrades() {
    let policy = "{connectionPool: {http: {useClientProtocol: true}}}";
    let mut world = World::new();
    world.mesh.h2_upgrade = true;
    let plan = world.resolve(&rule(policy)).plan;
    assert_eq!(plan.cluster(SLEEP, CLUSTER).protocol, UpstreamProtocol::Downstream);
}

#[test]
fn disable_is_plain_text() {
    let plan = World::new().resolve(&rule("{tls: {mode: DISABLE}}")).plan;
    assert_eq!(plan.cluster(SLEEP, CLUSTER).tls, None);
}

#[test]
fn a_port_of_bytes_takes_the_server_name_from_a_host_as_well() {
    let manifest = rule("{tls: {mode: SIMPLE}}").replace("protocol: HTTP", "protocol: TCP");
    let plan = World::new().resolve(&manifest).plan;
    let origination = plan.origination(SLEEP, CLUSTER);
    assert_eq!(origination.sni, ServerName::FromHost);
    assert_eq!(origination.names, NameCheck::FromHost);
}

#[test]
fn a_credential_on_a_sidecar_works_only_in_a_rule_with_a_workload_selector() {
    let without = rule("{tls: {mode: SIMPLE, credentialName: ca}}");
    let resolution = World::new().resolve(&without);
    assert_eq!(resolution.plan.cluster(SLEEP, CLUSTER).tls, None);
    assert!(resolution.warnings.iter().any(|w| w.contains("credentialName")), "{:?}", resolution.warnings);
    let with = format!("{without}  workloadSelector: {{matchLabels: {{app: sleep}}}}\n");
    let plan = World::new().resolve(&with).plan;
    assert_eq!(plan.origination(SLEEP, CLUSTER).trust, Trust::Credential("ca".to_owned()));
}

#[test]
fn istio_mutual_takes_the_configured_sni_else_the_name_of_the_cluster() {
    let to_gateway = |tls: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: gateway}}
spec:
  host: {EGRESS}.istio-system.svc.cluster.local
  subsets: [{{name: cnn, trafficPolicy: {{tls: {tls}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: cnn}}
spec:
  hosts: [edition.cnn.com]
  http:
  - route: [{{destination: {{host: {EGRESS}.istio-system.svc.cluster.local, subset: cnn, port: {{number: 80}}}}}}]
"
        )
    };
    let sni_of = |tls: &str| {
        let plan = World::new().resolve(&to_gateway(tls)).plan;
        let cluster =
            plan.cluster(SLEEP, &format!("outbound|80|cnn|{EGRESS}.istio-system.svc.cluster.local"));
        match cluster.tls.clone() {
            Some(UpstreamTls::MeshMutual { sni, .. }) => sni,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(sni_of("{mode: ISTIO_MUTUAL, sni: edition.cnn.com}"), "edition.cnn.com");
    assert_eq!(
        sni_of("{mode: ISTIO_MUTUAL}"),
        format!("outbound_.80_.cnn_.{EGRESS}.istio-system.svc.cluster.local")
    );
}

#[test]
fn a_gateway_gets_no_mesh_tls_unless_a_rule_says_so() {
    let manifest = format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: cnn}}
spec:
  hosts: [edition.cnn.com]
  http:
  - route: [{{destination: {{host: {EGRESS}.istio-system.svc.cluster.local, port: {{number: 80}}}}}}]
"
    );
    let plan = World::new().resolve(&manifest).plan;
    let cluster = plan.cluster(SLEEP, &format!("outbound|80||{EGRESS}.istio-system.svc.cluster.local"));
    assert_eq!(cluster.tls, None);
}
