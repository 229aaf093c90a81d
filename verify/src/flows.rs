//! The requests that a configuration concerns, and the outcome of each.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::verification::{Flow, FlowHop, Outcome};
use meshproof_model::{Resource, ResourceId};
use meshproof_plan::hosts;
use meshproof_plan::model::{ClientCertificate, NameCheck, Origination, Trust};

use crate::raw::{self, ClusterName, Speaks, labels};
use crate::trace::{Ask, End, Layer, RouteOf, Scheme, Trace, Tracer, Why};
use crate::witnesses::witnesses;
use crate::world::World;

/// How many requests are followed at most.
const MAX_ASKS: usize = 20_000;

/// A request with its outcome.
pub(crate) struct Observed {
    pub(crate) proxy: usize,
    pub(crate) ask: Ask,
    /// The route that was written for it.
    pub(crate) meant_for: Option<RouteOf>,
    /// Whether it is only asked to find something out, and is no flow for people.
    pub(crate) hidden: bool,
    pub(crate) traces: Vec<Trace>,
}

/// Every request that the configuration concerns.
pub(crate) fn observe(world: &World) -> Vec<Observed> {
    let tracer = Tracer::new(world);
    let mut asks = Asks::default();
    for sidecar in world.sidecars() {
        of_sidecar(world, sidecar, &mut asks);
    }
    for gateway in (0..world.configs.len()).filter(|i| !world.is_sidecar(*i)) {
        of_gateway(world, gateway, &mut asks);
    }
    asks.all
        .into_iter()
        .map(|(proxy, ask, meant_for, hidden)| {
            let traces = tracer.trace(proxy, &ask);
            Observed { proxy, ask, meant_for, hidden, traces }
        })
        .collect()
}

type Asked = (usize, Ask, Option<RouteOf>, bool);

#[derive(Default)]
struct Asks {
    all: Vec<Asked>,
    known: BTreeSet<(usize, Ask, Option<RouteOf>)>,
}

impl Asks {
    fn add(&mut self, proxy: usize, ask: Ask, meant_for: Option<RouteOf>, hidden: bool) {
        if self.all.len() < MAX_ASKS && self.known.insert((proxy, ask.clone(), meant_for.clone())) {
            self.all.push((proxy, ask, meant_for, hidden));
        }
    }
}

/// A name that a host with `*` stands for.
pub(crate) fn sample(host: &str) -> Option<String> {
    match host.strip_prefix('*') {
        None => Some(host.to_owned()),
        Some("") => None,
        Some(suffix) => Some(format!("any{suffix}")),
    }
}

/// Whether a resource's `exportTo` reaches a namespace.
pub(crate) fn reaches(resource: &Resource, namespace: &str) -> bool {
    let listed = raw::texts(&resource.0, "/spec/exportTo");
    listed.is_empty()
        || listed
            .iter()
            .any(|e| *e == "*" || *e == namespace || (*e == "." && resource.namespace() == namespace))
}

/// Whether a VirtualService is for sidecars of a namespace that its `exportTo` keeps it from: it names namespaces of gateways
/// alone, where no sidecar is. A namespace without any proxy may have sidecars elsewhere. Its own namespace's sidecars are meant,
/// or, where there are none, all.
fn kept_from(world: &World, service: &Resource, namespace: &str) -> bool {
    let own = service.namespace();
    let kinds = |of: &str| -> Vec<bool> {
        let there = (0..world.configs.len()).filter(|p| world.proxy(*p).namespace == of);
        there.map(|p| world.is_sidecar(p)).collect()
    };
    let of_gateways = |listed: &&str| {
        let kinds = kinds(if *listed == "." { own } else { listed });
        !kinds.is_empty() && kinds.iter().all(|sidecar| !sidecar)
    };
    let listed = raw::texts(&service.0, "/spec/exportTo");
    !listed.is_empty() && listed.iter().all(of_gateways) && (own == namespace || !kinds(own).contains(&true))
}

