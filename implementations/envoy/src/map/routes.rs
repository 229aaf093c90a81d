//! Route configurations (pilot/pkg/networking/core/httproute.go and core/route/route.go).

use meshproof_local::data_plane::DataPlaneError;
use meshproof_plan::model::{
    Direction, Forward, HeaderChanges, HttpRoutes, Listener, PathMatch, ProxyPlan, Retry, Route, RouteAction,
    StringMatch, WeightedCluster,
};
use serde_json::{Value, json};

use super::common::{UNRESOLVED, by_host, destination};

const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const PREVIOUS_HOSTS: &str =
    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

pub(super) fn configuration(
    http: &HttpRoutes,
    listener: &Listener,
    plan: &ProxyPlan,
) -> Result<Value, DataPlaneError> {
    let mut hosts = Vec::new();
    for host in &http.virtual_hosts {
        let mut routes = Vec::new();
        for route in &host.routes {
            routes.extend(expanded(route, listener, plan)?);
        }
        let mut value = json!({
            "name": host.name,
            "domains": host.domains,
            "routes": routes,
            "include_request_attempt_count": true,
        });
        if host.require_tls {
            value["require_tls"] = json!("ALL");
        }
        hosts.push(value);
    }
    Ok(json!({
        "@type": ROUTES,
        "name": http.name,
        "virtual_hosts": hosts,
        "validate_clusters": false,
        // The only host of an inbound listener in a plan is `*`.
        "ignore_port_in_host_matching": listener.direction != Direction::Inbound,
    }))
}

/// One route, or, for a route to the application's original destination, one per destination, selected by
/// host.
fn expanded(route: &Route, listener: &Listener, plan: &ProxyPlan) -> Result<Vec<Value>, DataPlaneError> {
    let RouteAction::Forward(forward) = &route.action else {
        return Ok(vec![translated(route, None)?]);
    };
    let places = forward
        .clusters
        .iter()
        .filter_map(|w| plan.cluster(&w.cluster))
        .find_map(|cluster| by_host(cluster, listener.port));
    let Some(places) = places else { return Ok(vec![translated(route, None)?]) };
    let mut routes = Vec::new();
    for (host, at) in places {
        let mut value = translated(route, Some(&at.to_string()))?;
        // The Host header as received: a rewrite happens after a route is chosen.
        let regex = format!("(?i){}(:[0-9]+)?", regex_syntax::escape(&host));
        let condition = json!({"name": ":authority", "string_match": {"safe_regex": {"regex": regex}}});
        match value["match"]["headers"].as_array_mut() {
            Some(conditions) => conditions.push(condition),
            None => value["match"]["headers"] = json!([condition]),
        }
        routes.push(value);
    }
    routes.push(translated(route, Some(UNRESOLVED))?);
    Ok(routes)
}

fn translated(route: &Route, to: Option<&str>) -> Result<Value, DataPlaneError> {
    let mut value = json!({"name": route.name, "match": condition(route)});
    match &route.action {
        RouteAction::Forward(forward) => {
            value["route"] = action(forward, to);
            changes(&mut value, "request", &forward.request_headers);
            changes(&mut value, "response", &forward.response_headers);
        }
        RouteAction::DirectResponse { status, body } => {
            value["direct_response"] = if body.is_empty() {
                json!({"status": status})
            } else {
                json!({"status": status, "body": {"inline_string": body}})
            };
        }
        RouteAction::Redirect { status, scheme, authority, path, prefix, port } => {
            let mut redirect = json!({"response_code": redirect_code(*status)?});
            for (field, text) in [
                ("scheme_redirect", scheme),
                ("host_redirect", authority),
                ("path_redirect", path),
                ("prefix_rewrite", prefix),
            ] {
                if let Some(text) = text {
                    redirect[field] = json!(text);
                }
            }
            if let Some(port) = port {
                redirect["port_redirect"] = json!(port);
            }
            value["redirect"] = redirect;
        }
    }
    Ok(value)
}

fn redirect_code(status: u16) -> Result<&'static str, DataPlaneError> {
    match status {
        301 => Ok("MOVED_PERMANENTLY"),
        302 => Ok("FOUND"),
        303 => Ok("SEE_OTHER"),
        307 => Ok("TEMPORARY_REDIRECT"),
        308 => Ok("PERMANENT_REDIRECT"),
        other => Err(DataPlaneError::Unable(format!(
            "a redirect with status {other}; Envoy supports 301, 302, 303, 307 and 308"
        ))),
    }
}

