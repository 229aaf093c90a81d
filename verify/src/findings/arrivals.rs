//! Requests that arrive in plain text, or at another server.

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;
use meshproof_plan::mesh::PASSTHROUGH;
use serde_json::json;

use super::codes;
use super::handshakes::{double, mesh_tls_outside, originated};
use super::judge::{Change, Draft, Judge, Op, port_pointer};
use crate::flows::{Observed, is_originated, sample};
use crate::raw::{self, ClusterName, Speaks};
use crate::trace::{End, Layer, Scheme, Trace, Tracer};

/// All of them.
pub(super) fn judge(judge: &mut Judge<'_>) {
    let observed = judge.observed;
    for one in observed.iter().filter(|o| !o.hidden || o.meant_for.is_some()) {
        for trace in &one.traces {
            let End::Arrives { port, layers, external, .. } = &trace.end else { continue };
            match layers.as_slice() {
                [] if one.ask.scheme == Scheme::Http && *external => plain(judge, one, trace, *port),
                [Layer::Originated { .. }] => originated(judge, one, trace, *port),
                [.., Layer::Mesh(_)] if *external => mesh_tls_outside(judge, one, trace),
                _ => {}
            }
            if one.ask.scheme == Scheme::Tcp {
                swallowed(judge, one, trace);
            }
        }
    }
    for one in observed.iter().filter(|o| !o.hidden) {
        for trace in &one.traces {
            if let End::Arrives { layers, .. } = &trace.end
                && let [Layer::Own(_), .., Layer::Originated { .. }] = layers.as_slice()
            {
                double(judge, one, trace);
            }
        }
    }
}

/// The rules in force that open TLS to a host.
fn rules_for<'r>(judge: &Judge<'r>, host: &str) -> Vec<&'r Resource> {
    judge.rules_for(host).into_iter().filter(|r| opens_tls(r)).collect()
}

/// Whether a rule is meant for the proxy. Rules are also written in the namespace of the clients; then an assumed client of
/// another namespace is not meant.
fn is_for(judge: &Judge<'_>, one: &Observed, rule: &Resource) -> bool {
    let namespace = judge.world.proxy(one.proxy).namespace.as_str();
    if !judge.world.is_sidecar(one.proxy) || rule.namespace() == namespace {
        return true;
    }
    let named = raw::of_kind(judge.resources, "VirtualService").any(|v| {
        v.namespace() == namespace
            && raw::texts(&v.0, "/spec/hosts").iter().any(|h| hosts::matches(h, &one.ask.host))
    });
    let client_side = judge.world.sidecars().any(|s| judge.world.proxy(s).namespace == rule.namespace());
    named || !client_side
}

fn opens_tls(rule: &Resource) -> bool {
    raw::all_tls(&rule.0).iter().any(|(at, ..)| rule.0.pointer(at).is_some_and(raw::originates))
}

/// Whether a port of a host expects TLS: 443 by convention, or declared so.
fn expects_tls(judge: &Judge<'_>, host: &str, port: u16) -> bool {
    matches!(port, 443 | 8443)
        || judge.world.entries(host, "").any(|e| {
            raw::items(&e.0, "/spec/ports")
                .iter()
                .any(|(_, p)| raw::port(p, "/number") == Some(port) && raw::speaks(p) == Speaks::Tls)
        })
}

