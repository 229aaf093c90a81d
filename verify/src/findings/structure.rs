//! What can be said of resources and of requests together.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::verification::Severity;
use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;
use meshproof_plan::mesh::PASSTHROUGH;
use meshproof_plan::model::Role;
use serde_json::json;

use super::codes;
use super::judge::{Change, Draft, Judge, Op};
use crate::flows::is_originated;
use crate::raw::{self, labels};
use crate::trace::{Ask, End, Scheme, Trace, Tracer};

/// All of it.
pub(super) fn judge(judge: &mut Judge<'_>) {
    gateways(judge);
    references(judge);
    settings_of_no_port(judge);
    past_the_gateway(judge);
    beside(judge);
    secrets(judge);
    without_service(judge);
}

/// Servers on ports that no Service of the gateway has.
fn gateways(judge: &mut Judge<'_>) {
    let gateways: Vec<Resource> = raw::of_kind(judge.resources, "Gateway").cloned().collect();
    for gateway in gateways {
        let selector = labels(gateway.0.pointer("/spec/selector"));
        let services: Vec<_> = judge
            .world
            .state
            .services
            .iter()
            .filter(|s| !s.selector.is_empty())
            .filter(|s| {
                let proxy = judge.world.state.proxies.iter().find(|p| {
                    p.namespace == s.namespace && s.selector.iter().all(|(k, v)| p.labels.get(k) == Some(v))
                });
                proxy.is_some_and(|p| selector.iter().all(|(k, v)| p.labels.get(k) == Some(v)))
            })
            .collect();
        if services.is_empty() {
            continue;
        }
        for (at, server) in raw::items(&gateway.0, "/spec/servers") {
            let Some(number) = raw::port(server, "/port/number") else { continue };
            if services.iter().any(|s| s.ports.iter().any(|p| p.number == number)) {
                continue;
            }
            let service = services[0];
            let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
            let name = service.host.split('.').next().unwrap_or_default();
            let id = ResourceId {
                kind: "Service".to_owned(),
                namespace: service.namespace.clone(),
                name: name.to_owned(),
            };
            let assumed = judge.world.assumed_services.contains(&id);
            let (what, changes) = if assumed {
                (format!("the Service {}/{name} of Istio's charts", service.namespace), Vec::new())
            } else {
                let op = Op::add("/spec/ports/-", json!({"name": format!("tcp-{number}"), "port": number}));
                (id.to_string(), vec![Change::Patch { resource: id, ops: vec![op] }])
            };
            let hosts = raw::texts(server, "/hosts").join(", ");
            let draft =
                Draft::new(codes::GATEWAY_PORT_WITHOUT_SERVICE, &gateway.id(), format!("{at}/port/number"))
                    .says(format!(
                        "the server is on port {number}, which {what} lacks (it has {})",
                        ports.join(", ")
                    ))
                    .effect(format!("no request for {hosts} reaches the gateway on port {number}"))
                    .fix("Use a port of the Service, or add the port to the Service", changes);
            let severity = if assumed { Severity::Warning } else { Severity::Error };
            judge.add(Draft { severity, ..draft });
        }
    }
}

