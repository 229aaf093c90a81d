//! ServiceEntries and Secrets that are there, and not where a proxy finds them.

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;

use super::codes;
use super::judge::{Change, Draft, Judge, Op, arrives, client_gets};
use crate::flows::Observed;
use crate::raw::{self, ClusterName, labels};
use crate::trace::{End, Trace, Why};
use crate::world::World;

/// ServiceEntries of one host and namespace of which the younger is lost.
pub(super) fn not_merged(
    judge: &mut Judge<'_>,
    one: &Observed,
    cluster: ClusterName<'_>,
    effect: &str,
) -> bool {
    let entries: Vec<Resource> = judge.world.entries(cluster.host, "").cloned().collect();
    let has = |e: &Resource| {
        raw::items(&e.0, "/spec/ports").iter().any(|(_, p)| raw::port(p, "/number") == Some(cluster.port))
    };
    let Some(lost) = entries.iter().find(|e| has(e)) else { return false };
    for older in entries.iter().filter(|e| e.id() != lost.id()) {
        let mut all: Vec<Op> = Vec::new();
        let mut differ = Vec::new();
        let mut candidates: Vec<(String, String, Vec<Op>)> = Vec::new();
        for (what, pointer) in [
            ("metadata.labels", "/metadata/labels"),
            ("resolution", "/spec/resolution"),
            ("exportTo", "/spec/exportTo"),
            ("metadata.namespace", "/metadata/namespace"),
            ("workloadSelector", "/spec/workloadSelector"),
        ] {
            let (own, other) = (lost.0.pointer(pointer), older.0.pointer(pointer));
            if own == other {
                continue;
            }
            let op = match other {
                Some(value) => Op::add(pointer, value.clone()),
                None => Op::remove(pointer),
            };
            differ.push(what);
            all.push(op.clone());
            candidates.push((what.to_owned(), pointer.to_owned(), vec![op]));
        }
        candidates.push((
            differ.join(" and "),
            candidates.first().map_or_else(String::new, |c| c.1.clone()),
            all,
        ));
        for (what, pointer, ops) in candidates.into_iter().filter(|(_, _, ops)| !ops.is_empty()) {
            let changes = vec![Change::patch(lost, ops)];
            if judge.would(one, &changes, |w, t| {
                arrives(w, t) || !matches!(&t.end, End::Fails { why: Why::NoCluster(_), .. })
            }) {
                judge.add(
                    Draft::new(codes::ENTRIES_NOT_MERGED, &lost.id(), pointer)
                        .says(format!("{} and the older {} are for the same host and differ in {what}, so Istio does not merge them; the younger one's port {} has no cluster", lost.id(), older.id(), cluster.port))
                        .effect(format!("{effect} (NC)"))
                        .confirmed(format!("Give both the same {what}, or put all ports into one ServiceEntry"), changes),
                );
                return true;
            }
        }
    }
    false
}

