//! The kinds that the suite speaks of, and where their objects are found.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
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
}

/// Istio's API reached v1 with 1.22; older installations serve the others.
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY: &[&str] = &["v1", "v1beta1"];
const TELEMETRY: &[&str] = &["v1", "v1alpha1"];

const fn core(kind: &'static str, plural: &'static str) -> Kind {
    Kind { kind, group: "", plural, namespaced: true, versions: &["v1"] }
}

const fn of(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { kind, group, plural, namespaced: true, versions: &["v1"] }
}

const fn istio(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
) -> Kind {
    Kind { kind, group, plural, namespaced: true, versions }
}

const fn cluster_wide(kind: Kind) -> Kind {
    Kind { namespaced: false, ..kind }
}

/// Pods, whose logs have an address of their own.
pub(super) const POD: Kind = core("Pod", "pods");

/// Every kind that the suite reads or writes.
pub const KINDS: &[Kind] = &[
    cluster_wide(core("Namespace", "namespaces")),
    cluster_wide(core("Node", "nodes")),
    POD,
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
    istio("security.istio.io", "PeerAuthentication", "peerauthentications", SECURITY),
    istio("telemetry.istio.io", "Telemetry", "telemetries", TELEMETRY),
];

/// What need not be escaped in a segment of a path (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Kind {
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
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The path of its objects, of those in a namespace, or of one.
    pub(super) fn path(&self, version: &str, namespace: Option<&str>, name: Option<&str>) -> String {
        let segment = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let mut path = if self.group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{}/{version}", self.group)
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(&segment(namespace));
        }
        path.push('/');
        path.push_str(self.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(&segment(name));
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_kubernetes_api() {
        let path = |kind: &str, version: &str, namespace, name| {
            Kind::named(kind).unwrap().path(version, namespace, name)
        };
        assert_eq!(path("Pod", "v1", Some("a"), Some("p")), "/api/v1/namespaces/a/pods/p");
        assert_eq!(path("Namespace", "v1", Some("a"), Some("a")), "/api/v1/namespaces/a");
        assert_eq!(path("Gateway", "v1beta1", None, None), "/apis/networking.istio.io/v1beta1/gateways");
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        let path = Kind::named("Secret").unwrap().path("v1", Some("a/../b"), Some("x?y=z#"));
        assert_eq!(path, "/api/v1/namespaces/a%2F..%2Fb/secrets/x%3Fy%3Dz%23");
    }

    #[test]
    fn no_kind_is_there_twice() {
        let names: std::collections::BTreeSet<&str> = KINDS.iter().map(|k| k.kind).collect();
        assert_eq!(names.len(), KINDS.len());
    }
}
