//! Saboteurs of gateways that serve more than they were given.

use meshproof_local::data_plane::{Boot, Update};
use meshproof_plan::model::{
    Action, Cluster, Direction, Discovery, FilterChain, Forward, HeaderChanges, HttpRoutes, Plan, Route,
    RouteAction, RouteMatch, UpstreamProtocol, VirtualHost, WeightedCluster,
};

use crate::hooks::WantedConfig;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "gateway-takes-any-server-name",
        "A gateway accepts every server name of its clients.",
        VariantBehaviour::Plan(takes_any_server_name),
    ),
    Definition::new(
        "gateway-as-open-proxy",
        "A gateway sends requests for hosts that it was not given to where these hosts are.",
        VariantBehaviour::Configuration(open_proxy),
    )
    .also_at(&[Placement::EgressGateway, Placement::IngressGateway]),
];

fn chains(plan: &mut Plan) -> impl Iterator<Item = &mut FilterChain> {
    plan.proxies
        .iter_mut()
        .flat_map(|p| &mut p.listeners)
        .filter(|l| l.direction == Direction::Gateway)
        .flat_map(|l| &mut l.chains)
}

fn takes_any_server_name(plan: &mut Plan) {
    for chain in chains(plan).filter(|c| c.tls.is_some()) {
        chain.matches.server_names.clear();
    }
}

fn open_proxy(wanted: &mut WantedConfig, update: &Update<'_>, _boot: &Boot) {
    const ANYWHERE: &str = "PassthroughCluster";
    for chain in chains(&mut wanted.plan) {
        if let Action::Http(HttpRoutes { virtual_hosts, .. }) = &mut chain.action {
            let forward = Forward {
                clusters: vec![WeightedCluster::new(ANYWHERE, 1)],
                host_rewrite: None,
                path_rewrite: None,
                regex_rewrite: None,
                request_headers: HeaderChanges::default(),
                response_headers: HeaderChanges::default(),
                timeout_ms: None,
                retry: None,
                mirrors: Vec::new(),
            };
            let action = RouteAction::Forward(forward);
            let route = Route { name: "anywhere".to_owned(), matches: RouteMatch::default(), action };
            virtual_hosts.retain(|host| !host.domains.iter().any(|domain| domain == "*"));
            virtual_hosts.push(VirtualHost {
                name: "anywhere".to_owned(),
                domains: vec!["*".to_owned()],
                require_tls: false,
                routes: vec![route],
            });
        }
    }
    for proxy in &mut wanted.plan.proxies {
        let is_gateway = proxy.listeners.iter().any(|l| l.direction == Direction::Gateway);
        if is_gateway && proxy.cluster(ANYWHERE).is_none() {
            proxy.clusters.push(Cluster {
                name: ANYWHERE.to_owned(),
                discovery: Discovery::OriginalDestination(update.endpoints.to_vec()),
                protocol: UpstreamProtocol::Downstream,
                tls: None,
            });
        }
    }
}
