//! Ways to break a plan, or the resources that it is made from. Each breaks one thing, so that a check which looks at
//! that thing must notice. A mutation that finds nothing to break leaves its argument as it was.

use std::collections::BTreeMap;

use meshproof_model::Resource;
use serde_json::{Map, Value};

use crate::model::{
    Action, Cluster, Direction, Discovery, FilterChain, Forward, NameCheck, OriginalDestination, Origination,
    PathMatch, Plan, RouteAction, ServerName, Transport, Trust, UpstreamProtocol, UpstreamTls,
};

/// The server name that [`wrong_sni`] sends; no document uses it.
pub const WRONG_SNI: &str = "wrong.meshproof.invalid";

/// The application protocol that [`mesh_internal_alpn`] offers; Istio uses it between its own proxies.
pub const MESH_INTERNAL_ALPN: &str = "istio";

fn clusters(plan: &mut Plan) -> impl Iterator<Item = &mut Cluster> {
    plan.proxies.iter_mut().flat_map(|p| p.clusters.iter_mut())
}

fn originations(plan: &mut Plan) -> impl Iterator<Item = &mut Origination> {
    clusters(plan).filter_map(|c| match &mut c.tls {
        Some(UpstreamTls::Originate(o)) => Some(o),
        Some(UpstreamTls::MeshMutual { .. }) | None => None,
    })
}

fn forwards(plan: &mut Plan) -> impl Iterator<Item = &mut Forward> {
    routes(plan).filter_map(|r| match &mut r.action {
        RouteAction::Forward(f) => Some(f),
        RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => None,
    })
}

fn routes(plan: &mut Plan) -> impl Iterator<Item = &mut crate::model::Route> {
    plan.proxies
        .iter_mut()
        .flat_map(|p| p.listeners.iter_mut())
        .flat_map(|l| l.chains.iter_mut())
        .filter_map(|c| match &mut c.action {
            Action::Http(http) => Some(http),
            Action::Tcp { .. } | Action::TcpWeighted(_) => None,
        })
        .flat_map(|http| http.virtual_hosts.iter_mut())
        .flat_map(|v| v.routes.iter_mut())
}

/// Originated TLS carries no server name.
pub fn no_sni(plan: &mut Plan) {
    originations(plan).for_each(|o| o.sni = ServerName::Absent);
}

/// Originated TLS carries [`WRONG_SNI`]; the names that are verified stay as they were.
pub fn wrong_sni(plan: &mut Plan) {
    originations(plan).for_each(|o| o.sni = ServerName::Fixed(WRONG_SNI.to_owned()));
}

/// No client certificate is shown to servers outside.
pub fn no_client_certificate(plan: &mut Plan) {
    originations(plan).for_each(|o| o.client_certificate = None);
}

/// Any certificate of a server outside is believed.
pub fn ignore_certificate(plan: &mut Plan) {
    originations(plan).for_each(|o| o.trust = Trust::Anybody);
}

/// Of a server's certificate outside only the chain is verified.
pub fn ignore_sans(plan: &mut Plan) {
    originations(plan).for_each(|o| o.names = NameCheck::ChainOnly);
}

/// Where TLS should be originated, plain text is sent to the same address.
pub fn plaintext_upstream(plan: &mut Plan) {
    for cluster in clusters(plan) {
        if matches!(cluster.tls, Some(UpstreamTls::Originate(_))) {
            cluster.tls = None;
        }
    }
}

/// Originated TLS offers [`MESH_INTERNAL_ALPN`] before what it offered.
pub fn mesh_internal_alpn(plan: &mut Plan) {
    for origination in originations(plan) {
        origination.alpn.insert(0, MESH_INTERNAL_ALPN.to_owned());
    }
}

/// Host is passed on as the client sent it.
pub fn host_not_rewritten(plan: &mut Plan) {
    forwards(plan).for_each(|f| f.host_rewrite = None);
}

