//! Variants at one placement only.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshproof_harness::external::ExternalSpec;
use meshproof_harness::topology::Topology;
use meshproof_local::data_plane::{Boot, Update};
use meshproof_model::Resource;
use meshproof_plan::model::Role;

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

    /// Whether a proxy stands there in this topology. Istio's labels say which gateway is which.
    #[must_use]
    pub fn is_in(self, topology: &Topology) -> bool {
        let labelled = |label: &str| {
            topology.gateways.iter().any(|gateway| gateway.labels.get("istio").is_some_and(|l| l == label))
        };
        match self {
            Self::Sidecar => !topology.workloads.is_empty(),
            Self::EgressGateway => labelled("egressgateway"),
            Self::IngressGateway => labelled("ingressgateway"),
        }
    }

    /// The placement of a proxy of a plan.
    const fn of(role: Role) -> Self {
        match role {
            Role::Sidecar => Self::Sidecar,
            Role::EgressGateway => Self::EgressGateway,
            Role::IngressGateway => Self::IngressGateway,
        }
    }
}

/// Applies hooks to the proxies at one placement; the others stay honest.
pub(super) struct AtPlacement {
    pub(super) placement: Placement,
    pub(super) inner: Box<dyn PlaneHooks>,
    /// The names of those proxies, from the latest plan.
    here: Mutex<BTreeSet<String>>,
}

impl AtPlacement {
    pub(super) const fn new(placement: Placement, inner: Box<dyn PlaneHooks>) -> Self {
        Self { placement, inner, here: Mutex::new(BTreeSet::new()) }
    }

    fn here(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PlaneHooks for AtPlacement {
    fn resources(&self, resources: &mut Vec<Resource>) {
        self.inner.resources(resources);
    }

    fn external_service(&self, spec: &mut ExternalSpec) {
        self.inner.external_service(spec);
    }

    fn configuration(&self, wanted: &mut WantedConfig, update: &Update<'_>, boot: &Boot) {
        let (here, elsewhere): (Vec<_>, Vec<_>) = std::mem::take(&mut wanted.plan.proxies)
            .into_iter()
            .partition(|p| Placement::of(p.role) == self.placement);
        let names: BTreeSet<String> = here.iter().map(|p| p.name.clone()).collect();
        wanted.plan.proxies = here;
        self.inner.configuration(wanted, update, boot);
        wanted.plan.proxies.extend(elsewhere);
        // Credentials are per proxy: those of other placements are as the update says.
        wanted.credentials.retain(|proxy, _| names.contains(proxy));
        let others = update.credentials.iter().filter(|(proxy, _)| !names.contains(*proxy));
        wanted.credentials.extend(others.map(|(proxy, held)| (proxy.clone(), held.clone())));
        *self.here() = names;
    }

    fn proxy(&self, proxy: &ProxyFacts<'_>) -> Arc<dyn ProxyHooks> {
        if Placement::of(proxy.role) == self.placement { self.inner.proxy(proxy) } else { Arc::new(NoHooks) }
    }

    fn before_change(&self, rotating: &[&str]) -> Option<BoxFuture<'_, ()>> {
        let here: Vec<&str> = rotating.iter().copied().filter(|p| self.here().contains(*p)).collect();
        self.inner.before_change(&here)
    }
}
