//! Which versions of the mesh's custom resources a cluster serves.

use std::collections::BTreeMap;

use kube::discovery::Discovery;
use meshproof_model::Resource;
use serde_json::Value;

use super::error::{ApiError, Subject};
use super::kinds::{KINDS, ObjectKind};

/// What is served: for each of the mesh's kinds the best of its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedVersions {
    versions: BTreeMap<&'static str, &'static str>,
    on_openshift: bool,
}

/// Every OpenShift serves this group, and nothing else does.
const OPENSHIFT: &str = "config.openshift.io";

impl ServedVersions {
    fn choose(serves: impl Fn(&ObjectKind, &str) -> bool) -> Self {
        let best = |kind: &'static ObjectKind| {
            let best = kind.versions.iter().find(|version| serves(kind, version))?;
            Some((kind.kind, *best))
        };
        let versions = KINDS.iter().filter(|k| k.is_istio()).filter_map(best).collect();
        Self { versions, on_openshift: false }
    }

    /// `v1` for `Gateway`; none where it is not served. Built-in kinds always are.
    pub(super) fn version(&self, kind: &str) -> Option<&'static str> {
        let kind = ObjectKind::named(kind)?;
        if kind.is_istio() { self.versions.get(kind.kind).copied() } else { Some(kind.versions[0]) }
    }

    /// `networking.istio.io/v1` for `Gateway`; none where it is not served. Built-in kinds always are.
    #[must_use]
    pub fn api_version(&self, kind: &str) -> Option<String> {
        Some(ObjectKind::named(kind)?.in_version(self.version(kind)?).api_version)
    }

    /// The mesh's kinds that a run needs and that are not served.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static ObjectKind> {
        let lacks = |k: &&ObjectKind| k.is_istio() && !k.optional && !self.versions.contains_key(k.kind);
        KINDS.iter().filter(lacks).collect()
    }

    /// Whether the cluster is an OpenShift.
    #[must_use]
    pub const fn on_openshift(&self) -> bool {
        self.on_openshift
    }

    /// The resource in the version that is served; its fields are the same in all of them (Istio's API is one
    /// schema under several names). Unchanged where its kind is not served: applying it fails with that
    /// reason.
    #[must_use]
    pub fn rewritten(&self, resource: &Resource) -> Resource {
        let mut resource = resource.clone();
        if let Some(version) = self.api_version(resource.kind())
            && let Some(field) = resource.0.get_mut("apiVersion")
        {
            *field = Value::from(version);
        }
        resource
    }
}

/// Asks the cluster.
pub(super) async fn discover(client: &kube::Client) -> Result<ServedVersions, ApiError> {
    let groups: Vec<&str> =
        KINDS.iter().filter(|k| k.is_istio()).map(|k| k.group).chain([OPENSHIFT]).collect();
    let discovery = Discovery::new(client.clone()).filter(&groups).run().await;
    let discovery = discovery.map_err(|e| Subject::new("API groups and resources").error(e))?;
    let served = ServedVersions::choose(|kind, version| {
        let resources = discovery.get(kind.group).map(|group| group.versioned_resources(version));
        resources.is_some_and(|all| all.iter().any(|(resource, _)| resource.plural == kind.plural))
    });
    Ok(ServedVersions { on_openshift: discovery.has_group(OPENSHIFT), ..served })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn serving(all: &[(&str, &str, &[&str])]) -> ServedVersions {
        ServedVersions::choose(|kind, version| {
            all.iter().any(|(g, v, names)| *g == kind.group && *v == version && names.contains(&kind.plural))
        })
    }

    #[test]
    fn the_newest_version_that_is_served_is_used_and_a_kind_that_is_not_served_is_missing() {
        let served = serving(&[
            ("networking.istio.io", "v1alpha3", &["gateways", "gateways/status", "sidecars"]),
            ("networking.istio.io", "v1beta1", &["gateways"]),
            ("security.istio.io", "v1", &["gateways"]),
        ]);
        assert_eq!(served.api_version("Gateway").unwrap(), "networking.istio.io/v1beta1");
        assert_eq!(served.api_version("Sidecar").unwrap(), "networking.istio.io/v1alpha3");
        assert_eq!(served.api_version("PeerAuthentication"), None);
        assert_eq!(served.api_version("Deployment").unwrap(), "apps/v1");
        assert_eq!(served.api_version("Pod").unwrap(), "v1");
        assert!(served.missing().iter().any(|k| k.kind == "Telemetry"));
        assert!(!served.missing().iter().any(|k| k.kind == "EnvoyFilter"), "a run does without");
    }

    #[test]
    fn only_a_resource_whose_kind_is_served_is_rewritten_to_the_served_version() {
        let served = serving(&[("networking.istio.io", "v1alpha3", &["gateways"])]);
        let resource = |version: &str, kind: &str| {
            Resource(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "n"}}))
        };
        let gateway = served.rewritten(&resource("networking.istio.io/v1", "Gateway"));
        assert_eq!(gateway.api_version(), "networking.istio.io/v1alpha3");
        let other = resource("networking.istio.io/v1", "ServiceEntry");
        assert_eq!(served.rewritten(&other), other);
    }
}
