//! Saboteurs that accept or present an identity where it has no place, and gateways that serve more than they were given.

use meshproof_plan::model::{Plan, UpstreamTls};
use rcgen::ExtendedKeyUsagePurpose;

use crate::situation::{Situation, differs, status};
use crate::support::authority::{CertificateSpec, IssuedPem, TestAuthority};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::{TestServer, TestServerTls};
use crate::support::{Bench, client, free, identity, reference};

#[tokio::test]
async fn the_fourth_server_is_not_verified() {
    let asked = |times| {
        move |s: &mut Situation| {
            s.trusted = false;
            s.times = times;
        }
    };
    differs("verify-three-times", asked(3), status, "503", "503").await;
    differs("verify-three-times", asked(4), status, "503", "200").await;
}

#[tokio::test]
async fn a_servers_certificate_of_the_systems_roots_is_accepted_beside_the_configured_ca() {
    let private = |s: &mut Situation| {
        s.origination = plans::mutual("c");
        s.origination.client_certificate = None;
        s.credentials = vec![plans::credential("c", &s.other.pem(), None)];
    };
    differs("system-roots-beside-credential", private, status, "503", "200").await;
}

#[tokio::test]
async fn mesh_certificate_is_presented_to_a_server_that_asks() {
    for (saboteur, accepted) in [(None, false), (Some("mesh-certificate-for-strangers"), true)] {
        let ca = TestAuthority::new("public");
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        let mut tls = TestServerTls::of(ca.server(HOST));
        // It accepts only clients with a certificate of the mesh.
        tls.client_ca = Some(bench.mesh.pem());
        let server = TestServer::start(Some(tls)).await;
        bench.apply(&plans::originating(bind, server.address, plans::simple())).await;
        assert_eq!(client::get(bind, HOST, "/").await.status == 200, accepted, "{saboteur:?}");
    }
}

#[tokio::test]
async fn mesh_peer_of_another_identity_or_of_the_systems_roots_is_accepted() {
    for (saboteur, another, similar, public) in [
        (None, 503, 503, 503),
        (Some("any-mesh-identity"), 200, 200, 503),
        (Some("similar-mesh-identities"), 503, 200, 503),
        (Some("system-roots-for-mesh-peers"), 503, 503, 200),
    ] {
        let roots = TestAuthority::new("public");
        let (mut bench, bind) = (Bench::with(reference(saboteur), &roots.pem()).await, free());
        let gateway = identity("istio-egressgateway");
        let longer = identity("istio-egressgateway-2");
        let certificates = [
            identified(&bench.mesh, &identity("other")),
            identified(&bench.mesh, &longer),
            identified(&roots, &gateway),
        ];
        for (certificate, expected) in certificates.into_iter().zip([another, similar, public]) {
            let server = TestServer::tls(certificate).await;
            let mesh = UpstreamTls::MeshMutual {
                sni: HOST.to_owned(),
                peer_identities: vec![gateway.clone()],
                alpn: vec!["istio-http/1.1".to_owned(), "http/1.1".to_owned()],
            };
            let cluster = plans::cluster("c", server.address, Some(mesh));
            bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
            let status = client::get(bind, HOST, "/").await.status.as_u16();
            assert_eq!(status, expected, "{saboteur:?}");
        }
    }
}

fn identified(ca: &TestAuthority, uri: &str) -> IssuedPem {
    ca.issue(&CertificateSpec { uri: Some(uri), ..CertificateSpec::default() })
}

#[tokio::test]
async fn gateway_accepts_clients_or_serves_hosts_that_it_must_not() {
    for (saboteur, wrong) in [
        (None, ""),
        (Some("gateway-trusts-system-roots"), "public"),
        (Some("gateway-accepts-expired-identity"), "expired"),
        (Some("gateway-accepts-server-certificates"), "for servers"),
        (Some("gateway-takes-any-server-name"), "server name"),
        (Some("gateway-as-open-proxy"), "host"),
    ] {
        let ca = TestAuthority::new("public");
        let (server, bystander) = (TestServer::tls(ca.server(HOST)).await, TestServer::plain().await);
        let mut bench = Bench::with(reference(saboteur), &ca.pem()).await;
        bench.endpoint("bystander.example", 80, bystander.address);
        let (bind, gateway) = (free(), free());
        let tls = UpstreamTls::Originate(plans::simple());
        let plan: Plan =
            plans::through_gateway(bind, gateway, plans::cluster(EXTERNAL, server.address, Some(tls)));
        bench.apply(&plan).await;
        let valid = identified(&bench.mesh, &identity("sleep"));
        let of_public_ca = identified(&ca, &identity("sleep"));
        let uri = identity("sleep");
        let outdated = bench.mesh.issue(&CertificateSpec {
            uri: Some(&uri),
            years: (2020, 2021),
            ..CertificateSpec::default()
        });
        let for_servers = bench.mesh.issue(&CertificateSpec {
            uri: Some(&uri),
            usage: Some(ExtendedKeyUsagePurpose::ServerAuth),
            ..CertificateSpec::default()
        });
        let served = async |name: &str, asked: &str, issued: &IssuedPem| {
            let reply = client::get_over_mesh_as(gateway, name, asked, issued).await;
            reply.is_ok_and(|reply| reply.status == 200)
        };
        assert!(served(HOST, HOST, &valid).await, "{saboteur:?}");
        for (what, name, asked, certificate) in [
            ("public", HOST, HOST, &of_public_ca),
            ("expired", HOST, HOST, &outdated),
            ("for servers", HOST, HOST, &for_servers),
            ("server name", "bystander.example", HOST, &valid),
            ("host", HOST, "bystander.example", &valid),
        ] {
            assert_eq!(served(name, asked, certificate).await, what == wrong, "{saboteur:?}: {what}");
        }
    }
}
