//! A sidecar's outbound listeners (pilot/pkg/networking/core/listener.go and tls.go).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::context::Context;
use super::registry::{NO_ADDRESS, Port, Resolution, Service};
use super::routes::tcp_action;
use super::scope::Egress;
use super::virtual_hosts;
use crate::mesh::{Addressed, Bind, MeshChain, MeshListener};
use crate::model::Action;
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::hosts::{MESH, is_wildcard, matches};
use crate::resources::protocol::Protocol;
use crate::resources::virtual_service::{L4Match, VirtualService};

/// What a listener speaks while it is being built; `Sniffed` once it has chains of both kinds.
struct Entry {
    bind: Bind,
    protocol: Protocol,
    /// Made by an egress listener with a port, and closed for others.
    locked: bool,
    chains: Vec<Opts>,
}

/// A chain whose routes are not made yet.
#[derive(Clone)]
struct Opts {
    chain: MeshChain,
    /// The route configuration, for HTTP.
    routes: Option<RouteName>,
}

/// `rds` of an HTTP chain.
#[derive(Clone)]
enum RouteName {
    Port(u16),
    /// A service with an address of its own, on a port without protocol.
    Service(String, u16),
}

/// What one call of `buildSidecarOutboundListener` is for.
struct Request<'r> {
    service: &'r Service,
    port: &'r Port,
    /// Where the caller wants it bound; empty: by the service's address.
    bind: String,
    cidrs: Vec<String>,
}

/// `buildSidecarOutboundListeners`.
pub(crate) fn sidecar_outbound(context: &Context<'_>, warnings: &mut Vec<String>) -> Vec<MeshListener> {
    let mut entries: BTreeMap<(String, u16), Entry> = BTreeMap::new();
    for egress in &context.scope.egress {
        if let Some(port) = &egress.port {
            for service in &egress.services {
                let request = Request { service, port, bind: egress.bind.clone(), cidrs: Vec::new() };
                build(context, egress, &request, &mut entries);
            }
            continue;
        }
        entries.values_mut().for_each(|e| e.locked = true);
        for service in &egress.services {
            for port in &service.ports {
                for_port(context, egress, service, port, &mut entries);
            }
        }
    }
    let mut listeners = Vec::new();
    for ((_, number), entry) in entries {
        listeners.push(finished(context, number, entry, warnings));
    }
    listeners
}

/// One port of an egress listener without a port. A headless service of bytes gets a listener per pod.
fn for_port(
    context: &Context<'_>,
    egress: &Egress<'_>,
    service: &Service,
    port: &Port,
    entries: &mut BTreeMap<(String, u16), Entry>,
) {
    let by_pod = egress.bind.is_empty()
        && service.resolution == Resolution::Passthrough
        && service.address == NO_ADDRESS
        && (port.protocol.is_tcp() || port.protocol == Protocol::Sniffed);
    if by_pod {
        let pods: BTreeSet<&str> =
            context.registry.endpoints(service, port.number).map(|e| e.address.as_str()).collect();
        if service.kubernetes || !pods.is_empty() || !service.selector.is_empty() {
            for pod in pods.into_iter().filter(|p| p.parse::<IpAddr>().is_ok()) {
                let request = Request { service, port, bind: pod.to_owned(), cidrs: Vec::new() };
                build(context, egress, &request, entries);
            }
            return;
        }
    }
    let request = Request { service, port, bind: egress.bind.clone(), cidrs: Vec::new() };
    build(context, egress, &request, entries);
}

