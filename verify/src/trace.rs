//! Follows one request through the plan, with every decision that is taken on its way.
//!
//! Listeners, routes and clusters are those of istiod ([`meshproof_plan`]); which of them a request takes is Envoy's rule: the
//! first chain that matches, the virtual host by domain, the first route that matches.

use meshproof_model::ResourceId;
use meshproof_plan::mesh::{BLACK_HOLE, Bind, ClusterKind, MeshCluster, MeshEndpoint, PASSTHROUGH};
use meshproof_plan::model::{
    Action, ClientCertificate, DownstreamTls, FilterChain, Forward, HttpRoutes, Origination, PathMatch,
    Route, RouteAction, ServerName, ServerTls, Trust, UpstreamTls, WeightedCluster,
};
use meshproof_plan::walk::{Asked, virtual_host, without_port};

use crate::chains::{chain_text, takes};
use crate::faults::{fault_of, share_text};
use crate::raw::{self, ClusterName};
use crate::world::World;

pub(crate) use crate::request::{Ask, Decision, End, Hop, Layer, RouteOf, Scheme, Trace, Why};

/// How many proxies a request passes at most; beyond it the routes lead in a circle.
const MAX_PROXIES: usize = 6;

/// How many ways by weight are followed.
const MAX_WAYS: usize = 16;

/// A request on its way.
#[derive(Clone)]
struct State {
    layers: Vec<Layer>,
    authority: String,
    path: String,
    hops: Vec<Hop>,
    decisions: Vec<Decision>,
}

/// Follows requests through a world.
pub(crate) struct Tracer<'w> {
    pub(crate) world: &'w World,
}

