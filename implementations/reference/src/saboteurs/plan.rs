//! Saboteurs that carry out another plan than the one they were given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use meshproof_local::data_plane::Update;
use meshproof_model::{Resource, ResourceId};
use meshproof_plan::model::{
    Action, ChainMatch, Cluster, Direction, Discovery, FilterChain, Forward, Listener, NameCheck,
    OriginalDestination, Origination, Plan, ProxyPlan, RouteAction, ServerName, Transport, Trust,
    UpstreamProtocol, UpstreamTls,
};
use meshproof_plan::mutation;

use super::{Saboteur, Wanted};

type Mutation = fn(&mut Wanted, &[Resource]);

const TABLE: &[(Saboteur, Mutation)] = &[
    (Saboteur::PlaintextUpstream, |w, _| mutation::plaintext_upstream(&mut w.plan)),
    (Saboteur::NoSni, |w, _| mutation::no_sni(&mut w.plan)),
    (Saboteur::WrongSni, |w, _| mutation::wrong_sni(&mut w.plan)),
    (Saboteur::IgnoreCertificate, |w, _| mutation::ignore_certificate(&mut w.plan)),
    (Saboteur::IgnoreSans, |w, _| mutation::ignore_sans(&mut w.plan)),
    (Saboteur::NoClientCertificate, |w, _| mutation::no_client_certificate(&mut w.plan)),
    (Saboteur::MeshAlpn, |w, _| mutation::mesh_internal_alpn(&mut w.plan)),
    (Saboteur::HostNotRewritten, |w, _| mutation::host_not_rewritten(&mut w.plan)),
    (Saboteur::PrefixAsExact, |w, _| mutation::prefix_as_exact(&mut w.plan)),
    (Saboteur::NoMutualTlsToGateway, |w, _| mutation::no_mutual_tls_to_gateway(&mut w.plan)),
    (Saboteur::NoVerificationByDefault, |w, _| no_verification_by_default(&mut w.plan)),
    (Saboteur::NoHttp2Upstream, |w, _| no_http2_upstream(&mut w.plan)),
    (Saboteur::Http2Upstream, |w, _| http2_upstream(&mut w.plan)),
    (Saboteur::TopLevelPolicyEverywhere, |w, _| top_level_policy_everywhere(&mut w.plan)),
    (Saboteur::PermissiveInbound, |w, _| permissive_inbound(&mut w.plan)),
    (Saboteur::StrictBreaksOrigination, |w, resources| strict_breaks_origination(&mut w.plan, resources)),
    (Saboteur::BlockPassthroughHttps, |w, _| block_passthrough_https(&mut w.plan)),
    (Saboteur::DoubleTls, |w, _| double_tls(&mut w.plan)),
    (Saboteur::TerminateApplicationTls, |w, _| wrap_passthrough(&mut w.plan)),
    (Saboteur::ServeUnknownHost, |w, _| serve_unknown_host(&mut w.plan)),
    (Saboteur::OriginateAtSidecar, |w, _| originate_at_sidecar(w)),
];

/// What [`Saboteur::StaleConfiguration`] and [`Saboteur::KeepGateway`] go back to.
#[derive(Default)]
pub(crate) struct Memory {
    seen: BTreeSet<ResourceId>,
    plan: Option<Plan>,
}

impl Memory {
    pub(crate) fn twist(&mut self, saboteur: Saboteur, update: &Update<'_>, wanted: &mut Wanted) {
        if saboteur == Saboteur::StaleConfiguration {
            self.keep_deleted(update, wanted);
        } else if saboteur == Saboteur::KeepGateway {
            self.keep_gateway(wanted);
        } else if saboteur == Saboteur::PlainPortUpstream {
            plain_port_upstream(&mut wanted.plan, update.endpoints);
        } else if saboteur == Saboteur::OriginateUnasked {
            originate_unasked(&mut wanted.plan, update.endpoints);
        } else if let Some((_, mutation)) = TABLE.iter().find(|(s, _)| *s == saboteur) {
            mutation(wanted, update.resources);
        }
    }

    fn keep_gateway(&mut self, wanted: &mut Wanted) {
        for before in self.plan.iter().flat_map(|p| &p.proxies) {
            if let Some(now) = wanted.plan.proxies.iter_mut().find(|p| p.name == before.name) {
                keep_listeners(now, before);
            }
        }
        self.plan = Some(wanted.plan.clone());
    }

