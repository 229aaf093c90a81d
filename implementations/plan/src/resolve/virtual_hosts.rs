//! A sidecar's route configurations (`BuildSidecarOutboundVirtualHosts` in pilot/pkg/networking/core/httproute.go,
//! `BuildSidecarVirtualHostWrapper` in pilot/pkg/networking/core/route/route.go).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::context::Context;
use super::input::OutboundPolicy;
use super::registry::{NO_ADDRESS, Resolution, Service};
use super::routes::{Audience, default_route, of_virtual_service, to_cluster};
use super::scope::{Egress, Scope};
use crate::model::{HttpRoutes, Route, RouteAction, RouteMatch, VirtualHost};
use crate::resources::Named;
use crate::resources::hosts::{CLUSTER_DOMAIN, MESH, is_wildcard, matches};
use crate::resources::virtual_service::VirtualService;

/// The routes of one port for services without a listener of their own.
pub(crate) fn of_port(context: &Context<'_>, port: u16, warnings: &mut Vec<String>) -> HttpRoutes {
    let mut virtual_hosts = hosts(context, port, warnings);
    virtual_hosts.push(catch_all(context.scope));
    HttpRoutes { name: port.to_string(), virtual_hosts }
}

/// The routes of a service with a listener of its own, on a port without protocol: every host is its own
/// (`getVirtualHostsForSniffedServicePort`).
pub(crate) fn of_service(context: &Context<'_>, host: &str, port: u16) -> HttpRoutes {
    let name = format!("{host}:{port}");
    let mut virtual_hosts = hosts(context, port, &mut Vec::new());
    virtual_hosts.retain(|v| v.domains.iter().any(|d| *d == name || d == host));
    if let [only] = virtual_hosts.as_mut_slice() {
        only.domains = vec!["*".to_owned()];
    }
    HttpRoutes { name, virtual_hosts }
}

/// The names that a service is called by, other than its own: with a trailing dot and, under the cluster's domain, for
/// short (`GenerateAltVirtualHosts`).
pub(crate) fn alternative_names(host: &str, namespace: &str) -> Vec<String> {
    let mut names = Vec::new();
    if host.parse::<IpAddr>().is_err() {
        names.push(format!("{host}."));
    }
    names.extend(short_names(host, namespace));
    names
}

/// `generateAltVirtualHostsForKubernetesService`: the bare name in its own namespace alone.
pub(crate) fn short_names(host: &str, namespace: &str) -> Vec<String> {
    let suffix = format!(".svc.{CLUSTER_DOMAIN}");
    let Some(service) = host.strip_suffix(&suffix) else { return Vec::new() };
    let Some((name, owner)) = service.split_once('.') else { return Vec::new() };
    let mut names = vec![service.to_owned(), format!("{service}.svc")];
    if owner == namespace {
        names.insert(0, name.to_owned());
    }
    names
}

/// The services that have a port, by host in lower case; of one host the last counts (`servicesByName`).
fn services_by_name(egress: &Egress<'_>, port: u16) -> BTreeMap<String, Service> {
    let mut found = BTreeMap::new();
    for service in &egress.services {
        if let Some(of_port) = service.port(port) {
            let host = service.host.to_ascii_lowercase();
            let ports = vec![of_port.clone()];
            found.insert(host.clone(), Service { host, ports, ..service.clone() });
        }
    }
    found
}

/// Every virtual host of a port but the catch-all, sorted by name.
fn hosts(context: &Context<'_>, port: u16, warnings: &mut Vec<String>) -> Vec<VirtualHost> {
    let Some(egress) = context.scope.egress_for(port) else { return Vec::new() };
    let services = services_by_name(egress, port);
    let mesh_retries = context.input.mesh.retries.as_ref();
    let audience = Audience {
        proxy: context.proxy,
        gateway: MESH,
        port,
        tls: false,
        service: &|host: &str| services.get(host),
        retries: mesh_retries,
    };
    let mut wrappers: Vec<Wrapper<'_>> = Vec::new();
    for (index, virtual_service) in egress.virtual_services.iter().enumerate() {
        // Istio's own words: "this is hack to keep consistent with previous behavior". On port 80 a VirtualService needs no
        // service of its host; on any other it does.
        if port != 80 && !concerns(virtual_service, &services) {
            continue;
        }
        let routes = of_virtual_service(virtual_service, &audience);
        if routes.is_empty() {
            continue;
        }
        let (names, matching) =
            separate(virtual_service, &services, &|host| egress.owners.get(host).copied() == Some(index));
        let http: Vec<&Service> = matching
            .iter()
            .flat_map(|host| services.get(host))
            .filter(|s| s.port(port).is_some_and(|p| p.protocol.is_http_or_sniffed()))
            .collect();
        // serviceByPort: without an HTTP service on the port there are virtual hosts on port 80 alone. Services that speak
        // something else are no reason either: on port 80, one of those leaves nothing.
        if http.is_empty() && port != 80 {
            continue;
        }
        wrappers.push(Wrapper { names, services: http, routes, from: Some(virtual_service) });
    }
    let owned: BTreeSet<&str> = wrappers.iter().flat_map(|w| &w.services).map(|s| s.host.as_str()).collect();
    let rest: Vec<&Service> = services.values().filter(|s| !owned.contains(s.host.as_str())).collect();
    for service in rest {
        let http = service.port(port).is_some_and(|p| p.protocol.is_http_or_sniffed());
        if http && service.resolution != Resolution::Alias {
            let cluster = super::clusters::outbound_name(port, "", &service.host);
            let routes = vec![default_route(cluster, mesh_retries)];
            wrappers.push(Wrapper { names: Vec::new(), services: vec![service], routes, from: None });
        }
    }
    let mut all = VirtualHosts::new(port, &wrappers);
    for wrapper in &wrappers {
        for name in &wrapper.names {
            let lower = name.to_ascii_lowercase();
            all.add(&lower, vec![lower.clone()], &[], wrapper, warnings);
        }
        for service in &wrapper.services {
            let (domains, alternatives) = domains_of(service, &context.proxy.namespace);
            all.add(&service.host, domains, &alternatives, wrapper, warnings);
        }
    }
    all.hosts.sort_by(|a, b| a.name.cmp(&b.name));
    all.hosts
}

