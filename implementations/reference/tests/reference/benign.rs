//! Each benign variant beside the honest reference: requests succeed as before, and one thing is unusual.

use std::collections::BTreeSet;

use meshproof_reference::Variant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::situation::{Situation, SituationOutcome, differs, run, status, usual};
use crate::support::client::TestClient;
use crate::support::plans::{self, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, free, reference, until};

#[tokio::test]
async fn client_hello_is_unusual_and_accepted() {
    let retried = |saw: &SituationOutcome| format!("{} {}", saw.status, saw.hellos[0].retried);
    differs("hello-retry-request", usual, retried, "200 false", "200 true").await;
    let offers = |saw: &SituationOutcome| format!("{} {}", saw.status, saw.hellos[0].alpn.len());
    differs("grease-alpn", usual, offers, "200 1", "200 2").await;
    differs("grease-alpn-first", usual, offers, "200 1", "200 2").await;
    differs("no-alpn-for-http1", usual, offers, "200 1", "200 0").await;
    differs("post-quantum-key-share", usual, group, "200 X25519", "200 X25519MLKEM768").await;
    let cipher = |saw: &SituationOutcome| format!("{} {}", saw.status, saw.hellos[0].first_cipher);
    let first = run(None, &usual).await;
    assert_ne!(cipher(&run(Some("other-cipher-order"), &usual).await), cipher(&first));
    // The server reads whatever the records hold.
    assert_eq!(status(&run(Some("small-tls-records"), &usual).await), "200");
}

#[tokio::test]
async fn session_is_resumed_on_the_next_connection() {
    let closed = |s: &mut Situation| {
        s.target = "/closed".to_owned();
        s.times = 2;
    };
    let resumed = |saw: &SituationOutcome| saw.hellos.last().is_some_and(|hello| hello.resumed).to_string();
    differs("resume-sessions", closed, resumed, "false", "true").await;
}

fn group(saw: &SituationOutcome) -> String {
    format!("{} {}", saw.status, saw.hellos[0].group)
}

#[tokio::test]
async fn connection_comes_from_another_address_or_is_slow() {
    let source = |saw: &SituationOutcome| saw.lines[0].contains(" 127.0.0.2:").to_string();
    differs("other-source-address", usual, source, "false", "true").await;
    assert_eq!(status(&run(Some("slow-convergence"), &usual).await), "200");
    let slow = |saw: &SituationOutcome| {
        let service_time = saw.headers["x-envoy-upstream-service-time"].to_str().unwrap();
        format!("{} {}", saw.status, service_time.parse::<u64>().unwrap() >= 300)
    };
    // Only a lower bound: the honest reference may be slow too on a busy machine.
    let outcome = run(Some("slow-hops"), &usual).await;
    assert_eq!(slow(&outcome), "200 true");
}

#[tokio::test]
async fn message_has_more_headers_or_others() {
    let via = |saw: &SituationOutcome| {
        let request = saw.tls_requests[0].headers.contains_key("via");
        format!("{} {request} {}", saw.status, saw.headers.contains_key("via"))
    };
    differs("extra-via", usual, via, "200 false false", "200 true true").await;
    let server = |saw: &SituationOutcome| saw.headers["server"].to_str().unwrap().to_owned();
    differs("own-server-header", usual, server, "istio-envoy", "unusual-proxy").await;
    let chunked = |s: &mut Situation| s.target = "/chunks".to_owned();
    let order = |saw: &SituationOutcome| format!("{} {}", saw.status, saw.trailer_names.join(" "));
    differs("reversed-trailer-order", chunked, order, "200 x-sum x-after", "200 x-after x-sum").await;
    let traced = |saw: &SituationOutcome| saw.tls_requests[0].headers.contains_key("traceparent").to_string();
    differs("tracing-headers", usual, traced, "false", "true").await;
    let has = |name: &'static str| move |saw: &SituationOutcome| saw.headers.contains_key(name).to_string();
    differs("envoy-response-headers", usual, has("x-envoy-attempt-count"), "false", "true").await;
    let pragma = |s: &mut Situation| s.headers = vec![("pragma", "no-cache")];
    let cache_control =
        |saw: &SituationOutcome| saw.tls_requests[0].headers.contains_key("cache-control").to_string();
    differs("pragma-as-cache-control", pragma, cache_control, "false", "true").await;
    differs("keep-alive-header", usual, has("keep-alive"), "false", "true").await;
    let date =
        |saw: &SituationOutcome| saw.headers["date"].to_str().unwrap().starts_with("Thu, 05").to_string();
    differs("own-date-header", usual, date, "false", "true").await;
}

