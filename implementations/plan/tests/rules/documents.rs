//! The plans that the manifests of the five documents lead to.

mod manifests;

use meshproof_plan::model::{
    ClientCertificate, Direction, Discovery, DownstreamTls, NameCheck, Plan, ServerName, Transport, Trust,
    UpstreamProtocol, UpstreamTls,
};

pub(crate) use manifests::*;

use crate::world::{Ask, EGRESS, INGRESS, Listeners, NGINX, SLEEP, World, at, identity};

#[test]
fn without_resources_a_sidecar_passes_everything_on() {
    let plan = World::new().resolve("").plan;
    assert_eq!(plan.goes_to(SLEEP, 80, CNN, "/politics"), Some("PassthroughCluster"));
    assert_eq!(plan.tls_goes_to(SLEEP, 443, CNN), Some("PassthroughCluster"));
    let passthrough = plan.cluster(SLEEP, "PassthroughCluster");
    assert_eq!(passthrough.protocol, UpstreamProtocol::Downstream);
    assert_eq!(passthrough.discovery, Discovery::OriginalDestination(World::new().endpoints));
}

#[test]
fn access_to_an_external_service_leaves_http_plain_and_https_alone() {
    let plan = World::new().resolve(ACCESS).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, CNN, "/politics"), Some("outbound|80||edition.cnn.com"));
    assert_eq!(plan.tls_goes_to(SLEEP, 443, CNN), Some("outbound|443||edition.cnn.com"));
    let plain = plan.cluster(SLEEP, "outbound|80||edition.cnn.com");
    assert_eq!(plain.tls, None);
    assert_eq!(plain.discovery, Discovery::Endpoints(vec![at(21_080)]));
    assert_eq!(plan.cluster(SLEEP, "outbound|443||edition.cnn.com").tls, None);
}

#[test]
fn a_port_rewrite_with_a_destination_rule_originates_tls_on_port_443() {
    let plan = World::new().resolve(PORT_REWRITE).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, CNN, "/politics"), Some("outbound|443||edition.cnn.com"));
    let cluster = plan.cluster(SLEEP, "outbound|443||edition.cnn.com");
    assert_eq!(cluster.discovery, Discovery::Endpoints(vec![at(21_443)]));
    let origination = plan.origination(SLEEP, "outbound|443||edition.cnn.com");
    assert_eq!(origination.sni, ServerName::FromHost);
    assert_eq!(origination.names, NameCheck::FromHost);
    assert_eq!(origination.trust, Trust::SystemRoots);
    assert_eq!(origination.client_certificate, None);
}

#[test]
fn a_target_port_moves_the_endpoint_and_not_the_name_of_the_cluster() {
    let plan = World::new().resolve(TARGET_PORT).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, CNN, "/politics"), Some("outbound|80||edition.cnn.com"));
    let cluster = plan.cluster(SLEEP, "outbound|80||edition.cnn.com");
    assert_eq!(cluster.discovery, Discovery::Endpoints(vec![at(21_443)]));
    assert!(matches!(cluster.tls, Some(UpstreamTls::Originate(_))));
    assert_eq!(plan.tls_goes_to(SLEEP, 443, CNN), Some("outbound|443||edition.cnn.com"));
    assert_eq!(
        plan.cluster(SLEEP, "outbound|443||edition.cnn.com").tls,
        None,
        "clients' own TLS stays as it is"
    );
}

#[test]
fn the_books_service_is_reached_by_server_name_and_then_with_tls_from_the_sidecar() {
    let plan = World::new().resolve(BOOKS_BY_APPLICATION).plan;
    assert_eq!(plan.tls_goes_to(SLEEP, 443, GOOGLE), Some("outbound|443||www.googleapis.com"));

    let plan = World::new().resolve(BOOKS_ORIGINATED).plan;
    assert_eq!(
        plan.goes_to(SLEEP, 80, GOOGLE, "/books/v1/volumes"),
        Some("outbound|443||www.googleapis.com")
    );
    assert_eq!(plan.origination(SLEEP, "outbound|443||www.googleapis.com").sni, ServerName::FromHost);
}

#[test]
fn the_bucket_document_as_printed_lacks_hosts_and_is_refused_as_a_delegate_with_gateways() {
    let printed = format!("{BUCKET_BEHIND_GATEWAY}{}{ROOT_ROUTE}{BUCKET_ROUTES}", bucket_virtual_service(""));
    let rejected = World::new().refusal(&printed);
    assert_eq!(rejected.resource().to_string(), "VirtualService default/s3");
    assert!(rejected.to_string().contains("delegate"), "{rejected}");
}

#[test]
fn with_the_root_first_every_path_goes_to_the_welcome_page() {
    let plan = World::new().resolve(&bucket(true)).plan;
    let welcome = Some("outbound|8080||welcome.default.svc.cluster.local");
    for path in ["/", "/.well-known/openid-configuration", "/oauth/discovery/keys"] {
        assert_eq!(plan.goes_to(INGRESS, 80, "example.com", path), welcome, "{path}");
    }
}

