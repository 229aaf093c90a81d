//! A gateway's listeners (pilot/pkg/networking/core/gateway.go; `mergeGateways` in pilot/pkg/model/gateway.go).

use std::collections::{BTreeMap, BTreeSet};

use super::context::Context;
use super::registry::NO_ADDRESS;
use super::routes::{Audience, catch_alls_last, of_virtual_service, tcp_action};
use crate::mesh::{Addressed, Bind, MeshChain, MeshListener};
use crate::model::{
    Action, ClientCertificate, DownstreamTls, HttpRoutes, ServerTls as PlannedTls, TlsVersion, Trust,
    VirtualHost,
};
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::gateway::{Gateway, Server, ServerTls, ServerTlsMode, TlsProtocol};
use crate::resources::hosts::{intersection, matches, subset_of};
use crate::resources::protocol::Protocol;
use crate::resources::virtual_service::VirtualService;

/// One server of a Gateway resource that selects the proxy.
struct Bound<'a> {
    gateway: &'a Named<Gateway>,
    server: &'a Server,
    protocol: Protocol,
    /// The Service's port as the Gateway names it.
    port: u16,
    /// `NAMESPACE/HOST` and `HOST` (`sanitizeServerHostNamespace`).
    hosts: Vec<String>,
    mode: Option<ServerTlsMode>,
}

impl Bound<'_> {
    fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.id.namespace, self.gateway.id.name)
    }

    /// `IsPassThroughServer`.
    fn passes_through(&self) -> bool {
        matches!(self.mode, Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough))
    }

    /// `IsTLSServer`: a redirect to HTTPS is none.
    fn is_tls(&self) -> bool {
        self.mode.is_some() && !self.protocol.is_http()
    }

    /// `IsHTTPServer`.
    fn is_http(&self) -> bool {
        self.protocol.is_http() || (self.protocol == Protocol::Https && !self.passes_through())
    }

    /// `gatewayRDSRouteName`.
    fn route_name(&self, port: u16) -> String {
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
    fn hosts_for(&self, namespace: &str) -> Vec<String> {
        let of = |host: &String| match host.split_once('/') {
            Some((owner, host)) => (owner == namespace || owner == "*").then(|| host.to_owned()),
            None => Some(host.clone()),
        };
        self.hosts.iter().filter_map(of).collect()
    }

    /// `GetSNIHostsForServer`.
    fn server_names(&self) -> Vec<String> {
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

/// The servers of one port and bind address that are in force together (`MergedServers`).
struct Merged<'a> {
    port: u16,
    bind: String,
    protocol: Protocol,
    servers: Vec<Bound<'a>>,
}

/// `mergeGateways`: the servers of all Gateways that select the proxy, from any namespace, by age. A Gateway without a
/// selector selects every gateway.
fn merged<'a>(context: &Context<'a>, warnings: &mut Vec<String>) -> Vec<Merged<'a>> {
    let mut all: Vec<Merged<'a>> = Vec::new();
    let mut hosts_by_port: BTreeMap<(u16, String), Vec<String>> = BTreeMap::new();
    let mut https_names: BTreeSet<String> = BTreeSet::new();
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
            let port = listening_port(context, bound.port);
            let mut skip = |why: &str| {
                warnings
                    .push(format!("{}: its server on port {} is left out: {why}", gateway.id, bound.port));
            };
            // CheckDuplicates: a server with a host that an older one has is left out as a whole.
            if bound.mode.is_some() {
                let known = hosts_by_port.entry((port, server.bind.clone())).or_default();
                if let Some(host) = bound.hosts.iter().find(|h| known.contains(h)) {
                    skip(&format!("an older server has its host {host:?}"));
                    continue;
                }
                known.extend(bound.hosts.iter().cloned());
            }
            let route_name = bound.route_name(port);
            let on_port = || all.iter().filter(|m| m.port == port);
            let plain = on_port().find(|m| !m.servers.iter().any(Bound::is_tls));
            match plain.map(|m| (m.protocol, m.bind.clone())) {
                Some((protocol, bind)) if bind == server.bind => {
                    // canMergeProtocols.
                    let mergeable =
                        (bound.protocol.is_http() || bound.protocol == protocol) && protocol.is_http();
                    if !mergeable || route_name.is_empty() {
                        skip("an older server on this port has another protocol");
                        continue;
                    }
                    if let Some(m) = all.iter_mut().find(|m| m.port == port && m.bind == bind) {
                        m.servers.push(bound);
                    }
                    continue;
                }
                Some(_) => {}
                None if on_port().next().is_some()
                    && bound.is_tls()
                    && bound.is_http()
                    && !https_names.insert(route_name.clone()) =>
                {
                    skip("its port name is not unique");
                    continue;
                }
                None => {}
            }
            if bound.is_tls() && bound.is_http() {
                https_names.insert(route_name);
            }
            let same =
                |m: &&mut Merged<'_>| m.port == port && m.bind == server.bind && same_listener(m, &bound);
            match all.iter_mut().find(same) {
                Some(existing) => existing.servers.push(bound),
                None => all.push(Merged {
                    port,
                    bind: server.bind.clone(),
                    protocol: bound.protocol,
                    servers: vec![bound],
                }),
            }
        }
    }
    all
}

