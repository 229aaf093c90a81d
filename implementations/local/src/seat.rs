//! A scenario's addresses on this machine: where sidecars capture, where gateways listen, which services the registry
//! holds.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use crate::ports;
use meshproof_harness::target::TargetError;
use meshproof_harness::topology::{Topology, service_host};

use crate::data_plane::environment;
use meshproof_plan::resolve::{Endpoint, Inbound, Proxy, ProxyKind, Service, ServicePort};

/// The addresses of one scenario. They stay the same for its length.
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
    /// Gives every socket of the topology an address of its own.
    pub(crate) fn of(topology: &Topology) -> Result<Self, TargetError> {
        let mut proxies = Vec::new();
        for workload in &topology.workloads {
            let mut inbound = Vec::new();
            if let Some(port) = workload.serves.map(|application| application.port) {
                let bind = address()?;
                // The application is started later, by itself; see `set_application`.
                inbound.push(Inbound { port, bind, application: bind });
            }
            proxies.push(Proxy {
                name: workload.name.to_owned(),
                namespace: workload.namespace.to_owned(),
                kind: ProxyKind::Sidecar,
                labels: BTreeMap::from([("app".to_owned(), workload.name.to_owned())]),
                identity: identity(workload.namespace, workload.name),
                outbound: numbered(workload.dials)?,
                inbound,
                servers: Vec::new(),
            });
        }
        for gateway in &topology.gateways {
            proxies.push(Proxy {
                name: gateway.name.to_owned(),
                namespace: gateway.namespace.to_owned(),
                kind: ProxyKind::Gateway,
                labels: gateway.labels.clone(),
                identity: identity(gateway.namespace, &format!("{}-service-account", gateway.name)),
                outbound: Vec::new(),
                inbound: Vec::new(),
                servers: numbered(gateway.ports)?,
            });
        }
        Ok(Self { proxies })
    }

    /// Notes where a workload's application listens.
    pub(crate) fn set_application(&mut self, workload: &str, application: SocketAddr) {
        for inbound in self.proxies.iter_mut().filter(|p| p.name == workload).flat_map(|p| &mut p.inbound) {
            inbound.application = application;
        }
    }

    pub(crate) fn proxy(&self, name: &str) -> Option<&Proxy> {
        self.proxies.iter().find(|p| p.name == name)
    }

    /// The Kubernetes services before the proxies. A service whose proxy is not among `running` has no endpoints, as in a
    /// cluster where its pods are gone.
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
            // The port names of Istio's gateway charts decide the protocols that its sidecars assume.
            let server = |&(number, address): &(u16, SocketAddr)| {
                let (name, protocol) = if number == 443 { ("https", "HTTPS") } else { ("http2", "HTTP2") };
                ServicePort {
                    number,
                    name: name.to_owned(),
                    protocol: protocol.to_owned(),
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

/// Name and namespace of a host that the cluster's own DNS would resolve; none for a host outside.
pub(crate) fn in_cluster(host: &str) -> Option<(&str, &str)> {
    host.strip_suffix(".svc.cluster.local")?.split_once('.')
}