    fn keep_deleted(&mut self, update: &Update<'_>, wanted: &mut Wanted) {
        let ids: BTreeSet<ResourceId> =
            update.resources.iter().filter(|r| r.kind() != "Secret").map(Resource::id).collect();
        let names = |plan: &Plan| plan.proxies.iter().map(|p| p.name.clone()).collect::<BTreeSet<_>>();
        match &self.plan {
            // A proxy that comes or goes is no deleted resource.
            Some(plan) if !self.seen.is_subset(&ids) && names(plan) == names(&wanted.plan) => {
                wanted.plan = plan.clone();
            }
            Some(_) | None => {
                self.seen = ids;
                self.plan = Some(wanted.plan.clone());
            }
        }
    }
}

/// Adds to one proxy the gateway listeners that it had before and has no more, with where they lead.
fn keep_listeners(now: &mut ProxyPlan, before: &ProxyPlan) {
    let gone = |l: &&Listener| {
        l.direction == Direction::Gateway && !now.listeners.iter().any(|known| known.bind == l.bind)
    };
    let kept: Vec<Listener> = before.listeners.iter().filter(gone).cloned().collect();
    if kept.is_empty() {
        return;
    }
    now.listeners.extend(kept);
    for cluster in &before.clusters {
        if now.cluster(&cluster.name).is_none() {
            now.clusters.push(cluster.clone());
        }
    }
}

/// Where a host's other port leads, for an address that one of its ports leads to.
fn other_port(
    endpoints: &[OriginalDestination],
    address: SocketAddr,
    from: u16,
    to: u16,
) -> Option<SocketAddr> {
    let host = &endpoints.iter().find(|e| e.address == address && e.port == from)?.host;
    endpoints.iter().find(|e| e.host == *host && e.port == to).map(|e| e.address)
}

fn plain_port_upstream(plan: &mut Plan, endpoints: &[OriginalDestination]) {
    for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters).filter(|c| originates(c)) {
        let Discovery::Endpoints(addresses) = &mut cluster.discovery else { continue };
        for address in addresses {
            if let Some(plain) = other_port(endpoints, *address, 443, 80) {
                *address = plain;
                cluster.tls = None;
            }
        }
    }
}

fn originate_unasked(plan: &mut Plan, endpoints: &[OriginalDestination]) {
    for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters).filter(|c| c.tls.is_none()) {
        let Discovery::Endpoints(addresses) = &mut cluster.discovery else { continue };
        for address in addresses {
            if let Some(secure) = other_port(endpoints, *address, 80, 443) {
                *address = secure;
                cluster.tls = Some(UpstreamTls::Originate(Origination {
                    sni: ServerName::FromHost,
                    trust: Trust::SystemRoots,
                    names: NameCheck::FromHost,
                    client_certificate: None,
                    alpn: Vec::new(),
                    min_version: None,
                    max_version: None,
                    credential: None,
                }));
            }
        }
    }
}

fn originations(plan: &mut Plan) -> impl Iterator<Item = &mut Origination> {
    plan.proxies.iter_mut().flat_map(|p| &mut p.clusters).filter_map(|c| match &mut c.tls {
        Some(UpstreamTls::Originate(o)) => Some(o),
        Some(UpstreamTls::MeshMutual { .. }) | None => None,
    })
}

fn originates(cluster: &Cluster) -> bool {
    matches!(cluster.tls, Some(UpstreamTls::Originate(_)))
}

fn is_tcp(chain: &FilterChain) -> bool {
    matches!(chain.action, Action::Tcp { .. })
}

fn no_verification_by_default(plan: &mut Plan) {
    for o in originations(plan).filter(|o| o.trust == Trust::SystemRoots) {
        o.trust = Trust::Anybody;
    }
}

fn no_http2_upstream(plan: &mut Plan) {
    for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters).filter(|c| originates(c)) {
        cluster.protocol = UpstreamProtocol::Http1;
    }
    for o in originations(plan) {
        o.alpn = vec!["http/1.1".to_owned()];
    }
}

fn http2_upstream(plan: &mut Plan) {
    for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters).filter(|c| originates(c)) {
        cluster.protocol = UpstreamProtocol::Http2;
    }
    for o in originations(plan) {
        o.alpn = vec!["h2".to_owned()];
    }
}

