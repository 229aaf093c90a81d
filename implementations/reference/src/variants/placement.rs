//! Variants at one placement only.

use std::sync::Arc;

use meshproof_harness::external::ExternalSpec;
use meshproof_harness::topology::Topology;
use meshproof_local::data_plane::{Boot, Update};
use meshproof_model::Resource;

use crate::hooks::{BoxFuture, NoHooks, PlaneHooks, ProxyFacts, ProxyHooks, WantedConfig};

/// Where a proxy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// Beside an application.
    Sidecar,
    /// Where requests leave the mesh.
    EgressGateway,
    /// Where requests enter the mesh.
    IngressGateway,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 3] = [Self::Sidecar, Self::EgressGateway, Self::IngressGateway];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::EgressGateway => "egress-gateway",
            Self::IngressGateway => "ingress-gateway",
        }
    }

    /// Whether a proxy stands there in this topology.
    #[must_use]
    pub fn is_in(self, topology: &Topology) -> bool {
        match self {
            Self::Sidecar => !topology.workloads.is_empty(),
            Self::EgressGateway | Self::IngressGateway => {
                topology.gateways.iter().any(|gateway| Self::of(&gateway.name) == self)
            }
        }
    }

    /// The placement of a proxy. A plan does not say what its proxies are, so Istio's names for its gateways
    /// decide.
    fn of(proxy: &str) -> Self {
        if proxy.contains("egressgateway") {
            Self::EgressGateway
        } else if proxy.contains("ingressgateway") {
            Self::IngressGateway
        } else {
            Self::Sidecar
        }
    }
}

/// Applies hooks to the proxies at one placement; the others stay honest.
pub(super) struct AtPlacement {
    pub(super) placement: Placement,
    pub(super) inner: Box<dyn PlaneHooks>,
}

impl PlaneHooks for AtPlacement {
    fn resources(&self, resources: &mut Vec<Resource>) {
        self.inner.resources(resources);
    }

    fn external_service(&self, spec: &mut ExternalSpec) {
        self.inner.external_service(spec);
    }

    fn configuration(&self, wanted: &mut WantedConfig, update: &Update<'_>, boot: &Boot) {
        let (here, elsewhere) = std::mem::take(&mut wanted.plan.proxies)
            .into_iter()
            .partition(|p| Placement::of(&p.name) == self.placement);
        wanted.plan.proxies = here;
        self.inner.configuration(wanted, update, boot);
        wanted.plan.proxies.extend::<Vec<_>>(elsewhere);
        // Credentials are per proxy: those of other placements are as the update says.
        wanted.credentials.retain(|proxy, _| Placement::of(proxy) == self.placement);
        let others = update.credentials.iter().filter(|(proxy, _)| Placement::of(proxy) != self.placement);
        wanted.credentials.extend(others.map(|(proxy, held)| (proxy.clone(), held.clone())));
    }

    fn proxy(&self, proxy: &ProxyFacts<'_>) -> Arc<dyn ProxyHooks> {
        if Placement::of(proxy.name) == self.placement { self.inner.proxy(proxy) } else { Arc::new(NoHooks) }
    }

    fn before_change(&self, rotating: &[&str]) -> Option<BoxFuture<'_, ()>> {
        let here: Vec<&str> =
            rotating.iter().copied().filter(|p| Placement::of(p) == self.placement).collect();
        self.inner.before_change(&here)
    }
}
