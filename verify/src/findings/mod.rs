//! What is wrong with a configuration.

mod arrivals;
mod codes;
mod entries;
mod failures;
pub(crate) mod handshakes;
mod hops;
mod judge;
mod routes;
mod structure;

pub use codes::{ALL, Code, find};

use std::collections::BTreeSet;

use meshproof_model::verification::{Finding, Severity};
use meshproof_model::{Resource, ResourceId};
use meshproof_plan::{Verdict, hosts};
use serde_json::json;

use self::judge::{Change, Draft, Judge, Op, changed};
use crate::flows::{self, Observed};
use crate::raw;
use crate::scope::Scope;
use crate::source::Input;
use crate::world::World;

/// The findings and notes, and the world and requests that they are about.
pub(crate) struct Judged {
    /// With what had to be fixed before anything else could be said.
    pub(crate) resources: Vec<Resource>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<Finding>,
    pub(crate) world: World,
    pub(crate) observed: Vec<Observed>,
}

/// Judges the resources. What istiod refuses is judged as far as its fix is known.
pub(crate) fn judge(input: &Input) -> Judged {
    let first = World::new(&input.resources, &input.scope);
    let mut drafts = Vec::new();
    let mut repairs = Vec::new();
    for verdict in first.verdicts.iter().filter(|v| v.refused.is_some()) {
        let (draft, changes) = refused(input, verdict);
        drafts.push(draft);
        repairs.extend(changes);
    }
    let repaired = changed(&input.resources, &repairs).filter(|_| !repairs.is_empty());
    let world = match &repaired {
        Some(resources) => World::new(resources, &input.scope),
        None => first,
    };
    let resources = repaired.as_deref().unwrap_or(&input.resources);
    let mut observed = flows::observe(&world);
    observed.retain(|one| flows::is_ours(&world, one));
    let mut judge = Judge::new(input, resources, &world, &observed);
    drafts.into_iter().for_each(|d| judge.add(d));
    delegates(&mut judge);
    failures::judge(&mut judge);
    arrivals::judge(&mut judge);
    routes::judge(&mut judge);
    structure::judge(&mut judge);
    remarks(&mut judge);
    let (mut findings, mut notes) = judge.finish();
    let ours = |f: &Finding| concerns(&input.scope, &world, &observed, f);
    findings.retain(ours);
    notes.retain(ours);
    let resources = resources.to_vec();
    Judged { resources, findings, notes, world, observed }
}

/// Whether a finding is about the namespace that is judged: about a resource in it, or about a request of its own.
fn concerns(scope: &Scope, world: &World, observed: &[Observed], finding: &Finding) -> bool {
    let Some(namespace) = &scope.namespace else { return true };
    let id = finding.resource.split(' ').nth(1).unwrap_or_default();
    let of_request = || {
        observed.iter().any(|one| {
            finding.effect.starts_with(&one.ask.to_string())
                && finding.effect.contains(world.configs[one.proxy].name.as_str())
        })
    };
    id.split('/').next() == Some(namespace.as_str()) || of_request()
}

/// A resource that istiod refuses, and what would make it acceptable.
fn refused(input: &Input, verdict: &Verdict) -> (Draft, Vec<Change>) {
    let id = &verdict.resource;
    let words = verdict.refused.as_ref().map(ToString::to_string).unwrap_or_default();
    let effect = format!("Istio refuses {id}; it has no effect on any request");
    let resource = raw::by_id(&input.resources, id);
    if let Some(service) = resource.filter(|r| r.kind() == "VirtualService")
        && raw::texts(&service.0, "/spec/hosts").is_empty()
    {
        let hosts = hosts_of_gateways(input, service);
        let draft = Draft::new(codes::VIRTUAL_SERVICE_WITHOUT_HOSTS, id, "/spec")
            .says(format!("the VirtualService has no hosts ({words})"))
            .effect(effect);
        if hosts.is_empty() {
            return (draft.fix("Name the hosts that its routes are for", Vec::new()), Vec::new());
        }
        let changes = vec![Change::patch(service, vec![Op::add("/spec/hosts", json!(hosts))])];
        let accepted = changed(&input.resources, &changes).is_some_and(|r| {
            World::new(&r, &input.scope).verdicts.iter().all(|v| v.resource != *id || v.refused.is_none())
        });
        let summary = format!("Name the hosts of its Gateway: {}", hosts.join(", "));
        if accepted {
            return (draft.confirmed(summary, changes.clone()), changes);
        }
        return (draft.fix(summary, changes), Vec::new());
    }
    let pointer = resource.map(|r| place_of(r, &words)).unwrap_or_default();
    (
        Draft::new(codes::REFUSED, id, pointer)
            .says(words)
            .effect(effect)
            .fix("Correct the field that Istio names", Vec::new()),
        Vec::new(),
    )
}

/// The hosts of the servers of a VirtualService's Gateways.
fn hosts_of_gateways(input: &Input, service: &Resource) -> Vec<String> {
    let names: Vec<String> = raw::texts(&service.0, "/spec/gateways")
        .into_iter()
        .map(|g| hosts::qualified_gateway(g, service.namespace()))
        .collect();
    let mut found: Vec<String> = Vec::new();
    for gateway in raw::of_kind(&input.resources, "Gateway") {
        if names.contains(&format!("{}/{}", gateway.namespace(), gateway.name())) {
            for (_, server) in raw::items(&gateway.0, "/spec/servers") {
                for host in raw::texts(server, "/hosts") {
                    let host = host.split_once('/').map_or(host, |(_, h)| h).to_owned();
                    if !found.contains(&host) {
                        found.push(host);
                    }
                }
            }
        }
    }
    found
}