/// Where `X-Forwarded-Proto` is set, it says `http`.
pub fn forwarded_proto_http(plan: &mut Plan) {
    for forward in forwards(plan) {
        let headers = &mut forward.request_headers;
        for (name, value) in headers.set.iter_mut().chain(headers.add.iter_mut()) {
            if name == "x-forwarded-proto" {
                "http".clone_into(value);
            }
        }
    }
}

/// A path prefix other than `/` is taken for the whole path.
pub fn prefix_as_exact(plan: &mut Plan) {
    for route in routes(plan) {
        if let PathMatch::Prefix(prefix) = &route.matches.path
            && prefix != "/"
        {
            route.matches.path = PathMatch::Exact(prefix.clone());
        }
    }
}

/// The hop to gateways is plain text on both sides: sidecars open no mesh TLS to what a gateway listens on, and gateways
/// ask for none.
pub fn no_mutual_tls_to_gateway(plan: &mut Plan) {
    let mut gateways = Vec::new();
    for proxy in &mut plan.proxies {
        for listener in proxy.listeners.iter_mut().filter(|l| l.direction == Direction::Gateway) {
            for chain in &mut listener.chains {
                if chain.tls.take().is_some() {
                    gateways.push(listener.bind);
                    chain.matches.transport = Transport::Any;
                    chain.matches.server_names.clear();
                }
            }
        }
    }
    for cluster in clusters(plan) {
        let to_gateway = match &cluster.discovery {
            Discovery::Endpoints(addresses) => addresses.iter().any(|a| gateways.contains(a)),
            Discovery::OriginalDestination(_) | Discovery::Nowhere => false,
        };
        if to_gateway && matches!(cluster.tls, Some(UpstreamTls::MeshMutual { .. })) {
            cluster.tls = None;
        }
    }
}

/// Clusters for port 443 of a host outside lead to where port 80 of that host leads: the port rewrite, or `targetPort`,
/// is lost, and TLS with it. `endpoints` is what the plan was resolved with.
pub fn wrong_upstream_port(plan: &mut Plan, endpoints: &[OriginalDestination]) {
    for cluster in clusters(plan) {
        let Discovery::Endpoints(addresses) = &mut cluster.discovery else { continue };
        let mut moved = false;
        for address in addresses.iter_mut() {
            let plain = endpoints
                .iter()
                .find(|e| e.address == *address && e.port == 443)
                .and_then(|tls| endpoints.iter().find(|e| e.host == tls.host && e.port == 80));
            if let Some(plain) = plain {
                *address = plain.address;
                moved = true;
            }
        }
        if moved && matches!(cluster.tls, Some(UpstreamTls::Originate(_))) {
            cluster.tls = None;
        }
    }
}

/// What should have been routed goes where the application was going: the sidecars ignore every route, and pass it on.
/// A gateway is bypassed. `endpoints` is what the plan was resolved with.
pub fn bypass_routes(plan: &mut Plan, endpoints: &[OriginalDestination]) {
    const PASSTHROUGH: &str = "PassthroughCluster";
    for proxy in &mut plan.proxies {
        let mut used = false;
        for listener in proxy.listeners.iter_mut().filter(|l| l.direction == Direction::Outbound) {
            for chain in &mut listener.chains {
                used |= pass_through(chain, PASSTHROUGH);
            }
        }
        if used && proxy.cluster(PASSTHROUGH).is_none() {
            proxy.clusters.push(Cluster {
                name: PASSTHROUGH.to_owned(),
                discovery: Discovery::OriginalDestination(endpoints.to_vec()),
                protocol: UpstreamProtocol::Downstream,
                tls: None,
            });
        }
    }
}