fn of_sidecar(world: &World, sidecar: usize, asks: &mut Asks) {
    let resources = world.resources();
    let namespace = world.proxy(sidecar).namespace.as_str();
    let names = named_by(world, namespace);
    let mut ports: BTreeMap<String, BTreeSet<(Scheme, u16)>> = BTreeMap::new();
    for entry in raw::of_kind(resources, "ServiceEntry") {
        let visible = reaches(entry, namespace);
        for host in raw::texts(&entry.0, "/spec/hosts").into_iter().filter_map(sample) {
            if !visible && !names.contains(&host) {
                continue;
            }
            let of_host = ports.entry(host.clone()).or_default();
            for (_, port) in raw::items(&entry.0, "/spec/ports") {
                let Some(number) = raw::port(port, "/number") else { continue };
                let scheme = match raw::speaks(port) {
                    Speaks::Http => Scheme::Http,
                    Speaks::Tls => Scheme::Https,
                    Speaks::Bytes => Scheme::Tcp,
                    Speaks::Nothing => continue,
                };
                of_host.insert((scheme, number));
            }
        }
    }
    for service in resources.iter().filter(|r| r.kind() == "Service" && r.api_version() == "v1") {
        let host = format!("{}.{}.svc.cluster.local", service.name(), service.namespace());
        // A gateway is a way, not a destination.
        if world.is_gateway(&host) {
            continue;
        }
        let alias = raw::text(&service.0, "/spec/externalName");
        if !names.contains(&host) && alias.is_empty() {
            continue;
        }
        let own = if service.namespace() == namespace { service.name().to_owned() } else { host.clone() };
        let of_host = ports.entry(if alias.is_empty() { host } else { own }).or_default();
        for (_, port) in raw::items(&service.0, "/spec/ports") {
            let Some(number) = raw::port(port, "/port") else { continue };
            match raw::service_speaks(port) {
                Speaks::Http => of_host.insert((Scheme::Http, number)),
                Speaks::Tls => of_host.insert((Scheme::Https, number)),
                Speaks::Bytes | Speaks::Nothing => continue,
            };
        }
    }
    for service in raw::of_kind(resources, "VirtualService") {
        let meant = reaches(service, namespace) || kept_from(world, service, namespace);
        if raw::for_mesh(service) && meant {
            of_routes(world, sidecar, service, &mut ports, asks);
        }
    }
    for (host, of_host) in ports {
        for (scheme, port) in of_host {
            asks.add(sidecar, Ask::new(scheme, &host, port, "/"), None, false);
            if scheme == Scheme::Http && port == 443 {
                asks.add(sidecar, Ask::new(Scheme::Https, &host, port, "/"), None, true);
            }
        }
    }
}

/// The hosts that resources of a namespace name for sidecars.
pub(crate) fn named_by(world: &World, namespace: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for resource in world.resources().iter().filter(|r| r.namespace() == namespace) {
        match resource.kind() {
            "VirtualService" if raw::for_mesh(resource) => {
                let hosts = raw::texts(&resource.0, "/spec/hosts").into_iter();
                names.extend(hosts.map(|h| raw::full_host(h, namespace)));
            }
            "DestinationRule" => {
                names.insert(raw::full_host(raw::text(&resource.0, "/spec/host"), namespace));
            }
            "ServiceEntry" => {
                names.extend(raw::texts(&resource.0, "/spec/hosts").into_iter().map(str::to_owned));
            }
            _ => {}
        }
    }
    names.into_iter().filter_map(|n| sample(&n)).collect()
}

/// The requests that a VirtualService was written for, at a sidecar.
fn of_routes(
    world: &World,
    sidecar: usize,
    service: &Resource,
    ports: &mut BTreeMap<String, BTreeSet<(Scheme, u16)>>,
    asks: &mut Asks,
) {
    let namespace = service.namespace();
    for written in raw::texts(&service.0, "/spec/hosts") {
        let Some(host) = sample(&raw::full_host(written, namespace)) else { continue };
        let known = ports.get(&host).into_iter().flatten();
        let mut http: BTreeSet<u16> = known.filter(|(s, _)| *s == Scheme::Http).map(|(_, p)| *p).collect();
        if http.is_empty() {
            http.insert(80);
        }
        let witnesses = witnesses(world, service, "mesh");
        for witness in witnesses {
            let proxy = world.proxy(sidecar);
            let source = &witness.namespace;
            let own = witness.labels.iter().all(|(k, v)| proxy.labels.get(k) == Some(v))
                && (source.is_empty() || *source == proxy.namespace);
            if !own {
                continue;
            }
            let on: Vec<u16> = match witness.port {
                Some(port) => vec![port],
                None => http.iter().copied().collect(),
            };
            for port in on {
                let host = witness.host.as_deref().unwrap_or(&host);
                ports.entry(host.to_owned()).or_default().insert((Scheme::Http, port));
                let ask = witness.ask(Scheme::Http, host, port);
                let plain = ask.path == "/" && ask.headers.is_empty() && ask.method == "GET";
                asks.add(sidecar, ask, Some(witness.route.clone()), plain);
            }
        }
        for (_, route) in raw::items(&service.0, "/spec/tls") {
            for (_, condition) in raw::items(route, "/match") {
                let gateways = raw::texts(condition, "/gateways");
                if !gateways.is_empty() && !gateways.contains(&"mesh") {
                    continue;
                }
                let port = raw::port(condition, "/port").unwrap_or(443);
                for name in raw::texts(condition, "/sniHosts").into_iter().filter_map(sample) {
                    ports.entry(name).or_default().insert((Scheme::Https, port));
                }
            }
        }
    }
}

