//! The client of workloads and of the suite's direct probes: an HTTP client that records exactly what it sent and what came
//! back, over a new connection for each request.
//!
//! It uses hyper and rustls directly, and not a client library such as reqwest: only at this level is every byte visible that
//! leaves the application, what the ClientHello contained, and what the handshake agreed on. Where only the answer counts, the suite
//! uses reqwest (see [`crate::real_hosts`]).

mod body;
mod connection;
pub(crate) mod failure;
mod grpc;
mod in_line;
mod pipelined;
mod prepared;
mod raw;
mod segments;
mod spoken;
mod tcp;
pub(crate) mod trust;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, LOCATION, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, TRAILER, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use meshproof_model::{Exchange, ExchangeError, ExchangeErrorKind, Header, Hop, HopResult, TlsFacts};
use rustls::client::danger::ServerCertVerifier;
use tokio::net::TcpStream;
use url::Url;

use crate::http_facts;
use http::Method;
use meshproof_harness::delivery::Deliveries;
use meshproof_harness::digest::sha256;
use meshproof_harness::grpc::Call;
use meshproof_harness::served::Towards;
use meshproof_harness::target::EndedExchange;
use meshproof_harness::workload::{Delivery, HttpChoice, MAX_HOPS, RequestSpec, authority_of};
pub use raw::{RawEnd, RawReply, raw};
pub(crate) use tcp::Spoken;

use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::token;
use meshproof_harness::trace::{ConnectionTrace, Trace};

use crate::tls::accept_any_server;

/// Where requests are sent, by the host and port of their URL. The first entry that matches is used; no name is resolved.
#[derive(Clone, Debug, Default)]
pub struct Route(Vec<Towards>);

/// To this port of this host, or of any.
fn towards(host: Option<String>, port: u16, address: SocketAddr) -> Towards {
    Towards { host, port: Some(port), address: address.ip(), at_port: Some(address.port()) }
}

impl From<Vec<Towards>> for Route {
    fn from(entries: Vec<Towards>) -> Self {
        Self(entries)
    }
}

impl Route {
    /// By port, for any host: the capture addresses of a sidecar.
    #[must_use]
    pub fn capture(addresses: impl IntoIterator<Item = (u16, SocketAddr)>) -> Self {
        Self(addresses.into_iter().map(|(port, address)| towards(None, port, address)).collect())
    }

    /// For one port of one host: a probe that goes past every proxy.
    #[must_use]
    pub fn direct(host: &str, port: u16, address: SocketAddr) -> Self {
        Self::default().and(host, port, address)
    }

    /// Adds one port of one host.
    #[must_use]
    pub fn and(mut self, host: &str, port: u16, address: SocketAddr) -> Self {
        self.0.push(towards(Some(host.to_ascii_lowercase()), port, address));
        self
    }

    /// Adds the entries of another route after its own.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Its entries, in their order.
    #[must_use]
    pub fn entries(&self) -> &[Towards] {
        &self.0
    }

    fn find(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let fits = |dial: &&Towards| {
            dial.port.is_none_or(|p| p == port) && dial.host.as_deref().is_none_or(|h| h == host)
        };
        self.0.iter().find(fits).map(|dial| SocketAddr::new(dial.address, dial.at_port.unwrap_or(port)))
    }
}

/// Why a client could not be created. It is always a fault of the suite.
#[derive(Debug, thiserror::Error)]
#[error("the client {client}: its trust roots: {reason}")]
pub struct ClientError {
    /// Its name.
    pub client: String,
    /// What is wrong with the roots.
    pub reason: String,
}

/// Where the bytes of a client's connections go.
#[derive(Clone)]
struct Traced {
    trace: Trace,
    by: String,
}

impl Traced {
    fn connection(&self, stream: &TcpStream) -> ConnectionTrace {
        let by = || format!("client {}", self.by);
        self.trace.connection(by, stream.local_addr().ok(), stream.peer_addr().ok())
    }
}

/// The client of one workload, or of the suite's direct probes.
#[derive(Clone)]
pub struct WorkloadClient {
    name: String,
    route: Route,
    verifier: Arc<dyn ServerCertVerifier>,
    anonymous: Arc<rustls::ClientConfig>,
    limit: Duration,
    continue_limit: Duration,
    deliveries: Option<Deliveries>,
    trace: Trace,
}

impl std::fmt::Debug for WorkloadClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadClient")
            .field("name", &self.name)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

