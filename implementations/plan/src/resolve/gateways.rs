//! A gateway's listeners (pilot/pkg/networking/core/gateway.go, pilot/pkg/model/gateway.go).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::clusters::{Builder, Key};
use super::outbound::{tls_match, visible};
use super::routes::{Audience, catch_alls_last, destination_key, of_virtual_service};
use crate::model::{
    Action, ChainMatch, Direction, DownstreamTls, FilterChain, HttpRoutes, Listener, Transport, VirtualHost,
};
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::gateway::{Gateway, Server, ServerTlsMode};
use crate::resources::hosts::{intersection, is_wildcard, subset_of};

/// One server of a Gateway resource that selects the proxy.
struct Bound<'a> {
    gateway: &'a Named<Gateway>,
    server: &'a Server,
}

impl Bound<'_> {
    fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.id.namespace, self.gateway.id.name)
    }

    fn hosts_for(&self, namespace: &str) -> Vec<String> {
        self.server.hosts_for(&self.gateway.id.namespace, namespace)
    }

    /// `GetSNIHostsForServer`; `*` is any server name, or none.
    fn server_names(&self) -> Vec<String> {
        let hosts = self.server.hosts.iter();
        let names: BTreeSet<String> =
            hosts.map(|h| h.rsplit('/').next().unwrap_or(h).to_ascii_lowercase()).collect();
        if names.contains("*") { Vec::new() } else { names.into_iter().collect() }
    }
}

/// The servers on each port, of all Gateways that select the proxy, from any namespace (`mergeGateways`). A Gateway without a
/// selector selects every gateway.
fn bound<'a>(builder: &Builder<'a>, port: u16) -> Vec<Bound<'a>> {
    let gateways = builder.resources.gateways.iter();
    gateways
        .filter(|g| labels_match(&g.spec.selector, &builder.proxy.labels))
        .flat_map(|gateway| gateway.spec.servers.iter().map(move |server| Bound { gateway, server }))
        .filter(|b| b.server.port.as_ref().is_some_and(|p| p.number == u32::from(port)))
        .collect()
}

/// The listeners of a gateway: one a port that a Gateway resource has a server for.
pub(crate) fn listeners(
    builder: &Builder<'_>,
    used: &mut BTreeSet<Key>,
    warnings: &mut Vec<String>,
) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for (port, bind) in &builder.proxy.servers {
        if let Some(listener) = listener(builder, *port, *bind, used, warnings) {
            listeners.push(listener);
        }
    }
    let ports: Vec<u32> = builder.proxy.servers.iter().map(|(p, _)| u32::from(*p)).collect();
    for gateway in &builder.resources.gateways {
        if !labels_match(&gateway.spec.selector, &builder.proxy.labels) {
            continue;
        }
        for port in gateway.spec.servers.iter().filter_map(|s| s.port.as_ref()) {
            if !ports.contains(&port.number) {
                warnings.push(format!(
                    "{}: port {} is not a port of {}'s Service",
                    gateway.id, port.number, builder.proxy.name
                ));
            }
        }
    }
    listeners
}

fn listener(
    builder: &Builder<'_>,
    port: u16,
    bind: SocketAddr,
    used: &mut BTreeSet<Key>,
    warnings: &mut Vec<String>,
) -> Option<Listener> {
    let servers = bound(builder, port);
    // The first server decides whether the port is plain text or TLS; the others must be alike (mergeGateways).
    let plain_port = !servers.first()?.server.protocol().is_tls();
    let (servers, conflicting): (Vec<_>, Vec<_>) =
        servers.into_iter().partition(|b| b.server.protocol().is_tls() != plain_port);
    for other in conflicting {
        warnings.push(format!(
            "{}: its server on port {port} is left out, an older one of another protocol is there",
            other.gateway.id
        ));
    }
    let chains = if plain_port {
        let name = format!("http.{port}");
        vec![FilterChain {
            name: name.clone(),
            matches: ChainMatch::default(),
            tls: None,
            action: Action::Http(http_routes(builder, name, port, &servers, used)),
        }]
    } else {
        tls_chains(builder, port, servers, used, warnings)
    };
    Some(Listener { name: format!("0.0.0.0_{port}"), port, bind, direction: Direction::Gateway, chains })
}

