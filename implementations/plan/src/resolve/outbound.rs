//! A sidecar's outbound listeners.
//!
//! In a cluster a sidecar tells services of one port apart by the address that the application dialled; there is no such
//! address on one machine. So what Istio finds by address, the plan finds by name: TLS by its server name, and HTTP by
//! its host, as Istio does itself wherever services have no address (ServiceEntries).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::clusters::{BLACK_HOLE, Builder, Key, PASSTHROUGH};
use super::input::OutboundPolicy;
use super::registry::{Port, Service};
use super::routes::{Audience, default_route, destination_key, of_virtual_service, to_cluster};
use crate::model::{
    Action, ChainMatch, Direction, FilterChain, HttpRoutes, Listener, Route, RouteAction, RouteMatch,
    Transport, VirtualHost,
};
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::hosts::{
    CLUSTER_DOMAIN, MESH, is_wildcard, matches, qualified, qualified_gateway, subset_of,
};
use crate::resources::protocol::Protocol;
use crate::resources::virtual_service::{TlsMatch, VirtualService};

/// The VirtualServices that reach a namespace, as istiod orders them: private ones, then those exported by name, then
/// public ones (`VirtualServicesForGateway` in push_context.go); each group by age. Hosts are full names in lower case.
pub(crate) fn visible<'a>(
    builder: &Builder<'a>,
    gateway: &str,
) -> Vec<(Vec<String>, &'a Named<VirtualService>)> {
    let mut found: Vec<_> = builder
        .resources
        .virtual_services
        .iter()
        .filter_map(|v| {
            let namespace = &v.id.namespace;
            let export =
                super::visibility::exported_to(&v.spec.export_to, namespace, &builder.proxy.namespace)?;
            let bound = if v.spec.gateways.is_empty() {
                gateway == MESH
            } else {
                v.spec.gateways.iter().any(|g| qualified_gateway(g, namespace) == gateway)
            };
            let hosts: Vec<String> = v.spec.hosts.iter().map(|h| qualified(h, namespace)).collect();
            // Without hosts it is a delegate: inert until referenced.
            (bound && !hosts.is_empty()).then_some((export, hosts, v))
        })
        .collect();
    found.sort_by_key(|(export, ..)| *export);
    found.into_iter().map(|(_, hosts, v)| (hosts, v)).collect()
}

/// The listener for one captured port.
pub(crate) fn listener(
    builder: &Builder<'_>,
    port: u16,
    bind: SocketAddr,
    used: &mut BTreeSet<Key>,
    warnings: &mut Vec<String>,
) -> Listener {
    let on_port: Vec<(&Service, &Port)> =
        builder.scope.services.iter().filter_map(|s| Some((s, s.port(port)?))).collect();
    let virtual_services: Vec<_> = visible(builder, MESH)
        .into_iter()
        .filter(|(hosts, v)| builder.scope.imports(&v.id.namespace, hosts))
        .collect();

    let mut chains = tls_chains(builder, port, &on_port, &virtual_services, used);
    let unknown = match builder.scope.outbound {
        OutboundPolicy::AllowAny => PASSTHROUGH,
        OutboundPolicy::RegistryOnly => BLACK_HOLE,
    };
    // TLS that nothing else takes falls through, also on a port with HTTP services (buildSidecarOutboundListener matches
    // plain HTTP alone there).
    chains.push(FilterChain {
        name: format!("{unknown} (TLS)"),
        matches: ChainMatch { transport: Transport::Tls, server_names: Vec::new() },
        tls: None,
        action: Action::Tcp { cluster: unknown.to_owned() },
    });
    let plain = match opaque_service(&on_port) {
        Some((service, _)) => {
            let key = Key { host: service.host.clone(), port, subset: String::new() };
            let cluster = key.name();
            used.insert(key);
            Action::Tcp { cluster }
        }
        None => Action::Http(http_routes(builder, port, &on_port, &virtual_services, used, warnings)),
    };
    chains.push(FilterChain {
        name: "plain".to_owned(),
        matches: ChainMatch { transport: Transport::Plain, server_names: Vec::new() },
        tls: None,
        action: plain,
    });
    Listener { name: format!("0.0.0.0_{port}"), port, bind, direction: Direction::Outbound, chains }
}

/// The one service of bytes on a port without HTTP: all plain traffic is its own.
fn opaque_service<'a>(on_port: &[(&'a Service, &'a Port)]) -> Option<(&'a Service, &'a Port)> {
    if on_port.iter().any(|(_, p)| p.protocol.is_http_or_sniffed()) {
        return None;
    }
    let mut opaque = on_port.iter().filter(|(_, p)| p.protocol == Protocol::Tcp);
    match (opaque.next(), opaque.next()) {
        (Some(one), None) => Some(*one),
        (Some(_) | None, _) => None,
    }
}