impl WorkloadClient {
    /// A client that follows `route` and trusts the roots in `trust_roots_pem`. The timeout `request` applies to every exchange.
    ///
    /// # Errors
    /// The roots cannot be read.
    pub fn new(
        name: &str,
        route: Route,
        trust_roots_pem: &str,
        timeouts: &Timeouts,
    ) -> Result<Self, ClientError> {
        let failed = |reason| ClientError { client: name.to_owned(), reason };
        let verifier = trust::by_roots(trust_roots_pem).map_err(failed)?;
        let anonymous = trust::config(verifier.clone(), None).map_err(failed)?;
        let (limit, continue_limit) = (timeouts.get(Timeout::Request), timeouts.get(Timeout::Continue));
        Ok(Self {
            name: name.to_owned(),
            route,
            verifier,
            anonymous: Arc::new(anonymous),
            limit,
            continue_limit,
            deliveries: None,
            trace: Trace::default(),
        })
    }

    /// Reports how much of each answer has arrived.
    #[must_use]
    pub fn reporting_to(self, deliveries: Deliveries) -> Self {
        Self { deliveries: Some(deliveries), ..self }
    }

    /// Writes the bytes of its connections and the secrets of its TLS sessions to this trace.
    #[must_use]
    pub fn traced(mut self, trace: Trace) -> Self {
        let mut anonymous = rustls::ClientConfig::clone(&self.anonymous);
        anonymous.key_log = Arc::new(trace.clone());
        self.anonymous = Arc::new(anonymous);
        Self { trace, ..self }
    }

    /// The same client, by another route.
    #[must_use]
    pub fn routed(&self, route: Route) -> Self {
        Self { route, ..self.clone() }
    }

    /// Where its requests are sent.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The workload's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a request, follows redirects if the request asks for that, and returns what happened. It never fails: a failure is part
    /// of what happened.
    pub async fn exchange(&self, request: &RequestSpec) -> Exchange {
        let started = Instant::now();
        let deadline = tokio::time::Instant::now() + self.limit;
        let hops = match request.conversation {
            Some(conversation) => vec![self.converse(request, conversation, deadline).await],
            None => self.follow(request, deadline).await,
        };
        let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Exchange { url: request.url.clone(), hops, duration_us }
    }

    /// Sends requests over one connection: over HTTP/2 at once, otherwise one after the other. The result has their order. No
    /// redirect is followed. Requests with TLS of the client's own, or to several addresses, are sent one by one.
    pub async fn in_line(&self, requests: &[RequestSpec]) -> Vec<EndedExchange> {
        let targets = requests.iter().map(|request| {
            let url = Url::parse(&request.url).map_err(|e| format!("not a URL: {e}"))?;
            self.target(request, &url, &self.anonymous)
        });
        let targets: Vec<prepared::Target> = targets.filter_map(Result::ok).collect();
        let address = targets.first().map(|target| target.address);
        let fits = |target: &prepared::Target| {
            target.tls.is_none() && target.times <= 1 && Some(target.address) == address
        };
        if targets.len() < requests.len() || !targets.iter().all(fits) {
            let mut exchanges = Vec::with_capacity(requests.len());
            for request in requests {
                exchanges.push(EndedExchange::now(self.exchange(request).await));
            }
            return exchanges;
        }
        let headers: Vec<_> = targets.iter().map(|target| http_facts::headers(&target.headers)).collect();
        let spoken = in_line::in_line(targets, self.limit).await;
        let exchange = |((request, headers), spoken): ((&RequestSpec, _), spoken::Spoken)| {
            let result = spoken.result.map_or_else(HopResult::Error, HopResult::Response);
            let (sent, sent_bytes) = spoken.sent;
            let hop = Hop { sent, sent_bytes, ..hop(request, headers, result) };
            let took = spoken.ended.saturating_duration_since(spoken.began);
            let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let exchange = Exchange { url: request.url.clone(), hops: vec![hop], duration_us };
            EndedExchange { exchange, ended: spoken.ended }
        };
        requests.iter().zip(headers).zip(spoken).map(exchange).collect()
    }

