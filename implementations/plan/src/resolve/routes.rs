//! HTTP routes of VirtualServices (pilot/pkg/networking/core/route/route.go).

use std::collections::{BTreeMap, BTreeSet};

use super::clusters::Key;
use super::input::Proxy;
use super::registry::Service;
use crate::model::{
    Forward, HeaderChanges, PathMatch, Route, RouteAction, RouteMatch, StringMatch, WeightedCluster,
};
use crate::resources::Named;
use crate::resources::common::{self, duration, labels_match};
use crate::resources::hosts::{qualified, qualified_gateway};
use crate::resources::virtual_service::DerivePort;
use crate::resources::virtual_service::{
    Destination, HeaderOperations, Headers, HttpMatch, HttpRoute, Redirect, RouteDestination, VirtualService,
};
use crate::resources::virtual_service_validation::is_authority;

/// The name of a route that no VirtualService made.
pub(crate) const DEFAULT_ROUTE: &str = "default";

/// Who the routes are for.
pub(crate) struct Audience<'a> {
    pub(crate) proxy: &'a Proxy,
    /// `mesh`, or a gateway as `NAMESPACE/NAME`.
    pub(crate) gateway: &'a str,
    /// The port that clients dial.
    pub(crate) port: u16,
    /// Whether the listener terminates TLS.
    pub(crate) tls: bool,
    /// The services that a destination without a port is looked up in.
    pub(crate) services: &'a [Service],
}

/// The routes of one VirtualService, and the clusters they lead to. Building stops at the first catch-all; what comes after
/// it is dropped (`BuildHTTPRoutesForVirtualService`).
pub(crate) fn of_virtual_service(
    virtual_service: &Named<VirtualService>,
    audience: &Audience<'_>,
    used: &mut BTreeSet<Key>,
) -> Vec<Route> {
    let namespace = &virtual_service.id.namespace;
    let mut routes = Vec::new();
    for http in &virtual_service.spec.http {
        if http.matches.is_empty() {
            routes.push(route(http, None, namespace, audience, used));
            return routes;
        }
        for condition in &http.matches {
            if !applies(condition, namespace, audience) {
                continue;
            }
            let route = route(http, Some(condition), namespace, audience, used);
            let last = is_catch_all(&route);
            routes.push(route);
            if last {
                return routes;
            }
        }
    }
    routes
}

/// `IsCatchAllRoute`: the prefix `/` or the regex `.*`, and no other condition.
pub(crate) fn is_catch_all(route: &Route) -> bool {
    let every_path = match &route.matches.path {
        PathMatch::Any => true,
        PathMatch::Prefix(prefix) => prefix == "/",
        PathMatch::Regex(expression) => expression == ".*",
        PathMatch::Exact(_) => false,
    };
    every_path && route.matches.headers.is_empty() && route.matches.query.is_empty()
}

/// `SortVHostRoutes`: catch-alls go to the end, the rest keeps its order.
pub(crate) fn catch_alls_last(routes: &mut [Route]) {
    routes.sort_by_key(is_catch_all);
}

/// The port of a match, then `sourceMatchHTTP`: named gateways decide alone; without any, the source's labels and
/// namespace do.
fn applies(condition: &HttpMatch, namespace: &str, audience: &Audience<'_>) -> bool {
    if condition.port != 0 && condition.port != u32::from(audience.port) {
        return false;
    }
    if !condition.gateways.is_empty() {
        return condition.gateways.iter().any(|g| qualified_gateway(g, namespace) == audience.gateway);
    }
    let source = &condition.source_namespace;
    labels_match(&condition.source_labels, &audience.proxy.labels)
        && (source.is_empty() || *source == audience.proxy.namespace)
}

