//! Follows one request through a plan, from the socket that a client dials to the server that must receive it. Pure, and
//! written apart from the data planes, so that it can be held against what they do.
//!
//! The rules are those that the plan states ([`crate::model`]): the first filter chain that matches, the virtual host by
//! domain (an exact one before the longest suffix before `*`; Envoy, "HTTP routing", `VirtualHost.domains`), the first
//! route that matches.

mod matching;

use std::mem::take;
use std::net::SocketAddr;

use crate::model::{
    Action, Cluster, Discovery, DownstreamTls, FilterChain, Forward, HeaderChanges, HttpRoutes, Listener,
    NameCheck, Origination, PathMatch, Plan, ProxyPlan, Route, RouteAction, ServerName, UpstreamTls,
    WeightedCluster,
};

use crate::re2;
use matching::after_prefix;
pub use matching::{Asked, edit, takes, virtual_host, without_port};

/// How many proxies a request passes at most; beyond it the plan leads in a circle.
const MAX_PROXIES: usize = 8;

/// A request as its client sends it.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// The socket that the client dials.
    pub dials: SocketAddr,
    /// The server name of the client's own TLS; absent: plain text.
    pub own_tls: Option<&'a str>,
    /// Whether the client speaks HTTP. Otherwise nothing of the request but where it goes counts.
    pub http: bool,
    /// `GET`.
    pub method: &'a str,
    /// Host or `:authority`.
    pub authority: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Name in lower case, and value.
    pub headers: &'a [(String, String)],
}

/// What a plan promises for a request.
#[derive(Clone, Debug)]
pub enum Walk<'p> {
    /// A server receives it.
    Arrives(Box<Arrival<'p>>),
    /// No server receives it: a proxy answers, or closes the connection.
    Ends(End<'p>),
    /// The plan leaves it open, for example by weights; the text says what.
    Open(String),
}

/// How a request arrives at a server.
#[derive(Clone, Debug)]
pub struct Arrival<'p> {
    /// The proxies on the way, in order.
    pub way: Vec<Step<'p>>,
    /// Where the last of them connects to.
    pub address: SocketAddr,
    /// What the server sees on the connection.
    pub wire: Wire<'p>,
    /// Host or `:authority`.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Changes to the request's headers, in the order of the proxies.
    pub request_headers: Vec<&'p HeaderChanges>,
    /// Changes to the response's headers, in the order in which they are made.
    pub response_headers: Vec<&'p HeaderChanges>,
    /// The shortest time limit of the routes on the way, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// One proxy on a request's way.
#[derive(Clone, Copy, Debug)]
pub struct Step<'p> {
    /// The proxy.
    pub proxy: &'p ProxyPlan,
    /// The cluster that it sends to.
    pub cluster: &'p Cluster,
    /// The address that it connects to.
    pub upstream: SocketAddr,
    /// Whether it handles HTTP, and so logs a line for each request.
    pub http: bool,
}

/// The transport on the last connection.
#[derive(Clone, Debug)]
pub enum Wire<'p> {
    /// Plain text.
    Clear,
    /// The client's own TLS, passed through.
    OwnTls,
    /// TLS that this proxy opens.
    Originated {
        /// The proxy.
        by: &'p ProxyPlan,
        /// How.
        origination: &'p Origination,
        /// The ClientHello's server name.
        server_name: Option<String>,
        /// The names of which the server's certificate must hold one; absent: the chain alone counts.
        names: Option<Vec<String>>,
    },
    /// Mutual TLS of the mesh, to a server that terminates it itself.
    Mesh,
}

/// Where a request ends without a server.
#[derive(Clone, Debug)]
pub struct End<'p> {
    /// The proxy that ends it; absent where nothing listens.
    pub proxy: Option<&'p ProxyPlan>,
    /// The status of the proxy's answer; absent: the connection is closed, or the plan does not say.
    pub status: Option<u16>,
    /// Why, in a few words.
    pub why: String,
    /// The proxies before it, in order.
    pub way: Vec<Step<'p>>,
}

/// What travels on a connection.
#[derive(Clone)]
enum Bytes {
    Plain,
    Own(String),
    /// Mesh TLS with this server name.
    Mesh {
        server_name: String,
    },
}

/// Follows the request through the plan.
#[must_use]
pub fn walk<'p>(plan: &'p Plan, request: &ClientRequest<'_>) -> Walk<'p> {
    follow(plan, request, None).0
}