/// `buildSidecarOutboundListener`.
fn build(
    context: &Context<'_>,
    egress: &Egress<'_>,
    request: &Request<'_>,
    entries: &mut BTreeMap<(String, u16), Entry>,
) {
    let Request { service, port, .. } = request;
    if service.resolution == Resolution::Alias || port.protocol == Protocol::Udp {
        return;
    }
    let mut bind = request.bind.clone();
    let mut cidrs = request.cidrs.clone();
    if bind.is_empty() {
        // An address takes a listener of its own, a CIDR a chain; all HTTP of a port shares one listener.
        if port.protocol.is_http() || !service.address.contains('/') {
            bind = if port.protocol.is_http() { NO_ADDRESS.to_owned() } else { service.address.clone() };
        } else {
            bind = NO_ADDRESS.to_owned();
            cidrs = vec![service.address.clone()];
        }
    }
    let key = (bind.clone(), port.number);
    let request = Request { service, port, bind: bind.clone(), cidrs };
    let new_entry = |protocol: Protocol, chains: Vec<Opts>| Entry {
        bind: if bind == NO_ADDRESS {
            Bind::Wildcard
        } else {
            let kubernetes = service.kubernetes && bind != egress.bind;
            let to = Addressed { host: service.host.clone(), kubernetes };
            Bind::Address(bind.clone(), to)
        },
        protocol,
        locked: false,
        chains,
    };
    let Some(current) = entries.get_mut(&key) else {
        let entry = if port.protocol == Protocol::HttpProxy {
            new_entry(port.protocol, vec![http_chain(&request, false)])
        } else if port.protocol.is_http() {
            let sniffs = bind == NO_ADDRESS;
            let protocol = if sniffs { Protocol::Sniffed } else { port.protocol };
            new_entry(protocol, vec![http_chain(&request, sniffs)])
        } else if port.protocol == Protocol::Sniffed {
            let mut chains = tcp_chains(context, egress, &request);
            chains.push(http_chain(&request, true));
            new_entry(Protocol::Sniffed, chains)
        } else {
            new_entry(port.protocol, tcp_chains(context, egress, &request))
        };
        entries.insert(key, entry);
        return;
    };
    if current.locked {
        return;
    }
    // isConflictWithWellKnownPort: nothing is mixed with MySQL and MongoDB.
    let alone = |p: Protocol| matches!(p, Protocol::Mongo | Protocol::MySql);
    let incompatible = (alone(port.protocol) || alone(current.protocol)) && port.protocol != current.protocol;
    if port.protocol.is_http() {
        // HTTPOverTCP; otherwise there is an HTTP chain already.
        if current.protocol.is_tcp() && !incompatible {
            let sniffs = bind == NO_ADDRESS;
            merge(&mut current.chains, vec![http_chain(&request, sniffs)]);
            current.protocol = Protocol::Sniffed;
        }
        return;
    }
    if incompatible {
        return;
    }
    let mut chains = tcp_chains(context, egress, &request);
    if port.protocol == Protocol::Sniffed {
        if current.protocol.is_http() {
            // AutoOverHTTP replaces it.
            chains.push(http_chain(&request, true));
            let entry = new_entry(Protocol::Sniffed, chains);
            entries.insert(key, entry);
            return;
        }
        if current.protocol.is_tcp() {
            chains.push(http_chain(&request, true));
        }
    }
    merge(&mut current.chains, chains);
    if port.protocol == Protocol::Sniffed || current.protocol.is_http() {
        current.protocol = Protocol::Sniffed;
    }
}

/// `mergeTCPFilterChains`: a chain whose condition is there already is left out.
fn merge(current: &mut Vec<Opts>, incoming: Vec<Opts>) {
    for chain in incoming {
        if !current.iter().any(|c| conflict(&c.chain, &chain.chain)) {
            current.push(chain);
        }
    }
}

/// `conflictsWith`.
fn conflict(a: &MeshChain, b: &MeshChain) -> bool {
    let names = |c: &MeshChain| -> BTreeSet<String> {
        c.server_names.iter().filter(|n| *n != "*").cloned().collect()
    };
    let cidrs = |c: &MeshChain| -> BTreeSet<String> {
        c.cidrs.iter().filter_map(|c| super::cidr::masked(c)).collect()
    };
    a.plain_http == b.plain_http && names(a) == names(b) && cidrs(a) == cidrs(b)
}

/// `buildSidecarOutboundHTTPListenerOpts`.
fn http_chain(request: &Request<'_>, plain_http: bool) -> Opts {
    let sniffed = request.port.protocol == Protocol::Sniffed;
    let routes = if sniffed && request.bind != NO_ADDRESS {
        RouteName::Service(request.service.host.clone(), request.port.number)
    } else {
        RouteName::Port(request.port.number)
    };
    let chain = MeshChain { plain_http, ..MeshChain::pass("") };
    Opts { chain, routes: Some(routes) }
}

/// `buildSidecarOutboundTCPListenerOpts`.
fn tcp_chains(context: &Context<'_>, egress: &Egress<'_>, request: &Request<'_>) -> Vec<Opts> {
    let of_host: Vec<&Named<VirtualService>> = egress
        .virtual_services
        .iter()
        .filter(|v| v.spec.hosts.iter().any(|h| matches(h, &request.service.host)))
        .copied()
        .collect();
    let chains = if request.port.protocol.is_tls() {
        tls_route_chains(context, request, &of_host)
    } else {
        tcp_route_chains(context, request, &of_host)
    };
    chains.into_iter().map(|chain| Opts { chain, routes: None }).collect()
}

/// The cluster of a service without a route: of its only port, else of the port that is dialled.
fn own_cluster(request: &Request<'_>) -> Action {
    let port = match request.service.ports.as_slice() {
        [only] => only.number,
        _ => request.port.number,
    };
    let cluster = super::clusters::outbound_name(port, "", &request.service.host);
    Action::Tcp { cluster }
}