/// Plain HTTP leaves the mesh.
fn plain(judge: &mut Judge<'_>, one: &Observed, trace: &Trace, port: u16) {
    let Some(hop) = trace.hops.last() else { return };
    if hop.cluster == PASSTHROUGH {
        return;
    }
    let Some(cluster) = ClusterName::parse(&hop.cluster) else { return };
    let rules = rules_for(judge, cluster.host);
    let to_tls = expects_tls(judge, cluster.host, port);
    let config = &judge.world.configs[hop.proxy];
    let Some(planned) = config.clusters.get(&hop.cluster) else { return };
    let effective = Tracer::new(judge.world).rule_of(&hop.cluster, planned);
    let for_this_port = |rule: &&Resource| {
        raw::tls_pointer(&rule.0, cluster.port, cluster.subset)
            .is_some_and(|at| rule.0.pointer(&at).is_some_and(raw::originates))
    };
    // A setting that says what happens, such as DISABLE.
    let disabled = effective.as_ref().is_some_and(|(id, at)| {
        judge.get(id).and_then(|r| r.0.pointer(at)).is_some_and(|tls| !raw::originates(tls))
    });
    if disabled || (!to_tls && !rules.iter().any(for_this_port)) {
        return;
    }
    let what = format!(
        "{} from {} reaches {}:{port} in plain text",
        one.ask,
        judge.name(one.proxy),
        sample(cluster.host).unwrap_or_default()
    );
    let what =
        if to_tls { format!("{what}; a TLS server answers 400 or closes the connection") } else { what };
    if rules.is_empty() {
        if !typo(judge, one, cluster, &what) && to_tls {
            no_rule(judge, one, cluster, &what);
        }
        return;
    }
    let rules: Vec<&Resource> = rules.into_iter().filter(|r| is_for(judge, one, r)).collect();
    if rules.is_empty() {
        return;
    }
    let at_gateway = |o: &Observed| {
        o.traces.iter().filter(|t| is_originated(t)).any(|t| {
            t.hops.last().is_some_and(|h| {
                let there = judge.world.configs[h.proxy].clusters.get(&h.cluster);
                !judge.world.is_sidecar(h.proxy)
                    && there.is_some_and(|c| c.rules.iter().any(|id| rules.iter().any(|r| r.id() == *id)))
            })
        })
    };
    // What sidecars send through a gateway is encrypted there, and the rule is meant for that gateway. Requests of clients outside,
    // which an ingress gateway passes on, say nothing about those of sidecars.
    let (inside, outside): (Vec<&Observed>, Vec<&Observed>) =
        judge.observed.iter().filter(|o| at_gateway(o)).partition(|o| judge.world.is_sidecar(o.proxy));
    let elsewhere = !inside.is_empty();
    let of_outside = !outside.is_empty() && is_assumed(judge, hop.proxy);
    if elsewhere && judge.world.is_sidecar(hop.proxy) {
        return;
    }
    judge.only_notes = of_outside;
    cause(judge, one, hop.proxy, cluster, &rules, &planned.rules, &what, to_tls);
    judge.only_notes = false;
}

/// Whether a sidecar is one of a namespace of which no workload is known: then it may have none that sends the request.
fn is_assumed(judge: &Judge<'_>, proxy: usize) -> bool {
    let namespace = judge.world.proxy(proxy).namespace.as_str();
    let workload = |r: &Resource| matches!(r.kind(), "Pod" | "Deployment" | "StatefulSet" | "DaemonSet");
    judge.world.is_sidecar(proxy)
        && !judge.resources.iter().any(|r| workload(r) && r.namespace() == namespace)
}

