//! The evidence of the real nginx: the same facts as those of the embedded service, complete when it has settled.

use std::path::Path;

use meshproof_harness::external::{ExternalSpec, HttpVersions, PlainPort, Refusal, TlsPort, TlsVersions};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::{ClientIdentity, RequestSpec};
use meshproof_local::external::{RunningService, start_embedded, start_nginx};
use meshproof_local::workload::{RawEnd, Route, WorkloadClient, raw};
use meshproof_model::{Connection, Fact, ServerRequest, TlsFacts};
use tokio::net::TcpStream;

use crate::embedded::assert_keeps_alive;
use crate::support::*;

pub(crate) async fn start(spec: ExternalSpec, folder: &Path) -> Option<(Box<dyn RunningService>, Store)> {
    let program = nginx()?;
    let store = Store::new();
    Some((
        start_nginx(spec, store.clone(), &Timeouts::default(), folder, Some(&program)).await.unwrap(),
        store,
    ))
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

pub(crate) fn pid(folder: &Path) -> u32 {
    let file = entries(folder).remove(0).join("nginx.pid");
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn the_documents_nginx_verifies_the_client_and_logs_its_name_and_serial() {
    let folder = folder();
    let Some((service, store)) =
        start(site(PlainPort::Closed, Some(mutual_port(Refusal::Http400))), folder.path()).await
    else {
        return;
    };
    assert_eq!(service.describe().kind, "nginx");
    assert!(service.describe().version.starts_with("nginx/"));
    assert_eq!(service.address(80), None);
    let request = RequestSpec {
        identity: Some(ClientIdentity::from(&parties().client)),
        ..get("https://edition.cnn.com/")
    };
    let exchange = client_of(&*service).exchange(&request).await;
    assert_eq!(response(&exchange).status, 200);
    assert!(response(&exchange).body.contains("Welcome to nginx!"));
    service.settle().await.unwrap();
    let [request] = requests(&store).try_into().unwrap();
    let tls = request.tls.unwrap();
    assert_eq!(tls.peer_verification.as_deref(), Some("SUCCESS"));
    // Subject, issuer and serial are nginx's own words: the suite's printing is the same.
    assert_eq!(tls.peer_certificate.as_ref(), Some(parties().client.facts()));
    assert_eq!(tls.server_name.as_deref(), Some(HOST));
    service.stop().await.unwrap();
}

/// What is left of a fact when everything that differs from run to run is taken away, and what nginx cannot show.
fn normal_tls(tls: Option<TlsFacts>) -> Option<TlsFacts> {
    let short = |text: String| text.split(':').next().unwrap_or_default().to_owned();
    tls.map(|tls| TlsFacts {
        alpn_offered: None,
        weak_offers: None,
        failure: tls.failure.map(|_| "some".to_owned()),
        peer_verification: tls.peer_verification.map(short),
        // A handshake that failed is one line without details in nginx's log.
        server_name: tls.server_name.filter(|_| tls.version.is_some()),
        ..tls
    })
}

type Facts = (Vec<Connection>, Vec<ServerRequest>);

fn normal(store: &Store, known: &[&str]) -> Facts {
    let mut connections: Vec<_> = connections(store)
        .into_iter()
        .map(|c| {
            let clear = c.clear_bytes.lines().next().unwrap_or_default().to_owned();
            Connection { number: 0, peer: String::new(), clear_bytes: clear, tls: normal_tls(c.tls), ..c }
        })
        .collect();
    connections.sort_by_key(|c| format!("{c:?}"));
    let requests = requests(store)
        .into_iter()
        .map(|r| {
            let mut headers = r.headers;
            headers.retain(|h| known.contains(&h.name.as_str()));
            headers.sort_by(|a, b| a.name.cmp(&b.name));
            // nginx does not log bodies or answers.
            let (body_bytes, body_sha256) = (None, None);
            let (peer, tls) = (String::new(), normal_tls(r.tls));
            ServerRequest { connection: 0, peer, headers, tls, body_bytes, body_sha256, answer: None, ..r }
        })
        .collect();
    (connections, requests)
}

/// The same traffic for each kind of service.
async fn traffic(service: &dyn RunningService) {
    let p = parties();
    let client = client_of(service);
    let of = |issued| Some(ClientIdentity::from(issued));
    let secure = "https://edition.cnn.com/politics?a=%20b";
    let plain = get("http://edition.cnn.com/politics?a=b");
    let with_headers = RequestSpec {
        identity: of(&p.client),
        headers: vec![("x-forwarded-proto".into(), "https".into()), ("x-request-id".into(), "r\"1\\".into())],
        ..get(secure)
    };
    for request in [
        plain,
        with_headers,
        RequestSpec { identity: of(&p.stranger), ..get(secure) },
        get(secure),
        RequestSpec {
            identity: of(&p.client),
            method: http::Method::HEAD,
            ..get("https://edition.cnn.com/")
        },
        RequestSpec { identity: of(&p.client), ..get("https://edition.cnn.com/missing") },
    ] {
        let exchange = client.exchange(&request).await;
        assert!(exchange.last_response().is_some(), "{exchange:#?}");
        service.settle().await.unwrap();
    }
    // A client that does not believe the server.
    let address = service.address(443).unwrap();
    let route = Route::direct(HOST, 443, address);
    let doubting =
        WorkloadClient::new("probe", route, p.stranger_ca.certificate_pem(), &timeouts(LIMIT)).unwrap();
    assert!(doubting.exchange(&get(secure)).await.last_response().is_none());
    // Plain HTTP, and nothing at all, to the TLS port.
    let exchange = doubting.exchange(&get("http://edition.cnn.com:443/politics")).await;
    assert_eq!(response(&exchange).status, 400);
    drop(TcpStream::connect(address).await.unwrap());
    drop(TcpStream::connect(service.address(80).unwrap()).await.unwrap());
    service.settle().await.unwrap();
}

/// What differs in the services whose facts are compared.
pub(crate) const KINDS_OF_PORT: [(TlsVersions, HttpVersions); 2] =
    [(TlsVersions::Both, HttpVersions::Both), (TlsVersions::Tls12, HttpVersions::Http1)];

/// A service that redirects, and demands certificates.
pub(crate) fn demanding((versions, http): (TlsVersions, HttpVersions)) -> ExternalSpec {
    let port = TlsPort { versions, http, ..mutual_port(Refusal::Http400) };
    site(PlainPort::RedirectToHttps, Some(port))
}

/// The same traffic for this nginx and for the embedded service is the same in the evidence.
pub(crate) async fn assert_shows_what_the_embedded_service_shows(
    spec: ExternalSpec,
    real: &dyn RunningService,
    real_store: &Store,
) {
    let store = Store::new();
    let embedded = start_embedded(spec, store.clone(), &Timeouts::default()).await.unwrap();
    traffic(real).await;
    traffic(&*embedded).await;
    let known = ["host", "user-agent", "accept", "x-forwarded-proto", "x-request-id"];
    let (mut seen, mut expected) = (normal(real_store, &known), normal(&store, &known));
    assert_eq!(expected.0.len(), 10);
    assert_eq!(expected.1.len(), 7);
    // Each has its own favourite among the cipher suites.
    for facts in [&mut seen, &mut expected] {
        for tls in facts.0.iter_mut().filter_map(|c| c.tls.as_mut()) {
            assert!(tls.version.is_none() || tls.cipher.as_ref().unwrap().starts_with("TLS_"), "{tls:?}");
            tls.cipher = None;
        }
        facts.1.iter_mut().filter_map(|r| r.tls.as_mut()).for_each(|tls| tls.cipher = None);
        facts.0.sort_by_key(|c| format!("{c:?}"));
        // HTTP/2 has its Host in another place.
        for request in &mut facts.1 {
            request.headers.retain(|h| h.name != "host");
        }
    }
    assert_eq!(seen.1, expected.1);
    assert_eq!(seen.0, expected.0);
    let tokens = |store: &Store| {
        store.with(|all| {
            all.iter()
                .filter(|e| matches!(e.fact, Fact::Request(_)))
                .map(|e| e.token.clone())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(tokens(real_store), tokens(&store));
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn nginx_and_the_embedded_service_show_the_same_facts_for_the_same_traffic() {
    for kind in KINDS_OF_PORT {
        let folder = folder();
        let Some((real, store)) = start(demanding(kind), folder.path()).await else { return };
        assert_shows_what_the_embedded_service_shows(demanding(kind), &*real, &store).await;
        real.stop().await.unwrap();
    }
}

/// After settling, the requests of many concurrent clients are all in the store, even those with a body that nginx ignores.
pub(crate) async fn assert_settles_under_load(service: &dyn RunningService, store: &Store) {
    let client = client_of(service);
    for round in 1..=10usize {
        let urls = ["http://edition.cnn.com/politics", "https://edition.cnn.com/politics"];
        let sent = (0..12).map(|n| {
            let (client, url) = (client.clone(), urls[n % 2]);
            // A body that nginx ignores makes it linger on the connection.
            let request = match n % 3 {
                0 => RequestSpec { method: http::Method::POST, body: vec![b'x'; 200_000].into(), ..get(url) },
                _ => get(url),
            };
            tokio::spawn(async move { client.exchange(&request).await })
        });
        for exchange in futures_util::future::join_all(sent).await {
            response(&exchange.unwrap());
        }
        service.settle().await.unwrap();
        assert_eq!(requests(store).len(), 12 * round);
        assert_eq!(connections(store).len(), 12 * round);
    }
    assert!(requests(store).iter().all(|r| r.peer.starts_with("127.0.0.1:") && r.status != 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settling_under_load_misses_no_request_and_ties_it_to_the_clients_port() {
    let folder = folder();
    let spec = site(PlainPort::Serve, Some(open_port(&parties().server)));
    let Some((service, store)) = start(spec, folder.path()).await else { return };
    assert_settles_under_load(&*service, &store).await;
    service.stop().await.unwrap();
}

/// Sends these bytes to the plain port of a running nginx, reads the status line, and settles with the connection
/// still open.
async fn answered_and_open(bytes: &[u8], status_line: &[u8; 12]) -> Option<Store> {
    let folder = folder();
    let (service, store) = start(site(PlainPort::Serve, None), folder.path()).await?;
    let mut stream = TcpStream::connect(service.address(80).unwrap()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await.unwrap();
    let mut first = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await.unwrap();
    assert_eq!(&first, status_line);
    service.settle().await.unwrap();
    service.stop().await.unwrap();
    Some(store)
}

#[tokio::test]
async fn an_answered_request_whose_body_is_still_awaited_is_settled() {
    let request =
        b"POST /politics HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 99999\r\n\r\nsome";
    let Some(store) = answered_and_open(request, b"HTTP/1.1 405").await else { return };
    assert_eq!(requests(&store).iter().map(|r| r.status).collect::<Vec<_>>(), [405]);
}

#[tokio::test]
async fn an_answered_request_that_could_not_be_read_is_settled() {
    let Some(store) = answered_and_open(b"\x01 nonsense\r\n\r\nmore", b"HTTP/1.1 400").await else {
        return;
    };
    assert_eq!(connections(&store).len(), 1);
}

#[tokio::test]
async fn garbage_becomes_a_connection_and_no_request() {
    let folder = folder();
    let spec = site(PlainPort::RedirectToHttps, Some(open_port(&parties().server)));
    let Some((service, store)) = start(spec, folder.path()).await else { return };
    for (port, bytes) in [
        (80, &b"\x01\x02 nonsense\r\n\r\n"[..]),
        (443, &b"\x01\x02 nonsense\r\n\r\n"[..]),
        (443, &b"\x16\x03\x01\x00\x05hello"[..]),
    ] {
        let before = connections(&store).len();
        assert_ne!(raw(service.address(port).unwrap(), bytes, LIMIT).await.end, RawEnd::Open);
        service.settle().await.unwrap();
        let seen = connections(&store);
        assert_eq!(seen.len(), before + 1, "{bytes:?}");
        let last = seen.last().unwrap();
        assert_eq!((last.port, last.tls_port), (port, port == 443));
        let failed = last.tls.as_ref().is_some_and(|tls| tls.failure.is_some());
        assert_eq!(failed, bytes[0] == 0x16, "{last:?}");
        assert_eq!(last.clear_bytes.contains("nonsense"), bytes[0] != 0x16, "{last:?}");
    }
    assert_eq!(requests(&store).len(), 0);
    service.stop().await.unwrap();
}

pub(crate) async fn signal(signal: &str, pid: u32) {
    let sent = tokio::process::Command::new("kill").args([signal, &pid.to_string()]).status().await.unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn half_sent_requests_that_wait_in_the_queue_are_settled_too() {
    let folder = folder();
    let spec = site(PlainPort::Serve, None);
    let Some((service, store)) = start(spec, folder.path()).await else { return };
    // As when the machine is busy: everything is there before nginx gets a turn.
    let pid = pid(folder.path());
    signal("-STOP", pid).await;
    for _ in 0..400 {
        let mut stream = TcpStream::connect(service.address(80).unwrap()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /half HT").await.unwrap();
        drop(stream);
    }
    let (settled, ()) = tokio::join!(service.settle(), signal("-CONT", pid));
    settled.unwrap();
    assert_eq!(connections(&store).len(), 400);
    assert!(connections(&store).iter().all(|c| c.clear_bytes == "GET /half HT"));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn without_keep_alive_each_connection_ends_after_its_answer() {
    for keep_alive in [false, true] {
        let folder = folder();
        let spec = ExternalSpec { keep_alive, ..site(PlainPort::Serve, None) };
        let Some((service, _)) = start(spec, folder.path()).await else { return };
        assert_keeps_alive(&*service, keep_alive).await;
        service.stop().await.unwrap();
    }
}
