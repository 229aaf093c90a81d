//! Sending a request upstream, and its response back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use meshproof_plan::model::{ServerName, UpstreamProtocol, UpstreamTls};
use tokio::time::timeout;

use super::headers::{self, SERVER_NAME, SERVICE_TIME};
use super::{Context, Outgoing, local, mischief, upgrade};
use crate::body::{Ending, RequestBody, ResponseBody};
use crate::failure::{Failure, of_hyper};
use crate::pool::{Destination, Lease, Sent, Spoken};
use crate::routes::{Forwarding, Route, without_port};
use crate::saboteurs::Saboteur;
use crate::state::{Found, Upstream};
use crate::tls::client::Wish;

/// How often a request is sent at most, where connections turn out to have been closed before it was on its way.
const MAX_TRIES: usize = 4;

/// What every attempt to send a request needs to know of it.
pub(super) struct Shipment<'a> {
    pub(super) upstream: &'a Upstream,
    /// Host, after any rewrite, with its port if it has one.
    pub(super) authority: String,
    /// The host that an automatic server name is taken from.
    pub(super) name_host: String,
    pub(super) version: Version,
    pub(super) upgrade: bool,
    pub(super) replayable: bool,
}

pub(super) async fn forward(
    context: &Context,
    route: &Route,
    forwarding: &Forwarding,
    mut request: Request<Incoming>,
    asked: String,
    mut ending: Ending,
) -> Response<ResponseBody> {
    let bodiless = request.method() == Method::HEAD;
    let upgrade = headers::upgrade(request.headers())
        .filter(|_| request.version() == Version::HTTP_11)
        .filter(|_| context.saboteur() != Some(Saboteur::RefuseUpgrade));
    let waiting = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let version = request.version();

    let (mut parts, body) = request.into_parts();
    headers::strip(&mut parts.headers);
    if context.saboteur() == Some(Saboteur::RefuseExpect) && parts.headers.contains_key(header::EXPECT) {
        return local(StatusCode::EXPECTATION_FAILED, String::new(), bodiless, ending);
    }
    // Envoy answers `100-continue` itself: here hyper does, when the body is first asked for.
    parts.headers.remove(header::EXPECT);
    if let Some(protocol) = &upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol.clone());
    }
    let host = forwarding
        .host_rewrite
        .clone()
        .or_else(|| HeaderValue::from_str(&asked).ok())
        .unwrap_or(HeaderValue::from_static(""));
    parts.headers.insert(header::HOST, host);
    forwarding.request.apply(&mut parts.headers);
    let path = super::prefix_route_rewrite(route, forwarding, parts.uri.path());
    let mut target = match (path, parts.uri.query()) {
        (Some(path), Some(query)) => format!("{path}?{query}"),
        (Some(path), None) => path,
        (None, _) => headers::path_and_query(&parts.uri),
    };
    mischief::outgoing(context, &mut parts.method, &mut parts.headers, &mut target);
    let authority =
        parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
    if let Some(fields) = &mut ending.record.fields.request {
        fields.authority.clone_from(&authority);
        fields.take_headers(&parts.headers);
    }

    let Some(upstream) = forwarding.cluster().and_then(|name| context.bound.proxy.clusters.get(name)) else {
        return failed(&Failure::NoCluster, bodiless, ending);
    };
    let upstream = Arc::clone(upstream);
    ending.record.fields.cluster = Some(upstream.plan.name.clone());

    let body = if context.saboteur() == Some(Saboteur::DropBody) {
        parts.headers.remove(header::CONTENT_LENGTH);
        RequestBody::dropped(Arc::clone(&ending.progress))
    } else {
        RequestBody::new(body, Arc::clone(&ending.progress))
    };
    let shipment = Shipment {
        upstream: &upstream,
        name_host: name_host(context, &asked, &authority).to_owned(),
        authority,
        version,
        upgrade: upgrade.is_some(),
        replayable: parts.method.is_idempotent() && hyper::body::Body::is_end_stream(&body),
    };
    let Ok(uri) = target.parse::<Uri>() else {
        return failed(&Failure::Protocol, bodiless, ending);
    };
    parts.uri = uri;
    let outgoing = Request::from_parts(parts, body);

    let started = Instant::now();
    let limit = forwarding.plan.timeout_ms.map(Duration::from_millis);
    let sending = mischief::send(context, &shipment, outgoing);
    let sent = match limit {
        Some(limit) => timeout(limit, sending).await.unwrap_or(Err(Undone::from(Failure::Timeout))),
        None => sending.await,
    };
    let (response, lease) = match sent {
        Ok(answered) => answered,
        Err(undone) => {
            ending.record.fields.upstream_host = undone.address;
            ending.record.fields.upstream_local = undone.local;
            let failure = if ending.progress.broken.load(Ordering::Acquire) {
                Failure::Downstream
            } else {
                undone.failure
            };
            return failed(&failure, bodiless, ending);
        }
    };
    let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let record = &mut ending.record;
    record.fields.upstream_time_ms = Some(elapsed);
    record.fields.upstream_host = Some(lease.remote);
    record.fields.upstream_local = lease.local;
    record.fields.status = response.status().as_u16();
    record.fields.details = Some("via_upstream".into());

    let (mut parts, inner) = response.into_parts();
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    headers::strip(&mut parts.headers);
    parts.headers.remove(header::TE);
    parts.headers.insert(header::SERVER, SERVER_NAME);
    parts.headers.insert(SERVICE_TIME, HeaderValue::from(elapsed));
    forwarding.response.apply(&mut parts.headers);
    parts.version = Version::HTTP_11;

    if switching {
        let (Some(waiting), Some(protocol)) = (waiting, protocol) else {
            return failed(&Failure::Protocol, bodiless, ending);
        };
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
        // hyper keeps the connection in the response's extensions.
        let mut carrier = Response::new(());
        *carrier.extensions_mut() = std::mem::take(&mut parts.extensions);
        upgrade::join(context, waiting, hyper::upgrade::on(carrier), lease, ending);
        return Response::from_parts(parts, ResponseBody::none());
    }

    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<u64>().ok());
    let nothing_follows = bodiless
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED
        || announced == Some(0);
    ending.lease = Some(lease);
    let deadline = limit.map(|limit| Box::pin(tokio::time::sleep(limit.saturating_sub(started.elapsed()))));
    let body =
        ResponseBody::upstream(inner, announced, nothing_follows, deadline, ending, context.saboteur());
    Response::from_parts(parts, body)
}