#[tokio::test]
async fn headers_come_in_another_order_or_as_lists() {
    let several = |s: &mut Situation| s.headers = vec![("x-a", "1"), ("x-b", "2"), ("x-a", "3")];
    let order = |saw: &SituationOutcome| {
        let names = saw.tls_requests[0].headers.keys().map(|name| name.as_str().to_owned());
        names.filter(|name| name.starts_with("x-a") || name.starts_with("x-b")).collect::<Vec<_>>().join(" ")
    };
    differs("reversed-header-order", several, order, "x-a x-b", "x-b x-a").await;
    let lines = |saw: &SituationOutcome| {
        let all = saw.tls_requests[0].headers.get_all("x-a").iter();
        all.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" and ")
    };
    differs("combined-field-lines", several, lines, "1 and 3", "1, 3").await;
}

#[tokio::test]
async fn log_is_in_json() {
    let json = |saw: &SituationOutcome| saw.lines[0].starts_with('{').to_string();
    differs("json-log", usual, json, "false", "true").await;
    let empty = |saw: &SituationOutcome| saw.lines[0].contains("\"requested_server_name\":\"\"").to_string();
    differs("json-log-with-empty-values", usual, empty, "false", "true").await;
    let mapped = |saw: &SituationOutcome| saw.lines[0].contains("[::ffff:127.0.0.1]:").to_string();
    differs("log-ipv4-as-ipv6", usual, mapped, "false", "true").await;
}

#[tokio::test]
async fn refusal_has_another_form() {
    let distrust = |s: &mut Situation| s.trusted = false;
    differs("refuse-with-502", distrust, status, "503", "502").await;
    // Without an answer there is no status.
    differs("refuse-by-closing", distrust, status, "503", "0").await;
    differs("refuse-by-closing", usual, status, "200", "200").await;
}

#[tokio::test]
async fn header_names_are_written_in_title_case_in_both_directions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let received = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let read = tcp.read(&mut head).await.unwrap();
        tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-tag: 1\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let (mut bench, bind) = (Bench::with(reference(Some("title-case-headers")), "").await, free());
    bench.apply(&plans::plan(vec![plans::sidecar(bind, plans::cluster("c", upstream, None))])).await;
    let mut client = tokio::net::TcpStream::connect(bind).await.unwrap();
    client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-tag: 1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = client.read(&mut answer).await.unwrap();
    assert!(received.await.unwrap().contains("\r\nX-Tag: 1\r\n"));
    assert!(String::from_utf8_lossy(&answer[..read]).contains("\r\nX-Tag: 1\r\n"));
}

/// The connections that a server receives for one request, once there are `expected`.
async fn connections_for_one_request(variant: &str, expected: usize) -> Bench {
    let server = TestServer::plain().await;
    let (mut bench, bind) = (Bench::with(reference(Some(variant)), "").await, free());
    bench.apply(&plans::plan(vec![plans::sidecar(bind, plans::cluster("c", server.address, None))])).await;
    assert_eq!(TestClient::connect(bind).await.get(HOST, "/").await.status.as_u16(), 200);
    let memory = server.memory.clone();
    until("the server has its connections", move || memory.connections() >= expected).await;
    assert_eq!(server.memory.requests().len(), 1);
    bench
}

#[tokio::test]
async fn server_gets_connections_that_carry_no_request() {
    connections_for_one_request("spare-connections", 2).await;
    connections_for_one_request("connections-in-advance", 2).await;
    let checked = connections_for_one_request("tcp-health-checks", 4).await;
    checked.plane.stop().await.unwrap();
}

/// A new benign variant must appear in one of the tests of this module.
#[test]
fn every_benign_variant_is_shown_at_work() {
    let text = include_str!("benign.rs");
    let unshown: BTreeSet<&str> = Variant::benign()
        .filter(|v| v.placement().is_none())
        .map(Variant::name)
        .filter(|name| !text.contains(&format!("\"{name}\"")))
        .collect();
    assert_eq!(unshown, BTreeSet::new());
}