impl<'w> Tracer<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        Self { world }
    }

    /// All ways that the request may take from a proxy: several where weights decide.
    pub(crate) fn trace(&self, proxy: usize, ask: &Ask) -> Vec<Trace> {
        let layers = match ask.scheme {
            Scheme::Https => vec![Layer::Own(ask.host.clone())],
            Scheme::Http | Scheme::Tcp => Vec::new(),
        };
        let state = State {
            layers,
            authority: ask.authority(),
            path: ask.path.clone(),
            hops: Vec::new(),
            decisions: Vec::new(),
        };
        let mut ways = Vec::new();
        self.at(proxy, self.world.listening_port(proxy, ask.port), ask, state, &mut ways);
        ways
    }

    /// The request arrives at a port of a proxy.
    fn at(&self, proxy: usize, port: u16, ask: &Ask, mut state: State, ways: &mut Vec<Trace>) {
        if ways.len() >= MAX_WAYS {
            return;
        }
        if state.hops.len() >= MAX_PROXIES {
            let end = End::Unknown("the routes lead in a circle".to_owned());
            ways.push(Trace { hops: state.hops, decisions: state.decisions, end });
            return;
        }
        if ask.scheme == Scheme::Tcp && self.world.is_sidecar(proxy) && state.layers.is_empty() {
            let cluster = self.bytes(proxy, port, ask);
            state.note(proxy, format!("port {port} takes the bytes to {cluster}"), None);
            self.connect(proxy, port, &cluster, None, false, ask, state, ways);
            return;
        }
        let Some(listener) = self.world.plans[proxy].listeners.iter().find(|l| l.port == port) else {
            if self.world.is_sidecar(proxy) {
                // virtualOutbound takes what no other listener does (pilot/pkg/networking/core/listener_builder.go).
                let cluster = self.world.configs[proxy].unmatched.clone();
                state.note(
                    proxy,
                    format!("no service is on port {port}: the connection goes to {cluster}"),
                    None,
                );
                self.connect(proxy, port, &cluster, None, false, ask, state, ways);
                return;
            }
            state.ends(ways, End::Fails { proxy, status: None, why: Why::NoListener(port) });
            return;
        };
        let outer = state.layers.last();
        let Some(chain) = listener.chains.iter().find(|c| takes(c, outer, ask.scheme)) else {
            let server_name = outer.and_then(Layer::server_name).map(str::to_owned);
            state.ends(ways, End::Fails { proxy, status: None, why: Why::NoChain { port, server_name } });
            return;
        };
        if let Some(why) = self.terminate(proxy, port, chain, &mut state) {
            state.ends(ways, End::Fails { proxy, status: None, why });
            return;
        }
        match &chain.action {
            Action::Http(routes) if state.layers.is_empty() && ask.scheme != Scheme::Tcp => {
                self.route(proxy, port, routes, chain.tls.is_some(), ask, state, ways);
            }
            Action::Http(_) => {
                let why = Why::OtherTls { port, expects: "HTTP", gets: "TLS that it does not open" };
                state.ends(ways, End::Fails { proxy, status: None, why });
            }
            Action::Tcp { cluster } => {
                let what = chain_text(chain, port);
                state.note(proxy, format!("{what} passes the connection on to {cluster}"), None);
                self.connect(proxy, port, cluster, None, false, ask, state, ways);
            }
            Action::TcpWeighted(clusters) => {
                for one in clusters {
                    self.connect(proxy, port, &one.cluster, None, false, ask, state.clone(), ways);
                }
            }
        }
    }

    /// How a gateway ends the TLS of a client that sends it this request; none: it passes it on, or takes no such connection.
    pub(crate) fn ends_tls_of(&self, gateway: usize, ask: &Ask) -> Option<&'w ServerTls> {
        let port = self.world.listening_port(gateway, ask.port);
        let listener = self.world.plans[gateway].listeners.iter().find(|l| l.port == port)?;
        let own = Layer::Own(ask.host.clone());
        let chain = listener.chains.iter().find(|c| takes(c, Some(&own), ask.scheme))?;
        chain.tls.as_ref().and_then(DownstreamTls::own)
    }

    /// Opens the outermost layer where the chain does.
    fn terminate(&self, proxy: usize, port: u16, chain: &FilterChain, state: &mut State) -> Option<Why> {
        let tls = chain.tls.as_ref()?;
        let other = |expects, gets| Some(Why::OtherTls { port, expects, gets });
        match (tls, state.layers.last()) {
            (DownstreamTls::MeshMutual, Some(Layer::Mesh(_))) => {
                state.note(proxy, format!("port {port} opens the mesh's mutual TLS"), None);
            }
            (DownstreamTls::MeshMutual, Some(Layer::Own(_) | Layer::Originated { .. })) => {
                return other("mutual TLS of the mesh", "other TLS");
            }
            (DownstreamTls::MeshMutual, None) => return other("mutual TLS of the mesh", "plain text"),
            (DownstreamTls::Own(_), None) => return other("TLS", "plain text"),
            (DownstreamTls::Own(_), Some(Layer::Mesh(_))) => {
                return other("TLS with a certificate of its own", "mutual TLS of the mesh");
            }
            (DownstreamTls::Own(own), Some(Layer::Own(_) | Layer::Originated { .. })) => {
                for certificate in &own.certificates {
                    if let ClientCertificate::Credential(name) = certificate
                        && let Some(lacks) = self.lacks(proxy, name, true, false)
                    {
                        return Some(Why::Credential { name: name.clone(), lacks });
                    }
                }
                state.note(proxy, format!("port {port} opens the client's TLS"), None);
            }
        }
        state.layers.pop();
        None
    }

    /// What the files' Secret of a name lacks for this proxy; none: nothing, or the files do not hold it at all.
    pub(crate) fn lacks(&self, proxy: usize, name: &str, pair: bool, ca: bool) -> Option<&'static str> {
        let of_proxy = self.world.credentials.get(&self.world.configs[proxy].name);
        let usable = of_proxy.into_iter().flatten().find(|c| c.name == name);
        if let Some(usable) = usable {
            return if pair && (usable.certificate.is_none() || usable.key.is_none()) {
                Some("a certificate and its key (tls.crt and tls.key)")
            } else if ca && usable.ca.is_none() {
                Some("the CA's certificate (ca.crt)")
            } else {
                None
            };
        }
        let own = &self.world.proxy(proxy).namespace;
        let (kind, plain) = match name.strip_prefix("configmap://") {
            Some(path) => ("ConfigMap", path.rsplit('/').next().unwrap_or(path)),
            None => match raw::secret_of(name, own) {
                (owner, plain) if owner == own => ("Secret", plain),
                // It is not read (filterAuthorizedResources in sds.go).
                (_, _) => return Some("the Secret in the proxy's namespace"),
            },
        };
        let with_suffix = format!("{plain}-cacert");
        let there = self.world.resources().iter().filter(|r| r.kind() == kind);
        let there = there.into_iter().any(|r| r.name() == plain || r.name() == with_suffix);
        // Of a cluster, a Secret that was looked for and not found does not exist.
        let known = there || (self.world.scope.secrets && kind == "Secret" && !name.contains("://sds"));
        known.then_some("the Secret in the proxy's namespace")
    }

    /// Where bytes go from a sidecar.
    fn bytes(&self, proxy: usize, port: u16, ask: &Ask) -> String {
        let config = &self.world.configs[proxy];
        let own = config
            .listeners
            .iter()
            .find(|l| l.port == port && matches!(&l.bind, Bind::Address(_, to) if to.host == ask.host));
        let chains = own.or_else(|| config.wildcard(port)).map_or(&[][..], |l| l.chains.as_slice());
        let taken = chains.iter().find(|c| {
            !c.plain_http
                && c.tls.is_none()
                && c.cidrs.is_empty()
                && (c.server_names.is_empty() || c.server_names.iter().any(|n| n == "*"))
        });
        match taken.map(|c| &c.action) {
            Some(Action::Tcp { cluster }) => cluster.clone(),
            Some(Action::TcpWeighted(several)) => {
                several.first().map(|c| c.cluster.clone()).unwrap_or_default()
            }
            Some(Action::Http(_)) | None => config.unmatched.clone(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of it is the request's state")]
    fn route(
        &self,
        proxy: usize,
        port: u16,
        routes: &'w HttpRoutes,
        tls: bool,
        ask: &Ask,
        mut state: State,
        ways: &mut Vec<Trace>,
    ) {
        let host = virtual_host(routes, &state.authority);
        if host.is_some_and(|h| h.require_tls) && !tls {
            state.note(proxy, "the server redirects plain HTTP to HTTPS (httpsRedirect)".to_owned(), None);
            state.ends(ways, End::Answered { proxy, status: 301 });
            return;
        }
        let asked = Asked {
            method: &ask.method,
            authority: &state.authority,
            target: &state.path,
            headers: &ask.headers,
        };
        let taken = host.and_then(|h| h.routes.iter().find(|route| asked.matches(route)));
        let Some(route) = taken else {
            let reason = match host {
                None => format!("no virtual host of port {port} has the host {}", state.authority),
                Some(host) => format!("no route of {} takes {} {}", host.name, ask.method, state.path),
            };
            state.note(proxy, reason, None);
            state.ends(ways, End::Fails { proxy, status: Some(404), why: Why::NoRoute });
            return;
        };
        let from = self.world.route_of(&route.name);
        let because = from.as_ref().map(|r| (r.service.clone(), r.pointer()));
        let by = match &from {
            Some(route) => format!("route {route}"),
            None => format!("the default route `{}`", route.name),
        };
        if let Some((at, fault)) = from.as_ref().and_then(|route| fault_of(self.world, route)) {
            let because = Some((at.service.clone(), format!("{}/fault", at.pointer())));
            if let Some(delay) = fault.delay {
                let text = format!("{by} waits {delay} before it goes on (fault.delay)");
                state.note(proxy, text, because.clone());
            }
            if let Some((status, share)) = fault.abort {
                let aborts = format!("{by} answers {} with {status} (fault.abort)", share_text(share));
                if share >= 100.0 {
                    state.note(proxy, aborts, because);
                    state.ends(ways, End::Answered { proxy, status });
                    return;
                }
                let mut aborted = state.clone();
                aborted.note(proxy, aborts, because);
                aborted.ends(ways, End::Answered { proxy, status });
            }
        }
        match &route.action {
            RouteAction::DirectResponse { status, .. } if route.name == "block_all" => {
                let text = "no service of the sidecar's scope has this host on this port, and the mesh allows no others (REGISTRY_ONLY)";
                state.note(proxy, text.to_owned(), because);
                state.ends(ways, End::Fails { proxy, status: Some(*status), why: Why::Blocked });
            }
            RouteAction::DirectResponse { status, .. } => {
                state.note(proxy, format!("{by} answers with {status}"), because);
                state.ends(ways, End::Answered { proxy, status: *status });
            }
            RouteAction::Redirect { status, .. } => {
                state.note(proxy, format!("{by} redirects with {status}"), because);
                state.ends(ways, End::Answered { proxy, status: *status });
            }
            RouteAction::Forward(forward) => {
                for one in &forward.clusters {
                    let mut state = state.clone();
                    let text = format!("{by} takes it, to {}", one.cluster);
                    state.note(proxy, text, because.clone());
                    rewrite(&mut state, route, forward, one, proxy, because.as_ref());
                    let from = from.clone();
                    self.connect(proxy, port, &one.cluster, from, true, ask, state, ways);
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of it is the request's state")]
    fn connect(
        &self,
        proxy: usize,
        port: u16,
        name: &str,
        route: Option<RouteOf>,
        http: bool,
        ask: &Ask,
        mut state: State,
        ways: &mut Vec<Trace>,
    ) {
        state.hops.push(Hop {
            proxy,
            route,
            cluster: name.to_owned(),
            http,
            authority: state.authority.clone(),
        });
        let status = http.then_some(503);
        let config = &self.world.configs[proxy];
        let Some(cluster) = config.clusters.get(name) else {
            state.note(proxy, format!("there is no cluster {name}"), None);
            state.ends(ways, End::Fails { proxy, status, why: Why::NoCluster(name.to_owned()) });
            return;
        };
        if name == BLACK_HOLE {
            state.note(proxy, "nothing takes the connection, and the mesh allows no others".to_owned(), None);
            state.ends(ways, End::Fails { proxy, status: None, why: Why::Blocked });
            return;
        }
        if name == PASSTHROUGH {
            let text = "no service of the sidecar's scope has this host on this port: the request leaves as it is (ALLOW_ANY)";
            state.note(proxy, text.to_owned(), None);
        }
        let original = MeshEndpoint {
            address: ask.host.clone(),
            port: cluster.port_override.unwrap_or(port),
            local: None,
            mesh_tls: false,
        };
        let endpoints: Vec<&MeshEndpoint> = match cluster.kind {
            ClusterKind::OriginalDestination => vec![&original],
            ClusterKind::DynamicDns => vec![&original],
            ClusterKind::Static
            | ClusterKind::Endpoints
            | ClusterKind::StrictDns
            | ClusterKind::LogicalDns => distinct(&cluster.endpoints),
        };
        if endpoints.is_empty() {
            state.note(proxy, format!("{name} has no endpoint"), None);
            state.ends(ways, End::Fails { proxy, status, why: Why::NoEndpoint(name.to_owned()) });
            return;
        }
        for endpoint in endpoints {
            self.send(proxy, name, cluster, endpoint, http, ask, state.clone(), ways);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of it is the request's state")]
    fn send(
        &self,
        proxy: usize,
        name: &str,
        cluster: &MeshCluster,
        endpoint: &MeshEndpoint,
        http: bool,
        ask: &Ask,
        mut state: State,
        ways: &mut Vec<Trace>,
    ) {
        let tls = cluster.tls.as_ref().filter(|_| !cluster.tls_by_endpoint || endpoint.mesh_tls);
        let because = self.rule_of(name, cluster);
        match tls {
            None => {}
            Some(UpstreamTls::MeshMutual { sni, .. }) => {
                let text = format!("it opens the mesh's mutual TLS with server name {sni}");
                state.note(proxy, text, because);
                state.layers.push(Layer::Mesh(sni.clone()));
            }
            Some(UpstreamTls::Originate(origination)) => {
                if let Some(why) = self.missing_credential(proxy, origination) {
                    state.note(proxy, "it cannot open TLS: the credential is missing".to_owned(), because);
                    let status = http.then_some(503);
                    state.ends(ways, End::Fails { proxy, status, why });
                    return;
                }
                let server_name = match &origination.sni {
                    ServerName::Fixed(name) => Some(name.clone()),
                    ServerName::FromHost if http => Some(without_port(&state.authority).to_owned()),
                    ServerName::FromHost | ServerName::Absent => None,
                };
                let shown = server_name.as_deref().unwrap_or("none");
                state.note(proxy, format!("it opens TLS with server name {shown}"), because);
                let origination = Box::new(origination.clone());
                state.layers.push(Layer::Originated { by: proxy, server_name, origination });
            }
        }
        if let Some(next) = self.world.gateway_at(&endpoint.address) {
            let there = &self.world.configs[next].name;
            state.note(proxy, format!("it connects to {there}, port {}", endpoint.port), None);
            self.at(next, endpoint.port, ask, state, ways);
            return;
        }
        let address = endpoint.address.clone();
        let because = self.entry_of(name, cluster);
        state.note(proxy, format!("it connects to {address}:{}", endpoint.port), because);
        let external = self.world.is_external(name);
        state.ends(ways, End::Arrives { address, port: endpoint.port, layers: Vec::new(), external });
    }

    fn missing_credential(&self, proxy: usize, origination: &Origination) -> Option<Why> {
        if let Some(ClientCertificate::Credential(name)) = &origination.client_certificate
            && let Some(lacks) = self.lacks(proxy, name, true, false)
        {
            return Some(Why::Credential { name: name.clone(), lacks });
        }
        if let Trust::Credential(name) = &origination.trust
            && let Some(lacks) = self.lacks(proxy, name, false, true)
        {
            return Some(Why::Credential { name: name.clone(), lacks });
        }
        None
    }

    /// The TLS settings that a cluster follows.
    pub(crate) fn rule_of(&self, name: &str, cluster: &MeshCluster) -> Option<(ResourceId, String)> {
        let parsed = ClusterName::parse(name)?;
        cluster.rules.iter().find_map(|id| {
            let rule = self.world.get(id)?;
            Some((id.clone(), raw::tls_pointer(&rule.0, parsed.port, parsed.subset)?))
        })
    }

    /// The port of the ServiceEntry that a cluster is made from.
    fn entry_of(&self, name: &str, cluster: &MeshCluster) -> Option<(ResourceId, String)> {
        let parsed = ClusterName::parse(name)?;
        self.world.entries(parsed.host, &cluster.namespace).find_map(|entry| {
            let port = raw::items(&entry.0, "/spec/ports")
                .into_iter()
                .find(|(_, p)| raw::port(p, "/number") == Some(parsed.port))?;
            Some((entry.id(), port.0))
        })
    }
}

impl State {
    fn note(&mut self, proxy: usize, text: String, because: Option<(ResourceId, String)>) {
        self.decisions.push(Decision { proxy: Some(proxy), text, because });
    }

    fn ends(self, ways: &mut Vec<Trace>, end: End) {
        let end = if let End::Arrives { address, port, external, .. } = end {
            End::Arrives { address, port, layers: self.layers, external }
        } else {
            end
        };
        ways.push(Trace { hops: self.hops, decisions: self.decisions, end });
    }
}

fn rewrite(
    state: &mut State,
    route: &Route,
    forward: &Forward,
    one: &WeightedCluster,
    proxy: usize,
    because: Option<&(ResourceId, String)>,
) {
    if let Some(host) = one.host_rewrite.as_ref().or(forward.host_rewrite.as_ref()) {
        state.authority.clone_from(host);
        state.note(proxy, format!("Host becomes {host}"), because.cloned());
    }
    if let Some(with) = &forward.path_rewrite {
        let (path, query) =
            state.path.split_once('?').map_or((state.path.as_str(), None), |(p, q)| (p, Some(q)));
        let path = match &route.matches.path {
            PathMatch::Prefix(prefix) => {
                format!("{with}{}", path.get(prefix.len()..).unwrap_or_default())
            }
            PathMatch::Any | PathMatch::Exact(_) | PathMatch::Regex(_) => with.clone(),
        };
        state.path = query.map_or(path.clone(), |q| format!("{path}?{q}"));
        state.note(proxy, format!("the path becomes {}", state.path), because.cloned());
    }
}

/// Of several addresses one per port, gateways' or others'.
fn distinct(endpoints: &[MeshEndpoint]) -> Vec<&MeshEndpoint> {
    let mut found: Vec<&MeshEndpoint> = Vec::new();
    for endpoint in endpoints {
        if !found.iter().any(|e| e.port == endpoint.port && e.mesh_tls == endpoint.mesh_tls) {
            found.push(endpoint);
        }
    }
    found
}
