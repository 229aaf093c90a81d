//! Each mutation breaks what it names, and nothing where there is nothing to break.

use meshproof_model::Resource;

use meshproof_plan::model::{
    ClientCertificate, Discovery, NameCheck, PathMatch, Plan, ServerName, Transport, Trust, UpstreamTls,
};
use meshproof_plan::mutation;

use crate::documents::{EGRESS_MUTUAL, EGRESS_SIMPLE, PORT_REWRITE, bucket};
use crate::world::{Ask, EGRESS, INGRESS, Listeners, NGINX, SLEEP, World, at};

const CNN: &str = "outbound|443||edition.cnn.com";
const BUCKET: &str = "outbound|443||samplebucket1234.s3.ap-southeast-2.amazonaws.com";

fn broken(manifest: &str, mutate: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = World::new().resolve(manifest).plan;
    let before = plan.clone();
    mutate(&mut plan);
    assert_ne!(plan, before, "the mutation did nothing");
    plan
}

fn resources(manifest: &str) -> Vec<Resource> {
    crate::manifest::read(manifest)
}

#[test]
fn no_sni_and_wrong_sni_change_the_server_name_and_not_what_is_verified() {
    let plan = broken(PORT_REWRITE, mutation::no_sni);
    assert_eq!(plan.origination(SLEEP, CNN).sni, ServerName::Absent);
    assert_eq!(plan.origination(SLEEP, CNN).names, NameCheck::FromHost);
    let plan = broken(PORT_REWRITE, mutation::wrong_sni);
    assert_eq!(plan.origination(SLEEP, CNN).sni, ServerName::Fixed(mutation::WRONG_SNI.to_owned()));
    assert_eq!(plan.origination(SLEEP, CNN).names, NameCheck::FromHost);
}

#[test]
fn no_client_certificate_takes_it_away_and_leaves_the_ca() {
    let plan = broken(EGRESS_MUTUAL, mutation::no_client_certificate);
    let origination = plan.origination(EGRESS, &format!("outbound|443||{NGINX}"));
    assert_eq!(origination.client_certificate, None::<ClientCertificate>);
    assert_eq!(origination.trust, Trust::Credential("client-credential".to_owned()));
}

#[test]
fn ignoring_the_certificate_or_its_names_changes_that_alone() {
    let plan = broken(PORT_REWRITE, mutation::ignore_certificate);
    assert_eq!(plan.origination(SLEEP, CNN).trust, Trust::Anybody);
    let plan = broken(PORT_REWRITE, mutation::ignore_sans);
    assert_eq!(plan.origination(SLEEP, CNN).names, NameCheck::ChainOnly);
    assert_eq!(plan.origination(SLEEP, CNN).trust, Trust::SystemRoots);
}

#[test]
fn plaintext_upstream_keeps_the_address_and_the_mesh_tls() {
    let plan = broken(EGRESS_SIMPLE, mutation::plaintext_upstream);
    let cluster = plan.cluster(EGRESS, CNN);
    assert_eq!(cluster.tls, None);
    assert_eq!(cluster.discovery, Discovery::Endpoints(vec![at(21_443)]));
    let hop = plan.cluster(SLEEP, "outbound|80|cnn|istio-egressgateway.istio-system.svc.cluster.local");
    assert!(matches!(hop.tls, Some(UpstreamTls::MeshMutual { .. })));
}

#[test]
fn mesh_internal_alpn_is_offered_outside() {
    let plan = broken(PORT_REWRITE, mutation::mesh_internal_alpn);
    assert_eq!(plan.origination(SLEEP, CNN).alpn, [mutation::MESH_INTERNAL_ALPN]);
}

#[test]
fn host_not_rewritten_and_forwarded_proto_http_change_what_the_bucket_sees() {
    let path = "/oauth/discovery/keys";
    let plan = broken(&bucket(false), mutation::host_not_rewritten);
    assert_eq!(plan.forward(INGRESS, 80, "example.com", path).expect("a forward").host_rewrite, None);
    let plan = broken(&bucket(false), mutation::forwarded_proto_http);
    let forward = plan.forward(INGRESS, 80, "example.com", path).expect("a forward");
    assert_eq!(forward.request_headers.set, [("x-forwarded-proto".to_owned(), "http".to_owned())]);
}