/// `TranslateRoute`.
fn route(
    http: &HttpRoute,
    condition: Option<&HttpMatch>,
    namespace: &str,
    audience: &Audience<'_>,
    used: &mut BTreeSet<Key>,
) -> Route {
    let name = match condition {
        Some(condition) if !condition.name.is_empty() => format!("{}.{}", http.name, condition.name),
        Some(_) | None => http.name.clone(),
    };
    let action = if let Some(redirect) = &http.redirect {
        redirect_action(redirect, audience)
    } else if let Some(response) = &http.direct_response {
        RouteAction::DirectResponse {
            status: u16::try_from(response.status).unwrap_or(503),
            body: response.body.as_ref().and_then(|b| b.string.clone()).unwrap_or_default(),
        }
    } else {
        RouteAction::Forward(forward(http, namespace, audience, used))
    };
    Route { name, matches: condition.map(translate_match).unwrap_or_default(), action }
}

/// `TranslateRouteMatch`.
fn translate_match(condition: &HttpMatch) -> RouteMatch {
    let path = match &condition.uri {
        None => PathMatch::Any,
        Some(uri) => match (&uri.exact, &uri.prefix, &uri.regex) {
            (Some(exact), _, _) => PathMatch::Exact(exact.clone()),
            (None, Some(prefix), _) => PathMatch::Prefix(prefix.clone()),
            (None, None, Some(regex)) => PathMatch::Regex(regex.clone()),
            (None, None, None) => PathMatch::Any,
        },
    };
    let mut headers: BTreeMap<String, StringMatch> =
        condition.headers.iter().map(|(name, m)| (name.to_ascii_lowercase(), value_match(m))).collect();
    for (name, m) in [(":method", &condition.method), (":authority", &condition.authority)] {
        if let Some(m) = m {
            headers.insert(name.to_owned(), value_match(m));
        }
    }
    let query = condition.query_params.iter().map(|(name, m)| (name.clone(), value_match(m))).collect();
    RouteMatch { path, headers, query }
}

/// A match that says nothing, or the regex `*`, asks for presence alone (`canBeConvertedToPresentMatch`).
fn value_match(condition: &common::StringMatch) -> StringMatch {
    match (&condition.exact, &condition.prefix, &condition.regex) {
        (Some(exact), _, _) => StringMatch::Exact(exact.clone()),
        (None, Some(prefix), _) => StringMatch::Prefix(prefix.clone()),
        (None, None, Some(regex)) if regex != "*" => StringMatch::Regex(regex.clone()),
        (None, None, Some(_) | None) => StringMatch::Present,
    }
}

/// `ApplyRedirect`.
fn redirect_action(redirect: &Redirect, audience: &Audience<'_>) -> RouteAction {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let wanted = match redirect.derive_port {
        Some(DerivePort::FromRequestPort) => Some(audience.port),
        Some(DerivePort::FromProtocolDefault) => None,
        None => redirect.port.and_then(|p| u16::try_from(p).ok()),
    };
    let scheme = match (redirect.scheme.as_str(), audience.tls) {
        ("", true) => "https",
        ("", false) => "http",
        (scheme, _) => scheme,
    };
    let default = matches!((wanted, scheme), (Some(80), "http") | (Some(443), "https"));
    RouteAction::Redirect {
        status: u16::try_from(redirect.redirect_code).ok().filter(|c| *c != 0).unwrap_or(301),
        scheme: some(&redirect.scheme),
        authority: some(&redirect.authority),
        path: some(&redirect.uri),
        port: wanted.filter(|_| !default),
    }
}

