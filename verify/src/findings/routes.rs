//! Routes that no request takes.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;
use meshproof_plan::mesh::PASSTHROUGH;
use meshproof_plan::re2;
use serde_json::{Value, json};

use super::codes;
use super::entries::entry_invisible;
use super::judge::{Change, Draft, Judge, Op, port_pointer};
use crate::flows::{self, Observed};
use crate::raw::{self, ClusterName, Speaks};
use crate::trace::{End, RouteOf, Scheme, Trace, Why};
use crate::world::World;

/// All of them.
pub(super) fn judge(judge: &mut Judge<'_>) {
    let reached: BTreeSet<RouteOf> = judge
        .observed
        .iter()
        .flat_map(|o| &o.traces)
        .flat_map(|t| &t.hops)
        .filter_map(|h| h.route.clone())
        .chain(answered(judge))
        .collect();
    let mut meant: BTreeMap<RouteOf, Vec<&Observed>> = BTreeMap::new();
    for one in judge.observed {
        if let Some(route) = &one.meant_for {
            meant.entry(route.clone()).or_default().push(one);
        }
    }
    for (route, witnesses) in &meant {
        if !reached.contains(route) {
            not_reached(judge, route, witnesses);
        }
    }
    let unread: Vec<RouteOf> = never_asked(judge, &meant);
    for route in unread {
        covered(judge, &route, &[]);
    }
    not_in_scope(judge);
}

/// Routes that answer themselves: their decision names them.
fn answered(judge: &Judge<'_>) -> Vec<RouteOf> {
    let mut found = Vec::new();
    for trace in judge.observed.iter().flat_map(|o| &o.traces) {
        if let End::Answered { .. } = trace.end
            && let Some((service, pointer)) = trace.decisions.last().and_then(|d| d.because.clone())
            && let Some(index) = pointer.rsplit('/').next().and_then(|i| i.parse().ok())
        {
            found.push(RouteOf { service, index });
        }
    }
    found
}

/// Routes for which no request could be made up: of VirtualServices that are in force.
fn never_asked(judge: &Judge<'_>, meant: &BTreeMap<RouteOf, Vec<&Observed>>) -> Vec<RouteOf> {
    let mut found = Vec::new();
    for service in raw::of_kind(judge.world.resources(), "VirtualService") {
        for index in 0..raw::items(&service.0, "/spec/http").len() {
            let route = RouteOf { service: service.id(), index };
            if !meant.contains_key(&route) {
                found.push(route);
            }
        }
    }
    found
}

fn not_reached(judge: &mut Judge<'_>, route: &RouteOf, witnesses: &[&Observed]) {
    if covered(judge, route, witnesses) {
        return;
    }
    for one in witnesses {
        for trace in &one.traces {
            if judge.world.is_sidecar(one.proxy) {
                if at_sidecar(judge, route, one, trace) {
                    return;
                }
            } else if at_gateway(judge, route, one, trace) {
                return;
            }
        }
    }
}

/// An earlier route of the same VirtualService, or one of an older VirtualService, takes all that this one is for.
fn covered(judge: &mut Judge<'_>, route: &RouteOf, witnesses: &[&Observed]) -> bool {
    let Some(service) = judge.get(&route.service) else { return false };
    let routes = raw::items(&service.0, "/spec/http");
    let Some((at, written)) = routes.get(route.index) else { return false };
    let own = conditions(written);
    let by = routes[..route.index].iter().position(|(_, earlier)| {
        let earlier = conditions(earlier);
        own.iter().all(|wanted| earlier.iter().any(|e| covers(e, wanted)))
    });
    if let Some(by) = by {
        let mut moved: Vec<Op> = vec![Op::remove(at.clone())];
        let mut bare = (*written).clone();
        strip(&mut bare);
        moved.push(Op::add(format!("/spec/http/{by}"), bare));
        let changes = vec![Change::patch(service, moved)];
        let line = judge.input.place(&route.service, &routes[by].0).line;
        let asked = witnesses.first().map_or_else(
            || format!("requests that http[{}] is for", route.index),
            |one| format!("{} from {}", one.ask, judge.name(one.proxy)),
        );
        let confirmed = witnesses.first().is_some_and(|one| {
            judge.would(one, &changes, |_, t| {
                t.hops
                    .iter()
                    .any(|h| h.route.as_ref().is_some_and(|r| r.service == route.service && r.index == by))
            })
        });
        let draft = Draft::new(codes::UNREACHABLE_ROUTE, &route.service, at.clone())
            .says(format!(
                "http[{}] is never used: http[{by}] (line {line}) takes all its requests first",
                route.index
            ))
            .effect(format!("{asked}: taken by http[{by}]"));
        let summary = format!("Move http[{}] before http[{by}]", route.index);
        judge.add(if confirmed { draft.confirmed(summary, changes) } else { draft.fix(summary, changes) });
        return true;
    }
    for one in witnesses {
        let taken = one
            .traces
            .iter()
            .flat_map(|t| &t.hops)
            .find_map(|h| h.route.clone().filter(|r| r.service != route.service && h.proxy == one.proxy));
        if let Some(other) = taken {
            let line = judge.input.place(&other.service, &other.pointer()).line;
            judge.add(
                Draft::new(codes::OLDER_ROUTE_FIRST, &route.service, at.clone())
                    .says(format!("the route of {other} (line {line}), which is older, comes first"))
                    .effect(format!("{} from {} takes the older route", one.ask, judge.name(one.proxy))),
            );
            return true;
        }
    }
    false
}