/// The field that istiod's words name, as far as they name one.
fn place_of(resource: &Resource, words: &str) -> String {
    let mut best = String::new();
    for word in words.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '\'' | '(' | ')')) {
        let word = word.trim_end_matches(':');
        if word.starts_with("spec.") || word == "spec" {
            let pointer: String =
                word.replace(']', "").split(['.', '[']).map(|part| format!("/{part}")).collect();
            if pointer.len() > best.len() {
                best = pointer;
            }
        }
    }
    if !best.is_empty() {
        return best;
    }
    // A field, or the value of one, that the words mention.
    let mut stack = vec![(String::from("/spec"), resource.spec())];
    let mut found: Option<(usize, String)> = None;
    let mentioned = |text: &str| {
        text.len() > 2
            && words.match_indices(text).any(|(at, _)| {
                let before = words[..at].chars().next_back();
                let after = words[at + text.len()..].chars().next();
                let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
                edge(before) && edge(after)
            })
    };
    while let Some((at, value)) = stack.pop() {
        let mut consider = |weight: usize, at: &str| {
            if found.as_ref().is_none_or(|(w, _)| weight > *w) {
                found = Some((weight, at.to_owned()));
            }
        };
        match value {
            serde_json::Value::Object(fields) => {
                for (name, inner) in fields {
                    let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                    if mentioned(name) {
                        consider(name.len(), &at);
                    }
                    stack.push((at, inner));
                }
            }
            serde_json::Value::Array(items) => {
                stack.extend(items.iter().enumerate().map(|(i, v)| (format!("{at}/{i}"), v)));
            }
            serde_json::Value::String(text) if mentioned(text) => consider(text.len() + 8, &at),
            serde_json::Value::Number(number) if mentioned(&number.to_string()) => consider(6, &at),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }
    found.map_or_else(|| "/spec".to_owned(), |(_, at)| at)
}

/// VirtualServices without hosts to which no other delegates.
fn delegates(judge: &mut Judge<'_>) {
    let used: BTreeSet<ResourceId> = raw::of_kind(judge.world.resources(), "VirtualService")
        .flat_map(|root| {
            raw::items(&root.0, "/spec/http")
                .into_iter()
                .filter_map(|(_, r)| crate::witnesses::delegate(judge.world, root, r).map(Resource::id))
                .collect::<Vec<_>>()
        })
        .collect();
    // A delegation to the name in another namespace gets a finding of its own.
    let missed: BTreeSet<&str> = raw::of_kind(judge.world.resources(), "VirtualService")
        .flat_map(|root| raw::items(&root.0, "/spec/http").into_iter().map(move |(_, route)| (root, route)))
        .filter(|(root, route)| crate::witnesses::delegate(judge.world, root, route).is_none())
        .map(|(_, route)| raw::text(route, "/delegate/name"))
        .collect();
    for service in raw::of_kind(judge.world.resources(), "VirtualService") {
        let unused = !used.contains(&service.id()) && !missed.contains(service.name());
        if raw::texts(&service.0, "/spec/hosts").is_empty() && unused {
            let draft = Draft::new(codes::VIRTUAL_SERVICE_WITHOUT_HOSTS, &service.id(), "/spec")
                .says(format!("the VirtualService has no hosts, so it is a delegate, and no VirtualService {} delegates to it", judge.world.scope.among()))
                .effect("its routes take no request")
                .fix("Name the hosts that its routes are for, or delegate to it", Vec::new());
            judge.add(Draft { severity: Severity::Warning, ..draft });
        }
    }
}

/// What is not looked at, what Istio warns of, what is written twice.
fn remarks(judge: &mut Judge<'_>) {
    let input = judge.input;
    let mut seen: BTreeSet<ResourceId> = BTreeSet::new();
    for verdict in &judge.world.verdicts {
        seen.insert(verdict.resource.clone());
        if verdict.refused.is_some() {
            continue;
        }
        if !verdict.unsupported.is_empty() {
            judge.add(
                Draft::new(codes::NOT_SUPPORTED, &verdict.resource, "")
                    .says(format!("meshproof does not support {} yet", verdict.unsupported.join(", ")))
                    .effect("what it does is left out here"),
            );
        }
        if let Some(text) = &verdict.warnings {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            judge.add(
                Draft::new(codes::ISTIO_WARNS, &verdict.resource, "")
                    .says(text)
                    .effect("Istio accepts the resource"),
            );
        }
    }
    for (id, first, _) in &input.overwritten {
        judge.add(
            Draft::new(codes::OVERWRITTEN, id, "")
                .says(format!(
                    "{id} is written twice, first at {first}; the last one counts, as for kubectl apply"
                ))
                .effect("what the first one says has no effect"),
        );
    }
}

/// Fields and kinds that change nothing about TLS, for people.
pub(crate) fn passed_over(input: &Input, world: &World) -> Vec<String> {
    let mut all = input.passed_over.clone();
    let ours = |v: &&Verdict| !v.passed_over.is_empty() && world.scope.has(&v.resource.namespace);
    for verdict in world.verdicts.iter().filter(ours) {
        all.push(format!("{}: {}", verdict.resource, verdict.passed_over.join(", ")));
    }
    all
}
