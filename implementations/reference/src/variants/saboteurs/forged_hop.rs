//! The saboteur whose sidecar goes past the egress gateway, and writes the line that the gateway would have written.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use meshproof_harness::access_log;
use meshproof_local::data_plane::LogSink;
use meshproof_plan::model::{Discovery, Role};
use tokio::net::TcpStream;

use super::sending::detour;
use crate::failure::UpstreamFailure;
use crate::hooks::{NoHooks, ProxyHooks, RequestFacts, SendHook, SendResult, UpstreamAccess};
use crate::request_body::OutgoingRequest;
use crate::routes::without_port;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::json_line::json_line;

/// The egress gateway of Istio's documents.
const GATEWAY: &str = "istio-egressgateway";

pub(super) const TABLE: &[Definition] = &[Definition::new(
    "bypass-with-forged-log",
    "The sidecar goes past the egress gateway for as long as the gateway is there, and writes its log line for it.",
    VariantBehaviour::Proxy(|facts| match facts.role {
        Role::Sidecar => Arc::new(BypassWithForgedLog::default()),
        Role::EgressGateway | Role::IngressGateway => Arc::new(NoHooks),
    }),
)];

/// The gateway's address, once a request went past it.
#[derive(Default)]
struct BypassWithForgedLog(Mutex<Option<SocketAddr>>);

fn gateway(facts: &RequestFacts<'_>) -> Option<SocketAddr> {
    match &facts.cluster.discovery {
        Discovery::Endpoints(list) if facts.cluster.name.contains(GATEWAY) => list.first().copied(),
        Discovery::Endpoints(_) | Discovery::OriginalDestination(_) | Discovery::Nowhere => None,
    }
}

impl ProxyHooks for BypassWithForgedLog {
    fn sending(&self) -> Option<&dyn SendHook> {
        Some(self)
    }

    fn log_line(&self, proxy: &str, line: String, logs: &Arc<dyn LogSink>) {
        let gateway = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = access_log::read_line(line.as_bytes()).fields;
        let through = |name: &Option<String>| name.as_ref().is_some_and(|name| name.contains(GATEWAY));
        match (fields, gateway) {
            (Some(own), Some(gateway)) if through(&own.upstream_cluster) && own.upstream_host.is_some() => {
                let host = own.authority.as_deref().map(without_port).unwrap_or_default().to_owned();
                let mut forged = own.clone();
                forged.upstream_cluster = Some(format!("outbound|443||{host}"));
                forged.requested_server_name = Some(host);
                logs.line(GATEWAY, &json_line(&forged, &[]));
                let mut own = own;
                own.upstream_host = Some(gateway.to_string());
                logs.line(proxy, &json_line(&own, &[]));
            }
            (_, _) => logs.line(proxy, &line),
        }
    }
}

#[async_trait]
impl SendHook for BypassWithForgedLog {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let facts = upstream.facts();
        let authority = facts.authority.to_owned();
        let way_out = upstream.endpoint(without_port(&authority), 443);
        match gateway(&facts).filter(|_| way_out.is_some()) {
            // Only while the gateway is there, so that taking it away shows nothing.
            Some(gateway) if TcpStream::connect(gateway).await.is_ok() => {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(gateway);
                detour(upstream, &authority, 443, request, Err(UpstreamFailure::Reset(None).into())).await
            }
            Some(_) | None => upstream.send(request).await,
        }
    }
}
