//! What a proxy may see of the mesh (pilot/pkg/model/sidecar.go).

use std::collections::{BTreeMap, BTreeSet};

use super::clusters::outbound_name;
use super::input::{Input, OutboundPolicy, Proxy, ProxyKind};
use super::registry::{Port, Registry, Service};
use super::virtual_services::VirtualServices;
use super::visibility::{Export, exported_to};
use crate::mesh::{BLACK_HOLE, PASSTHROUGH};
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::hosts::{MESH, is_wildcard, matches, most_specific, subset_of};
use crate::resources::protocol::Protocol;
use crate::resources::sidecar::{CaptureMode, EgressListener, OutboundMode, Sidecar};
use crate::resources::virtual_service::{Destination, VirtualService};

/// What one proxy sees.
pub(crate) struct Scope<'a> {
    /// At most one per host. Clusters are made for these.
    pub(crate) services: Vec<Service>,
    /// In order; a listener without a port is the last one and stands for all ports.
    pub(crate) egress: Vec<Egress<'a>>,
    pub(crate) outbound: OutboundPolicy,
    /// The cluster that takes what no listener and no route does (`buildCatchAllVirtualHost` in httproute.go and
    /// `buildOutboundCatchAllNetworkFiltersOnly` in listener_builder.go).
    pub(crate) unmatched: String,
}

/// One egress listener of a Sidecar resource, or the one that imports everything (`IstioEgressListenerWrapper`).
pub(crate) struct Egress<'a> {
    pub(crate) port: Option<Port>,
    pub(crate) bind: String,
    /// Services of one host and namespace are not merged here.
    pub(crate) services: Vec<Service>,
    pub(crate) virtual_services: Vec<&'a Named<VirtualService>>,
    /// The VirtualService with the most specific host, by service (`mostSpecificWildcardVsIndex`).
    pub(crate) owners: BTreeMap<String, usize>,
}

/// The `hosts` of an egress listener that are for one namespace.
#[derive(Default)]
struct Imports {
    hosts: Vec<String>,
    excluded: Vec<String>,
}

impl Imports {
    /// `hostClassification.Matches`.
    fn service(&self, host: &str) -> bool {
        self.hosts.iter().any(|wanted| subset_of(host, wanted))
    }

    /// `VSMatches`: in both directions.
    fn virtual_service(&self, host: &str) -> bool {
        self.hosts.iter().any(|wanted| matches(host, wanted))
    }

    fn excludes(&self, host: &str) -> bool {
        self.excluded.iter().any(|pattern| subset_of(host, pattern))
    }
}

impl<'a> Scope<'a> {
    pub(crate) fn of(
        proxy: &Proxy,
        input: &Input<'_>,
        registry: &Registry,
        sidecars: &[Named<Sidecar>],
        virtual_services: &'a VirtualServices,
    ) -> Self {
        // A Sidecar resource is for sidecars alone.
        let sidecar = match proxy.kind {
            ProxyKind::Sidecar => sidecar_for(proxy, &input.mesh.root_namespace, sidecars),
            ProxyKind::Gateway => None,
        };
        // An absent mode is REGISTRY_ONLY, the enum's zero value; an absent policy is the mesh's.
        let outbound = match sidecar.and_then(|s| s.spec.outbound_traffic_policy.as_ref()).map(|p| p.mode) {
            Some(OutboundMode::RegistryOnly) => OutboundPolicy::RegistryOnly,
            Some(OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns) => OutboundPolicy::AllowAny,
            None => input.mesh.outbound,
        };
        let egress_proxy = sidecar
            .and_then(|s| s.spec.outbound_traffic_policy.as_ref())
            .and_then(|p| p.egress_proxy.as_ref());
        let unmatched = match (outbound, egress_proxy) {
            (OutboundPolicy::RegistryOnly, _) => BLACK_HOLE.to_owned(),
            (OutboundPolicy::AllowAny, None) => PASSTHROUGH.to_owned(),
            (OutboundPolicy::AllowAny, Some(to)) => {
                let port = to.port.as_ref().and_then(|p| u16::try_from(p.number).ok()).unwrap_or_default();
                outbound_name(port, &to.subset, &to.host)
            }
        };
        let mut scope = Self { services: Vec::new(), egress: Vec::new(), outbound, unmatched };
        let exported = exported_services(registry, input, &proxy.namespace);
        if proxy.kind == ProxyKind::Gateway {
            exported.into_iter().for_each(|s| scope.append(s));
            return scope;
        }
        let bound = virtual_services.of_gateway(&proxy.namespace, MESH);
        let everything = EgressListener { hosts: vec!["*/*".to_owned()], ..EgressListener::default() };
        let written = sidecar.map(|s| s.spec.egress.as_slice()).filter(|e| !e.is_empty());
        for listener in written.unwrap_or(std::slice::from_ref(&everything)) {
            let candidates = match exact_imports(listener, registry, input, &proxy.namespace) {
                Some(exact) => exact,
                None => exported.clone(),
            };
            scope.egress.push(Egress::of(listener, &proxy.namespace, &candidates, &bound));
        }
        scope.collect(proxy, input, registry);
        scope
    }