/// A tag is not part of what the user wrote.
fn strip(route: &mut Value) {
    if let Some(fields) = route.as_object_mut()
        && fields.get("name").and_then(Value::as_str).is_some_and(|n| n.starts_with("vs"))
    {
        fields.remove("name");
    }
}

fn conditions(route: &Value) -> Vec<Value> {
    let all: Vec<Value> = raw::items(route, "/match").into_iter().map(|(_, m)| m.clone()).collect();
    if all.is_empty() { vec![json!({})] } else { all }
}

/// Whether every request of one condition meets another as well. Where that cannot be said, no.
fn covers(wide: &Value, narrow: &Value) -> bool {
    let fields = wide.as_object().into_iter().flatten();
    for (name, wanted) in fields {
        let other = narrow.get(name);
        let held = match name.as_str() {
            "name" | "statPrefix" => true,
            "ignoreUriCase" => wanted == &Value::Bool(false) || other == Some(wanted),
            "uri" => {
                let insensitive = wide.get("ignoreUriCase") == Some(&Value::Bool(true));
                other.is_some_and(|o| text_covers(wanted, o, insensitive)) || every_path(wanted)
            }
            "method" | "authority" | "scheme" => other.is_some_and(|o| text_covers(wanted, o, false)),
            "headers" | "queryParams" => wanted.as_object().into_iter().flatten().all(|(key, value)| {
                other.and_then(|o| o.get(key)).is_some_and(|o| text_covers(value, o, false))
            }),
            "gateways" => {
                let all = raw::texts(wide, "/gateways");
                let own = raw::texts(narrow, "/gateways");
                all.is_empty() || (!own.is_empty() && own.iter().all(|g| all.contains(g)))
            }
            "sourceLabels" => wanted
                .as_object()
                .into_iter()
                .flatten()
                .all(|(key, value)| other.and_then(|o| o.get(key)) == Some(value)),
            _ => other == Some(wanted),
        };
        if !held {
            return false;
        }
    }
    true
}

fn every_path(uri: &Value) -> bool {
    uri.get("prefix").and_then(Value::as_str) == Some("/")
        || uri.get("regex").and_then(Value::as_str).is_some_and(|r| matches!(r, ".*" | "/.*"))
}

fn text_covers(wide: &Value, narrow: &Value, insensitive: bool) -> bool {
    let text = |of: &Value, name: &str| {
        let found = of.get(name).and_then(Value::as_str)?;
        Some(if insensitive { found.to_ascii_lowercase() } else { found.to_owned() })
    };
    if let Some(prefix) = text(wide, "prefix") {
        let own = text(narrow, "exact").or_else(|| text(narrow, "prefix"));
        return own.is_some_and(|own| own.starts_with(&prefix));
    }
    if let Some(exact) = text(wide, "exact") {
        return text(narrow, "exact").is_some_and(|own| own == exact);
    }
    if let Some(regex) = text(wide, "regex") {
        if text(narrow, "regex").is_some_and(|own| own == regex) {
            return true;
        }
        return text(narrow, "exact").is_some_and(|own| whole(&regex, &own));
    }
    // Presence.
    true
}

fn whole(expression: &str, text: &str) -> bool {
    re2::translate(expression)
        .is_ok_and(|e| regex::Regex::new(&format!(r"\A(?:{e})\z")).is_ok_and(|r| r.is_match(text)))
}

