//! From what istiod would send to what proxies on one machine must do.
//!
//! In a cluster a sidecar tells services of one port apart by the address that the application dialled, where they have
//! one. There is no such address on one machine. So what Istio finds by address, the plan finds by name: TLS by its server
//! name, and HTTP by its host, as Istio does itself wherever services have no address.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::cidr;
use super::context::Context;
use super::input::{OutboundPolicy, ProxyKind};
use super::registry::NO_ADDRESS;
use super::virtual_hosts::{catch_all, short_names};
use crate::mesh::{Addressed, BLACK_HOLE, ClusterKind, MeshChain, MeshCluster, MeshListener, ProxyConfig};
use crate::model::{
    Action, ChainMatch, Cluster, Direction, Discovery, FilterChain, HttpRoutes, Listener,
    OriginalDestination, ProxyPlan, RouteAction, Transport, VirtualHost,
};
use crate::resources::hosts::is_wildcard;

/// What a proxy must do on this machine.
pub(crate) fn plan(context: &Context<'_>, config: &ProxyConfig, warnings: &mut Vec<String>) -> ProxyPlan {
    let proxy = context.proxy;
    let mut listeners = Vec::new();
    let mut clusters: Vec<Cluster> = Vec::new();
    match proxy.kind {
        ProxyKind::Sidecar => {
            for (port, bind) in &proxy.outbound {
                let chains = captured(context, config, *port);
                let (port, bind, direction) = (*port, *bind, Direction::Outbound);
                listeners.push(Listener { name: format!("0.0.0.0_{port}"), port, bind, direction, chains });
            }
            for (ip, port, bind) in &proxy.addressed {
                let (name, chains) = captured_at(config, *ip, *port);
                let (port, bind, direction) = (*port, *bind, Direction::Outbound);
                listeners.push(Listener { name, port, bind, direction, chains });
            }
            for served in &proxy.inbound {
                let (listener, cluster) = super::inbound::listener(context, served);
                listeners.push(listener);
                clusters.push(cluster);
            }
        }
        ProxyKind::Gateway => {
            for (port, bind) in &proxy.servers {
                let Some(served) = config.listeners.iter().find(|l| l.port == *port) else { continue };
                let (port, bind, direction) = (*port, *bind, Direction::Gateway);
                let chains = served_chains(served);
                listeners.push(Listener { name: format!("0.0.0.0_{port}"), port, bind, direction, chains });
            }
            // Without addresses to listen on, nothing is known of the gateway's ports here.
            for listener in config.listeners.iter().filter(|_| !proxy.servers.is_empty()) {
                if !proxy.servers.iter().any(|(port, _)| *port == listener.port) {
                    warnings.push(format!(
                        "{}: it listens on port {}, which its Service does not have",
                        proxy.name, listener.port
                    ));
                }
            }
        }
    }
    for name in named_clusters(&listeners) {
        if let Some(cluster) = config.clusters.get(&name)
            && !clusters.iter().any(|c| c.name == name)
        {
            clusters.push(local_cluster(context, &name, cluster, warnings));
        }
    }
    ProxyPlan {
        name: proxy.name.clone(),
        namespace: proxy.namespace.clone(),
        role: config.role,
        identity: proxy.identity.clone(),
        listeners,
        clusters,
    }
}

/// The names of all clusters that the listeners lead to.
pub(crate) fn named_clusters(listeners: &[Listener]) -> BTreeSet<String> {
    listeners.iter().flat_map(|l| &l.chains).flat_map(|c| action_clusters(&c.action)).collect()
}

/// The clusters that an action leads to.
pub(crate) fn action_clusters(action: &Action) -> Vec<String> {
    match action {
        Action::Tcp { cluster } => vec![cluster.clone()],
        Action::TcpWeighted(clusters) => clusters.iter().map(|c| c.cluster.clone()).collect(),
        Action::Http(http) => http
            .virtual_hosts
            .iter()
            .flat_map(|v| &v.routes)
            .flat_map(|route| match &route.action {
                RouteAction::Forward(forward) => {
                    let to = forward.clusters.iter().map(|c| c.cluster.clone());
                    to.chain(forward.mirrors.iter().cloned()).collect::<Vec<_>>()
                }
                RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => Vec::new(),
            })
            .collect(),
    }
}

