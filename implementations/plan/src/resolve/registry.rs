//! The services that exist, and what is behind them: Kubernetes Services and ServiceEntries
//! (`convertServices` and `convertServiceEntryToInstances` in pilot/pkg/serviceregistry/serviceentry/conversion.go,
//! `initServiceRegistry` in pilot/pkg/model/push_context.go).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::entry_addresses::plain;
use super::input::{Endpoint as InputEndpoint, Input, Service as InputService, ServicePort};
use crate::model::OriginalDestination;
use crate::resources::common::labels_match;
use crate::resources::protocol::Protocol;
use crate::resources::service_entry::{
    EntryPort, Location, Resolution as EntryResolution, ServiceEntry, WorkloadEntry,
};
use crate::resources::{Named, Resources};

/// The address of a service that has none (`constants.UnspecifiedIP`).
pub(crate) const NO_ADDRESS: &str = "0.0.0.0";

/// How addresses are found (`model.Resolution`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// istiod sends them.
    ClientSide,
    Dns,
    DnsRoundRobin,
    /// Where the application was going.
    Passthrough,
    DynamicDns,
    /// An ExternalName Service: another name for another service.
    Alias,
}

/// A service, wherever it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    /// As written. A ServiceEntry's may be a wildcard.
    pub(crate) host: String,
    pub(crate) namespace: String,
    pub(crate) kubernetes: bool,
    /// Whether it is outside the mesh, so that Istio opens no mesh TLS to it on its own.
    pub(crate) external: bool,
    pub(crate) ports: Vec<Port>,
    pub(crate) export_to: BTreeSet<String>,
    pub(crate) resolution: Resolution,
    /// An IP address, a CIDR, or [`NO_ADDRESS`].
    pub(crate) address: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) selector: BTreeMap<String, String>,
    /// `targetPort` by port, of a ServiceEntry with resolution NONE (`PassthroughTargetPorts`).
    pub(crate) overrides: BTreeMap<u16, u16>,
    /// The target of an ExternalName Service; otherwise empty.
    pub(crate) external_name: String,
    /// Other names, by ExternalName Services.
    pub(crate) aliases: Vec<(String, String)>,
    /// `networking.istio.io/dns-connect-strategy`: one address of many, tried in parallel.
    pub(crate) races: bool,
    /// Of a ServiceEntry.
    pub(crate) subject_alt_names: Vec<String>,
    pub(crate) created: usize,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
}

/// One address behind a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    /// The service's port that it is for.
    pub(crate) service_port: u16,
    pub(crate) port_name: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    /// The port by which the workload's PeerAuthentication knows it: on this machine a sidecar is bound elsewhere.
    pub(crate) workload_port: u16,
    /// Where it leads on this machine.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) namespace: String,
    pub(crate) identity: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// `security.istio.io/tlsMode: istio`.
    pub(crate) mesh_tls: bool,
    /// `locality` of a WorkloadEntry.
    pub(crate) locality: String,
    /// Of a ServiceEntry with DNS_ROUND_ROBIN.
    round_robin: bool,
}

impl Service {
    /// `GetByPort` (pilot/pkg/model/service.go): a UDP port is none.
    pub(crate) fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|p| p.number == number && p.protocol != Protocol::Udp)
    }
}

/// Everything that exists.
pub(crate) struct Registry {
    /// In order of creation (`SortServicesByCreationTime`).
    pub(crate) services: Vec<Service>,
    endpoints: BTreeMap<(String, String), Vec<Endpoint>>,
}

impl Registry {
    pub(crate) fn new(input: &Input<'_>, resources: &Resources<'_>) -> Self {
        let mut all = Self { services: Vec::new(), endpoints: BTreeMap::new() };
        // CopyEndpoints sorts by registry: External before Kubernetes.
        for entry in &resources.service_entries {
            all.add_entry(entry, input, resources);
        }
        for service in input.registry {
            all.add_kubernetes(service, input, resources);
        }
        all.services.sort_by(|a, b| {
            // Kubernetes names its Services by object, ServiceEntries by host.
            let key = |s: &Service| (s.created, !s.kubernetes, s.host.clone(), s.namespace.clone());
            key(a).cmp(&key(b))
        });
        resolve_aliases(&mut all.services);
        all
    }

    /// The addresses behind a port, of all services of this host and namespace, Kubernetes and ServiceEntries together
    /// (`ServiceEndpointsByPort` in push_context.go).
    pub(crate) fn endpoints(&self, service: &Service, port: u16) -> impl Iterator<Item = &Endpoint> {
        let key = (service.namespace.clone(), service.host.clone());
        self.endpoints.get(&key).into_iter().flatten().filter(move |e| e.service_port == port)
    }

