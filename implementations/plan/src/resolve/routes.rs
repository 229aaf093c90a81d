//! HTTP routes of VirtualServices (pilot/pkg/networking/core/route/route.go).

use std::collections::BTreeMap;

use super::clusters::outbound_name;
use super::input::{Proxy, RetryPolicy};
use super::registry::Service;
use super::scope::Scope;
use crate::model::{
    Action, Forward, HeaderChanges, PathMatch, RegexRewrite, Retry, Route, RouteAction, RouteMatch,
    StringMatch, WeightedCluster,
};
use crate::resources::Named;
use crate::resources::common::{self, is_authority, is_status, labels_match};
use crate::resources::durations::duration;
use crate::resources::virtual_service::{
    Body, DerivePort, Destination, HeaderOperations, Headers, HttpMatch, HttpRoute, Redirect, Retries,
    RouteDestination, VirtualService,
};

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
    /// Looks up the service of a destination (`LookupService`).
    pub(crate) service: &'a dyn Fn(&str) -> Option<&'a Service>,
    /// The mesh's `defaultHttpRetryPolicy`.
    pub(crate) retries: Option<&'a RetryPolicy>,
}

/// The routes of one VirtualService. Building stops at the first catch-all; what comes after it is dropped
/// (`BuildHTTPRoutesForVirtualService`).
pub(crate) fn of_virtual_service(
    virtual_service: &Named<VirtualService>,
    audience: &Audience<'_>,
) -> Vec<Route> {
    let mut routes = Vec::new();
    for http in &virtual_service.spec.http {
        if http.matches.is_empty() {
            routes.push(route(http, None, audience));
            return routes;
        }
        for condition in &http.matches {
            if !applies(condition, audience) {
                continue;
            }
            let route = route(http, Some(condition), audience);
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
    every_path
        && route.matches.headers.is_empty()
        && route.matches.without_headers.is_empty()
        && route.matches.query.is_empty()
}

/// `SortVHostRoutes`: catch-alls go to the end, the rest keeps its order.
pub(crate) fn catch_alls_last(routes: &mut [Route]) {
    routes.sort_by_key(is_catch_all);
}

/// The port of a match, then `sourceMatchHTTP`: named gateways decide alone; without any, the source's labels and
/// namespace do.
fn applies(condition: &HttpMatch, audience: &Audience<'_>) -> bool {
    if condition.port != 0 && condition.port != u32::from(audience.port) {
        return false;
    }
    if !condition.gateways.is_empty() {
        return condition.gateways.iter().any(|g| g == audience.gateway);
    }
    let source = &condition.source_namespace;
    labels_match(&condition.source_labels, &audience.proxy.labels)
        && (source.is_empty() || *source == audience.proxy.namespace)
}

/// `TranslateRoute`.
fn route(http: &HttpRoute, condition: Option<&HttpMatch>, audience: &Audience<'_>) -> Route {
    let name = match condition {
        Some(condition) if !condition.name.is_empty() => format!("{}.{}", http.name, condition.name),
        Some(_) | None => http.name.clone(),
    };
    let action = if let Some(redirect) = &http.redirect {
        redirect_action(redirect, audience)
    } else if let Some(response) = &http.direct_response {
        RouteAction::DirectResponse {
            status: u16::try_from(response.status).unwrap_or(503),
            body: response.body.as_ref().map(Body::text).unwrap_or_default(),
        }
    } else {
        RouteAction::Forward(forward(http, audience))
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
    let by_name = |conditions: &BTreeMap<String, common::StringMatch>| -> BTreeMap<String, StringMatch> {
        conditions.iter().map(|(name, m)| (name.to_ascii_lowercase(), value_match(m))).collect()
    };
    let mut headers = by_name(&condition.headers);
    let pseudo = [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ];
    for (name, m) in pseudo {
        if let Some(m) = m {
            headers.insert(name.to_owned(), value_match(m));
        }
    }
    let query = condition.query_params.iter().map(|(name, m)| (name.clone(), value_match(m))).collect();
    RouteMatch {
        path,
        headers,
        query,
        without_headers: by_name(&condition.without_headers),
        ignore_case: condition.ignore_uri_case,
    }
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
        None => redirect.port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
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
        path: some(&redirect.uri).filter(|_| redirect.prefix_rewrite.is_empty()),
        prefix: some(&redirect.prefix_rewrite),
        port: wanted.filter(|_| !default),
    }
}

/// `applyHTTPRouteDestination`, with `processDestination` and `processWeightedDestination`.
fn forward(http: &HttpRoute, audience: &Audience<'_>) -> Forward {
    let mut forward = Forward { retry: retry(http.retries.as_ref(), audience.retries), ..Forward::default() };
    if let Some(headers) = &http.headers {
        forward.host_rewrite =
            change_headers(headers, &mut forward.request_headers, &mut forward.response_headers);
    }
    if let Some(rewrite) = &http.rewrite {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        forward.host_rewrite = some(&rewrite.authority).or(forward.host_rewrite);
        match &rewrite.uri_regex_rewrite {
            Some(regex) => {
                forward.regex_rewrite = Some(RegexRewrite {
                    pattern: regex.pattern.clone(),
                    substitution: regex.rewrite.clone(),
                });
            }
            None => forward.path_rewrite = some(&rewrite.uri),
        }
    }
    let cluster = |to: &Destination| destination_cluster(to, audience.port, (audience.service)(&to.host));
    // MirrorPercent: all requests unless a share is given; a share of nothing is no mirror.
    let share = http.mirror_percentage.as_ref().map(|p| p.value);
    let share = share.or(http.mirror_percent.map(f64::from)).unwrap_or(100.0);
    forward.mirrors.extend(http.mirror.iter().filter(|_| share > 0.0).map(cluster));
    let several = http.mirrors.iter().filter(|m| m.percentage.as_ref().is_none_or(|p| p.value > 0.0));
    forward.mirrors.extend(several.filter_map(|m| m.destination.as_ref()).map(cluster));
    if let [only] = http.route.as_slice() {
        if let Some(to) = &only.destination {
            forward.clusters.push(WeightedCluster::new(cluster(to), 1));
        }
        if let Some(headers) = &only.headers {
            let authority =
                change_headers(headers, &mut forward.request_headers, &mut forward.response_headers);
            // A rewrite at the route goes before one at the destination.
            forward.host_rewrite = forward.host_rewrite.or(authority);
        }
    } else {
        // Among several, a share of nothing is left out.
        for destination in http.route.iter().filter(|d| d.weight != 0) {
            let Some(to) = &destination.destination else { continue };
            let weight = u32::try_from(destination.weight).unwrap_or_default();
            let mut weighted = WeightedCluster::new(cluster(to), weight);
            if let Some(headers) = &destination.headers {
                weighted.host_rewrite =
                    change_headers(headers, &mut weighted.request_headers, &mut weighted.response_headers);
            }
            forward.clusters.push(weighted);
        }
    }
    let timeout = http.timeout.as_deref().and_then(|t| duration(t).ok()).filter(|d| !d.is_zero());
    forward.timeout_ms = timeout.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    forward
}

/// The conditions of `cachedDefaultPolicy` (pilot/pkg/networking/core/route/retry/retry.go).
pub(crate) const RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// `ConvertPolicy`: two more attempts by default, or as the mesh has it; status codes in `retryOn` imply
/// `retriable-status-codes`, which istiod appends with a comma even where nothing stands before it.
fn retry(written: Option<&Retries>, mesh: Option<&RetryPolicy>) -> Option<Retry> {
    let (attempts, wanted) = match (written, mesh) {
        (Some(own), _) => (own.attempts, own.retry_on.as_str()),
        (None, Some(mesh)) => (mesh.attempts, mesh.on.as_str()),
        (None, None) => return Some(Retry { on: RETRY_ON.to_owned(), attempts: 2 }),
    };
    let attempts = u32::try_from(attempts).ok().filter(|a| *a > 0)?;
    if wanted.is_empty() {
        return Some(Retry { on: RETRY_ON.to_owned(), attempts });
    }
    let parts = wanted.split(',').map(str::trim);
    let (codes, on): (Vec<&str>, Vec<&str>) =
        parts.filter(|p| !p.is_empty()).partition(|p| p.parse::<u16>().is_ok_and(is_status));
    let mut on = on.join(",");
    if !codes.is_empty() && !on.contains("retriable-status-codes") {
        on.push_str(",retriable-status-codes");
    }
    Some(Retry { on, attempts })
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

/// `GetDestinationCluster`: without a port, the service's only port, else the port that the client dialled. An
/// ExternalName Service stands for its target.
pub(crate) fn destination_cluster(to: &Destination, port: u16, service: Option<&Service>) -> String {
    let host = match service {
        Some(service) if !service.external_name.is_empty() => &service.external_name,
        Some(_) | None => &to.host,
    };
    let named = to.port.as_ref().and_then(|p| u16::try_from(p.number).ok());
    let only = service.and_then(|s| match s.ports.as_slice() {
        [only] => Some(only.number),
        _ => None,
    });
    outbound_name(named.or(only).unwrap_or(port), &to.subset, host)
}

/// `buildOutboundNetworkFilters`: one destination, or several by weight.
pub(crate) fn tcp_action(routes: &[RouteDestination], port: u16, scope: &Scope<'_>) -> Action {
    let cluster = |to: &RouteDestination| {
        let to = to.destination.as_ref()?;
        Some(destination_cluster(to, port, scope.service(&to.host)))
    };
    match routes {
        [only] => Action::Tcp { cluster: cluster(only).unwrap_or_default() },
        several => {
            let weighted = several.iter().filter_map(|d| {
                let weight = u32::try_from(d.weight).ok().filter(|w| *w > 0)?;
                Some(WeightedCluster::new(cluster(d)?, weight))
            });
            Action::TcpWeighted(weighted.collect())
        }
    }
}

/// `BuildDefaultHTTPOutboundRoute`: everything to one cluster, with the mesh's retries.
pub(crate) fn default_route(cluster: String, retries: Option<&RetryPolicy>) -> Route {
    let retry = retry(None, retries);
    Route {
        name: DEFAULT_ROUTE.to_owned(),
        matches: RouteMatch::default(),
        action: RouteAction::Forward(Forward { retry, ..to_cluster(cluster) }),
    }
}

/// Everything to one cluster, as it came.
pub(crate) fn to_cluster(cluster: String) -> Forward {
    Forward { clusters: vec![WeightedCluster::new(cluster, 1)], ..Forward::default() }
}
