//! Requests that a gateway does not take from the proxy before it.

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;
use serde_json::{Value, json};

use super::codes;
use super::judge::{Change, Draft, Judge, Op, arrives, client_gets, destination};
use crate::flows::{Observed, reason};
use crate::raw::{self, ClusterName, labels};
use crate::trace::{End, Hop, Trace, Tracer, Why};
use crate::world::World;

/// The settings for a hop that leads to a gateway: the rule and the pointer of its TLS.
fn hop_rule(judge: &Judge<'_>, hop: &Hop) -> Option<(ResourceId, String)> {
    let planned = judge.world.configs[hop.proxy].clusters.get(&hop.cluster)?;
    Tracer::new(judge.world).rule_of(&hop.cluster, planned)
}

/// No server of the gateway takes the hop's server name.
pub(super) fn hop_refused(
    judge: &mut Judge<'_>,
    one: &Observed,
    trace: &Trace,
    gateway: usize,
    port: u16,
    name: &str,
) {
    let Some(hop) = trace.hops.last().filter(|h| h.proxy != gateway) else { return };
    let served = served(judge, gateway, port);
    let effect = format!("{}: the gateway closes the connection", client_gets(judge, one, trace));
    let further = |_: &World, t: &Trace| {
        !matches!(&t.end, End::Fails { why: Why::NoChain { .. } | Why::OtherTls { .. }, .. })
    };
    let hosts: Vec<String> = served.iter().flat_map(|(_, _, hosts)| hosts.clone()).collect();
    if let Some((rule, at)) = hop_rule(judge, hop)
        && let Some(written) = judge.get(&rule).cloned()
    {
        let sni = format!("{at}/sni");
        let mut wanted = vec![one.ask.host.clone()];
        wanted.extend(hosts.iter().filter(|h| !h.contains('*')).cloned());
        let candidates: Vec<Vec<Change>> = wanted
            .iter()
            .map(|w| vec![Change::patch(&written, vec![Op::add(sni.clone(), w.as_str())])])
            .collect();
        if let Some(changes) = judge.first_that(one, candidates, further) {
            let set = written.0.pointer(&sni).is_some();
            let message = if set {
                format!(
                    "the hop's sni {name} matches no host of the gateway's servers on port {port} ({})",
                    hosts.join(", ")
                )
            } else {
                format!(
                    "the hop to the gateway has no sni; the default, {name}, matches no host of the gateway's servers on port {port} ({})",
                    hosts.join(", ")
                )
            };
            let value = match &changes[0] {
                Change::Patch { ops, .. } => ops[0].value_text(),
                Change::Create(_) => String::new(),
            };
            judge.add(
                Draft::new(codes::HOP_REFUSED, &rule, if set { sni } else { at })
                    .says(message)
                    .effect(effect)
                    .confirmed(format!("Set sni: {value}"), changes),
            );
            return;
        }
    }
    let (resource, pointer) = match (served.first(), hop_rule(judge, hop)) {
        (Some((gateway, at, _)), _) => (gateway.clone(), format!("{at}/hosts")),
        (None, Some(rule)) => rule,
        (None, None) => return,
    };
    judge.add(
        Draft::new(codes::HOP_REFUSED, &resource, pointer)
            .says(format!(
                "no server of the gateway on port {port} takes the server name {name} ({})",
                hosts.join(", ")
            ))
            .effect(effect)
            .fix(
                format!("Add {name} to the hosts of the Gateway's server, or send another server name"),
                Vec::new(),
            ),
    );
}

/// The servers of a gateway on a port: the Gateway, the server's pointer, its hosts.
fn served(judge: &Judge<'_>, gateway: usize, port: u16) -> Vec<(ResourceId, String, Vec<String>)> {
    let own = judge.world.proxy(gateway);
    let mut found = Vec::new();
    for resource in raw::of_kind(judge.resources, "Gateway") {
        let selector = labels(resource.0.pointer("/spec/selector"));
        if !selector.iter().all(|(k, v)| own.labels.get(k) == Some(v)) {
            continue;
        }
        for (at, server) in raw::items(&resource.0, "/spec/servers") {
            let number = raw::port(server, "/port/number").unwrap_or_default();
            if judge.world.listening_port(gateway, number) == port {
                let hosts = raw::texts(server, "/hosts").into_iter();
                let hosts = hosts.map(|h| h.split_once('/').map_or(h, |(_, h)| h).to_owned()).collect();
                found.push((resource.id(), at, hosts));
            }
        }
    }
    found
}

