//! What findings are made with: the files, the plan, what requests do, and the question whether a change removes a cause.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use meshproof_model::verification::{Finding, Fix, Place, Severity};
use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;
use serde_json::{Value, json};

use super::codes::Code;
use crate::flows::Observed;
use crate::raw::{self, ClusterName};
use crate::source::Input;
use crate::trace::{Ask, End, Hop, Scheme, Trace, Tracer};
use crate::world::World;

/// How often the plan of a configuration of ordinary size is made again to confirm causes. Beyond it, a fault is named without its
/// cause.
const MAX_TRIALS: usize = 300;

/// Fewer trials for many resources, so that the time stays bounded.
fn most_trials(resources: usize) -> usize {
    (MAX_TRIALS * 500 / resources.max(500)).max(10)
}

/// A change to one resource, or a new one.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Patch { resource: ResourceId, ops: Vec<Op> },
    Create(Value),
}

/// One operation of a JSON patch.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    op: &'static str,
    path: String,
    value: Option<Value>,
}

impl Op {
    pub(crate) fn add(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { op: "add", path: path.into(), value: Some(value.into()) }
    }

    pub(crate) fn replace(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { op: "replace", path: path.into(), value: Some(value.into()) }
    }

    pub(crate) fn remove(path: impl Into<String>) -> Self {
        Self { op: "remove", path: path.into(), value: None }
    }