#[test]
fn with_the_root_last_two_prefixes_go_to_the_bucket_over_tls() {
    let plan = World::new().resolve(&bucket(false)).plan;
    let to_bucket = format!("outbound|443||{BUCKET}");
    let welcome = "outbound|8080||welcome.default.svc.cluster.local";
    for (path, cluster) in [
        ("/", welcome),
        ("/.well-known", welcome),
        ("/.well-known/openid-configuration", &to_bucket),
        ("/.well-known/openid-configuration/more", &to_bucket),
        // Envoy's prefix is text, not path segments.
        ("/oauth/discovery/keys2", &to_bucket),
        ("/oauth/discovery", welcome),
    ] {
        assert_eq!(plan.goes_to(INGRESS, 80, "example.com", path), Some(cluster), "{path}");
    }
    let forward = plan.forward(INGRESS, 80, "example.com", "/oauth/discovery/keys").expect("a forward");
    assert_eq!(forward.host_rewrite.as_deref(), Some(BUCKET));
    assert_eq!(forward.request_headers.set, [("x-forwarded-proto".to_owned(), "https".to_owned())]);
    assert_eq!(plan.origination(INGRESS, &to_bucket).sni, ServerName::FromHost);
    assert_eq!(plan.cluster(INGRESS, welcome).tls, None);
    assert!(plan.route(INGRESS, 80, "other.example.com", "/").is_none(), "another host gets 404");
}

#[test]
fn an_egress_gateway_gets_mesh_tls_from_the_sidecar_and_originates_tls_itself() {
    let plan = World::new().resolve(EGRESS_SIMPLE).plan;
    let to_gateway = "outbound|80|cnn|istio-egressgateway.istio-system.svc.cluster.local";
    assert_eq!(plan.goes_to(SLEEP, 80, CNN, "/politics"), Some(to_gateway));
    let hop = plan.cluster(SLEEP, to_gateway);
    assert_eq!(hop.discovery, Discovery::Endpoints(vec![at(10_080)]));
    assert_eq!(hop.protocol, UpstreamProtocol::Http2, "the gateway's port 80 is named http2");
    let Some(UpstreamTls::MeshMutual { sni, peer_identities, alpn }) = &hop.tls else {
        panic!("{:?}", hop.tls)
    };
    assert_eq!(sni, CNN);
    assert_eq!(peer_identities, &[identity("istio-system", EGRESS)]);
    assert_eq!(alpn, &["istio-h2", "istio", "h2"]);

    let listener = plan.proxy(EGRESS).listener(80);
    assert_eq!(listener.direction, Direction::Gateway);
    assert_eq!(listener.bind, at(10_080));
    let [chain] = listener.chains.as_slice() else { panic!("{:?}", listener.chains) };
    assert_eq!(chain.tls, Some(DownstreamTls::MeshMutual));
    assert_eq!(chain.matches.transport, Transport::Tls);
    assert_eq!(chain.matches.server_names, [CNN]);
    assert_eq!(plan.goes_to(EGRESS, 80, CNN, "/politics"), Some("outbound|443||edition.cnn.com"));
    assert_eq!(plan.origination(EGRESS, "outbound|443||edition.cnn.com").sni, ServerName::FromHost);
    // By Istio's rule the same DestinationRule also holds for the sidecar's own clients of HTTPS: TLS in TLS.
    assert_eq!(plan.tls_goes_to(SLEEP, 443, CNN), Some("outbound|443||edition.cnn.com"));
    assert_eq!(plan.origination(SLEEP, "outbound|443||edition.cnn.com").sni, ServerName::FromHost);
}

#[test]
fn a_virtual_service_on_port_80_serves_a_host_whose_service_has_only_port_443() {
    let resolution = World::new().resolve(EGRESS_MUTUAL);
    let plan = resolution.plan;
    let to_gateway = "outbound|443|nginx|istio-egressgateway.istio-system.svc.cluster.local";
    assert_eq!(plan.goes_to(SLEEP, 80, NGINX, "/"), Some(to_gateway));
    let hop = plan.cluster(SLEEP, to_gateway);
    assert_eq!(hop.protocol, UpstreamProtocol::Http1, "the gateway's port 443 is named https");

    let to_nginx = format!("outbound|443||{NGINX}");
    assert_eq!(plan.goes_to(EGRESS, 443, NGINX, "/"), Some(to_nginx.as_str()));
    let cluster = plan.cluster(EGRESS, &to_nginx);
    assert_eq!(cluster.discovery, Discovery::Endpoints(vec![at(20_443)]));
    let origination = plan.origination(EGRESS, &to_nginx);
    assert_eq!(origination.sni, ServerName::Fixed(NGINX.to_owned()));
    assert_eq!(origination.names, NameCheck::ChainOnly, "an explicit sni without subjectAltNames");
    assert_eq!(origination.trust, Trust::Credential("client-credential".to_owned()));
    let shown = ClientCertificate::Credential("client-credential".to_owned());
    assert_eq!(origination.client_certificate, Some(shown));
    let [credential] = resolution.credentials[EGRESS].as_slice() else { panic!("one credential") };
    assert_eq!(credential.ca.as_deref(), Some("example.com's certificate"));
    assert!(!resolution.credentials.contains_key(SLEEP));
}

#[test]
fn the_plan_of_the_port_rewrite_is_as_reviewed() {
    insta::assert_json_snapshot!(World::new().resolve(PORT_REWRITE).plan);
}

#[test]
fn the_plan_of_mutual_tls_through_the_egress_gateway_is_as_reviewed() {
    insta::assert_json_snapshot!(World::new().resolve(EGRESS_MUTUAL).plan);
}

#[test]
fn a_plan_is_the_same_after_a_trip_through_json() {
    for manifest in [PORT_REWRITE, TARGET_PORT, EGRESS_SIMPLE, EGRESS_MUTUAL, &bucket(false)] {
        let plan = World::new().resolve(manifest).plan;
        let text = serde_json::to_string(&plan).expect("a plan is JSON");
        let back: Plan = serde_json::from_str(&text).expect("and back");
        assert_eq!(back, plan);
    }
}
