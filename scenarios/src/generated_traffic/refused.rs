//! Servers that must be refused, asked for everything that a client can ask for. Whom a proxy connects to is decided before what is
//! asked (Istio reference, DestinationRule, "ClientTLSSettings"), so that no request is an exception.

use meshproof_harness::mesh::{Client, Mesh, Stop};
use meshproof_harness::traffic::{
    AnswerFraming, AnswerSpec, Aspect, ClientHttp, GeneratedConnection, GeneratedExchange, Grammar,
};

use super::{ANY, REFUSED};

const METHODS: [&str; 8] = ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "X-UNKNOWN"];
/// Paths for which a proxy could make an exception.
const TARGETS: [&str; 6] =
    ["/healthz", "/.well-known/acme-challenge/token", "//", "/?q=1", "/favicon.ico", "/metrics"];
const HEADERS: [(&str, &str); 10] = [
    ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
    ("cookie", "session=0123456789abcdef"),
    ("accept", "text/event-stream"),
    ("range", "bytes=0-99"),
    ("cache-control", "no-cache"),
    ("purpose", "prefetch"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-for", "127.0.0.1"),
    ("connection", "close"),
    ("expect", "100-continue"),
];

pub(super) async fn story(mesh: &Mesh, client: &Client<'_>, grammar: Grammar<'_>) -> Result<(), Stop> {
    mesh.step("Servers that must be refused, whatever is asked");
    let mut connections = vec![GeneratedConnection::of(GeneratedExchange::plain(ANY))];
    connections.extend(REFUSED.iter().flat_map(|host| to(host, grammar)));
    let asked = client.quiet(&connections).await?;
    mesh.check("verified-whatever-is-asked", asked.accounted_for(Aspect::Preservation))
}

fn to(host: &str, grammar: Grammar<'_>) -> Vec<GeneratedConnection> {
    let plain = || GeneratedExchange::plain(host);
    let with_body = |method: &str, body: usize, chunked: bool| GeneratedExchange {
        method: method.to_owned(),
        body,
        chunked,
        ..plain()
    };
    let methods = METHODS.map(|method| with_body(method, 0, false));
    let targets = TARGETS.map(|target| GeneratedExchange { target: target.to_owned(), ..plain() });
    let long = GeneratedExchange { target: format!("/{}", "long/".repeat(400)), ..plain() };
    let headers = HEADERS.map(|(name, value)| {
        let (name, value) = (name.to_owned(), value.to_owned());
        let body = if name == "expect" { 100 } else { 0 };
        let method = if body > 0 { "POST" } else { "GET" };
        GeneratedExchange { headers: vec![(name, value)], ..with_body(method, body, false) }
    });
    let hosts = [host.to_ascii_uppercase(), format!("{host}:80")]
        .map(|written| GeneratedExchange { host_header: Some(written), ..plain() });
    let bodies =
        [(1, false), (100, true), (10_000, true)].map(|(length, chunked)| with_body("POST", length, chunked));
    let trailers = GeneratedExchange {
        trailers: vec![("x-checksum".to_owned(), "sha-256=:AAAA:".to_owned())],
        ..with_body("POST", 100, true)
    };
    let web_socket = (!grammar.web_socket.is_empty()).then(|| GeneratedExchange {
        messages: vec!["hello".to_owned()],
        answer: AnswerSpec { status: 101, framing: AnswerFraming::WebSocket, ..AnswerSpec::plain() },
        ..plain()
    });
    let single = methods.into_iter().chain(targets).chain([long, trailers]).chain(headers).chain(hosts);
    let single = single.chain(bodies).chain(web_socket).map(GeneratedConnection::of);
    let otherwise = [ClientHttp::Http10, ClientHttp::Pipelined]
        .into_iter()
        .chain(grammar.http2.then_some(ClientHttp::Http2));
    let otherwise = otherwise.map(|client| GeneratedConnection {
        client,
        segment: None,
        exchanges: vec![plain(); if client == ClientHttp::Http10 { 1 } else { 3 }],
    });
    let in_segments = GeneratedConnection { segment: Some(7), ..GeneratedConnection::of(plain()) };
    single.chain(otherwise).chain([in_segments]).collect()
}