    /// Carries it out as far as its place exists (RFC 6902; `test`, `copy` and `move` are not made here).
    fn apply(&self, document: &mut Value) -> Option<()> {
        let (parent, last) = self.path.rsplit_once('/')?;
        let last = last.replace("~1", "/").replace("~0", "~");
        match document.pointer_mut(parent)? {
            Value::Object(fields) => match &self.value {
                Some(value) => {
                    fields.insert(last, value.clone());
                }
                None => {
                    fields.remove(&last)?;
                }
            },
            Value::Array(items) => match (&self.value, last.parse::<usize>()) {
                (Some(value), Err(_)) if last == "-" => items.push(value.clone()),
                (Some(value), Ok(at)) if self.op == "replace" => *items.get_mut(at)? = value.clone(),
                (Some(value), Ok(at)) if at <= items.len() => items.insert(at, value.clone()),
                (None, Ok(at)) if at < items.len() => {
                    items.remove(at);
                }
                _ => return None,
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        }
        Some(())
    }

    /// The value as text.
    pub(crate) fn value_text(&self) -> String {
        match &self.value {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn json(&self) -> Value {
        match &self.value {
            Some(value) => json!({"op": self.op, "path": self.path, "value": value}),
            None => json!({"op": self.op, "path": self.path}),
        }
    }
}

impl Change {
    pub(crate) fn patch(resource: &Resource, ops: Vec<Op>) -> Self {
        Self::Patch { resource: resource.id(), ops }
    }
}

/// Carries out changes; none if one of them has no place.
pub(crate) fn changed(resources: &[Resource], changes: &[Change]) -> Option<Vec<Resource>> {
    let mut all = resources.to_vec();
    for change in changes {
        match change {
            Change::Create(value) => all.push(Resource(value.clone())),
            Change::Patch { resource, ops } => {
                let found = all.iter_mut().rev().find(|r| r.id() == *resource)?;
                for op in ops {
                    op.apply(&mut found.0)?;
                }
            }
        }
    }
    Some(all)
}

/// The changes as YAML for people and for kubectl.
fn patch_text(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        match change {
            Change::Patch { resource, ops } => {
                let ResourceId { kind, namespace, name } = resource;
                // The API server does not let a resource change its namespace.
                let moves = ops.iter().any(|op| op.path == "/metadata/namespace");
                text.push_str(&if moves {
                    format!("# {resource}: create it anew with this change, and delete the old one\n")
                } else {
                    let kind = kind.to_ascii_lowercase();
                    format!("# kubectl patch {kind} {name} -n {namespace} --type json --patch-file FILE\n")
                });
                let ops: Vec<Value> = ops.iter().map(Op::json).collect();
                text.push_str(&serde_saphyr::to_string(&ops).unwrap_or_default());
            }
            Change::Create(value) => {
                text.push_str("# kubectl apply -f FILE\n");
                text.push_str(&serde_saphyr::to_string(value).unwrap_or_default());
            }
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// A finding before its place is looked up.
pub(crate) struct Draft {
    pub(crate) code: Code,
    pub(crate) severity: Severity,
    pub(crate) resource: ResourceId,
    pub(crate) pointer: String,
    pub(crate) message: String,
    pub(crate) effect: String,
    pub(crate) fix: Option<(String, Vec<Change>, bool)>,
}

impl Draft {
    pub(crate) fn new(code: Code, resource: &ResourceId, pointer: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity,
            resource: resource.clone(),
            pointer: pointer.into(),
            message: String::new(),
            effect: String::new(),
            fix: None,
        }
    }

    pub(crate) fn says(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    pub(crate) fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    /// How to fix it, where the plan shows that it does.
    pub(crate) fn confirmed(mut self, summary: impl Into<String>, changes: Vec<Change>) -> Self {
        self.fix = Some((summary.into(), changes, true));
        self
    }

    /// How to fix it.
    pub(crate) fn fix(mut self, summary: impl Into<String>, changes: Vec<Change>) -> Self {
        self.fix = Some((summary.into(), changes, false));
        self
    }
}

/// Collects findings.
pub(crate) struct Judge<'a> {
    pub(crate) input: &'a Input,
    /// The resources as they are judged: with what must be fixed before anything else can be said.
    pub(crate) resources: &'a [Resource],
    pub(crate) world: &'a World,
    pub(crate) observed: &'a [Observed],
    /// The DestinationRules that are in force.
    pub(crate) rules: Vec<&'a Resource>,
    by_host: HashMap<String, Vec<&'a Resource>>,
    wildcards: Vec<(String, &'a Resource)>,
    by_id: HashMap<ResourceId, usize>,
    trials: Cell<usize>,
    /// Whether what is added now is worth knowing and is not known to be wrong.
    pub(crate) only_notes: bool,
    found: BTreeMap<(&'static str, ResourceId, String), Draft>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        input: &'a Input,
        resources: &'a [Resource],
        world: &'a World,
        observed: &'a [Observed],
    ) -> Self {
        let rules: Vec<&Resource> = raw::of_kind(world.resources(), "DestinationRule").collect();
        let mut by_host: HashMap<String, Vec<&Resource>> = HashMap::new();
        let mut wildcards = Vec::new();
        for rule in &rules {
            let host = raw::full_host(raw::text(&rule.0, "/spec/host"), rule.namespace());
            if hosts::is_wildcard(&host) {
                wildcards.push((host, *rule));
            } else {
                by_host.entry(host).or_default().push(rule);
            }
        }
        let by_id = resources.iter().enumerate().map(|(i, r)| (r.id(), i)).collect();
        Self {
            input,
            resources,
            world,
            observed,
            rules,
            by_host,
            wildcards,
            by_id,
            trials: Cell::new(0),
            only_notes: false,
            found: BTreeMap::new(),
        }
    }

    /// The resource of an id.
    pub(crate) fn get(&self, id: &ResourceId) -> Option<&'a Resource> {
        self.by_id.get(id).map(|i| &self.resources[*i])
    }

    /// The rules in force for a host.
    pub(crate) fn rules_for(&self, host: &str) -> Vec<&'a Resource> {
        let exact = self.by_host.get(host).into_iter().flatten().copied();
        let wild = self.wildcards.iter().filter(|(h, _)| hosts::subset_of(host, h)).map(|(_, r)| *r);
        exact.chain(wild).collect()
    }

    /// Adds a finding; of several of one kind at one place the first counts.
    pub(crate) fn add(&mut self, mut draft: Draft) {
        if self.only_notes {
            draft.severity = Severity::Note;
        }
        let key = (draft.code.code, draft.resource.clone(), draft.pointer.clone());
        self.found.entry(key).or_insert(draft);
    }

    pub(crate) fn has(&self, code: Code, resource: &ResourceId) -> bool {
        self.found.keys().any(|(c, r, _)| *c == code.code && r == resource)
    }

    /// Whether there is any finding (not a note) about requests for a host.
    pub(crate) fn mentions(&self, host: &str) -> bool {
        let (bare, with_port) = (format!("://{host}/"), format!("://{host}:"));
        self.found.values().any(|d| {
            d.severity > Severity::Note && (d.effect.contains(&bare) || d.effect.contains(&with_port))
        })
    }

    /// Whether there is any finding (not a note) about a resource.
    pub(crate) fn blames(&self, resource: &ResourceId) -> bool {
        self.found.iter().any(|((_, r, _), d)| r == resource && d.severity > Severity::Note)
    }

    /// Whether the request does what is wanted, on all ways, after the changes.
    pub(crate) fn would(
        &self,
        observed: &Observed,
        changes: &[Change],
        wanted: impl Fn(&World, &Trace) -> bool,
    ) -> bool {
        let name = &self.world.configs[observed.proxy].name;
        self.would_ask(name, &observed.ask, changes, wanted)
    }

    /// The same for a request of a proxy by name.
    pub(crate) fn would_ask(
        &self,
        proxy: &str,
        ask: &Ask,
        changes: &[Change],
        wanted: impl Fn(&World, &Trace) -> bool,
    ) -> bool {
        if self.trials.get() >= most_trials(self.resources.len()) {
            return false;
        }
        self.trials.set(self.trials.get() + 1);
        let Some(resources) = changed(self.resources, changes) else { return false };
        let world = World::for_proxy(&resources, &self.input.scope, proxy);
        let Some(proxy) = world.configs.iter().position(|c| c.name == proxy) else { return false };
        let traces = Tracer::new(&world).trace(proxy, ask);
        !traces.is_empty() && traces.iter().all(|t| wanted(&world, t))
    }

    /// The first of some changes after which the request does what is wanted.
    pub(crate) fn first_that(
        &self,
        observed: &Observed,
        candidates: Vec<Vec<Change>>,
        wanted: impl Fn(&World, &Trace) -> bool,
    ) -> Option<Vec<Change>> {
        candidates.into_iter().find(|changes| self.would(observed, changes, &wanted))
    }

    /// The proxy's name.
    pub(crate) fn name(&self, proxy: usize) -> &str {
        &self.world.configs[proxy].name
    }

    /// All findings and notes, the most severe first, then in the order of the files.
    pub(crate) fn finish(self) -> (Vec<Finding>, Vec<Finding>) {
        let order: BTreeMap<&str, usize> = self
            .input
            .resources
            .iter()
            .enumerate()
            .filter_map(|(i, r)| {
                let file = self.input.written.get(&r.id()).map(|w| w.file())?;
                Some((file, i))
            })
            .rev()
            .collect();
        let mut all: Vec<Finding> =
            self.found.into_values().map(|draft| finding(self.input, draft)).collect();
        all.sort_by_key(|f| {
            let file = order.get(f.at.file.as_str()).copied().unwrap_or_default();
            (std::cmp::Reverse(f.severity), file, f.at.clone(), f.code.clone())
        });
        all.into_iter().partition(|f| f.severity > Severity::Note)
    }
}

fn finding(input: &Input, draft: Draft) -> Finding {
    let at: Place = input.place(&draft.resource, &draft.pointer);
    let fix = draft.fix.map(|(summary, changes, confirmed)| {
        let resource = match changes.first() {
            Some(Change::Patch { resource, .. }) => resource.to_string(),
            Some(Change::Create(value)) => Resource(value.clone()).id().to_string(),
            None => draft.resource.to_string(),
        };
        Fix { summary, resource, patch: patch_text(&changes), confirmed }
    });
    Finding {
        code: draft.code.code.to_owned(),
        name: draft.code.name.to_owned(),
        severity: draft.severity,
        resource: draft.resource.to_string(),
        at,
        message: draft.message,
        effect: draft.effect,
        fix,
        proof: None,
    }
}

/// Whether a request gets further than where it ended.
pub(super) fn arrives(_: &World, trace: &Trace) -> bool {
    matches!(&trace.end, End::Arrives { .. } | End::Answered { .. })
}

pub(super) fn client_gets(judge: &Judge<'_>, one: &Observed, trace: &Trace) -> String {
    let http = trace.hops.first().map_or(one.ask.scheme == Scheme::Http, |h| h.http);
    let gets = if http { "gets 503" } else { "is disconnected" };
    format!("{} from {}: the client {gets}", one.ask, judge.name(one.proxy))
}

/// Where a destination of a route is written.
pub(super) fn destination(
    judge: &Judge<'_>,
    hop: &Hop,
    cluster: ClusterName<'_>,
) -> Option<(Resource, raw::Destination)> {
    let route = hop.route.as_ref();
    let services = raw::of_kind(judge.resources, "VirtualService");
    services.filter(|v| route.is_none_or(|r| r.service == v.id())).find_map(|service| {
        let found = raw::destinations(service).into_iter().find(|d| {
            d.host == cluster.host
                && d.subset == cluster.subset
                && route.is_none_or(|r| d.pointer.starts_with(&format!("{}/", r.pointer())))
        })?;
        Some((service.clone(), found))
    })
}

/// The entry of a port in a ServiceEntry.
pub(super) fn port_pointer(entry: &Resource, port: u16) -> String {
    let ports = raw::items(&entry.0, "/spec/ports");
    let found = ports.into_iter().find(|(_, p)| raw::port(p, "/number") == Some(port));
    found.map_or_else(|| "/spec/ports".to_owned(), |(at, _)| at)
}