/// Answers for an upstream that did not.
fn failed(failure: &Failure, bodiless: bool, mut ending: Ending) -> Response<ResponseBody> {
    ending.record.fields.flag = Some(failure.flag());
    ending.record.fields.details = Some(failure.details().into());
    ending.record.fields.failure = failure.reason().map(str::to_owned);
    local(failure.status(), failure.body(), bodiless, ending)
}

/// Envoy's `auto_sni` takes the Host after any rewrite.
fn name_host<'a>(context: &Context, asked: &'a str, authority: &'a str) -> &'a str {
    if context.saboteur() == Some(Saboteur::SniBeforeRewrite) { asked } else { authority }
}

/// Why a request got no response, and how far it came.
pub(super) struct Undone {
    pub(super) failure: Failure,
    pub(super) address: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Self { failure, address: None, local: None }
    }
}

/// A response, and the connection that it comes on.
pub(super) type Answered = (Response<Incoming>, Lease);

/// Sends a request on a pooled or new connection.
pub(super) async fn ship(
    context: &Context,
    shipment: &Shipment<'_>,
    mut request: Outgoing,
) -> Result<Answered, Undone> {
    let host = without_port(&shipment.authority);
    let upstream = shipment.upstream;
    let address = match upstream.address(Some(host), context.bound.port) {
        Found::At(address) => address,
        Found::Nobody => return Err(Failure::NoHealthyUpstream.into()),
        Found::Unresolved => return Err(Failure::Connect("DNS resolution failed".to_owned()).into()),
    };
    let at = |failure, local| Undone { failure, address: Some(address), local };
    let tls = match &upstream.tls {
        None => None,
        Some(Ok(client)) => Some(client),
        Some(Err(reason)) => return Err(at(Failure::Connect(reason.clone()), None)),
    };
    let downstream_http2 = shipment.version == Version::HTTP_2;
    let (spoken, wish) = match upstream.plan.protocol {
        _ if shipment.upgrade => (Spoken::Http1, Wish::Http1),
        UpstreamProtocol::Http1 => (Spoken::Http1, Wish::Any),
        UpstreamProtocol::Http2 => (Spoken::Http2, Wish::Any),
        UpstreamProtocol::Downstream if downstream_http2 => (Spoken::Http2, Wish::Http2),
        UpstreamProtocol::Downstream => (Spoken::Http1, Wish::Http1),
    };
    let name_host = without_port(&shipment.name_host);
    // An address is no server name, RFC 6066 section 3; Envoy's router leaves it out too.
    let named = name_host.parse::<std::net::IpAddr>().is_err() && !name_host.starts_with('[');
    let destination = Destination {
        address,
        server_name: tls.and_then(|t| t.server_name(named.then_some(name_host))).map(str::to_owned),
        host: tls.filter(|_| depends_on_host(upstream)).map(|_| host.to_ascii_lowercase()),
        wish,
    };
    for attempt in 1.. {
        let mut lease = upstream
            .pool
            .lease(&destination, tls, spoken, context.saboteur())
            .await
            .map_err(|failure| at(failure, None))?;
        let prepared = dress(request, shipment, tls.is_some(), lease.is_http2())
            .map_err(|failure| at(failure, lease.local))?;
        let again = shipment.replayable.then(|| copy(&prepared));
        match lease.send(prepared).await {
            Sent::Response(response) => return Ok((*response, lease)),
            Sent::Unsent(back) if lease.reused && attempt < MAX_TRIES => request = *back,
            // A connection that was used before may be closed by its server at any moment; RFC 9112 section 9.3.1
            // allows to repeat what is idempotent.
            Sent::Broken(error) if lease.reused && attempt < MAX_TRIES && is_closing(&error) => match again {
                Some(again) => request = again,
                None => return Err(at(of_hyper(&error), lease.local)),
            },
            Sent::Unsent(_) => return Err(at(Failure::Reset(None), lease.local)),
            Sent::Broken(error) => return Err(at(of_hyper(&error), lease.local)),
        }
    }
    Err(at(Failure::Reset(None), None))
}

