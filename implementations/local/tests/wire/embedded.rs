//! What the embedded service answers and records.

use meshproof_harness::external::{
    ExternalSpec, HttpVersions, PlainPort, PrivateKeyPem, Refusal, TlsPort, TlsVersions,
};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::{ClientIdentity, HttpChoice, RequestSpec};
use meshproof_local::external::{ExternalError, RunningService, start_embedded};
use meshproof_local::workload::{RawEnd, raw};
use meshproof_model::{ExchangeErrorKind, Fact, Side};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

async fn start(spec: ExternalSpec) -> (Box<dyn RunningService>, Store) {
    let store = Store::new();
    (start_embedded(spec, store.clone(), &Timeouts::default()).await.unwrap(), store)
}

fn open_site() -> ExternalSpec {
    site(PlainPort::RedirectToHttps, Some(open_port(&parties().server)))
}

fn identified(url: &str, issued: &meshproof_harness::certificates::Issued) -> RequestSpec {
    RequestSpec { identity: Some(ClientIdentity::from(issued)), ..get(url) }
}

#[tokio::test]
async fn a_plain_request_is_recorded_with_its_clear_bytes_and_its_token() {
    let (service, store) = start(site(PlainPort::Serve, None)).await;
    let exchange = client_of(&*service).exchange(&get("http://edition.cnn.com/politics?a=b")).await;
    assert_eq!(response(&exchange).body, "<h1>Politics</h1>");
    assert_eq!(response(&exchange).header("server"), Some("meshproof-embedded"));
    assert_eq!(response(&exchange).header("content-type"), Some("text/html"));
    assert_eq!(response(&exchange).header("content-length"), Some("17"));
    service.settle().await.unwrap();
    let [connection] = connections(&store).try_into().unwrap();
    assert_eq!((connection.port, connection.tls_port, connection.tls), (80, false, None));
    assert_eq!(connection.clear_bytes, exchange.hops[0].sent);
    let [request] = requests(&store).try_into().unwrap();
    assert_eq!(request.connection, connection.number);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/politics?a=b"));
    assert_eq!((request.authority.as_str(), request.version.as_str()), (HOST, "HTTP/1.1"));
    assert_eq!((request.status, request.over_tls, request.port), (200, false, 80));
    assert_eq!(request.header("accept"), Some("*/*"));
    store.with(|all| {
        let evidence = all.iter().find(|e| matches!(e.fact, Fact::Request(_))).unwrap();
        assert_eq!(evidence.token.as_deref(), Some(TOKEN));
        assert_eq!(evidence.side, Side::Service { host: HOST.to_owned() });
    });
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_redirect_leads_to_https_where_http2_is_spoken() {
    let (service, store) = start(open_site()).await;
    let request = RequestSpec { follow_redirects: true, ..get("http://edition.cnn.com/politics?x=1") };
    let exchange = client_of(&*service).exchange(&request).await;
    let [first, second] = exchange.hops.as_slice() else { panic!("{exchange:#?}") };
    let redirect = first.response().unwrap();
    assert_eq!(redirect.status, 301);
    assert_eq!(redirect.header("location"), Some("https://edition.cnn.com/politics?x=1"));
    assert_eq!((second.response().unwrap().status, &*second.response().unwrap().version), (200, "HTTP/2"));
    let tls = second.tls.as_ref().unwrap();
    assert_eq!(tls.server_name.as_deref(), Some(HOST));
    assert_eq!(tls.alpn_offered.as_deref(), Some(&["h2".to_owned(), "http/1.1".to_owned()][..]));
    assert_eq!((tls.alpn.as_deref(), tls.version.as_deref()), (Some("h2"), Some("TLSv1.3")));
    assert_eq!(tls.peer_certificate.as_ref(), Some(parties().server.facts()));
    service.settle().await.unwrap();
    let [_, connection] = connections(&store).try_into().unwrap();
    assert!(connection.tls_port && connection.clear_bytes.is_empty());
    let seen = connection.tls.unwrap();
    assert_eq!(seen.server_name, tls.server_name);
    assert_eq!(seen.alpn_offered, tls.alpn_offered);
    assert_eq!((&seen.alpn, &seen.version, &seen.cipher), (&tls.alpn, &tls.version, &tls.cipher));
    assert_eq!((seen.peer_certificate, seen.peer_verification, seen.failure), (None, None, None));
    let [_, request] = requests(&store).try_into().unwrap();
    assert_eq!(
        (request.version.as_str(), request.over_tls, request.authority.as_str()),
        ("HTTP/2", true, HOST)
    );
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_versions_on_offer_are_the_ones_that_are_spoken() {
    for (versions, http, choice, expected) in [
        (TlsVersions::Tls12, HttpVersions::Http1, HttpChoice::Negotiated, ("TLSv1.2", "HTTP/1.1")),
        (TlsVersions::Tls13, HttpVersions::Http2, HttpChoice::Negotiated, ("TLSv1.3", "HTTP/2")),
        (TlsVersions::Both, HttpVersions::Both, HttpChoice::Http1, ("TLSv1.3", "HTTP/1.1")),
        (TlsVersions::Both, HttpVersions::Both, HttpChoice::Http2, ("TLSv1.3", "HTTP/2")),
    ] {
        let port = TlsPort { versions, http, ..open_port(&parties().server) };
        let (service, store) = start(site(PlainPort::Closed, Some(port))).await;
        let request = RequestSpec { http: choice, ..get("https://edition.cnn.com/politics") };
        let exchange = client_of(&*service).exchange(&request).await;
        assert_eq!(response(&exchange).version, expected.1);
        let seen = connections(&store).remove(0).tls.unwrap();
        assert_eq!(seen.version.as_deref(), Some(expected.0));
        assert!(seen.cipher.unwrap().starts_with("TLS_"), "IANA's name");
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_is_accepted_and_recorded_with_either_refusal() {
    for refusal in [Refusal::Http400, Refusal::Alert] {
        let (service, store) = start(site(PlainPort::Closed, Some(mutual_port(refusal)))).await;
        let exchange =
            client_of(&*service).exchange(&identified("https://edition.cnn.com/", &parties().client)).await;
        assert_eq!(response(&exchange).status, 200, "{refusal:?}");
        let [request] = requests(&store).try_into().unwrap();
        let tls = request.tls.unwrap();
        assert_eq!(tls.peer_verification.as_deref(), Some("SUCCESS"));
        assert_eq!(tls.peer_certificate.as_ref(), Some(parties().client.facts()));
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_only_asks_serves_every_client_and_records_what_each_presents() {
    let (service, store) = start(site(PlainPort::Closed, Some(mutual_port(Refusal::None)))).await;
    let client = client_of(&*service);
    let url = "https://edition.cnn.com/";
    for request in [get(url), identified(url, &parties().stranger), identified(url, &parties().client)] {
        assert_eq!(response(&client.exchange(&request).await).status, 200);
    }
    let seen: Vec<_> = requests(&store).into_iter().map(|r| r.tls.unwrap()).collect();
    assert_eq!(seen[0].peer_certificate, None);
    assert_eq!(seen[1].peer_certificate.as_ref(), Some(parties().stranger.facts()));
    assert!(seen[1].peer_verification.as_ref().unwrap().starts_with("FAILED:"));
    assert_eq!(seen[2].peer_verification.as_deref(), Some("SUCCESS"));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_client_certificate_the_answer_is_400_in_nginx_words() {
    let (service, store) = start(site(PlainPort::Closed, Some(mutual_port(Refusal::Http400)))).await;
    let exchange = client_of(&*service).exchange(&get("https://edition.cnn.com/")).await;
    assert_eq!(response(&exchange).status, 400);
    assert!(response(&exchange).body.contains("400 No required SSL certificate was sent"));
    let [request] = requests(&store).try_into().unwrap();
    assert_eq!(request.status, 400);
    assert_eq!(request.tls.unwrap().peer_verification.as_deref(), Some("NONE"));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_strangers_certificate_gets_400_and_is_recorded_as_failed() {
    let (service, store) = start(site(PlainPort::Closed, Some(mutual_port(Refusal::Http400)))).await;
    let request = identified("https://edition.cnn.com/", &parties().stranger);
    let exchange = client_of(&*service).exchange(&request).await;
    assert_eq!(response(&exchange).status, 400);
    assert!(response(&exchange).body.contains("400 The SSL certificate error"));
    let tls = requests(&store).remove(0).tls.unwrap();
    assert!(tls.peer_verification.unwrap().starts_with("FAILED:"));
    assert_eq!(tls.peer_certificate.as_ref(), Some(parties().stranger.facts()));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn with_alerts_a_missing_and_a_strangers_certificate_are_refused_in_the_handshake() {
    let (service, store) = start(site(PlainPort::Closed, Some(mutual_port(Refusal::Alert)))).await;
    let client = client_of(&*service);
    let missing = client.exchange(&get("https://edition.cnn.com/")).await;
    assert_eq!(error_kind(&missing), ExchangeErrorKind::Tls, "{missing:#?}");
    let stranger = client.exchange(&identified("https://edition.cnn.com/", &parties().stranger)).await;
    assert_eq!(error_kind(&stranger), ExchangeErrorKind::Tls, "{stranger:#?}");
    assert!(stranger.hops[0].tls.as_ref().unwrap().failure.as_ref().unwrap().contains("alert"));
    service.settle().await.unwrap();
    let seen = connections(&store);
    assert_eq!(seen.len(), 2);
    for connection in seen {
        let tls = connection.tls.unwrap();
        assert!(tls.failure.is_some() && tls.server_name.as_deref() == Some(HOST), "{tls:?}");
    }
    assert_eq!(requests(&store).len(), 0);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_believe_the_server_leaves_its_alert_and_no_request() {
    let p = parties();
    let wrong_ca = p.stranger_ca.server(HOST).issue().unwrap();
    let own = meshproof_harness::certificates::KeyPool::fresh();
    let alg = meshproof_harness::certificates::KeyAlgorithm::EcdsaP256;
    for (name, server) in [
        ("wrong CA", wrong_ca),
        ("expired", p.ca.server(HOST).expired().issue().unwrap()),
        ("not yet valid", p.ca.server(HOST).not_yet_valid().issue().unwrap()),
        ("other name", p.ca.server(HOST).with_san(["other.example"]).issue().unwrap()),
        ("no name", p.ca.server(HOST).without_san().issue().unwrap()),
        ("clients only", p.ca.server(HOST).client_auth_only().issue().unwrap()),
        ("self-signed", meshproof_harness::certificates::self_signed(&own, HOST, alg).unwrap()),
    ] {
        let (service, store) = start(site(PlainPort::Closed, Some(open_port(&server)))).await;
        let client = client_of(&*service);
        let refused = client.exchange(&get("https://edition.cnn.com/politics")).await;
        assert_eq!(error_kind(&refused), ExchangeErrorKind::Tls, "{name}");
        service.settle().await.unwrap();
        let [connection] = connections(&store).try_into().unwrap();
        let failure = connection.tls.unwrap().failure.unwrap();
        assert!(failure.contains("alert"), "{name}: {failure}");
        assert_eq!(requests(&store).len(), 0, "{name}");
        // The control: the same server, unverified.
        let request = RequestSpec { accept_any_server: true, ..get("https://edition.cnn.com/politics") };
        assert_eq!(response(&client.exchange(&request).await).status, 200, "{name}");
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_400_and_leaves_its_clear_bytes() {
    let (service, store) = start(open_site()).await;
    let route = meshproof_local::workload::Route::direct(HOST, 443, service.address(443).unwrap());
    let client = meshproof_local::workload::WorkloadClient::new(
        "probe",
        route,
        parties().ca.certificate_pem(),
        &timeouts(LIMIT),
    )
    .unwrap();
    let exchange = client.exchange(&get("http://edition.cnn.com:443/politics")).await;
    assert_eq!(response(&exchange).status, 400);
    assert!(response(&exchange).body.contains("The plain HTTP request was sent to HTTPS port"));
    service.settle().await.unwrap();
    let [connection] = connections(&store).try_into().unwrap();
    assert!(connection.tls_port && connection.tls.is_none());
    assert!(connection.clear_bytes.starts_with("GET /politics HTTP/1.1\r\nHost: edition.cnn.com:443\r\n"));
    let [request] = requests(&store).try_into().unwrap();
    assert_eq!((request.status, request.over_tls, request.port), (400, false, 443));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn garbage_is_recorded_as_clear_bytes_on_both_ports() {
    let (service, store) = start(open_site()).await;
    for (port, bytes) in [
        (80, &b"\x01\x02 nonsense\r\n\r\n"[..]),
        (443, &b"\x01\x02 nonsense\r\n\r\n"[..]),
        // Looks like TLS at first sight.
        (443, &b"\x16\x03\x01\x00\x05hello"[..]),
    ] {
        let before = connections(&store).len();
        let reply = raw(service.address(port).unwrap(), bytes, LIMIT).await;
        assert_ne!(reply.end, RawEnd::Open);
        service.settle().await.unwrap();
        let seen = connections(&store);
        assert_eq!(seen.len(), before + 1);
        let last = seen.last().unwrap();
        assert_eq!(last.clear_bytes, String::from_utf8_lossy(bytes));
        assert_eq!(last.tls.is_some(), bytes[0] == 0x16, "a failed handshake is one");
    }
    assert_eq!(requests(&store).len(), 0);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_seen_on_both_ports() {
    let (service, store) = start(open_site()).await;
    let open = TcpStream::connect(service.address(80).unwrap()).await.unwrap();
    drop(TcpStream::connect(service.address(443).unwrap()).await.unwrap());
    service.settle().await.unwrap();
    let mut ports: Vec<_> = connections(&store).iter().map(|c| (c.port, c.clear_bytes.len())).collect();
    ports.sort_unstable();
    assert_eq!(ports, [(80, 0), (443, 0)]);
    service.stop().await.unwrap();
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settling_under_load_misses_no_connection_and_no_request() {
    let (service, store) = start(site(PlainPort::Serve, Some(open_port(&parties().server)))).await;
    let client = client_of(&*service);
    for round in 1..=10usize {
        let urls = ["http://edition.cnn.com/politics", "https://edition.cnn.com/politics"];
        let sent = (0..10).map(|n| {
            let (client, url) = (client.clone(), urls[n % 2]);
            tokio::spawn(async move { client.exchange(&get(url)).await })
        });
        for exchange in futures_util::future::join_all(sent).await {
            assert_eq!(response(&exchange.unwrap()).status, 200);
        }
        for n in 0..20 {
            let port = [80, 443][n % 2];
            let mut half = TcpStream::connect(service.address(port).unwrap()).await.unwrap();
            half.write_all(b"GET /half").await.unwrap();
        }
        service.settle().await.unwrap();
        assert_eq!(requests(&store).len(), 10 * round);
        assert_eq!(connections(&store).len(), 30 * round);
        let halves = connections(&store).iter().filter(|c| c.clear_bytes == "GET /half").count();
        assert_eq!(halves, 20 * round);
    }
    service.stop().await.unwrap();
}

/// All at once from the service's point of view: the connections are made while its runtime has no time for them.
#[tokio::test]
async fn half_sent_requests_that_wait_in_the_queue_are_settled_too() {
    use std::io::Write;
    let (service, store) = start(site(PlainPort::Serve, None)).await;
    for round in 1..=5usize {
        for _ in 0..100 {
            let mut half = std::net::TcpStream::connect(service.address(80).unwrap()).unwrap();
            half.write_all(b"GET /half").unwrap();
        }
        service.settle().await.unwrap();
        assert_eq!(connections(&store).iter().filter(|c| c.clear_bytes == "GET /half").count(), 100 * round);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn echo_says_what_arrived_and_a_large_body_arrives_whole() {
    let (service, store) = start(site(PlainPort::Serve, Some(open_port(&parties().server)))).await;
    let body = bytes::Bytes::from(vec![b'x'; 3_000_000]);
    let expected = meshproof_harness::digest::sha256(&body);
    for url in ["http://edition.cnn.com/echo?q", "https://edition.cnn.com/echo?q"] {
        let request = RequestSpec {
            method: http::Method::POST,
            body: body.clone(),
            headers: vec![("x-custom".to_owned(), "yes".to_owned())],
            ..get(url)
        };
        let exchange = client_of(&*service).exchange(&request).await;
        let seen: serde_json::Value = serde_json::from_str(&response(&exchange).body).unwrap();
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["target"], "/echo?q");
        assert_eq!(
            (&seen["body_bytes"], &seen["body_sha256"]),
            (&3_000_000.into(), &expected.as_str().into())
        );
        let headers = seen["headers"].as_array().unwrap();
        assert!(headers.iter().any(|h| h["name"] == "x-custom" && h["value"] == "yes"));
    }
    assert!(requests(&store).iter().all(|r| r.status == 200));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_body_that_never_ends_is_a_request_without_an_answer() {
    let (service, store) = start(site(PlainPort::Serve, None)).await;
    let mut stream = TcpStream::connect(service.address(80).unwrap()).await.unwrap();
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nslow").await.unwrap();
    service.settle().await.unwrap();
    let [request] = requests(&store).try_into().unwrap();
    assert_eq!((request.method.as_str(), request.status), ("POST", 0));
    service.stop().await.unwrap();
}

/// Asks for one page, or for two in a row where the connection ought to stay.
pub(crate) async fn assert_keeps_alive(service: &dyn RunningService, keep_alive: bool) {
    let one = "GET /politics HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET /politics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (sent, expected) = if keep_alive { (format!("{one}{last}"), 2) } else { (one.to_owned(), 1) };
    let reply = raw(service.address(80).unwrap(), sent.as_bytes(), LIMIT).await;
    let text = String::from_utf8(reply.received).unwrap();
    assert_eq!((text.matches("HTTP/1.1 ").count(), reply.end), (expected, RawEnd::Closed), "{text}");
    assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
}

#[tokio::test]
async fn a_service_without_keep_alive_ends_each_connection_after_its_answer() {
    for keep_alive in [false, true] {
        let (service, _) = start(ExternalSpec { keep_alive, ..open_site() }).await;
        assert_keeps_alive(&*service, keep_alive).await;
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn head_gets_the_length_and_no_body_and_other_methods_get_405() {
    let (service, store) = start(site(PlainPort::Serve, Some(open_port(&parties().server)))).await;
    let client = client_of(&*service);
    for url in ["http://edition.cnn.com/politics", "https://edition.cnn.com/politics"] {
        let head = client.exchange(&RequestSpec { method: http::Method::HEAD, ..get(url) }).await;
        assert_eq!((response(&head).status, response(&head).body_bytes), (200, 0));
        assert_eq!(response(&head).header("content-length"), Some("17"));
        let delete = client.exchange(&RequestSpec { method: http::Method::DELETE, ..get(url) }).await;
        assert_eq!(response(&delete).status, 405);
    }
    let missing = client.exchange(&get("http://edition.cnn.com/other")).await;
    assert_eq!(response(&missing).status, 404);
    let statuses: Vec<_> = requests(&store).iter().map(|r| r.status).collect();
    assert_eq!(statuses, [200, 405, 200, 405, 404]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_huge_header_is_refused_and_nothing_breaks() {
    let (service, store) = start(site(PlainPort::Serve, None)).await;
    let huge = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    let reply = raw(service.address(80).unwrap(), huge.as_bytes(), LIMIT).await;
    assert_ne!(reply.end, RawEnd::Open);
    let after = client_of(&*service).exchange(&get("http://edition.cnn.com/politics")).await;
    assert_eq!(response(&after).status, 200);
    service.settle().await.unwrap();
    assert!(connections(&store).iter().all(|c| c.clear_bytes.len() <= 4096));
    assert_eq!(requests(&store).len(), 1);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn after_stop_no_port_is_open_and_open_connections_have_ended() {
    let (service, _store) = start(open_site()).await;
    let addresses = [service.address(80).unwrap(), service.address(443).unwrap()];
    let mut open = TcpStream::connect(addresses[0]).await.unwrap();
    service.settle().await.unwrap();
    service.stop().await.unwrap();
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut open, &mut byte);
    let ended = tokio::time::timeout(LIMIT, read).await.expect("teardown: the connection has ended");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    for address in addresses {
        assert_eq!(raw(address, b"", LIMIT).await.end, RawEnd::Refused);
    }
    // Stopping again, and settling what is stopped, is no error.
    service.settle().await.unwrap();
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_dropped_stops_listening_and_ends_open_connections() {
    let (service, _store) = start(open_site()).await;
    let addresses = [service.address(80).unwrap(), service.address(443).unwrap()];
    let mut open = TcpStream::connect(addresses[0]).await.unwrap();
    service.settle().await.unwrap();
    drop(service);
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read(&mut open, &mut byte);
    let ended = tokio::time::timeout(LIMIT, read).await.expect("teardown: the connection has ended");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    for address in addresses {
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, refused).await.expect("teardown: the port is closed");
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_a_start_error_that_does_not_show_it() {
    let port = TlsPort {
        key: PrivateKeyPem("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n".to_owned()),
        ..open_port(&parties().server)
    };
    let failed = start_embedded(site(PlainPort::Closed, Some(port)), Store::new(), &Timeouts::default())
        .await
        .err()
        .unwrap();
    assert!(matches!(failed, ExternalError::Start { .. }));
    assert!(!format!("{failed} {failed:?}").contains("c2VjcmV0"));
}