/// `buildSidecarOutboundTLSFilterChainOpts`.
fn tls_route_chains(
    context: &Context<'_>,
    request: &Request<'_>,
    virtual_services: &[&Named<VirtualService>],
) -> Vec<MeshChain> {
    let mut chains: Vec<MeshChain> = Vec::new();
    let mut handled: Vec<(&[String], &[String])> = Vec::new();
    let mut cidrs = request.cidrs.clone();
    for virtual_service in virtual_services {
        for route in virtual_service.spec.tls.iter().filter(|r| !r.route.is_empty()) {
            for condition in &route.matches {
                let l4 = L4Match {
                    port: condition.port,
                    source_labels: condition.source_labels.clone(),
                    gateways: condition.gateways.clone(),
                    source_namespace: condition.source_namespace.clone(),
                    ..L4Match::default()
                };
                if !l4_match(&l4, context, request.port.number) {
                    continue;
                }
                // istiod keeps the subnets of one match for those after it.
                if !condition.destination_subnets.is_empty() {
                    cidrs.clone_from(&condition.destination_subnets);
                }
                let runtime = (condition.sni_hosts.as_slice(), condition.destination_subnets.as_slice());
                if handled.contains(&runtime) {
                    continue;
                }
                handled.push(runtime);
                chains.push(MeshChain {
                    server_names: condition.sni_hosts.clone(),
                    cidrs: cidrs.clone(),
                    action: tcp_action(&route.route, request.port.number, context.scope),
                    ..MeshChain::pass("")
                });
            }
        }
    }
    if chains.is_empty() {
        let service = request.service;
        let without_ip =
            service.address.contains('/') || (service.address == NO_ADDRESS && request.bind == NO_ADDRESS);
        let forwarder = is_wildcard(&service.host) && service.resolution == Resolution::DynamicDns;
        let mut server_names = Vec::new();
        if !cidrs.is_empty() || without_ip || forwarder {
            server_names.push(service.host.clone());
            for (_, alias) in &service.aliases {
                server_names.push(alias.clone());
                server_names.extend(virtual_hosts::alternative_names(alias, &context.proxy.namespace));
            }
        }
        chains.push(MeshChain { server_names, cidrs, action: own_cluster(request), ..MeshChain::pass("") });
    }
    chains
}

/// `buildSidecarOutboundTCPFilterChainOpts`.
fn tcp_route_chains(
    context: &Context<'_>,
    request: &Request<'_>,
    virtual_services: &[&Named<VirtualService>],
) -> Vec<MeshChain> {
    let mut chains = Vec::new();
    let chain =
        |cidrs: &[String], action: Action| MeshChain { cidrs: cidrs.to_vec(), action, ..MeshChain::pass("") };
    let mut default_added = false;
    'all: for virtual_service in virtual_services {
        for route in virtual_service.spec.tcp.iter().filter(|r| !r.route.is_empty()) {
            let action = tcp_action(&route.route, request.port.number, context.scope);
            let matching: Vec<&L4Match> =
                route.matches.iter().filter(|m| l4_match(m, context, request.port.number)).collect();
            if route.matches.is_empty() || matching.iter().any(|m| m.destination_subnets.is_empty()) {
                chains.push(chain(&request.cidrs, action));
                default_added = true;
                break 'all;
            }
            let subnets: Vec<String> =
                matching.into_iter().flat_map(|m| m.destination_subnets.iter().cloned()).collect();
            if !subnets.is_empty() {
                let mut sorted = subnets.clone();
                sorted.sort();
                default_added |= sorted == request.cidrs;
                chains.push(chain(&subnets, action));
            }
        }
    }
    if !default_added {
        chains.push(chain(&request.cidrs, own_cluster(request)));
    }
    chains
}

/// `matchTLS` and `matchTCP` at a sidecar.
fn l4_match(condition: &L4Match, context: &Context<'_>, port: u16) -> bool {
    let source = &condition.source_namespace;
    (condition.port == 0 || condition.port == u32::from(port))
        && (condition.gateways.is_empty() || condition.gateways.iter().any(|g| g == MESH))
        && labels_match(&condition.source_labels, &context.proxy.labels)
        && (source.is_empty() || *source == context.proxy.namespace)
}

/// `buildListenerFromEntry`: a chain that takes everything comes last, as the default; without one, what is left passes on.
fn finished(context: &Context<'_>, port: u16, entry: Entry, warnings: &mut Vec<String>) -> MeshListener {
    let mut chains = Vec::new();
    let mut default = None;
    for Opts { mut chain, routes } in entry.chains {
        if let Some(name) = routes {
            chain.action = Action::Http(match name {
                RouteName::Port(port) => virtual_hosts::of_port(context, port, warnings),
                RouteName::Service(host, port) => virtual_hosts::of_service(context, &host, port),
            });
        }
        if chain.takes_all() {
            default = Some(chain);
        } else {
            chains.push(chain);
        }
    }
    chains.push(default.unwrap_or_else(|| MeshChain::pass(context.scope.unmatched.clone())));
    MeshListener { bind: entry.bind, port, chains }
}
