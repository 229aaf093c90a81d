//! Unusual upstream connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_plan::model::{Cluster, Discovery};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::hooks::{BoxFuture, PlaneHooks, ProxyHooks, SendHook, SendResult, UpstreamAccess};
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
    Definition::new("slow-hops", "Takes 300 ms per hop.", VariantBehaviour::Sending(&SlowHops)),
    Definition::new(
        "slow-convergence",
        "Needs 300 ms before a change is in force (Istio, \"Deployment Best Practices\": changes are eventually consistent).",
        VariantBehaviour::Plane(|| Box::new(SlowConvergence)),
    ),
    Definition::new(
        "connections-in-advance",
        "Opens a connection to every endpoint when a configuration takes force, and keeps it (Envoy's preconnect_policy).",
        VariantBehaviour::Proxy(|_| Arc::new(InAdvance::default())),
    ),
];

struct SlowConvergence;

impl PlaneHooks for SlowConvergence {
    fn before_change(&self, _rotating: &[&str]) -> Option<BoxFuture<'_, ()>> {
        Some(Box::pin(tokio::time::sleep(Duration::from_millis(300))))
    }
}

/// Ends the connections of the previous configuration.
#[derive(Default)]
struct InAdvance(Mutex<CancellationToken>);

impl ProxyHooks for InAdvance {
    fn in_force(&self, clusters: &mut dyn Iterator<Item = &Cluster>, tasks: &PlaneTasks) {
        let current = replaced(&self.0, tasks);
        for address in endpoints(clusters) {
            let held = current.clone();
            tasks.spawn(async move {
                if let Ok(connection) = TcpStream::connect(address).await {
                    held.cancelled().await;
                    drop(connection);
                }
            });
        }
    }
}

/// Cancels what ran for the previous configuration, and returns a token for what runs for this one.
fn replaced(last: &Mutex<CancellationToken>, tasks: &PlaneTasks) -> CancellationToken {
    let current = tasks.child();
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut *last, current.clone()).cancel();
    current
}

fn endpoints(clusters: &mut dyn Iterator<Item = &Cluster>) -> Vec<SocketAddr> {
    clusters
        .filter_map(|cluster| match &cluster.discovery {
            Discovery::Endpoints(addresses) => Some(addresses.clone()),
            Discovery::OriginalDestination(_) | Discovery::Nowhere => None,
        })
        .flatten()
        .collect()
}

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
        let current = replaced(&self.0, tasks);
        let endpoints = endpoints(clusters);
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