/// Follows the request through the plan, each way that it may take by the weights of a route.
#[must_use]
pub fn walks<'p>(plan: &'p Plan, request: &ClientRequest<'_>) -> Vec<Walk<'p>> {
    let (first, choices) = follow(plan, request, Some(0));
    let others = (1..choices).map(|choice| follow(plan, request, Some(choice)).0);
    std::iter::once(first).chain(others).collect()
}

/// The way with one destination of a route that has several, and how many that route has.
fn follow<'p>(plan: &'p Plan, request: &ClientRequest<'_>, choice: Option<usize>) -> (Walk<'p>, usize) {
    let mut walker = Walker {
        speaks_http: request.http,
        method: request.method,
        headers: request.headers.to_vec(),
        authority: request.authority.to_owned(),
        target: request.target.to_owned(),
        way: Vec::new(),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        timeout_ms: None,
        choice,
        choices: 1,
    };
    let walk = walker.go(plan, request);
    (walk, walker.choices)
}

fn listener_at(plan: &Plan, address: SocketAddr) -> Option<(&ProxyPlan, &Listener)> {
    plan.proxies.iter().find_map(|p| Some((p, p.listeners.iter().find(|l| l.bind == address)?)))
}

/// What happened to a request at one proxy.
enum Passed<'p> {
    Done(Walk<'p>),
    On { step: Step<'p>, bytes: Bytes, wire: Wire<'p> },
}

fn ends<'p>(proxy: &'p ProxyPlan, status: Option<u16>, why: impl Into<String>) -> Passed<'p> {
    Passed::Done(Walk::Ends(End { proxy: Some(proxy), status, why: why.into(), way: Vec::new() }))
}

struct Walker<'p, 'a> {
    speaks_http: bool,
    method: &'a str,
    headers: Vec<(String, String)>,
    authority: String,
    target: String,
    way: Vec<Step<'p>>,
    request_headers: Vec<&'p HeaderChanges>,
    response_headers: Vec<&'p HeaderChanges>,
    timeout_ms: Option<u64>,
    /// Which destination is taken where a route has several; absent: the walk is open there.
    choice: Option<usize>,
    /// How many destinations that route has.
    choices: usize,
}