/// Names of gateways and delegates that lead to nothing.
fn references(judge: &mut Judge<'_>) {
    let resources = judge.resources;
    let gateway = |name: &str| {
        raw::of_kind(resources, "Gateway").find(|g| format!("{}/{}", g.namespace(), g.name()) == name)
    };
    for service in raw::of_kind(resources, "VirtualService") {
        let mut named: Vec<(String, String)> = raw::texts(&service.0, "/spec/gateways")
            .into_iter()
            .enumerate()
            .map(|(i, g)| (format!("/spec/gateways/{i}"), g.to_owned()))
            .collect();
        for (at, route) in raw::items(&service.0, "/spec/http") {
            for (condition, value) in raw::items(route, "/match") {
                let own = raw::texts(value, "/gateways").into_iter().enumerate();
                named.extend(own.map(|(i, g)| (format!("{at}{condition}/gateways/{i}"), g.to_owned())));
            }
        }
        let mut missing: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (at, written) in named.into_iter().filter(|(_, g)| g != "mesh") {
            let full = hosts::qualified_gateway(&written, service.namespace());
            if gateway(&full).is_none() {
                missing.entry(full).or_default().push((at, written));
            }
        }
        not_served(judge, service);
        for (full, places) in missing {
            let (at, written) = places[0].clone();
            let bare = full.rsplit('/').next().unwrap_or_default();
            let other = raw::of_kind(resources, "Gateway")
                .find(|g| g.name() == bare)
                .map(|g| format!("{}/{}", g.namespace(), g.name()));
            match other {
                Some(other) => {
                    let ops = places.iter().map(|(at, _)| Op::replace(at.clone(), other.as_str())).collect();
                    let hosts = raw::texts(&service.0, "/spec/hosts").join(", ");
                    judge.add(
                        Draft::new(codes::ROUTES_NOT_VISIBLE, &service.id(), at)
                            .says(format!(
                                "{written} means the Gateway {full}, which does not exist; there is {other}"
                            ))
                            .effect(format!(
                                "the routes are for no gateway; requests for {hosts} get 404 there"
                            ))
                            .fix(format!("Write {other}"), vec![Change::patch(service, ops)]),
                    );
                }
                None if judge.world.scope.whole => judge.add(
                    Draft::new(codes::ROUTES_NOT_VISIBLE, &service.id(), at)
                        .says(format!("the Gateway {full} does not exist"))
                        .effect("the routes are for no gateway")
                        .fix("Correct the name, or create the Gateway", Vec::new()),
                ),
                None => judge.add(
                    Draft::new(codes::NOT_IN_FILES, &service.id(), at)
                        .says(format!("the Gateway {full} is not {}", judge.world.scope.among()))
                        .effect("what its routes do there is not followed"),
                ),
            }
        }
        for (at, route) in raw::items(&service.0, "/spec/http") {
            if route.get("delegate").is_none()
                || crate::witnesses::delegate(judge.world, service, route).is_some()
            {
                continue;
            }
            let name = raw::text(route, "/delegate/name").to_owned();
            let near = raw::of_kind(resources, "VirtualService")
                .find(|v| v.name() == name && v.id() != service.id());
            let hosts = raw::texts(&service.0, "/spec/hosts").join(", ");
            let draft = Draft::new(codes::DELEGATE_NOT_FOUND, &service.id(), format!("{at}/delegate"))
                .says(format!(
                    "the route delegates to the VirtualService {name}, which does not exist in namespace {}",
                    match raw::text(route, "/delegate/namespace") {
                        "" => service.namespace(),
                        other => other,
                    }
                ))
                .effect(format!(
                    "the route is left out; requests for {hosts} that it was for take another route or none"
                ));
            judge.add(match near {
                Some(other) => draft.fix(
                    format!("Name the namespace {}", other.namespace()),
                    vec![Change::patch(
                        service,
                        vec![Op::add(format!("{at}/delegate/namespace"), other.namespace())],
                    )],
                ),
                None => draft.fix(
                    "Create the VirtualService, without hosts and gateways, or correct the name",
                    Vec::new(),
                ),
            });
        }
    }
}

