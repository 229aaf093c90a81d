//! The servers of all Gateways that select a proxy, as far as they are in force together
//! (`mergeGateways` in pilot/pkg/model/gateway.go).

use std::collections::{BTreeMap, BTreeSet};

use super::context::Context;
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::gateway::{Gateway, Server, ServerTlsMode};
use crate::resources::protocol::Protocol;

/// One server of a Gateway resource that selects the proxy.
#[derive(Clone)]
pub(super) struct Bound<'a> {
    pub(super) gateway: &'a Named<Gateway>,
    pub(super) server: &'a Server,
    pub(super) protocol: Protocol,
    /// The Service's port as the Gateway names it.
    pub(super) port: u16,
    /// `NAMESPACE/HOST` and `HOST` (`sanitizeServerHostNamespace`).
    pub(super) hosts: Vec<String>,
    pub(super) mode: Option<ServerTlsMode>,
}

impl Bound<'_> {
    pub(super) fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.id.namespace, self.gateway.id.name)
    }

    /// `IsPassThroughServer`.
    pub(super) fn passes_through(&self) -> bool {
        matches!(self.mode, Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough))
    }

    /// `IsTLSServer`: a redirect to HTTPS is none.
    pub(super) fn is_tls(&self) -> bool {
        self.mode.is_some() && !self.protocol.is_http()
    }

    /// `IsHTTPServer`.
    pub(super) fn is_http(&self) -> bool {
        self.protocol.is_http() || (self.protocol == Protocol::Https && !self.passes_through())
    }

    /// `gatewayRDSRouteName`.
    pub(super) fn route_name(&self, port: u16) -> String {
        let bind = if self.server.bind.is_empty() { String::new() } else { format!(".{}", self.server.bind) };
        if self.protocol.is_http() {
            return format!("http.{port}{bind}");
        }
        if self.protocol == Protocol::Https && !self.passes_through() {
            let port_name = self.server.port.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
            let id = &self.gateway.id;
            return format!("https.{}.{port_name}.{}.{}{bind}", self.port, id.name, id.namespace);
        }
        String::new()
    }

    /// Without a namespace, for VirtualServices of this namespace (`NamesForNamespace`).
    pub(super) fn hosts_for(&self, namespace: &str) -> Vec<String> {
        let of = |host: &String| match host.split_once('/') {
            Some((owner, host)) => (owner == namespace || owner == "*").then(|| host.to_owned()),
            None => Some(host.clone()),
        };
        self.hosts.iter().filter_map(of).collect()
    }

    /// `GetSNIHostsForServer`.
    pub(super) fn server_names(&self) -> Vec<String> {
        let names: BTreeSet<&str> =
            self.hosts.iter().map(|h| h.split_once('/').map_or(h.as_str(), |(_, host)| host)).collect();
        if names.contains("*") { Vec::new() } else { names.into_iter().map(str::to_owned).collect() }
    }
}

/// `sanitizeServerHostNamespace`; `*/*` makes the server one for every host.
fn sanitized(server: &Server, namespace: &str) -> Vec<String> {
    if server.hosts.iter().any(|h| h == "*/*") {
        return vec!["*".to_owned()];
    }
    let one = |host: &String| match host.split_once('/') {
        Some((".", host)) => format!("{namespace}/{host}"),
        Some(("*", host)) => host.to_owned(),
        Some(_) | None => host.clone(),
    };
    server.hosts.iter().map(one).collect()
}

/// A port, the protocol as it is written, and the bind address (`ServerPort`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerPort {
    pub(super) number: u16,
    protocol: String,
    pub(super) bind: String,
}

impl ServerPort {
    pub(super) fn protocol(&self) -> Protocol {
        Protocol::parse(&self.protocol).unwrap_or(Protocol::Tcp)
    }
}

/// The servers of one [`ServerPort`] (`MergedServers`).
pub(super) struct Group<'a> {
    pub(super) at: ServerPort,
    /// The routes of plain HTTP.
    pub(super) route_name: String,
    pub(super) servers: Vec<Bound<'a>>,
}

/// All servers that are in force (`MergedGateway`).
#[derive(Default)]
pub(super) struct Merged<'a> {
    /// In the order in which they came up.
    pub(super) groups: Vec<Group<'a>>,
    /// The servers whose VirtualServices make the routes of this name (`ServersByRouteName`).
    pub(super) by_route: BTreeMap<String, Vec<Bound<'a>>>,
    /// The last plain-text server of each port: it alone decides what a later server of the port may be.
    plain: BTreeMap<u16, ServerPort>,
    ports: BTreeSet<u16>,
    /// By port and host, the bind address of the last server with TLS that has the host.
    tls_hosts: BTreeMap<(u16, String), String>,
}