impl<'p> Walker<'p, '_> {
    fn go(&mut self, plan: &'p Plan, request: &ClientRequest<'_>) -> Walk<'p> {
        let mut bytes = request.own_tls.map_or(Bytes::Plain, |name| Bytes::Own(name.to_owned()));
        let mut dialled = request.dials;
        let mut own_identities: Option<&'p [String]> = None;
        for _ in 0..MAX_PROXIES {
            let Some((proxy, listener)) = listener_at(plan, dialled) else {
                return if self.way.is_empty() {
                    let why = "no proxy listens there".to_owned();
                    Walk::Ends(End { proxy: None, status: None, why, way: Vec::new() })
                } else {
                    Walk::Open(format!("{dialled} is no proxy's"))
                };
            };
            if let Some(peers) = own_identities.take()
                && !peers.is_empty()
                && !peers.contains(&proxy.identity)
            {
                let why = format!("{} is not an identity that the configuration allows", proxy.identity);
                let from = self.way.pop().map(|step| step.proxy);
                return Walk::Ends(End { proxy: from, status: Some(503), why, way: take(&mut self.way) });
            }
            match self.pass(proxy, listener, bytes) {
                Passed::Done(Walk::Ends(end)) => return Walk::Ends(End { way: take(&mut self.way), ..end }),
                Passed::Done(walk) => return walk,
                Passed::On { step, bytes: next, wire } => {
                    self.way.push(step);
                    dialled = step.upstream;
                    if listener_at(plan, dialled).is_none() {
                        return self.arrive(dialled, wire);
                    }
                    if let Some(UpstreamTls::MeshMutual { peer_identities, .. }) = &step.cluster.tls {
                        own_identities = Some(peer_identities);
                    }
                    bytes = next;
                }
            }
        }
        Walk::Open("the plan leads in a circle".to_owned())
    }

    fn arrive(&mut self, address: SocketAddr, wire: Wire<'p>) -> Walk<'p> {
        // The answer passes the proxies in the reverse order.
        self.response_headers.reverse();
        Walk::Arrives(Box::new(Arrival {
            way: take(&mut self.way),
            address,
            wire,
            authority: take(&mut self.authority),
            target: take(&mut self.target),
            request_headers: take(&mut self.request_headers),
            response_headers: take(&mut self.response_headers),
            timeout_ms: self.timeout_ms,
        }))
    }

    fn pass(&mut self, proxy: &'p ProxyPlan, listener: &'p Listener, bytes: Bytes) -> Passed<'p> {
        let server_name = match &bytes {
            Bytes::Plain => None,
            Bytes::Own(name) | Bytes::Mesh { server_name: name } => Some(name.as_str()),
        };
        let is_tls = server_name.is_some();
        let takes = |chain: &&FilterChain| takes(chain, is_tls, server_name, self.speaks_http);
        let Some(chain) = listener.chains.iter().find(takes) else {
            return ends(proxy, None, format!("no filter chain of {} takes the connection", listener.name));
        };
        let inside = match (&chain.tls, bytes) {
            (Some(DownstreamTls::MeshMutual), Bytes::Mesh { .. }) => Bytes::Plain,
            (Some(DownstreamTls::MeshMutual), Bytes::Own(_)) => {
                return Passed::Done(Walk::Open("whether the client has an identity of the mesh".to_owned()));
            }
            (Some(DownstreamTls::MeshMutual), Bytes::Plain) => {
                return ends(proxy, None, "the listener takes only TLS of the mesh");
            }
            (Some(DownstreamTls::Own(own)), Bytes::Own(_)) if own.client_ca.is_none() => Bytes::Plain,
            (Some(DownstreamTls::Own(_)), Bytes::Own(_)) => {
                return Passed::Done(Walk::Open("whether the client has a certificate".to_owned()));
            }
            (Some(DownstreamTls::Own(_)), Bytes::Plain | Bytes::Mesh { .. }) => {
                return ends(proxy, None, "the listener takes only TLS of clients");
            }
            (None, bytes) => bytes,
        };
        match &chain.action {
            Action::Http(routes) => match inside {
                Bytes::Plain if !self.speaks_http => ends(proxy, None, "HTTP is expected"),
                Bytes::Plain => self.route(proxy, listener, routes, chain.tls.is_some()),
                Bytes::Own(_) | Bytes::Mesh { .. } => ends(proxy, None, "TLS arrives where HTTP is expected"),
            },
            Action::Tcp { cluster } => self.connect(proxy, listener, cluster, inside, false),
            Action::TcpWeighted(_) => {
                Passed::Done(Walk::Open("the listener chooses among clusters by weight".to_owned()))
            }
        }
    }

    fn route(
        &mut self,
        proxy: &'p ProxyPlan,
        listener: &'p Listener,
        routes: &'p HttpRoutes,
        secure: bool,
    ) -> Passed<'p> {
        let host = virtual_host(routes, &self.authority);
        if host.is_some_and(|host| host.require_tls) && !secure {
            return ends(proxy, Some(301), "plain requests are redirected to HTTPS");
        }
        let Some(route) = host.and_then(|host| host.routes.iter().find(|route| self.asked().matches(route)))
        else {
            return ends(proxy, Some(404), "no route takes the request");
        };
        match &route.action {
            RouteAction::DirectResponse { status, .. } => {
                ends(proxy, Some(*status), "the route answers itself")
            }
            RouteAction::Redirect { status, .. } => ends(proxy, Some(*status), "the route redirects"),
            RouteAction::Forward(forward) => {
                let weighted: Vec<_> = forward.clusters.iter().filter(|to| to.weight > 0).collect();
                let only = match (forward.clusters.as_slice(), self.choice) {
                    ([only], _) => only,
                    // At most one route of the way has several: which choices of two belong together is not known.
                    ([..], Some(choice)) if self.choices == 1 && !weighted.is_empty() => {
                        self.choices = weighted.len();
                        weighted[choice % weighted.len()]
                    }
                    ([..], _) => {
                        let why = "the route chooses among clusters by weight".to_owned();
                        return Passed::Done(Walk::Open(why));
                    }
                };
                if !forward.mirrors.is_empty() {
                    return Passed::Done(Walk::Open("the route sends copies of its requests".to_owned()));
                }
                self.rewrite(route, forward, only);
                self.connect(proxy, listener, &only.cluster, Bytes::Plain, true)
            }
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            method: self.method,
            authority: &self.authority,
            target: &self.target,
            headers: &self.headers,
        }
    }

    fn rewrite(&mut self, route: &'p Route, forward: &'p Forward, only: &'p WeightedCluster) {
        self.timeout_ms = self.timeout_ms.into_iter().chain(forward.timeout_ms).min();
        if let Some(host) = only.host_rewrite.as_ref().or(forward.host_rewrite.as_ref()) {
            self.authority.clone_from(host);
        }
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (self.target.clone(), None),
        };
        let path = match (&forward.path_rewrite, &forward.regex_rewrite) {
            (Some(with), _) => match &route.matches.path {
                PathMatch::Prefix(prefix) => {
                    let rest = after_prefix(&path, prefix, route.matches.ignore_case);
                    format!("{with}{}", rest.unwrap_or_default())
                }
                PathMatch::Any | PathMatch::Exact(_) | PathMatch::Regex(_) => with.clone(),
            },
            (None, Some(rewrite)) => {
                re2::Replacement::new(rewrite).map_or_else(|_| path.clone(), |r| r.apply(&path))
            }
            (None, None) => path,
        };
        self.target = query.map_or(path.clone(), |query| format!("{path}?{query}"));
        // Envoy evaluates a destination's own changes before those of its route.
        for changes in [&only.request_headers, &forward.request_headers] {
            edit(&mut self.headers, changes);
            if let Some((_, host)) = changes.set.iter().find(|(n, _)| n == "host" || n == ":authority") {
                self.authority.clone_from(host);
            }
            if !changes.is_empty() {
                self.request_headers.push(changes);
            }
        }
        for changes in [&forward.response_headers, &only.response_headers] {
            if !changes.is_empty() {
                self.response_headers.push(changes);
            }
        }
    }

    fn connect(
        &mut self,
        proxy: &'p ProxyPlan,
        listener: &'p Listener,
        name: &str,
        bytes: Bytes,
        http: bool,
    ) -> Passed<'p> {
        let refused = http.then_some(503);
        let Some(cluster) = proxy.cluster(name) else {
            return ends(proxy, refused, format!("the cluster {name} does not exist"));
        };
        let upstream = match &cluster.discovery {
            Discovery::Nowhere => return ends(proxy, refused, format!("{name} leads nowhere")),
            Discovery::Endpoints(endpoints) => match endpoints.as_slice() {
                [] => return ends(proxy, refused, format!("{name} has no endpoint")),
                [only] => *only,
                [..] => return Passed::Done(Walk::Open(format!("which endpoint of {name} is taken"))),
            },
            Discovery::OriginalDestination(known) => {
                let host = match &bytes {
                    Bytes::Own(server_name) => server_name.to_ascii_lowercase(),
                    Bytes::Plain if !self.speaks_http => {
                        return ends(proxy, refused, "the address that was dialled does not exist here");
                    }
                    Bytes::Plain | Bytes::Mesh { .. } => without_port(&self.authority).to_ascii_lowercase(),
                };
                match known.iter().find(|d| d.host == host && d.port == listener.port) {
                    Some(found) => found.address,
                    None => return ends(proxy, refused, format!("{host} has no address")),
                }
            }
        };
        let (bytes, wire) = match (&cluster.tls, bytes) {
            (None, Bytes::Own(name)) => (Bytes::Own(name), Wire::OwnTls),
            (None, Bytes::Plain) => (Bytes::Plain, Wire::Clear),
            (Some(UpstreamTls::MeshMutual { sni, .. }), Bytes::Plain) => {
                (Bytes::Mesh { server_name: sni.clone() }, Wire::Mesh)
            }
            (Some(UpstreamTls::Originate(origination)), Bytes::Plain) => {
                // Bytes have no host (Envoy's auto_sni and auto_san_validation are its HTTP router's).
                let host = http.then(|| without_port(&self.authority).to_owned());
                let server_name = match &origination.sni {
                    ServerName::Fixed(name) => Some(name.clone()),
                    ServerName::FromHost => host.clone(),
                    ServerName::Absent => None,
                };
                let names = match &origination.names {
                    NameCheck::FromHost => host.map(|host| vec![host]),
                    NameCheck::OneOf(names) => Some(names.clone()),
                    NameCheck::OneOfAndHost(names) if host.is_none() => Some(names.clone()),
                    NameCheck::OneOfAndHost(_) => {
                        return Passed::Done(Walk::Open("the certificate must hold two names".to_owned()));
                    }
                    NameCheck::ChainOnly => None,
                };
                (Bytes::Plain, Wire::Originated { by: proxy, origination, server_name, names })
            }
            (Some(_), Bytes::Own(_)) | (_, Bytes::Mesh { .. }) => {
                return Passed::Done(Walk::Open("TLS inside TLS".to_owned()));
            }
        };
        Passed::On { step: Step { proxy, cluster, upstream, http }, bytes, wire }
    }
}
