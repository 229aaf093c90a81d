//! Requests that do not arrive.

use meshproof_model::Resource;
use meshproof_plan::hosts;
use serde_json::{Value, json};

use super::arrivals::invisible;
use super::codes;
use super::entries::{credential, entry_invisible, no_endpoint, not_merged};
use super::hops::{circle, hop_of_another_kind, hop_refused, no_listener, no_route};
use super::judge::{Change, Draft, Judge, Op, arrives, client_gets, destination};
use crate::flows::Observed;
use crate::raw::{self, ClusterName};
use crate::trace::{End, Trace, Why};
use crate::world::World;

/// All of them.
pub(super) fn judge(judge: &mut Judge<'_>) {
    let observed = judge.observed;
    for one in observed.iter().filter(|o| !o.hidden || o.meant_for.is_some()) {
        for trace in &one.traces {
            if let End::Unknown(_) = &trace.end {
                circle(judge, one, trace);
            }
            let End::Fails { proxy, why, .. } = &trace.end else { continue };
            match why {
                Why::NoCluster(name) => no_cluster(judge, one, trace, *proxy, name),
                Why::NoEndpoint(name) => no_endpoint(judge, one, *proxy, name),
                Why::NoChain { server_name: Some(name), port } => {
                    hop_refused(judge, one, trace, *proxy, *port, name)
                }
                Why::NoChain { .. } | Why::OtherTls { .. } => {
                    hop_of_another_kind(judge, one, trace, *proxy, why)
                }
                Why::NoListener(port) => no_listener(judge, one, trace, *proxy, *port),
                Why::Credential { name, lacks } => credential(judge, one, trace, name, lacks),
                Why::NoRoute => no_route(judge, one, trace, *proxy),
                Why::Blocked => {}
            }
        }
    }
}

fn no_cluster(judge: &mut Judge<'_>, one: &Observed, trace: &Trace, proxy: usize, name: &str) {
    let (Some(cluster), Some(hop)) = (ClusterName::parse(name), trace.hops.last()) else { return };
    if !judge.world.is_sidecar(proxy) && judge.world.is_gateway(cluster.host) {
        circle(judge, one, trace);
        return;
    }
    let written = destination(judge, hop, cluster);
    let effect = client_gets(judge, one, trace);
    if !judge.world.knows(cluster.host) {
        if let Some((service, to)) = written {
            unknown_host(judge, one, &service, &to, &effect);
        }
        return;
    }
    // The subset may be there, and the port not.
    let of_port = format!("outbound|{}||{}", cluster.port, cluster.host);
    let has_port = judge.world.configs[hop.proxy].clusters.contains_key(&of_port);
    if !cluster.subset.is_empty() && has_port {
        subset(judge, one, proxy, cluster, written.as_ref(), &effect);
        return;
    }
    if not_merged(judge, one, cluster, &effect) || entry_invisible(judge, one, proxy, cluster.host, &effect) {
        return;
    }
    let gateway_service = judge.world.state.services.iter().find(|s| s.host == cluster.host);
    let gateway = gateway_service.filter(|s| {
        judge.world.state.proxies.iter().any(|p| {
            p.kind == meshproof_plan::ProxyKind::Gateway
                && p.namespace == s.namespace
                && s.selector.iter().all(|(k, v)| p.labels.get(k) == Some(v))
        })
    });
    // The Gateway's server is reported with the Gateway.
    let served = raw::of_kind(judge.resources, "Gateway").any(|g| {
        raw::items(&g.0, "/spec/servers")
            .iter()
            .any(|(_, s)| raw::port(s, "/port/number") == Some(cluster.port))
    });
    if gateway.is_some() && served {
        return;
    }
    if let Some(service) = gateway {
        let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
        let (at, pointer) = match &written {
            Some((service, to)) => (service.id(), format!("{}/port", to.pointer)),
            None => return,
        };
        judge.add(
            Draft::new(codes::GATEWAY_PORT_WITHOUT_SERVICE, &at, pointer)
                .says(format!("the Service {} has no port {} (it has {})", cluster.host, cluster.port, ports.join(", ")))
                .effect(effect)
                .fix(format!("Use a port of the Service in the Gateway and the route, or add port {} to the Service", cluster.port), Vec::new()),
        );
        return;
    }
    let Some((service, to)) = written else { return };
    let mut ports: Vec<u16> = judge
        .world
        .entries(cluster.host, "")
        .flat_map(|e| raw::items(&e.0, "/spec/ports"))
        .filter_map(|(_, p)| raw::port(p, "/number"))
        .collect();
    ports.extend(gateway_service.iter().flat_map(|s| &s.ports).map(|p| p.number));
    ports.sort_unstable_by_key(|p| *p != 443);
    let pointer = format!("{}/port/number", to.pointer);
    let op = |port: u16| match to.port {
        Some(_) => Op::replace(pointer.clone(), port),
        None => Op::add(format!("{}/port", to.pointer), json!({"number": port})),
    };
    let candidates = ports.iter().map(|p| vec![Change::patch(&service, vec![op(*p)])]).collect();
    let shown: Vec<String> = ports.iter().map(u16::to_string).collect();
    let draft = Draft::new(codes::DESTINATION_WITHOUT_SERVICE, &service.id(), pointer)
        .says(format!("{} has no port {} (it has {})", cluster.host, cluster.port, shown.join(", ")))
        .effect(effect);
    let summary = "Use a port that the service has, or add the port to the service";
    judge.add(match judge.first_that(one, candidates, arrives) {
        Some(changes) => draft.confirmed(summary, changes),
        None => draft.fix(summary, Vec::new()),
    });
}

