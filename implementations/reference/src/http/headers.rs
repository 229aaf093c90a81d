//! What a proxy does to headers by itself, apart from the changes that routes ask for.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri};
use hyper::body::Incoming;

use super::context::RequestContext;

/// The `Server` of Istio's proxies; Istio's `pilot/pkg/networking/util/proxy_headers.go`.
pub(super) const SERVER_NAME: HeaderValue = HeaderValue::from_static("istio-envoy");
/// Milliseconds from the request's last byte to the response's head.
pub(super) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that belong to one connection, RFC 9110 section 7.6.1. `TE: trailers` is handled separately.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The scheme that the client used, by the proxy that it spoke to.
pub(super) fn forwarded_protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get(FORWARDED_PROTO)?.to_str().ok()
}

/// Path and query as received.
pub(super) fn path_and_query(uri: &Uri) -> String {
    uri.path_and_query().map_or("/", |p| p.as_str()).to_owned()
}

/// The request's authority as received: from HTTP/2's `:authority` or an absolute-form target, else from
/// Host.
pub(super) fn authority(request: &Request<Incoming>) -> Option<String> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().to_owned());
    }
    let host = request.headers().get(header::HOST)?;
    // It becomes part of a URI and of log lines; an unusable value is refused like an absent one.
    host.to_str().ok().filter(|h| !h.is_empty()).map(str::to_owned)
}

/// The protocol that a request asks to upgrade to, RFC 9110 section 7.8. HTTP/2 is none that goes on at the next connection: over
/// TLS it is negotiated (RFC 7540 section 3.3), and Envoy removes the offer (`source/common/http/http1/codec_impl.cc`).
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|v| v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade"))));
    headers.get(header::UPGRADE).filter(|protocol| asked && *protocol != "h2c").cloned()
}

/// Joins cookies that came in several fields, as HTTP/2 allows and HTTP/1.1 does not (RFC 9113 section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Removes the headers that belong to one connection.
pub(super) fn strip(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|v| v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers"))));
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|t| HeaderName::from_bytes(t.trim().as_bytes()).ok())
        // A client that lists these must not make the proxy drop headers that it has to send.
        .filter(|n| *n != header::HOST && *n != header::CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// What Envoy's connection manager does to each request (`source/common/http/conn_manager_utility.cc`,
/// `mutateRequestHeaders`), as Istio configures it: gateways use the remote address, sidecars do not.
pub(super) fn add_proxy_headers(request: &mut Request<Incoming>, context: &RequestContext) {
    let headers = request.headers_mut();
    let scheme = HeaderValue::from_static(if context.secure { "https" } else { "http" });
    if context.is_gateway() {
        let peer = context.connection.peer.ip().to_string();
        let before = headers.get(FORWARDED_FOR).and_then(|v| v.to_str().ok());
        let all = before.map_or_else(|| peer.clone(), |before| format!("{before},{peer}"));
        if let Ok(all) = HeaderValue::from_str(&all) {
            headers.insert(FORWARDED_FOR, all);
        }
        headers.insert(FORWARDED_PROTO, scheme);
    } else if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, scheme);
    }
    if !headers.contains_key(REQUEST_ID) {
        let id = uuid::Uuid::new_v4().to_string();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
    }
}