fn pass_through(chain: &mut FilterChain, to: &str) -> bool {
    let mut used = false;
    match &mut chain.action {
        Action::Http(http) => {
            for route in http.virtual_hosts.iter_mut().flat_map(|v| v.routes.iter_mut()) {
                if let RouteAction::Forward(forward) = &mut route.action {
                    for cluster in &mut forward.clusters {
                        to.clone_into(&mut cluster.cluster);
                    }
                    used = true;
                }
            }
        }
        Action::Tcp { cluster } => {
            to.clone_into(cluster);
            used = true;
        }
        Action::TcpWeighted(_) => {
            chain.action = Action::Tcp { cluster: to.to_owned() };
            used = true;
        }
    }
    used
}

fn spec_mut(resource: &mut Resource) -> Option<&mut Map<String, Value>> {
    resource.0.get_mut("spec").and_then(Value::as_object_mut)
}

/// `exportTo` is ignored: what is private to a namespace serves all.
pub fn export_to_ignored(resources: &mut Vec<Resource>) {
    for resource in resources {
        if let Some(spec) = spec_mut(resource) {
            spec.remove("exportTo");
            spec.remove("export_to");
        }
    }
}

/// REGISTRY_ONLY becomes ALLOW_ANY: the outbound policy of every Sidecar resource is dropped, and a Sidecar that says
/// nothing else with it.
pub fn allow_any(resources: &mut Vec<Resource>) {
    resources.retain_mut(|resource| {
        if resource.kind() != "Sidecar" {
            return true;
        }
        let Some(spec) = spec_mut(resource) else { return true };
        spec.remove("outboundTrafficPolicy");
        spec.remove("outbound_traffic_policy");
        // A Sidecar without any of these is refused by istiod as empty.
        spec.contains_key("egress") || spec.contains_key("ingress")
    });
}

/// The most specific route first: HTTP routes of every VirtualService are sorted by the length of their longest path
/// match, where Istio keeps them as written.
pub fn most_specific_route_first(resources: &mut Vec<Resource>) {
    for resource in resources {
        if resource.kind() != "VirtualService" {
            continue;
        }
        let routes = spec_mut(resource).and_then(|s| s.get_mut("http")).and_then(Value::as_array_mut);
        if let Some(routes) = routes {
            // Stable, so that equals stay as written.
            routes.sort_by_key(|route| std::cmp::Reverse(longest_path(route)));
        }
    }
}

fn longest_path(route: &Value) -> usize {
    let length = |condition: &Value| {
        let uri = condition.get("uri")?;
        ["exact", "prefix", "regex"].iter().find_map(|kind| uri.get(*kind)?.as_str().map(str::len))
    };
    route
        .get("match")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(length)
        .max()
        .unwrap_or_default()
}

/// A mutation of a plan.
pub type PlanMutation = fn(&mut Plan);

/// A mutation of the resources.
pub type ResourceMutation = fn(&mut Vec<Resource>);

/// Every mutation of a plan that needs nothing but the plan, by name.
#[must_use]
pub fn plan_mutations() -> BTreeMap<&'static str, PlanMutation> {
    BTreeMap::from([
        ("no-sni", no_sni as PlanMutation),
        ("wrong-sni", wrong_sni),
        ("no-client-certificate", no_client_certificate),
        ("ignore-certificate", ignore_certificate),
        ("ignore-sans", ignore_sans),
        ("plaintext-upstream", plaintext_upstream),
        ("mesh-internal-alpn", mesh_internal_alpn),
        ("host-not-rewritten", host_not_rewritten),
        ("forwarded-proto-http", forwarded_proto_http),
        ("prefix-as-exact", prefix_as_exact),
        ("no-mutual-tls-to-gateway", no_mutual_tls_to_gateway),
    ])
}

/// Every mutation of resources, by name.
#[must_use]
pub fn resource_mutations() -> BTreeMap<&'static str, ResourceMutation> {
    BTreeMap::from([
        ("export-to-ignored", export_to_ignored as ResourceMutation),
        ("allow-any", allow_any),
        ("most-specific-route-first", most_specific_route_first),
    ])
}