    async fn follow(&self, request: &RequestSpec, deadline: tokio::time::Instant) -> Vec<Hop> {
        let mut hops = Vec::new();
        let (mut request, mut url) = match Url::parse(&request.url) {
            Ok(url) => (request.clone(), url),
            Err(e) => return vec![unsent(request, format!("not a URL: {e}"))],
        };
        let tls = match self.tls_config(&request) {
            Ok(tls) => tls,
            Err(reason) => return vec![unsent(&request, reason)],
        };
        while hops.len() < MAX_HOPS {
            let follows = request.follow_redirects && request.times <= 1;
            let mut sent = self.hop(&request, &url, &tls, deadline).await;
            let next = sent.last().filter(|_| follows).and_then(|hop| redirect(hop, &url));
            hops.append(&mut sent);
            let Some((status, target)) = next else { break };
            adapt(&mut request, status);
            request.url = target.to_string();
            url = target;
        }
        hops
    }

    /// Sends a request to one URL, as often as the request asks for. Each answer is a hop.
    async fn hop(
        &self,
        request: &RequestSpec,
        url: &Url,
        tls: &Arc<rustls::ClientConfig>,
        deadline: tokio::time::Instant,
    ) -> Vec<Hop> {
        let target = match self.target(request, url, tls) {
            Ok(target) => target,
            Err(reason) => return vec![unsent(request, reason)],
        };
        let observed = connection::Observed::default();
        let headers = http_facts::headers(&target.headers);
        let attempt = connection::attempt(target, &observed);
        let last = match tokio::time::timeout_at(deadline, attempt).await {
            Ok(Ok(response)) => HopResult::Response(response),
            Ok(Err(error)) => HopResult::Error(error),
            Err(_) => HopResult::Error(ExchangeError {
                kind: ExchangeErrorKind::Timeout,
                message: format!("request: no whole answer within {:?}", self.limit),
            }),
        };
        let earlier = observed.take_earlier();
        let (sent, sent_bytes, tls) = observed.into_parts();
        let one = |result| hop(request, headers.clone(), result);
        let mut hops: Vec<Hop> = earlier.into_iter().map(|r| one(HopResult::Response(r))).collect();
        hops.push(one(last));
        // The facts about the connection belong to the first hop that used it.
        if let Some(first) = hops.first_mut() {
            (first.sent, first.sent_bytes, first.tls) = (sent, sent_bytes, tls);
        }
        hops
    }

    fn tls_config(&self, request: &RequestSpec) -> Result<Arc<rustls::ClientConfig>, String> {
        let special = request.identity.is_some() || request.accept_any_server;
        if !special && request.http == HttpChoice::Negotiated {
            return Ok(self.anonymous.clone());
        }
        let mut config = if special {
            let verifier =
                if request.accept_any_server { accept_any_server() } else { self.verifier.clone() };
            let mut config = trust::config(verifier, request.identity.as_ref())?;
            config.key_log = Arc::clone(&self.anonymous.key_log);
            config
        } else {
            rustls::ClientConfig::clone(&self.anonymous)
        };
        config.alpn_protocols = match request.http {
            HttpChoice::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpChoice::Http1 | HttpChoice::Http10 | HttpChoice::Pipelined => vec![b"http/1.1".to_vec()],
            HttpChoice::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Arc::new(config))
    }

    fn target(
        &self,
        request: &RequestSpec,
        url: &Url,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<prepared::Target, String> {
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(format!("no client for {other:?} URLs")),
        };
        let host = url.host_str().ok_or("a URL without a host")?.to_ascii_lowercase();
        let port = url.port_or_known_default().ok_or("a URL without a port")?;
        let address =
            self.route.find(&host, port).ok_or_else(|| format!("no route to {host} port {port}"))?;
        let server_name = request.server_name.as_deref().unwrap_or(&host);
        let tls = if secure {
            let name = rustls_pki_types::ServerName::try_from(server_name.to_owned())
                .map_err(|e| format!("{server_name:?} is no server name: {e}"))?;
            Some((name, tls.clone()))
        } else {
            None
        };
        let authority = request.host_header.as_deref().unwrap_or_else(|| authority_of(&request.url));
        Ok(prepared::Target {
            address,
            tls,
            method: request.method.clone(),
            authority: authority.to_owned(),
            path_and_query: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
            headers: headers(request, authority)?,
            body: request.body.clone(),
            delivery: request.delivery,
            continue_limit: self.continue_limit,
            trailers: request.trailers.clone(),
            websocket: request.websocket.clone(),
            grpc: request.grpc.clone(),
            segment: request.segment,
            pause: request.pause,
            times: request.times,
            http: request.http,
            traced: Traced { trace: self.trace.clone(), by: self.name.clone() },
            arrivals: self.deliveries.clone().map(|deliveries| (deliveries, request.token.clone())),
        })
    }
}

