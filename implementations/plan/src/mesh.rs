//! What istiod would send to each proxy: listeners by address, clusters with their endpoints as the resources
//! name them. [`crate::model`] is the same for one machine, where addresses stand for capture.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshproof_model::ResourceId;

use crate::model::{Action, DownstreamTls, Role, UpstreamProtocol, UpstreamTls};

/// The configuration of one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Unique among the proxies.
    pub name: String,
    /// Where it lives.
    pub namespace: String,
    /// What it is.
    pub role: Role,
    /// Its listeners, a sidecar's outbound ones alone.
    pub listeners: Vec<MeshListener>,
    /// Every cluster, by name.
    pub clusters: BTreeMap<String, MeshCluster>,
    /// The cluster of a sidecar that takes what no listener does (`virtualOutbound`).
    pub unmatched: String,
}

impl ProxyConfig {
    /// The listener on every address of this port.
    #[must_use]
    pub fn wildcard(&self, port: u16) -> Option<&MeshListener> {
        self.listeners.iter().find(|l| l.port == port && l.bind == Bind::Wildcard)
    }

    /// The listeners on single addresses of this port.
    pub fn addressed(&self, port: u16) -> impl Iterator<Item = (&str, &Addressed, &MeshListener)> {
        self.listeners.iter().filter(move |l| l.port == port).filter_map(|l| match &l.bind {
            Bind::Wildcard => None,
            Bind::Address(ip, to) => Some((ip.as_str(), to, l)),
        })
    }
}

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `0.0.0.0`.
    Wildcard,
    /// One address, and the first service that has it.
    Address(String, Addressed),
}

/// The service behind an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// Its host.
    pub host: String,
    /// Whether the address is that of a Kubernetes Service or of one of its pods.
    pub kubernetes: bool,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshListener {
    /// The address.
    pub bind: Bind,
    /// The port.
    pub port: u16,
    /// The filter chains. Envoy takes the most specific, whatever the order; of a sidecar's, the last takes
    /// everything that is left (`DefaultFilterChain`).
    pub chains: Vec<MeshChain>,
}

/// One filter chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshChain {
    /// Server names of a ClientHello; empty: any, also none.
    pub server_names: Vec<String>,
    /// Destination addresses; empty: any.
    pub cidrs: Vec<String>,
    /// Whether only plain HTTP is taken (`application_protocols: [http/1.1, h2c]`, `raw_buffer`).
    pub plain_http: bool,
    /// How TLS is terminated.
    pub tls: Option<DownstreamTls>,
    /// What happens.
    pub action: Action,
}

impl MeshChain {
    /// Whether it takes every connection (`isMatchAll` in pilot/pkg/networking/core/listener.go).
    #[must_use]
    pub fn takes_all(&self) -> bool {
        (self.server_names.is_empty() || self.server_names.iter().any(|n| n == "*"))
            && self.cidrs.is_empty()
            && !self.plain_http
    }

    /// A chain that passes every connection on.
    #[must_use]
    pub fn pass(cluster: impl Into<String>) -> Self {
        Self {
            server_names: Vec::new(),
            cidrs: Vec::new(),
            plain_http: false,
            tls: None,
            action: Action::Tcp { cluster: cluster.into() },
        }
    }
}

/// How Envoy discovers a cluster's addresses (`convertResolution` in pilot/pkg/networking/core/cluster.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// istiod sends them (EDS).
    Endpoints,
    /// Envoy resolves each name and uses all addresses.
    StrictDns,
    /// Envoy resolves the one name and uses one address.
    LogicalDns,
    /// Where the application was going.
    OriginalDestination,
    /// None: `BlackHoleCluster`.
    Static,
    /// The request's host is resolved (a dynamic forward proxy).
    DynamicDns,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshCluster {
    /// How addresses are found.
    pub kind: ClusterKind,
    /// The addresses.
    pub endpoints: Vec<MeshEndpoint>,
    /// What is spoken there.
    pub protocol: UpstreamProtocol,
    /// How TLS is opened; absent: plain text.
    pub tls: Option<UpstreamTls>,
    /// Whether `tls` is for those endpoints alone that carry the label `security.istio.io/tlsMode: istio`.
    pub tls_by_endpoint: bool,
    /// The port instead of the one that the application dialled.
    pub port_override: Option<u16>,
    /// The namespace of the service that it is for; empty: none.
    pub namespace: String,
    /// The DestinationRules that it follows, merged in this order.
    pub rules: Vec<ResourceId>,
}

/// One address of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshEndpoint {
    /// A name, an IP address, or the path of a Unix domain socket.
    pub address: String,
    /// 0 for a Unix domain socket.
    pub port: u16,
    /// Where it leads on this machine, if it is there.
    pub local: Option<SocketAddr>,
    /// Whether it accepts mesh TLS.
    pub mesh_tls: bool,
}

/// Name of the cluster that passes on what the registry does not know.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// Name of the cluster that leads nowhere.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
