//! Saboteurs between sidecar and gateway, between applications, and across changes of the configuration.

use std::sync::atomic::Ordering;

use meshproof_plan::model::{
    Direction, Discovery, DownstreamTls, OriginalDestination, Plan, Transport, UpstreamProtocol, UpstreamTls,
};
use serde_json::json;

use crate::support::authority::TestAuthority;
use crate::support::client::{self, TestClient};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, free, reference, until};

/// The outcome of a request through sidecar and gateway.
struct ThroughGateway {
    status: u16,
    gateway_lines: usize,
    plain_at_gateway: bool,
    anonymous_at_gateway: bool,
    status_without_gateway: u16,
}

async fn through_gateway(saboteur: Option<&str>) -> ThroughGateway {
    let ca = TestAuthority::new("public");
    let server = TestServer::tls(ca.server(HOST)).await;
    let mut bench = Bench::with(reference(saboteur), &ca.pem()).await;
    bench.endpoint(HOST, 443, server.address);
    let (bind, gateway) = (free(), free());
    let external = plans::cluster(EXTERNAL, server.address, Some(UpstreamTls::Originate(plans::simple())));
    let mut plan = plans::through_gateway(bind, gateway, external);
    bench.apply(&plan).await;
    let status = client::get(bind, HOST, "/").await.status.as_u16();
    let gateway_lines = bench.lines("istio-egressgateway").await.len();
    let plain_at_gateway = TestClient::connect(gateway).await.send(client::request(HOST, "/")).await.is_ok();
    let anonymous_at_gateway = client::get_over_mesh(gateway, HOST, None).await.is_ok();
    plan.proxies.truncate(1);
    bench.apply(&plan).await;
    let status_without_gateway = client::get(bind, HOST, "/").await.status.as_u16();
    ThroughGateway { status, gateway_lines, plain_at_gateway, anonymous_at_gateway, status_without_gateway }
}

#[tokio::test]
async fn gateway_is_bypassed_or_accepts_plain_text_or_anonymous_clients() {
    let sound = through_gateway(None).await;
    assert_eq!((sound.status, sound.gateway_lines, sound.status_without_gateway), (200, 1, 503));
    assert!(!sound.plain_at_gateway && !sound.anonymous_at_gateway);
    let past = through_gateway(Some("originate-at-sidecar")).await;
    assert_eq!((past.status, past.gateway_lines), (200, 0));
    let bypass = through_gateway(Some("bypass-when-gateway-down")).await;
    assert_eq!((bypass.status, bypass.gateway_lines, bypass.status_without_gateway), (200, 1, 200));
    let clear = through_gateway(Some("no-mutual-tls-to-gateway")).await;
    assert_eq!((clear.status, clear.gateway_lines, clear.plain_at_gateway), (200, 1, true));
    let open = through_gateway(Some("gateway-accepts-anonymous")).await;
    assert!(open.anonymous_at_gateway && !open.plain_at_gateway && open.status == 200);
}

#[tokio::test]
async fn strict_inbound_accepts_plain_text_or_every_tls_client() {
    for (saboteur, served, any_client) in [
        (None, false, false),
        (Some("permissive-inbound"), true, false),
        (Some("inbound-accepts-any-client"), false, true),
    ] {
        let server = TestServer::plain().await;
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let chains = vec![plans::chain(
            plans::on(Transport::Tls),
            Some(DownstreamTls::MeshMutual),
            plans::http_action(vec![plans::host(HOST, vec![plans::to("inbound|80||")])]),
        )];
        let listener = plans::listener(bind, 80, Direction::Inbound, chains);
        let cluster = plans::cluster("inbound|80||", server.address, None);
        bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], vec![cluster])])).await;
        let answered = TestClient::connect(bind).await.send(client::request(HOST, "/")).await.is_ok();
        assert_eq!(answered, served, "{saboteur:?}");
        assert_eq!(client::get_over_mesh(bind, HOST, None).await.is_ok(), any_client, "{saboteur:?}");
    }
}

#[tokio::test]
async fn gateway_listens_on_after_its_gateway_resource_was_deleted() {
    for (saboteur, listens) in [(None, false), (Some("keep-gateway"), true)] {
        let server = TestServer::plain().await;
        let mut bench = Bench::with(reference(saboteur), "").await;
        let (bind, gateway) = (free(), free());
        let mut plan = plans::through_gateway(bind, gateway, plans::cluster("c", server.address, None));
        bench.apply(&plan).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
        plan.proxies[1].listeners.clear();
        plan.proxies[1].clusters.clear();
        bench.apply(&plan).await;
        let status = client::get(bind, HOST, "/").await.status.as_u16();
        assert_eq!(status, if listens { 200 } else { 503 }, "{saboteur:?}");
        assert_eq!(tokio::net::TcpStream::connect(gateway).await.is_ok(), listens, "{saboteur:?}");
    }
}

#[tokio::test]
async fn mesh_peer_of_another_ca_is_accepted() {
    for (saboteur, status) in [(None, 503), (Some("believe-any-mesh-peer"), 200)] {
        let server = TestServer::tls(TestAuthority::new("other").server(HOST)).await;
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let mesh = UpstreamTls::MeshMutual {
            sni: HOST.to_owned(),
            peer_identities: Vec::new(),
            alpn: vec!["istio-http/1.1".to_owned(), "http/1.1".to_owned()],
        };
        let cluster = plans::cluster("c", server.address, Some(mesh));
        bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), status, "{saboteur:?}");
    }
}

