//! A gateway's listeners (pilot/pkg/networking/core/gateway.go).

use std::collections::BTreeMap;

use super::context::Context;
use super::gateway_merge::{Bound, Group, Merged, ServerPort};
use super::registry::NO_ADDRESS;
use super::routes::{Audience, catch_alls_last, of_virtual_service, tcp_action};
use crate::mesh::{Addressed, Bind, MeshChain, MeshListener};
use crate::model::{
    Action, ClientCertificate, DownstreamTls, HttpRoutes, ServerTls as PlannedTls, TlsVersion, Trust,
    VirtualHost,
};
use crate::resources::Named;
use crate::resources::gateway::{ServerTls, ServerTlsMode, TlsProtocol};
use crate::resources::hosts::{intersection, matches, subset_of};
use crate::resources::protocol::Protocol;
use crate::resources::virtual_service::VirtualService;

/// By port, the server names of TLS matches, each with the bind address of the last server that has it.
type SniHosts = BTreeMap<u16, BTreeMap<String, String>>;

/// `buildGatewayListeners`.
pub(crate) fn listeners(context: &Context<'_>, warnings: &mut Vec<String>) -> Vec<MeshListener> {
    let merged = Merged::of(context, warnings);
    let mut listeners: Vec<MeshListener> = Vec::new();
    let mut sni_hosts = SniHosts::new();
    for group in &merged.groups {
        let chains = chains(context, &merged, group, &mut sni_hosts, warnings);
        let ServerPort { number: port, bind, .. } = &group.at;
        let bind = if matches!(bind.as_str(), "" | NO_ADDRESS) {
            Bind::Wildcard
        } else {
            Bind::Address(bind.clone(), Addressed { host: bind.clone(), kubernetes: false })
        };
        match listeners.iter_mut().find(|l| l.port == *port && l.bind == bind) {
            Some(listener) => listener.chains.extend(chains),
            None => listeners.push(MeshListener { bind, port: *port, chains }),
        }
    }
    // A listener without a chain is not sent.
    listeners.retain(|l| !l.chains.is_empty());
    for listener in &mut listeners {
        // istiod takes `a/host` and `host` for two hosts and sends two chains of one condition, and Envoy refuses the
        // whole listener. The plan keeps the last of them.
        let mut seen: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        let mut kept: Vec<MeshChain> = Vec::new();
        for chain in std::mem::take(&mut listener.chains).into_iter().rev() {
            let condition = (chain.server_names.clone(), chain.cidrs.clone());
            if seen.contains(&condition) {
                warnings.push(format!(
                    "port {}: two servers take TLS for {:?}, so Envoy refuses the listener",
                    listener.port,
                    chain.server_names.join(", ")
                ));
            } else {
                kept.push(chain);
            }
            seen.push(condition);
        }
        kept.reverse();
        listener.chains = kept;
    }
    listeners
}

/// `buildGatewayTCPBasedFilterChains`.
fn chains(
    context: &Context<'_>,
    merged: &Merged<'_>,
    group: &Group<'_>,
    sni_hosts: &mut SniHosts,
    warnings: &mut Vec<String>,
) -> Vec<MeshChain> {
    if group.at.protocol().is_http() {
        let servers = merged.by_route.get(&group.route_name).map_or(&[][..], Vec::as_slice);
        let routes = http_routes(context, group.route_name.clone(), servers);
        return vec![MeshChain { action: Action::Http(routes), ..MeshChain::pass("") }];
    }
    let mut chains = Vec::new();
    for bound in &group.servers {
        if bound.is_http() && bound.mode.is_some() {
            let one = std::slice::from_ref(bound);
            let routes = http_routes(context, bound.route_name(group.at.number), one);
            chains.push(MeshChain {
                server_names: bound.server_names(),
                tls: bound.server.tls.as_ref().map(termination),
                action: Action::Http(routes),
                ..MeshChain::pass("")
            });
        } else if bound.mode == Some(ServerTlsMode::AutoPassthrough) {
            chains.extend(auto_passthrough(context, bound));
        } else if bound.passes_through() {
            let known = sni_hosts.entry(group.at.number).or_default();
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

/// `BuildListenerTLSContext` (pilot/pkg/networking/core/listener.go). `caCertCredentialName` counts beside a
/// `credentialName` alone (`ApplyCredentialSDSToServerCommonTLSContext` in pilot/pkg/security/model/authentication.go).
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
    let client_ca = verifies.then(|| match names.first() {
        // It is asked for by this very name, which is a CA's by its suffix alone (isCAOnlySecret in sds.go).
        Some(_) if !tls.ca_cert_credential_name.is_empty() => {
            let name = &tls.ca_cert_credential_name;
            Trust::Credential(name.strip_suffix("-cacert").unwrap_or(name).to_owned())
        }
        Some(name) => Trust::Credential((*name).clone()),
        None => Trust::File(tls.ca_certificates.clone()),
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
    known: &mut BTreeMap<String, String>,
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
                let bind = &bound.server.bind;
                if let Some(name) = condition.sni_hosts.iter().find(|n| known.get(*n) == Some(bind)) {
                    warnings.push(format!(
                        "{}: its TLS match on port {} of {gateway} is left out: {name:?} is taken",
                        virtual_service.id, bound.port
                    ));
                    continue;
                }
                known.extend(condition.sni_hosts.iter().map(|n| (n.clone(), bind.clone())));
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