/// What clients ask a gateway for, from outside the mesh or without a sidecar.
fn of_gateway(world: &World, gateway: usize, asks: &mut Asks) {
    let proxy = world.proxy(gateway);
    for resource in raw::of_kind(world.resources(), "Gateway") {
        let selector = labels(resource.0.pointer("/spec/selector"));
        if !selector.iter().all(|(k, v)| proxy.labels.get(k) == Some(v)) {
            continue;
        }
        let name = format!("{}/{}", resource.namespace(), resource.name());
        let bound: Vec<&Resource> = raw::of_kind(world.resources(), "VirtualService")
            .filter(|v| {
                let gateways = raw::texts(&v.0, "/spec/gateways");
                gateways.iter().any(|g| hosts::qualified_gateway(g, v.namespace()) == name)
            })
            .collect();
        for (_, server) in raw::items(&resource.0, "/spec/servers") {
            let Some(port) = raw::port(server, "/port/number") else { continue };
            let scheme = match (raw::speaks(&server["port"]), raw::text(server, "/tls/mode")) {
                (_, "ISTIO_MUTUAL") | (Speaks::Nothing | Speaks::Bytes, _) => continue,
                (Speaks::Http, _) => Scheme::Http,
                (Speaks::Tls, _) => Scheme::Https,
            };
            let served = raw::texts(server, "/hosts");
            for written in served {
                let host = written.split_once('/').map_or(written, |(_, h)| h);
                for service in &bound {
                    let own = raw::texts(&service.0, "/spec/hosts");
                    let shared = own
                        .iter()
                        .filter_map(|h| narrower(h, host))
                        .filter_map(|h| if h == "*" { Some("any.example".to_owned()) } else { sample(h) });
                    for host in shared {
                        let at = Server { gateway, name: &name, scheme, port };
                        served_routes(world, &at, service, &host, asks);
                    }
                }
            }
        }
    }
}

fn narrower<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if hosts::subset_of(a, b) {
        Some(a)
    } else if hosts::subset_of(b, a) {
        Some(b)
    } else {
        None
    }
}

struct Server<'a> {
    gateway: usize,
    name: &'a str,
    scheme: Scheme,
    port: u16,
}

fn served_routes(world: &World, at: &Server<'_>, service: &Resource, host: &str, asks: &mut Asks) {
    for witness in witnesses(world, service, at.name) {
        let host = witness.host.as_deref().unwrap_or(host);
        let ask = witness.ask(at.scheme, host, at.port);
        asks.add(at.gateway, ask, Some(witness.route.clone()), false);
    }
    if at.scheme == Scheme::Https && service.0.pointer("/spec/tls").is_some() {
        asks.add(at.gateway, Ask::new(at.scheme, host, at.port, "/"), None, false);
    }
}

/// A way for people.
pub(crate) fn flow(world: &World, observed: &Observed, trace: &Trace) -> Flow {
    let name = |proxy: usize| world.configs[proxy].name.clone();
    let outcome = outcome(world, trace);
    let external_plain = matches!(&outcome, Outcome::PlainText { .. });
    Flow {
        from: name(observed.proxy),
        request: observed.ask.to_string(),
        conditions: observed.ask.conditions(),
        hops: trace
            .hops
            .iter()
            .map(|hop| FlowHop {
                proxy: name(hop.proxy),
                route: hop.route.as_ref().map(ToString::to_string).unwrap_or_default(),
                cluster: hop.cluster.clone(),
            })
            .collect(),
        plain_text: external_plain && observed.ask.scheme == Scheme::Http,
        outcome,
    }
}

fn outcome(world: &World, trace: &Trace) -> Outcome {
    let name = |proxy: usize| world.configs[proxy].name.clone();
    match &trace.end {
        End::Arrives { address, port, layers, external } => {
            // Pods are known by their Service.
            let service = trace.hops.last().and_then(|h| ClusterName::parse(&h.cluster));
            let to = match service.filter(|_| !external && layers.is_empty()) {
                Some(name) => format!("{}:{}", name.host, name.port),
                None => format!("{address}:{port}"),
            };
            match layers.as_slice() {
                [] if *external => Outcome::PlainText { to },
                [] => Outcome::Mesh { to, encrypted: false },
                [inner @ .., Layer::Originated { by, server_name, origination }] => Outcome::Originated {
                    by: name(*by),
                    to,
                    server_name: server_name.clone(),
                    trust: trust(&origination.trust),
                    names: names(origination, trace),
                    client_certificate: origination.client_certificate.as_ref().map(certificate),
                    inside_clients_tls: !inner.is_empty(),
                },
                [.., Layer::Own(_)] => Outcome::OwnTls { to },
                [.., Layer::Mesh(_)] => Outcome::Mesh { to, encrypted: true },
            }
        }
        End::Fails { proxy, status, why } => {
            Outcome::Fails { at: Some(name(*proxy)), status: *status, why: reason(why) }
        }
        End::Answered { proxy, status } => Outcome::Answered { by: name(*proxy), status: *status },
        End::Unknown(why) => Outcome::Unknown { why: why.clone() },
    }
}

