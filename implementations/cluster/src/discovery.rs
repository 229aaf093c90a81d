//! Which versions of the mesh's custom resources a cluster serves.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use meshproof_model::Resource;
use serde_json::Value;

use crate::api::kinds::{KINDS, Kind};
use crate::api::question::Question;
use crate::api::{Api, ApiError};

/// What is served: for each of the mesh's kinds the best of its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    versions: BTreeMap<&'static str, String>,
    groups: Vec<String>,
}

impl Served {
    /// What the lists of resources say, by group and version; for tests and for [`discover`].
    #[must_use]
    pub fn from_lists(groups: Vec<String>, lists: &[(String, String, Value)]) -> Self {
        let mut versions = BTreeMap::new();
        for kind in KINDS.iter().filter(|k| k.is_istio()) {
            let serves = |version: &str| {
                lists.iter().filter(|(g, v, _)| g == kind.group && v == version).any(|(.., list)| {
                    let resources = list.get("resources").and_then(Value::as_array);
                    resources.into_iter().flatten().any(|r| r["name"] == kind.plural)
                })
            };
            if let Some(best) = kind.versions.iter().find(|v| serves(v)) {
                versions.insert(kind.kind, (*best).to_owned());
            }
        }
        Self { versions, groups }
    }

    /// `networking.istio.io/v1` for `Gateway`; none where it is not served. Built-in kinds always are.
    #[must_use]
    pub fn api_version(&self, kind: &str) -> Option<String> {
        let kind = Kind::named(kind)?;
        let version = if kind.is_istio() { self.versions.get(kind.kind)?.as_str() } else { kind.versions[0] };
        Some(if kind.group.is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group) })
    }

    /// The mesh's kinds that are not served.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static Kind> {
        KINDS.iter().filter(|k| k.is_istio() && !self.versions.contains_key(k.kind)).collect()
    }

    /// Whether a group of this name is served in any version.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The resource in the version that is served; its fields are the same in all of them (Istio's API is one schema under
    /// several names). As it is where its kind is not served: applying it says so.
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
pub(crate) async fn discover(api: &Api) -> Result<Served, ApiError> {
    let all = ask(api, "/apis".to_owned(), "API groups").await?;
    let mut groups = Vec::new();
    let mut wanted = Vec::new();
    for group in all.get("groups").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = group["name"].as_str() else { continue };
        groups.push(name.to_owned());
        let known = KINDS.iter().find(|k| k.is_istio() && k.group == name);
        for version in group.get("versions").and_then(Value::as_array).into_iter().flatten() {
            let version = version["version"].as_str().unwrap_or_default();
            if known.is_some_and(|k| k.versions.contains(&version)) {
                wanted.push((name.to_owned(), version.to_owned()));
            }
        }
    }
    let lists: Vec<_> = wanted.into_iter().map(|(group, version)| resources(api, group, version)).collect();
    Ok(Served::from_lists(groups, &try_join_all(lists).await?))
}

async fn resources(api: &Api, group: String, version: String) -> Result<(String, String, Value), ApiError> {
    let list = ask(api, format!("/apis/{group}/{version}"), "API resources").await?;
    Ok((group, version, list))
}

async fn ask(api: &Api, path: String, what: &str) -> Result<Value, ApiError> {
    let question = Question::get(path, what, what);
    let answer = api.ask(&question).await.map_err(|fault| question.error(fault))?;
    serde_json::from_slice(&answer)
        .map_err(|e| ApiError::Unavailable(format!("the list of {what} is not JSON ({e})")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(group: &str, version: &str, names: &[&str]) -> (String, String, Value) {
        let resources: Vec<Value> = names.iter().map(|n| json!({ "name": n })).collect();
        (group.to_owned(), version.to_owned(), json!({ "resources": resources }))
    }

    #[test]
    fn the_newest_version_that_is_served_is_used_and_a_kind_that_is_not_is_missing() {
        let served = Served::from_lists(
            Vec::new(),
            &[
                list("networking.istio.io", "v1alpha3", &["gateways", "gateways/status", "sidecars"]),
                list("networking.istio.io", "v1beta1", &["gateways"]),
                list("security.istio.io", "v1", &["gateways"]),
            ],
        );
        assert_eq!(served.api_version("Gateway").unwrap(), "networking.istio.io/v1beta1");
        assert_eq!(served.api_version("Sidecar").unwrap(), "networking.istio.io/v1alpha3");
        assert_eq!(served.api_version("PeerAuthentication"), None);
        assert_eq!(served.api_version("Deployment").unwrap(), "apps/v1");
        assert!(served.missing().iter().any(|k| k.kind == "Telemetry"));
    }

    #[test]
    fn a_resource_is_rewritten_to_what_is_served_and_to_nothing_else() {
        let served =
            Served::from_lists(Vec::new(), &[list("networking.istio.io", "v1alpha3", &["gateways"])]);
        let resource = |version: &str, kind: &str| {
            Resource(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "n"}}))
        };
        let gateway = served.rewritten(&resource("networking.istio.io/v1", "Gateway"));
        assert_eq!(gateway.api_version(), "networking.istio.io/v1alpha3");
        let other = resource("networking.istio.io/v1", "ServiceEntry");
        assert_eq!(served.rewritten(&other), other);
    }
}