    pub(crate) fn service(&self, host: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.host == host)
    }

    /// The egress listener that is responsible for a port (`GetEgressListenerForRDS`).
    pub(crate) fn egress_for(&self, port: u16) -> Option<&Egress<'a>> {
        self.egress.iter().find(|e| e.port.as_ref().is_none_or(|p| p.number == port))
    }

    /// `collectImportedServices`: what the listeners import, and the destinations of imported VirtualServices, with those
    /// ports alone that a route names.
    fn collect(&mut self, proxy: &Proxy, input: &Input<'_>, registry: &Registry) {
        let mut wanted: Vec<Service> = Vec::new();
        for egress in &self.egress {
            wanted.extend(egress.services.iter().cloned());
            for virtual_service in &egress.virtual_services {
                for (host, ports) in destinations(&virtual_service.spec, &proxy.namespace) {
                    let chosen = match registry.service(&host, &proxy.namespace) {
                        Some(own) => Some(own),
                        None => best_visible(registry, input, &host, &proxy.namespace),
                    };
                    let trimmed = chosen.and_then(|s| match &egress.port {
                        Some(port) if port.protocol != Protocol::HttpProxy => with_port(s, port.number),
                        Some(_) | None => with_ports(s, &ports),
                    });
                    wanted.extend(trimmed);
                }
            }
        }
        for service in &wanted {
            self.append(service);
        }
    }

    /// `appendSidecarServices`: a Kubernetes Service beats a ServiceEntry, the older beats the younger, and ServiceEntries
    /// of one namespace are merged where they differ in nothing but ports (`canMergeServices`).
    fn append(&mut self, service: &Service) {
        let Some(existing) = self.services.iter_mut().find(|s| s.host == service.host) else {
            self.services.push(service.clone());
            return;
        };
        if existing.kubernetes && !service.kubernetes {
            return;
        }
        if !existing.kubernetes && service.kubernetes {
            *existing = service.clone();
            return;
        }
        let mergeable = existing.namespace == service.namespace
            && existing.resolution == service.resolution
            && existing.labels == service.labels
            && existing.selector == service.selector
            && existing.export_to == service.export_to;
        if mergeable {
            for port in &service.ports {
                if !existing.ports.iter().any(|p| p.number == port.number) {
                    existing.ports.push(port.clone());
                }
            }
        }
    }
}

