//! Istio's resources as types. Every field of the API has its place, so that a misspelt one is refused as the API server
//! refuses it. Fields have the names of the CRD alone: the API server drops or refuses others.

mod api_server;
pub(crate) mod common;
mod conversion;
pub(crate) mod destination_rule;
pub(crate) mod durations;
mod faults;
pub(crate) mod gateway;
pub mod hosts;
mod locality;
pub(crate) mod peer_authentication;
pub(crate) mod problems;
pub mod protocol;
mod route_action_validation;
pub(crate) mod service_entry;
pub(crate) mod sidecar;
pub(crate) mod traffic_policy;
pub(crate) mod virtual_service;
mod virtual_service_analysis;
mod virtual_service_validation;
mod workload_group;

use std::collections::BTreeMap;

use meshproof_model::{Resource, ResourceId};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::destination_rule::DestinationRule;
use self::gateway::Gateway;
use self::peer_authentication::PeerAuthentication;
use self::problems::Problems;
use self::service_entry::{ServiceEntry, WorkloadEntry};
use self::sidecar::Sidecar;
use self::virtual_service::VirtualService;
use self::workload_group::WorkloadGroup;
use crate::rejected::{Refused, Rejected};

/// A specification with the name of its resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named<T> {
    pub(crate) id: ResourceId,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Its place in the order of creation.
    pub(crate) created: usize,
    pub(crate) spec: T,
}

/// What istiod says of one resource, and what this crate does not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which resource.
    pub resource: ResourceId,
    /// Why it is refused, if it is.
    pub refused: Option<Refused>,
    /// istiod's warnings, in one text as it prints several.
    pub warnings: Option<String>,
    /// Fields and kinds that istiod accepts and the plan does not carry out.
    pub unsupported: Vec<String>,
    /// Fields that are passed over, because they do not change who opens TLS to what.
    pub passed_over: Vec<String>,
}

/// All resources that affect a plan, each kind in order of creation.
#[derive(Default)]
pub(crate) struct Resources<'a> {
    pub(crate) service_entries: Vec<Named<ServiceEntry>>,
    pub(crate) virtual_services: Vec<Named<VirtualService>>,
    pub(crate) destination_rules: Vec<Named<DestinationRule>>,
    pub(crate) gateways: Vec<Named<Gateway>>,
    pub(crate) sidecars: Vec<Named<Sidecar>>,
    pub(crate) peer_authentications: Vec<Named<PeerAuthentication>>,
    pub(crate) workload_entries: Vec<Named<WorkloadEntry>>,
    pub(crate) config_maps: Vec<&'a Resource>,
    pub(crate) secrets: Vec<&'a Resource>,
    pub(crate) verdicts: Vec<Verdict>,
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";

impl<'a> Resources<'a> {
    /// Reads and validates all. What is refused is left out.
    pub(crate) fn read(resources: &'a [Resource]) -> Self {
        let mut all = Self::default();
        for (created, resource) in resources.iter().enumerate() {
            let mut problems = Problems::default();
            if all.add(resource, created, &mut problems) {
                all.verdicts.push(Verdict {
                    resource: resource.id(),
                    refused: problems.refused(),
                    warnings: problems.all_warnings(),
                    unsupported: problems.unsupported,
                    passed_over: problems.notes,
                });
            }
        }
        all
    }