/// A VirtualService for Gateways that serve none of its hosts.
fn not_served(judge: &mut Judge<'_>, service: &Resource) {
    let own = raw::texts(&service.0, "/spec/hosts");
    let bound: Vec<String> = raw::texts(&service.0, "/spec/gateways")
        .into_iter()
        .filter(|g| *g != "mesh")
        .map(|g| hosts::qualified_gateway(g, service.namespace()))
        .collect();
    let gateways: Vec<&Resource> = raw::of_kind(judge.resources, "Gateway")
        .filter(|g| bound.contains(&format!("{}/{}", g.namespace(), g.name())))
        .collect();
    let served: Vec<String> = gateways
        .iter()
        .flat_map(|g| raw::items(&g.0, "/spec/servers"))
        .flat_map(|(_, s)| raw::texts(s, "/hosts"))
        .map(|h| h.split_once('/').map_or(h, |(_, h)| h).to_owned())
        .collect();
    let shared = own.iter().any(|h| served.iter().any(|s| hosts::matches(h, s)));
    let known = own.iter().any(|h| judge.mentions(h));
    if own.is_empty() || gateways.len() < bound.len() || served.is_empty() || shared || known {
        return;
    }
    let near = served.iter().min_by_key(|s| strsim::damerau_levenshtein(s, own[0]));
    let draft = Draft::new(codes::ROUTES_NOT_VISIBLE, &service.id(), "/spec/hosts/0")
        .says(format!(
            "{} is not among the hosts of the Gateway's servers ({})",
            own.join(", "),
            served.join(", ")
        ))
        .effect(format!("requests for {} get 404 at the gateway", served.join(", ")));
    judge.add(match near.filter(|n| strsim::damerau_levenshtein(n, own[0]) <= 3) {
        Some(near) => draft.fix(
            format!("Use the host {near}"),
            vec![Change::patch(service, vec![Op::replace("/spec/hosts/0", near.as_str())])],
        ),
        None => draft.fix("Add the host to the Gateway's server, or use one of its hosts", Vec::new()),
    });
}

/// Settings for ports that the rule's host does not have.
fn settings_of_no_port(judge: &mut Judge<'_>) {
    let resources = judge.resources;
    for rule in raw::of_kind(resources, "DestinationRule") {
        let host = raw::full_host(raw::text(&rule.0, "/spec/host"), rule.namespace());
        if hosts::is_wildcard(&host) || judge.blames(&rule.id()) || judge.world.is_gateway(&host) {
            continue;
        }
        let mut ports: BTreeSet<u16> = judge
            .world
            .entries(&host, "")
            .flat_map(|e| raw::items(&e.0, "/spec/ports"))
            .filter_map(|(_, p)| raw::port(p, "/number"))
            .collect();
        let service = judge.world.state.services.iter().find(|s| s.host == host);
        ports.extend(service.iter().flat_map(|s| &s.ports).map(|p| p.number));
        if ports.is_empty() {
            continue;
        }
        let shown: Vec<String> = ports.iter().map(u16::to_string).collect();
        for (at, port, _) in raw::all_tls(&rule.0) {
            let Some(port) = port.filter(|p| !ports.contains(p)) else { continue };
            let draft = Draft::new(codes::PORT_WITHOUT_TLS, &rule.id(), at.replace("/tls", "/port/number"))
                .says(format!(
                    "portLevelSettings are for port {port}, which {host} does not have (it has {})",
                    shown.join(", ")
                ))
                .effect(format!("no request uses port {port}, so the settings have no effect"))
                .fix("Use the service's port, not the target port", Vec::new());
            judge.add(Draft { severity: Severity::Warning, ..draft });
        }
    }
}

fn through_gateway(judge: &Judge<'_>, trace: &Trace) -> bool {
    trace.hops.iter().any(|h| judge.world.configs[h.proxy].role == Role::EgressGateway)
}

