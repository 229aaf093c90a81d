//! Saboteurs of the step that sends a request, and of the connections that it uses.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Uri, header};
use meshproof_plan::model::{Cluster, Discovery, UpstreamProtocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::plan::{originates, unverified};
use crate::failure::{FailedAttempt, UpstreamFailure};
use crate::hooks::{ProxyHooks, RequestFacts, SendHook, SendResult, UpstreamAccess};
use crate::request_body::{OutgoingRequest, copy_without_body};
use crate::routes::without_port;
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "fall-back-to-plaintext",
        "Sends the request to the host's plain port if TLS fails.",
        VariantBehaviour::Sending(&FallBackToPlaintext),
    ),
    Definition::new(
        "bypass-when-gateway-down",
        "The sidecar connects to the external service itself if the gateway cannot be reached.",
        VariantBehaviour::Sending(&BypassWhenGatewayDown),
    ),
    Definition::new(
        "follow-redirect",
        "The proxy follows a redirect itself.",
        VariantBehaviour::Sending(&FollowRedirect),
    ),
    Definition::new(
        "send-twice",
        "Sends each idempotent request without a body twice.",
        VariantBehaviour::Sending(&SendTwice),
    ),
    Definition::new(
        "probe-plain-port",
        "Sends a HEAD request to the host's plain port before each request.",
        VariantBehaviour::Sending(&ProbePlainPort),
    ),
    Definition::new(
        "handshake-per-request",
        "Opens a new connection for each request.",
        VariantBehaviour::Proxy(|_| Arc::new(HandshakePerRequest)),
    ),
    Definition::new(
        "drop-in-flight-on-change",
        "Drops every connection whenever the configuration changes.",
        VariantBehaviour::Proxy(|_| Arc::new(DropInFlightOnChange)),
    ),
];

struct HandshakePerRequest;

impl ProxyHooks for HandshakePerRequest {
    fn reuses_connections(&self) -> bool {
        false
    }
}

struct DropInFlightOnChange;

impl ProxyHooks for DropInFlightOnChange {
    fn keeps_connections_on_change(&self) -> bool {
        false
    }
}

/// A copy of a request that may be sent more than once.
fn spare(facts: &RequestFacts<'_>, request: &OutgoingRequest) -> Option<OutgoingRequest> {
    facts.replayable.then(|| copy_without_body(request))
}

/// Sends a request directly to a host's port, over unverified TLS on 443. Returns `instead` if the host has
/// no such port.
pub(super) async fn detour(
    upstream: &dyn UpstreamAccess,
    authority: &str,
    port: u16,
    request: OutgoingRequest,
    instead: SendResult,
) -> SendResult {
    let Some(address) = upstream.endpoint(without_port(authority), port) else { return instead };
    drop(instead);
    let cluster = Cluster {
        name: upstream.facts().cluster.name.clone(),
        discovery: Discovery::Endpoints(vec![address]),
        protocol: UpstreamProtocol::Http1,
        tls: (port == 443).then(unverified),
    };
    upstream.send_to(cluster, authority, request).await
}

struct FallBackToPlaintext;

#[async_trait]
impl SendHook for FallBackToPlaintext {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let facts = upstream.facts();
        let spare = spare(&facts, &request);
        let sent = upstream.send(request).await;
        match spare {
            Some(spare) if sent.is_err() && originates(facts.cluster) => {
                detour(upstream, facts.authority, 80, spare, sent).await
            }
            Some(_) | None => sent,
        }
    }
}

struct BypassWhenGatewayDown;

#[async_trait]
impl SendHook for BypassWhenGatewayDown {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let facts = upstream.facts();
        let spare = spare(&facts, &request);
        let sent = upstream.send(request).await;
        let unreachable = matches!(
            sent,
            Err(FailedAttempt {
                failure: UpstreamFailure::Connect(_)
                    | UpstreamFailure::NoHealthyUpstream
                    | UpstreamFailure::NoCluster,
                ..
            })
        );
        match spare {
            Some(spare) if unreachable && !originates(facts.cluster) => {
                detour(upstream, facts.authority, 443, spare, sent).await
            }
            Some(_) | None => sent,
        }
    }
}

struct FollowRedirect;

#[async_trait]
impl SendHook for FollowRedirect {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let facts = upstream.facts();
        let spare = spare(&facts, &request);
        let sent = upstream.send(request).await;
        let (Some(mut next), Some(location)) = (spare, redirect(&sent)) else { return sent };
        let port = if location.scheme_str() == Some("https") { 443 } else { 80 };
        let host = location.host().unwrap_or(without_port(facts.authority)).to_owned();
        *next.uri_mut() = location.path_and_query().map_or(Uri::from_static("/"), |p| p.clone().into());
        if let Ok(value) = HeaderValue::from_str(&host) {
            next.headers_mut().insert(header::HOST, value);
        }
        detour(upstream, &host, port, next, sent).await
    }
}

fn redirect(sent: &SendResult) -> Option<Uri> {
    let response = &sent.as_ref().ok()?.response;
    let location = response.headers().get(header::LOCATION).filter(|_| response.status().is_redirection())?;
    location.to_str().ok()?.parse().ok()
}

struct SendTwice;

#[async_trait]
impl SendHook for SendTwice {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        if let Some(spare) = spare(&upstream.facts(), &request) {
            drop(upstream.send(spare).await);
        }
        upstream.send(request).await
    }
}

struct ProbePlainPort;

#[async_trait]
impl SendHook for ProbePlainPort {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        /// How long the answer to the probe may take.
        const ANSWERED: Duration = Duration::from_secs(2);
        let host = without_port(upstream.facts().authority);
        if let Some(address) = upstream.endpoint(host, 80)
            && let Ok(mut tcp) = TcpStream::connect(address).await
        {
            let head = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let _ = tcp.write_all(head.as_bytes()).await;
            // Read to its end, so that the server has seen the probe before the request itself is sent.
            let answer = &mut tcp.take(64 * 1024);
            let _ = timeout(ANSWERED, answer.read_to_end(&mut Vec::new())).await;
        }
        upstream.send(request).await
    }
}
