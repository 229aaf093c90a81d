//! The situation in which most variants differ from the honest reference: an originating proxy before an
//! external service with a plain port and a TLS port.

use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use meshproof_model::Resource;
use meshproof_plan::model::{
    Action, Credential, Direction, HeaderChanges, Origination, PathMatch, RouteAction, UpstreamProtocol,
    UpstreamTls,
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::authority::TestAuthority;
use crate::support::client::{self, TestClient};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::{SeenHello, SeenRequest, TestServer, TestServerTls};
use crate::support::{Bench, free, reference};

/// The server, the plan and the request.
pub struct Situation {
    pub ca: TestAuthority,
    pub other: TestAuthority,
    /// Whether `ca` is among the system's roots; otherwise `other` is.
    pub trusted: bool,
    pub server: TestServerTls,
    pub origination: Origination,
    pub credentials: Vec<Credential>,
    pub resources: Vec<Value>,
    pub host: String,
    pub method: http::Method,
    pub target: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
    pub upgrade: bool,
    /// Whether the plan originates TLS; otherwise it leads to the plain port.
    pub encrypted: bool,
    pub expect: bool,
    /// Whether the upstream connection is HTTP/2.
    pub http2: bool,
    pub times: usize,
    pub rewrite: Option<String>,
    pub forwarded_proto: Option<String>,
    pub prefix: Option<String>,
    gateway: bool,
    asked_as: Option<String>,
}

impl Situation {
    /// The proxy is a gateway, and the request is for this host.
    pub fn at_gateway_as(&mut self, host: &str) {
        self.gateway = true;
        self.asked_as = Some(host.to_owned());
    }
}

/// What the client, the servers and the access log show.
#[derive(Debug)]
pub struct SituationOutcome {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body_bytes: usize,
    pub trailers: bool,
    /// The names of the trailer fields, in their order.
    pub trailer_names: Vec<String>,
    /// The client's address.
    pub client: SocketAddr,
    pub lines: Vec<String>,
    /// To the TLS port.
    pub connections: usize,
    pub hellos: Vec<SeenHello>,
    pub tls_requests: Vec<SeenRequest>,
    pub plain_requests: Vec<SeenRequest>,
}

pub async fn run(variant: Option<&str>, change: &impl Fn(&mut Situation)) -> SituationOutcome {
    let ca = TestAuthority::new("public");
    let mut s = Situation {
        server: TestServerTls { alpn: &["h2", "http/1.1"], ..TestServerTls::of(ca.server(HOST)) },
        ca,
        other: TestAuthority::new("other"),
        trusted: true,
        origination: plans::simple(),
        credentials: Vec::new(),
        resources: Vec::new(),
        host: HOST.to_owned(),
        method: http::Method::GET,
        target: "/".to_owned(),
        headers: Vec::new(),
        body: String::new(),
        upgrade: false,
        encrypted: true,
        expect: false,
        http2: false,
        times: 1,
        rewrite: None,
        forwarded_proto: None,
        prefix: None,
        gateway: false,
        asked_as: None,
    };
    change(&mut s);
    let (plain, tls) = (TestServer::plain().await, TestServer::start(Some(s.server.clone())).await);
    let roots = if s.trusted { s.ca.pem() } else { s.other.pem() };
    let mut bench = Bench::with(reference(variant), &roots).await;
    for host in [HOST, "other.example", "before.example"] {
        bench.endpoint(host, 80, plain.address);
        bench.endpoint(host, 443, tls.address);
    }
    bench.credentials.insert("sleep".to_owned(), s.credentials.clone());
    bench.resources = s.resources.iter().cloned().map(Resource).collect();
    let bind = free();
    let mut forward = plans::forward(EXTERNAL);
    forward.host_rewrite.clone_from(&s.rewrite);
    forward.request_headers = HeaderChanges {
        set: s.forwarded_proto.iter().map(|v| ("x-forwarded-proto".to_owned(), v.clone())).collect(),
        ..HeaderChanges::default()
    };
    let path = s.prefix.clone().map_or(PathMatch::Any, PathMatch::Prefix);
    let route = plans::route(path, RouteAction::Forward(forward));
    let mut external = if s.encrypted {
        plans::cluster(EXTERNAL, tls.address, Some(UpstreamTls::Originate(s.origination.clone())))
    } else {
        plans::cluster(EXTERNAL, plain.address, None)
    };
    if s.http2 {
        external.protocol = UpstreamProtocol::Http2;
    }
    let mut sidecar = plans::sidecar(bind, external);
    sidecar.listeners[0].direction = if s.gateway { Direction::Gateway } else { Direction::Outbound };
    if let Action::Http(routes) = &mut sidecar.listeners[0].chains[0].action {
        routes.virtual_hosts = vec![plans::host(&s.host, vec![route])];
    }
    bench.apply(&plans::plan(vec![sidecar])).await;

    let asked = s.asked_as.clone().unwrap_or_else(|| s.host.clone());
    let connection = TcpStream::connect(bind).await.unwrap();
    let client_address = connection.local_addr().unwrap();
    let mut client = TestClient::over(TokioIo::new(connection)).await;
    let (mut status, mut body_bytes, mut trailers) = (0, 0, None);
    let mut headers = http::HeaderMap::new();
    for _ in 0..s.times {
        let mut request = client::request(&asked, &s.target);
        *request.method_mut() = s.method.clone();
        *request.body_mut() = s.body.clone().into();
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        for (name, value) in &s.headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        if s.expect {
            request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        }
        if s.upgrade {
            request.headers_mut().insert("connection", "upgrade".parse().unwrap());
            request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        }
        if let Ok(reply) = client.send(request).await {
            status = reply.status.as_u16();
            body_bytes = reply.body.len();
            trailers = reply.trailers;
            headers = reply.headers;
        }
    }
    client.close().await;
    SituationOutcome {
        status,
        headers,
        body_bytes,
        trailers: trailers.is_some(),
        trailer_names: trailers.iter().flat_map(|t| t.keys()).map(ToString::to_string).collect(),
        client: client_address,
        lines: bench.lines("sleep").await,
        connections: tls.memory.connections(),
        hellos: tls.memory.hellos(),
        tls_requests: tls.memory.requests(),
        plain_requests: plain.memory.requests(),
    }
}

/// Runs a situation with and without a variant, and compares one thing.
pub async fn differs(
    variant: &str,
    situation: impl Fn(&mut Situation),
    look: impl Fn(&SituationOutcome) -> String,
    honest: &str,
    varied: &str,
) {
    let plain = run(None, &situation).await;
    assert_eq!(look(&plain), honest, "without {variant}: {plain:#?}");
    let other = run(Some(variant), &situation).await;
    assert_eq!(look(&other), varied, "with {variant}: {other:#?}");
}

pub fn status(saw: &SituationOutcome) -> String {
    saw.status.to_string()
}

pub fn usual(_: &mut Situation) {}
