use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// As `--trace` writes a block.
fn block(kind: &str, bytes: &str) -> String {
    let mut text = format!("{kind}, {} bytes ({:#x})\n", bytes.len(), bytes.len());
    for (line, chunk) in bytes.as_bytes().chunks(16).enumerate() {
        let hexadecimal: String = chunk.iter().map(|b| format!("{b:02x} ")).collect();
        let shown: String =
            chunk.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
        text.push_str(&format!("{:04x}: {hexadecimal:<48}{shown}\n", line * 16));
    }
    text
}

fn sent(path: &str) -> String {
    block("=> Send header", &format!("GET {path} HTTP/1.1\r\nHost: edition.cnn.com\r\n\r\n"))
}

fn received(lines: &[&str]) -> String {
    let line = |l: &&str| block("<= Recv header", &format!("{l}\r\n"));
    lines.iter().map(line).chain([block("<= Recv header", "\r\n")]).collect()
}

fn output(code: i32, stdout: &str, stderr: &str) -> ExecOutput {
    ExecOutput {
        stdout: Bytes::copy_from_slice(stdout.as_bytes()),
        stderr: Bytes::copy_from_slice(stderr.as_bytes()),
        code: Some(code),
        truncated: false,
    }
}

const URL: &str = "http://edition.cnn.com/politics";

fn read(request: &RequestSpec, output: &ExecOutput) -> Exchange {
    exchange(request, &request.url, output, Duration::from_millis(5))
}

fn following() -> RequestSpec {
    RequestSpec { follow_redirects: true, ..RequestSpec::get(URL, "t") }
}

#[test]
fn a_plain_request_shows_its_bytes_and_its_answer() {
    let trace = format!(
        "== Info:   Trying 10.1.0.7:80...\n{}{}{}\n{MARK}\n",
        sent("/politics"),
        received(&["HTTP/1.1 200 OK", "Content-Type: text/html"]),
        block("<= Recv data", "hello")
    );
    let exchange = read(&RequestSpec::get(URL, "t"), &output(0, "hello", &trace));
    let [hop] = exchange.hops.as_slice() else { panic!("{exchange:?}") };
    assert_eq!(hop.sent, "GET /politics HTTP/1.1\r\nHost: edition.cnn.com\r\n\r\n");
    assert_eq!(hop.sent_bytes, 49);
    let response = hop.response().unwrap();
    assert_eq!((response.version.as_str(), response.status), ("HTTP/1.1", 200));
    assert_eq!(response.header("content-type"), Some("text/html"));
    assert_eq!((response.body.as_str(), response.body_bytes), ("hello", 5));
    assert_eq!(response.body_sha256.as_deref(), Some(sha256(b"hello").as_str()));
}

#[test]
fn a_redirect_that_is_followed_is_two_hops_and_only_the_second_has_tls() {
    let trace = format!(
        "{}{}== Info:   Trying 10.1.0.7:443...\n== Info: ALPN: offers h2,http/1.1\n\
         == Info: SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384\n== Info: ALPN: server accepted h2\n{}{}",
        sent("/politics"),
        received(&["HTTP/1.1 301 Moved Permanently", "Location: https://edition.cnn.com/politics"]),
        sent("/politics"),
        received(&["HTTP/2 200 "]),
    );
    let exchange = read(&following(), &output(0, "", &trace));
    let statuses: Vec<_> = exchange.hops.iter().map(|h| h.response().unwrap().status).collect();
    assert_eq!(statuses, [301, 200]);
    let second = &exchange.hops[1];
    assert_eq!(second.url, "https://edition.cnn.com/politics");
    assert!(exchange.hops[0].tls.is_none() && second.sent.is_empty());
    let tls = second.tls.as_ref().unwrap();
    assert_eq!(tls.alpn_offered.as_deref().unwrap(), ["h2", "http/1.1"]);
    assert_eq!((tls.alpn.as_deref(), tls.version.as_deref()), (Some("h2"), Some("TLSv1.3")));
    assert_eq!(tls.server_name.as_deref(), Some("edition.cnn.com"));
}

#[test]
fn the_servers_certificate_is_the_first_that_follows_the_mark() {
    let ca = meshproof_harness::certificates::Authority::new(
        meshproof_harness::certificates::KeyAlgorithm::EcdsaP256,
    )
    .unwrap();
    let server = ca.server("edition.cnn.com").issue().unwrap();
    let trace = format!(
        "{}{}\n{MARK}\nSubject:CN = edition.cnn.com\n{}{}",
        sent("/"),
        received(&["HTTP/1.1 204 No Content"]),
        server.certificate_pem(),
        ca.certificate_pem()
    );
    let request = RequestSpec::get("https://edition.cnn.com/", "t");
    let exchange = read(&request, &output(0, "", &trace));
    let seen = exchange.hops[0].tls.as_ref().unwrap().peer_certificate.clone().unwrap();
    assert_eq!(seen.sha256.as_deref(), Some(server.sha256()));
}