pub(super) fn hop_of_another_kind(
    judge: &mut Judge<'_>,
    one: &Observed,
    trace: &Trace,
    gateway: usize,
    why: &Why,
) {
    let Some(hop) = trace.hops.last().filter(|h| h.proxy != gateway) else { return };
    let effect = client_gets(judge, one, trace);
    let message = format!("at {}, {}", judge.name(gateway), reason(why));
    let further = |w: &World, t: &Trace| arrives(w, t) || t.hops.last().is_some_and(|h| h.proxy != hop.proxy);
    let Some(cluster) = ClusterName::parse(&hop.cluster) else { return };
    let (Why::NoChain { port, .. } | Why::OtherTls { port, .. }) = why else { return };
    let port = *port;
    let mutual = json!({"mode": "ISTIO_MUTUAL", "sni": one.ask.host});
    if let Some((rule, at)) = hop_rule(judge, hop)
        && let Some(written) = judge.get(&rule).cloned()
    {
        let candidates = vec![
            vec![Change::patch(&written, vec![Op::replace(at.clone(), mutual)])],
            vec![Change::patch(&written, vec![Op::replace(at.clone(), json!({"mode": "DISABLE"}))])],
        ];
        let draft = Draft::new(codes::HOP_OF_OTHER_TLS, &rule, at).says(message).effect(effect);
        let summary = "Let the rule for the hop open the kind of TLS that the Gateway's server expects";
        judge.add(match judge.first_that(one, candidates, further) {
            Some(changes) => draft.confirmed(summary, changes),
            None => draft.fix(summary, Vec::new()),
        });
        return;
    }
    // A rule with settings for another port or subset.
    let near = raw::of_kind(judge.resources, "DestinationRule")
        .find(|r| raw::full_host(raw::text(&r.0, "/spec/host"), r.namespace()) == cluster.host)
        .cloned();
    if let Some(rule) = near {
        let tls = raw::all_tls(&rule.0).into_iter().find(|(_, p, _)| p.is_some_and(|p| p != cluster.port));
        let mut candidates = Vec::new();
        let mut pointer = "/spec".to_owned();
        if let Some((at, ..)) = &tls {
            let number = at.replace("/tls", "/port/number");
            candidates.push(vec![Change::patch(&rule, vec![Op::replace(number.clone(), cluster.port)])]);
            pointer = number;
        }
        let subset = raw::items(&rule.0, "/spec/subsets")
            .into_iter()
            .find(|(_, s)| raw::text(s, "/name") == cluster.subset);
        let policy =
            subset.map_or_else(|| "/spec/trafficPolicy".to_owned(), |(at, _)| format!("{at}/trafficPolicy"));
        if rule.0.pointer(&policy).is_none() {
            candidates.push(vec![Change::patch(&rule, vec![Op::add(policy, json!({"tls": mutual}))])]);
        }
        let draft = Draft::new(codes::HOP_OF_OTHER_TLS, &rule.id(), pointer).says(message).effect(effect);
        let summary = format!("Let the rule open mutual TLS for port {} of {}", cluster.port, cluster.host);
        judge.add(match judge.first_that(one, candidates, further) {
            Some(changes) => draft.confirmed(summary, changes),
            None => draft.fix(summary, Vec::new()),
        });
        return;
    }
    let Some((resource, at, _)) = served(judge, gateway, port).into_iter().next() else { return };
    let name = format!("to-{}", cluster.host.split('.').next().unwrap_or_default());
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": judge.world.proxy(hop.proxy).namespace},
        "spec": {"host": cluster.host, "trafficPolicy": {"portLevelSettings": [
            {"port": {"number": cluster.port}, "tls": mutual},
        ]}},
    });
    let changes = vec![Change::Create(rule)];
    let draft = Draft::new(codes::HOP_OF_OTHER_TLS, &resource, at).says(message).effect(effect);
    let summary =
        format!("Add a DestinationRule for {} with mode ISTIO_MUTUAL and sni {}", cluster.host, one.ask.host);
    judge.add(if judge.would(one, &changes, further) {
        draft.confirmed(summary, changes)
    } else {
        draft.fix(summary, Vec::new())
    });
}

