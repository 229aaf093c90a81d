//! The addresses of a scenario on this machine: where sidecars capture, where gateways listen, and which services are in the
//! registry.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use crate::ports;
use meshproof_harness::target::TargetError;
use meshproof_harness::topology::{Gateway, Topology, service_host};

use crate::data_plane::environment;
use meshproof_plan::resolve::{Endpoint, Inbound, Proxy, ProxyKind, Service, ServicePort};

/// The addresses of one scenario. They do not change while it runs.
pub(crate) struct Addresses {
    /// Every proxy that may run.
    pub(crate) proxies: Vec<Proxy>,
}

const TRUST_DOMAIN: &str = "cluster.local";

fn identity(namespace: &str, account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}")
}

fn address() -> Result<SocketAddr, TargetError> {
    let port = ports::take().map_err(environment)?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn numbered(ports: &[u16]) -> Result<Vec<(u16, SocketAddr)>, TargetError> {
    ports.iter().map(|port| Ok((*port, address()?))).collect()
}

impl Addresses {
    /// Gives each socket of the topology its own address.
    pub(crate) fn of(topology: &Topology) -> Result<Self, TargetError> {
        let mut proxies = Vec::new();
        for workload in &topology.workloads {
            let mut inbound = Vec::new();
            if let Some(port) = workload.serves.as_ref().map(|application| application.port) {
                let bind = address()?;
                // The application starts later; see `set_application`.
                inbound.push(Inbound { port, bind, application: bind });
            }
            let mut labels = workload.labels.clone();
            labels.insert("app".to_owned(), workload.name.clone());
            proxies.push(Proxy {
                name: workload.name.clone(),
                namespace: workload.namespace.clone(),
                kind: ProxyKind::Sidecar,
                labels,
                identity: identity(&workload.namespace, &workload.name),
                outbound: numbered(&workload.dials)?,
                addressed: workload
                    .dials_at
                    .iter()
                    .map(|(ip, port)| Ok((*ip, *port, address()?)))
                    .collect::<Result<_, TargetError>>()?,
                inbound,
                servers: Vec::new(),
            });
        }
        for gateway in &topology.gateways {
            proxies.push(Proxy {
                name: gateway.name.clone(),
                namespace: gateway.namespace.clone(),
                kind: ProxyKind::Gateway,
                labels: gateway.labels.clone(),
                identity: identity(&gateway.namespace, &format!("{}-service-account", gateway.name)),
                outbound: Vec::new(),
                addressed: Vec::new(),
                inbound: Vec::new(),
                servers: numbered(&gateway.ports)?,
            });
        }
        Ok(Self { proxies })
    }

    /// Records where the application of a workload listens.
    pub(crate) fn set_application(&mut self, workload: &str, application: SocketAddr) {
        for inbound in self.proxies.iter_mut().filter(|p| p.name == workload).flat_map(|p| &mut p.inbound) {
            inbound.application = application;
        }
    }

    pub(crate) fn proxy(&self, name: &str) -> Option<&Proxy> {
        self.proxies.iter().find(|p| p.name == name)
    }

    /// The Kubernetes services of the proxies. A service whose proxy is not `running` has no endpoints, as in a cluster whose pods
    /// are gone.
    pub(crate) fn services(&self, running: impl Fn(&str) -> bool) -> Vec<Service> {
        let mut services = Vec::new();
        for proxy in &self.proxies {
            let endpoint = |address: SocketAddr| {
                let endpoint = Endpoint {
                    address,
                    identity: Some(proxy.identity.clone()),
                    // A gateway's pods have no such label.
                    mesh_tls: proxy.kind == ProxyKind::Sidecar,
                    labels: proxy.labels.clone(),
                };
                if running(&proxy.name) { vec![endpoint] } else { Vec::new() }
            };
            let server = |&(number, address): &(u16, SocketAddr)| {
                let name = Gateway::port_name(number);
                ServicePort {
                    number,
                    name: name.to_owned(),
                    protocol: name.to_uppercase(),
                    endpoints: endpoint(address),
                    ..ServicePort::default()
                }
            };
            let application = |inbound: &Inbound| ServicePort {
                number: inbound.port,
                name: "http".to_owned(),
                protocol: "HTTP".to_owned(),
                endpoints: endpoint(inbound.bind),
                target_port: Some(inbound.port),
                udp: false,
            };
            let ports: Vec<ServicePort> =
                proxy.servers.iter().map(server).chain(proxy.inbound.iter().map(application)).collect();
            if !ports.is_empty() {
                let host = service_host(&proxy.name, &proxy.namespace);
                services.push(Service {
                    host,
                    namespace: proxy.namespace.clone(),
                    ports,
                    ..Service::default()
                });
            }
        }
        services
    }
}

/// A service without a sidecar, at this address.
pub(crate) fn plain_service(
    name: &str,
    namespace: &str,
    port: u16,
    protocol: &str,
    address: SocketAddr,
) -> Service {
    let port = ServicePort {
        number: port,
        name: protocol.to_ascii_lowercase(),
        protocol: protocol.to_owned(),
        endpoints: vec![Endpoint { address, identity: None, mesh_tls: false, labels: BTreeMap::new() }],
        ..ServicePort::default()
    };
    Service {
        host: service_host(name, namespace),
        namespace: namespace.to_owned(),
        ports: vec![port],
        ..Service::default()
    }
}

/// Name and namespace of a host that a cluster's own DNS would resolve; none for a host outside the cluster.
pub(crate) fn in_cluster(host: &str) -> Option<(&str, &str)> {
    host.strip_suffix(".svc.cluster.local")?.split_once('.')
}