fn is_closing(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed()
}

fn depends_on_host(upstream: &Upstream) -> bool {
    match &upstream.plan.tls {
        Some(UpstreamTls::Originate(o)) => {
            o.names == meshproof_plan::model::NameCheck::FromHost || o.sni == ServerName::FromHost
        }
        Some(UpstreamTls::MeshMutual { .. }) | None => false,
    }
}

/// A copy of a request that has no body.
pub(super) fn copy(request: &Outgoing) -> Outgoing {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.version_mut() = request.version();
    copy
}

/// Puts a request into the form of the version that its connection speaks.
fn dress(
    mut request: Outgoing,
    shipment: &Shipment<'_>,
    over_tls: bool,
    http2: bool,
) -> Result<Outgoing, Failure> {
    let path = request.uri().path_and_query().cloned();
    let headers = request.headers_mut();
    if http2 {
        headers.remove(header::HOST);
        let mut builder = Uri::builder()
            .scheme(if over_tls { "https" } else { "http" })
            .authority(shipment.authority.as_str());
        if let Some(path) = path {
            builder = builder.path_and_query(path);
        }
        *request.uri_mut() = builder.build().map_err(|_| Failure::Protocol)?;
        *request.version_mut() = Version::HTTP_2;
    } else {
        if !headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(&shipment.authority).map_err(|_| Failure::Protocol)?;
            headers.insert(header::HOST, host);
        }
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = path;
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Failure::Protocol)?;
        *request.version_mut() = Version::HTTP_11;
    }
    Ok(request)
}
