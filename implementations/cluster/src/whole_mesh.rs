//! What is in force for the whole mesh, whatever a run creates: the resources of its root namespace.

use meshproof_harness::manifest;
use serde_json::Value;

use crate::api::{ApiError, ClusterClient};

/// The namespace whose resources apply to the whole mesh: `rootNamespace` of the mesh configuration, else istiod's own
/// (reference, "Global Mesh Options").
#[must_use]
pub fn root_namespace(config: Option<&Value>, istiod: &str) -> String {
    let mesh = configuration(config);
    mesh["rootNamespace"].as_str().filter(|name| !name.is_empty()).unwrap_or(istiod).to_owned()
}

/// The mesh configuration in a ConfigMap; null where there is none, or where it is not valid YAML.
#[must_use]
pub fn configuration(config: Option<&Value>) -> Value {
    let text = config.and_then(|config| config.pointer("/data/mesh")?.as_str()).unwrap_or_default();
    manifest::value(text).unwrap_or_default()
}

/// Whether the policy is one of those of which one must match a request; ALLOW is the default action (reference,
/// `AuthorizationPolicy.action`).
#[must_use]
pub fn allows(policy: &Value) -> bool {
    matches!(policy.pointer("/spec/action").and_then(Value::as_str), None | Some("ALLOW"))
}

/// Whether the root namespace has a policy that allows only some requests, or none. False if the account may not read policies,
/// or the cluster has none.
///
/// # Errors
/// The cluster's.
pub async fn allows_only_some(api: &ClusterClient, root: &str) -> Result<bool, ApiError> {
    Ok(listed(api, "AuthorizationPolicy", root).await?.iter().any(allows))
}

/// Whether the root namespace has a DestinationRule for clients of every namespace. One with a `workloadSelector` is for pods of its
/// own namespace. False if the account may not read rules, or the cluster has none.
///
/// # Errors
/// The cluster's.
pub async fn has_destination_rules(api: &ClusterClient, root: &str) -> Result<bool, ApiError> {
    let rules = listed(api, "DestinationRule", root).await?;
    Ok(rules.iter().any(|rule| rule.pointer("/spec/workloadSelector").is_none()))
}

/// The resources of a kind in the root namespace; none if the account may not read them, or the cluster does not serve the kind.
///
/// # Errors
/// The cluster's.
pub async fn listed(api: &ClusterClient, kind: &str, root: &str) -> Result<Vec<Value>, ApiError> {
    match api.list(kind, Some(root), None).await {
        Err(ApiError::Forbidden(_) | ApiError::NotServed(_)) => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_root_namespace_is_the_configured_one_or_else_istiods() {
        assert_eq!(root_namespace(None, "istio-system"), "istio-system");
        let config = json!({"data": {"mesh": "rootNamespace: mesh-config"}});
        assert_eq!(root_namespace(Some(&config), "istio-system"), "mesh-config");
        let unset = json!({"data": {"mesh": "accessLogFile: /dev/stdout"}});
        assert_eq!(root_namespace(Some(&unset), "istio-system"), "istio-system");
    }

    #[test]
    fn a_policy_without_an_action_allows_and_one_that_denies_does_not() {
        assert!(allows(&json!({"spec": {}})) && allows(&json!({"spec": {"action": "ALLOW"}})));
        assert!(
            !allows(&json!({"spec": {"action": "DENY"}})) && !allows(&json!({"spec": {"action": "AUDIT"}}))
        );
    }
}