#[test]
fn each_way_to_fail_has_its_sort() {
    use ExchangeErrorKind::{ClientFailed, ConnectionClosed, ConnectionRefused, Protocol, Timeout, Tls};
    for (code, kind) in [
        (7, ConnectionRefused),
        (52, ConnectionClosed),
        (35, Tls),
        (60, Tls),
        (28, Timeout),
        (1, Protocol),
        (6, ClientFailed),
        (137, ClientFailed),
    ] {
        let words = format!("curl: ({code}) it did not work\n");
        let exchange = read(&RequestSpec::get(URL, "t"), &output(code, "", &words));
        let HopResult::Error(error) = &exchange.hops[0].result else { panic!("{exchange:?}") };
        assert_eq!(error.kind, kind, "{code}");
        assert!(error.message.contains("it did not work"), "{}", error.message);
    }
}

#[test]
fn who_is_cut_off_while_http2_begins_is_cut_off() {
    let kind = |words: &str| {
        let exchange = read(&RequestSpec::get(URL, "t"), &output(16, "", words));
        let HopResult::Error(error) = &exchange.hops[0].result else { panic!("{exchange:?}") };
        error.kind
    };
    assert_eq!(kind("curl: (16) Send failure: Broken pipe\n"), ExchangeErrorKind::ConnectionClosed);
    assert_eq!(kind("curl: (16) Error in the HTTP2 framing layer\n"), ExchangeErrorKind::Protocol);
}

#[test]
fn a_connection_that_ends_within_a_body_is_no_response() {
    let trace = format!("{}{}curl: (18) transfer closed\n", sent("/"), received(&["HTTP/1.1 200 OK"]));
    let exchange = read(&RequestSpec::get(URL, "t"), &output(18, "hal", &trace));
    assert_eq!(exchange.hops.len(), 1);
    assert!(exchange.hops[0].response().is_none());
}

#[test]
fn a_refused_connection_after_a_redirect_is_a_hop_of_its_own() {
    let moved = received(&["HTTP/1.1 301 Moved", "Location: https://edition.cnn.com/politics"]);
    let trace = format!("{}{moved}curl: (35) reset\n", sent("/politics"));
    let exchange = read(&following(), &output(35, "", &trace));
    assert_eq!(exchange.hops.len(), 2);
    assert_eq!(exchange.hops[0].response().unwrap().status, 301);
    assert_eq!(exchange.hops[1].url, "https://edition.cnn.com/politics");
    assert!(exchange.hops[1].response().is_none());
}

#[test]
fn an_interim_response_is_told_apart_from_the_final_one() {
    let trace = format!(
        "{}{}{}{}",
        sent("/"),
        received(&["HTTP/1.1 100 Continue"]),
        block("=> Send data", "body"),
        received(&["HTTP/1.1 200 OK"])
    );
    let exchange = read(&RequestSpec::get(URL, "t"), &output(0, "", &trace));
    let response = exchange.hops[0].response().unwrap();
    assert_eq!((response.status, response.informational.as_slice()), (200, [100].as_slice()));
    assert_eq!(exchange.hops[0].sent_bytes, 49 - 8 + 4);
}

#[test]
fn a_text_of_the_bodys_own_is_not_taken_for_curls() {
    // What a server sends stands in the trace as digits: it cannot begin a line.
    let body = "\n=> Send header, 1 bytes (0x1)\n0000: 47 G\n";
    let trace = format!("{}{}{}", sent("/"), received(&["HTTP/1.1 200 OK"]), block("<= Recv data", body));
    let exchange = read(&RequestSpec::get(URL, "t"), &output(0, body, &trace));
    assert_eq!(exchange.hops.len(), 1);
}

proptest! {
    #[test]
    fn whatever_curl_says_is_read_to_its_end(
        code in -1..100i32,
        stdout in proptest::collection::vec(any::<u8>(), 0..200),
        stderr in "((=> Send header, 3 bytes|<= Recv header, 9 bytes|== Info: (ALPN: offers |SSL connection using )?|000[0-9]: ([0-9a-f]{2} ){0,17}|== Meshproof|\\PC{0,20})\n){0,40}",
        follow in any::<bool>(),
    ) {
        let output = ExecOutput {
            stdout: stdout.into(),
            stderr: Bytes::from(stderr.into_bytes()),
            code: Some(code),
            truncated: false,
        };
        let request = RequestSpec { follow_redirects: follow, ..RequestSpec::get(URL, "t") };
        let exchange = read(&request, &output);
        prop_assert!((1..=MAX_HOPS + 1).contains(&exchange.hops.len()));
    }
}

#[test]
fn an_alert_that_arrived_is_told_from_a_connection_that_was_reset() {
    let of = |message: &str| {
        read(&RequestSpec::get(URL, "t"), &output(35, "", message)).hops[0]
            .tls
            .clone()
            .unwrap()
            .failure_kind
            .unwrap()
    };
    assert_eq!(
        of("curl: (35) error:0A000418:SSL routines::tlsv1 alert unknown ca\n"),
        TlsFailure::AlertReceived { alert: "unknown_ca".to_owned() }
    );
    assert_eq!(of("curl: (35) Recv failure: Connection reset by peer\n"), TlsFailure::PeerVanished);
    assert_eq!(of("curl: (60) SSL certificate problem: unable to get local issuer\n"), TlsFailure::Other);
}
