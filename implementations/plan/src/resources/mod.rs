//! Istio's resources as types. Every field of the API has its place, so that a misspelt one is refused as istiod refuses
//! it; a field that the plan does not support is refused by name. Both spellings of the API's JSON form are read,
//! `sniHosts` and `sni_hosts`, as istiod reads them.

pub(crate) mod common;
pub(crate) mod destination_rule;
pub(crate) mod gateway;
pub(crate) mod hosts;
pub(crate) mod protocol;
pub(crate) mod service_entry;
pub(crate) mod virtual_service;
pub(crate) mod virtual_service_validation;

use meshproof_model::{Resource, ResourceId};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::common::{Refusal, unsupported};
use self::destination_rule::DestinationRule;
use self::gateway::{Gateway, PeerAuthentication, Sidecar};
use self::service_entry::ServiceEntry;
use self::virtual_service::VirtualService;
use crate::rejected::Rejected;

/// A specification with the name of its resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named<T> {
    pub(crate) id: ResourceId,
    pub(crate) spec: T,
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
    pub(crate) secrets: Vec<&'a Resource>,
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";

impl<'a> Resources<'a> {
    /// # Errors
    /// The first resource that istiod's validation would refuse, or that the plan does not support.
    pub(crate) fn read(resources: &'a [Resource]) -> Result<Self, Rejected> {
        let mut all = Self::default();
        for resource in resources {
            all.add(resource).map_err(|refusal| match refusal {
                Refusal::ByIstio(reason) => Rejected::ByIstio { resource: resource.id(), reason },
                Refusal::Unsupported(what) => Rejected::Unsupported { resource: resource.id(), what },
            })?;
        }
        Ok(all)
    }

    fn add(&mut self, resource: &'a Resource) -> Result<(), Refusal> {
        let (group, version) = match resource.api_version().split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", resource.api_version()),
        };
        if group.is_empty() {
            if resource.kind() == "Secret" {
                self.secrets.push(resource);
            }
            return Ok(());
        }
        // Istio carries out the Gateway API; ignoring it silently would make the plan wrong.
        if !matches!(group, NETWORKING | SECURITY) {
            let ours = group.ends_with(".istio.io") && group != "telemetry.istio.io";
            return if ours || group == "gateway.networking.k8s.io" {
                Err(unsupported(&format!("{group} {}", resource.kind())))
            } else {
                Ok(())
            };
        }
        let versions: &[&str] =
            if group == NETWORKING { &["v1", "v1beta1", "v1alpha3"] } else { &["v1", "v1beta1"] };
        if !versions.contains(&version) {
            return Err(format!("no version {version:?} of {group} is served").into());
        }
        let namespace = resource.namespace();
        match (group, resource.kind()) {
            (NETWORKING, "ServiceEntry") => {
                push(&mut self.service_entries, resource, |s: &ServiceEntry| s.validate(namespace))
            }
            (NETWORKING, "VirtualService") => {
                push(&mut self.virtual_services, resource, |s: &VirtualService| s.validate(namespace))
            }
            (NETWORKING, "DestinationRule") => {
                push(&mut self.destination_rules, resource, |s: &DestinationRule| s.validate(namespace))
            }
            (NETWORKING, "Gateway") => {
                push(&mut self.gateways, resource, |s: &Gateway| s.validate(resource.name()))
            }
            (NETWORKING, "Sidecar") => push(&mut self.sidecars, resource, Sidecar::validate),
            (SECURITY, "PeerAuthentication") => {
                push(&mut self.peer_authentications, resource, PeerAuthentication::validate)
            }
            (_, kind) => Err(unsupported(&format!("{group} {kind}"))),
        }
    }
}

fn push<T: DeserializeOwned>(
    to: &mut Vec<Named<T>>,
    resource: &Resource,
    validate: impl FnOnce(&T) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut spec = resource.spec().clone();
    if spec.is_null() {
        spec = Value::Object(serde_json::Map::new());
    }
    without_nulls(&mut spec);
    let spec: T = serde_json::from_value(spec).map_err(|e| format!("spec: {e}"))?;
    validate(&spec)?;
    to.push(Named { id: resource.id(), spec });
    Ok(())
}

/// In the JSON form of protocol buffers a null field is an absent one.
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
