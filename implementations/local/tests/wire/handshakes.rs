//! Handshakes that fail: each end records who refused whom.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use meshproof_harness::certificates::Issued;
use meshproof_harness::external::{ExternalSpec, PlainPort, Refusal, TlsPort};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::{ClientIdentity, RequestSpec};
use meshproof_local::external::{RunningService, start_embedded, start_nginx};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{TlsFacts, TlsFailure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

const URL: &str = "https://edition.cnn.com/politics";
/// The start of a ClientHello.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn spec(port: TlsPort) -> ExternalSpec {
    site(PlainPort::Closed, Some(port))
}

async fn embedded(port: TlsPort) -> (Box<dyn RunningService>, Store) {
    let store = Store::new();
    (start_embedded(spec(port), store.clone(), &Timeouts::default()).await.unwrap(), store)
}

async fn real_nginx(port: TlsPort, folder: &Path) -> Option<(Box<dyn RunningService>, Store)> {
    let (program, store) = (nginx()?, Store::new());
    let service =
        start_nginx(spec(port), store.clone(), &Timeouts::default(), folder, Some(&program)).await.unwrap();
    Some((service, store))
}

/// What the last connection's handshake showed.
async fn last(service: &dyn RunningService, store: &Store) -> TlsFacts {
    service.settle().await.unwrap();
    connections(store).pop().unwrap().tls.unwrap()
}

/// What a handshake showed whose client vanished in the middle. A reset may overtake what was sent before it: then the server
/// saw no handshake, and the client tries again.
async fn vanished(service: &dyn RunningService, store: &Store, reset: bool) -> TlsFacts {
    for _ in 0..200 {
        let before = connections(store).len();
        send_half_a_hello(service.address(443).unwrap(), reset).await;
        service.settle().await.unwrap();
        let seen = connections(store).into_iter().skip(before).find_map(|c| c.tls);
        if let Some(tls) = seen {
            return tls;
        }
    }
    panic!("no handshake was recorded");
}

async fn send_half_a_hello(address: SocketAddr, reset: bool) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HALF_A_HELLO).await.unwrap();
    if reset {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

fn alert(name: &str) -> String {
    name.to_owned()
}

async fn a_client_that_vanishes_and_one_that_distrusts(service: &dyn RunningService, store: &Store) {
    let address = service.address(443).unwrap();
    for reset in [false, true] {
        let tls = vanished(service, store, reset).await;
        assert_eq!(tls.failure_kind, Some(TlsFailure::PeerVanished), "reset: {reset}, {tls:?}");
    }
    let distrusting = WorkloadClient::new(
        "sleep",
        Route::default().and(HOST, 443, address),
        parties().stranger_ca.certificate_pem(),
        &timeouts(LIMIT),
    );
    let refused = distrusting.unwrap().exchange(&get(URL)).await;
    let own = refused.hops[0].tls.clone().unwrap().failure_kind;
    assert_eq!(own, Some(TlsFailure::AlertSent { alert: alert("unknown_ca") }));
    let tls = last(service, store).await;
    assert_eq!(tls.failure_kind, Some(TlsFailure::AlertReceived { alert: alert("unknown_ca") }), "{tls:?}");
}

#[tokio::test]
async fn embedded_types_a_client_that_vanishes_and_one_that_distrusts_the_server() {
    let (service, store) = embedded(open_port(&parties().server)).await;
    a_client_that_vanishes_and_one_that_distrusts(&*service, &store).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn nginx_types_a_client_that_vanishes_and_one_that_distrusts_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let Some((service, store)) = real_nginx(open_port(&parties().server), folder.path()).await else {
        return;
    };
    a_client_that_vanishes_and_one_that_distrusts(&*service, &store).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_refused_in_the_handshake_leaves_its_certificate_and_the_alert() {
    let (service, store) = embedded(mutual_port(Refusal::Alert)).await;
    let client = client_of(&*service);
    let with = |issued: &Issued| RequestSpec { identity: Some(ClientIdentity::from(issued)), ..get(URL) };
    let stranger = client.exchange(&with(&parties().stranger)).await;
    let tls = last(&*service, &store).await;
    assert_eq!(tls.failure_kind, Some(TlsFailure::AlertSent { alert: alert("unknown_ca") }), "{tls:?}");
    assert_eq!(tls.peer_certificate.as_ref(), Some(parties().stranger.facts()));
    assert!(tls.peer_verification.unwrap().starts_with("FAILED:"));
    let received = stranger.hops[0].tls.clone().unwrap().failure_kind;
    assert_eq!(received, Some(TlsFailure::AlertReceived { alert: alert("unknown_ca") }));
    let _missing = client.exchange(&get(URL)).await;
    let tls = last(&*service, &store).await;
    assert_eq!(tls.failure_kind, Some(TlsFailure::AlertSent { alert: alert("certificate_required") }));
    assert_eq!(tls.peer_certificate, None);
    let welcome = client.exchange(&with(&parties().client)).await;
    assert_eq!(response(&welcome).status, 200);
    let tls = last(&*service, &store).await;
    assert_eq!((tls.failure_kind, tls.peer_verification.as_deref()), (None, Some("SUCCESS")));
    assert_eq!(tls.peer_certificate.as_ref(), Some(parties().client.facts()));
    service.stop().await.unwrap();
}
