//! Saboteurs that change requests.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use meshproof_plan::model::{NameCheck, ServerName, UpstreamTls};

use crate::hooks::{
    LocalReply, OutgoingHead, ProxyHooks, RequestFacts, SendHook, SendResult, UpstreamAccess,
};
use crate::pool::UpstreamDestination;
use crate::request_body::{OutgoingRequest, RequestBody, copy_without_body};
use crate::routes::without_port;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "drop-via",
        "Drops the Via of requests.",
        VariantBehaviour::RequestHead(|head| drop(head.headers.remove(header::VIA))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "drop-content-of-get",
        "Drops the content of GET and DELETE requests.",
        VariantBehaviour::Sending(&DropContentOfGet),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "pass-keep-alive",
        "Forwards Keep-Alive, Proxy-Connection and TE as they came.",
        VariantBehaviour::Proxy(|_| Arc::new(PassKeepAlive)),
    )
    // The sidecar in front of an egress gateway leaves nothing to pass on.
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "refuse-expect",
        "Answers 417 to a request that waits for 100 Continue.",
        VariantBehaviour::Arrived(|request| {
            let reply = LocalReply { status: StatusCode::EXPECTATION_FAILED, details: None };
            request.headers().contains_key(header::EXPECT).then_some(reply)
        }),
    ),
    Definition::new(
        "refuse-upgrade",
        "Does not forward a protocol upgrade.",
        VariantBehaviour::Arrived(|request| {
            request.headers_mut().remove(header::UPGRADE);
            None
        }),
    ),
    Definition::new(
        "drop-web-socket-protocols",
        "Removes the protocols that a WebSocket client offers.",
        VariantBehaviour::RequestHead(|head| {
            head.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        }),
    )
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "upper-case-methods",
        "Writes methods in upper case.",
        VariantBehaviour::RequestHead(|head| {
            let upper = head.method.as_str().to_ascii_uppercase();
            if let Ok(upper) = Method::from_bytes(upper.as_bytes()) {
                *head.method = upper;
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "drop-preconditions",
        "Removes the headers if-match and if-range from requests.",
        VariantBehaviour::RequestHead(|head| {
            head.headers.remove(header::IF_MATCH);
            head.headers.remove(header::IF_RANGE);
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "sni-before-rewrite",
        "Takes the automatic server name from the Host before its rewrite.",
        VariantBehaviour::Proxy(|_| Arc::new(SniBeforeRewrite)),
    ),
    Definition::new(
        "leak-mesh-headers",
        "Sends mesh-internal headers to external services.",
        VariantBehaviour::RequestHead(|head| {
            for name in ["x-envoy-peer-metadata", "x-istio-attributes", "x-forwarded-client-cert"] {
                head.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("leaked"));
            }
        }),
    ),
    Definition::new(
        "drop-unknown-headers",
        "Drops request headers that no document defines.",
        VariantBehaviour::RequestHead(|head| drop_unknown(head.headers)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "one-value-per-header",
        "Keeps only the last value of a repeated header.",
        VariantBehaviour::RequestHead(|head| keep_last_values(head.headers)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "authority-with-port",
        "Appends the port to Host.",
        VariantBehaviour::RequestHead(|head| append_port(head.headers, head.listener_port)),
    ),
    Definition::new(
        "forwarded-proto-http",
        "Always sends `X-Forwarded-Proto: http`.",
        VariantBehaviour::RequestHead(|head| {
            head.headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        }),
    ),
    Definition::new(
        "drop-query",
        "Drops the query string.",
        VariantBehaviour::RequestHead(|head| {
            if let Some((path, _)) = head.target.split_once('?') {
                *head.target = path.to_owned();
            }
        }),
    ),
    Definition::new(
        "normalize-path",
        "Changes paths to lower case.",
        VariantBehaviour::RequestHead(|head| *head.target = head.target.to_ascii_lowercase()),
    ),
    Definition::new(
        "method-to-get",
        "Turns every HEAD into a GET.",
        VariantBehaviour::RequestHead(|head| {
            if *head.method == Method::HEAD {
                *head.method = Method::GET;
            }
        }),
    ),
    Definition::new(
        "host-from-subject-alt-names",
        "Sends the first name that a rule asks servers for as the Host.",
        VariantBehaviour::Sending(&HostFromSubjectAltNames),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "cut-long-uploads",
        "Ends a request's body without a length after 4 MiB.",
        VariantBehaviour::Proxy(|_| Arc::new(CutLongUploads)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "pass-h2c-upgrade",
        "Forwards the offer to go on in HTTP/2.",
        VariantBehaviour::Proxy(|_| Arc::new(PassH2cUpgrade)),
    )
    // The sidecar in front of an egress gateway leaves nothing to pass on.
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "keep-divided-cookies",
        "Forwards the cookies of an HTTP/2 request in as many fields as they came in.",
        VariantBehaviour::Proxy(|_| Arc::new(KeepDividedCookies)),
    )
    // The sidecar in front of an egress gateway leaves nothing to pass on.
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "drop-body",
        "Drops the body of requests.",
        VariantBehaviour::Proxy(|_| Arc::new(DropBody)),
    ),
];

struct SniBeforeRewrite;

impl ProxyHooks for SniBeforeRewrite {
    fn destination(&self, request: &RequestFacts<'_>, destination: &mut UpstreamDestination) {
        if let Some(UpstreamTls::Originate(o)) = &request.cluster.tls
            && o.sni == ServerName::FromHost
            && destination.server_name.is_some()
        {
            destination.server_name = Some(without_port(request.asked).to_owned());
        }
    }
}

struct DropBody;

impl ProxyHooks for DropBody {
    fn request_body(&self, headers: &mut HeaderMap, body: RequestBody) -> RequestBody {
        headers.remove(header::CONTENT_LENGTH);
        body.discarded()
    }
}

fn drop_unknown(headers: &mut HeaderMap) {
    let unknown = |name: &&HeaderName| {
        name.as_str().starts_with("x-")
            && !["x-forwarded-", "x-request-id"].iter().any(|known| name.as_str().starts_with(known))
    };
    let names: Vec<HeaderName> = headers.keys().filter(unknown).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

fn keep_last_values(headers: &mut HeaderMap) {
    let last: Vec<_> = headers
        .keys()
        .filter_map(|n| Some((n.clone(), headers.get_all(n).iter().next_back()?.clone())))
        .collect();
    last.into_iter().for_each(|(name, value)| drop(headers.insert(name, value)));
}

fn append_port(headers: &mut HeaderMap, port: u16) {
    let with_port = headers
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
        .filter(|h| without_port(h) == *h)
        .and_then(|h| HeaderValue::from_str(&format!("{h}:{port}")).ok());
    if let Some(host) = with_port {
        headers.insert(header::HOST, host);
    }
}

struct DropContentOfGet;

#[async_trait]
impl SendHook for DropContentOfGet {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        if ![Method::GET, Method::DELETE].contains(request.method()) {
            return upstream.send(request).await;
        }
        let mut bare = copy_without_body(&request);
        bare.headers_mut().remove(header::CONTENT_LENGTH);
        upstream.send(bare).await
    }
}

/// Fields of one connection, each with a name under which it stays.
const KEPT: [(&str, &str); 3] =
    [("keep-alive", "x-kept-1"), ("proxy-connection", "x-kept-2"), ("te", "x-kept-3")];

struct PassKeepAlive;

impl ProxyHooks for PassKeepAlive {
    fn arrived(&self, request: &mut Request<Incoming>) -> Option<LocalReply> {
        for (name, kept) in KEPT {
            if let Some(value) = request.headers().get(name).cloned() {
                request.headers_mut().insert(kept, value);
            }
        }
        None
    }

    fn request_head(&self, head: &mut OutgoingHead<'_>) {
        for (name, kept) in KEPT {
            if let Some(value) = head.headers.remove(kept) {
                head.headers.insert(name, value);
            }
        }
    }
}

struct CutLongUploads;

impl ProxyHooks for CutLongUploads {
    fn request_body(&self, headers: &mut HeaderMap, body: RequestBody) -> RequestBody {
        let has_length = headers.contains_key(header::CONTENT_LENGTH);
        if has_length { body } else { body.cut_after(4 * 1024 * 1024) }
    }
}

const KEPT_UPGRADE: &str = "x-kept-upgrade";

struct PassH2cUpgrade;

impl ProxyHooks for PassH2cUpgrade {
    fn arrived(&self, request: &mut Request<Incoming>) -> Option<LocalReply> {
        if let Some(value) = request.headers().get(header::UPGRADE).filter(|value| *value == "h2c").cloned() {
            request.headers_mut().insert(KEPT_UPGRADE, value);
        }
        None
    }

    fn request_head(&self, head: &mut OutgoingHead<'_>) {
        if let Some(value) = head.headers.remove(KEPT_UPGRADE) {
            head.headers.insert(header::UPGRADE, value);
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }
}

const KEPT_COOKIE: &str = "x-kept-cookie";

struct KeepDividedCookies;

impl ProxyHooks for KeepDividedCookies {
    fn arrived(&self, request: &mut Request<Incoming>) -> Option<LocalReply> {
        move_values(request.headers_mut(), header::COOKIE, HeaderName::from_static(KEPT_COOKIE));
        None
    }

    fn request_head(&self, head: &mut OutgoingHead<'_>) {
        move_values(head.headers, HeaderName::from_static(KEPT_COOKIE), header::COOKIE);
    }
}

fn move_values(headers: &mut HeaderMap, from: HeaderName, to: HeaderName) {
    let all: Vec<HeaderValue> = headers.get_all(&from).iter().cloned().collect();
    headers.remove(&from);
    for value in all {
        headers.append(&to, value);
    }
}

struct HostFromSubjectAltNames;

#[async_trait]
impl SendHook for HostFromSubjectAltNames {
    async fn send(&self, upstream: &dyn UpstreamAccess, mut request: OutgoingRequest) -> SendResult {
        if let Some(UpstreamTls::Originate(o)) = &upstream.facts().cluster.tls
            && let NameCheck::OneOf(names) | NameCheck::OneOfAndHost(names) = &o.names
            && let Some(name) = names.iter().find(|name| !name.contains("://"))
            && let Ok(host) = HeaderValue::from_str(name)
        {
            request.headers_mut().insert(header::HOST, host);
        }
        upstream.send(request).await
    }
}
