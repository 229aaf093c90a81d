//! Requests that the routes of a VirtualService were written for.

use std::collections::BTreeMap;

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::{hosts, re2};
use regex::Regex;
use serde_json::Value;

use crate::raw::{self, labels};
use crate::trace::{Ask, RouteOf, Scheme};
use crate::world::World;

/// A request that a route of a VirtualService was written for.
pub(crate) struct Witness {
    pub(crate) route: RouteOf,
    pub(crate) port: Option<u16>,
    pub(crate) host: Option<String>,
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) namespace: String,
}

impl Witness {
    pub(crate) fn ask(&self, scheme: Scheme, host: &str, port: u16) -> Ask {
        Ask {
            method: self.method.clone(),
            headers: self.headers.clone(),
            ..Ask::new(scheme, host, port, &self.path)
        }
    }
}

/// One request for each condition of each route that is for a gateway (`mesh`, or `NAMESPACE/NAME`). Conditions with regular
/// expressions that are not simple are left out.
pub(crate) fn witnesses(world: &World, service: &Resource, gateway: &str) -> Vec<Witness> {
    let mut found = Vec::new();
    let id = service.id();
    for (index, (_, route)) in raw::items(&service.0, "/spec/http").into_iter().enumerate() {
        let own = RouteOf { service: id.clone(), index };
        match delegate(world, service, route) {
            None => of_route(route, &Value::Null, own, service.namespace(), gateway, &mut found),
            Some(delegate) => {
                for (index, (_, inner)) in raw::items(&delegate.0, "/spec/http").into_iter().enumerate() {
                    let own = RouteOf { service: delegate.id(), index };
                    of_route(route, inner, own, service.namespace(), gateway, &mut found);
                }
            }
        }
    }
    found
}

/// The VirtualService that a route delegates to.
pub(crate) fn delegate<'w>(world: &'w World, root: &Resource, route: &Value) -> Option<&'w Resource> {
    let name = raw::text(route, "/delegate/name");
    let namespace = match raw::text(route, "/delegate/namespace") {
        "" => root.namespace(),
        other => other,
    };
    let id = ResourceId {
        kind: "VirtualService".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    (!name.is_empty()).then(|| world.get(&id)).flatten()
}

fn of_route(
    route: &Value,
    inner: &Value,
    own: RouteOf,
    namespace: &str,
    gateway: &str,
    found: &mut Vec<Witness>,
) {
    let nothing = Value::Null;
    let conditions = |route: &Value| -> Vec<Value> {
        let all: Vec<Value> = raw::items(route, "/match").into_iter().map(|(_, m)| m.clone()).collect();
        if all.is_empty() { vec![nothing.clone()] } else { all }
    };
    for outer in conditions(route) {
        for inner in conditions(inner) {
            let both = [&outer, &inner];
            let elsewhere = both.iter().any(|m| {
                let gateways = raw::texts(m, "/gateways");
                !gateways.is_empty()
                    && !gateways.iter().any(|g| hosts::qualified_gateway(g, namespace) == gateway)
            });
            if elsewhere {
                continue;
            }
            if let Some(witness) = witness(both, own.clone()) {
                found.push(witness);
            }
        }
    }
}

/// A value that a text condition takes; none: it is a regular expression.
fn value_for(condition: &Value) -> Option<String> {
    let text = |name: &str| condition.get(name).and_then(Value::as_str);
    match (text("exact"), text("prefix"), text("regex")) {
        (Some(exact), ..) => Some(exact.to_owned()),
        (None, Some(prefix), _) => Some(prefix.to_owned()),
        (None, None, Some("*")) | (None, None, None) => Some("x".to_owned()),
        (None, None, Some(expression)) => text_for(expression),
    }
}

/// A text that a simple expression matches; none where it is not simple enough to find one.
fn text_for(expression: &str) -> Option<String> {
    let mut text = expression.trim_start_matches('^').trim_end_matches('$').to_owned();
    let rules = [
        (r"\(\?:", "("),
        (r"\[\^?[^\]]*\][+*]?|\\w[+*]?", "a"),
        (r"\\d[+*]?", "1"),
        (r"\.[+*]\??", "x"),
        (r"\\([./?+-])", "$1"),
        (r"\(([^()|]*)\|[^()]*\)[?]?", "$1"),
        (r"\(([^()]*)\)[?+*]?", "$1"),
    ];
    for (pattern, with) in rules {
        text = Regex::new(pattern).ok()?.replace_all(&text, with).into_owned();
    }
    let translated = re2::translate(expression).ok()?;
    let whole = Regex::new(&format!(r"\A(?:{translated})\z")).ok()?;
    whole.is_match(&text).then_some(text)
}

fn witness(conditions: [&Value; 2], route: RouteOf) -> Option<Witness> {
    let mut made = Witness {
        route,
        port: None,
        host: None,
        path: "/".to_owned(),
        method: "GET".to_owned(),
        headers: Vec::new(),
        labels: BTreeMap::new(),
        namespace: String::new(),
    };
    let mut query = Vec::new();
    for condition in conditions {
        if let Some(port) = raw::port(condition, "/port") {
            made.port = Some(port);
        }
        if let Some(uri) = condition.get("uri") {
            made.path = value_for(uri)?;
        }
        if let Some(method) = condition.get("method") {
            made.method = value_for(method)?;
        }
        if let Some(authority) = condition.get("authority") {
            made.host = Some(value_for(authority)?);
        }
        for (name, wanted) in condition.get("headers").and_then(Value::as_object).into_iter().flatten() {
            made.headers.push((name.to_ascii_lowercase(), value_for(wanted)?));
        }
        for (name, wanted) in condition.get("queryParams").and_then(Value::as_object).into_iter().flatten() {
            query.push(format!("{name}={}", value_for(wanted)?));
        }
        made.labels.extend(labels(condition.get("sourceLabels")));
        let namespace = raw::text(condition, "/sourceNamespace");
        if !namespace.is_empty() {
            namespace.clone_into(&mut made.namespace);
        }
        // A scheme is no part of what is followed here.
        condition.get("scheme").is_none().then_some(())?;
    }
    if !made.path.starts_with('/') {
        made.path = format!("/{}", made.path);
    }
    if !query.is_empty() {
        made.path = format!("{}?{}", made.path, query.join("&"));
    }
    Some(made)
}