    /// The addresses of all services of this host and namespace on ports of this name. What istiod sends over EDS is chosen
    /// by the port's name alone (`snapshotShards` in pilot/pkg/xds/endpoints/endpoint_builder.go).
    pub(crate) fn endpoints_by_port_name<'r>(
        &'r self,
        service: &Service,
        name: &'r str,
    ) -> impl Iterator<Item = &'r Endpoint> {
        let key = (service.namespace.clone(), service.host.clone());
        self.endpoints.get(&key).into_iter().flatten().filter(move |e| e.port_name == name)
    }

    /// The identities behind a service, and `subjectAltNames` of the youngest ServiceEntry of this host and namespace: what
    /// the older ones have is overwritten (`addServiceAccounts` in push_context.go).
    pub(crate) fn accounts(&self, service: &Service) -> Vec<String> {
        let key = (service.namespace.clone(), service.host.clone());
        let known = self.endpoints.get(&key).into_iter().flatten().filter_map(|e| e.identity.clone());
        let mut all: BTreeSet<String> = known.collect();
        let same = |s: &&Service| s.host == service.host && s.namespace == service.namespace;
        all.extend(self.services.iter().rfind(same).into_iter().flat_map(|s| s.subject_alt_names.clone()));
        all.into_iter().collect()
    }

    /// The service of a host and namespace: a Kubernetes Service before a ServiceEntry, the older before the younger
    /// (`HostnameAndNamespace` in push_context.go).
    pub(crate) fn service(&self, host: &str, namespace: &str) -> Option<&Service> {
        let matching = || self.services.iter().filter(|s| s.host == host && s.namespace == namespace);
        matching().find(|s| s.kubernetes).or_else(|| matching().next())
    }

    /// The namespaces that have a service of this host.
    pub(crate) fn namespaces(&self, host: &str) -> BTreeSet<&str> {
        self.services.iter().filter(|s| s.host == host).map(|s| s.namespace.as_str()).collect()
    }

    fn add_endpoint(&mut self, namespace: &str, host: &str, endpoint: Endpoint) {
        let all = self.endpoints.entry((namespace.to_owned(), host.to_owned())).or_default();
        // Of several entries with DNS_ROUND_ROBIN only the first address per port counts
        // (mergeServicesInstancesByNamespaceHost).
        if endpoint.round_robin && all.iter().any(|e| e.service_port == endpoint.service_port) {
            return;
        }
        all.push(endpoint);
    }

    /// `ConvertService` (pilot/pkg/serviceregistry/kube/conversion.go).
    fn add_kubernetes(&mut self, service: &InputService, input: &Input<'_>, resources: &Resources<'_>) {
        let external_name = service.external_name.clone().unwrap_or_default();
        let resolution = if service.headless {
            Resolution::Passthrough
        } else if external_name.is_empty() {
            Resolution::ClientSide
        } else {
            Resolution::Alias
        };
        let ports = service.ports.iter().map(|port| Port {
            number: port.number,
            name: port.name.clone(),
            protocol: if port.udp {
                Protocol::Udp
            } else {
                Protocol::of_service_port(port.number, &port.name, &port.protocol)
            },
        });
        // Every Service but these has a ClusterIP. Which one makes no difference, as long as no other has it.
        let made_up = self.services.len();
        let address = (!service.headless && external_name.is_empty()).then(|| {
            let [.., high, low] = made_up.to_be_bytes();
            service.address.clone().unwrap_or_else(|| format!("198.18.{high}.{low}"))
        });
        // Of a Service that is exported to no namespace istiod knows no endpoints (`serviceNeedsPush` in
        // pilot/pkg/serviceregistry/kube/controller/endpointslice.go); a route of its own namespace may still lead to it.
        let exported = !service.export_to.iter().any(|e| e == "~");
        for port in service.ports.iter().filter(|_| exported) {
            for endpoint in &port.endpoints {
                let endpoint = of_pod(endpoint, port, &service.namespace);
                self.add_endpoint(&service.namespace, &service.host, endpoint);
            }
            // A Service selects WorkloadEntries like pods, unless it is headless (collectWorkloadInstanceEndpoints in
            // pilot/pkg/serviceregistry/kube/controller/controller.go).
            for entry in &resources.workload_entries {
                if resolution == Resolution::ClientSide
                    && !service.selector.is_empty()
                    && entry.id.namespace == service.namespace
                    && labels_match(&service.selector, &entry.spec.labels)
                    && entry.spec.address.parse::<IpAddr>().is_ok()
                {
                    let number = entry.spec.ports.get(&port.name).copied();
                    let number = number.and_then(|n| u16::try_from(n).ok());
                    let at = number.or(port.target_port).unwrap_or(port.number);
                    let endpoint = of_workload_entry(
                        &entry.spec,
                        (port.number, &port.name),
                        at,
                        &entry.id.namespace,
                        input,
                    );
                    self.add_endpoint(&service.namespace, &service.host, endpoint);
                }
            }
        }
        self.services.push(Service {
            host: service.host.clone(),
            namespace: service.namespace.clone(),
            kubernetes: true,
            external: !external_name.is_empty(),
            ports: ports.collect(),
            export_to: service.export_to.iter().cloned().collect(),
            resolution,
            address: address.unwrap_or_else(|| NO_ADDRESS.to_owned()),
            labels: service.labels.clone(),
            selector: service.selector.clone(),
            overrides: BTreeMap::new(),
            external_name,
            aliases: Vec::new(),
            races: false,
            subject_alt_names: Vec::new(),
            created: service.created,
        });
    }

    /// `convertServices`: one service per host and address.
    fn add_entry(&mut self, entry: &Named<ServiceEntry>, input: &Input<'_>, resources: &Resources<'_>) {
        let spec = &entry.spec;
        let resolution = match spec.resolution {
            EntryResolution::None => Resolution::Passthrough,
            EntryResolution::Static => Resolution::ClientSide,
            EntryResolution::Dns => Resolution::Dns,
            EntryResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
            EntryResolution::DynamicDns => Resolution::DynamicDns,
        };
        let ports: Vec<Port> = spec
            .ports
            .iter()
            .map(|port| Port { number: port.number(), name: port.name.clone(), protocol: port.protocol() })
            .collect();
        let overrides = spec
            .ports
            .iter()
            .filter(|p| resolution == Resolution::Passthrough && p.target_port != 0)
            .filter_map(|p| Some((p.number(), u16::try_from(p.target_port).ok()?)));
        let addresses =
            if spec.addresses.is_empty() { vec![NO_ADDRESS.to_owned()] } else { plain(&spec.addresses) };
        let service = Service {
            host: String::new(),
            namespace: entry.id.namespace.clone(),
            kubernetes: false,
            external: spec.location == Location::MeshExternal,
            ports,
            export_to: spec.export_to.iter().cloned().collect(),
            resolution,
            address: String::new(),
            labels: entry.labels.clone(),
            selector: spec.workload_selector.as_ref().map(|s| s.labels.clone()).unwrap_or_default(),
            overrides: overrides.collect(),
            external_name: String::new(),
            aliases: Vec::new(),
            races: entry.annotations.get("networking.istio.io/dns-connect-strategy").map(String::as_str)
                == Some("RACE_FIRST_TCP_CONNECT"),
            subject_alt_names: spec.subject_alt_names.clone(),
            created: entry.created,
        };
        for host in &spec.hosts {
            for address in &addresses {
                self.services.push(Service {
                    host: host.clone(),
                    address: address.clone(),
                    ..service.clone()
                });
            }
            // convertServiceEntryToInstances goes through the services, so each address of the entry repeats its endpoints.
            for port in addresses.iter().flat_map(|_| &spec.ports) {
                for endpoint in entry_endpoints(entry, host, port, input, resources) {
                    self.add_endpoint(&entry.id.namespace, host, endpoint);
                }
            }
        }
    }
}