impl<'a> Egress<'a> {
    /// `convertIstioListenerToWrapper`.
    fn of(
        listener: &EgressListener,
        namespace: &str,
        exported: &[&Service],
        bound: &[&'a Named<VirtualService>],
    ) -> Self {
        let imports = imports(listener, namespace);
        let any = imports.get("*");
        let port = listener.port.as_ref().map(|p| Port {
            number: u16::try_from(p.number).unwrap_or_default(),
            name: p.name.clone(),
            protocol: Protocol::parse(&p.protocol).unwrap_or(Protocol::Sniffed),
        });
        let matched = port.as_ref().filter(|p| p.number != 0 && p.protocol != Protocol::HttpProxy);
        let virtual_services: Vec<&Named<VirtualService>> = bound
            .iter()
            .filter(|v| {
                let own = imports.get(v.id.namespace.as_str());
                let excluded = |h: &str| own.into_iter().chain(any).any(|i| i.excludes(h));
                own.into_iter()
                    .chain(any)
                    .any(|i| v.spec.hosts.iter().any(|h| i.virtual_service(h) && !excluded(h)))
            })
            .copied()
            .collect();
        let mut services: Vec<Service> = Vec::new();
        for service in exported {
            let own = imports.get(service.namespace.as_str());
            if own.into_iter().chain(any).any(|i| i.excludes(&service.host)) {
                continue;
            }
            let import = own.into_iter().chain(any).find(|i| {
                i.service(&service.host)
                    && matched.is_none_or(|port| with_port(service, port.number).is_some())
            });
            let Some(import) = import else { continue };
            let mut found = match matched {
                Some(port) => with_port(service, port.number).unwrap_or_else(|| (*service).clone()),
                None => (*service).clone(),
            };
            found.aliases.retain(|(_, host)| import.service(host));
            services.push(found);
        }
        keep_one_namespace(&mut services, namespace);
        let owners = owners(&services, &virtual_services);
        // Without capture an application reaches the listener on loopback alone (`actualLocalHosts` in listener.go).
        let loopback = listener.bind.is_empty() && listener.capture_mode == CaptureMode::None;
        let bind = if loopback { "127.0.0.1".to_owned() } else { listener.bind.clone() };
        Self { port, bind, services, virtual_services, owners }
    }
}

fn imports(listener: &EgressListener, namespace: &str) -> BTreeMap<String, Imports> {
    let mut all: BTreeMap<String, Imports> = BTreeMap::new();
    for written in &listener.hosts {
        let Some((owner, host)) = written.split_once('/') else { continue };
        let (owner, excluded) = match owner.strip_prefix('~') {
            Some("") => ("*", true),
            Some(owner) => (owner, true),
            None => (owner, false),
        };
        let owner = if owner == "." { namespace } else { owner };
        let of_owner = all.entry(owner.to_owned()).or_default();
        let list = if excluded { &mut of_owner.excluded } else { &mut of_owner.hosts };
        list.push(host.to_owned());
    }
    all
}

/// The services that reach a namespace: those exported to it, then the public ones (`servicesExportedToNamespace`).
fn exported_services<'r>(registry: &'r Registry, input: &Input<'_>, namespace: &str) -> Vec<&'r Service> {
    let mut found: Vec<(bool, &Service)> = registry
        .services
        .iter()
        .filter_map(|s| {
            let how = exported_to(&s.export_to, &input.mesh.service_export_to, &s.namespace, namespace)?;
            Some((how == Export::Public, s))
        })
        .collect();
    found.sort_by_key(|(public, _)| *public);
    found.into_iter().map(|(_, s)| s).collect()
}

/// `servicesForExactHosts`: where a listener names each host and namespace exactly, of several services of one host and
/// namespace only the first is looked at.
fn exact_imports<'r>(
    listener: &EgressListener,
    registry: &'r Registry,
    input: &Input<'_>,
    namespace: &str,
) -> Option<Vec<&'r Service>> {
    let imports = imports(listener, namespace);
    let exact = imports
        .iter()
        .filter(|(_, i)| !i.hosts.is_empty())
        .all(|(owner, i)| owner != "*" && !i.hosts.iter().any(|h| is_wildcard(h)));
    if !exact {
        return None;
    }
    let wanted = |service: &&Service| {
        imports.get(&service.namespace).is_some_and(|i| i.hosts.contains(&service.host))
            && registry.service(&service.host, &service.namespace).is_some_and(|s| std::ptr::eq(s, *service))
            && exported_to(&service.export_to, &input.mesh.service_export_to, &service.namespace, namespace)
                .is_some()
    };
    Some(registry.services.iter().filter(wanted).collect())
}

/// The last part of `selectServices`: of one host the services of one namespace alone, by preference the proxy's own, then one
/// with a Kubernetes Service.
fn keep_one_namespace(services: &mut Vec<Service>, own: &str) {
    let mut chosen: BTreeMap<String, (String, bool)> = BTreeMap::new();
    for service in services.iter() {
        let candidate = (service.namespace.clone(), service.kubernetes);
        let replaces = match chosen.get(&service.host) {
            None => true,
            Some((before, kubernetes)) => {
                service.namespace == own || (!kubernetes && service.kubernetes && before != own)
            }
        };
        if replaces {
            chosen.insert(service.host.clone(), candidate);
        }
    }
    services.retain(|s| chosen.get(&s.host).is_some_and(|(namespace, _)| *namespace == s.namespace));
}

