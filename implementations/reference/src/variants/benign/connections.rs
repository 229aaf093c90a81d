//! Unusual upstream connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_local::tls::provider;
use meshproof_plan::model::{Cluster, Discovery, UpstreamTls};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::hooks::{ProxyHooks, SendHook, SendResult, UpstreamAccess};
use crate::request_body::OutgoingRequest;
use crate::tasks::PlaneTasks;
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "spare-connections",
        "Opens an idle connection in advance whenever it opens one (Envoy's preconnect_policy).",
        VariantBehaviour::Proxy(|_| Arc::new(SpareConnections)),
    ),
    Definition::new(
        "tcp-health-checks",
        "Checks every endpoint with TCP connections that carry nothing (Envoy's tcp_health_check).",
        VariantBehaviour::Proxy(|_| Arc::new(TcpHealthChecks::default())),
    ),
    Definition::new(
        "other-source-address",
        "Connects to loopback endpoints from 127.0.0.2 (Envoy's upstream_bind_config).",
        VariantBehaviour::Proxy(|_| Arc::new(OtherSourceAddress)),
    ),
    Definition::new(
        "hello-retry-request",
        "Offers first a key share that servers answer with a HelloRetryRequest (RFC 8446 section 4.1.4).",
        VariantBehaviour::Proxy(|_| Arc::new(HelloRetryRequest)),
    ),
    Definition::new(
        "grease-alpn",
        "Offers a reserved ALPN value to external services after the configured ones (RFC 8701 section 3.1).",
        VariantBehaviour::ClientTls(|connection, config| {
            if matches!(connection.tls, UpstreamTls::Originate(_)) && !config.alpn_protocols.is_empty() {
                config.alpn_protocols.push(vec![0x8a, 0x8a]);
            }
        }),
    ),
    Definition::new("slow-hops", "Takes 300 ms per hop.", VariantBehaviour::Sending(&SlowHops)),
];

struct SpareConnections;

impl ProxyHooks for SpareConnections {
    fn spare_connections(&self) -> usize {
        1
    }
}

struct OtherSourceAddress;

impl ProxyHooks for OtherSourceAddress {
    fn upstream_socket(&self, socket: &TcpSocket, to: SocketAddr) -> io::Result<()> {
        if to.is_ipv4() && to.ip().is_loopback() {
            socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
        }
        Ok(())
    }
}

struct HelloRetryRequest;

impl ProxyHooks for HelloRetryRequest {
    fn client_crypto(&self) -> Arc<CryptoProvider> {
        let mut crypto = provider().as_ref().clone();
        // A client offers a key share of its first group only.
        crypto.kx_groups.retain(|group| group.name() != kx_group::SECP384R1.name());
        crypto.kx_groups.insert(0, kx_group::MLKEM768);
        Arc::new(crypto)
    }
}

struct SlowHops;

#[async_trait]
impl SendHook for SlowHops {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        tokio::time::sleep(Duration::from_millis(300)).await;
        upstream.send(request).await
    }
}

/// Ends the checks of the previous configuration.
#[derive(Default)]
struct TcpHealthChecks(Mutex<CancellationToken>);

impl ProxyHooks for TcpHealthChecks {
    fn in_force(&self, clusters: &mut dyn Iterator<Item = &Cluster>, tasks: &PlaneTasks) {
        const INTERVAL: Duration = Duration::from_millis(100);
        let current = tasks.child();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last, current.clone()).cancel();
        let endpoints: Vec<SocketAddr> = clusters
            .filter_map(|cluster| match &cluster.discovery {
                Discovery::Endpoints(addresses) => Some(addresses.clone()),
                Discovery::OriginalDestination(_) | Discovery::Nowhere => None,
            })
            .flatten()
            .collect();
        tasks.spawn(current.run_until_cancelled_owned(async move {
            let mut interval = tokio::time::interval(INTERVAL);
            loop {
                interval.tick().await;
                for address in &endpoints {
                    // An endpoint that refuses is only marked as unhealthy.
                    drop(TcpStream::connect(address).await);
                }
            }
        }));
    }
}