impl<'a> Merged<'a> {
    /// `mergeGateways`: the servers by the age of their Gateways, from any namespace. A Gateway without a selector selects
    /// every gateway. What is left out is said in `warnings`.
    pub(super) fn of(context: &Context<'a>, warnings: &mut Vec<String>) -> Self {
        let mut all = Self::default();
        let gateways = context.resources.gateways.iter();
        for gateway in gateways.filter(|g| labels_match(&g.spec.selector, &context.proxy.labels)) {
            for server in &gateway.spec.servers {
                let Some(written) = &server.port else { continue };
                let bound = Bound {
                    gateway,
                    server,
                    protocol: Protocol::parse(&written.protocol).unwrap_or(Protocol::Tcp),
                    port: u16::try_from(written.number).unwrap_or_default(),
                    hosts: sanitized(server, &gateway.id.namespace),
                    mode: server.tls.as_ref().map(|t| t.mode),
                };
                let at = ServerPort {
                    number: listening_port(context, bound.port),
                    protocol: written.protocol.clone(),
                    bind: server.bind.clone(),
                };
                let (id, port) = (&gateway.id, bound.port);
                if let Err(why) = all.add(bound, at) {
                    warnings.push(format!("{id}: its server on port {port} is left out: {why}"));
                }
            }
        }
        all
    }

    /// # Errors
    /// Why the server is left out.
    fn add(&mut self, bound: Bound<'a>, at: ServerPort) -> Result<(), String> {
        if bound.mode.is_some()
            && let Some(host) = self.duplicate(&bound.hosts, &at)
        {
            return Err(format!("an older server has its host {host:?}"));
        }
        let route_name = bound.route_name(at.number);
        if self.ports.insert(at.number) {
            self.found(bound, at, route_name);
            return Ok(());
        }
        match self.plain.get(&at.number).cloned() {
            Some(current) if current.bind == at.bind => {
                // canMergeProtocols.
                let known = current.protocol();
                let mergeable = (bound.protocol.is_http() || bound.protocol == known) && known.is_http();
                if !mergeable || route_name.is_empty() {
                    return Err("an older server on this port has another protocol".to_owned());
                }
                self.join(bound, &current, route_name);
            }
            Some(_) => {
                if let Some(group) = self.groups.iter_mut().find(|g| g.at == at) {
                    group.route_name.clone_from(&route_name);
                    self.join(bound, &at, route_name);
                } else {
                    self.found(bound, at, route_name);
                }
            }
            None if !bound.is_tls() => self.found(bound, at, route_name),
            None => {
                if bound.is_http() {
                    if self.by_route.contains_key(&route_name) {
                        return Err("its port name is not unique".to_owned());
                    }
                    self.by_route.insert(route_name, vec![bound.clone()]);
                }
                match self.groups.iter_mut().find(|g| g.at == at) {
                    Some(group) => group.servers.push(bound),
                    None => self.groups.push(Group { at, route_name: String::new(), servers: vec![bound] }),
                }
            }
        }
        Ok(())
    }

    /// `CheckDuplicates`: a host that a server with TLS of the same port and bind address has. A server with one is left out as
    /// a whole.
    fn duplicate(&mut self, hosts: &[String], at: &ServerPort) -> Option<String> {
        let key = |host: &String| (at.number, host.clone());
        let known = hosts.iter().find(|h| self.tls_hosts.get(&key(h)) == Some(&at.bind));
        if known.is_none() {
            self.tls_hosts.extend(hosts.iter().map(|h| (key(h), at.bind.clone())));
        }
        known.cloned()
    }

    /// `addPlainTextServer`, which is for a server with TLS as well where it is the first on its port or address.
    fn found(&mut self, bound: Bound<'a>, at: ServerPort, route_name: String) {
        if !bound.is_tls() {
            self.plain.insert(at.number, at.clone());
        }
        if bound.is_http() {
            self.by_route.insert(route_name.clone(), vec![bound.clone()]);
        }
        let servers = vec![bound];
        match self.groups.iter_mut().find(|g| g.at == at) {
            Some(group) => *group = Group { at, route_name, servers },
            None => self.groups.push(Group { at, route_name, servers }),
        }
    }

    fn join(&mut self, bound: Bound<'a>, at: &ServerPort, route_name: String) {
        self.by_route.entry(route_name).or_default().push(bound.clone());
        if let Some(group) = self.groups.iter_mut().find(|g| g.at == *at) {
            group.servers.push(bound);
        }
    }
}

/// `resolvePorts`: the target port of the first Service before the proxy that has this port, else the port itself.
fn listening_port(context: &Context<'_>, number: u16) -> u16 {
    let proxy = context.proxy;
    let selecting = context.input.registry.iter().filter(|s| {
        s.namespace == proxy.namespace
            && !s.selector.is_empty()
            && !s.labels.contains_key("experimental.istio.io/disable-gateway-port-translation")
            && labels_match(&s.selector, &proxy.labels)
    });
    let port = selecting.flat_map(|s| &s.ports).find(|p| p.number == number);
    port.and_then(|p| p.target_port).unwrap_or(number)
}