/// The chains for one captured port, of all listeners of the port.
fn captured(context: &Context<'_>, config: &ProxyConfig, port: u16) -> Vec<FilterChain> {
    let mut chains: Vec<FilterChain> = Vec::new();
    let everywhere = config.wildcard(port).map_or(&[][..], |l| l.chains.as_slice());
    for chain in everywhere.iter().filter(|c| !c.server_names.is_empty() && !c.takes_all()) {
        push_tls(&mut chains, &chain.server_names, &chain.action);
    }
    for (ip, to, listener) in config.addressed(port) {
        for chain in listener.chains.iter().filter(|c| !c.plain_http) {
            if passes_unmatched(chain, config) {
                continue;
            }
            let own;
            let names = if chain.server_names.is_empty() {
                own = names_of(context, ip, to);
                &own
            } else {
                &chain.server_names
            };
            push_tls(&mut chains, names, &chain.action);
        }
    }
    // The most specific server name decides, whatever the order (Envoy's filter chain matching).
    chains.sort_by_key(|c| {
        let wild = c.matches.server_names.iter().any(|n| is_wildcard(n));
        let longest = c.matches.server_names.iter().map(String::len).max().unwrap_or_default();
        (wild, if wild { usize::MAX - longest } else { 0 })
    });
    let default = everywhere.iter().find(|c| c.takes_all());
    // TLS that nothing else takes falls through, also on a port with HTTP services.
    let rest = match default.map(|c| &c.action) {
        Some(Action::Http(_)) | None => Action::Tcp { cluster: config.unmatched.clone() },
        Some(action) => action.clone(),
    };
    chains.push(FilterChain {
        name: match &rest {
            Action::Tcp { cluster } => format!("{cluster} (TLS)"),
            Action::TcpWeighted(_) | Action::Http(_) => "TLS".to_owned(),
        },
        matches: ChainMatch { transport: Transport::Tls, server_names: Vec::new() },
        tls: None,
        action: rest.clone(),
    });
    plain_chains(context, config, port, &rest, &mut chains);
    // Nothing depends on the first bytes then, and nothing may wait for them: a server may speak first.
    let all_alike = chains.iter().all(|chain| {
        matches!(chain.action, Action::Tcp { .. } | Action::TcpWeighted(_)) && chain.action == rest
    });
    if all_alike && rest != (Action::Tcp { cluster: config.unmatched.clone() }) {
        return vec![FilterChain {
            name: "any".to_owned(),
            matches: ChainMatch::default(),
            tls: None,
            action: rest,
        }];
    }
    chains
}

/// The name of the listener that takes connections to an address, and its chains. A listener on the address itself comes before
/// the one on every address of the port, as Envoy's `use_original_dst` has it.
fn captured_at(config: &ProxyConfig, ip: IpAddr, port: u16) -> (String, Vec<FilterChain>) {
    let own = config.addressed(port).find(|(bind, ..)| bind.parse() == Ok(ip));
    let (bind, listener) = match own {
        Some((bind, _, listener)) => (bind, Some(listener)),
        None => (NO_ADDRESS, config.wildcard(port)),
    };
    let name = format!("{bind}_{port}");
    let taken = |chain: &&MeshChain| chain.cidrs.is_empty() || chain.cidrs.iter().any(|c| cidr::holds(c, ip));
    let mut all: Vec<&MeshChain> = listener.into_iter().flat_map(|l| &l.chains).filter(taken).collect();
    // Envoy looks at the destination's address first, then at the server name, then at the protocol.
    all.sort_by_key(|c| {
        let width = c.cidrs.iter().filter(|c| cidr::holds(c, ip)).map(|c| cidr::width(c)).max();
        (Reverse(width), c.server_names.is_empty(), !c.plain_http)
    });
    let passes = MeshChain::pass(config.unmatched.clone());
    let mut chains: Vec<FilterChain> = Vec::new();
    for chain in all.into_iter().chain([&passes]) {
        let mut action = chain.action.clone();
        let name = match &mut action {
            Action::Tcp { cluster } => cluster.clone(),
            Action::TcpWeighted(_) => "any".to_owned(),
            Action::Http(routes) => {
                with_ports(routes, port);
                routes.name.clone()
            }
        };
        let transport = match (chain.server_names.is_empty(), chain.plain_http) {
            (false, _) => Transport::Tls,
            (true, true) => Transport::PlainHttp,
            (true, false) => Transport::Any,
        };
        let matches = ChainMatch { transport, server_names: chain.server_names.clone() };
        let takes_all = matches == ChainMatch::default();
        chains.push(FilterChain { name, matches, tls: None, action });
        // Nothing may wait for first bytes on which nothing depends: a server may speak first.
        if takes_all {
            break;
        }
    }
    (name, chains)
}