#[allow(clippy::too_many_arguments, reason = "all of it describes the request")]
fn cause(
    judge: &mut Judge<'_>,
    one: &Observed,
    proxy: usize,
    cluster: ClusterName<'_>,
    rules: &[&Resource],
    in_force: &[ResourceId],
    what: &str,
    to_tls: bool,
) {
    let at_sidecar = judge.world.is_sidecar(proxy);
    let labels = judge.world.proxy(proxy).labels.clone();
    let (ClusterName { port, subset, host }, namespace) =
        (cluster, judge.world.proxy(proxy).namespace.clone());
    for rule in rules {
        let spec = &rule.0;
        let selects = spec.pointer("/spec/workloadSelector").is_some();
        let for_port = raw::tls_pointer(spec, port, subset);
        let tls = for_port.as_ref().and_then(|at| spec.pointer(at)).filter(|tls| raw::originates(tls));
        // The credential of a sidecar.
        if let (Some(at), Some(tls)) = (&for_port, tls)
            && at_sidecar
            && !selects
            && !raw::text(tls, "/credentialName").is_empty()
        {
            let mut changes = vec![Op::add("/spec/workloadSelector", json!({"matchLabels": labels}))];
            if rule.namespace() != namespace {
                changes.push(Op::replace("/metadata/namespace", namespace.as_str()));
            }
            let changes = vec![Change::patch(rule, changes)];
            let secret = raw::text(tls, "/credentialName");
            if in_force.contains(&rule.id()) || judge.would(one, &changes, |_, t| is_originated(t)) {
                let draft = Draft::new(codes::CREDENTIAL_WITHOUT_SELECTOR, &rule.id(), format!("{at}/credentialName"))
                    .says(format!("credentialName has no effect at sidecars, because the rule has no workloadSelector; the sidecar opens no TLS to {host}"))
                    .effect(what)
                    .confirmed(format!("Select the workloads with workloadSelector, in their namespace, and allow their service account to read the Secret {secret}; or originate at a gateway"), changes);
                judge.add(draft);
                return;
            }
        }
    }
    for rule in rules {
        let spec = &rule.0;
        let for_port = raw::tls_pointer(spec, port, subset);
        let tls = for_port.as_ref().and_then(|at| spec.pointer(at)).filter(|tls| raw::originates(tls));
        if tls.is_some() && !in_force.contains(&rule.id()) {
            if invisible(judge, one, rule, host, &namespace, what) {
                return;
            }
            continue;
        }
        if let Some(pointer) = for_port.filter(|_| tls.is_some())
            && in_force.first().is_some_and(|first| *first != rule.id())
        {
            shadowed(judge, one, rule, &pointer, in_force, what);
            return;
        }
    }
    for rule in rules {
        if another_port(judge, one, rule, port, subset, what) {
            return;
        }
    }
    if to_tls {
        let rule = rules[0];
        judge.add(
            Draft::new(codes::PLAIN_TEXT_TO_TLS, &rule.id(), "/spec/host")
                .says(format!("the rule opens TLS to {host}, and not for requests to its port {port}"))
                .effect(what)
                .fix(format!("Set tls for port {port} of {host}"), Vec::new()),
        );
    }
}

/// TLS settings for another port, or settings of the port without TLS.
fn another_port(
    judge: &mut Judge<'_>,
    one: &Observed,
    rule: &Resource,
    port: u16,
    subset: &str,
    what: &str,
) -> bool {
    let own = raw::items(&rule.0, "/spec/trafficPolicy/portLevelSettings")
        .into_iter()
        .find(|(_, s)| raw::port(s, "/port/number") == Some(port));
    let top = rule.0.pointer("/spec/trafficPolicy/tls").filter(|tls| raw::originates(tls));
    if let (Some((at, _)), Some(tls)) = (&own, top) {
        let changes = vec![Change::patch(rule, vec![Op::add(format!("{at}/tls"), tls.clone())])];
        if judge.would(one, &changes, |_, t| is_originated(t)) {
            judge.add(
                Draft::new(codes::PORT_SETTINGS_WITHOUT_TLS, &rule.id(), at.clone())
                    .says(format!("portLevelSettings for port {port} replace the whole trafficPolicy for it, and have no tls"))
                    .effect(what)
                    .confirmed(format!("Repeat tls in the settings for port {port}"), changes),
            );
            return true;
        }
    }
    for (at, for_port, of_subset) in raw::all_tls(&rule.0) {
        let Some(tls) = rule.0.pointer(&at).filter(|tls| raw::originates(tls)) else { continue };
        if !of_subset.is_empty() && of_subset != subset {
            let change = vec![Change::patch(rule, vec![Op::add("/spec/trafficPolicy", json!({"tls": tls}))])];
            if rule.0.pointer("/spec/trafficPolicy").is_none()
                && judge.would(one, &change, |_, t| is_originated(t))
            {
                judge.add(
                    Draft::new(codes::PORT_WITHOUT_TLS, &rule.id(), at)
                        .says(format!("tls is set for subset {of_subset}, and the request goes to no subset"))
                        .effect(what)
                        .confirmed("Set tls in the rule's own trafficPolicy, or route to the subset", change),
                );
                return true;
            }
            continue;
        }
        let Some(other) = for_port.filter(|p| *p != port) else { continue };
        let number = at.replace("/tls", "/port/number");
        let used = judge.observed.iter().any(|o| {
            o.traces.iter().any(|t| {
                is_originated(t)
                    && t.hops.last().is_some_and(|h| {
                        ClusterName::parse(&h.cluster).is_some_and(|c| {
                            c.port == other
                                && judge.world.configs[h.proxy]
                                    .clusters
                                    .get(&h.cluster)
                                    .is_some_and(|c| c.rules.contains(&rule.id()))
                        })
                    })
            })
        });
        let (summary, op) = if used {
            let list = number
                .rsplit_once("/portLevelSettings/")
                .map(|(list, _)| format!("{list}/portLevelSettings/-"));
            let value = json!({"port": {"number": port}, "tls": tls});
            (format!("Add settings for port {port}"), Op::add(list.unwrap_or_default(), value))
        } else {
            (
                format!(
                    "Use port {port} in portLevelSettings: the service's port that requests use, not the target port"
                ),
                Op::replace(number.clone(), port),
            )
        };
        let mut candidates = vec![vec![Change::patch(rule, vec![op.clone()])]];
        if rule.0.pointer("/spec/exportTo").is_some() {
            candidates.push(vec![Change::patch(rule, vec![op, Op::remove("/spec/exportTo")])]);
        }
        if let Some(changes) = judge.first_that(one, candidates, |_, t| is_originated(t)) {
            judge.add(
                Draft::new(codes::PORT_WITHOUT_TLS, &rule.id(), number)
                    .says(format!("portLevelSettings open TLS for port {other}, but the request uses service port {port}, to which no tls applies"))
                    .effect(what)
                    .confirmed(summary, changes),
            );
            return true;
        }
    }
    false
}