/// A ServiceEntry that the proxy does not get.
pub(super) fn entry_invisible(
    judge: &mut Judge<'_>,
    one: &Observed,
    proxy: usize,
    host: &str,
    effect: &str,
) -> bool {
    let entries: Vec<Resource> = judge.world.entries(host, "").cloned().collect();
    let reaches = |w: &World, t: &Trace| {
        arrives(w, t) && t.hops.last().is_some_and(|h| ClusterName::parse(&h.cluster).is_some())
    };
    let namespace = judge.world.proxy(proxy).namespace.clone();
    for entry in entries {
        if entry.0.pointer("/spec/exportTo").is_some() {
            let changes = vec![Change::patch(&entry, vec![Op::remove("/spec/exportTo")])];
            if judge.would(one, &changes, reaches) {
                judge.add(
                    Draft::new(codes::ENTRY_NOT_VISIBLE, &entry.id(), "/spec/exportTo")
                        .says(format!("exportTo keeps the entry for {host} from {}", judge.name(proxy)))
                        .effect(effect)
                        .confirmed(
                            format!("Leave exportTo out, or name namespace {namespace} in it"),
                            changes,
                        ),
                );
                return true;
            }
        }
        let sidecars: Vec<Resource> = raw::of_kind(judge.resources, "Sidecar")
            .filter(|s| {
                let selector = labels(s.0.pointer("/spec/workloadSelector/labels"));
                let own = judge.world.proxy(proxy);
                (s.namespace() == namespace || s.namespace() == judge.world.state.mesh.root_namespace)
                    && selector.iter().all(|(k, v)| own.labels.get(k) == Some(v))
            })
            .cloned()
            .collect();
        for sidecar in sidecars {
            for (at, _) in raw::items(&sidecar.0, "/spec/egress") {
                let name = if entry.namespace() == namespace { "." } else { entry.namespace() };
                let value = format!("{name}/{host}");
                let hosts_at = format!("{at}/hosts");
                let ops = vec![Op::add(format!("{hosts_at}/-"), value.as_str())];
                let mut changes = vec![Change::patch(&sidecar, ops)];
                let mut ok = judge.would(one, &changes, reaches);
                if !ok && entry.0.pointer("/spec/exportTo").is_some() {
                    changes.push(Change::patch(&entry, vec![Op::remove("/spec/exportTo")]));
                    ok = judge.would(one, &changes, reaches);
                }
                if ok {
                    judge.add(
                        Draft::new(codes::ENTRY_NOT_VISIBLE, &sidecar.id(), hosts_at)
                            .says(format!(
                                "the Sidecar's egress hosts leave out {host} of namespace {}",
                                entry.namespace()
                            ))
                            .effect(effect)
                            .confirmed(format!("Add {value} to the egress hosts"), changes),
                    );
                    return true;
                }
            }
        }
    }
    false
}

pub(super) fn no_endpoint(judge: &mut Judge<'_>, one: &Observed, proxy: usize, name: &str) {
    let Some(cluster) = ClusterName::parse(name) else { return };
    let Some(entry) = judge.world.entries(cluster.host, "").next().cloned() else { return };
    let effect = format!("{} from {}: the client gets 503 (UH)", one.ask, judge.name(one.proxy));
    let resolution = raw::text(&entry.0, "/spec/resolution");
    let at = if entry.0.pointer("/spec/resolution").is_some() { "/spec/resolution" } else { "/spec/hosts" };
    let wild = hosts::is_wildcard(cluster.host);
    let message = if wild || matches!(resolution, "" | "NONE") {
        format!(
            "at the gateway {}, {} has resolution NONE and no endpoint: a gateway does not know where a client was going",
            judge.name(proxy),
            cluster.host
        )
    } else {
        format!("{} has resolution {resolution} and no endpoint", cluster.host)
    };
    let to = if wild { "DYNAMIC_DNS" } else { "DNS" };
    let changes = vec![Change::patch(&entry, vec![Op::add("/spec/resolution", to)])];
    let draft = Draft::new(codes::NO_ENDPOINT, &entry.id(), at).says(message).effect(effect);
    judge.add(if judge.would(one, &changes, arrives) {
        draft.confirmed(format!("Use resolution {to}, or name each host"), changes)
    } else {
        draft.fix("Name each host with resolution DNS, or give the entry endpoints", Vec::new())
    });
}

