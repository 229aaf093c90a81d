//! Saboteurs that carry out another plan than the one they are given.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshproof_model::Resource;
use meshproof_plan::model::{
    Action, ChainMatch, Cluster, Direction, Discovery, FilterChain, Listener, NameCheck, OriginalDestination,
    Origination, Plan, ServerName, Transport, Trust, UpstreamProtocol, UpstreamTls,
};
use meshproof_plan::mutation;

use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "plaintext-upstream",
        "Sends in plain text what it should send over TLS.",
        VariantBehaviour::Plan(mutation::plaintext_upstream),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "plain-port-upstream",
        "Sends to the host's plain port what it should send over TLS.",
        VariantBehaviour::Configuration(|wanted, update, _| {
            plain_port_upstream(&mut wanted.plan, update.endpoints)
        }),
    ),
    Definition::new(
        "originate-unasked",
        "Opens TLS to the host's TLS port where no resource asks for it.",
        VariantBehaviour::Configuration(|wanted, update, _| {
            originate_unasked(&mut wanted.plan, update.endpoints)
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new("no-sni", "Opens TLS without a server name.", VariantBehaviour::Plan(mutation::no_sni))
        .also_at(&Placement::ALL),
    Definition::new(
        "wrong-sni",
        "Opens TLS with a server name that was not configured.",
        VariantBehaviour::Plan(mutation::wrong_sni),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "ignore-certificate",
        "Accepts every server certificate.",
        VariantBehaviour::Plan(mutation::ignore_certificate),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "no-verification-by-default",
        "Verifies no server certificate where no CA is configured.",
        VariantBehaviour::Plan(no_verification_by_default),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "ignore-sans",
        "Verifies the server's certificate chain but not its names.",
        VariantBehaviour::Plan(mutation::ignore_sans),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "no-client-certificate",
        "Never presents the configured client certificate.",
        VariantBehaviour::Plan(mutation::no_client_certificate),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "mesh-alpn",
        "Offers mesh-internal ALPN values to external services.",
        VariantBehaviour::Plan(mutation::mesh_internal_alpn),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "host-not-rewritten",
        "Keeps the Host as received where it should be rewritten.",
        VariantBehaviour::Plan(mutation::host_not_rewritten),
    ),
    Definition::new(
        "prefix-as-exact",
        "Treats a path prefix as the whole path.",
        VariantBehaviour::Plan(mutation::prefix_as_exact),
    ),
    Definition::new(
        "no-mutual-tls-to-gateway",
        "Uses plain text between sidecar and gateway.",
        VariantBehaviour::Plan(mutation::no_mutual_tls_to_gateway),
    ),
    Definition::new(
        "no-http2-upstream",
        "Never uses HTTP/2 with an external service.",
        VariantBehaviour::Plan(no_http2_upstream),
    ),
    Definition::new(
        "http2-upstream",
        "Uses HTTP/2 with every external service.",
        VariantBehaviour::Plan(http2_upstream),
    ),
    Definition::new(
        "top-level-policy-everywhere",
        "Applies the TLS settings of one port to all ports of the host.",
        VariantBehaviour::Plan(top_level_policy_everywhere),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "permissive-inbound",
        "Accepts plain text where mesh mutual TLS is STRICT.",
        VariantBehaviour::Plan(permissive_inbound),
    ),
    Definition::new(
        "strict-breaks-origination",
        "With mesh mutual TLS STRICT, uses the mesh's certificate and CA with external services too.",
        VariantBehaviour::Configuration(|wanted, update, _| {
            strict_breaks_origination(&mut wanted.plan, update.resources);
        }),
    ),
    Definition::new(
        "block-passthrough-https",
        "Closes the application's own HTTPS connections once TLS origination is configured.",
        VariantBehaviour::Plan(block_passthrough_https),
    ),
    Definition::new(
        "double-tls",
        "Sends the application's own HTTPS inside a second TLS connection.",
        VariantBehaviour::Plan(double_tls),
    ),
    Definition::new(
        "serve-unknown-host",
        "Serves every Host at a gateway with the first virtual host.",
        VariantBehaviour::Plan(serve_unknown_host),
    )
    .also_at(&[Placement::EgressGateway, Placement::IngressGateway]),
];

/// The address of a host's port `to`, given the address of its port `from`.
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
                    trust: Trust::SystemRoots,
                    names: NameCheck::FromHost,
                    alpn: Vec::new(),
                    ..unverified_origination()
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

pub(super) fn originates(cluster: &Cluster) -> bool {
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

/// TLS to the server that the application meant, without verification.
pub(super) fn unverified() -> UpstreamTls {
    UpstreamTls::Originate(unverified_origination())
}

fn unverified_origination() -> Origination {
    Origination {
        sni: ServerName::FromHost,
        trust: Trust::Anybody,
        names: NameCheck::ChainOnly,
        client_certificate: None,
        alpn: vec!["http/1.1".to_owned()],
        min_version: None,
        max_version: None,
        credential: None,
        crl_file: None,
    }
}

fn double_tls(plan: &mut Plan) {
    if plan.proxies.iter().flat_map(|p| &p.clusters).any(originates) {
        wrap_passthrough(plan);
    }
}

/// Clusters that pass the application's TLS through open a TLS connection of their own.
pub(super) fn wrap_passthrough(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        let mut wrapped = BTreeMap::new();
        for listener in proxy.listeners.iter_mut().filter(|l| l.direction == Direction::Outbound) {
            for chain in &mut listener.chains {
                // A chain for any transport takes the application's TLS too.
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
                Some(Cluster { name, tls: Some(unverified()), ..cluster })
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