/// `computeWildcardHostVirtualServiceIndex`: an exact host before the longest wildcard; of equals the first.
fn owners(services: &[Service], virtual_services: &[&Named<VirtualService>]) -> BTreeMap<String, usize> {
    let mut by_host: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, virtual_service) in virtual_services.iter().enumerate() {
        for host in &virtual_service.spec.hosts {
            by_host.entry(host).or_insert(index);
        }
    }
    let mut owners = BTreeMap::new();
    for service in services {
        if let Some(host) = most_specific(&service.host, by_host.keys().copied())
            && let Some(index) = by_host.get(host)
        {
            owners.insert(service.host.clone(), *index);
        }
    }
    owners
}

/// `virtualServiceDestinationsFilteredBySourceNamespace`: hosts with the ports that routes name; 0 is any port.
fn destinations(spec: &VirtualService, namespace: &str) -> Vec<(String, BTreeSet<u16>)> {
    let mut all: Vec<(String, BTreeSet<u16>)> = Vec::new();
    let mut add = |to: Option<&Destination>| {
        let Some(to) = to else { return };
        let port = to.port.as_ref().and_then(|p| u16::try_from(p.number).ok()).unwrap_or(0);
        match all.iter_mut().find(|(host, _)| *host == to.host) {
            Some((_, ports)) => {
                ports.insert(port);
            }
            None => all.push((to.host.clone(), BTreeSet::from([port]))),
        }
    };
    for route in &spec.http {
        let sources: Vec<&str> =
            route.matches.iter().map(|m| m.source_namespace.as_str()).filter(|s| !s.is_empty()).collect();
        if !sources.is_empty() && !sources.contains(&namespace) {
            continue;
        }
        route.route.iter().for_each(|d| add(d.destination.as_ref()));
        add(route.mirror.as_ref());
        route.mirrors.iter().for_each(|m| add(m.destination.as_ref()));
    }
    spec.tcp.iter().flat_map(|r| &r.route).for_each(|d| add(d.destination.as_ref()));
    spec.tls.iter().flat_map(|r| &r.route).for_each(|d| add(d.destination.as_ref()));
    all
}

/// `pickBestVisibleNamespace`: a Kubernetes Service before the oldest ServiceEntry.
fn best_visible<'r>(
    registry: &'r Registry,
    input: &Input<'_>,
    host: &str,
    namespace: &str,
) -> Option<&'r Service> {
    let mut visible: Vec<&Service> = registry
        .namespaces(host)
        .into_iter()
        .filter_map(|ns| registry.service(host, ns))
        .filter(|s| {
            exported_to(&s.export_to, &input.mesh.service_export_to, &s.namespace, namespace).is_some()
        })
        .collect();
    visible.sort_by_key(|s| {
        let place = registry.services.iter().position(|other| std::ptr::eq(other, *s));
        (!s.kubernetes, place)
    });
    visible.first().copied()
}

/// `serviceMatchingListenerPort`.
fn with_port(service: &Service, number: u16) -> Option<Service> {
    let port = service.port(number)?.clone();
    Some(Service { ports: vec![port], ..service.clone() })
}

/// `serviceMatchingVirtualServicePorts`.
fn with_ports(service: &Service, wanted: &BTreeSet<u16>) -> Option<Service> {
    if wanted.is_empty() || wanted.contains(&0) {
        return Some(service.clone());
    }
    let ports: Vec<Port> = service.ports.iter().filter(|p| wanted.contains(&p.number)).cloned().collect();
    (!ports.is_empty()).then(|| Service { ports, ..service.clone() })
}

/// The Sidecar that a workload is under: with a matching selector, else its namespace's, else the root namespace's; of
/// equals the oldest (`doGetSidecarScope` and `initSidecarScopes` in push_context.go).
fn sidecar_for<'a>(proxy: &Proxy, root: &str, sidecars: &'a [Named<Sidecar>]) -> Option<&'a Named<Sidecar>> {
    let own = || sidecars.iter().filter(|s| s.id.namespace == proxy.namespace);
    own()
        .find(|s| s.spec.workload_selector.as_ref().is_some_and(|w| labels_match(&w.labels, &proxy.labels)))
        .or_else(|| own().find(|s| s.spec.workload_selector.is_none()))
        .or_else(|| sidecars.iter().find(|s| s.id.namespace == root && s.spec.workload_selector.is_none()))
}
