//! The saboteur whose sidecars take over the gateways' routes to external services.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshproof_plan::model::{Action, Cluster, Direction, Discovery, Forward, Plan, ProxyPlan, RouteAction};

use super::plan::originates;
use crate::hooks::WantedConfig;
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[Definition::new(
    "originate-at-sidecar",
    "The sidecar bypasses the egress gateway and opens TLS to the external service itself.",
    VariantBehaviour::Configuration(|wanted, _, _| originate_at_sidecar(wanted)),
)];

/// A gateway's route to an external service.
struct WayOut {
    domains: Vec<String>,
    forward: Forward,
    cluster: Cluster,
    gateway: String,
}

fn ways_out(plan: &Plan) -> BTreeMap<SocketAddr, Vec<WayOut>> {
    let mut found: BTreeMap<SocketAddr, Vec<WayOut>> = BTreeMap::new();
    for (proxy, listener) in plan.proxies.iter().flat_map(|p| p.listeners.iter().map(move |l| (p, l))) {
        if listener.direction != Direction::Gateway {
            continue;
        }
        let hosts = listener.chains.iter().filter_map(|c| match &c.action {
            Action::Http(routes) => Some(&routes.virtual_hosts),
            Action::Tcp { .. } | Action::TcpWeighted(_) => None,
        });
        for host in hosts.flatten() {
            let way = host.routes.iter().find_map(|route| match &route.action {
                RouteAction::Forward(forward) => {
                    let cluster = proxy.cluster(&forward.clusters.first()?.cluster)?;
                    originates(cluster).then(|| WayOut {
                        domains: host.domains.clone(),
                        forward: forward.clone(),
                        cluster: cluster.clone(),
                        gateway: proxy.name.clone(),
                    })
                }
                RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => None,
            });
            found.entry(listener.bind).or_default().extend(way);
        }
    }
    found
}

fn originate_at_sidecar(wanted: &mut WantedConfig) {
    let ways = ways_out(&wanted.plan);
    for proxy in &mut wanted.plan.proxies {
        let to_gateway: BTreeMap<String, SocketAddr> = proxy
            .clusters
            .iter()
            .filter_map(|c| match &c.discovery {
                Discovery::Endpoints(list) => {
                    list.iter().find(|a| ways.contains_key(a)).map(|a| (c.name.clone(), *a))
                }
                Discovery::OriginalDestination(_) | Discovery::Nowhere => None,
            })
            .collect();
        let taken = redirect(proxy, &to_gateway, &ways);
        for way in taken {
            let lent = wanted.credentials.get(&way.gateway).cloned().unwrap_or_default();
            wanted.credentials.entry(proxy.name.clone()).or_default().extend(lent);
            proxy.clusters.retain(|c| c.name != way.cluster.name);
            proxy.clusters.push(way.cluster.clone());
        }
    }
}

fn redirect<'a>(
    proxy: &mut ProxyPlan,
    to_gateway: &BTreeMap<String, SocketAddr>,
    ways: &'a BTreeMap<SocketAddr, Vec<WayOut>>,
) -> Vec<&'a WayOut> {
    let mut taken = Vec::new();
    for listener in proxy.listeners.iter_mut().filter(|l| l.direction == Direction::Outbound) {
        for chain in &mut listener.chains {
            let Action::Http(routes) = &mut chain.action else { continue };
            for host in &mut routes.virtual_hosts {
                for route in &mut host.routes {
                    let RouteAction::Forward(forward) = &mut route.action else { continue };
                    let gateway = forward.clusters.first().and_then(|c| to_gateway.get(&c.cluster));
                    let way = gateway.and_then(|bind| ways.get(bind)).and_then(|list| {
                        list.iter().find(|w| w.domains.iter().any(|d| d == "*" || host.domains.contains(d)))
                    });
                    if let Some(way) = way {
                        *forward = way.forward.clone();
                        taken.push(way);
                    }
                }
            }
        }
    }
    taken
}