/// `buildSidecarOutboundTLSFilterChainOpts` (pilot/pkg/networking/core/tls.go): for each service of TLS on the port the
/// TLS routes that match, or without any the service itself by its name.
fn tls_chains(
    builder: &Builder<'_>,
    port: u16,
    on_port: &[(&Service, &Port)],
    virtual_services: &[(Vec<String>, &Named<VirtualService>)],
    used: &mut BTreeSet<Key>,
) -> Vec<FilterChain> {
    let mut chains: Vec<FilterChain> = Vec::new();
    let mut push = |server_names: &[String], key: Key| {
        let taken = |n: &&String| !chains.iter().any(|c| c.matches.server_names.contains(n));
        // Of equal server names the first wins, as Envoy allows each only once.
        let server_names: Vec<String> = server_names.iter().filter(taken).cloned().collect();
        if server_names.is_empty() {
            return;
        }
        let cluster = key.name();
        used.insert(key);
        chains.push(FilterChain {
            name: cluster.clone(),
            matches: ChainMatch { transport: Transport::Tls, server_names },
            tls: None,
            action: Action::Tcp { cluster },
        });
    };
    for (service, service_port) in on_port {
        let mut routed = false;
        if service_port.protocol.is_tls() {
            let of_service =
                virtual_services.iter().filter(|(hosts, _)| hosts.iter().any(|h| matches(h, &service.host)));
            for (_, virtual_service) in of_service {
                let namespace = &virtual_service.id.namespace;
                for route in &virtual_service.spec.tls {
                    let Some(to) = super::routes::single_destination(&route.route) else { continue };
                    for condition in &route.matches {
                        if tls_match(condition, namespace, MESH, port, builder) {
                            let names: Vec<String> =
                                condition.sni_hosts.iter().map(|h| h.to_ascii_lowercase()).collect();
                            push(&names, destination_key(to, namespace, port, &builder.scope.services));
                            routed = true;
                        }
                    }
                }
            }
        }
        // HTTP alone does not take TLS; it falls through.
        if !routed && !service_port.protocol.is_http() {
            let mut names = vec![service.host.clone()];
            if service.kubernetes {
                names.extend(short_names(&service.host, &builder.proxy.namespace));
            }
            push(&names, Key { host: service.host.clone(), port, subset: String::new() });
        }
    }
    // The most specific server name decides, whatever the order (Envoy's filter chain matching).
    chains.sort_by_key(|c| {
        let wild = c.matches.server_names.iter().any(|n| is_wildcard(n));
        let longest = c.matches.server_names.iter().map(String::len).max().unwrap_or_default();
        (wild, if wild { usize::MAX - longest } else { 0 })
    });
    chains
}

/// `matchTLS` (tls.go).
pub(crate) fn tls_match(
    condition: &TlsMatch,
    namespace: &str,
    gateway: &str,
    port: u16,
    builder: &Builder<'_>,
) -> bool {
    let gateways = &condition.gateways;
    let source = &condition.source_namespace;
    (condition.port == 0 || condition.port == u32::from(port))
        && (gateways.is_empty() || gateways.iter().any(|g| qualified_gateway(g, namespace) == gateway))
        && labels_match(&condition.source_labels, &builder.proxy.labels)
        && (source.is_empty() || *source == builder.proxy.namespace)
}

/// `BuildSidecarOutboundVirtualHosts` (httproute.go) and `BuildSidecarVirtualHostWrapper` (route/route.go).
fn http_routes(
    builder: &Builder<'_>,
    port: u16,
    on_port: &[(&Service, &Port)],
    virtual_services: &[(Vec<String>, &Named<VirtualService>)],
    used: &mut BTreeSet<Key>,
    warnings: &mut Vec<String>,
) -> HttpRoutes {
    let mut hosts = VirtualHosts { port, hosts: Vec::new() };
    // A destination is looked up among the services of this port, with this port alone (servicesByName).
    let of_port: Vec<Service> =
        on_port.iter().map(|(s, p)| Service { ports: vec![(*p).clone()], ..(*s).clone() }).collect();
    let audience = Audience { proxy: builder.proxy, gateway: MESH, port, tls: false, services: &of_port };
    let mut served: Vec<&str> = Vec::new();
    for (index, (vs_hosts, virtual_service)) in virtual_services.iter().enumerate() {
        let overlaps = |s: &&Service| vs_hosts.iter().any(|h| matches(h, &s.host));
        // Istio's own words: "this is hack to keep consistent with previous behavior". On port 80 a VirtualService needs no
        // service of its host; on any other it does (BuildSidecarOutboundVirtualHosts).
        if port != 80 && !of_port.iter().any(|s| overlaps(&s)) {
            continue;
        }
        let mut keys = BTreeSet::new();
        let routes = of_virtual_service(virtual_service, &audience, &mut keys);
        if routes.is_empty() {
            continue;
        }
        let owned: Vec<(&Service, &Port)> = on_port
            .iter()
            .filter(|(s, _)| owner(&s.host, virtual_services) == Some(index))
            .copied()
            .collect();
        let speaks_http = |p: &Port| p.protocol.is_http_or_sniffed();
        let http: Vec<&Service> = owned.iter().filter(|(_, p)| speaks_http(p)).map(|(s, _)| *s).collect();
        // serviceByPort: without an HTTP service on the port, there are virtual hosts on port 80 alone.
        if http.is_empty() && port != 80 {
            continue;
        }
        used.extend(keys);
        for service in &http {
            served.push(service.host.as_str());
            if !hosts.add_service(service, &builder.proxy.namespace, routes.clone()) {
                warnings.push(duplicate(virtual_service, &service.host, port));
            }
        }
        for host in vs_hosts {
            // A wildcard that services of this port match is no host of its own (separateVSHostsAndServices).
            let by_service =
                of_port.iter().any(|s| s.host == *host || (is_wildcard(host) && subset_of(&s.host, host)));
            if !by_service && !hosts.add(host, Vec::new(), routes.clone()) {
                warnings.push(duplicate(virtual_service, host, port));
            }
        }
    }
    for (service, service_port) in on_port {
        if service_port.protocol.is_http_or_sniffed() && !served.contains(&service.host.as_str()) {
            let key = Key { host: service.host.clone(), port, subset: String::new() };
            let route = default_route(key.name());
            if hosts.add_service(service, &builder.proxy.namespace, vec![route]) {
                used.insert(key);
            }
        }
    }
    // SortVirtualHosts, then the catch-all.
    hosts.hosts.sort_by(|a, b| a.name.cmp(&b.name));
    hosts.hosts.push(catch_all(builder.scope.outbound));
    HttpRoutes { name: port.to_string(), virtual_hosts: hosts.hosts }
}

