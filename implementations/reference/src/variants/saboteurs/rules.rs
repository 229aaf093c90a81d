//! Saboteurs that carry out a route's rules in part.

use meshproof_plan::model::{
    Action, Forward, HeaderChanges, HttpRoutes, Plan, RouteAction, RouteMatch, VirtualHost, WeightedCluster,
};

use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "ignore-timeouts",
        "Ignores the timeouts of routes.",
        VariantBehaviour::Plan(|plan| forwards(plan).for_each(|forward| forward.timeout_ms = None)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "ignore-header-conditions",
        "Takes a route without regard to its conditions on headers.",
        VariantBehaviour::Plan(|plan| {
            conditions(plan, |matches| matches.headers.retain(|name, _| name.starts_with(':')))
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "ignore-query-conditions",
        "Takes a route without regard to its conditions on the query.",
        VariantBehaviour::Plan(|plan| conditions(plan, |matches| matches.query.clear())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "first-destination-alone",
        "Sends every request of a route to its first destination.",
        VariantBehaviour::Plan(|plan| forwards(plan).for_each(|forward| forward.clusters.truncate(1))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "equal-weights",
        "Divides the requests of a route evenly among its destinations.",
        VariantBehaviour::Plan(|plan| {
            forwards(plan).for_each(|forward| {
                destinations(forward).filter(|to| to.weight > 0).for_each(|to| to.weight = 1);
            });
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "ignore-response-edits",
        "Makes no changes to the headers of responses.",
        VariantBehaviour::Plan(|plan| {
            forwards(plan).for_each(|forward| {
                forward.response_headers = HeaderChanges::default();
                destinations(forward).for_each(|to| to.response_headers = HeaderChanges::default());
            });
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "add-as-set",
        "Replaces a header where a value should be added.",
        VariantBehaviour::Plan(|plan| changes(plan, |changes| changes.set.append(&mut changes.add))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "remove-nothing",
        "Removes no header that a route removes.",
        VariantBehaviour::Plan(|plan| changes(plan, |changes| changes.remove.clear())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "ignore-edits-of-destinations",
        "Makes the header changes of routes, and not those of their destinations.",
        VariantBehaviour::Plan(|plan| {
            forwards(plan).for_each(|forward| {
                destinations(forward).for_each(|to| {
                    to.request_headers = HeaderChanges::default();
                    to.response_headers = HeaderChanges::default();
                });
            });
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "wildcard-before-exact",
        "Takes the rule of a wildcard although another rule names the host.",
        VariantBehaviour::Plan(|plan| {
            let covered = |host: &str, by: &str| !host.starts_with('*') && covers(by, host);
            routes(plan).for_each(|routes| without_covered(routes, covered));
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "wildcard-takes-apex",
        "Takes the rule of a wildcard for the host that the wildcard is below.",
        VariantBehaviour::Plan(|plan| {
            for host in routes(plan).flat_map(|routes| &mut routes.virtual_hosts) {
                let apexes = host.domains.iter().filter_map(|domain| domain.strip_prefix("*."));
                let apexes: Vec<String> = apexes.map(str::to_owned).collect();
                host.domains.extend(apexes);
            }
        }),
    )
    // Nothing sends the egress gateway a request for that host.
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "shortest-wildcard",
        "Takes the rule of the wildcard that is for the most hosts.",
        VariantBehaviour::Plan(|plan| {
            let covered = |host: &str, by: &str| host.strip_prefix('*').is_some_and(|rest| covers(by, rest));
            routes(plan).for_each(|routes| without_covered(routes, covered));
        }),
    )
    .also_at(&Placement::ALL),
];

fn routes(plan: &mut Plan) -> impl Iterator<Item = &mut HttpRoutes> {
    let listeners = plan.proxies.iter_mut().flat_map(|proxy| &mut proxy.listeners);
    listeners.flat_map(|listener| &mut listener.chains).filter_map(|chain| match &mut chain.action {
        Action::Http(routes) => Some(routes),
        Action::Tcp { .. } | Action::TcpWeighted(_) => None,
    })
}

/// The conditions of routes.
fn conditions(plan: &mut Plan, mut change: impl FnMut(&mut RouteMatch)) {
    let hosts = routes(plan).flat_map(|routes| &mut routes.virtual_hosts);
    hosts.flat_map(|host| &mut host.routes).for_each(|route| change(&mut route.matches));
}

fn forwards(plan: &mut Plan) -> impl Iterator<Item = &mut Forward> {
    let hosts = routes(plan).flat_map(|routes| &mut routes.virtual_hosts);
    hosts.flat_map(|host| &mut host.routes).filter_map(|route| match &mut route.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. } => None,
    })
}

fn destinations(forward: &mut Forward) -> impl Iterator<Item = &mut WeightedCluster> {
    forward.clusters.iter_mut()
}

fn changes(plan: &mut Plan, change: impl Fn(&mut HeaderChanges)) {
    for forward in forwards(plan) {
        change(&mut forward.request_headers);
        change(&mut forward.response_headers);
        for to in destinations(forward) {
            change(&mut to.request_headers);
            change(&mut to.response_headers);
        }
    }
}

/// Whether a wildcard is for this host, or for all hosts that end so.
fn covers(wildcard: &str, host: &str) -> bool {
    wildcard
        .strip_prefix('*')
        .is_some_and(|rest| rest.len() > 1 && host.len() > rest.len() && host.ends_with(rest))
}

/// Leaves out the domains that one of another virtual host covers.
fn without_covered(routes: &mut HttpRoutes, covered: impl Fn(&str, &str) -> bool) {
    let all: Vec<String> = routes.virtual_hosts.iter().flat_map(|host| host.domains.clone()).collect();
    let keep = |domain: &String| !all.iter().any(|by| covered(domain, by));
    for VirtualHost { domains, .. } in &mut routes.virtual_hosts {
        domains.retain(keep);
    }
    routes.virtual_hosts.retain(|host| !host.domains.is_empty());
}
