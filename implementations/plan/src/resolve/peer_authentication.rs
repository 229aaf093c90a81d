//! PeerAuthentication: what a workload accepts.

use std::collections::BTreeMap;

use super::input::MeshConfig;
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::peer_authentication::{MutualTlsMode, PeerAuthentication};

/// What a workload accepts on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// Plain text alone.
    Plain,
    /// Mesh TLS and plain text.
    Both,
    /// Mesh TLS alone.
    MeshTls,
}

/// `ComposePeerAuthentication` (pilot/pkg/security/authn/policy_applier.go): the mesh's policy, overridden by the
/// namespace's, overridden by the workload's, overridden by its `portLevelMtls`; UNSET inherits; without any, both are
/// accepted. Of equals the oldest. Where the proxies cannot speak mesh TLS, plain text stands for both.
pub(crate) fn accepts(
    policies: &[Named<PeerAuthentication>],
    namespace: &str,
    labels: &BTreeMap<String, String>,
    port: u16,
    mesh: &MeshConfig,
) -> Accepts {
    let root = mesh.root_namespace.as_str();
    let both = if mesh.mesh_tls { Accepts::Both } else { Accepts::Plain };
    let of_all = |namespace: &str| {
        policies.iter().find(|p| p.id.namespace == namespace && p.spec.selects_all()).map(|p| &p.spec)
    };
    let whole = if namespace == root { None } else { of_all(namespace) };
    // A selector in the root namespace selects nothing.
    let workload = policies.iter().find(|p| {
        p.id.namespace == namespace
            && p.id.namespace != root
            && !p.spec.selects_all()
            && p.spec.selector.as_ref().is_some_and(|s| labels_match(&s.match_labels, labels))
    });
    let of_port = workload
        .and_then(|w| w.spec.port_level_mtls.as_ref())
        .and_then(|ports| ports.get(&port.to_string()))
        .map(|m| m.mode);
    let mode = |p: &PeerAuthentication| p.mtls.map(|m| m.mode);
    let layers =
        [of_port, workload.and_then(|w| mode(&w.spec)), whole.and_then(mode), of_all(root).and_then(mode)];
    layers
        .into_iter()
        .flatten()
        .find_map(|m| match m {
            MutualTlsMode::Unset => None,
            MutualTlsMode::Disable => Some(Accepts::Plain),
            MutualTlsMode::Permissive => Some(both),
            MutualTlsMode::Strict => Some(Accepts::MeshTls),
        })
        .unwrap_or(both)
}

/// What a namespace's workloads accept by its own policy or the mesh's (`GetNamespaceMutualTLSMode` in
/// pilot/pkg/model/authentication.go).
pub(crate) fn of_namespace(
    policies: &[Named<PeerAuthentication>],
    namespace: &str,
    mesh: &MeshConfig,
) -> Accepts {
    let of_all: Vec<Named<PeerAuthentication>> =
        policies.iter().filter(|p| p.spec.selects_all()).cloned().collect();
    accepts(&of_all, namespace, &BTreeMap::new(), 0, mesh)
}