/// A destination that no service has.
fn unknown_host(
    judge: &mut Judge<'_>,
    one: &Observed,
    service: &Resource,
    to: &raw::Destination,
    effect: &str,
) {
    let host_at = format!("{}/host", to.pointer);
    let text = service.0.pointer(&host_at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let services: Vec<String> =
        judge
            .world
            .state
            .services
            .iter()
            .map(|s| s.host.clone())
            .chain(raw::of_kind(judge.resources, "ServiceEntry").flat_map(|e| {
                raw::texts(&e.0, "/spec/hosts").into_iter().map(str::to_owned).collect::<Vec<_>>()
            }))
            .collect();
    let half = services.iter().find(|s| {
        s.strip_prefix(text.as_str()).is_some_and(|rest| rest.starts_with(".svc") || rest == ".cluster.local")
            || (!text.contains('.') && s.split('.').next() == Some(text.as_str()))
            || s.ends_with(".svc.cluster.local") && s.split('.').take(2).collect::<Vec<_>>().join(".") == text
    });
    let near = services
        .iter()
        .min_by_key(|s| strsim::damerau_levenshtein(s, &to.host))
        .filter(|s| strsim::damerau_levenshtein(s, &to.host) <= 2);
    for candidate in half.into_iter().chain(near) {
        let changes = vec![Change::patch(service, vec![Op::replace(host_at.clone(), candidate.as_str())])];
        let further = |w: &World, t: &Trace| {
            !matches!(&t.end, End::Fails { why: Why::NoCluster(_), .. }) || arrives(w, t)
        };
        if judge.would(one, &changes, further) {
            let why = if half.is_some() {
                format!(
                    "the host {text} is not a full name; Istio takes a name with a dot as it is, and completes one without a dot with the namespace of the resource ({})",
                    to.host
                )
            } else {
                format!("no service has the host {text}")
            };
            judge.add(
                Draft::new(codes::DESTINATION_WITHOUT_SERVICE, &service.id(), host_at)
                    .says(why)
                    .effect(effect)
                    .confirmed(format!("Use the full name {candidate}"), changes),
            );
            return;
        }
    }
    let namespaces: Vec<&str> = judge.resources.iter().map(Resource::namespace).collect();
    let half_of_unknown = to.host.split('.').count() == 2
        && to.host.split('.').nth(1).is_some_and(|ns| namespaces.contains(&ns) || ns == "istio-system");
    if half_of_unknown {
        judge.add(
            Draft::new(codes::DESTINATION_WITHOUT_SERVICE, &service.id(), host_at.clone())
                .says(format!("the host {text} is not a full name; Istio takes a name with a dot as it is"))
                .effect(effect)
                .fix(
                    format!("Use the full name {text}.svc.cluster.local"),
                    vec![Change::patch(
                        service,
                        vec![Op::replace(host_at, format!("{text}.svc.cluster.local"))],
                    )],
                ),
        );
    } else if to.host.ends_with(".svc.cluster.local") && judge.world.scope.whole {
        judge.add(
            Draft::new(codes::DESTINATION_WITHOUT_SERVICE, &service.id(), host_at)
                .says(format!("the Service {} does not exist", to.host))
                .effect(effect)
                .fix("Correct the name, or create the Service", Vec::new()),
        );
    } else if to.host.ends_with(".svc.cluster.local") {
        judge.add(
            Draft::new(codes::NOT_IN_FILES, &service.id(), host_at)
                .says(format!("the Service {} is not {}", to.host, judge.world.scope.among()))
                .effect(format!("{} is not followed further", one.ask)),
        );
    } else {
        let entry = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": to.host.replace(['.', '*'], "-").trim_matches('-'), "namespace": service.namespace()},
            "spec": {"hosts": [to.host], "location": "MESH_EXTERNAL", "resolution": "DNS",
                "ports": [{"number": to.port.unwrap_or(443), "name": "https", "protocol": "HTTPS"}]},
        });
        judge.add(
            Draft::new(codes::DESTINATION_WITHOUT_SERVICE, &service.id(), host_at)
                .says(format!(
                    "no ServiceEntry or Service {} has the host {}",
                    judge.world.scope.among(),
                    to.host
                ))
                .effect(effect)
                .fix(
                    format!("Add a ServiceEntry for {}, or correct the name", to.host),
                    vec![Change::Create(entry)],
                ),
        );
    }
}