fn tls_chains(
    builder: &Builder<'_>,
    port: u16,
    servers: Vec<Bound<'_>>,
    used: &mut BTreeSet<Key>,
    warnings: &mut Vec<String>,
) -> Vec<FilterChain> {
    let mut known: Vec<String> = Vec::new();
    let mut chains = Vec::new();
    for bound in servers {
        // CheckDuplicates: a server with a host that an older one has is left out as a whole.
        let hosts = bound.server.hosts.clone();
        if let Some(host) = hosts.iter().find(|h| known.contains(h)) {
            warnings.push(format!(
                "{}: its server on port {port} is left out, {host:?} is already served there",
                bound.gateway.id
            ));
            continue;
        }
        known.extend(hosts);
        let mode = bound.server.tls.as_ref().map(|t| t.mode).unwrap_or_default();
        if mode == ServerTlsMode::IstioMutual {
            let id = &bound.gateway.id;
            let port_name = bound.server.port.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
            // gatewayRDSRouteName.
            let name = format!("https.{port}.{port_name}.{}.{}", id.name, id.namespace);
            let matches = ChainMatch { transport: Transport::Tls, server_names: bound.server_names() };
            let routes = http_routes(builder, name.clone(), port, std::slice::from_ref(&bound), used);
            chains.push(FilterChain {
                name,
                matches,
                tls: Some(DownstreamTls::MeshMutual),
                action: Action::Http(routes),
            });
        } else {
            chains.extend(passthrough_chains(builder, port, &bound, used));
        }
    }
    // The most specific server name decides, whatever the order; any name comes last.
    chains.sort_by_key(|c: &FilterChain| {
        let names = &c.matches.server_names;
        (names.is_empty(), names.iter().any(|n| is_wildcard(n)))
    });
    chains
}

/// `buildGatewayNetworkFiltersFromTLSRoutes`: PASSTHROUGH, by the TLS routes of the VirtualServices.
fn passthrough_chains(
    builder: &Builder<'_>,
    port: u16,
    bound: &Bound<'_>,
    used: &mut BTreeSet<Key>,
) -> Vec<FilterChain> {
    let gateway = bound.gateway_name();
    let mut chains: Vec<FilterChain> = Vec::new();
    for (hosts, virtual_service) in visible(builder, &gateway) {
        let namespace = &virtual_service.id.namespace;
        let served = bound.hosts_for(namespace);
        let covered = |h: &String| served.iter().any(|s| subset_of(h, s) || subset_of(s, h));
        if !hosts.iter().any(covered) {
            continue;
        }
        for route in &virtual_service.spec.tls {
            let Some(to) = super::routes::single_destination(&route.route) else { continue };
            for condition in &route.matches {
                if !tls_match(condition, namespace, &gateway, port, builder) {
                    continue;
                }
                let names: Vec<String> = condition.sni_hosts.iter().map(|h| h.to_ascii_lowercase()).collect();
                if chains.iter().any(|c| names.iter().any(|n| c.matches.server_names.contains(n))) {
                    continue;
                }
                let key = destination_key(to, namespace, port, &builder.scope.services);
                let cluster = key.name();
                used.insert(key);
                chains.push(FilterChain {
                    name: cluster.clone(),
                    matches: ChainMatch { transport: Transport::Tls, server_names: names },
                    tls: None,
                    action: Action::Tcp { cluster },
                });
            }
        }
    }
    chains
}

/// `buildGatewayHTTPRouteConfig`: where VirtualServices share a host, their routes are joined in order, and catch-alls go
/// last.
fn http_routes(
    builder: &Builder<'_>,
    name: String,
    port: u16,
    servers: &[Bound<'_>],
    used: &mut BTreeSet<Key>,
) -> HttpRoutes {
    let mut virtual_hosts: Vec<VirtualHost> = Vec::new();
    for bound in servers {
        let gateway = bound.gateway_name();
        let audience = Audience {
            proxy: builder.proxy,
            gateway: &gateway,
            port,
            tls: bound.server.tls.is_some(),
            services: &builder.scope.services,
        };
        for (hosts, virtual_service) in visible(builder, &gateway) {
            let shared = intersection(&bound.hosts_for(&virtual_service.id.namespace), &hosts);
            if shared.is_empty() {
                continue;
            }
            let routes = of_virtual_service(virtual_service, &audience, used);
            if routes.is_empty() {
                continue;
            }
            for host in shared {
                let vhost_name = format!("{host}:{port}");
                match virtual_hosts.iter_mut().find(|v| v.name == vhost_name) {
                    Some(existing) => existing.routes.extend(routes.iter().cloned()),
                    None => {
                        let domains =
                            if host == "*" { vec![host] } else { vec![host.clone(), vhost_name.clone()] };
                        virtual_hosts.push(VirtualHost { name: vhost_name, domains, routes: routes.clone() });
                    }
                }
            }
        }
    }
    for host in &mut virtual_hosts {
        catch_alls_last(&mut host.routes);
    }
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    if virtual_hosts.is_empty() {
        // Without a VirtualService every request gets 404.
        virtual_hosts.push(VirtualHost {
            name: format!("blackhole:{port}"),
            domains: vec!["*".to_owned()],
            routes: Vec::new(),
        });
    }
    HttpRoutes { name, virtual_hosts }
}