pub(super) fn credential(judge: &mut Judge<'_>, one: &Observed, trace: &Trace, name: &str, lacks: &str) {
    let End::Fails { proxy, .. } = trace.end else { return };
    let effect = client_gets(judge, one, trace);
    let works = |_: &World, t: &Trace| !matches!(&t.end, End::Fails { why: Why::Credential { .. }, .. });
    let namespace = judge.world.proxy(proxy).namespace.clone();
    let map = name.strip_prefix("configmap://");
    let (kind, owner, plain) = match map {
        Some(path) => ("ConfigMap", namespace.as_str(), path.rsplit('/').next().unwrap_or(path)),
        None => {
            let (owner, plain) = raw::secret_of(name, &namespace);
            ("Secret", owner, plain)
        }
    };
    if owner != namespace
        && let Some((resource, at)) = naming(judge, name)
    {
        let by = judge.name(proxy);
        let draft = Draft::new(codes::SECRET_NOT_READABLE, &resource, at.clone())
            .says(format!("credentialName {name} is a Secret of namespace {owner}; {by} reads Secrets from namespace {namespace} alone"))
            .effect(effect);
        let fix = format!("Create the Secret in namespace {namespace}, and name it without a namespace");
        let there = judge.get(&resource).map(|r| vec![Change::patch(r, vec![Op::replace(&at, plain)])]);
        judge.add(draft.fix(fix, there.unwrap_or_default()));
        return;
    }
    let with_suffix = format!("{plain}-cacert");
    let found: Vec<Resource> = judge
        .resources
        .iter()
        .filter(|r| r.kind() == kind && (r.name() == plain || r.name() == with_suffix))
        .cloned()
        .collect();
    for secret in found.iter().filter(|s| s.namespace() != namespace) {
        let changes =
            vec![Change::patch(secret, vec![Op::replace("/metadata/namespace", namespace.as_str())])];
        let both: Vec<Change> = found
            .iter()
            .filter(|s| s.namespace() != namespace)
            .map(|s| Change::patch(s, vec![Op::replace("/metadata/namespace", namespace.as_str())]))
            .collect();
        if let Some(changes) = judge.first_that(one, vec![changes, both], works) {
            judge.add(
                Draft::new(codes::SECRET_NOT_READABLE, &secret.id(), "/metadata/namespace")
                    .says(format!("{kind} {plain} is in namespace {}; {} reads Secrets from namespace {namespace} alone", secret.namespace(), judge.name(proxy)))
                    .effect(effect)
                    .confirmed(format!("Create it in namespace {namespace}"), changes),
            );
            return;
        }
    }
    if found.is_empty() {
        // A cluster's, where no namespace that was read has it.
        let place = naming(judge, name);
        if let Some((resource, at)) = place {
            judge.add(
                Draft::new(codes::SECRET_NOT_READABLE, &resource, at)
                    .says(format!(
                        "there is no {kind} {plain} in namespace {namespace}, where {} reads it",
                        judge.name(proxy)
                    ))
                    .effect(effect)
                    .fix(format!("Create it in namespace {namespace}"), Vec::new()),
            );
        }
        return;
    }
    if let Some(secret) = found.iter().find(|s| s.namespace() == namespace).or(found.first()) {
        let at = if secret.0.get("stringData").is_some() { "/stringData" } else { "/data" };
        let lacks = if lacks.starts_with("the Secret") {
            "a certificate with its key, or a CA (tls.crt and tls.key, ca.crt)"
        } else {
            lacks
        };
        judge.add(
            Draft::new(codes::SECRET_NOT_READABLE, &secret.id(), at)
                .says(format!("{kind} {plain} lacks {lacks}, which the rule of {} needs", judge.name(proxy)))
                .effect(effect)
                .fix(format!("Add {lacks} to the {kind}"), Vec::new()),
        );
    }
}

/// Where a rule or a Gateway names a credential.
fn naming(judge: &Judge<'_>, name: &str) -> Option<(ResourceId, String)> {
    let rules = raw::of_kind(judge.resources, "DestinationRule").flat_map(|rule| {
        let places = raw::all_tls(&rule.0).into_iter().map(|(at, ..)| format!("{at}/credentialName"));
        places.map(move |at| (rule, at))
    });
    let gateways = raw::of_kind(judge.resources, "Gateway").flat_map(|gateway| {
        let servers = raw::items(&gateway.0, "/spec/servers").into_iter();
        servers.map(move |(at, _)| (gateway, format!("{at}/tls/credentialName")))
    });
    let mut all = rules.chain(gateways);
    let found = all.find(|(resource, at)| raw::text(&resource.0, at) == name);
    found.map(|(resource, at)| (resource.id(), at))
}