/// Host, User-Agent and Accept in curl's order, then the request's own headers.
fn headers(request: &RequestSpec, authority: &str) -> Result<HeaderMap, String> {
    // Bytes beyond ASCII are allowed (RFC 9110, section 5.5).
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|e| format!("{text:?}: {e}"));
    let mut headers = HeaderMap::new();
    headers.insert(HOST, value(authority)?);
    headers.insert(USER_AGENT, value(&token::user_agent(&request.token))?);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if request.websocket.is_some() {
        // As browsers do. A server need not take up any of them (RFC 6455, sections 4.2.2 and 9.1).
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("chat.v2, chat"));
        let compression = HeaderValue::from_static("permessage-deflate; client_max_window_bits");
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, compression);
    }
    let standing: Vec<_> = headers.keys().cloned().collect();
    for (name, text) in &request.headers {
        let name: HeaderName = name.parse().map_err(|e| format!("{name:?}: {e}"))?;
        if standing.contains(&name) {
            headers.insert(name, value(text)?);
        } else {
            headers.append(name, value(text)?);
        }
    }
    let announced = request.delivery.has_length() && !headers.contains_key(TRANSFER_ENCODING);
    if !request.body.is_empty() && announced {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
    }
    if !request.trailers.is_empty() {
        let names: Vec<&str> = request.trailers.iter().map(|(name, _)| name.as_str()).collect();
        headers.insert(TRAILER, value(&names.join(", "))?);
    }
    if request.delivery == Delivery::Expecting {
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    Ok(headers)
}

/// The status and the target of a redirect.
pub(crate) fn redirect(hop: &Hop, url: &Url) -> Option<(StatusCode, Url)> {
    let response = hop.response()?;
    let status = StatusCode::from_u16(response.status).ok()?;
    matches!(response.status, 301 | 302 | 303 | 307 | 308).then_some(())?;
    let target = url.join(response.header(LOCATION.as_str())?).ok()?;
    Some((status, target))
}

/// What a redirect changes in the request itself (RFC 9110, sections 15.4.2 to 15.4.4), as in browsers and in curl.
fn adapt(request: &mut RequestSpec, status: StatusCode) {
    request.host_header = None;
    request.server_name = None;
    let becomes_get = match status {
        StatusCode::SEE_OTHER => request.method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        request.method = Method::GET;
        request.body = Bytes::new();
        request.delivery = Delivery::Whole;
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
    }
}

/// A hop, without what was seen of its connection.
fn hop(request: &RequestSpec, headers: Vec<Header>, result: HopResult) -> Hop {
    let trailer =
        |(name, value): &(String, String)| Header { name: name.to_ascii_lowercase(), value: value.clone() };
    let body = request.grpc.as_ref().map_or_else(|| request.body.clone(), Call::framed);
    Hop {
        method: request.method.to_string(),
        url: request.url.clone(),
        sent: String::new(),
        sent_bytes: 0,
        headers,
        body_bytes: Some(body.len() as u64),
        body_sha256: (!body.is_empty()).then(|| sha256(&body)),
        trailers: request.trailers.iter().map(trailer).collect(),
        messages: request
            .grpc
            .as_ref()
            .map(|call| &call.messages)
            .or(request.websocket.as_ref())
            .cloned()
            .unwrap_or_default(),
        tls: None,
        result,
    }
}

/// A hop whose request was not sent.
fn unsent(request: &RequestSpec, message: String) -> Hop {
    Hop {
        method: request.method.to_string(),
        url: request.url.clone(),
        sent: String::new(),
        sent_bytes: 0,
        headers: Vec::new(),
        body_bytes: None,
        body_sha256: None,
        trailers: Vec::new(),
        messages: Vec::new(),
        tls: None::<TlsFacts>,
        result: HopResult::Error(ExchangeError { kind: ExchangeErrorKind::ClientFailed, message }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_route_ignores_the_host_and_a_direct_one_does_not() {
        let address: SocketAddr = ([127, 0, 0, 1], 4321).into();
        assert_eq!(Route::capture([(80, address)]).find("a", 80), Some(address));
        assert_eq!(Route::capture([(80, address)]).find("a", 81), None);
        assert_eq!(Route::direct("A", 80, address).find("a", 80), Some(address));
        assert_eq!(Route::direct("a", 80, address).find("b", 80), None);
    }
}