/// What takes plain text. HTTP is distinguished from other bytes only if the others go elsewhere.
fn plain_chains(
    context: &Context<'_>,
    config: &ProxyConfig,
    port: u16,
    rest: &Action,
    chains: &mut Vec<FilterChain>,
) {
    let plain = |transport: Transport, action: Action| FilterChain {
        name: if transport == Transport::PlainHttp { "plain HTTP" } else { "plain" }.to_owned(),
        matches: ChainMatch { transport, server_names: Vec::new() },
        tls: None,
        action,
    };
    let unmatched = Action::Tcp { cluster: config.unmatched.clone() };
    let listener = config.wildcard(port);
    if let Some(routes) = http_of(context, config, port) {
        if *rest == unmatched {
            chains.push(plain(Transport::Plain, Action::Http(routes)));
        } else {
            chains.push(plain(Transport::PlainHttp, Action::Http(routes)));
            chains.push(plain(Transport::Plain, rest.clone()));
        }
        return;
    }
    if *rest != unmatched {
        chains.push(plain(Transport::Plain, rest.clone()));
        return;
    }
    // The one service of bytes on the port, where Istio tells several apart by address.
    let by_cidr = listener.into_iter().flat_map(|l| &l.chains).filter(|c| !c.cidrs.is_empty());
    let by_address = config.addressed(port).flat_map(|(_, _, l)| &l.chains);
    let mut opaque = by_cidr
        .chain(by_address)
        .filter(|c| c.server_names.is_empty() && !c.plain_http && !passes_unmatched(c, config));
    let opaque_protocol = |action: &Action| match action {
        Action::Tcp { cluster } => !is_tls_port(context, cluster),
        Action::TcpWeighted(_) | Action::Http(_) => true,
    };
    let action = match (opaque.next(), opaque.next()) {
        (Some(only), None) if opaque_protocol(&only.action) => only.action.clone(),
        // On this machine only HTTP's Host says where the application was going.
        (Some(_) | None, _) => match context.scope.outbound {
            OutboundPolicy::AllowAny => Action::Http(HttpRoutes {
                name: port.to_string(),
                virtual_hosts: vec![catch_all(context.scope)],
            }),
            OutboundPolicy::RegistryOnly => unmatched,
        },
    };
    chains.push(plain(Transport::Plain, action));
}

/// Whether a cluster is that of a port declared HTTPS or TLS, for which plain text makes no sense.
fn is_tls_port(context: &Context<'_>, cluster: &str) -> bool {
    let mut parts = cluster.splitn(4, '|').skip(1);
    let port = parts.next().and_then(|p| p.parse().ok());
    let host = parts.nth(1);
    let found = host.and_then(|h| context.scope.service(h)).zip(port).and_then(|(s, p)| s.port(p));
    found.is_some_and(|p| p.protocol.is_tls())
}

/// The HTTP routes of a port: those of all services that share a listener, and of each that has one of its own.
fn http_of(context: &Context<'_>, config: &ProxyConfig, port: u16) -> Option<HttpRoutes> {
    let of = |listener: &MeshListener| {
        listener.chains.iter().find_map(|c| match &c.action {
            Action::Http(routes) => Some(routes.clone()),
            Action::Tcp { .. } | Action::TcpWeighted(_) => None,
        })
    };
    let shared = config.wildcard(port).and_then(of);
    let mut own: Vec<VirtualHost> = Vec::new();
    for (ip, to, listener) in config.addressed(port) {
        for mut host in of(listener).into_iter().flat_map(|r| r.virtual_hosts) {
            host.domains = names_of(context, ip, to);
            own.push(host);
        }
    }
    if shared.is_none() && own.is_empty() {
        return None;
    }
    let mut routes = shared.unwrap_or_else(|| HttpRoutes {
        name: port.to_string(),
        virtual_hosts: vec![catch_all(context.scope)],
    });
    let taken = |domain: &String| routes.virtual_hosts.iter().any(|v| v.domains.contains(domain));
    for host in &mut own {
        host.domains.retain(|d| !taken(d));
    }
    own.retain(|h| !h.domains.is_empty());
    routes.virtual_hosts.splice(0..0, own);
    with_ports(&mut routes, port);
    Some(routes)
}

/// Hosts are recognised with the port as well: data planes other than Envoy compare texts.
fn with_ports(routes: &mut HttpRoutes, port: u16) {
    for host in &mut routes.virtual_hosts {
        let bare = std::mem::take(&mut host.domains);
        for domain in bare {
            let with_port = (domain != "*").then(|| format!("{domain}:{port}"));
            host.domains.push(domain);
            host.domains.extend(with_port);
        }
    }
}

/// What a service with an address of its own is called by, and every other that has the address: a client that dials one of them
/// reaches the listener of the first.
fn names_of(context: &Context<'_>, ip: &str, to: &Addressed) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let others = context.registry.services.iter().filter(|s| s.address == ip).map(|s| &s.host);
    for host in std::iter::once(&to.host).chain(others) {
        if !names.contains(host) {
            names.push(host.clone());
            names.extend(short_names(host, &context.proxy.namespace));
        }
    }
    names
}

