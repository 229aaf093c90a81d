//! The situation in which most saboteurs show: an originating proxy before an external service with a plain port and a TLS
//! port.

use meshproof_model::Resource;
use meshproof_plan::model::{
    Action, Credential, Direction, HeaderChanges, Origination, PathMatch, RouteAction, UpstreamTls,
};
use meshproof_reference::{Reference, Saboteur};
use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::client::{self, Client};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::{Hello, Seen, Server, Tls};
use crate::support::{Bench, free};

/// What there is, and what is asked.
pub struct Situation {
    pub ca: Authority,
    pub other: Authority,
    /// Whether `ca` is among the system's roots.
    pub trusted: bool,
    pub server: Tls,
    pub origination: Origination,
    pub credentials: Vec<Credential>,
    pub resources: Vec<Value>,
    pub host: String,
    pub method: http::Method,
    pub target: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
    pub upgrade: bool,
    /// Whether the plan opens TLS; otherwise it goes to the plain port.
    pub encrypted: bool,
    pub expect: bool,
    pub times: usize,
    pub rewrite: Option<String>,
    pub forwarded_proto: Option<String>,
    pub prefix: Option<String>,
    gateway: bool,
    asked_as: Option<String>,
}

impl Situation {
    /// The proxy is a gateway, and is asked for this host.
    pub fn at_gateway_as(&mut self, host: &str) {
        self.gateway = true;
        self.asked_as = Some(host.to_owned());
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Saw {
    pub status: u16,
    pub body_bytes: usize,
    pub trailers: bool,
    pub lines: Vec<String>,
    pub hellos: Vec<Hello>,
    pub tls_requests: Vec<Seen>,
    pub plain_requests: Vec<Seen>,
}

pub async fn run(saboteur: Option<Saboteur>, change: &impl Fn(&mut Situation)) -> Saw {
    let ca = Authority::new("public");
    let mut s = Situation {
        server: Tls { alpn: &["h2", "http/1.1"], ..Tls::of(ca.server(HOST)) },
        ca,
        other: Authority::new("other"),
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
        times: 1,
        rewrite: None,
        forwarded_proto: None,
        prefix: None,
        gateway: false,
        asked_as: None,
    };
    change(&mut s);
    let (plain, tls) = (Server::plain().await, Server::start(Some(s.server.clone())).await);
    let reference = saboteur.map_or_else(Reference::new, Reference::sabotaged);
    let roots = if s.trusted { s.ca.pem() } else { s.other.pem() };
    let mut bench = Bench::with(reference, &roots).await;
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
    let external = if s.encrypted {
        plans::cluster(EXTERNAL, tls.address, Some(UpstreamTls::Originate(s.origination.clone())))
    } else {
        plans::cluster(EXTERNAL, plain.address, None)
    };
    let mut sidecar = plans::sidecar(bind, external);
    sidecar.listeners[0].direction = if s.gateway { Direction::Gateway } else { Direction::Outbound };
    if let Action::Http(routes) = &mut sidecar.listeners[0].chains[0].action {
        routes.virtual_hosts = vec![plans::host(&s.host, vec![route])];
    }
    bench.apply(&plans::plan(vec![sidecar])).await;

    let asked = s.asked_as.clone().unwrap_or_else(|| s.host.clone());
    let mut client = Client::connect(bind).await;
    let (mut status, mut body_bytes, mut trailers) = (0, 0, false);
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
            trailers = reply.trailers.is_some();
        }
    }
    client.close().await;
    Saw {
        status,
        body_bytes,
        trailers,
        lines: bench.lines("sleep").await,
        hellos: tls.memory.hellos(),
        tls_requests: tls.memory.requests(),
        plain_requests: plain.memory.requests(),
    }
}