/// A gateway sends a request to itself: a route that is meant for sidecars is in force at the gateway too.
pub(super) fn circle(judge: &mut Judge<'_>, one: &Observed, trace: &Trace) {
    let Some(hop) = trace.hops.last() else { return };
    let Some(route) = &hop.route else { return };
    let Some(service) = judge.get(&route.service) else { return };
    let at = route.pointer();
    let conditions = raw::items(&service.0, &format!("{at}/match"));
    let ops = if conditions.is_empty() {
        vec![Op::add(format!("{at}/match"), json!([{"gateways": ["mesh"]}]))]
    } else {
        conditions.iter().map(|(c, _)| Op::add(format!("{c}/gateways"), json!(["mesh"]))).collect()
    };
    judge.add(
        Draft::new(codes::ROUTE_IN_A_CIRCLE, &route.service, at)
            .says(format!(
                "the route to the gateway is in force at {} as well, because it does not name gateways in its match",
                judge.name(hop.proxy)
            ))
            .effect(format!(
                "{} from {}: the gateway sends the request to itself until it gives up; the client gets 503 or a timeout",
                one.ask,
                judge.name(one.proxy)
            ))
            .fix(
                "Give the route match.gateways: [mesh], and add a route for the gateway that leads to the server",
                vec![Change::patch(service, ops)],
            ),
    );
}

/// A hop arrives at a gateway, and no route there takes the request.
pub(super) fn no_route(judge: &mut Judge<'_>, one: &Observed, trace: &Trace, gateway: usize) {
    let Some(hop) = trace.hops.last().filter(|h| h.proxy != gateway) else { return };
    let Some(cluster) = ClusterName::parse(&hop.cluster) else { return };
    let effect = format!("{} from {}: {} answers 404", one.ask, judge.name(one.proxy), judge.name(gateway));
    let own = judge.world.proxy(gateway).labels.clone();
    let further = |_: &World, t: &Trace| !matches!(&t.end, End::Fails { why: Why::NoRoute, .. });
    let mut tries: Vec<(Resource, String, String, Vec<Op>)> = Vec::new();
    let services: Vec<Resource> = raw::of_kind(judge.resources, "VirtualService")
        .filter(|v| raw::texts(&v.0, "/spec/hosts").iter().any(|h| hosts::matches(h, &one.ask.host)))
        .cloned()
        .collect();
    let gateways: Vec<Resource> = raw::of_kind(judge.resources, "Gateway")
        .filter(|g| labels(g.0.pointer("/spec/selector")).iter().all(|(k, v)| own.get(k) == Some(v)))
        .cloned()
        .collect();
    for service in &services {
        for (at, route) in raw::items(&service.0, "/spec/http") {
            for (condition, value) in raw::items(route, "/match") {
                let pointer = format!("{at}{condition}/port");
                if raw::port(value, "/port").is_some_and(|p| p != cluster.port) {
                    let why = format!(
                        "the route is for port {}, and the request arrives at the gateway on port {}",
                        raw::port(value, "/port").unwrap_or_default(),
                        cluster.port
                    );
                    let ops = vec![Op::replace(pointer.clone(), cluster.port)];
                    tries.push((service.clone(), pointer, why, ops));
                }
            }
        }
        for gateway in &gateways {
            let name = format!("{}/{}", gateway.namespace(), gateway.name());
            let bound = raw::texts(&service.0, "/spec/gateways");
            // A name without its namespace is a finding of its own.
            let of_name = |g: &&str| {
                let full = hosts::qualified_gateway(g, service.namespace());
                full == name || full.rsplit('/').next() == Some(gateway.name())
            };
            if bound.iter().any(of_name) {
                continue;
            }
            let why = format!("the routes for {} are not for the Gateway {name}", one.ask.host);
            let mut all: Vec<Value> = if bound.is_empty() { vec![json!("mesh")] } else { Vec::new() };
            all.extend(bound.iter().map(|g| json!(g)));
            all.push(json!(name));
            let mut ops = vec![Op::add("/spec/gateways", all)];
            for (at, route) in raw::items(&service.0, "/spec/http") {
                for (condition, value) in raw::items(route, "/match") {
                    let listed = raw::texts(value, "/gateways");
                    if listed.iter().any(|g| *g != "mesh") {
                        ops.push(Op::add(format!("{at}{condition}/gateways"), json!([name])));
                    }
                }
            }
            let pointer = if bound.is_empty() { "/spec" } else { "/spec/gateways" };
            tries.push((service.clone(), pointer.to_owned(), why, ops));
        }
    }
    for (resource, pointer, why, ops) in tries {
        let changes = vec![Change::patch(&resource, ops)];
        if judge.would(one, &changes, further) {
            let circle = !judge.would(one, &changes, arrives);
            let summary = if circle {
                "Bind the routes to the Gateway, with a route for it that leads to the server"
            } else {
                "Let a route for the gateway take the request"
            };
            judge.add(
                Draft::new(codes::ROUTES_NOT_VISIBLE, &resource.id(), pointer)
                    .says(why)
                    .effect(effect)
                    .confirmed(summary, changes),
            );
            return;
        }
    }
}