/// `outbound|PORT|SUBSET|HOST`: the host.
fn host_of(cluster: &str) -> Option<&str> {
    match cluster.split('|').collect::<Vec<_>>().as_slice() {
        ["outbound", _, _, host] => Some(host),
        _ => None,
    }
}

fn top_level_policy_everywhere(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        let settings: BTreeMap<String, UpstreamTls> = proxy
            .clusters
            .iter()
            .filter(|c| originates(c))
            .filter_map(|c| Some((host_of(&c.name)?.to_owned(), c.tls.clone()?)))
            .collect();
        for cluster in proxy.clusters.iter_mut().filter(|c| c.tls.is_none()) {
            cluster.tls = host_of(&cluster.name).and_then(|host| settings.get(host)).cloned();
        }
    }
}

fn listeners(plan: &mut Plan, direction: Direction) -> impl Iterator<Item = &mut Listener> {
    plan.proxies.iter_mut().flat_map(|p| &mut p.listeners).filter(move |l| l.direction == direction)
}

fn permissive_inbound(plan: &mut Plan) {
    for listener in listeners(plan, Direction::Inbound) {
        let plain: Vec<FilterChain> = listener
            .chains
            .iter()
            .filter(|c| c.tls.is_some())
            .map(|c| FilterChain {
                matches: ChainMatch { transport: Transport::Plain, server_names: Vec::new() },
                tls: None,
                ..c.clone()
            })
            .collect();
        listener.chains.extend(plain);
    }
}

fn strict_breaks_origination(plan: &mut Plan, resources: &[Resource]) {
    let strict = resources.iter().any(|r| {
        r.kind() == "PeerAuthentication"
            && r.spec().pointer("/mtls/mode").and_then(|m| m.as_str()) == Some("STRICT")
    });
    if !strict {
        return;
    }
    for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters) {
        let host = host_of(&cluster.name).unwrap_or_default().to_owned();
        if let Some(UpstreamTls::Originate(o)) = &cluster.tls {
            cluster.tls = Some(UpstreamTls::MeshMutual {
                sni: match &o.sni {
                    ServerName::Fixed(name) => name.clone(),
                    ServerName::FromHost | ServerName::Absent => host,
                },
                peer_identities: Vec::new(),
                alpn: o.alpn.clone(),
            });
        }
    }
}

fn block_passthrough_https(plan: &mut Plan) {
    const BLACK_HOLE: &str = "BlackHoleCluster";
    for proxy in &mut plan.proxies {
        if !proxy.clusters.iter().any(originates) {
            continue;
        }
        for listener in proxy.listeners.iter_mut().filter(|l| l.direction == Direction::Outbound) {
            for chain in listener.chains.iter_mut().filter(|c| is_tcp(c)) {
                chain.action = Action::Tcp { cluster: BLACK_HOLE.to_owned() };
            }
        }
        if proxy.cluster(BLACK_HOLE).is_none() {
            proxy.clusters.push(Cluster {
                name: BLACK_HOLE.to_owned(),
                discovery: Discovery::Nowhere,
                protocol: UpstreamProtocol::Http1,
                tls: None,
            });
        }
    }
}

/// TLS to whoever the application meant, without looking at the certificate.
fn to_anybody() -> UpstreamTls {
    UpstreamTls::Originate(Origination {
        sni: ServerName::FromHost,
        trust: Trust::Anybody,
        names: NameCheck::ChainOnly,
        client_certificate: None,
        alpn: vec!["http/1.1".to_owned()],
        min_version: None,
        max_version: None,
        credential: None,
    })
}

fn double_tls(plan: &mut Plan) {
    if plan.proxies.iter().flat_map(|p| &p.clusters).any(originates) {
        wrap_passthrough(plan);
    }
}

/// The clusters that pass bytes on open TLS of their own.
fn wrap_passthrough(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        let mut wrapped = BTreeMap::new();
        for listener in proxy.listeners.iter_mut().filter(|l| l.direction == Direction::Outbound) {
            for chain in &mut listener.chains {
                // What takes any transport takes the application's TLS too.
                if let (Transport::Tls | Transport::Any, Action::Tcp { cluster }) =
                    (chain.matches.transport, &mut chain.action)
                {
                    let name = format!("{cluster}-wrapped");
                    wrapped.insert(name.clone(), std::mem::replace(cluster, name));
                }
            }
        }
        let copies: Vec<Cluster> = wrapped
            .into_iter()
            .filter_map(|(name, original)| {
                let cluster = proxy.cluster(&original)?.clone();
                Some(Cluster { name, tls: Some(to_anybody()), ..cluster })
            })
            .collect();
        proxy.clusters.extend(copies);
    }
}

