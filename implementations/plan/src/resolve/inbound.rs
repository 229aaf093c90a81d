//! A sidecar's inbound listeners (pilot/pkg/networking/core/listener_inbound.go).

use super::context::Context;
use super::input::Inbound;
use super::peer_authentication::{Accepts, accepts};
use super::routes::{DEFAULT_ROUTE, to_cluster};
use crate::model::{
    Action, ChainMatch, Cluster, Direction, Discovery, DownstreamTls, FilterChain, Forward, HttpRoutes,
    Listener, Retry, Route, RouteAction, RouteMatch, Transport, UpstreamProtocol, VirtualHost,
};
use crate::resources::protocol::Protocol;

/// The listener for a port that the application serves, and the cluster that is the application.
pub(crate) fn listener(context: &Context<'_>, inbound: &Inbound) -> (Listener, Cluster) {
    let protocol = protocol(context, inbound);
    // BuildInboundSubsetKey.
    let name = format!("inbound|{}||", inbound.port);
    let cluster = Cluster {
        name: name.clone(),
        discovery: Discovery::Endpoints(vec![inbound.application]),
        protocol: match protocol {
            Protocol::Http2 => UpstreamProtocol::Http2,
            Protocol::Sniffed => UpstreamProtocol::Downstream,
            Protocol::Http
            | Protocol::HttpProxy
            | Protocol::Https
            | Protocol::Tls
            | Protocol::Tcp
            | Protocol::Mongo
            | Protocol::MySql
            | Protocol::Udp => UpstreamProtocol::Http1,
        },
        tls: None,
    };
    let action = if protocol.is_http_or_sniffed() {
        // buildSidecarInboundHTTPRouteConfig.
        Action::Http(HttpRoutes {
            name: name.clone(),
            virtual_hosts: vec![VirtualHost {
                name: format!("inbound|http|{}", inbound.port),
                domains: vec!["*".to_owned()],
                routes: vec![inbound_route(name.clone())],
                require_tls: false,
            }],
        })
    } else {
        Action::Tcp { cluster: name.clone() }
    };
    let chain = |transport: Transport, tls: Option<DownstreamTls>| FilterChain {
        name: format!("{name} ({})", if tls.is_some() { "mesh TLS" } else { "plain" }),
        matches: ChainMatch { transport, server_names: Vec::new() },
        tls,
        action: action.clone(),
    };
    let policies = &context.resources.peer_authentications;
    // Where both are accepted, Istio recognises mesh TLS by its ALPN and hands an application's own TLS through; the plan has no
    // application that serves TLS of its own, and takes all TLS for the mesh's.
    let mesh = || chain(Transport::Tls, Some(DownstreamTls::MeshMutual));
    let chains = match accepts(
        policies,
        &context.proxy.namespace,
        &context.proxy.labels,
        inbound.port,
        context.input.mesh,
    ) {
        Accepts::MeshTls => vec![mesh()],
        Accepts::Both => vec![mesh(), chain(Transport::Plain, None)],
        Accepts::Plain => vec![chain(Transport::Any, None)],
    };
    let listener = Listener {
        name: "virtualInbound".to_owned(),
        port: inbound.port,
        bind: inbound.bind,
        direction: Direction::Inbound,
        chains,
    };
    (listener, cluster)
}

/// `BuildDefaultHTTPInboundRoute`; an attempt that fails before it is sent is repeated.
fn inbound_route(cluster: String) -> Route {
    let retry = Some(Retry { on: "reset-before-request".to_owned(), attempts: 2 });
    Route {
        name: DEFAULT_ROUTE.to_owned(),
        matches: RouteMatch::default(),
        action: RouteAction::Forward(Forward { retry, ..to_cluster(cluster) }),
    }
}

/// What the service says that leads here; without one, Istio looks at the bytes.
fn protocol(context: &Context<'_>, inbound: &Inbound) -> Protocol {
    let ports = context.input.registry.iter().flat_map(|s| &s.ports);
    let leads_here = |p: &&super::input::ServicePort| p.endpoints.iter().any(|e| e.address == inbound.bind);
    ports
        .into_iter()
        .find(leads_here)
        .map_or(Protocol::Sniffed, |p| Protocol::of_service_port(p.number, &p.name, &p.protocol))
}
