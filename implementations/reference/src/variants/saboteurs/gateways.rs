//! Saboteurs of gateways that serve more than they were given.

use meshproof_local::data_plane::{Boot, Update};
use meshproof_plan::model::{
    Action, Cluster, Credential, Direction, Discovery, DownstreamTls, FilterChain, Forward, HeaderChanges,
    HttpRoutes, Plan, Route, RouteAction, RouteMatch, ServerTls, Trust, UpstreamProtocol, VirtualHost,
    WeightedCluster,
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
        "no-https-redirect",
        "Serves plain requests at a gateway that redirects them to HTTPS.",
        VariantBehaviour::Plan(no_https_redirect),
    ),
    Definition::new(
        "gateway-with-mesh-certificate",
        "A gateway presents its mesh certificate in place of the one of its Gateway's Secret.",
        VariantBehaviour::Plan(mesh_certificate),
    ),
    Definition::new(
        "gateway-asks-no-client",
        "A gateway asks its clients for no certificate where the mode is MUTUAL.",
        VariantBehaviour::Plan(asks_no_client),
    ),
    Definition::new(
        "gateway-takes-any-client",
        "A gateway demands a certificate of its clients where the mode is MUTUAL, and accepts every one.",
        VariantBehaviour::Plan(takes_any_client),
    ),
    Definition::new(
        "gateway-ignores-client-names",
        "A gateway serves every client of the CA, although its Gateway names some of them.",
        VariantBehaviour::Plan(ignores_client_names),
    ),
    Definition::new(
        "gateway-takes-any-optional-client",
        "A gateway accepts every certificate of a client where the mode is OPTIONAL_MUTUAL.",
        VariantBehaviour::Plan(takes_any_optional_client),
    ),
    Definition::new(
        "gateway-serves-revoked-clients",
        "A gateway does not read the revocation list of the Secret for its clients.",
        VariantBehaviour::Configuration(serves_revoked_clients),
    ),
    Definition::new(
        "gateway-serves-hosts-of-other-servers",
        "A gateway that ends TLS serves the hosts of all its servers, whichever server name the connection has.",
        VariantBehaviour::Plan(serves_hosts_of_other_servers),
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

fn no_https_redirect(plan: &mut Plan) {
    for chain in chains(plan) {
        if let Action::Http(HttpRoutes { virtual_hosts, .. }) = &mut chain.action {
            virtual_hosts.iter_mut().for_each(|host| host.require_tls = false);
        }
    }
}

/// The chains of gateways with certificates of their own.
fn own_chains(plan: &mut Plan) -> impl Iterator<Item = &mut FilterChain> {
    chains(plan).filter(|chain| chain.tls.as_ref().is_some_and(|tls| tls.own().is_some()))
}

fn mesh_certificate(plan: &mut Plan) {
    for chain in own_chains(plan) {
        chain.tls = Some(DownstreamTls::MeshMutual);
    }
}

/// The TLS of gateways with certificates of their own.
fn own_tls(plan: &mut Plan) -> impl Iterator<Item = &mut ServerTls> {
    chains(plan).filter_map(|chain| match &mut chain.tls {
        Some(DownstreamTls::Own(own)) => Some(own),
        Some(DownstreamTls::MeshMutual) | None => None,
    })
}

fn asks_no_client(plan: &mut Plan) {
    for own in own_tls(plan) {
        own.client_ca = None;
        own.require_client_certificate = false;
    }
}

fn takes_any_client(plan: &mut Plan) {
    for own in own_tls(plan).filter(|own| own.client_ca.is_some()) {
        own.client_ca = Some(Trust::Anybody);
    }
}

fn serves_hosts_of_other_servers(plan: &mut Plan) {
    let of_all: Vec<VirtualHost> = own_chains(plan)
        .filter_map(|chain| match &chain.action {
            Action::Http(routes) => Some(routes.virtual_hosts.clone()),
            Action::Tcp { .. } | Action::TcpWeighted(_) => None,
        })
        .flatten()
        .collect();
    for chain in own_chains(plan) {
        if let Action::Http(routes) = &mut chain.action {
            routes.virtual_hosts.clone_from(&of_all);
        }
    }
}

fn takes_any_optional_client(plan: &mut Plan) {
    for own in own_tls(plan).filter(|own| own.client_ca.is_some() && !own.require_client_certificate) {
        own.client_ca = Some(Trust::Anybody);
    }
}

fn serves_revoked_clients(wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {
    forget_lists_of_clients(&mut wanted.plan, wanted.credentials.values_mut().flatten());
}

fn forget_lists_of_clients<'c>(plan: &mut Plan, credentials: impl Iterator<Item = &'c mut Credential>) {
    let of_clients: Vec<Trust> = own_tls(plan).filter_map(|own| own.client_ca.clone()).collect();
    for credential in credentials.filter(|c| of_clients.contains(&Trust::Credential(c.name.clone()))) {
        credential.crl = None;
    }
}

fn ignores_client_names(plan: &mut Plan) {
    own_tls(plan).for_each(|own| own.client_names.clear());
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use meshproof_plan::model::{ChainMatch, Listener, ProxyPlan, Role};

    use super::*;

    /// A gateway with mode MUTUAL for one client, which redirects plain requests.
    fn gateway() -> Plan {
        let own = ServerTls {
            certificates: Vec::new(),
            client_ca: Some(Trust::Credential("c".to_owned())),
            require_client_certificate: true,
            client_names: vec!["spiffe://shop.example/buyer".to_owned()],
            alpn: Vec::new(),
            min_version: None,
            max_version: None,
            cipher_suites: Vec::new(),
        };
        let host = VirtualHost {
            name: "shop".to_owned(),
            domains: vec!["*".to_owned()],
            routes: Vec::new(),
            require_tls: true,
        };
        let chain = FilterChain {
            name: "https".to_owned(),
            matches: ChainMatch::default(),
            tls: Some(DownstreamTls::Own(own)),
            action: Action::Http(HttpRoutes { name: "https".to_owned(), virtual_hosts: vec![host] }),
        };
        let listener = Listener {
            name: "https".to_owned(),
            port: 443,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            direction: Direction::Gateway,
            chains: vec![chain],
        };
        let proxy = ProxyPlan {
            name: "istio-ingressgateway".to_owned(),
            namespace: "istio-system".to_owned(),
            role: Role::IngressGateway,
            identity: String::new(),
            listeners: vec![listener],
            clusters: Vec::new(),
        };
        Plan { proxies: vec![proxy] }
    }

    fn changed(change: fn(&mut Plan)) -> FilterChain {
        let mut plan = gateway();
        change(&mut plan);
        plan.proxies.remove(0).listeners.remove(0).chains.remove(0)
    }

    fn own(change: fn(&mut Plan)) -> ServerTls {
        match changed(change).tls {
            Some(DownstreamTls::Own(own)) => own,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clients_of_a_gateway_are_asked_for_nothing_or_believed_or_served_whatever_their_name_is() {
        let honest = own(|_| {});
        let unasked = own(asks_no_client);
        assert_eq!((unasked.client_ca, unasked.require_client_certificate), (None, false));
        let believed = own(takes_any_client);
        assert_eq!((believed.client_ca, believed.require_client_certificate), (Some(Trust::Anybody), true));
        let optional = own(|plan| {
            own_tls(plan).for_each(|own| own.require_client_certificate = false);
            takes_any_optional_client(plan);
        });
        assert_eq!(optional.client_ca, Some(Trust::Anybody));
        assert_eq!(own(takes_any_optional_client), honest);
        let nameless = own(ignores_client_names);
        assert_eq!(nameless.client_names, Vec::<String>::new());
        assert_eq!(ServerTls { client_names: honest.client_names.clone(), ..nameless }, honest);
    }

    #[test]
    fn the_revocation_list_of_clients_is_lost_and_that_of_servers_kept() {
        let credential = |name: &str| Credential {
            name: name.to_owned(),
            certificate: None,
            key: None,
            ca: Some("a CA".to_owned()),
            crl: Some("a list".to_owned()),
        };
        let mut credentials = [credential("c"), credential("of-servers")];
        forget_lists_of_clients(&mut gateway(), credentials.iter_mut());
        assert_eq!(credentials.map(|c| c.crl), [None, Some("a list".to_owned())]);
    }

    #[test]
    fn each_server_has_the_hosts_of_all() {
        let mut plan = gateway();
        let there = &mut plan.proxies[0].listeners[0].chains;
        let mut other = there[0].clone();
        let Action::Http(routes) = &mut other.action else { panic!() };
        routes.virtual_hosts[0].name = "admin".to_owned();
        there.push(other);
        serves_hosts_of_other_servers(&mut plan);
        for chain in chains(&mut plan) {
            let Action::Http(routes) = &chain.action else { panic!() };
            assert_eq!(
                routes.virtual_hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(),
                ["shop", "admin"]
            );
        }
    }

    #[test]
    fn a_gateway_has_its_mesh_certificate_or_serves_plain_requests() {
        assert_eq!(changed(mesh_certificate).tls, Some(DownstreamTls::MeshMutual));
        let Action::Http(routes) = changed(no_https_redirect).action else { panic!() };
        assert!(!routes.virtual_hosts[0].require_tls);
    }
}