/// A rule that says what to do and does not reach the proxy.
pub(super) fn invisible(
    judge: &mut Judge<'_>,
    one: &Observed,
    rule: &Resource,
    host: &str,
    namespace: &str,
    what: &str,
) -> bool {
    let fixed = |_: &crate::world::World, t: &Trace| is_originated(t);
    let mut tries: Vec<(&str, String, Vec<Op>)> = Vec::new();
    if rule.0.pointer("/spec/exportTo").is_some() {
        let all = "Leave exportTo out, or name the namespace of the proxy in it".to_owned();
        tries.push(("/spec/exportTo", all, vec![Op::remove("/spec/exportTo")]));
    }
    let mut places: Vec<String> = judge.world.entries(host, "").map(|e| e.namespace().to_owned()).collect();
    places.push(namespace.to_owned());
    for place in places.into_iter().filter(|p| p != rule.namespace()) {
        let summary = format!("Create the rule in namespace {place}");
        tries.push((
            "/metadata/namespace",
            summary.clone(),
            vec![Op::replace("/metadata/namespace", place.as_str())],
        ));
        if rule.0.pointer("/spec/exportTo").is_some() {
            let ops = vec![Op::replace("/metadata/namespace", place.as_str()), Op::remove("/spec/exportTo")];
            tries.push(("/metadata/namespace", format!("{summary}, without exportTo"), ops));
        }
    }
    for (pointer, summary, ops) in tries {
        let changes = vec![Change::patch(rule, ops)];
        if judge.would(one, &changes, fixed) {
            let (from, proxy) = (rule.namespace(), judge.name(one.proxy).to_owned());
            let why = if pointer == "/spec/exportTo" {
                format!("exportTo keeps the rule in namespace {from}; {proxy} does not get it")
            } else {
                format!(
                    "the rule is in namespace {from}, which is neither the namespace of the proxy, nor that of the service, nor the root namespace; {proxy} does not follow it"
                )
            };
            judge.add(
                Draft::new(codes::RULE_NOT_VISIBLE, &rule.id(), pointer)
                    .says(why)
                    .effect(what)
                    .confirmed(summary, changes),
            );
            return true;
        }
    }
    false
}

