//! Saboteurs of what the documents say beside their main path: other versions, other policies, headers on the way.

use std::collections::BTreeMap;

use http::header::{self, HeaderName, HeaderValue};
use meshproof_model::Resource;
use meshproof_plan::model::{
    Action, Cluster, Direction, Discovery, FilterChain, Forward, HttpRoutes, OriginalDestination, PathMatch,
    Plan, ProxyPlan, Route, RouteAction, RouteMatch, StringMatch, UpstreamProtocol, WeightedCluster,
};
use serde_json::{Value, json};

use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "another-content-type",
        "Replaces the Content-Type of responses.",
        VariantBehaviour::ResponseHead(|head| {
            if head.headers.contains_key(header::CONTENT_TYPE) {
                let value = HeaderValue::from_static("application/octet-stream");
                head.headers.insert(header::CONTENT_TYPE, value);
            }
        }),
    ),
    Definition::new(
        "log-without-request-id",
        "Leaves the request id out of its access log.",
        VariantBehaviour::LogEntry(|entry| entry.request_id = None),
    )
    .also_at(&[Placement::Sidecar, Placement::EgressGateway]),
    Definition::new(
        "forwarded-for-replaced",
        "Replaces the addresses in X-Forwarded-For with one of its own.",
        VariantBehaviour::RequestHead(|head| {
            let name = HeaderName::from_static("x-forwarded-for");
            if head.headers.contains_key(&name) {
                head.headers.insert(name, HeaderValue::from_static("192.0.2.1"));
            }
        }),
    ),
    Definition::new(
        "block-unknown-destinations",
        "Blocks destinations that are not registered although no policy says so.",
        VariantBehaviour::Plan(block_unknown),
    ),
    Definition::new(
        "registry-only-blocks-get-alone",
        "With REGISTRY_ONLY, passes on requests for unknown hosts unless their method is GET.",
        VariantBehaviour::Configuration(|wanted, update, _| {
            block_get_alone(&mut wanted.plan, update.endpoints);
        }),
    ),
    Definition::new(
        "posts-by-last-route",
        "Routes POST by the last route of its host.",
        VariantBehaviour::Plan(posts_by_last_route),
    )
    .also_at(&[Placement::IngressGateway]),
    Definition::new(
        "registry-only-blocks-services",
        "With REGISTRY_ONLY, blocks the services of the mesh that have no sidecar too.",
        VariantBehaviour::Plan(block_plain_services),
    ),
    Definition::new(
        "subsets-ignored",
        "Sends what is meant for a subset of a service's pods to all of them.",
        VariantBehaviour::Plan(ignore_subsets),
    ),
    Definition::new(
        "paths-ignored",
        "Routes every path by the first route of its host.",
        VariantBehaviour::Plan(ignore_paths),
    )
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "strict-without-policy",
        "Accepts nothing but mesh mutual TLS where the mode is PERMISSIVE.",
        VariantBehaviour::Plan(strict_inbound),
    ),
    Definition::new(
        "selector-not-required",
        "Uses a Secret at a sidecar for a DestinationRule without workloadSelector.",
        VariantBehaviour::Resources(select_the_workload),
    ),
];

const PASSTHROUGH: &str = "PassthroughCluster";

fn chains(proxy: &mut ProxyPlan, direction: Direction) -> impl Iterator<Item = &mut FilterChain> {
    proxy.listeners.iter_mut().filter(move |l| l.direction == direction).flat_map(|l| &mut l.chains)
}

fn routes(action: &mut Action) -> Option<&mut HttpRoutes> {
    match action {
        Action::Http(routes) => Some(routes),
        Action::Tcp { .. } | Action::TcpWeighted(_) => None,
    }
}

fn block_unknown(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        for chain in chains(proxy, Direction::Outbound) {
            let hosts = routes(&mut chain.action).into_iter().flat_map(|r| &mut r.virtual_hosts);
            for route in hosts.filter(|host| host.name == "allow_any").flat_map(|host| &mut host.routes) {
                route.action = RouteAction::DirectResponse { status: 502, body: String::new() };
            }
        }
        for cluster in proxy.clusters.iter_mut().filter(|c| c.name == PASSTHROUGH) {
            cluster.discovery = Discovery::Nowhere;
        }
    }
}

/// A route for the requests with one of these methods.
fn for_methods(methods: &str, name: &str, action: RouteAction) -> Route {
    let method = (":method".to_owned(), StringMatch::Regex(methods.to_owned()));
    let matches = RouteMatch { headers: BTreeMap::from([method]), ..RouteMatch::default() };
    Route { name: name.to_owned(), matches, action }
}