/// A route for sidecars that a request passes by.
fn at_sidecar(judge: &mut Judge<'_>, route: &RouteOf, one: &Observed, trace: &Trace) -> bool {
    let takes = |_: &World, t: &Trace| t.hops.iter().any(|h| h.route.as_ref() == Some(route));
    let Some(service) = judge.get(&route.service).cloned() else { return false };
    let root = root_of(judge, &service);
    let passes = trace.hops.last().is_some_and(|h| h.cluster == PASSTHROUGH);
    let blocked = matches!(&trace.end, End::Fails { why: Why::Blocked, .. });
    let becomes = if passes {
        "it leaves the mesh in plain text through PassthroughCluster"
    } else if blocked {
        "it is refused (REGISTRY_ONLY)"
    } else {
        "the route is not used"
    };
    let effect = format!("{} from {}: {becomes}", one.ask, judge.name(one.proxy));
    let entries: Vec<Resource> = judge.world.entries(&one.ask.host, "").cloned().collect();
    for entry in &entries {
        let number = one.ask.port;
        let there = raw::items(&entry.0, "/spec/ports")
            .into_iter()
            .find(|(_, p)| raw::port(p, "/number") == Some(number));
        let op = match &there {
            Some((at, port)) if raw::speaks(port) != Speaks::Http => {
                Op::replace(format!("{at}/protocol"), "HTTP")
            }
            Some(_) => continue,
            None => Op::add(
                "/spec/ports/-",
                json!({"number": number, "name": format!("http-{number}"), "protocol": "HTTP"}),
            ),
        };
        let changes = vec![Change::patch(entry, vec![op])];
        if judge.would(one, &changes, takes) {
            let at = port_condition(&service, route, number);
            judge.add(
                    Draft::new(codes::NO_LISTENER, &route.service, at)
                        .says(format!("no HTTP service has port {number} in the sidecar's scope, so the sidecar has no listener for it and the route has no effect"))
                        .effect(effect)
                        .confirmed(format!("Add port {number} (protocol HTTP) to {}", entry.id()), changes),
                );
            return true;
        }
    }
    if (passes || blocked) && entry_invisible(judge, one, one.proxy, &one.ask.host, &effect) {
        return true;
    }
    let exported = root.0.pointer("/spec/exportTo").is_some();
    if exported {
        let changes = vec![Change::patch(&root, vec![Op::remove("/spec/exportTo")])];
        if judge.would(one, &changes, takes) {
            judge.add(
                Draft::new(codes::ROUTES_NOT_VISIBLE, &root.id(), "/spec/exportTo")
                    .says(format!("exportTo keeps the routes from {}", judge.name(one.proxy)))
                    .effect(effect)
                    .confirmed("Leave exportTo out, or name the namespace of the proxy in it", changes),
            );
            return true;
        }
    }
    false
}

fn port_condition(service: &Resource, route: &RouteOf, port: u16) -> String {
    let at = route.pointer();
    let written = service.0.pointer(&at).cloned().unwrap_or_default();
    let found = raw::items(&written, "/match").into_iter().find(|(_, m)| raw::port(m, "/port") == Some(port));
    found.map_or(at.clone(), |(condition, _)| format!("{at}{condition}/port"))
}

/// The VirtualService with the hosts and gateways of a route: of a delegate's, one that delegates to it.
fn root_of(judge: &Judge<'_>, service: &Resource) -> Resource {
    if !raw::texts(&service.0, "/spec/hosts").is_empty() {
        return service.clone();
    }
    let root = raw::of_kind(judge.world.resources(), "VirtualService").find(|root| {
        raw::items(&root.0, "/spec/http").iter().any(|(_, r)| {
            crate::witnesses::delegate(judge.world, root, r).is_some_and(|d| d.id() == service.id())
        })
    });
    root.and_then(|r| judge.get(&r.id())).unwrap_or(service).clone()
}

/// A route for a gateway that a request passes by.
fn at_gateway(judge: &mut Judge<'_>, route: &RouteOf, one: &Observed, trace: &Trace) -> bool {
    let takes = |_: &World, t: &Trace| t.hops.iter().any(|h| h.route.as_ref() == Some(route));
    let End::Fails { why: Why::NoRoute, .. } = &trace.end else { return false };
    let Some(service) = judge.get(&route.service).cloned() else { return false };
    let root = root_of(judge, &service);
    let effect = format!("{}: {} answers 404", one.ask, judge.name(one.proxy));
    let mut tries: Vec<(Resource, String, String, Vec<Op>)> = Vec::new();
    if root.0.pointer("/spec/exportTo").is_some() {
        tries.push((
            root.clone(),
            "/spec/exportTo".to_owned(),
            format!("exportTo keeps the routes from {}", judge.name(one.proxy)),
            vec![Op::remove("/spec/exportTo")],
        ));
    }
    for gateway in raw::of_kind(judge.resources, "Gateway") {
        for (at, server) in raw::items(&gateway.0, "/spec/servers") {
            for (i, host) in raw::texts(server, "/hosts").into_iter().enumerate() {
                if let Some((owner, name)) = host.split_once('/')
                    && hosts::matches(&one.ask.host, name)
                {
                    let pointer = format!("{at}/hosts/{i}");
                    let why = format!(
                        "the Gateway's server takes routes for {name} from namespace {owner} alone (`.` is the Gateway's own)"
                    );
                    let wider = format!("{}/{name}", root.namespace());
                    tries.push((gateway.clone(), pointer.clone(), why, vec![Op::replace(pointer, wider)]));
                }
            }
        }
    }
    for (resource, pointer, why, ops) in tries {
        let changes = vec![Change::patch(&resource, ops)];
        if judge.would(one, &changes, takes) {
            judge.add(
                Draft::new(codes::ROUTES_NOT_VISIBLE, &resource.id(), pointer)
                    .says(why)
                    .effect(effect)
                    .confirmed(
                        "Let the Gateway's namespace and the routes' namespace see each other",
                        changes,
                    ),
            );
            return true;
        }
    }
    false
}