/// A route leads to a port of a gateway on which no Gateway has a server.
pub(super) fn no_listener(judge: &mut Judge<'_>, one: &Observed, trace: &Trace, gateway: usize, port: u16) {
    let gateway_index = gateway;
    let Some(hop) = trace.hops.last().filter(|h| h.proxy != gateway) else { return };
    let Some(cluster) = ClusterName::parse(&hop.cluster) else { return };
    let Some((service, to)) = destination(judge, hop, cluster) else { return };
    let own = judge.world.proxy(gateway);
    let ports: Vec<u16> = raw::of_kind(judge.resources, "Gateway")
        .filter(|g| labels(g.0.pointer("/spec/selector")).iter().all(|(k, v)| own.labels.get(k) == Some(v)))
        .flat_map(|g| raw::items(&g.0, "/spec/servers"))
        .filter_map(|(_, s)| raw::port(s, "/port/number"))
        .collect();
    let pointer = format!("{}/port/number", to.pointer);
    let op = |p: u16| match to.port {
        Some(_) => Op::replace(pointer.clone(), p),
        None => Op::add(format!("{}/port", to.pointer), json!({"number": p})),
    };
    let candidates = ports.iter().map(|p| vec![Change::patch(&service, vec![op(*p)])]).collect();
    let further = |_: &World, t: &Trace| !matches!(&t.end, End::Fails { why: Why::NoListener(_), .. });
    // A Gateway with such a server that selects other pods.
    let wanted = own.labels.get("istio").map(|v| json!({"istio": v}));
    for gateway in raw::of_kind(judge.resources, "Gateway").cloned().collect::<Vec<_>>() {
        let serves = raw::items(&gateway.0, "/spec/servers").iter().any(|(_, s)| {
            raw::texts(s, "/hosts")
                .iter()
                .any(|h| hosts::matches(&one.ask.host, h.split_once('/').map_or(*h, |(_, h)| h)))
        });
        let selector = labels(gateway.0.pointer("/spec/selector"));
        let selects = selector.iter().all(|(k, v)| own.labels.get(k) == Some(v));
        let Some(wanted) = wanted.clone().filter(|_| serves && !selects) else { continue };
        let changes = vec![Change::patch(&gateway, vec![Op::add("/spec/selector", wanted)])];
        if judge.would(one, &changes, further) {
            let name = judge.name(gateway_index).to_owned();
            judge.add(
                Draft::new(codes::GATEWAY_WITHOUT_SERVER, &gateway.id(), "/spec/selector")
                    .says(format!(
                        "the selector does not select the pods of {name}, to which the route leads"
                    ))
                    .effect(client_gets(judge, one, trace))
                    .confirmed("Select the gateway's pods by their labels", changes),
            );
            return;
        }
    }
    let shown: Vec<String> = ports.iter().map(u16::to_string).collect();
    let draft = Draft::new(codes::GATEWAY_WITHOUT_SERVER, &service.id(), pointer)
        .says(format!(
            "no Gateway has a server on port {port} of {} (servers: {})",
            judge.name(gateway),
            if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
        ))
        .effect(client_gets(judge, one, trace));
    judge.add(match judge.first_that(one, candidates, further) {
        Some(changes) => draft.confirmed("Route to a port on which the Gateway has a server", changes),
        None => draft.fix("Add a server for this port to the Gateway", Vec::new()),
    });
}
