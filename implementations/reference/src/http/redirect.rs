//! Redirects that a route asks for.

use http::{Request, StatusCode};
use hyper::body::Incoming;

use super::headers::path_and_query;
use crate::routes::{CompiledRoute, RedirectRule, without_port};

/// The redirect's status; 301 if the plan's is not valid.
pub(super) fn status(rule: &RedirectRule) -> StatusCode {
    StatusCode::from_u16(rule.status).unwrap_or(StatusCode::MOVED_PERMANENTLY)
}

/// The redirect's target as Envoy builds it (`RouteEntryImplBase::newUri`): parts that are not replaced stay,
/// an implied port is left out, and the query stays with the path.
pub(super) fn location(
    rule: &RedirectRule,
    route: &CompiledRoute,
    request: &Request<Incoming>,
    asked: &str,
    secure: bool,
) -> String {
    let scheme = rule.scheme.as_deref().unwrap_or(if secure { "https" } else { "http" });
    let host = match (&rule.authority, rule.port) {
        (Some(authority), None) => authority.clone(),
        (authority, Some(port)) => {
            let host = without_port(authority.as_deref().unwrap_or(asked));
            let implied = matches!((scheme, port), ("http", 80) | ("https", 443));
            if implied { host.to_owned() } else { format!("{host}:{port}") }
        }
        (None, None) => asked.to_owned(),
    };
    let with_query = |path: String| match request.uri().query() {
        // A query of the redirect's own replaces that of the request.
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        Some(_) | None => path,
    };
    let path = match (&rule.path, &rule.prefix) {
        (Some(path), _) => with_query(path.clone()),
        (None, Some(prefix)) => with_query(route.rewritten(request.uri().path(), prefix)),
        (None, None) => path_and_query(request.uri()),
    };
    format!("{scheme}://{host}{path}")
}
