//! Plans made by hand.

use std::net::SocketAddr;

use meshproof_plan::model::{
    Action, ChainMatch, ClientCertificate, Cluster, Credential, Direction, Discovery, DownstreamTls,
    FilterChain, Forward, HttpRoutes, Listener, NameCheck, Origination, PathMatch, Plan, ProxyPlan, Role,
    Route, RouteAction, RouteMatch, ServerName, Transport, Trust, UpstreamProtocol, UpstreamTls, VirtualHost,
    WeightedCluster,
};

use super::authority::IssuedPem;
use super::identity;

pub const HOST: &str = "edition.cnn.com";

pub fn plan(proxies: Vec<ProxyPlan>) -> Plan {
    Plan { proxies }
}

pub fn proxy(name: &str, listeners: Vec<Listener>, clusters: Vec<Cluster>) -> ProxyPlan {
    ProxyPlan {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        role: match name {
            "istio-egressgateway" => Role::EgressGateway,
            "istio-ingressgateway" => Role::IngressGateway,
            _ => Role::Sidecar,
        },
        identity: identity(name),
        listeners,
        clusters,
    }
}

pub fn listener(bind: SocketAddr, port: u16, direction: Direction, chains: Vec<FilterChain>) -> Listener {
    Listener { name: format!("0.0.0.0_{port}"), port, bind, direction, chains }
}

pub fn outbound(bind: SocketAddr, chains: Vec<FilterChain>) -> Listener {
    listener(bind, 80, Direction::Outbound, chains)
}

pub fn any_http(hosts: Vec<VirtualHost>) -> FilterChain {
    chain(ChainMatch::default(), None, http_action(hosts))
}

pub fn http_action(virtual_hosts: Vec<VirtualHost>) -> Action {
    Action::Http(HttpRoutes { name: "80".to_owned(), virtual_hosts })
}

pub fn chain(matches: ChainMatch, tls: Option<DownstreamTls>, action: Action) -> FilterChain {
    FilterChain { name: "chain".to_owned(), matches, tls, action }
}

pub fn on(transport: Transport) -> ChainMatch {
    ChainMatch { transport, server_names: Vec::new() }
}

pub fn tcp(cluster: &str) -> Action {
    Action::Tcp { cluster: cluster.to_owned() }
}

pub fn host(domain: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: format!("{domain}:80"),
        domains: vec![domain.to_owned(), format!("{domain}:80")],
        routes,
        require_tls: false,
    }
}

pub fn forward(cluster: &str) -> Forward {
    Forward { clusters: vec![WeightedCluster::new(cluster, 1)], ..Forward::default() }
}

pub fn route(path: PathMatch, action: RouteAction) -> Route {
    Route { name: "default".to_owned(), matches: RouteMatch { path, ..RouteMatch::default() }, action }
}

pub fn to(cluster: &str) -> Route {
    route(PathMatch::Any, RouteAction::Forward(forward(cluster)))
}

pub fn cluster(name: &str, address: SocketAddr, tls: Option<UpstreamTls>) -> Cluster {
    Cluster {
        name: name.to_owned(),
        discovery: Discovery::Endpoints(vec![address]),
        protocol: UpstreamProtocol::Http1,
        tls,
    }
}

/// As istiod makes it of `mode: SIMPLE` without anything else.
pub fn simple() -> Origination {
    Origination {
        sni: ServerName::FromHost,
        trust: Trust::SystemRoots,
        names: NameCheck::FromHost,
        client_certificate: None,
        alpn: vec!["http/1.1".to_owned()],
        min_version: None,
        max_version: None,
        credential: None,
        crl_file: None,
    }
}

/// As istiod makes it of `mode: MUTUAL` with a `credentialName`.
pub fn mutual(credential: &str) -> Origination {
    Origination {
        sni: ServerName::Fixed(HOST.to_owned()),
        trust: Trust::Credential(credential.to_owned()),
        names: NameCheck::ChainOnly,
        client_certificate: Some(ClientCertificate::Credential(credential.to_owned())),
        credential: Some(credential.to_owned()),
        ..simple()
    }
}

pub fn credential(name: &str, ca: &str, client: Option<&IssuedPem>) -> Credential {
    Credential {
        name: name.to_owned(),
        certificate: client.map(|c| c.certificate.clone()),
        key: client.map(|c| c.key.clone()),
        ca: Some(ca.to_owned()),
        crl: None,
    }
}

pub const EXTERNAL: &str = "outbound|443||edition.cnn.com";

/// A sidecar that sends `edition.cnn.com` to one cluster.
pub fn sidecar(bind: SocketAddr, cluster: Cluster) -> ProxyPlan {
    let hosts = vec![host(HOST, vec![to(&cluster.name)])];
    proxy("sleep", vec![outbound(bind, vec![any_http(hosts)])], vec![cluster])
}

/// A sidecar that originates TLS to a server.
pub fn originating(bind: SocketAddr, server: SocketAddr, origination: Origination) -> Plan {
    let tls = Some(UpstreamTls::Originate(origination));
    plan(vec![sidecar(bind, cluster(EXTERNAL, server, tls))])
}

pub const TO_GATEWAY: &str = "outbound|80|cnn|istio-egressgateway.istio-system.svc.cluster.local";

/// A sidecar, and an egress gateway behind mesh mutual TLS that goes out to a server.
pub fn through_gateway(bind: SocketAddr, gateway: SocketAddr, external: Cluster) -> Plan {
    let mesh = UpstreamTls::MeshMutual {
        sni: HOST.to_owned(),
        peer_identities: vec![identity("istio-egressgateway")],
        alpn: vec!["istio-http/1.1".to_owned(), "http/1.1".to_owned()],
    };
    let name = external.name.clone();
    let chains = vec![chain(
        ChainMatch { transport: Transport::Tls, server_names: vec![HOST.to_owned()] },
        Some(DownstreamTls::MeshMutual),
        http_action(vec![host(HOST, vec![to(&name)])]),
    )];
    plan(vec![
        sidecar(bind, cluster(TO_GATEWAY, gateway, Some(mesh))),
        proxy("istio-egressgateway", vec![listener(gateway, 80, Direction::Gateway, chains)], vec![external]),
    ])
}