/// A sidecar that passes HTTPS through and originates TLS for one host.
fn https_beside_origination(bind: std::net::SocketAddr, server: std::net::SocketAddr) -> Plan {
    let mut through = plans::cluster("PassthroughCluster", server, None);
    through.protocol = UpstreamProtocol::Downstream;
    through.discovery = Discovery::OriginalDestination(vec![OriginalDestination {
        host: HOST.to_owned(),
        port: 80,
        address: server,
    }]);
    let chains = vec![plans::chain(plans::on(Transport::Tls), None, plans::tcp("PassthroughCluster"))];
    let originating = plans::cluster(EXTERNAL, server, Some(UpstreamTls::Originate(plans::simple())));
    plans::plan(vec![plans::proxy("sleep", vec![plans::outbound(bind, chains)], vec![through, originating])])
}

#[tokio::test]
async fn applications_own_https_is_terminated_blocked_wrapped_or_logged_with_a_path() {
    for (saboteur, served, ends_at_the_server, claims) in [
        (None, true, true, false),
        (Some("terminate-application-tls"), true, false, false),
        (Some("block-passthrough-https"), false, false, false),
        (Some("double-tls"), false, false, false),
        (Some("log-passthrough-path"), true, true, true),
    ] {
        let ca = TestAuthority::new("public");
        let issued = ca.server(HOST);
        let server = TestServer::tls(issued.clone()).await;
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        bench.apply(&https_beside_origination(bind, server.address)).await;
        let mut shown = Vec::new();
        let mut answered = false;
        if let Ok(stream) = client::tls(bind, HOST, None).await {
            shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let mut client = TestClient::over(hyper_util::rt::TokioIo::new(stream)).await;
            answered = client.send(client::request(HOST, "/")).await.is_ok();
            client.close().await;
        }
        use rustls::pki_types::pem::PemObject as _;
        let own = rustls::pki_types::CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        assert_eq!(answered, served, "{saboteur:?}");
        assert_eq!(shown == own.to_vec(), ends_at_the_server, "{saboteur:?}");
        let lines = bench.lines("sleep").await;
        assert_eq!(lines.iter().any(|l| l.contains("\"GET / HTTP/1.1\"")), claims, "{saboteur:?}: {lines:?}");
    }
}

#[tokio::test]
async fn tls_settings_of_one_port_apply_to_another() {
    for (saboteur, hellos) in [(None, 0), (Some("top-level-policy-everywhere"), 1)] {
        let ca = TestAuthority::new("public");
        let server = TestServer::tls(ca.server(HOST)).await;
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        let mut sidecar =
            plans::sidecar(bind, plans::cluster("outbound|80||edition.cnn.com", server.address, None));
        let origination = UpstreamTls::Originate(plans::simple());
        sidecar.clusters.push(plans::cluster(EXTERNAL, server.address, Some(origination)));
        bench.apply(&plans::plan(vec![sidecar])).await;
        client::get(bind, HOST, "/").await;
        let completed = server.memory.hellos().iter().filter(|h| h.completed).count();
        assert_eq!(completed, hellos, "{saboteur:?}");
    }
}

#[tokio::test]
async fn deleted_resources_stay_in_force() {
    for (saboteur, status) in [(None, 404), (Some("stale-configuration"), 200)] {
        let server = TestServer::plain().await;
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let mut plan = plans::plan(vec![plans::sidecar(bind, plans::cluster("c", server.address, None))]);
        let resource = json!({"kind": "VirtualService", "metadata": {"name": "a", "namespace": "b"}});
        bench.resources = vec![meshproof_model::Resource(resource)];
        bench.apply(&plan).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
        bench.resources.clear();
        plan.proxies[0].listeners[0].chains = vec![plans::any_http(vec![])];
        bench.apply(&plan).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn change_aborts_requests_in_flight() {
    for (saboteur, answered) in [(None, true), (Some("drop-in-flight-on-change"), false)] {
        let server = TestServer::plain().await;
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let plan = plans::plan(vec![plans::sidecar(bind, plans::cluster("c", server.address, None))]);
        bench.apply(&plan).await;
        let mut client = TestClient::connect(bind).await;
        let mut pending = Box::pin(client.sender().send_request(client::request(HOST, "/held")));
        let memory = server.memory.clone();
        tokio::select! {
            _ = &mut pending => panic!("answered"),
            () = until("it is held", || memory.holding.load(Ordering::SeqCst) == 1) => {}
        }
        bench.apply(&plan).await;
        server.memory.release.notify_one();
        assert_eq!(pending.await.is_ok(), answered, "{saboteur:?}");
    }
}

#[tokio::test]
async fn gateway_is_passed_by_and_its_log_line_is_forged() {
    for (saboteur, hellos) in [(None, 1), (Some("bypass-with-forged-log"), 0)] {
        let ca = TestAuthority::new("public");
        let server = TestServer::tls(ca.server(HOST)).await;
        let elsewhere = TestServer::tls(ca.server(HOST)).await;
        let (mut bench, bind, gateway) = (Bench::with(reference(saboteur), &ca.pem()).await, free(), free());
        // The gateway goes to another server than the sidecar that passes it by.
        bench.endpoint(HOST, 443, elsewhere.address);
        let tls = Some(UpstreamTls::Originate(plans::simple()));
        bench
            .apply(&plans::through_gateway(bind, gateway, plans::cluster(EXTERNAL, server.address, tls)))
            .await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200, "{saboteur:?}");
        assert_eq!(server.memory.hellos().len(), hellos, "{saboteur:?}");
        assert_eq!(bench.lines("istio-egressgateway").await.len(), 1, "{saboteur:?}");
    }
}