fn of_pod(endpoint: &InputEndpoint, port: &ServicePort, namespace: &str) -> Endpoint {
    Endpoint {
        service_port: port.number,
        port_name: port.name.clone(),
        address: endpoint.address.ip().to_string(),
        port: endpoint.address.port(),
        workload_port: port.target_port.unwrap_or(endpoint.address.port()),
        local: Some(endpoint.address),
        namespace: namespace.to_owned(),
        identity: endpoint.identity.clone(),
        labels: endpoint.labels.clone(),
        mesh_tls: endpoint.mesh_tls,
        locality: String::new(),
        round_robin: false,
    }
}

/// `convertWorkloadEntryToWorkloadInstance` and `getTLSModeFromWorkloadEntry`.
fn of_workload_entry(
    entry: &WorkloadEntry,
    (service_port, port_name): (u16, &str),
    port: u16,
    namespace: &str,
    input: &Input<'_>,
) -> Endpoint {
    let account = (!entry.service_account.is_empty())
        .then(|| format!("spiffe://{}/ns/{namespace}/sa/{}", input.mesh.trust_domain, entry.service_account));
    let mesh_tls = match entry.labels.get("security.istio.io/tlsMode") {
        Some(mode) => mode == "istio",
        None => account.is_some(),
    };
    let (address, port) = match entry.address.strip_prefix("unix://") {
        Some(path) => (path.to_owned(), 0),
        None => (entry.address.clone(), port),
    };
    Endpoint {
        service_port,
        port_name: port_name.to_owned(),
        local: locate(&address, port, input.endpoints),
        address,
        port,
        workload_port: port,
        namespace: namespace.to_owned(),
        identity: account,
        labels: entry.labels.clone(),
        mesh_tls,
        locality: entry.locality.clone(),
        round_robin: false,
    }
}

