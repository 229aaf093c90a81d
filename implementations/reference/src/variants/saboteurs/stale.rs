//! Saboteurs that keep what was deleted.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use meshproof_local::data_plane::{Boot, Update};
use meshproof_model::{Resource, ResourceId};
use meshproof_plan::model::{Action, Direction, Listener, Plan, ProxyPlan, Role};

use super::plan::originates;
use crate::hooks::{PlaneHooks, WantedConfig};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

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
    Definition::new(
        "forget-recreated-hosts",
        "Never again routes requests for a host whose routes were deleted.",
        VariantBehaviour::Plane(|| Box::new(ForgetRecreated { known: Mutex::default(), forget: hosts })),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "forget-recreated-rules",
        "Never again opens TLS for a cluster whose rule was deleted.",
        VariantBehaviour::Plane(|| Box::new(ForgetRecreated { known: Mutex::default(), forget: rules })),
    )
    .also_at(&Placement::ALL),
];

/// The names that a plan has, and of them those that are left out.
type Forget = fn(&mut Plan, &BTreeSet<String>) -> BTreeSet<String>;

/// What was there and is gone does not come back.
struct ForgetRecreated {
    /// What the last plan had, and what is gone for good.
    known: Mutex<(BTreeSet<String>, BTreeSet<String>)>,
    /// Leaves out what is gone, and returns the names of everything that the plan had.
    forget: Forget,
}

impl PlaneHooks for ForgetRecreated {
    fn configuration(&self, wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, gone) = &mut *known;
        let now = (self.forget)(&mut wanted.plan, gone);
        gone.extend(before.difference(&now).cloned());
        *before = now;
    }
}

fn hosts(plan: &mut Plan, gone: &BTreeSet<String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for proxy in &mut plan.proxies {
        for listener in &mut proxy.listeners {
            for chain in &mut listener.chains {
                let Action::Http(routes) = &mut chain.action else { continue };
                routes.virtual_hosts.retain(|host| {
                    let name = format!("{} {} {}", proxy.name, listener.bind, host.name);
                    let stays = !gone.contains(&name);
                    all.insert(name);
                    stays
                });
            }
        }
    }
    all
}

fn rules(plan: &mut Plan, gone: &BTreeSet<String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for proxy in &mut plan.proxies {
        for cluster in proxy.clusters.iter_mut().filter(|cluster| originates(cluster)) {
            let name = format!("{} {}", proxy.name, cluster.name);
            if gone.contains(&name) {
                cluster.tls = None;
            }
            all.insert(name);
        }
    }
    all
}

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
