//! Saboteurs that misread Istio's resources: they change them before the plan is made.

use meshproof_model::Resource;
use meshproof_plan::mutation;
use serde_json::Value;

use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "export-to-ignored",
        "Shows every namespace the resources that are exported to their own namespace only.",
        VariantBehaviour::Resources(mutation::export_to_ignored),
    ),
    Definition::new("allow-any", "Ignores REGISTRY_ONLY.", VariantBehaviour::Resources(mutation::allow_any)),
    Definition::new(
        "most-specific-route",
        "Prefers the longest matching prefix to the first matching route.",
        VariantBehaviour::Resources(mutation::most_specific_route_first),
    ),
    Definition::new(
        "catch-all-does-not-stop",
        "Considers the routes after a catch-all route before it.",
        VariantBehaviour::Resources(catch_all_last),
    ),
    Definition::new(
        "last-rule-wins",
        "Keeps only the last of several DestinationRules for one host.",
        VariantBehaviour::Resources(last_rule_per_host),
    ),
];

/// Within each VirtualService, routes that match every path move to the end, where Istio stops at the first
/// of them.
#[expect(clippy::ptr_arg, reason = "the type that every change of resources has")]
fn catch_all_last(resources: &mut Vec<Resource>) {
    for resource in resources.iter_mut().filter(|r| r.kind() == "VirtualService") {
        if let Some(Value::Array(routes)) = resource.0.pointer_mut("/spec/http") {
            // Stable, so that all others keep their order.
            routes.sort_by_key(matches_everything);
        }
    }
}

/// The last rule for a host replaces the earlier ones, where Istio merges them.
fn last_rule_per_host(resources: &mut Vec<Resource>) {
    let rule =
        |r: &Resource| (r.kind() == "DestinationRule").then(|| (r.id().namespace, r.spec()["host"].clone()));
    let mut newer = Vec::new();
    // `retain` visits in order, and a rule depends on those after it.
    resources.reverse();
    resources.retain(|resource| match rule(resource) {
        Some(host) if newer.contains(&host) => false,
        host => {
            newer.extend(host);
            true
        }
    });
    resources.reverse();
}

fn matches_everything(route: &Value) -> bool {
    let conditions = route.get("match").and_then(Value::as_array);
    let everything = |c: &Value| {
        let prefix = c.pointer("/uri/prefix").and_then(Value::as_str);
        c.get("uri").is_none() || prefix == Some("/")
    };
    conditions.is_none_or(|list| list.is_empty() || list.iter().any(everything))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn last_of_two_rules_for_one_host_stays() {
        let rule = |name: &str, host: &str| {
            Resource(json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"host": host},
            }))
        };
        let mut resources = vec![rule("a", "x"), rule("b", "y"), rule("c", "x")];
        last_rule_per_host(&mut resources);
        let left: Vec<&str> = resources.iter().filter_map(|r| r.0["metadata"]["name"].as_str()).collect();
        assert_eq!(left, ["b", "c"]);
    }

    #[test]
    fn catch_all_route_moves_to_the_end() {
        let route = |prefix: &str| json!({"match": [{"uri": {"prefix": prefix}}]});
        let mut resources = vec![Resource(json!({
            "kind": "VirtualService",
            "spec": {"http": [route("/"), route("/oauth"), route("/.well-known")]},
        }))];
        catch_all_last(&mut resources);
        assert_eq!(resources[0].spec()["http"], json!([route("/oauth"), route("/.well-known"), route("/")]));
    }
}
