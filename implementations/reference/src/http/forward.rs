//! Forwards a request to its upstream, and the response to the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request, response};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::time::timeout;

use super::context::RequestContext;
use super::headers::{self, SERVER_NAME, SERVICE_TIME};
use super::local_reply::{HttpAnswer, upstream_failed};
use super::send::{Shipment, send};
use super::upgrade;
use crate::failure::{FailedAttempt, UpstreamFailure};
use crate::hooks::OutgoingHead;
use crate::pool::UpstreamResponse;
use crate::request_body::RequestBody;
use crate::response_body::{ResponseBody, ResponseEnd, UpstreamBody};
use crate::routes::{CompiledRoute, Forwarding, OwnChanges};

/// Forwards a request. `asked` is its authority as received.
pub(super) async fn forward(
    context: &RequestContext,
    route: &CompiledRoute,
    forwarding: &Forwarding,
    mut request: Request<Incoming>,
    asked: String,
    mut end: ResponseEnd,
) -> HttpAnswer {
    let bodiless = request.method() == Method::HEAD;
    let upgrade = headers::upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11);
    let waiting = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let version = request.version();
    let (mut parts, body) = request.into_parts();
    let chosen = forwarding.cluster();
    let unchanged = OwnChanges::default();
    let own = chosen.map_or(&unchanged, |(_, own)| own);
    let way = Way { route, forwarding, own };
    let target = outgoing_head(context, way, &mut parts, &asked, upgrade.as_ref());
    let authority =
        parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
    end.record.entry.authority = Some(authority.clone());
    end.record.entry.take_headers(&parts.headers);

    let fail = |failure, end| upstream_failed(&failure, bodiless, end, context.hooks());
    let cluster = chosen.and_then(|(name, _)| context.listener.proxy.clusters.get(name));
    let Some(cluster) = cluster else {
        return fail(UpstreamFailure::NoCluster, end);
    };
    end.record.entry.cluster = Some(cluster.plan.name.clone());
    let body = RequestBody::new(body, Arc::clone(&end.progress));
    let body = context.hooks().request_body(&mut parts.headers, body);
    let replayable = parts.method.is_idempotent() && body.is_end_stream();
    let cluster = Arc::clone(cluster);
    let shipment = Shipment { cluster, asked, authority, version, upgrade: upgrade.is_some(), replayable };
    let Ok(uri) = target.parse::<Uri>() else {
        return fail(UpstreamFailure::Protocol, end);
    };
    parts.uri = uri;
    let outgoing = Request::from_parts(parts, body);

    let started = Instant::now();
    let limit = forwarding.plan.timeout_ms.map(Duration::from_millis);
    let sending = send(context, &shipment, outgoing);
    let sent = match limit {
        Some(limit) => {
            timeout(limit, sending).await.unwrap_or(Err(FailedAttempt::from(UpstreamFailure::Timeout)))
        }
        None => sending.await,
    };
    let UpstreamResponse { response, lease } = match sent {
        Ok(answered) => answered,
        Err(attempt) => {
            end.record.entry.upstream_host = attempt.address;
            end.record.entry.upstream_local = attempt.local;
            let broken = end.progress.broken.load(Ordering::Acquire);
            return fail(if broken { UpstreamFailure::Downstream } else { attempt.failure }, end);
        }
    };
    let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let entry = &mut end.record.entry;
    entry.upstream_time_ms = Some(elapsed);
    entry.upstream_host = Some(lease.remote);
    entry.upstream_local = lease.local;
    entry.status = response.status().as_u16();
    entry.details = Some("via_upstream".into());

    let (mut parts, inner) = response.into_parts();
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    response_head(context, way, &mut parts, elapsed);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(waiting), Some(protocol)) = (waiting, protocol) else {
            return fail(UpstreamFailure::Protocol, end);
        };
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
        upgrade::join(context, waiting, upstream_upgrade(&mut parts), lease, end);
        return Ok(Response::from_parts(parts, ResponseBody::none()));
    }

    let announced = announced_length(&parts.headers);
    let nothing_follows = bodiless
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED
        || announced == Some(0);
    end.lease = Some(lease);
    let deadline = limit.map(|limit| Box::pin(tokio::time::sleep(limit.saturating_sub(started.elapsed()))));
    let filter = context.hooks().response_body(&parts);
    let body = UpstreamBody { inner, left: announced, deadline, filter };
    Ok(Response::from_parts(parts, ResponseBody::upstream(body, nothing_follows, end)))
}

/// What a request's route and its destination ask for.
#[derive(Clone, Copy)]
struct Way<'a> {
    route: &'a CompiledRoute,
    forwarding: &'a Forwarding,
    own: &'a OwnChanges,
}

/// Makes the head of the outgoing request; returns its path and query. The destination's own changes come before those of
/// the route, but its Host replaces that of the route.
fn outgoing_head(
    context: &RequestContext,
    Way { route, forwarding, own }: Way<'_>,
    parts: &mut request::Parts,
    asked: &str,
    upgrade: Option<&HeaderValue>,
) -> String {
    headers::strip(&mut parts.headers);
    headers::join_cookies(&mut parts.headers);
    // Envoy answers `100-continue` itself. Here hyper does, when the body is first read.
    parts.headers.remove(header::EXPECT);
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol.clone());
    }
    let host = own
        .host_rewrite
        .clone()
        .or_else(|| forwarding.host_rewrite.clone())
        .or_else(|| HeaderValue::from_str(asked).ok())
        .unwrap_or(HeaderValue::from_static(""));
    parts.headers.insert(header::HOST, host);
    own.request.apply(&mut parts.headers);
    forwarding.request.apply(&mut parts.headers);
    let path = forwarding.path(route, parts.uri.path());
    let mut target = match (path, parts.uri.query()) {
        (Some(path), Some(query)) => format!("{path}?{query}"),
        (Some(path), None) => path,
        (None, _) => headers::path_and_query(&parts.uri),
    };
    let mut head = OutgoingHead {
        method: &mut parts.method,
        headers: &mut parts.headers,
        target: &mut target,
        listener_port: context.listener.port,
    };
    context.hooks().request_head(&mut head);
    target
}

fn response_head(
    context: &RequestContext,
    Way { forwarding, own, .. }: Way<'_>,
    parts: &mut response::Parts,
    elapsed: u64,
) {
    headers::strip(&mut parts.headers);
    parts.headers.remove(header::TE);
    parts.headers.insert(header::SERVER, SERVER_NAME);
    parts.headers.insert(SERVICE_TIME, HeaderValue::from(elapsed));
    own.response.apply(&mut parts.headers);
    forwarding.response.apply(&mut parts.headers);
    parts.version = Version::HTTP_11;
    context.hooks().response_head(parts);
}

/// hyper keeps the upgraded connection in the response's extensions.
fn upstream_upgrade(parts: &mut response::Parts) -> OnUpgrade {
    let mut carrier = Response::new(());
    *carrier.extensions_mut() = std::mem::take(&mut parts.extensions);
    hyper::upgrade::on(carrier)
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