/// Servers of TLS share a listener, whatever their protocol.
fn same_listener(merged: &Merged<'_>, bound: &Bound<'_>) -> bool {
    merged.servers.first().is_some_and(|s| s.is_tls() == bound.is_tls())
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

/// `buildGatewayListeners`.
pub(crate) fn listeners(context: &Context<'_>, warnings: &mut Vec<String>) -> Vec<MeshListener> {
    let merged = merged(context, warnings);
    let mut listeners: Vec<MeshListener> = Vec::new();
    let mut sni_hosts: BTreeMap<(u16, String), Vec<String>> = BTreeMap::new();
    for group in &merged {
        let chains = chains(context, group, &mut sni_hosts, warnings);
        let bind = if matches!(group.bind.as_str(), "" | NO_ADDRESS) {
            Bind::Wildcard
        } else {
            Bind::Address(group.bind.clone(), Addressed { host: group.bind.clone(), kubernetes: false })
        };
        match listeners.iter_mut().find(|l| l.port == group.port && l.bind == bind) {
            Some(listener) => listener.chains.extend(chains),
            None => listeners.push(MeshListener { bind, port: group.port, chains }),
        }
    }
    // A listener without a chain is not sent.
    listeners.retain(|l| !l.chains.is_empty());
    for listener in &mut listeners {
        // Envoy refuses a listener with two chains of one condition; istiod's own check leaves such a pair only where it
        // never reaches Envoy.
        let mut seen: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        listener.chains.retain(|c| {
            let condition = (c.server_names.clone(), c.cidrs.clone());
            let new = !seen.contains(&condition);
            seen.push(condition);
            new
        });
    }
    listeners
}

/// `buildGatewayTCPBasedFilterChains`.
fn chains(
    context: &Context<'_>,
    group: &Merged<'_>,
    sni_hosts: &mut BTreeMap<(u16, String), Vec<String>>,
    warnings: &mut Vec<String>,
) -> Vec<MeshChain> {
    let Some(first) = group.servers.first() else { return Vec::new() };
    if group.protocol.is_http() {
        let routes = http_routes(context, first.route_name(group.port), &group.servers);
        return vec![MeshChain { action: Action::Http(routes), ..MeshChain::pass("") }];
    }
    let mut chains = Vec::new();
    for bound in &group.servers {
        if bound.is_http() && bound.mode.is_some() {
            let one = std::slice::from_ref(bound);
            let routes = http_routes(context, bound.route_name(group.port), one);
            chains.push(MeshChain {
                server_names: bound.server_names(),
                tls: bound.server.tls.as_ref().map(termination),
                action: Action::Http(routes),
                ..MeshChain::pass("")
            });
        } else if bound.mode == Some(ServerTlsMode::AutoPassthrough) {
            chains.extend(auto_passthrough(context, bound));
        } else if bound.passes_through() {
            let known = sni_hosts.entry((group.port, group.bind.clone())).or_default();
            chains.extend(passthrough(context, bound, known, warnings));
        } else if let Some(action) = tcp_routes(context, bound) {
            let terminates = bound.mode.is_some();
            chains.push(MeshChain {
                server_names: if terminates { bound.server_names() } else { Vec::new() },
                tls: bound.server.tls.as_ref().map(termination),
                action,
                ..MeshChain::pass("")
            });
        }
    }
    chains
}

/// `BuildListenerTLSContext`.
fn termination(tls: &ServerTls) -> DownstreamTls {
    if tls.mode == ServerTlsMode::IstioMutual {
        return DownstreamTls::MeshMutual;
    }
    let names: Vec<&String> = if tls.credential_names.is_empty() {
        Some(&tls.credential_name).filter(|n| !n.is_empty()).into_iter().collect()
    } else {
        tls.credential_names.iter().collect()
    };
    let file = |certificate: &String, key: &String| ClientCertificate::Files {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let certificates = if !names.is_empty() {
        names.iter().map(|n| ClientCertificate::Credential((*n).clone())).collect()
    } else if tls.tls_certificates.is_empty() {
        vec![file(&tls.server_certificate, &tls.private_key)]
    } else {
        tls.tls_certificates.iter().map(|c| file(&c.server_certificate, &c.private_key)).collect()
    };
    let verifies = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    let client_ca = verifies.then(|| {
        if !tls.ca_cert_credential_name.is_empty() {
            Trust::Credential(tls.ca_cert_credential_name.clone())
        } else if let Some(name) = names.first() {
            Trust::Credential((*name).clone())
        } else {
            Trust::File(tls.ca_certificates.clone())
        }
    });
    let version = |protocol: TlsProtocol| match protocol {
        TlsProtocol::Auto | TlsProtocol::Tls10 | TlsProtocol::Tls11 => None,
        TlsProtocol::Tls12 => Some(TlsVersion::Tls12),
        TlsProtocol::Tls13 => Some(TlsVersion::Tls13),
    };
    DownstreamTls::Own(PlannedTls {
        certificates,
        client_ca,
        require_client_certificate: tls.mode == ServerTlsMode::Mutual,
        client_names: tls.subject_alt_names.clone(),
        alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        min_version: version(tls.min_protocol_version),
        max_version: version(tls.max_protocol_version),
        cipher_suites: tls.usable_cipher_suites(),
    })
}

/// Whether a VirtualService and a server share a host (`pickMatchingGatewayHosts`).
fn share_host(bound: &Bound<'_>, virtual_service: &Named<VirtualService>) -> bool {
    let served = bound.hosts_for(&virtual_service.id.namespace);
    virtual_service.spec.hosts.iter().any(|h| served.iter().any(|s| matches(s, h)))
}

/// `l4SingleMatch`: source labels and namespaces do not count at a gateway.
fn l4_match(port: u32, gateways: &[String], bound: &Bound<'_>, gateway: &str) -> bool {
    (port == 0 || port == u32::from(bound.port))
        && (gateways.is_empty() || gateways.iter().any(|g| g == gateway))
}

/// `buildGatewayNetworkFiltersFromTCPRoutes`: the first route that matches takes all.
fn tcp_routes(context: &Context<'_>, bound: &Bound<'_>) -> Option<Action> {
    let gateway = bound.gateway_name();
    for virtual_service in context.virtual_services.of_gateway(&context.proxy.namespace, &gateway) {
        if !share_host(bound, virtual_service) {
            continue;
        }
        for route in virtual_service.spec.tcp.iter().filter(|r| !r.route.is_empty()) {
            let matching = route.matches.is_empty()
                || route.matches.iter().any(|m| l4_match(m.port, &m.gateways, bound, &gateway));
            if matching {
                return Some(tcp_action(&route.route, bound.port, context.scope));
            }
        }
    }
    None
}

/// `buildGatewayNetworkFiltersFromTLSRoutes`. A match with a server name that is taken on the port is left out.
fn passthrough(
    context: &Context<'_>,
    bound: &Bound<'_>,
    known: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<MeshChain> {
    let gateway = bound.gateway_name();
    let mut chains = Vec::new();
    for virtual_service in context.virtual_services.of_gateway(&context.proxy.namespace, &gateway) {
        if !share_host(bound, virtual_service) {
            continue;
        }
        for route in virtual_service.spec.tls.iter().filter(|r| !r.route.is_empty()) {
            for condition in &route.matches {
                if !l4_match(condition.port, &condition.gateways, bound, &gateway) {
                    continue;
                }
                if let Some(name) = condition.sni_hosts.iter().find(|n| known.contains(n)) {
                    warnings.push(format!(
                        "{}: its TLS match on port {} of {gateway} is left out: {name:?} is taken",
                        virtual_service.id, bound.port
                    ));
                    continue;
                }
                known.extend(condition.sni_hosts.iter().cloned());
                let mut server_names = condition.sni_hosts.clone();
                server_names.sort();
                chains.push(MeshChain {
                    server_names: if server_names.iter().any(|n| n == "*") {
                        Vec::new()
                    } else {
                        server_names
                    },
                    action: tcp_action(&route.route, bound.port, context.scope),
                    ..MeshChain::pass("")
                });
            }
        }
    }
    chains
}

/// `builtAutoPassthroughFilterChains`: one chain per cluster inside the mesh whose host the server has.
fn auto_passthrough(context: &Context<'_>, bound: &Bound<'_>) -> Vec<MeshChain> {
    let hosts: Vec<String> =
        bound.hosts.iter().map(|h| h.split_once('/').map_or(h.as_str(), |(_, h)| h).to_owned()).collect();
    let mut chains = Vec::new();
    for service in context.scope.services.iter().filter(|s| !s.external) {
        if !hosts.iter().any(|h| subset_of(&service.host, h)) {
            continue;
        }
        let rule = context.rules.for_service(context.proxy, service);
        let subsets = || rule.iter().flat_map(|r| &r.rule.spec.subsets).map(|s| s.name.as_str());
        for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
            for subset in std::iter::once("").chain(subsets()) {
                let name = super::clusters::sni_name(port.number, subset, &service.host);
                chains.push(MeshChain { server_names: vec![name.clone()], ..MeshChain::pass(name) });
            }
        }
    }
    chains
}

/// `buildGatewayHTTPRouteConfig`: where VirtualServices share a host, their routes are joined in order, and catch-alls go
/// last.
fn http_routes(context: &Context<'_>, name: String, servers: &[Bound<'_>]) -> HttpRoutes {
    let mut virtual_hosts: Vec<VirtualHost> = Vec::new();
    for bound in servers {
        let gateway = bound.gateway_name();
        let redirects = bound.server.tls.as_ref().is_some_and(|t| t.https_redirect);
        for virtual_service in context.virtual_services.of_gateway(&context.proxy.namespace, &gateway) {
            let namespace = &virtual_service.id.namespace;
            let shared = intersection(&bound.hosts_for(namespace), &virtual_service.spec.hosts);
            if shared.is_empty() {
                continue;
            }
            // buildNameToServiceMapForHTTPRoutes: the VirtualService's own namespace first.
            let service = |host: &str| {
                let own = context.registry.service(host, namespace);
                let visible = own.filter(|s| {
                    let default = &context.input.mesh.service_export_to;
                    let to = &context.proxy.namespace;
                    super::visibility::exported_to(&s.export_to, default, namespace, to).is_some()
                });
                visible.or_else(|| context.scope.service(host))
            };
            let audience = Audience {
                proxy: context.proxy,
                gateway: &gateway,
                port: bound.port,
                tls: bound.server.tls.is_some(),
                service: &service,
                retries: context.input.mesh.retries.as_ref(),
            };
            let routes = of_virtual_service(virtual_service, &audience);
            if routes.is_empty() {
                continue;
            }
            for host in shared {
                let host = host.to_ascii_lowercase();
                match virtual_hosts.iter_mut().find(|v| v.domains.contains(&host)) {
                    Some(existing) => {
                        existing.routes.extend(routes.iter().cloned());
                        existing.require_tls |= redirects;
                    }
                    None => virtual_hosts.push(VirtualHost {
                        name: format!("{host}:{}", bound.port),
                        domains: vec![host],
                        routes: routes.clone(),
                        require_tls: redirects,
                    }),
                }
            }
        }
        for host in bound.hosts.iter().filter(|_| redirects) {
            let host = host.to_ascii_lowercase();
            match virtual_hosts.iter_mut().find(|v| v.domains.contains(&host)) {
                Some(existing) => existing.require_tls = true,
                None => virtual_hosts.push(VirtualHost {
                    name: format!("{host}:{}", bound.port),
                    domains: vec![host],
                    routes: Vec::new(),
                    require_tls: true,
                }),
            }
        }
    }
    for host in &mut virtual_hosts {
        catch_alls_last(&mut host.routes);
    }
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    if virtual_hosts.is_empty() {
        // Without a VirtualService every request gets 404.
        let port = servers.first().map_or(0, |s| s.port);
        virtual_hosts.push(VirtualHost {
            name: format!("blackhole:{port}"),
            domains: vec!["*".to_owned()],
            routes: Vec::new(),
            require_tls: false,
        });
    }
    HttpRoutes { name, virtual_hosts }
}