/// `VirtualHostWrapper`.
struct Wrapper<'a> {
    names: Vec<String>,
    services: Vec<&'a Service>,
    routes: Vec<Route>,
    from: Option<&'a Named<VirtualService>>,
}

/// `selectVirtualServices` (httproute.go).
fn concerns(virtual_service: &Named<VirtualService>, services: &BTreeMap<String, Service>) -> bool {
    virtual_service.spec.hosts.iter().any(|host| {
        let host = host.to_ascii_lowercase();
        services.contains_key(&host)
            || services.keys().any(|s| (is_wildcard(&host) || is_wildcard(s)) && matches(&host, s))
    })
}

/// `separateVSHostsAndServices`: hosts that no service has, and the services of the others. A wildcard stands for those
/// services whose most specific host it is, and is a host of its own only where it matches none.
fn separate(
    virtual_service: &Named<VirtualService>,
    services: &BTreeMap<String, Service>,
    owns: &dyn Fn(&str) -> bool,
) -> (Vec<String>, Vec<String>) {
    let mut names = Vec::new();
    let mut found = Vec::new();
    let (wild, exact): (Vec<_>, Vec<_>) = virtual_service.spec.hosts.iter().partition(|h| is_wildcard(h));
    for host in exact {
        let lower = host.to_ascii_lowercase();
        if services.contains_key(&lower) { found.push(lower) } else { names.push(host.clone()) }
    }
    for host in wild {
        let lower = host.to_ascii_lowercase();
        let matching: Vec<&String> = services.keys().filter(|s| matches(s, &lower)).collect();
        if matching.is_empty() {
            names.push(lower);
        } else {
            found.extend(matching.into_iter().filter(|s| owns(s)).cloned());
        }
    }
    (names, found)
}

/// `generateVirtualHostDomains`: all names and addresses of a service, and which of them are alternatives.
fn domains_of(service: &Service, namespace: &str) -> (Vec<String>, Vec<String>) {
    let mut domains = Vec::new();
    let mut alternatives = Vec::new();
    let aliases = service.aliases.iter().map(|(_, host)| host);
    for host in std::iter::once(&service.host).chain(aliases) {
        let others = alternative_names(host, namespace);
        domains.push(host.clone());
        domains.extend(others.iter().cloned());
        alternatives.extend(others);
    }
    if service.resolution == Resolution::Passthrough && service.kubernetes {
        let below: Vec<String> = domains.iter().map(|d| format!("*.{d}")).collect();
        domains.extend(below);
    }
    if service.address != NO_ADDRESS {
        // `IPv6Compliant` in pilot/pkg/networking/util/util.go. A CIDR is a domain like any other.
        let is_v6 = service.address.contains(':');
        domains.push(if is_v6 { format!("[{}]", service.address) } else { service.address.clone() });
    }
    (domains, alternatives)
}

/// Virtual hosts without two of one name or two for one domain (`buildVirtualHost`, `dedupeDomains`).
struct VirtualHosts {
    port: u16,
    known: BTreeSet<String>,
    taken: BTreeSet<String>,
    hosts: Vec<VirtualHost>,
}

impl VirtualHosts {
    fn new(port: u16, wrappers: &[Wrapper<'_>]) -> Self {
        let known = wrappers.iter().flat_map(|w| &w.services).map(|s| s.host.clone()).collect();
        Self { port, known, taken: BTreeSet::new(), hosts: Vec::new() }
    }

    fn add(
        &mut self,
        host: &str,
        domains: Vec<String>,
        alternatives: &[String],
        wrapper: &Wrapper<'_>,
        warnings: &mut Vec<String>,
    ) {
        let name = format!("{host}:{}", self.port);
        let mut free = Vec::new();
        if !self.hosts.iter().any(|v| v.name == name) {
            for domain in domains {
                let squats = alternatives.contains(&domain) && self.known.contains(&domain);
                if !squats && self.taken.insert(domain.to_ascii_lowercase()) {
                    free.push(domain);
                }
            }
        }
        if free.is_empty() {
            if let Some(from) = wrapper.from {
                warnings.push(format!(
                    "{}: {host} on port {} is already routed by an older VirtualService, which is kept",
                    from.id, self.port
                ));
            }
            return;
        }
        let routes = wrapper.routes.clone();
        self.hosts.push(VirtualHost { name, domains: free, routes, require_tls: false });
    }
}

/// `buildCatchAllVirtualHost` (httproute.go).
pub(crate) fn catch_all(scope: &Scope<'_>) -> VirtualHost {
    let (name, action) = match scope.outbound {
        OutboundPolicy::AllowAny => ("allow_any", RouteAction::Forward(to_cluster(scope.unmatched.clone()))),
        OutboundPolicy::RegistryOnly => {
            ("block_all", RouteAction::DirectResponse { status: 502, body: String::new() })
        }
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route { name: name.to_owned(), matches: RouteMatch::default(), action }],
        require_tls: false,
    }
}