fn block_get_alone(plan: &mut Plan, endpoints: &[OriginalDestination]) {
    for proxy in &mut plan.proxies {
        let mut opened = false;
        for chain in chains(proxy, Direction::Outbound) {
            let hosts = routes(&mut chain.action).into_iter().flat_map(|r| &mut r.virtual_hosts);
            for host in hosts.filter(|host| host.name == "block_all") {
                let clusters = vec![WeightedCluster::new(PASSTHROUGH, 1)];
                let onward = RouteAction::Forward(Forward { clusters, ..Forward::default() });
                host.routes.insert(0, for_methods("HEAD|POST|PUT|PATCH|DELETE|OPTIONS", "allow_any", onward));
                opened = true;
            }
        }
        if opened {
            proxy.clusters.retain(|cluster| cluster.name != PASSTHROUGH);
            proxy.clusters.push(Cluster {
                name: PASSTHROUGH.to_owned(),
                discovery: Discovery::OriginalDestination(endpoints.to_vec()),
                protocol: UpstreamProtocol::Downstream,
                tls: None,
            });
        }
    }
}

fn posts_by_last_route(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        for direction in [Direction::Outbound, Direction::Gateway] {
            let all = chains(proxy, direction).filter_map(|chain| routes(&mut chain.action));
            for host in all.flat_map(|r| &mut r.virtual_hosts) {
                if let Some(last) = host.routes.last().filter(|_| host.routes.len() > 1) {
                    let first = for_methods("POST", &last.name, last.action.clone());
                    host.routes.insert(0, first);
                }
            }
        }
    }
}

fn block_plain_services(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        let restricted = chains(proxy, Direction::Outbound)
            .filter_map(|chain| routes(&mut chain.action))
            .any(|r| r.virtual_hosts.iter().any(|host| host.name == "block_all"));
        let plain = |name: &str| name.ends_with(".svc.cluster.local");
        for cluster in proxy.clusters.iter_mut().filter(|c| restricted && c.tls.is_none() && plain(&c.name)) {
            cluster.discovery = Discovery::Nowhere;
        }
    }
}

/// `outbound|PORT|SUBSET|HOST` without its subset.
fn without_subset(cluster: &str) -> Option<String> {
    match cluster.split('|').collect::<Vec<_>>().as_slice() {
        [direction, port, subset, host] if !subset.is_empty() => Some(format!("{direction}|{port}||{host}")),
        _ => None,
    }
}

fn forwards(proxy: &mut ProxyPlan) -> impl Iterator<Item = &mut Forward> {
    chains(proxy, Direction::Outbound)
        .filter_map(|chain| routes(&mut chain.action))
        .flat_map(|r| &mut r.virtual_hosts)
        .flat_map(|host| &mut host.routes)
        .filter_map(|route| match &mut route.action {
            RouteAction::Forward(forward) => Some(forward),
            RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => None,
        })
}

fn ignore_subsets(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        for destination in forwards(proxy).flat_map(|forward| &mut forward.clusters) {
            if let Some(whole) = without_subset(&destination.cluster) {
                destination.cluster = whole;
            }
        }
    }
}

fn ignore_paths(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        for direction in [Direction::Outbound, Direction::Gateway] {
            let all = chains(proxy, direction).filter_map(|chain| routes(&mut chain.action));
            for route in all.flat_map(|r| &mut r.virtual_hosts).flat_map(|host| &mut host.routes) {
                route.matches.path = PathMatch::Any;
            }
        }
    }
}

fn strict_inbound(plan: &mut Plan) {
    for listener in plan.proxies.iter_mut().flat_map(|p| &mut p.listeners) {
        if listener.direction == Direction::Inbound && listener.chains.iter().any(|c| c.tls.is_some()) {
            listener.chains.retain(|chain| chain.tls.is_some());
        }
    }
}

