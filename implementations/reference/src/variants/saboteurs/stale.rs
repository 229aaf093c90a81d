//! Saboteurs that keep what was deleted.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use meshproof_local::data_plane::{Boot, Update};
use meshproof_model::{Resource, ResourceId};
use meshproof_plan::model::{Direction, Listener, Plan, ProxyPlan, Role};

use crate::hooks::{PlaneHooks, WantedConfig};
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "stale-configuration",
        "Keeps deleted resources in force.",
        VariantBehaviour::Plane(|| Box::new(StaleConfiguration::default())),
    ),
    Definition::new(
        "keep-gateway",
        "A gateway continues to listen and route after its Gateway was deleted.",
        VariantBehaviour::Plane(|| Box::new(KeepGateway::default())),
    ),
    Definition::new(
        "keep-stopped-gateway",
        "A gateway continues to serve after it was stopped.",
        VariantBehaviour::Plane(|| Box::new(KeepStoppedGateway::default())),
    ),
];

/// The last plan before a resource was deleted, and the resources that it was made from.
#[derive(Default)]
struct StaleConfiguration(Mutex<Option<(BTreeSet<ResourceId>, Plan)>>);

impl PlaneHooks for StaleConfiguration {
    fn configuration(&self, wanted: &mut WantedConfig, update: &Update<'_>, _boot: &Boot) {
        let ids: BTreeSet<ResourceId> =
            update.resources.iter().filter(|r| r.kind() != "Secret").map(Resource::id).collect();
        let names = |plan: &Plan| plan.proxies.iter().map(|p| p.name.clone()).collect::<BTreeSet<_>>();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            // A proxy that appears or disappears is not a deleted resource.
            Some((seen, plan)) if !seen.is_subset(&ids) && names(plan) == names(&wanted.plan) => {
                wanted.plan = plan.clone();
            }
            Some(_) | None => *kept = Some((ids, wanted.plan.clone())),
        }
    }
}

/// The plan that was carried out last.
#[derive(Default)]
struct KeepGateway(Mutex<Option<Plan>>);

impl PlaneHooks for KeepGateway {
    fn configuration(&self, wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for before in last.iter().flat_map(|p| &p.proxies) {
            if let Some(now) = wanted.plan.proxies.iter_mut().find(|p| p.name == before.name) {
                keep_listeners(now, before);
            }
        }
        *last = Some(wanted.plan.clone());
    }
}

/// Adds to a proxy the gateway listeners that it had before and has no more, and their clusters.
fn keep_listeners(now: &mut ProxyPlan, before: &ProxyPlan) {
    let gone = |l: &&Listener| {
        l.direction == Direction::Gateway && !now.listeners.iter().any(|known| known.bind == l.bind)
    };
    let kept: Vec<Listener> = before.listeners.iter().filter(gone).cloned().collect();
    if kept.is_empty() {
        return;
    }
    now.listeners.extend(kept);
    for cluster in &before.clusters {
        if now.cluster(&cluster.name).is_none() {
            now.clusters.push(cluster.clone());
        }
    }
}

/// The gateways of the last plan that had any, each with what it had from Secrets.
#[derive(Default)]
struct KeepStoppedGateway(Mutex<Vec<ProxyPlan>>);

impl PlaneHooks for KeepStoppedGateway {
    fn configuration(&self, wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gateway = |p: &&ProxyPlan| p.role != Role::Sidecar;
        for before in last.iter() {
            if wanted.plan.proxies.iter().all(|p| p.name != before.name) {
                wanted.plan.proxies.push(before.clone());
            }
        }
        *last = wanted.plan.proxies.iter().filter(is_gateway).cloned().collect();
    }
}