fn serve_unknown_host(plan: &mut Plan) {
    for listener in listeners(plan, Direction::Gateway) {
        for chain in &mut listener.chains {
            let Action::Http(routes) = &mut chain.action else { continue };
            let served = routes.virtual_hosts.iter().flat_map(|v| &v.domains).any(|d| d == "*");
            if let Some(first) = routes.virtual_hosts.first_mut().filter(|_| !served) {
                first.domains.push("*".to_owned());
            }
        }
    }
}

/// What a sidecar's route to a gateway becomes: the gateway's own way out.
struct WayOut {
    domains: Vec<String>,
    forward: Forward,
    cluster: Cluster,
    gateway: String,
}

fn ways_out(plan: &Plan) -> BTreeMap<SocketAddr, Vec<WayOut>> {
    let mut found: BTreeMap<SocketAddr, Vec<WayOut>> = BTreeMap::new();
    for (proxy, listener) in plan.proxies.iter().flat_map(|p| p.listeners.iter().map(move |l| (p, l))) {
        if listener.direction != Direction::Gateway {
            continue;
        }
        let hosts = listener.chains.iter().filter_map(|c| match &c.action {
            Action::Http(routes) => Some(&routes.virtual_hosts),
            Action::Tcp { .. } => None,
        });
        for host in hosts.flatten() {
            let way = host.routes.iter().find_map(|route| match &route.action {
                RouteAction::Forward(forward) => {
                    let cluster = proxy.cluster(&forward.clusters.first()?.cluster)?;
                    originates(cluster).then(|| WayOut {
                        domains: host.domains.clone(),
                        forward: forward.clone(),
                        cluster: cluster.clone(),
                        gateway: proxy.name.clone(),
                    })
                }
                RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => None,
            });
            found.entry(listener.bind).or_default().extend(way);
        }
    }
    found
}

fn originate_at_sidecar(wanted: &mut Wanted) {
    let ways = ways_out(&wanted.plan);
    for proxy in &mut wanted.plan.proxies {
        let to_gateway: BTreeMap<String, SocketAddr> = proxy
            .clusters
            .iter()
            .filter_map(|c| match &c.discovery {
                Discovery::Endpoints(list) => {
                    list.iter().find(|a| ways.contains_key(a)).map(|a| (c.name.clone(), *a))
                }
                Discovery::OriginalDestination(_) | Discovery::Nowhere => None,
            })
            .collect();
        let taken = redirect(proxy, &to_gateway, &ways);
        for way in taken {
            let lent = wanted.credentials.get(&way.gateway).cloned().unwrap_or_default();
            wanted.credentials.entry(proxy.name.clone()).or_default().extend(lent);
            proxy.clusters.retain(|c| c.name != way.cluster.name);
            proxy.clusters.push(way.cluster.clone());
        }
    }
}

fn redirect<'a>(
    proxy: &mut ProxyPlan,
    to_gateway: &BTreeMap<String, SocketAddr>,
    ways: &'a BTreeMap<SocketAddr, Vec<WayOut>>,
) -> Vec<&'a WayOut> {
    let mut taken = Vec::new();
    for listener in proxy.listeners.iter_mut().filter(|l| l.direction == Direction::Outbound) {
        for chain in &mut listener.chains {
            let Action::Http(routes) = &mut chain.action else { continue };
            for host in &mut routes.virtual_hosts {
                for route in &mut host.routes {
                    let RouteAction::Forward(forward) = &mut route.action else { continue };
                    let gateway = forward.clusters.first().and_then(|c| to_gateway.get(&c.cluster));
                    let way = gateway.and_then(|bind| ways.get(bind)).and_then(|list| {
                        list.iter().find(|w| w.domains.iter().any(|d| d == "*" || host.domains.contains(d)))
                    });
                    if let Some(way) = way {
                        *forward = way.forward.clone();
                        taken.push(way);
                    }
                }
            }
        }
    }
    taken
}