fn has_credential(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key("credentialName") || fields.values().any(has_credential),
        Value::Array(items) => items.iter().any(has_credential),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The documents' application is `sleep` in the namespace `default`; the rules of gateways are in theirs.
#[expect(clippy::ptr_arg, reason = "the type that every change of resources has")]
fn select_the_workload(resources: &mut Vec<Resource>) {
    for resource in resources.iter_mut() {
        if resource.kind() != "DestinationRule" || resource.namespace() != "default" {
            continue;
        }
        let Some(spec) = resource.0.get_mut("spec") else { continue };
        if has_credential(spec) && spec.get("workloadSelector").is_none() {
            spec["workloadSelector"] = json!({"matchLabels": {"app": "sleep"}});
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use meshproof_plan::model::{
        ChainMatch, Cluster, DownstreamTls, Listener, Route, RouteMatch, UpstreamProtocol, VirtualHost,
        WeightedCluster,
    };

    use super::*;

    const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

    fn address() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1))
    }

    fn cluster(name: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            discovery: Discovery::Endpoints(vec![address()]),
            protocol: UpstreamProtocol::Http1,
            tls: None,
        }
    }

    fn http(host: &str, path: PathMatch, to: &str) -> Action {
        let forward = Forward { clusters: vec![WeightedCluster::new(to, 1)], ..Forward::default() };
        let matches = RouteMatch { path, ..RouteMatch::default() };
        let route = Route { name: String::new(), matches, action: RouteAction::Forward(forward) };
        let host = VirtualHost {
            name: host.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            require_tls: false,
        };
        Action::Http(HttpRoutes { name: String::new(), virtual_hosts: vec![host] })
    }

    fn chain(tls: Option<DownstreamTls>, action: Action) -> FilterChain {
        FilterChain { name: String::new(), matches: ChainMatch::default(), tls, action }
    }

    fn plan(direction: Direction, chains: Vec<FilterChain>, clusters: &[&str]) -> Plan {
        let listener = Listener { name: String::new(), port: 80, bind: address(), direction, chains };
        Plan {
            proxies: vec![ProxyPlan {
                name: "sleep".to_owned(),
                namespace: "default".to_owned(),
                role: meshproof_plan::model::Role::Sidecar,
                identity: String::new(),
                listeners: vec![listener],
                clusters: clusters.iter().map(|name| cluster(name)).collect(),
            }],
        }
    }

    fn changed(change: fn(&mut Plan), mut plan: Plan) -> ProxyPlan {
        change(&mut plan);
        plan.proxies.remove(0)
    }

    #[test]
    fn block_unknown_destinations_closes_the_way_that_allow_any_opens() {
        let open = http("allow_any", PathMatch::Any, PASSTHROUGH);
        let plan = plan(Direction::Outbound, vec![chain(None, open)], &[PASSTHROUGH]);
        let mut proxy = changed(block_unknown, plan);
        assert_eq!(proxy.clusters[0].discovery, Discovery::Nowhere);
        assert_eq!(forwards(&mut proxy).count(), 0);
    }

    #[test]
    fn registry_only_blocks_services_without_a_sidecar_and_no_others() {
        let blocked = |host| {
            let action = http(host, PathMatch::Any, REVIEWS);
            let plan =
                plan(Direction::Outbound, vec![chain(None, action)], &[REVIEWS, "outbound|80||a.example"]);
            let proxy = changed(block_plain_services, plan);
            proxy.clusters.iter().map(|c| c.discovery == Discovery::Nowhere).collect::<Vec<_>>()
        };
        assert_eq!(blocked("block_all"), [true, false]);
        assert_eq!(blocked("allow_any"), [false, false]);
    }

    #[test]
    fn subsets_ignored_leads_to_the_whole_service() {
        let to_subset = http("a", PathMatch::Any, "outbound|80|v2|a.example");
        let plan = plan(Direction::Outbound, vec![chain(None, to_subset)], &[]);
        let mut proxy = changed(ignore_subsets, plan);
        let led: Vec<String> =
            forwards(&mut proxy).flat_map(|f| &f.clusters).map(|c| c.cluster.clone()).collect();
        assert_eq!(led, ["outbound|80||a.example"]);
    }

    #[test]
    fn paths_ignored_leaves_no_condition_on_the_path() {
        let books = http("a", PathMatch::Prefix("/books/".to_owned()), REVIEWS);
        let mut proxy = changed(ignore_paths, plan(Direction::Outbound, vec![chain(None, books)], &[]));
        let mut all = chains(&mut proxy, Direction::Outbound).filter_map(|c| routes(&mut c.action));
        assert_eq!(all.next().unwrap().virtual_hosts[0].routes[0].matches.path, PathMatch::Any);
    }

    #[test]
    fn strict_without_policy_accepts_no_plain_text_where_mesh_tls_is_accepted_too() {
        let action = || Action::Tcp { cluster: "a".to_owned() };
        let mutual = DownstreamTls::MeshMutual;
        let both = vec![chain(Some(mutual), action()), chain(None, action())];
        let proxy = changed(strict_inbound, plan(Direction::Inbound, both, &[]));
        assert_eq!(proxy.listeners[0].chains.len(), 1);
        let plain = vec![chain(None, action())];
        let proxy = changed(strict_inbound, plan(Direction::Inbound, plain, &[]));
        assert_eq!(proxy.listeners[0].chains.len(), 1);
    }

    #[test]
    fn selector_not_required_selects_the_workload_for_rules_of_its_namespace_with_a_secret() {
        let rule = |namespace: &str, tls: Value| {
            Resource(json!({
                "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                "metadata": {"name": "a", "namespace": namespace},
                "spec": {"host": "x", "trafficPolicy": {"tls": tls}},
            }))
        };
        let secret = || json!({"mode": "MUTUAL", "credentialName": "c"});
        let mut resources = vec![
            rule("default", secret()),
            rule("istio-system", secret()),
            rule("default", json!({"mode": "SIMPLE"})),
        ];
        select_the_workload(&mut resources);
        let selects: Vec<bool> =
            resources.iter().map(|r| r.spec().get("workloadSelector").is_some()).collect();
        assert_eq!(selects, [true, false, false]);
    }
}