/// Whether a chain only says what happens to the rest.
fn passes_unmatched(chain: &MeshChain, config: &ProxyConfig) -> bool {
    chain.takes_all() && matches!(&chain.action, Action::Tcp { cluster } if *cluster == config.unmatched)
}

/// Adds a chain for those server names that no other has: Envoy allows each only once.
fn push_tls(chains: &mut Vec<FilterChain>, names: &[String], action: &Action) {
    let taken = |n: &&String| !chains.iter().any(|c| c.matches.server_names.contains(n));
    let server_names: Vec<String> = names.iter().filter(taken).cloned().collect();
    if server_names.is_empty() {
        return;
    }
    let name = match action {
        Action::Tcp { cluster } => cluster.clone(),
        Action::TcpWeighted(_) | Action::Http(_) => server_names.join(","),
    };
    let matches = ChainMatch { transport: Transport::Tls, server_names };
    chains.push(FilterChain { name, matches, tls: None, action: action.clone() });
}

/// A gateway's chains: the most specific server name first, any name last.
fn served_chains(listener: &MeshListener) -> Vec<FilterChain> {
    let secure = |c: &MeshChain| c.tls.is_some() || !c.server_names.is_empty();
    let mixed = listener.chains.iter().any(secure);
    let mut chains: Vec<FilterChain> = listener
        .chains
        .iter()
        .map(|chain| {
            let mut action = chain.action.clone();
            let name = match &mut action {
                Action::Http(routes) => {
                    with_ports(routes, listener.port);
                    routes.name.clone()
                }
                Action::Tcp { cluster } => cluster.clone(),
                Action::TcpWeighted(_) => chain.server_names.join(","),
            };
            let transport = match (secure(chain), mixed) {
                (true, _) => Transport::Tls,
                (false, true) => Transport::Plain,
                (false, false) => Transport::Any,
            };
            let matches = ChainMatch { transport, server_names: chain.server_names.clone() };
            FilterChain { name, matches, tls: chain.tls.clone(), action }
        })
        .collect();
    chains.sort_by_key(|c: &FilterChain| {
        let names = &c.matches.server_names;
        (names.is_empty(), names.iter().any(|n| is_wildcard(n)))
    });
    chains
}

/// A cluster with its addresses on this machine.
fn local_cluster(
    context: &Context<'_>,
    name: &str,
    cluster: &MeshCluster,
    warnings: &mut Vec<String>,
) -> Cluster {
    let known = context.input.endpoints;
    let discovery = match cluster.kind {
        ClusterKind::Static if name == BLACK_HOLE => Discovery::Nowhere,
        ClusterKind::OriginalDestination | ClusterKind::DynamicDns => {
            Discovery::OriginalDestination(match cluster.port_override {
                None => known.to_vec(),
                Some(port) => redirected(known, service_port(name), port),
            })
        }
        ClusterKind::Static | ClusterKind::Endpoints | ClusterKind::StrictDns | ClusterKind::LogicalDns => {
            Discovery::Endpoints(cluster.endpoints.iter().filter_map(|e| e.local).collect())
        }
    };
    let able = cluster.endpoints.iter().filter(|e| e.mesh_tls).count();
    let tls = if !cluster.tls_by_endpoint || cluster.endpoints.is_empty() {
        cluster.tls.clone().filter(|_| !cluster.tls_by_endpoint)
    } else if able == cluster.endpoints.len() {
        cluster.tls.clone()
    } else {
        if able > 0 {
            warnings.push(format!(
                "{}: only some endpoints of {name} accept mesh TLS; the plan sends plain text to all",
                context.proxy.name
            ));
        }
        None
    };
    let protocol = cluster.protocol;
    Cluster { name: name.to_owned(), discovery, protocol, tls }
}

/// Destinations of one port, at another port of the same host.
fn redirected(known: &[OriginalDestination], from: u16, to: u16) -> Vec<OriginalDestination> {
    let at = known.iter().filter(|d| d.port == to);
    at.map(|d| OriginalDestination { host: d.host.clone(), port: from, address: d.address }).collect()
}

/// The port in a cluster's name.
fn service_port(name: &str) -> u16 {
    name.split('|').nth(1).and_then(|p| p.parse().ok()).unwrap_or_default()
}

/// The cluster that takes what no listener does.
pub(crate) fn unmatched_of(context: &Context<'_>) -> String {
    match context.proxy.kind {
        ProxyKind::Sidecar => context.scope.unmatched.clone(),
        ProxyKind::Gateway => String::new(),
    }
}