/// Hosts that resources of a namespace name, and whose entry its sidecar does not get.
fn not_in_scope(judge: &mut Judge<'_>) {
    let observed = judge.observed;
    for one in observed.iter().filter(|o| o.ask.scheme == Scheme::Http && judge.world.is_sidecar(o.proxy)) {
        let host = one.ask.host.as_str();
        let has_port = judge.world.entries(host, "").any(|e| {
            raw::items(&e.0, "/spec/ports")
                .iter()
                .any(|(_, p)| raw::port(p, "/number") == Some(one.ask.port) && raw::speaks(p) == Speaks::Http)
        });
        if !has_port {
            continue;
        }
        for trace in &one.traces {
            let passes = trace.hops.last().is_some_and(|h| h.cluster == PASSTHROUGH);
            if !passes && !matches!(&trace.end, End::Fails { why: Why::Blocked, .. }) {
                continue;
            }
            let namespace = judge.world.proxy(one.proxy).namespace.as_str();
            let named = flows::named_by(judge.world, namespace).contains(host);
            let seen_by_another = observed.iter().any(|o| {
                o.ask.host == host
                    && o.traces.iter().any(|t| {
                        t.hops.iter().any(|h| {
                            ClusterName::parse(&h.cluster).is_some_and(|c| hosts::subset_of(host, c.host))
                        })
                    })
            });
            if named || !seen_by_another {
                let becomes = if passes {
                    "it leaves in plain text through PassthroughCluster"
                } else {
                    "it is refused (REGISTRY_ONLY)"
                };
                let effect = format!("{} from {}: {becomes}", one.ask, judge.name(one.proxy));
                entry_invisible(judge, one, one.proxy, host, &effect);
            }
        }
    }
    let hidden = observed.iter().filter(|o| o.hidden && o.ask.scheme == Scheme::Https);
    for one in hidden {
        https_on_http(judge, one);
    }
}

/// A client's own HTTPS at a port that is declared HTTP.
fn https_on_http(judge: &mut Judge<'_>, one: &Observed) {
    let Some(entry) = judge.world.entries(&one.ask.host, "").find(|e| {
        raw::items(&e.0, "/spec/ports")
            .iter()
            .any(|(_, p)| raw::port(p, "/number") == Some(one.ask.port) && raw::speaks(p) == Speaks::Http)
    }) else {
        return;
    };
    let at = port_pointer(entry, one.ask.port);
    let id: ResourceId = entry.id();
    let from = judge.name(one.proxy).to_owned();
    for trace in &one.traces {
        let passes = trace.hops.last().is_some_and(|h| h.cluster == PASSTHROUGH);
        let blocked = matches!(&trace.end, End::Fails { .. });
        let message = format!(
            "port {} of {} is declared HTTP, so the sidecar does not know clients' own HTTPS to it",
            one.ask.port, one.ask.host
        );
        let fix = "Declare port 443 HTTPS, and a port 80 (HTTP, targetPort 443) for the requests that the mesh encrypts";
        if blocked {
            judge.add(
                Draft::new(codes::HTTPS_PORT_DECLARED_HTTP, &id, at.clone())
                    .says(message)
                    .effect(format!("{} from {from}: the connection is closed", one.ask))
                    .fix(fix, Vec::new()),
            );
        } else if passes {
            judge.add(Draft::new(codes::OWN_TLS_PASSES_BY, &id, at.clone()).says(message).effect(format!("{} from {from} leaves through PassthroughCluster, past every rule for the host; where the mesh allows registered hosts alone (REGISTRY_ONLY), it is closed", one.ask)).fix(fix, Vec::new()));
        }
    }
}