/// `convertServiceEntryToInstances`: the endpoint's own port, else `targetPort`, else the number. With DNS and no
/// endpoints the host itself; with a selector the workloads of the namespace.
fn entry_endpoints(
    entry: &Named<ServiceEntry>,
    host: &str,
    port: &EntryPort,
    input: &Input<'_>,
    resources: &Resources<'_>,
) -> Vec<Endpoint> {
    let spec = &entry.spec;
    let namespace = &entry.id.namespace;
    let number = port.number();
    let default_port = u16::try_from(port.target_port).ok().filter(|p| *p != 0).unwrap_or(number);
    let dns = matches!(spec.resolution, EntryResolution::Dns | EntryResolution::DnsRoundRobin);
    let port_of = |endpoint: &WorkloadEntry| {
        let own = endpoint.ports.get(&port.name).and_then(|p| u16::try_from(*p).ok());
        own.filter(|p| *p != 0).unwrap_or(default_port)
    };
    let mut found = Vec::new();
    if let Some(selector) = &spec.workload_selector {
        for pod in input.workloads {
            if pod.namespace == *namespace && labels_match(&selector.labels, &pod.labels) {
                found.push(Endpoint {
                    service_port: number,
                    port_name: port.name.clone(),
                    address: pod.address.clone(),
                    port: default_port,
                    workload_port: default_port,
                    local: locate(&pod.address, default_port, input.endpoints),
                    namespace: namespace.clone(),
                    identity: pod.identity.clone(),
                    mesh_tls: pod.labels.get("security.istio.io/tlsMode").is_some_and(|m| m == "istio"),
                    labels: pod.labels.clone(),
                    locality: String::new(),
                    round_robin: false,
                });
            }
        }
        for selected in &resources.workload_entries {
            let is_ip = selected.spec.address.parse::<IpAddr>().is_ok();
            if selected.id.namespace == *namespace
                && labels_match(&selector.labels, &selected.spec.labels)
                && (is_ip || dns)
            {
                let at = port_of(&selected.spec);
                found.push(of_workload_entry(&selected.spec, (number, &port.name), at, namespace, input));
            }
        }
    } else if spec.endpoints.is_empty() && dns {
        found.push(Endpoint {
            service_port: number,
            port_name: port.name.clone(),
            address: host.to_owned(),
            port: default_port,
            workload_port: default_port,
            local: locate(host, default_port, input.endpoints),
            namespace: namespace.clone(),
            identity: None,
            labels: BTreeMap::new(),
            mesh_tls: false,
            locality: String::new(),
            round_robin: false,
        });
    } else {
        for endpoint in &spec.endpoints {
            found.push(of_workload_entry(
                endpoint,
                (number, &port.name),
                port_of(endpoint),
                namespace,
                input,
            ));
        }
    }
    for endpoint in &mut found {
        endpoint.round_robin = spec.resolution == EntryResolution::DnsRoundRobin;
    }
    found
}

/// Where an address of the documents leads on this machine. A loopback address is of this machine already.
pub(crate) fn locate(host: &str, port: u16, known: &[OriginalDestination]) -> Option<SocketAddr> {
    let listed = known.iter().find(|d| d.port == port && d.host.eq_ignore_ascii_case(host));
    listed.map(|d| d.address).or_else(|| {
        let ip: IpAddr = host.parse().ok()?;
        ip.is_loopback().then_some(SocketAddr::new(ip, port))
    })
}

/// `resolveServiceAliases` (push_context.go): each concrete service learns the names of its ExternalName Services, through
/// any number of steps. A loop is no name at all.
fn resolve_aliases(services: &mut [Service]) {
    let targets: BTreeMap<String, String> = services
        .iter()
        .filter(|s| s.resolution == Resolution::Alias)
        .map(|s| (s.host.clone(), s.external_name.clone()))
        .collect();
    let mut names: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for alias in services.iter().filter(|s| s.resolution == Resolution::Alias) {
        let mut seen = BTreeSet::from([alias.host.as_str()]);
        let mut target = alias.external_name.as_str();
        let concrete = loop {
            if !seen.insert(target) {
                break None;
            }
            match targets.get(target) {
                Some(next) => target = next,
                None => break Some(target),
            }
        };
        if let Some(concrete) = concrete {
            let name = (alias.namespace.clone(), alias.host.clone());
            names.entry(concrete.to_owned()).or_default().push(name);
        }
    }
    for service in services {
        if let Some(aliases) = names.get(&service.host) {
            service.aliases.clone_from(aliases);
            service.aliases.sort();
        }
    }
}