fn trust(trust: &Trust) -> String {
    match trust {
        Trust::SystemRoots => "the system's CAs".to_owned(),
        Trust::Credential(name) => format!("the CA of credential {name}"),
        Trust::File(path) => format!("the CA in {path}"),
        Trust::Anybody => "anybody".to_owned(),
    }
}

fn names(origination: &Origination, trace: &Trace) -> String {
    if origination.trust == Trust::Anybody {
        return "none".to_owned();
    }
    let last = trace.hops.last();
    let host = last.map(|hop| meshproof_plan::walk::without_port(&hop.authority).to_owned());
    let http = last.is_some_and(|hop| hop.http);
    match &origination.names {
        NameCheck::FromHost => host.filter(|_| http).unwrap_or_else(|| "none".to_owned()),
        NameCheck::OneOf(names) => names.join(" or "),
        NameCheck::OneOfAndHost(names) => {
            let host = host.unwrap_or_default();
            format!("{host}, and {}", names.join(" or "))
        }
        NameCheck::ChainOnly => "none".to_owned(),
    }
}

fn certificate(certificate: &ClientCertificate) -> String {
    match certificate {
        ClientCertificate::Credential(name) => format!("credential {name}"),
        ClientCertificate::Files { certificate, .. } => certificate.clone(),
    }
}

/// Why a request ends, in words.
pub(crate) fn reason(why: &Why) -> String {
    match why {
        Why::NoCluster(name) => format!("there is no cluster {name}"),
        Why::NoEndpoint(name) => format!("{name} has no endpoint"),
        Why::NoChain { port, server_name: Some(name) } => {
            format!("no server on port {port} takes the server name {name}")
        }
        Why::NoChain { port, server_name: None } => format!("no server on port {port} takes plain text"),
        Why::NoListener(port) => format!("no Gateway has a server on port {port}"),
        Why::NoRoute => "no route takes the request".to_owned(),
        Why::Blocked => "the mesh allows only hosts that are registered".to_owned(),
        Why::OtherTls { port, expects, gets } => format!("port {port} expects {expects} and gets {gets}"),
        Why::Credential { name, lacks } if lacks.starts_with("the Secret") => {
            format!("the Secret of credential {name} is not in the proxy's namespace")
        }
        Why::Credential { name, lacks } => format!("credential {name} lacks {lacks}"),
    }
}

/// Whether a way's TLS is opened by a proxy, around the plain request.
pub(crate) fn is_originated(trace: &Trace) -> bool {
    matches!(&trace.end, End::Arrives { layers, .. } if matches!(layers.as_slice(), [Layer::Originated { .. }]))
}

/// The settings of the TLS that a proxy opens, if the request arrives in one.
pub(crate) fn origination(trace: &Trace) -> Option<(&Origination, Option<&str>)> {
    match &trace.end {
        End::Arrives { layers, .. } => match layers.last()? {
            Layer::Originated { origination, server_name, .. } => Some((origination, server_name.as_deref())),
            Layer::Own(_) | Layer::Mesh(_) => None,
        },
        End::Fails { .. } | End::Answered { .. } | End::Unknown(_) => None,
    }
}

/// Whether a request is the namespace's: one of its workloads sends it, or one of its routes takes it.
pub(crate) fn is_ours(world: &World, one: &Observed) -> bool {
    let Some(own) = &world.scope.namespace else { return true };
    let ours = |id: &ResourceId| id.namespace == *own;
    (world.is_sidecar(one.proxy) && world.proxy(one.proxy).namespace == *own)
        || one.meant_for.as_ref().is_some_and(|r| ours(&r.service))
        || one.traces.iter().flat_map(|t| &t.hops).filter_map(|h| h.route.as_ref()).any(|r| ours(&r.service))
}

/// Whether a resource has a part in the namespace's requests: it is the namespace's own or the root namespace's, is exported to
/// it, or configures a gateway.
pub(crate) fn has_part(world: &World, resource: &Resource) -> bool {
    let Some(own) = &world.scope.namespace else { return true };
    let at = resource.namespace();
    let gateway = || {
        let gateways = (0..world.configs.len()).filter(|i| !world.is_sidecar(*i));
        gateways.into_iter().any(|i| world.proxy(i).namespace == at)
    };
    at == own
        || at == world.state.mesh.root_namespace
        || match resource.kind() {
            "ServiceEntry" | "VirtualService" | "DestinationRule" => reaches(resource, own),
            "Gateway" => true,
            _ => gateway() || raw::text(&resource.0, "/spec/location") == "MESH_INTERNAL",
        }
}
