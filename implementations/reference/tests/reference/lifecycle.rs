//! Configurations that change while requests are in flight, and stopping.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use meshproof_harness::feature::Feature;
use meshproof_local::data_plane::{DataPlaneError, DataPlaneFactory as _};
use meshproof_plan::model::{Plan, Transport, UpstreamTls};
use meshproof_reference::{Reference, Variant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::authority::TestAuthority;
use crate::support::client::{self, TestClient};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, PATIENCE, free, until};

#[tokio::test]
async fn identity_names_features_and_the_variant() {
    let plain = Reference::new().identify().await.unwrap();
    assert_eq!((plain.name.as_str(), plain.target.as_str()), ("meshproof reference", "reference"));
    assert!(plain.features.contains(&Feature::CredentialStatus.into()) && plain.details.is_empty());
    for (variant, kind) in [("no-sni", "saboteur"), ("extra-via@sidecar", "benign variant")] {
        let varied = Reference::varied(variant.parse::<Variant>().unwrap()).identify().await.unwrap();
        assert_eq!(varied.details[kind], variant);
    }
}

fn plain(bind: SocketAddr, server: SocketAddr) -> Plan {
    plans::plan(vec![plans::sidecar(bind, plans::cluster("outbound|80||edition.cnn.com", server, None))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turning_origination_on_and_off_under_load_loses_no_request() {
    let ca = TestAuthority::new("public");
    let (clear, secure) = (TestServer::plain().await, TestServer::tls(ca.server(HOST)).await);
    let (mut bench, bind, gateway) = (Bench::with(Reference::new(), &ca.pem()).await, free(), free());
    let external = plans::cluster(EXTERNAL, secure.address, Some(UpstreamTls::Originate(plans::simple())));
    let states = [
        plain(bind, clear.address),
        plans::originating(bind, secure.address, plans::simple()),
        plans::through_gateway(bind, gateway, external),
    ];
    bench.apply(&states[0]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let mut load = tokio::task::JoinSet::new();
    for keep_alive in [true, true, false, false] {
        let (stop, failures) = (stop.clone(), failures.clone());
        load.spawn(async move {
            let (mut count, mut client) = (0_usize, TestClient::connect(bind).await);
            while !stop.load(Ordering::Relaxed) {
                if !keep_alive {
                    client = TestClient::connect(bind).await;
                }
                match client.send(client::request(HOST, "/chunks")).await {
                    Ok(reply) if reply.status.as_u16() == 200 => count += 1,
                    other => failures.lock().unwrap().push(format!("{other:?}")),
                }
            }
            count
        });
    }
    for round in 0..30 {
        bench.apply(&states[(round + 1) % 3]).await;
        let served = bench.lines_now("sleep").len();
        until("requests go on", || bench.lines_now("sleep").len() > served + 10).await;
    }
    stop.store(true, Ordering::Relaxed);
    let sent: usize = load.join_all().await.into_iter().sum();
    assert_eq!(failures.lock().unwrap().as_slice(), &[] as &[String]);
    assert!(sent > 300, "{sent}");
    assert_eq!(bench.lines("sleep").await.len(), sent);
    assert_eq!(clear.memory.requests().len() + secure.memory.requests().len(), sent);
    assert!(secure.memory.connections() < sent / 4, "{} of {sent}", secure.memory.connections());
}

/// Connects without yielding to other tasks: the listener must be closed already.
#[track_caller]
fn refused(address: SocketAddr) {
    let error = std::net::TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn removed_listener_is_refused_and_its_idle_connections_are_closed() {
    let server = TestServer::plain().await;
    let (mut bench, bind, other) = (Bench::start().await, free(), free());
    let two = plans::plan(vec![
        plans::sidecar(bind, plans::cluster("c", server.address, None)),
        plans::proxy(
            "istio-egressgateway",
            vec![plans::outbound(
                other,
                vec![plans::chain(plans::on(Transport::Any), None, plans::tcp("c"))],
            )],
            vec![plans::cluster("c", server.address, None)],
        ),
    ]);
    bench.apply(&two).await;
    let (mut idle, mut busy) = (TestClient::connect(bind).await, TestClient::connect(bind).await);
    idle.get(HOST, "/").await;
    let pending = busy.sender().send_request(client::request(HOST, "/held"));
    let memory = server.memory.clone();
    let mut pending = Box::pin(pending);
    tokio::select! {
        _ = &mut pending => panic!("answered"),
        () = until("it is held", || memory.holding.load(Ordering::SeqCst) == 1) => {}
    }
    let mut tunnel = TcpStream::connect(other).await.unwrap();
    tunnel.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0; 8];
    tunnel.read_exact(&mut first).await.unwrap();

    bench.apply(&Plan::default()).await;
    refused(bind);
    refused(other);
    idle.closed().await;
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, tunnel.read_to_end(&mut rest)).await.unwrap().unwrap();
    // The request in flight ends under the configuration with which it began.
    server.memory.release.notify_one();
    assert_eq!(pending.await.unwrap().status().as_u16(), 200);
    busy.closed().await;
    // The same addresses serve again.
    bench.apply(&two).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
}

#[tokio::test]
async fn unused_listener_refuses_as_soon_as_it_is_removed() {
    let (mut bench, bind) = (Bench::start().await, free());
    for _ in 0..20 {
        bench.apply(&plain(bind, bind)).await;
        drop(std::net::TcpStream::connect(bind).unwrap());
        bench.apply(&Plan::default()).await;
        refused(bind);
    }
}

#[tokio::test]
async fn kept_connection_takes_the_new_routes_at_its_next_request() {
    let servers = [TestServer::plain().await, TestServer::plain().await];
    let (mut bench, bind) = (Bench::start().await, free());
    bench.apply(&plain(bind, servers[0].address)).await;
    let mut client = TestClient::connect(bind).await;
    for round in 0..20 {
        bench.apply(&plain(bind, servers[round % 2].address)).await;
        assert_eq!(client.get(HOST, "/").await.status.as_u16(), 200);
    }
    assert_eq!(servers.map(|s| s.memory.requests().len()), [10, 10]);
}

#[tokio::test]
async fn unchanged_cluster_keeps_its_connections_through_a_change() {
    let ca = TestAuthority::new("public");
    let server = TestServer::tls(ca.server(HOST)).await;
    let (mut bench, bind) = (Bench::with(Reference::new(), &ca.pem()).await, free());
    for _ in 0..5 {
        bench.apply(&plans::originating(bind, server.address, plans::simple())).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
    }
    assert_eq!(server.memory.connections(), 1);
}

#[tokio::test]
async fn taken_port_is_an_environment_error_and_leaves_the_old_configuration_in_force() {
    let server = TestServer::plain().await;
    let (mut bench, bind) = (Bench::start().await, free());
    bench.apply(&plain(bind, server.address)).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = bench.try_apply(&plain(taken.local_addr().unwrap(), server.address)).await.unwrap_err();
    let DataPlaneError::Environment(text) = error else { panic!("{error:?}") };
    assert!(
        text.contains(&taken.local_addr().unwrap().to_string()) && text.contains("Another process"),
        "{text}"
    );
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
}

#[tokio::test]
async fn invalid_plan_is_refused_with_the_place_of_its_error() {
    let (mut bench, bind) = (Bench::start().await, free());
    let mut plan = plain(bind, bind);
    let path = meshproof_plan::model::PathMatch::Regex("(".to_owned());
    let route = plans::route(path, meshproof_plan::model::RouteAction::Forward(plans::forward("c")));
    plan.proxies[0].listeners[0].chains = vec![plans::any_http(vec![plans::host(HOST, vec![route])])];
    let DataPlaneError::Refused(text) = bench.try_apply(&plan).await.unwrap_err() else { panic!() };
    assert!(text.contains("sleep: listener 0.0.0.0_80: virtual host edition.cnn.com:80"), "{text}");
}

#[tokio::test]
async fn stop_ends_everything_and_a_stopped_data_plane_is_gone() {
    let server = TestServer::plain().await;
    let (mut bench, bind) = (Bench::start().await, free());
    let plan = plain(bind, server.address);
    bench.apply(&plan).await;
    let mut idle = TestClient::connect(bind).await;
    idle.get(HOST, "/").await;
    bench.plane.stop().await.unwrap();
    refused(bind);
    idle.closed().await;
    assert!(matches!(bench.try_apply(&plan).await, Err(DataPlaneError::Gone(_))));
    assert!(matches!(bench.plane.settle().await, Err(DataPlaneError::Gone(_))));
    bench.plane.stop().await.unwrap();
    // Its tasks have ended: the address is free again, and only the test holds the log sink.
    drop(std::net::TcpListener::bind(bind).unwrap());
    let lines = bench.lines.clone();
    drop(bench);
    assert_eq!(Arc::strong_count(&lines), 1);
}