/// `applyHTTPRouteDestination`, with `processDestination` and `processWeightedDestination`.
fn forward(http: &HttpRoute, namespace: &str, audience: &Audience<'_>, used: &mut BTreeSet<Key>) -> Forward {
    let mut request_headers = HeaderChanges::default();
    let mut response_headers = HeaderChanges::default();
    let mut host_rewrite = None;
    if let Some(headers) = &http.headers {
        host_rewrite = change_headers(headers, &mut request_headers, &mut response_headers);
    }
    if let Some(authority) = http.rewrite.as_ref().map(|r| &r.authority).filter(|a| !a.is_empty()) {
        host_rewrite = Some(authority.clone());
    }
    let single = http.route.len() == 1;
    let mut clusters = Vec::new();
    for destination in &http.route {
        // Among several, a share of nothing is left out; alone, it is the whole.
        if !single && destination.weight == 0 {
            continue;
        }
        let Some(to) = &destination.destination else { continue };
        let key = destination_key(to, namespace, audience.port, audience.services);
        let weight = u32::try_from(destination.weight).unwrap_or_default();
        let weight = if single { weight.max(1) } else { weight };
        clusters.push(WeightedCluster { cluster: key.name(), weight });
        used.insert(key);
        if let Some(headers) = &destination.headers {
            let authority = change_headers(headers, &mut request_headers, &mut response_headers);
            // A rewrite at the route goes before one at the destination.
            host_rewrite = host_rewrite.or(authority);
        }
    }
    let path_rewrite = http.rewrite.as_ref().map(|r| r.uri.clone()).filter(|u| !u.is_empty());
    let timeout = http.timeout.as_deref().and_then(|t| duration(t).ok()).filter(|d| !d.is_zero());
    let timeout_ms = timeout.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    Forward { clusters, host_rewrite, path_rewrite, request_headers, response_headers, timeout_ms }
}

/// `TranslateHeadersOperations`: Host and :authority become the rewrite that is returned, `set` before `add`.
fn change_headers(
    headers: &Headers,
    request: &mut HeaderChanges,
    response: &mut HeaderChanges,
) -> Option<String> {
    let mut authority = None;
    if let Some(operations) = &headers.request {
        let named = |values: &BTreeMap<String, String>| {
            values.iter().find(|(name, _)| is_authority(name)).map(|(_, value)| value.clone())
        };
        authority = named(&operations.set).or_else(|| named(&operations.add));
        change(operations, request);
    }
    if let Some(operations) = &headers.response {
        change(operations, response);
    }
    authority
}

fn change(operations: &HeaderOperations, changes: &mut HeaderChanges) {
    let pairs = |values: &BTreeMap<String, String>| {
        let others = values.iter().filter(|(name, _)| !is_authority(name));
        others.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect::<Vec<_>>()
    };
    changes.remove.extend(operations.remove.iter().map(|n| n.to_ascii_lowercase()));
    changes.set.extend(pairs(&operations.set));
    changes.add.extend(pairs(&operations.add));
}

/// `GetDestinationCluster`: without a port, the service's only port, else the port that the client dialled.
pub(crate) fn destination_key(to: &Destination, namespace: &str, port: u16, services: &[Service]) -> Key {
    let host = qualified(&to.host, namespace);
    let named = to.port.as_ref().and_then(|p| u16::try_from(p.number).ok());
    let only = || {
        let service = services.iter().find(|s| s.host == host)?;
        match service.ports.as_slice() {
            [only] => Some(only.number),
            _ => None,
        }
    };
    let port = named.or_else(only).unwrap_or(port);
    Key { host, port, subset: to.subset.clone() }
}

/// `BuildDefaultHTTPOutboundRoute`: everything to one cluster.
pub(crate) fn default_route(cluster: String) -> Route {
    Route {
        name: DEFAULT_ROUTE.to_owned(),
        matches: RouteMatch::default(),
        action: RouteAction::Forward(to_cluster(cluster)),
    }
}

/// Everything to one cluster, as it came.
pub(crate) fn to_cluster(cluster: String) -> Forward {
    Forward {
        clusters: vec![WeightedCluster { cluster, weight: 1 }],
        host_rewrite: None,
        path_rewrite: None,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        timeout_ms: None,
    }
}

/// The destination of a TLS route, of which validation leaves at most one with a share.
pub(crate) fn single_destination(routes: &[RouteDestination]) -> Option<&Destination> {
    let chosen = if routes.len() == 1 { routes.first() } else { routes.iter().find(|r| r.weight > 0) };
    chosen.and_then(|r| r.destination.as_ref())
}
