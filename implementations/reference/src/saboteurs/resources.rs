//! Saboteurs that misread Istio's resources: they change them before a plan is made.

use meshproof_model::Resource;
use meshproof_plan::mutation;
use serde_json::Value;

use super::Saboteur;

type Mutation = fn(&mut Vec<Resource>);

const TABLE: &[(Saboteur, Mutation)] = &[
    (Saboteur::ExportToIgnored, mutation::export_to_ignored),
    (Saboteur::AllowAny, mutation::allow_any),
    (Saboteur::MostSpecificRoute, mutation::most_specific_route_first),
    (Saboteur::CatchAllDoesNotStop, catch_all_last),
    (Saboteur::LastRuleWins, last_rule_for_each_host),
];

/// Changes the resources as the saboteur would understand them.
pub(crate) fn misread(saboteur: Saboteur, resources: &mut Vec<Resource>) {
    if let Some((_, mutation)) = TABLE.iter().find(|(s, _)| *s == saboteur) {
        mutation(resources);
    }
}

/// Within each VirtualService, routes that take every path are tried after all others, where Istio stops at the first of
/// them.
#[expect(clippy::ptr_arg, reason = "one of the table's mutations")]
fn catch_all_last(resources: &mut Vec<Resource>) {
    for resource in resources.iter_mut().filter(|r| r.kind() == "VirtualService") {
        if let Some(Value::Array(routes)) = resource.0.pointer_mut("/spec/http") {
            // Stable, so that all others keep their order.
            routes.sort_by_key(takes_everything);
        }
    }
}

/// Where Istio merges rules for one host, the newest replaces the others.
fn last_rule_for_each_host(resources: &mut Vec<Resource>) {
    let rule =
        |r: &Resource| (r.kind() == "DestinationRule").then(|| (r.id().namespace, r.spec()["host"].clone()));
    let mut newer = Vec::new();
    // `retain` asks in order, and what counts is what comes after.
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

fn takes_everything(route: &Value) -> bool {
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
    fn of_two_rules_for_one_host_the_last_stays() {
        let rule = |name: &str, host: &str| {
            let metadata = json!({"name": name, "namespace": "default"});
            Resource(
                json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata, "spec": {"host": host}}),
            )
        };
        let mut resources = vec![rule("a", "x"), rule("b", "y"), rule("c", "x")];
        misread(Saboteur::LastRuleWins, &mut resources);
        let left: Vec<&str> = resources.iter().filter_map(|r| r.0["metadata"]["name"].as_str()).collect();
        assert_eq!(left, ["b", "c"]);
    }

    #[test]
    fn catch_all_first_is_tried_last() {
        let route = |prefix: &str| json!({"match": [{"uri": {"prefix": prefix}}]});
        let mut resources = vec![Resource(json!({
            "kind": "VirtualService",
            "spec": {"http": [route("/"), route("/oauth"), route("/.well-known")]},
        }))];
        misread(Saboteur::CatchAllDoesNotStop, &mut resources);
        assert_eq!(resources[0].spec()["http"], json!([route("/oauth"), route("/.well-known"), route("/")]));
        let before = resources.clone();
        misread(Saboteur::NoSni, &mut resources);
        assert_eq!(resources, before);
    }
}