/// Requests to a host that another request reaches through an egress gateway.
fn past_the_gateway(judge: &mut Judge<'_>) {
    let observed = judge.observed;
    let mut directed: BTreeMap<&str, ResourceId> = BTreeMap::new();
    for one in observed.iter().filter(|o| judge.world.is_sidecar(o.proxy)) {
        for trace in one.traces.iter().filter(|t| t.hops.len() > 1 && through_gateway(judge, t)) {
            if let Some(route) = &trace.hops[0].route {
                directed.entry(one.ask.host.as_str()).or_insert_with(|| route.service.clone());
            }
        }
    }
    for one in observed.iter().filter(|o| judge.world.is_sidecar(o.proxy) && !o.hidden) {
        let Some(by) = directed.get(one.ask.host.as_str()).cloned() else { continue };
        for trace in &one.traces {
            if through_gateway(judge, trace) {
                continue;
            }
            let End::Arrives { external: true, address, port, .. } = &trace.end else { continue };
            let how = format!("{} from {} goes straight to {address}:{port}", one.ask, judge.name(one.proxy));
            // The port by which the gateway itself reaches the server.
            let of_gateway = raw::of_kind(judge.resources, "VirtualService")
                .flat_map(raw::destinations)
                .any(|d| d.http && d.host == one.ask.host && d.port == Some(one.ask.port));
            if one.ask.scheme == Scheme::Http && of_gateway && one.meant_for.is_none() {
                continue;
            }
            if one.ask.scheme == Scheme::Http {
                let service = judge.get(&by);
                let exported = service.is_some_and(|s| s.0.pointer("/spec/exportTo").is_some());
                let fix = if exported {
                    "Let the VirtualService reach every namespace (exportTo)"
                } else {
                    "Route these requests to the gateway as well, or remove the port from the ServiceEntry"
                };
                judge.add(
                    Draft::new(
                        codes::PAST_THE_GATEWAY,
                        &by,
                        if exported { "/spec/exportTo" } else { "/spec/http" },
                    )
                    .says(format!(
                        "the routes send {} through the egress gateway, and not all its requests",
                        one.ask.host
                    ))
                    .effect(how)
                    .fix(fix, Vec::new()),
                );
            } else if one.ask.scheme == Scheme::Https {
                judge.add(
                    Draft::new(codes::OWN_TLS_PAST_GATEWAY, &by, "/spec/hosts")
                        .says(format!("clients that open TLS to {} themselves do not pass the gateway", one.ask.host))
                        .effect(how)
                        .fix("Route their server name to the gateway with a tls route, or remove the HTTPS port from the ServiceEntry", Vec::new()),
                );
            }
        }
    }
}

