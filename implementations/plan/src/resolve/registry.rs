//! The services that a proxy knows: Kubernetes services and ServiceEntries.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::input::{Input, OutboundPolicy, Proxy, ProxyKind};
use super::visibility::{Export, exported_to};
use crate::model::OriginalDestination;
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::gateway::{OutboundMode, Sidecar};
use crate::resources::hosts::{matches, subset_of};
use crate::resources::protocol::Protocol;
use crate::resources::service_entry::{EntryPort, Location, Resolution, ServiceEntry, WorkloadEntry};
use crate::resources::virtual_service::VirtualService;

/// A service, wherever it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    /// Lower case; may be a wildcard for a ServiceEntry.
    pub(crate) host: String,
    pub(crate) namespace: String,
    pub(crate) kubernetes: bool,
    /// Whether it is outside the mesh, so that no mesh TLS is opened to it on the mesh's own account.
    pub(crate) external: bool,
    pub(crate) ports: Vec<Port>,
    pub(crate) export_to: Vec<String>,
    pub(crate) resolution: Resolution,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
    pub(crate) addressing: Addressing,
}

impl Port {
    /// Whether a proxy of the mesh is behind each of its addresses.
    pub(crate) fn leads_to_proxies(&self) -> bool {
        match &self.addressing {
            Addressing::Endpoints(all) => all.iter().all(|e| e.identity.is_some()),
            Addressing::Original => false,
        }
    }
}

/// Where a port leads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Addressing {
    Endpoints(Vec<Endpoint>),
    /// Where the application was going (ServiceEntry with resolution NONE).
    Original,
}

/// One address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Service {
    pub(crate) fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|p| p.number == number)
    }
}

/// Everything that is known, Kubernetes first: its services are older than any ServiceEntry for the same host, by rule
/// (`appendSidecarServices` in pilot/pkg/model/sidecar.go).
pub(crate) fn all_services(input: &Input<'_>, entries: &[Named<ServiceEntry>]) -> Vec<Service> {
    let kubernetes = input.registry.iter().map(|service| Service {
        host: service.host.to_ascii_lowercase(),
        namespace: service.namespace.clone(),
        kubernetes: true,
        external: false,
        ports: service
            .ports
            .iter()
            .map(|port| Port {
                number: port.number,
                protocol: Protocol::of_service_port(port.number, &port.name, &port.protocol),
                addressing: Addressing::Endpoints(
                    port.endpoints
                        .iter()
                        .map(|e| Endpoint {
                            address: e.address,
                            identity: e.identity.clone(),
                            labels: labels_of(input.proxies, e.identity.as_deref()),
                        })
                        .collect(),
                ),
            })
            .collect(),
        export_to: Vec::new(),
        resolution: Resolution::Static,
    });
    let external = entries.iter().flat_map(|entry| {
        entry.spec.hosts.iter().map(|host| {
            let host = host.to_ascii_lowercase();
            Service {
                namespace: entry.id.namespace.clone(),
                kubernetes: false,
                external: entry.spec.location == Location::MeshExternal,
                ports: entry
                    .spec
                    .ports
                    .iter()
                    .map(|port| Port {
                        number: u16::try_from(port.number).unwrap_or_default(),
                        protocol: port.protocol(),
                        addressing: addressing(&entry.spec, &host, port, input.endpoints),
                    })
                    .collect(),
                export_to: entry.spec.export_to.clone(),
                resolution: entry.spec.resolution,
                host,
            }
        })
    });
    kubernetes.chain(external).collect()
}

/// The labels of the workload behind an address, known where a running proxy stands before it.
fn labels_of(proxies: &[Proxy], identity: Option<&str>) -> BTreeMap<String, String> {
    let proxy = identity.and_then(|i| proxies.iter().find(|p| p.identity == i));
    proxy.map(|p| p.labels.clone()).unwrap_or_default()
}

/// Where a ServiceEntry's port leads (`convertEndpoint` in pilot/pkg/serviceregistry/serviceentry/conversion.go): the
/// endpoint's own port, else `targetPort`, else the number; with DNS and no endpoints, at the host itself.
fn addressing(
    entry: &ServiceEntry,
    host: &str,
    port: &EntryPort,
    known: &[OriginalDestination],
) -> Addressing {
    let default_port = if port.target_port == 0 { port.number } else { port.target_port };
    let at = |address: &str, number: u32, labels: BTreeMap<String, String>| {
        let number = u16::try_from(number).ok()?;
        let address = locate(address, number, known)?;
        Some(Endpoint { address, identity: None, labels })
    };
    match entry.resolution {
        Resolution::None => Addressing::Original,
        Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns => {
            let dns = matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            if entry.endpoints.is_empty() && dns {
                return Addressing::Endpoints(at(host, default_port, BTreeMap::new()).into_iter().collect());
            }
            let endpoints = entry.endpoints.iter().filter_map(|endpoint: &WorkloadEntry| {
                let number = endpoint.ports.get(&port.name).copied().unwrap_or(default_port);
                at(&endpoint.address, number, endpoint.labels.clone())
            });
            Addressing::Endpoints(endpoints.collect())
        }
    }
}

/// Where an address of the documents leads on this machine. A loopback address is of this machine already.
fn locate(host: &str, port: u16, known: &[OriginalDestination]) -> Option<SocketAddr> {
    let listed = known.iter().find(|d| d.port == port && d.host.eq_ignore_ascii_case(host));
    listed.map(|d| d.address).or_else(|| {
        let ip: IpAddr = host.parse().ok()?;
        ip.is_loopback().then_some(SocketAddr::new(ip, port))
    })
}

/// What a proxy may see of the mesh.
pub(crate) struct Scope {
    /// At most one a host.
    pub(crate) services: Vec<Service>,
    pub(crate) outbound: OutboundPolicy,
    egress: Option<EgressHosts>,
}

