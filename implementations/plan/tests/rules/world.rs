//! A small mesh to resolve manifests in, and ways to ask a plan what it does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use meshproof_model::Resource;

use crate::manifest;
use meshproof_plan::model::{
    Action, Cluster, FilterChain, Forward, Listener, OriginalDestination, Origination, PathMatch, Plan,
    ProxyPlan, Route, RouteAction, StringMatch, Transport, UpstreamTls, VirtualHost,
};
use meshproof_plan::{
    Endpoint, Inbound, Input, MeshConfig, Proxy, ProxyKind, Rejected, Resolution, Service, ServicePort,
    resolve,
};

pub(crate) const EGRESS: &str = "istio-egressgateway";
pub(crate) const INGRESS: &str = "istio-ingressgateway";
pub(crate) const SLEEP: &str = "sleep";
pub(crate) const NGINX: &str = "my-nginx.mesh-external.svc.cluster.local";

/// Everything but the resources.
pub(crate) struct World {
    pub(crate) registry: Vec<Service>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) endpoints: Vec<OriginalDestination>,
    pub(crate) mesh: MeshConfig,
}

pub(crate) fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(crate) fn identity(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

fn external(host: &str, port: u16, address: u16) -> OriginalDestination {
    OriginalDestination { host: host.to_owned(), port, address: at(address) }
}

fn gateway(name: &str, selector: &str, servers: &[(u16, u16)]) -> (Proxy, Service) {
    let proxy = Proxy {
        name: name.to_owned(),
        namespace: "istio-system".to_owned(),
        kind: ProxyKind::Gateway,
        labels: BTreeMap::from([("istio".to_owned(), selector.to_owned())]),
        identity: identity("istio-system", name),
        outbound: Vec::new(),
        addressed: Vec::new(),
        inbound: Vec::new(),
        servers: servers.iter().map(|(port, bind)| (*port, at(*bind))).collect(),
    };
    // The names that Istio's charts give the ports.
    let ports = proxy.servers.iter().map(|(number, bind)| ServicePort {
        number: *number,
        name: if *number == 443 { "https" } else { "http2" }.to_owned(),
        protocol: String::new(),
        endpoints: vec![Endpoint {
            address: *bind,
            identity: Some(proxy.identity.clone()),
            mesh_tls: false,
            labels: proxy.labels.clone(),
        }],
        ..ServicePort::default()
    });
    let service = Service {
        host: format!("{name}.istio-system.svc.cluster.local"),
        namespace: "istio-system".to_owned(),
        ports: ports.collect(),
        ..Service::default()
    };
    (proxy, service)
}

/// A service of the registry with one port.
pub(crate) fn service(
    name: &str,
    namespace: &str,
    port: (u16, &str),
    address: u16,
    identity: Option<String>,
) -> Service {
    Service {
        host: format!("{name}.{namespace}.svc.cluster.local"),
        namespace: namespace.to_owned(),
        ports: vec![ServicePort {
            number: port.0,
            name: port.1.to_owned(),
            protocol: String::new(),
            endpoints: vec![Endpoint {
                address: at(address),
                mesh_tls: identity.is_some(),
                identity,
                labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            }],
            ..ServicePort::default()
        }],
        ..Service::default()
    }
}

pub(crate) fn sidecar(name: &str, namespace: &str, outbound: &[(u16, u16)]) -> Proxy {
    Proxy {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        kind: ProxyKind::Sidecar,
        labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        identity: identity(namespace, name),
        outbound: outbound.iter().map(|(port, bind)| (*port, at(*bind))).collect(),
        addressed: Vec::new(),
        inbound: Vec::new(),
        servers: Vec::new(),
    }
}

impl World {
    /// `sleep` in `default`, both gateways, and the external services of the documents.
    pub(crate) fn new() -> Self {
        let (egress, egress_service) = gateway(EGRESS, "egressgateway", &[(80, 10_080), (443, 10_443)]);
        let (ingress, ingress_service) = gateway(INGRESS, "ingressgateway", &[(80, 11_080)]);
        Self {
            registry: vec![
                egress_service,
                ingress_service,
                service("welcome", "default", (8080, "http"), 12_080, None),
                service("my-nginx", "mesh-external", (443, ""), 20_443, None),
            ],
            proxies: vec![sidecar(SLEEP, "default", &[(80, 9_080), (443, 9_443)]), egress, ingress],
            endpoints: vec![
                external("edition.cnn.com", 80, 21_080),
                external("edition.cnn.com", 443, 21_443),
                external("www.googleapis.com", 80, 22_080),
                external("www.googleapis.com", 443, 22_443),
                external("samplebucket1234.s3.ap-southeast-2.amazonaws.com", 443, 23_443),
            ],
            mesh: MeshConfig::default(),
        }
    }

    /// `new`, and `backend` in `default`: a workload that serves port 8000 as a Service, dialled by `sleep`.
    pub(crate) fn with_backend() -> Self {
        let mut world = Self::new();
        let mut backend = sidecar("backend", "default", &[]);
        backend.inbound = vec![Inbound { port: 8000, bind: at(13_000), application: at(13_001) }];
        let id = Some(backend.identity.clone());
        let mut service = service("backend", "default", (8000, "http"), 13_000, id);
        service.ports[0].target_port = Some(8000);
        world.registry.push(service);
        world.proxies.push(backend);
        world.proxies[0].outbound.push((8000, at(9_800)));
        world
    }

    pub(crate) fn try_resolve(&self, yaml: &str) -> Result<Resolution, Rejected> {
        let resources = manifest::read(yaml);
        self.resolve_resources(&resources)
    }

    pub(crate) fn resolve_resources(&self, resources: &[Resource]) -> Result<Resolution, Rejected> {
        resolve(&Input {
            resources,
            registry: &self.registry,
            workloads: &[],
            proxies: &self.proxies,
            endpoints: &self.endpoints,
            mesh: &self.mesh,
        })
    }

    #[track_caller]
    pub(crate) fn resolve(&self, yaml: &str) -> Resolution {
        self.try_resolve(yaml).unwrap_or_else(|rejected| panic!("{rejected}"))
    }

    #[track_caller]
    pub(crate) fn refusal(&self, yaml: &str) -> Rejected {
        match self.try_resolve(yaml) {
            Err(rejected) => rejected,
            Ok(_) => panic!("accepted:\n{yaml}"),
        }
    }
}

/// Questions to a plan.
pub(crate) trait Ask {
    fn proxy(&self, name: &str) -> &ProxyPlan;

    /// What happens to `GET http://HOST PATH` at a proxy's port.
    #[track_caller]
    fn route(&self, proxy: &str, port: u16, host: &str, path: &str) -> Option<&Route> {
        let routes = http_chain(self.proxy(proxy).listener(port))?;
        let chosen = virtual_host(routes, host)?;
        chosen.routes.iter().find(|r| path_matches(&r.matches.path, path) && headers_match(r, host))
    }

    /// The single cluster that such a request goes to.
    #[track_caller]
    fn goes_to(&self, proxy: &str, port: u16, host: &str, path: &str) -> Option<&str> {
        self.forward(proxy, port, host, path).map(|f| match f.clusters.as_slice() {
            [one] => one.cluster.as_str(),
            several => panic!("{several:?}"),
        })
    }

    #[track_caller]
    fn forward(&self, proxy: &str, port: u16, host: &str, path: &str) -> Option<&Forward> {
        match &self.route(proxy, port, host, path)?.action {
            RouteAction::Forward(forward) => Some(forward),
            RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => None,
        }
    }

    /// The status that such a request is answered with by the proxy itself.
    #[track_caller]
    fn answers(&self, proxy: &str, port: u16, host: &str) -> Option<u16> {
        match &self.route(proxy, port, host, "/")?.action {
            RouteAction::DirectResponse { status, .. } | RouteAction::Redirect { status, .. } => {
                Some(*status)
            }
            RouteAction::Forward(_) => None,
        }
    }

    /// The cluster that a TLS connection with this server name is passed on to.
    #[track_caller]
    fn tls_goes_to(&self, proxy: &str, port: u16, sni: &str) -> Option<&str> {
        let chain = self.proxy(proxy).listener(port).chains.iter().find(|c| takes_tls(c, sni))?;
        match &chain.action {
            Action::Tcp { cluster } => Some(cluster),
            Action::Http(_) | Action::TcpWeighted(_) => None,
        }
    }

    /// How a proxy's cluster originates TLS.
    #[track_caller]
    fn origination(&self, proxy: &str, cluster: &str) -> &Origination {
        match &self.cluster(proxy, cluster).tls {
            Some(UpstreamTls::Originate(origination)) => origination,
            other => panic!("{cluster} of {proxy}: {other:?}"),
        }
    }

    #[track_caller]
    fn cluster(&self, proxy: &str, cluster: &str) -> &Cluster {
        let plan = self.proxy(proxy);
        let names: Vec<&str> = plan.clusters.iter().map(|c| c.name.as_str()).collect();
        plan.cluster(cluster).unwrap_or_else(|| panic!("{proxy} has no {cluster}, only {names:?}"))
    }
}

impl Ask for Plan {
    fn proxy(&self, name: &str) -> &ProxyPlan {
        self.proxies.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no proxy {name}"))
    }
}

pub(crate) trait Listeners {
    fn listener(&self, port: u16) -> &Listener;
}

impl Listeners for ProxyPlan {
    #[track_caller]
    fn listener(&self, port: u16) -> &Listener {
        self.listeners
            .iter()
            .find(|l| l.port == port)
            .unwrap_or_else(|| panic!("no listener for port {port}"))
    }
}

pub(crate) fn takes_tls(chain: &FilterChain, sni: &str) -> bool {
    let names = &chain.matches.server_names;
    let named = |n: &String| n == sni || n.strip_prefix('*').is_some_and(|suffix| sni.ends_with(suffix));
    chain.matches.transport != Transport::Plain && (names.is_empty() || names.iter().any(named))
}

fn http_chain(listener: &Listener) -> Option<&[VirtualHost]> {
    listener.chains.iter().find_map(|chain| match &chain.action {
        Action::Http(http) => Some(http.virtual_hosts.as_slice()),
        Action::Tcp { .. } | Action::TcpWeighted(_) => None,
    })
}

pub(crate) fn virtual_host<'a>(hosts: &'a [VirtualHost], host: &str) -> Option<&'a VirtualHost> {
    let exact = hosts.iter().find(|v| v.domains.iter().any(|d| d == host));
    let suffix = || {
        let length = |v: &&VirtualHost| {
            let covering = v.domains.iter().filter_map(|d| d.strip_prefix('*').filter(|s| host.ends_with(s)));
            covering.map(|s| s.len() + 1).max().unwrap_or_default()
        };
        hosts.iter().max_by_key(length).filter(|v| length(v) > 0)
    };
    exact.or_else(suffix)
}

fn path_matches(matches: &PathMatch, path: &str) -> bool {
    match matches {
        PathMatch::Any => true,
        PathMatch::Prefix(prefix) => path.starts_with(prefix.as_str()),
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Regex(regex) => panic!("the tests do not run {regex}"),
    }
}

/// Only `:authority` is known of the tests' requests.
fn headers_match(route: &Route, host: &str) -> bool {
    route.matches.headers.iter().all(|(name, m)| match m {
        StringMatch::Exact(value) => name == ":authority" && value == host,
        StringMatch::Prefix(_) | StringMatch::Regex(_) | StringMatch::Present => false,
    })
}
