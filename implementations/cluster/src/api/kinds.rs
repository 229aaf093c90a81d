//! The kinds of objects that the suite reads and writes.

use kube::core::{ApiResource, GroupVersionKind};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKind {
    /// `VirtualService`.
    pub kind: &'static str,
    /// `networking.istio.io`; empty for the core group.
    pub group: &'static str,
    /// `virtualservices`.
    pub plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The versions that the suite writes, best first.
    pub versions: &'static [&'static str],
    /// Whether a run is possible without it.
    pub optional: bool,
}

/// Istio's API reached v1 with 1.22; older installations serve the others.
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY: &[&str] = &["v1", "v1beta1"];
const TELEMETRY: &[&str] = &["v1", "v1alpha1"];

const fn core(kind: &'static str, plural: &'static str) -> ObjectKind {
    ObjectKind { kind, group: "", plural, namespaced: true, versions: &["v1"], optional: false }
}

const fn of(group: &'static str, kind: &'static str, plural: &'static str) -> ObjectKind {
    ObjectKind { kind, group, plural, namespaced: true, versions: &["v1"], optional: false }
}

const fn istio(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
) -> ObjectKind {
    ObjectKind { kind, group, plural, namespaced: true, versions, optional: false }
}

const fn optional(kind: ObjectKind) -> ObjectKind {
    ObjectKind { optional: true, ..kind }
}

const fn cluster_wide(kind: ObjectKind) -> ObjectKind {
    ObjectKind { namespaced: false, ..kind }
}

/// Every kind that the suite reads or writes.
pub const KINDS: &[ObjectKind] = &[
    cluster_wide(core("Namespace", "namespaces")),
    cluster_wide(core("Node", "nodes")),
    core("Pod", "pods"),
    optional(core("Event", "events")),
    core("Service", "services"),
    core("ConfigMap", "configmaps"),
    core("Secret", "secrets"),
    core("ServiceAccount", "serviceaccounts"),
    of("apps", "Deployment", "deployments"),
    of("apps", "DaemonSet", "daemonsets"),
    of("rbac.authorization.k8s.io", "Role", "roles"),
    of("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
    cluster_wide(of(
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    )),
    istio("networking.istio.io", "DestinationRule", "destinationrules", NETWORKING),
    istio("networking.istio.io", "Gateway", "gateways", NETWORKING),
    istio("networking.istio.io", "ServiceEntry", "serviceentries", NETWORKING),
    istio("networking.istio.io", "Sidecar", "sidecars", NETWORKING),
    istio("networking.istio.io", "VirtualService", "virtualservices", NETWORKING),
    optional(istio("networking.istio.io", "WorkloadEntry", "workloadentries", NETWORKING)),
    optional(istio("networking.istio.io", "EnvoyFilter", "envoyfilters", &["v1alpha3"])),
    optional(istio("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", SECURITY)),
    istio("security.istio.io", "PeerAuthentication", "peerauthentications", SECURITY),
    istio("telemetry.istio.io", "Telemetry", "telemetries", TELEMETRY),
];

impl ObjectKind {
    /// The kind of this name.
    #[must_use]
    pub fn named(kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|k| k.kind == kind)
    }

    /// Whether it is a custom resource of the mesh's API.
    #[must_use]
    pub fn is_istio(&self) -> bool {
        self.group.ends_with(".istio.io")
    }

    /// `virtualservices.networking.istio.io`, as permissions and `kubectl` name it.
    #[must_use]
    pub fn qualified_name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// As kube takes it, in one of its versions.
    pub(super) fn in_version(&self, version: &str) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_listed_once() {
        let names: std::collections::BTreeSet<&str> = KINDS.iter().map(|k| k.kind).collect();
        assert_eq!(names.len(), KINDS.len());
    }
}