    /// Everything that istiod warns of and that is passed over, for people.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for verdict in &self.verdicts {
            if let Some(text) = &verdict.warnings {
                let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                notes.push(format!("{}: Istio warns: {line}", verdict.resource));
            }
            if !verdict.passed_over.is_empty() {
                notes.push(format!(
                    "{}: passed over, because it does not change TLS origination: {}",
                    verdict.resource,
                    verdict.passed_over.join(", ")
                ));
            }
        }
        notes
    }

    /// # Errors
    /// The first resource that istiod refuses, or that asks for something the plan does not carry out.
    pub(crate) fn accepted(&self) -> Result<(), Rejected> {
        for verdict in &self.verdicts {
            let resource = verdict.resource.clone();
            if let Some(reason) = &verdict.refused {
                return Err(Rejected::ByIstio { resource, reason: reason.clone() });
            }
            if let Some(what) = verdict.unsupported.first() {
                return Err(Rejected::Unsupported { resource, what: what.clone() });
            }
        }
        Ok(())
    }

    /// Whether istiod looks at the resource at all.
    fn add(&mut self, resource: &'a Resource, created: usize, problems: &mut Problems) -> bool {
        let (group, version) = match resource.api_version().split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", resource.api_version()),
        };
        let kind = resource.kind();
        if group.is_empty() {
            match kind {
                "Secret" => self.secrets.push(resource),
                "ConfigMap" => self.config_maps.push(resource),
                _ => {}
            }
            return false;
        }
        // Istio carries out the Gateway API; ignoring it silently would make the plan wrong.
        if group == "gateway.networking.k8s.io" {
            problems.unsupported(format!("{group} {kind}"));
            return true;
        }
        if !matches!(group, NETWORKING | SECURITY) {
            if group.ends_with(".istio.io") {
                converted(resource, problems);
                let only_observes = group == "telemetry.istio.io";
                if only_observes {
                    problems.notes.push(kind.to_owned());
                } else {
                    problems.unsupported(format!("{group} {kind}"));
                }
            }
            return group.ends_with(".istio.io");
        }
        let versions: &[&str] = match (group, kind) {
            (NETWORKING, "EnvoyFilter") => &["v1alpha3"],
            (NETWORKING, "ProxyConfig") => &["v1beta1"],
            (NETWORKING, _) => &["v1", "v1beta1", "v1alpha3"],
            _ => &["v1", "v1beta1"],
        };
        if !versions.contains(&version) {
            // The webhook looks at every version.
            let mut found = Problems::default();
            Self::default().add_kind((resource, created), group, &mut found);
            found.schema =
                vec![format!("failed to validate type {group}/{version}, Kind={kind}: no validator found")];
            *problems = found;
            return true;
        }
        self.add_kind((resource, created), group, problems);
        true
    }

    /// Reads and validates a resource of Istio's networking or security API.
    fn add_kind(&mut self, place: (&'a Resource, usize), group: &str, problems: &mut Problems) {
        let (resource, _) = place;
        let kind = resource.kind();
        let namespace = resource.namespace();
        match (group, kind) {
            (NETWORKING, "ServiceEntry") => {
                push(&mut self.service_entries, place, problems, |s, p| {
                    s.validate(namespace, &labels(resource), p);
                });
            }
            (NETWORKING, "VirtualService") => {
                push(&mut self.virtual_services, place, problems, |s, p| s.validate(namespace, p));
            }
            (NETWORKING, "DestinationRule") => {
                push(&mut self.destination_rules, place, problems, |s, p| s.validate(namespace, p));
            }
            (NETWORKING, "Gateway") => {
                push(&mut self.gateways, place, problems, |s, p| s.validate(resource.name(), p));
            }
            (NETWORKING, "Sidecar") => {
                push(&mut self.sidecars, place, problems, |s, p| s.validate(namespace, p));
            }
            (NETWORKING, "WorkloadEntry") => {
                push(&mut self.workload_entries, place, problems, |s, p| s.validate(None, true, p));
                if let Some(entry) = self.workload_entries.last_mut() {
                    // ConvertWorkloadEntry: the labels of both, those of the metadata first.
                    let own = entry.labels.clone();
                    entry.spec.labels.extend(own);
                }
            }
            (NETWORKING, "WorkloadGroup") => {
                push(&mut Vec::new(), place, problems, WorkloadGroup::validate);
            }
            (NETWORKING, "ProxyConfig") => {
                converted(resource, problems);
                problems.notes.push(kind.to_owned());
            }
            (NETWORKING, "EnvoyFilter") => {
                converted(resource, problems);
                problems.warn(
                    "EnvoyFilter exposes internal implementation details that may change at any time. Prefer \
                     other APIs if possible, and exercise extreme caution, especially around upgrades.",
                );
                problems.unsupported(format!("{group} {kind}"));
            }
            (SECURITY, "PeerAuthentication") => {
                push(&mut self.peer_authentications, place, problems, PeerAuthentication::validate);
            }
            (_, kind) => {
                converted(resource, problems);
                problems.unsupported(format!("{group} {kind}"));
            }
        }
    }
}

fn push<T: DeserializeOwned>(
    to: &mut Vec<Named<T>>,
    (resource, created): (&Resource, usize),
    problems: &mut Problems,
    validate: impl FnOnce(&T, &mut Problems),
) {
    let Some(converted) = converted(resource, problems) else { return };
    let spec: T = match serde_json::from_value(converted) {
        Ok(spec) => spec,
        Err(error) => return problems.unsupported(error.to_string()),
    };
    validate(&spec, problems);
    if problems.refused().is_none() {
        let annotations = texts(resource, "/metadata/annotations");
        to.push(Named { id: resource.id(), labels: labels(resource), annotations, created, spec });
    }
}

/// A specification as the webhook reads it. What the API server says of it is noted, and why the webhook cannot read it.
fn converted(resource: &Resource, problems: &mut Problems) -> Option<Value> {
    let mut value = resource.spec().clone();
    without_nulls(&mut value);
    whole_numbers(&mut value);
    problems.schema = api_server::errors(resource.kind(), &value);
    conversion::read(resource.kind(), &value).map_err(|text| problems.conversion(text)).ok()
}

fn labels(resource: &Resource) -> BTreeMap<String, String> {
    texts(resource, "/metadata/labels")
}

fn texts(resource: &Resource, pointer: &str) -> BTreeMap<String, String> {
    let fields = resource.0.pointer(pointer).and_then(Value::as_object);
    let pairs = fields.into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// The API server takes null away before it looks at types ("Defaulting and nullable"), and in the JSON form of protocol
/// buffers a null field is an absent one.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// JSON does not tell `100.0` from `100`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            // Beyond these no float is a whole number for certain.
            let whole = number.as_f64().filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 9e15);
            if let Some(whole) = whole.and_then(|f| format!("{f:.0}").parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