fn subset(
    judge: &mut Judge<'_>,
    one: &Observed,
    proxy: usize,
    cluster: ClusterName<'_>,
    written: Option<&(Resource, raw::Destination)>,
    effect: &str,
) {
    let rules: Vec<Resource> = raw::of_kind(judge.resources, "DestinationRule")
        .filter(|r| {
            hosts::subset_of(cluster.host, &raw::full_host(raw::text(&r.0, "/spec/host"), r.namespace()))
        })
        .cloned()
        .collect();
    let defines = |r: &Resource| {
        raw::items(&r.0, "/spec/subsets").iter().any(|(_, s)| raw::text(s, "/name") == cluster.subset)
    };
    let namespace = judge.world.proxy(proxy).namespace.clone();
    for rule in rules.iter().filter(|r| defines(r)) {
        if in_reach(judge, one, rule, cluster.host, &namespace, effect) {
            return;
        }
    }
    let Some((service, to)) = written else { return };
    let at = format!("{}/subset", to.pointer);
    let summary = "Use a subset that a rule for the host defines, or define it";
    if rules.iter().any(defines) {
        judge.add(
            Draft::new(codes::SUBSET_WITHOUT_CLUSTER, &service.id(), at)
                .says(format!(
                    "the labels of subset {} select no endpoint of {}",
                    cluster.subset, cluster.host
                ))
                .effect(effect)
                .fix("Leave the labels out, or give them to the endpoints", Vec::new()),
        );
        return;
    }
    let names: Vec<String> = rules
        .iter()
        .flat_map(|r| raw::items(&r.0, "/spec/subsets"))
        .map(|(_, s)| raw::text(s, "/name").to_owned())
        .collect();
    let mut near = names.clone();
    near.sort_by_key(|n| strsim::damerau_levenshtein(n, cluster.subset));
    let mut candidates: Vec<Vec<Change>> = near
        .iter()
        .map(|n| vec![Change::patch(service, vec![Op::replace(at.clone(), n.as_str())])])
        .collect();
    candidates.push(vec![Change::patch(service, vec![Op::remove(at.clone())])]);
    // A rule for the host under a half-qualified name.
    let half = raw::of_kind(judge.resources, "DestinationRule").find(|r| {
        defines(r)
            && cluster.host.starts_with(&format!("{}.", raw::text(&r.0, "/spec/host")))
            && raw::full_host(raw::text(&r.0, "/spec/host"), r.namespace()) != cluster.host
    });
    if let Some(rule) = half.cloned() {
        let changes = vec![Change::patch(&rule, vec![Op::replace("/spec/host", cluster.host)])];
        if judge.would(one, &changes, |w, t| {
            !matches!(&t.end, End::Fails { why: Why::NoCluster(_), .. }) || arrives(w, t)
        }) {
            judge.add(
                Draft::new(codes::RULE_FOR_UNKNOWN_HOST, &rule.id(), "/spec/host")
                    .says(format!(
                        "the host {} is not a full name, so the rule and its subset {} are for no service",
                        raw::text(&rule.0, "/spec/host"),
                        cluster.subset
                    ))
                    .effect(effect)
                    .confirmed(format!("Use the full name {}", cluster.host), changes),
            );
            return;
        }
    }
    let known = if names.is_empty() {
        "none is defined".to_owned()
    } else {
        format!("defined: {}", names.join(", "))
    };
    let draft = Draft::new(codes::SUBSET_WITHOUT_CLUSTER, &service.id(), at)
        .says(format!("no DestinationRule defines subset {} of {} ({known})", cluster.subset, cluster.host))
        .effect(effect);
    judge.add(match judge.first_that(one, candidates, arrives) {
        Some(changes) => draft.confirmed(summary, changes),
        None => draft.fix(summary, Vec::new()),
    });
}

/// A rule with the subset that does not reach the proxy.
fn in_reach(
    judge: &mut Judge<'_>,
    one: &Observed,
    rule: &Resource,
    host: &str,
    namespace: &str,
    effect: &str,
) -> bool {
    if invisible(judge, one, rule, host, namespace, effect) {
        return true;
    }
    let exported = rule.0.pointer("/spec/exportTo").is_some();
    let mut tries = Vec::new();
    if exported {
        tries.push(("/spec/exportTo", vec![Op::remove("/spec/exportTo")], "Leave exportTo out".to_owned()));
    }
    tries.push((
        "/metadata/namespace",
        vec![Op::replace("/metadata/namespace", namespace)],
        format!("Create the rule in namespace {namespace}"),
    ));
    for (pointer, ops, summary) in tries {
        let changes = vec![Change::patch(rule, ops)];
        if judge.would(one, &changes, |_, t| !matches!(&t.end, End::Fails { why: Why::NoCluster(_), .. })) {
            judge.add(
                Draft::new(codes::RULE_NOT_VISIBLE, &rule.id(), pointer)
                    .says(format!(
                        "the rule, which defines the subset, does not reach {}",
                        judge.name(one.proxy)
                    ))
                    .effect(effect)
                    .confirmed(summary, changes),
            );
            return true;
        }
    }
    false
}