fn duplicate(virtual_service: &Named<VirtualService>, host: &str, port: u16) -> String {
    format!(
        "{}: {host} on port {port} is already routed by an older VirtualService, which is kept",
        virtual_service.id
    )
}

/// The VirtualService that a service belongs to: the oldest that names it, else the one with the longest wildcard
/// (`MostSpecificWildcardVirtualServiceIndex` in sidecar.go).
fn owner(host: &str, virtual_services: &[(Vec<String>, &Named<VirtualService>)]) -> Option<usize> {
    let exact = virtual_services.iter().position(|(hosts, _)| hosts.iter().any(|h| h == host));
    exact.or_else(|| {
        let mut best: Option<(usize, usize)> = None;
        for (index, (hosts, _)) in virtual_services.iter().enumerate() {
            let covering =
                hosts.iter().filter(|h| is_wildcard(h) && subset_of(host, h)).map(String::len).max();
            if let Some(length) = covering
                && best.is_none_or(|(b, _)| length > b)
            {
                best = Some((length, index));
            }
        }
        best.map(|(_, index)| index)
    })
}

/// Virtual hosts without two of one name or two for one domain (`buildVirtualHost`, `dedupeDomains` in httproute.go).
struct VirtualHosts {
    port: u16,
    hosts: Vec<VirtualHost>,
}

impl VirtualHosts {
    fn add_service(&mut self, service: &Service, namespace: &str, routes: Vec<Route>) -> bool {
        let short = if service.kubernetes { short_names(&service.host, namespace) } else { Vec::new() };
        self.add(&service.host, short, routes)
    }

    fn add(&mut self, host: &str, others: Vec<String>, routes: Vec<Route>) -> bool {
        let name = format!("{host}:{}", self.port);
        if self.hosts.iter().any(|v| v.name == name) {
            return false;
        }
        let mut domains = Vec::new();
        for domain in std::iter::once(host.to_owned()).chain(others) {
            domains.push(format!("{domain}:{}", self.port));
            domains.insert(domains.len() - 1, domain);
        }
        domains.retain(|d| !self.hosts.iter().any(|v| v.domains.contains(d)));
        if domains.is_empty() {
            return false;
        }
        self.hosts.push(VirtualHost { name, domains, routes });
        true
    }
}

/// `generateAltVirtualHostsForKubernetesService` (httproute.go): what a Kubernetes service is called by for short; its bare
/// name in its own namespace alone.
fn short_names(host: &str, namespace: &str) -> Vec<String> {
    let suffix = format!(".svc.{CLUSTER_DOMAIN}");
    let Some(name_and_namespace) = host.strip_suffix(&suffix) else { return Vec::new() };
    let mut names = vec![name_and_namespace.to_owned(), format!("{name_and_namespace}.svc")];
    if let Some((name, owner)) = name_and_namespace.split_once('.')
        && owner == namespace
    {
        names.insert(0, name.to_owned());
    }
    names
}

/// `buildCatchAllVirtualHost` (httproute.go).
fn catch_all(outbound: OutboundPolicy) -> VirtualHost {
    let (name, action) = match outbound {
        OutboundPolicy::AllowAny => ("allow_any", RouteAction::Forward(to_cluster(PASSTHROUGH.to_owned()))),
        OutboundPolicy::RegistryOnly => {
            ("block_all", RouteAction::DirectResponse { status: 502, body: String::new() })
        }
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route { name: name.to_owned(), matches: RouteMatch::default(), action }],
    }
}