/// Plain HTTP on port 80 to a host whose requests are encrypted on another port.
fn beside(judge: &mut Judge<'_>) {
    let mut pairs: BTreeMap<(usize, String), BTreeSet<u16>> = BTreeMap::new();
    for one in judge.observed.iter().filter(|o| judge.world.is_sidecar(o.proxy)) {
        if one.ask.scheme == Scheme::Http && !one.traces.is_empty() && one.traces.iter().all(is_originated) {
            pairs.entry((one.proxy, one.ask.host.clone())).or_default().insert(one.ask.port);
        }
    }
    for ((proxy, host), encrypted) in pairs {
        if encrypted.contains(&80) {
            continue;
        }
        let ask = Ask::new(Scheme::Http, &host, 80, "/");
        let leaves = Tracer::new(judge.world)
            .trace(proxy, &ask)
            .iter()
            .any(|t| t.hops.last().is_some_and(|h| h.cluster == PASSTHROUGH));
        let Some(entry) = judge.world.entries(&host, "").next().cloned().filter(|_| leaves) else { continue };
        let shown: Vec<String> = encrypted.iter().map(u16::to_string).collect();
        let at_443 = encrypted.contains(&443);
        let port = json!({"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 443});
        let draft = Draft::new(codes::PLAIN_TEXT_BESIDE, &entry.id(), "/spec/ports")
            .says(format!("TLS is opened for port {} of {host}, and port 80 is not in the entry", shown.join(", ")))
            .effect(format!("{ask} from {}: it leaves in plain text, because the mesh lets unknown ports pass (ALLOW_ANY)", judge.name(proxy)))
            .fix("Add port 80 with targetPort 443 to the entry, or allow registered hosts alone (outboundTrafficPolicy REGISTRY_ONLY)", vec![Change::patch(&entry, vec![Op::add("/spec/ports/-", port)])]);
        let severity = if at_443 { Severity::Warning } else { Severity::Note };
        judge.add(Draft { severity, ..draft });
    }
}

/// Credentials whose Secrets are nowhere among the files.
fn secrets(judge: &mut Judge<'_>) {
    let there = |name: &str| {
        let plain = name.rsplit('/').next().unwrap_or(name);
        judge.resources.iter().any(|r| {
            matches!(r.kind(), "Secret" | "ConfigMap")
                && (r.name() == plain || r.name() == format!("{plain}-cacert"))
        })
    };
    let mut missing: Vec<(ResourceId, String, String)> = Vec::new();
    for rule in raw::of_kind(judge.resources, "DestinationRule") {
        for (at, ..) in raw::all_tls(&rule.0) {
            let name = raw::text(&rule.0, &format!("{at}/credentialName"));
            if !name.is_empty() && !there(name) {
                missing.push((rule.id(), format!("{at}/credentialName"), name.to_owned()));
            }
        }
    }
    for gateway in raw::of_kind(judge.resources, "Gateway") {
        for (at, server) in raw::items(&gateway.0, "/spec/servers") {
            for field in ["credentialName", "caCertCredentialName"] {
                let name = raw::text(server, &format!("/tls/{field}"));
                if !name.is_empty() && !there(name) {
                    missing.push((gateway.id(), format!("{at}/tls/{field}"), name.to_owned()));
                }
            }
        }
    }
    for (id, at, name) in missing {
        if judge.has(codes::SECRET_NOT_READABLE, &id) {
            continue;
        }
        let scope = &judge.world.scope;
        let says = if scope.secrets {
            format!("no proxy's namespace has the Secret {name}")
        } else {
            let among = scope.among();
            format!(
                "the Secret {name} is not {among}; it is taken to be in the namespace of the proxy that reads it"
            )
        };
        judge.add(
            Draft::new(codes::SECRET_NOT_IN_FILES, &id, at)
                .says(says)
                .effect("until it is there, requests that need it get 503"),
        );
    }
}

/// Rules for hosts that the files do not know.
fn without_service(judge: &mut Judge<'_>) {
    let resources = judge.resources;
    for rule in raw::of_kind(resources, "DestinationRule") {
        let written = raw::text(&rule.0, "/spec/host");
        let host = raw::full_host(written, rule.namespace());
        let some = judge.world.knows(&host)
            || raw::of_kind(resources, "ServiceEntry")
                .any(|e| raw::texts(&e.0, "/spec/hosts").iter().any(|h| hosts::subset_of(h, &host)))
            || judge.world.state.services.iter().any(|s| hosts::subset_of(&s.host, &host));
        if some || judge.has(codes::RULE_FOR_UNKNOWN_HOST, &rule.id()) {
            continue;
        }
        let half = judge.world.state.services.iter().find(|s| {
            s.host.strip_prefix(&host).is_some_and(|rest| rest.starts_with('.'))
                || s.host.split('.').next() == Some(written)
        });
        match half {
            Some(service) => {
                let full = service.host.clone();
                judge.add(
                    Draft::new(codes::RULE_FOR_UNKNOWN_HOST, &rule.id(), "/spec/host")
                        .says(format!("the host {written} is not a full name, so the rule is for no service"))
                        .effect(format!("requests to {full} do not follow the rule"))
                        .fix(
                            format!("Use the full name {full}"),
                            vec![Change::patch(rule, vec![Op::replace("/spec/host", full)])],
                        ),
                );
            }
            None => judge.add(
                Draft::new(codes::NOT_IN_FILES, &rule.id(), "/spec/host")
                    .says(format!("no service of the host {written} is {}", judge.world.scope.among()))
                    .effect("what the rule does is not followed"),
            ),
        }
    }
}
