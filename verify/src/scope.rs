//! What of a mesh is judged, and how much of the mesh was read.

use meshproof_model::{Resource, ResourceId};

use crate::flows::Observed;
use crate::raw;
use crate::world::World;

/// Of files: everything that they hold, and they may be a part of the mesh. Of a cluster: one namespace, with everything that
/// the account may read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Requests of this namespace's workloads and routes are judged alone; none: all.
    pub(crate) namespace: Option<String>,
    /// All resources of the mesh were read, so that one which is not among them does not exist.
    pub(crate) whole: bool,
    /// So were the Secrets that credentials name.
    pub(crate) secrets: bool,
}

impl Scope {
    /// Where a resource was looked for, after `no X is `.
    pub(crate) fn among(&self) -> &'static str {
        if self.namespace.is_some() { "in the cluster" } else { "among the files" }
    }

    /// Whether sidecars of a namespace are judged.
    pub(crate) fn has(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }

    /// Whether a request is the namespace's: one of its workloads sends it, or one of its routes takes it.
    pub(crate) fn concerns(&self, world: &World, one: &Observed) -> bool {
        let Some(own) = &self.namespace else { return true };
        let ours = |id: &ResourceId| id.namespace == *own;
        (world.is_sidecar(one.proxy) && world.proxy(one.proxy).namespace == *own)
            || one.meant_for.as_ref().is_some_and(|r| ours(&r.service))
            || one
                .traces
                .iter()
                .flat_map(|t| &t.hops)
                .filter_map(|h| h.route.as_ref())
                .any(|r| ours(&r.service))
    }

    /// Whether a resource has a part in the namespace's requests: it is the namespace's own or the root namespace's, is exported to
    /// it, or configures a gateway.
    pub(crate) fn reaches(&self, world: &World, resource: &Resource) -> bool {
        let Some(own) = &self.namespace else { return true };
        let at = resource.namespace();
        let gateway = || {
            let gateways = (0..world.configs.len()).filter(|i| !world.is_sidecar(*i));
            gateways.into_iter().any(|i| world.proxy(i).namespace == at)
        };
        at == own
            || at == world.state.mesh.root_namespace
            || match resource.kind() {
                "ServiceEntry" | "VirtualService" | "DestinationRule" => crate::flows::reaches(resource, own),
                "Gateway" => true,
                _ => gateway() || raw::text(&resource.0, "/spec/location") == "MESH_INTERNAL",
            }
    }
}
