//! Where the proxy stands that opens TLS. What a document promises of "a proxy" is asked of each: a scenario's configuration
//! says which, and the story is the same.

use meshproof_harness::mesh::{Client, Mesh, Proxy};
use meshproof_harness::topology::{Gateway, Topology, Workload};

/// Where the proxy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Beside the application.
    Sidecar,
    /// Where requests leave the mesh; the sidecar sends them there by mesh mutual TLS.
    EgressGateway,
    /// Where requests enter the mesh.
    IngressGateway,
}

impl Placement {
    /// The placement that a configuration's name begins with: `egress-gateway-mutual`.
    fn named(configuration: &str) -> Self {
        if configuration.starts_with("egress-gateway") {
            Self::EgressGateway
        } else if configuration.starts_with("ingress-gateway") {
            Self::IngressGateway
        } else {
            Self::Sidecar
        }
    }

    pub(crate) fn of(mesh: &Mesh) -> Self {
        Self::named(mesh.configuration())
    }

    /// The proxies that requests pass.
    pub(crate) fn topology(configuration: &str) -> Topology {
        let application = Topology::default().workload(Workload::sleep());
        match Self::named(configuration) {
            Self::Sidecar => application,
            Self::EgressGateway => application.gateway(Gateway::egress()),
            Self::IngressGateway => Topology::default().gateway(Gateway::ingress()),
        }
    }

    /// The proxy.
    pub(crate) fn proxy(self, mesh: &Mesh) -> Proxy<'_> {
        mesh.proxy(match self {
            Self::Sidecar => "sleep",
            Self::EgressGateway => "istio-egressgateway",
            Self::IngressGateway => "istio-ingressgateway",
        })
    }

    /// Who sends requests that reach the proxy: the application, or a client in front of the ingress gateway.
    pub(crate) fn client(self, mesh: &Mesh) -> Client<'_> {
        match self {
            Self::Sidecar | Self::EgressGateway => mesh.workload("sleep"),
            Self::IngressGateway => self.proxy(mesh).probe(80),
        }
    }

    /// The namespace of the proxy, in which its credentials are looked up.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Sidecar => "default",
            Self::EgressGateway | Self::IngressGateway => "istio-system",
        }
    }
}