/// `spec.egress.hosts` of a Sidecar: namespace (or `*`) and host.
struct EgressHosts(Vec<(String, String)>);

impl EgressHosts {
    fn allows(&self, namespace: &str, host: &str) -> bool {
        self.0.iter().any(|(ns, pattern)| (ns == "*" || ns == namespace) && subset_of(host, pattern))
    }

    /// A VirtualService is imported when any of its hosts overlaps (`selectVirtualServices` in sidecar.go).
    fn imports(&self, namespace: &str, hosts: &[String]) -> bool {
        let overlaps = |pattern: &String| hosts.iter().any(|h| matches(&h.to_ascii_lowercase(), pattern));
        self.0.iter().any(|(ns, pattern)| (ns == "*" || ns == namespace) && overlaps(pattern))
    }
}

impl Scope {
    /// The scope of a proxy: what is exported to its namespace, and of that what its Sidecar resource imports.
    pub(crate) fn of(
        proxy: &Proxy,
        input: &Input<'_>,
        all: &[Service],
        sidecars: &[Named<Sidecar>],
        virtual_services: &[Named<VirtualService>],
    ) -> Self {
        // A Sidecar resource is for sidecars alone.
        let sidecar = match proxy.kind {
            ProxyKind::Sidecar => sidecar_for(proxy, &input.mesh.root_namespace, sidecars),
            ProxyKind::Gateway => None,
        };
        let egress = sidecar.filter(|s| !s.spec.egress.is_empty()).map(egress_hosts);
        // An absent mode is REGISTRY_ONLY, the enum's zero value; an absent policy is the mesh's (convertToSidecarScope).
        let outbound = match sidecar.and_then(|s| s.spec.outbound_traffic_policy.as_ref()).map(|p| p.mode) {
            Some(OutboundMode::RegistryOnly) => OutboundPolicy::RegistryOnly,
            Some(OutboundMode::AllowAny) => OutboundPolicy::AllowAny,
            None => input.mesh.outbound,
        };
        let mut scope = Self { services: Vec::new(), outbound, egress };
        let mut exported: Vec<(Export, &Service)> = all
            .iter()
            .filter_map(|s| Some((exported_to(&s.export_to, &s.namespace, &proxy.namespace)?, s)))
            .collect();
        // Private before exported by name before public (servicesExportedToNamespace in push_context.go).
        exported.sort_by_key(|(export, _)| *export);
        let (imported, others): (Vec<_>, Vec<_>) =
            exported.into_iter().map(|(_, s)| s).partition(|s| match &scope.egress {
                None => true,
                Some(hosts) => hosts.allows(&s.namespace, &s.host),
            });
        if scope.egress.is_some() {
            // Among imported services of one host, that of the proxy's namespace wins (selectServices in sidecar.go).
            let own = |s: &&&Service| s.namespace == proxy.namespace;
            let first: Vec<&Service> = imported.iter().filter(own).copied().collect();
            first.into_iter().chain(imported).for_each(|s| scope.append(s));
            // The destinations of imported VirtualServices are seen too (initSidecarScopeInternalIndexes).
            let destinations: Vec<String> = virtual_services
                .iter()
                .filter(|v| scope.imports(&v.id.namespace, &v.spec.hosts))
                .flat_map(destination_hosts)
                .collect();
            let wanted = |s: &&Service| destinations.contains(&s.host);
            others.into_iter().filter(wanted).for_each(|s| scope.append(s));
        } else {
            imported.into_iter().for_each(|s| scope.append(s));
        }
        scope
    }

    /// Whether the proxy's Sidecar resource lets a VirtualService in.
    pub(crate) fn imports(&self, namespace: &str, hosts: &[String]) -> bool {
        self.egress.as_ref().is_none_or(|e| e.imports(namespace, hosts))
    }

    pub(crate) fn service(&self, host: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.host == host)
    }

    /// `appendSidecarServices` (pilot/pkg/model/sidecar.go): a Kubernetes service beats a ServiceEntry, the older beats the
    /// younger, and ServiceEntries of one namespace that differ in nothing but ports are merged.
    fn append(&mut self, service: &Service) {
        let Some(existing) = self.services.iter_mut().find(|s| s.host == service.host) else {
            self.services.push(service.clone());
            return;
        };
        if !existing.kubernetes && service.kubernetes {
            *existing = service.clone();
            return;
        }
        let mergeable = existing.kubernetes == service.kubernetes
            && existing.namespace == service.namespace
            && existing.resolution == service.resolution
            && existing.export_to == service.export_to;
        if mergeable {
            for port in &service.ports {
                if existing.port(port.number).is_none() {
                    existing.ports.push(port.clone());
                }
            }
        }
    }
}

fn destination_hosts(service: &Named<VirtualService>) -> impl Iterator<Item = String> {
    let http = service.spec.http.iter().flat_map(|r| r.route.iter().filter_map(|d| d.destination.as_ref()));
    let tls = service.spec.tls.iter().flat_map(|r| r.route.iter().filter_map(|d| d.destination.as_ref()));
    http.chain(tls).map(|d| crate::resources::hosts::qualified(&d.host, &service.id.namespace))
}

fn egress_hosts(sidecar: &Named<Sidecar>) -> EgressHosts {
    let hosts = sidecar.spec.egress.iter().flat_map(|l| &l.hosts).filter_map(|h| h.split_once('/'));
    let own = &sidecar.id.namespace;
    EgressHosts(
        hosts
            .map(|(ns, host)| {
                let ns = if ns == "." { own.clone() } else { ns.to_owned() };
                (ns, host.to_ascii_lowercase())
            })
            .collect(),
    )
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