fn shadowed(
    judge: &mut Judge<'_>,
    one: &Observed,
    rule: &Resource,
    at: &str,
    in_force: &[ResourceId],
    what: &str,
) {
    let Some(older) = judge.get(&in_force[0]) else { return };
    let policy = rule.0.pointer("/spec/trafficPolicy").cloned().unwrap_or_default();
    let changes = vec![Change::patch(older, vec![Op::add("/spec/trafficPolicy", policy)])];
    let draft = Draft::new(codes::RULE_SHADOWED, &rule.id(), at)
        .says(format!("the older {} is for the same host; of several rules the trafficPolicy of the oldest alone has an effect", older.id()))
        .effect(what);
    let summary = format!("Put both policies into one rule, {}", older.id());
    let works = judge.would(one, &changes, |_, t| is_originated(t));
    judge.add(if works { draft.confirmed(summary, changes) } else { draft.fix(summary, Vec::new()) });
}

/// A rule whose host is nearly the request's.
fn typo(judge: &mut Judge<'_>, one: &Observed, cluster: ClusterName<'_>, what: &str) -> bool {
    let near: Vec<&Resource> = judge
        .rules
        .iter()
        .copied()
        .filter(|r| {
            let written = raw::full_host(raw::text(&r.0, "/spec/host"), r.namespace());
            if !opens_tls(r) || judge.world.knows(&written) {
                return false;
            }
            let distance = strsim::damerau_levenshtein(&written, cluster.host);
            let part = cluster.host.ends_with(&format!(".{written}"))
                || written.ends_with(&format!(".{}", cluster.host));
            distance <= 3 || part
        })
        .collect();
    for rule in near {
        let changes = vec![Change::patch(rule, vec![Op::replace("/spec/host", cluster.host)])];
        if judge.would(one, &changes, |_, t| is_originated(t)) {
            let written = raw::text(&rule.0, "/spec/host");
            judge.add(
                Draft::new(codes::RULE_FOR_UNKNOWN_HOST, &rule.id(), "/spec/host")
                    .says(format!(
                        "no service has the host {written}; the service that requests use is {}",
                        cluster.host
                    ))
                    .effect(what)
                    .confirmed(format!("Use the host {}", cluster.host), changes),
            );
            return true;
        }
    }
    false
}

fn no_rule(judge: &mut Judge<'_>, one: &Observed, cluster: ClusterName<'_>, what: &str) {
    let entry = judge.world.entries(cluster.host, "").next();
    let Some((id, at)) = entry.map(|e| (e.id(), port_pointer(e, cluster.port))) else { return };
    let _ = one;
    judge.add(
        Draft::new(codes::NO_RULE, &id, at)
            .says(format!("no DestinationRule {} opens TLS to {}", judge.world.scope.among(), cluster.host))
            .effect(what)
            .fix("Add a DestinationRule with tls, if there is none elsewhere", Vec::new()),
    );
}

/// Bytes for one host arrive at another.
fn swallowed(judge: &mut Judge<'_>, one: &Observed, trace: &Trace) {
    let Some(cluster) = trace.hops.first().and_then(|h| ClusterName::parse(&h.cluster)) else { return };
    if hosts::subset_of(&one.ask.host, cluster.host) {
        return;
    }
    let asked = one.ask.host.as_str();
    let routed = raw::of_kind(judge.resources, "VirtualService")
        .any(|v| v.0.pointer("/spec/tcp").is_some() && raw::texts(&v.0, "/spec/hosts").contains(&asked));
    let Some(entry) = judge.world.entries(asked, "").next().filter(|_| !routed) else { return };
    let at = port_pointer(entry, one.ask.port);
    let free = "240.240.0.1";
    let changes = vec![Change::patch(entry, vec![Op::add("/spec/addresses", json!([free]))])];
    let own = asked.to_owned();
    let ok = judge.would(one, &changes, |_, t| {
        t.hops.first().and_then(|h| ClusterName::parse(&h.cluster)).is_some_and(|c| c.host == own)
    });
    let draft = Draft::new(codes::SWALLOWED_BY_TCP, &entry.id(), at)
        .says(format!("{asked} and the older {} are TCP services without addresses on port {}; the sidecar cannot tell their connections apart", cluster.host, one.ask.port))
        .effect(format!("{} from {} arrives at {}, inside the TLS for that host", one.ask, judge.name(one.proxy), cluster.host));
    let summary =
        "Give the entries addresses of their own (and resolve the names to them), or different ports";
    judge.add(if ok { draft.confirmed(summary, changes) } else { draft.fix(summary, changes) });
}
