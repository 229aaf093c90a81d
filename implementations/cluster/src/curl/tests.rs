use bytes::Bytes;
use proptest::prelude::*;

use meshproof_harness::digest::sha256;

use super::super::trace::MARK;
use super::*;
use crate::api::ExecOutput;

/// As `--trace` writes a block.
fn block(kind: &str, text: &str) -> String {
    block_of(kind, text.as_bytes())
}

fn block_of(kind: &str, bytes: &[u8]) -> String {
    let mut text = format!("{kind}, {} bytes ({:#x})\n", bytes.len(), bytes.len());
    for (line, chunk) in bytes.chunks(16).enumerate() {
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

fn try_read(request: &RequestSpec, output: &ExecOutput) -> Result<Exchange, String> {
    exchange(request, &request.url, output, Duration::from_millis(5))
}

fn read(request: &RequestSpec, output: &ExecOutput) -> Exchange {
    try_read(request, output).unwrap()
}

/// The first bytes that a TLS client sends to a server of this name.
fn client_hello(server_name: &str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = server_name.to_owned().try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut sent = Vec::new();
    connection.write_tls(&mut sent).unwrap();
    sent
}

/// The same as curl's trace has it, when it is built with OpenSSL: the record's header and its content apart.
fn traced_hello(server_name: &str) -> String {
    let sent = client_hello(server_name);
    let (header, content) = sent.split_at(5);
    let info = "== Info: TLSv1.3 (OUT), TLS handshake, Client hello (1):\n";
    [block_of("=> Send SSL data", header), info.to_owned(), block_of("=> Send SSL data", content)].concat()
}

fn following() -> RequestSpec {
    RequestSpec { follow_redirects: true, ..RequestSpec::get(URL, "t") }
}

#[test]
fn a_plain_request_shows_its_bytes_and_its_response() {
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
         == Info: SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384\n== Info: ALPN: server accepted \
         h2\n{}{}",
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
    assert_eq!(tls.server_name, None, "nothing shows which server name was sent");
}

#[test]
fn the_server_name_is_the_one_that_was_sent_and_not_the_host_of_the_url() {
    let request = RequestSpec::get("https://edition.cnn.com/politics", "t");
    let answered = [sent("/politics"), received(&["HTTP/1.1 200 OK"])].concat();
    for sent_name in ["edition.cnn.com", "another.example"] {
        let trace = format!("== Info:   Trying 10.1.0.7:443...\n{}{answered}", traced_hello(sent_name));
        let exchange = read(&request, &output(0, "", &trace));
        let tls = exchange.hops[0].tls.as_ref().unwrap();
        assert_eq!(tls.server_name.as_deref(), Some(sent_name));
        assert_eq!(tls.alpn_offered.as_deref().unwrap(), ["h2"]);
    }
    let untraced = read(&request, &output(0, "", &answered));
    assert_eq!(untraced.hops[0].tls.as_ref().unwrap().server_name, None);
}

#[test]
fn a_handshake_that_fails_shows_the_server_name_that_was_sent() {
    let request = RequestSpec::get("https://edition.cnn.com/politics", "t");
    let words = "curl: (35) OpenSSL/3.0.19: error:0A000410:SSL routines::sslv3 alert handshake failure\n";
    let failed = |trace: String| {
        let exchange = read(&request, &output(35, "", &format!("{trace}{words}")));
        exchange.hops[0].tls.clone().unwrap()
    };
    let tls = failed(format!("== Info:   Trying 10.1.0.7:443...\n{}", traced_hello("other.example")));
    assert_eq!(tls.server_name.as_deref(), Some("other.example"));
    assert!(tls.failure.unwrap().contains("handshake failure"));
    assert_eq!(failed(String::new()).server_name, None);
}

#[test]
fn a_request_that_the_suite_could_not_send_is_an_error_and_not_an_observation() {
    let unreachable = "== Info:   Trying 10.1.0.7:8081...\n\
                       == Info: connect to 10.1.0.7 port 8081 failed: No route to host\n\
                       curl: (7) Failed to connect to 10.1.0.7 port 8081: Couldn't connect to server\n";
    for (code, words) in [
        (7, unreachable),
        (6, "curl: (6) Could not resolve host: edition.cnn.com\n"),
        (27, "curl: (27) Out of memory\n"),
        (58, "curl: (58) could not load PEM client certificate\n"),
        (77, "curl: (77) error setting certificate file\n"),
        (2, "curl: option --no-such: is unknown\n"),
        (127, "sh: curl: not found\n"),
    ] {
        let error = try_read(&RequestSpec::get(URL, "t"), &output(code, "", words)).unwrap_err();
        assert!(error.contains(&format!("exit code {code}")), "{error}");
    }
}

#[test]
fn an_exit_code_that_the_suite_does_not_know_is_an_error() {
    for code in [-1, 0, 99, 137, 255] {
        let refused = try_read(&RequestSpec::get(URL, "t"), &output(code, "", ""));
        assert!(refused.is_err(), "{code}: {refused:?}");
    }
    let unreported = ExecOutput { code: None, ..output(0, "", "") };
    assert!(try_read(&RequestSpec::get(URL, "t"), &unreported).is_err());
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
fn each_exit_code_that_is_an_observation_has_its_kind() {
    use ExchangeErrorKind::{ConnectionClosed, ConnectionRefused, Protocol, Timeout, Tls};
    for (code, kind) in
        [(7, ConnectionRefused), (52, ConnectionClosed), (35, Tls), (60, Tls), (28, Timeout), (1, Protocol)]
    {
        let words = format!("curl: ({code}) it did not work\n");
        let exchange = read(&RequestSpec::get(URL, "t"), &output(code, "", &words));
        let HopResult::Error(error) = &exchange.hops[0].result else { panic!("{exchange:?}") };
        assert_eq!(error.kind, kind, "{code}");
        assert!(error.message.contains("it did not work"), "{}", error.message);
    }
}

#[test]
fn a_connection_closed_while_http2_begins_counts_as_closed() {
    let kind = |words: &str| {
        let exchange = read(&RequestSpec::get(URL, "t"), &output(16, "", words));
        let HopResult::Error(error) = &exchange.hops[0].result else { panic!("{exchange:?}") };
        error.kind
    };
    assert_eq!(kind("curl: (16) Send failure: Broken pipe\n"), ExchangeErrorKind::ConnectionClosed);
    assert_eq!(kind("curl: (16) Error in the HTTP2 framing layer\n"), ExchangeErrorKind::Protocol);
}

#[test]
fn a_connection_that_ends_within_a_body_is_not_a_response() {
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
fn an_interim_response_is_distinguished_from_the_final_one() {
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
fn text_in_a_body_is_not_mistaken_for_curls_own() {
    // The trace has a server's bytes in hexadecimal: they cannot begin a line.
    let body = "\n=> Send header, 1 bytes (0x1)\n0000: 47 G\n";
    let trace = format!("{}{}{}", sent("/"), received(&["HTTP/1.1 200 OK"]), block("<= Recv data", body));
    let exchange = read(&RequestSpec::get(URL, "t"), &output(0, body, &trace));
    assert_eq!(exchange.hops.len(), 1);
}

proptest! {
    #[test]
    fn any_output_of_curl_can_be_read(
        code in -1..100i32,
        stdout in proptest::collection::vec(any::<u8>(), 0..200),
        stderr in "((=> Send header, 3 bytes|<= Recv header, 9 bytes|== Info: (ALPN: offers |SSL connection \
            using )?|000[0-9]: ([0-9a-f]{2} ){0,17}|== Meshproof|\\PC{0,20})\n){0,40}",
        follow in any::<bool>(),
    ) {
        let output = ExecOutput {
            stdout: stdout.into(),
            stderr: Bytes::from(stderr.into_bytes()),
            code: Some(code),
            truncated: false,
        };
        let request = RequestSpec { follow_redirects: follow, ..RequestSpec::get(URL, "t") };
        if let Ok(exchange) = try_read(&request, &output) {
            prop_assert!((1..=MAX_HOPS + 1).contains(&exchange.hops.len()));
        }
    }
}

#[test]
fn a_received_alert_and_a_reset_connection_are_different_failures() {
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
