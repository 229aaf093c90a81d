//! A cluster that is in force: where its requests go, and its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshproof_plan::model::{Cluster, Discovery, OriginalDestination};

use crate::activity::Activity;
use crate::origination::TlsOriginator;
use crate::pool::ConnectionPool;
use crate::proxy::ProxyHandle;
use crate::tasks::PlaneTasks;
use crate::tls::inputs::TlsInputs;

/// A cluster in force. It is replaced whenever anything about it changes, so that no pooled connection
/// outlives a change.
pub(crate) struct ActiveCluster {
    pub(crate) plan: Cluster,
    pub(crate) inputs: Option<TlsInputs>,
    /// The error says why no connection can be made.
    pub(crate) tls: Option<Result<TlsOriginator, String>>,
    pub(crate) pool: ConnectionPool,
    pub(crate) proxy: Arc<ProxyHandle>,
    pub(crate) tasks: PlaneTasks,
    pub(crate) activity: Arc<Activity>,
    turn: AtomicUsize,
}

/// Where to connect.
pub(crate) enum UpstreamAddress {
    At(SocketAddr),
    /// The cluster has no endpoint.
    NoEndpoint,
    /// The host name does not resolve.
    Unresolved,
}

impl ActiveCluster {
    pub(crate) fn new(
        plan: Cluster,
        inputs: Option<TlsInputs>,
        proxy: Arc<ProxyHandle>,
        tasks: PlaneTasks,
        activity: Arc<Activity>,
    ) -> Self {
        let tls = match (&plan.tls, &inputs) {
            (Some(tls), Some(inputs)) => Some(TlsOriginator::new(tls, inputs, proxy.hooks.client_crypto())),
            (_, _) => None,
        };
        let pool = ConnectionPool::default();
        Self { plan, inputs, tls, pool, proxy, tasks, activity, turn: AtomicUsize::new(0) }
    }

    /// Where to connect for a host and the port that the client dialled.
    pub(crate) fn address(&self, host: Option<&str>, port: u16) -> UpstreamAddress {
        match &self.plan.discovery {
            Discovery::Nowhere => UpstreamAddress::NoEndpoint,
            Discovery::Endpoints(list) if list.is_empty() => UpstreamAddress::NoEndpoint,
            Discovery::Endpoints(list) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                list.get(turn % list.len()).map_or(UpstreamAddress::NoEndpoint, |a| UpstreamAddress::At(*a))
            }
            Discovery::OriginalDestination(list) => host
                .and_then(|host| endpoint(list, host, port))
                .map_or(UpstreamAddress::Unresolved, UpstreamAddress::At),
        }
    }
}

/// The address of a host's port.
pub(crate) fn endpoint(list: &[OriginalDestination], host: &str, port: u16) -> Option<SocketAddr> {
    list.iter().find(|d| d.port == port && d.host.eq_ignore_ascii_case(host)).map(|d| d.address)
}