/// `TranslateRouteMatch`.
fn condition(route: &Route) -> Value {
    let matches = &route.matches;
    let mut condition = match &matches.path {
        PathMatch::Any => json!({"prefix": "/"}),
        PathMatch::Prefix(prefix) => json!({"prefix": prefix}),
        PathMatch::Exact(path) => json!({"path": path}),
        PathMatch::Regex(regex) => json!({"safe_regex": {"regex": regex}}),
    };
    if matches.ignore_case {
        condition["case_sensitive"] = json!(false);
    }
    let mut headers: Vec<Value> = matches.headers.iter().map(|(name, m)| matcher(name, m)).collect();
    for (name, m) in &matches.without_headers {
        let mut unwanted = matcher(name, m);
        unwanted["invert_match"] = json!(true);
        if unwanted.get("present_match").is_none() {
            unwanted["treat_missing_header_as_empty"] = json!(true);
        }
        headers.push(unwanted);
    }
    if !headers.is_empty() {
        condition["headers"] = headers.into();
    }
    if !matches.query.is_empty() {
        condition["query_parameters"] = matches.query.iter().map(|(name, m)| matcher(name, m)).collect();
    }
    condition
}

fn matcher(name: &str, m: &StringMatch) -> Value {
    match m {
        StringMatch::Exact(text) => json!({"name": name, "string_match": {"exact": text}}),
        // Every value begins with the empty prefix, which Envoy cannot express.
        StringMatch::Prefix(text) if text.is_empty() => json!({"name": name, "present_match": true}),
        StringMatch::Prefix(text) => json!({"name": name, "string_match": {"prefix": text}}),
        StringMatch::Regex(regex) => json!({"name": name, "string_match": {"safe_regex": {"regex": regex}}}),
        StringMatch::Present => json!({"name": name, "present_match": true}),
    }
}

fn action(forward: &Forward, to: Option<&str>) -> Value {
    let mut action = json!({"timeout": duration(forward.timeout_ms.unwrap_or(0))});
    match forward.clusters.as_slice() {
        [only] if !only.changes_messages() => action["cluster"] = json!(only.cluster),
        several => {
            let each: Vec<Value> = several.iter().map(destination_of).collect();
            action["weighted_clusters"] = json!({"clusters": each});
        }
    }
    if let Some(host) = &forward.host_rewrite {
        action["host_rewrite_literal"] = json!(host);
    }
    if let Some(path) = &forward.path_rewrite {
        action["prefix_rewrite"] = json!(path);
    }
    if let Some(rewrite) = &forward.regex_rewrite {
        action["regex_rewrite"] =
            json!({"pattern": {"regex": rewrite.pattern}, "substitution": rewrite.substitution});
    }
    if !forward.mirrors.is_empty() {
        let copies = forward.mirrors.iter().map(|cluster| json!({"cluster": cluster}));
        action["request_mirror_policies"] = copies.collect();
    }
    match (to, &forward.retry) {
        // Requests to an original destination are not retried.
        (Some(to), _) => action["metadata_match"] = destination(to),
        (None, Some(retry)) => action["retry_policy"] = retries(retry),
        (None, None) => {}
    }
    action
}

/// One of several destinations, with what it changes by itself.
fn destination_of(weighted: &WeightedCluster) -> Value {
    let mut value = json!({"name": weighted.cluster, "weight": weighted.weight});
    if let Some(host) = &weighted.host_rewrite {
        value["host_rewrite_literal"] = json!(host);
    }
    changes(&mut value, "request", &weighted.request_headers);
    changes(&mut value, "response", &weighted.response_headers);
    value
}

/// `ConvertPolicy` (core/route/retry/retry.go): another host for each attempt, except towards the application.
fn retries(retry: &Retry) -> Value {
    let mut policy = json!({"retry_on": retry.on, "num_retries": retry.attempts});
    if retry.on != "reset-before-request" {
        policy["retry_host_predicate"] = json!([{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": PREVIOUS_HOSTS},
        }]);
        policy["host_selection_retry_max_attempts"] = json!(5);
    }
    policy
}

fn duration(milliseconds: u64) -> String {
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}

/// Envoy removes headers before it adds others, as the plan requires.
fn changes(value: &mut Value, of: &str, changes: &HeaderChanges) {
    let option = |(name, text): &(String, String), action: &str| {
        let header = json!({"key": name, "value": text});
        json!({"header": header, "append_action": action, "keep_empty_value": true})
    };
    let set = changes.set.iter().map(|pair| option(pair, "OVERWRITE_IF_EXISTS_OR_ADD"));
    let add = changes.add.iter().map(|pair| option(pair, "APPEND_IF_EXISTS_OR_ADD"));
    let all: Vec<Value> = set.chain(add).collect();
    if !all.is_empty() {
        value[format!("{of}_headers_to_add")] = all.into();
    }
    if !changes.remove.is_empty() {
        value[format!("{of}_headers_to_remove")] = json!(changes.remove);
    }
}