#[test]
fn prefix_as_exact_keeps_sub_paths_in_and_the_root_whole() {
    let plan = broken(&bucket(false), mutation::prefix_as_exact);
    let go = |path: &str| plan.goes_to(INGRESS, 80, "example.com", path).expect("a cluster");
    assert_eq!(go("/oauth/discovery/keys"), BUCKET);
    assert_ne!(go("/oauth/discovery/keys/1"), BUCKET);
    let root = plan.route(INGRESS, 80, "example.com", "/any").expect("the root's route");
    assert_eq!(root.matches.path, PathMatch::Prefix("/".to_owned()));
}

#[test]
fn no_mutual_tls_to_the_gateway_opens_both_sides() {
    let plan = broken(EGRESS_SIMPLE, mutation::no_mutual_tls_to_gateway);
    let hop = plan.cluster(SLEEP, "outbound|80|cnn|istio-egressgateway.istio-system.svc.cluster.local");
    assert_eq!(hop.tls, None);
    let chain = &plan.proxy(EGRESS).listener(80).chains[0];
    assert_eq!(chain.tls, None);
    assert_eq!(chain.matches.transport, Transport::Any);
    assert!(chain.matches.server_names.is_empty());
    assert_eq!(plan.origination(EGRESS, CNN).sni, ServerName::FromHost, "origination itself stays");
}

#[test]
fn the_wrong_upstream_port_is_the_plain_one() {
    let endpoints = World::new().endpoints;
    let plan = broken(PORT_REWRITE, |plan| mutation::wrong_upstream_port(plan, &endpoints));
    let cluster = plan.cluster(SLEEP, CNN);
    assert_eq!(cluster.discovery, Discovery::Endpoints(vec![at(21_080)]));
    assert_eq!(cluster.tls, None);
}

#[test]
fn bypassed_routes_go_where_the_application_was_going() {
    let endpoints = World::new().endpoints;
    let plan = broken(EGRESS_SIMPLE, |plan| mutation::bypass_routes(plan, &endpoints));
    assert_eq!(plan.goes_to(SLEEP, 80, "edition.cnn.com", "/politics"), Some("PassthroughCluster"));
    assert!(plan.proxy(SLEEP).cluster("PassthroughCluster").is_some());
    assert_eq!(plan.goes_to(EGRESS, 80, "edition.cnn.com", "/politics"), Some(CNN));
}

#[test]
fn plan_mutations_leave_a_plan_without_anything_to_break_as_it_was() {
    let untouched = World::new().resolve("").plan;
    for (name, mutate) in mutation::plan_mutations() {
        let mut plan = untouched.clone();
        mutate(&mut plan);
        assert_eq!(plan, untouched, "{name}");
    }
}

#[test]
fn export_to_ignored_lets_a_sidecar_elsewhere_see_the_bucket() {
    let host = "samplebucket1234.s3.ap-southeast-2.amazonaws.com";
    let mut all = resources(&bucket(false));
    mutation::export_to_ignored(&mut all);
    let plan = World::new().resolve_resources(&all).expect("still valid").plan;
    assert_eq!(plan.tls_goes_to(SLEEP, 443, host), Some(BUCKET));
}

#[test]
fn allow_any_drops_the_outbound_policy_and_keeps_what_else_a_sidecar_says() {
    let sidecar = |rest: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\nspec:\n  \
             outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\n{rest}"
        )
    };
    for (rest, left) in [("", 0), ("  egress: [{hosts: ['./*']}]\n", 1)] {
        let mut all = resources(&sidecar(rest));
        mutation::allow_any(&mut all);
        assert_eq!(all.len(), left);
        let plan = World::new().resolve_resources(&all).expect("still valid").plan;
        assert_eq!(plan.goes_to(SLEEP, 80, "unknown.example.com", "/"), Some("PassthroughCluster"));
    }
}

#[test]
fn most_specific_route_first_routes_the_bucket_document_as_its_author_meant() {
    let mut all = resources(&bucket(true));
    mutation::most_specific_route_first(&mut all);
    let plan = World::new().resolve_resources(&all).expect("still valid").plan;
    assert_eq!(plan.goes_to(INGRESS, 80, "example.com", "/oauth/discovery/keys"), Some(BUCKET));
}
