//! From resources to a plan, by Istio's rules. Where a rule is named, it is a function of Istio 1.30 to 1.32, with the file that
//! holds it.

mod clusters;
mod credentials;
mod destination_rules;
mod gateways;
mod inbound;
mod input;
mod outbound;
mod peer_authentication;
mod registry;
mod routes;
mod visibility;

use std::collections::BTreeSet;

pub use input::{
    Endpoint, Inbound, Input, MeshConfig, OutboundPolicy, Proxy, ProxyKind, Resolution, Service, ServicePort,
};

use self::clusters::{BLACK_HOLE, Builder, PASSTHROUGH, black_hole};
use self::destination_rules::DestinationRules;
use self::registry::{Scope, all_services};
use crate::model::{Action, Cluster, Listener, ProxyPlan, RouteAction};
use crate::rejected::Rejected;
use crate::resources::Resources;

/// Resolves the resources to a plan for each running proxy.
///
/// A sidecar has a listener for each port that is captured, whatever the resources say; a gateway has one only where a
/// Gateway resource has a server. A route may name a cluster that the plan does not hold: no such service, port or
/// subset. Requests for it get 503, `NC`.
///
/// # Errors
/// The first resource that istiod's validation would refuse, or that asks for something the plan does not carry out.
pub fn resolve(input: &Input<'_>) -> Result<Resolution, Rejected> {
    let resources = Resources::read(input.resources)?;
    let services = all_services(input, &resources.service_entries);
    let mut resolution = Resolution::default();
    let rules = DestinationRules::index(
        &resources.destination_rules,
        &input.mesh.root_namespace,
        &mut resolution.warnings,
    );
    for proxy in input.proxies {
        let scope = Scope::of(proxy, input, &services, &resources.sidecars, &resources.virtual_services);
        let builder = Builder { input, resources: &resources, rules: &rules, proxy, scope: &scope };
        let plan = proxy_plan(&builder, &mut resolution.warnings);
        let credentials = credentials::of_proxy(&plan.clusters, &proxy.namespace, &resources.secrets);
        if !credentials.is_empty() {
            resolution.credentials.insert(proxy.name.clone(), credentials);
        }
        resolution.plan.proxies.push(plan);
    }
    Ok(resolution)
}

fn proxy_plan(builder: &Builder<'_>, warnings: &mut Vec<String>) -> ProxyPlan {
    let proxy = builder.proxy;
    let mut used = BTreeSet::new();
    let mut listeners = Vec::new();
    let mut clusters: Vec<Cluster> = Vec::new();
    match proxy.kind {
        ProxyKind::Sidecar => {
            for (port, bind) in &proxy.outbound {
                listeners.push(outbound::listener(builder, *port, *bind, &mut used, warnings));
            }
            for served in &proxy.inbound {
                let (listener, cluster) = inbound::listener(builder, served);
                listeners.push(listener);
                clusters.push(cluster);
            }
        }
        ProxyKind::Gateway => listeners = gateways::listeners(builder, &mut used, warnings),
    }
    clusters.extend(used.iter().filter_map(|key| builder.outbound(key, warnings)));
    let named = named_clusters(&listeners);
    if named.contains(PASSTHROUGH) {
        clusters.push(builder.passthrough());
    }
    if named.contains(BLACK_HOLE) {
        clusters.push(black_hole());
    }
    ProxyPlan {
        name: proxy.name.clone(),
        namespace: proxy.namespace.clone(),
        identity: proxy.identity.clone(),
        listeners,
        clusters,
    }
}

fn named_clusters(listeners: &[Listener]) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for chain in listeners.iter().flat_map(|l| &l.chains) {
        match &chain.action {
            Action::Tcp { cluster } => {
                names.insert(cluster.as_str());
            }
            Action::Http(http) => {
                for route in http.virtual_hosts.iter().flat_map(|v| &v.routes) {
                    match &route.action {
                        RouteAction::Forward(forward) => {
                            names.extend(forward.clusters.iter().map(|c| c.cluster.as_str()));
                        }
                        RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => {}
                    }
                }
            }
        }
    }
    names
}
