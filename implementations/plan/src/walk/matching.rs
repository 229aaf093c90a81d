//! Which chain, virtual host and route takes a request, and what a route changes of its headers.

use regex::Regex;

use crate::model::{
    FilterChain, HeaderChanges, HttpRoutes, PathMatch, Route, StringMatch, Transport, VirtualHost,
};
use crate::re2;

/// A request as a proxy's routes see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `GET`.
    pub method: &'a str,
    /// Host or `:authority`.
    pub authority: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Name in lower case, and value.
    pub headers: &'a [(String, String)],
}

impl Asked<'_> {
    /// Whether a route takes the request.
    #[must_use]
    pub fn matches(&self, route: &Route) -> bool {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let ignore_case = route.matches.ignore_case;
        let on_path = match &route.matches.path {
            PathMatch::Any => true,
            PathMatch::Prefix(prefix) => after_prefix(path, prefix, ignore_case).is_some(),
            PathMatch::Exact(exact) => same(path, exact, ignore_case),
            PathMatch::Regex(expression) => matches_whole(expression, path),
        };
        let values = |name: &str| -> Option<String> {
            match name {
                ":method" => Some(self.method.to_owned()),
                ":authority" | "host" => Some(self.authority.to_owned()),
                ":path" => Some(self.target.to_owned()),
                name => {
                    let values: Vec<&str> =
                        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
                    // Envoy matches several values joined (HttpUtility::getAllOfHeaderAsString).
                    (!values.is_empty()).then(|| values.join(","))
                }
            }
        };
        let on_headers =
            route.matches.headers.iter().all(|(name, want)| values(name).is_some_and(|v| holds(want, &v)));
        let on_absent = route.matches.without_headers.iter().all(|(name, unwanted)| match values(name) {
            Some(value) => !holds(unwanted, &value),
            None => *unwanted == StringMatch::Present || !holds(unwanted, ""),
        });
        let on_query = route.matches.query.iter().all(|(name, want)| {
            let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.any(|(key, value)| key == name && holds(want, value))
        });
        on_path && on_headers && on_absent && on_query
    }
}

/// The virtual host of a request: an exact domain, with or without the port, else the longest suffix, else `*`.
#[must_use]
pub fn virtual_host<'p>(routes: &'p HttpRoutes, authority: &str) -> Option<&'p VirtualHost> {
    let asked = authority.to_ascii_lowercase();
    let bare = without_port(&asked);
    domain(routes, &asked)
        .or_else(|| domain(routes, bare))
        .or_else(|| routes.virtual_hosts.iter().find(|host| host.domains.iter().any(|d| d == "*")))
}

/// Whether a chain takes a connection: by whether it begins with TLS, by the server name of its ClientHello, and by whether it is one of
/// HTTP.
#[must_use]
pub fn takes(chain: &FilterChain, is_tls: bool, server_name: Option<&str>, http: bool) -> bool {
    let transport = match chain.matches.transport {
        Transport::Any => true,
        Transport::Tls => is_tls,
        Transport::Plain => !is_tls,
        Transport::PlainHttp => !is_tls && http,
    };
    let names = &chain.matches.server_names;
    transport
        && (names.is_empty()
            || server_name.is_some_and(|name| {
                let name = name.to_ascii_lowercase();
                names.iter().any(|n| match n.strip_prefix('*') {
                    Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
                    None => *n == name,
                })
            }))
}

/// The virtual host of a name: an exact domain, else the longest suffix.
fn domain<'p>(routes: &'p HttpRoutes, name: &str) -> Option<&'p VirtualHost> {
    let hosts = || routes.virtual_hosts.iter();
    hosts().find(|host| host.domains.iter().any(|d| d == name)).or_else(|| {
        hosts()
            .flat_map(|host| host.domains.iter().map(move |d| (host, d)))
            .filter_map(|(host, d)| {
                let suffix = d.strip_prefix('*').filter(|suffix| !suffix.is_empty())?;
                (name.len() > suffix.len() && name.ends_with(suffix)).then_some((suffix.len(), host))
            })
            .max_by_key(|(length, _)| *length)
            .map(|(_, host)| host)
    })
}

/// A host without its port; the brackets of an IPv6 address stay.
#[must_use]
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (host.ends_with(']') || !host.contains(':')) =>
        {
            host
        }
        Some(_) | None => authority,
    }
}

fn same(text: &str, wanted: &str, ignore_case: bool) -> bool {
    if ignore_case { text.eq_ignore_ascii_case(wanted) } else { text == wanted }
}

/// What follows a prefix in a path.
pub(super) fn after_prefix<'t>(path: &'t str, prefix: &str, ignore_case: bool) -> Option<&'t str> {
    let (start, rest) = path.split_at_checked(prefix.len())?;
    same(start, prefix, ignore_case).then_some(rest)
}

fn holds(want: &StringMatch, value: &str) -> bool {
    match want {
        StringMatch::Exact(text) => value == text,
        StringMatch::Prefix(text) => value.starts_with(text.as_str()),
        StringMatch::Regex(expression) => matches_whole(expression, value),
        StringMatch::Present => true,
    }
}

fn matches_whole(expression: &str, text: &str) -> bool {
    let Ok(translated) = re2::translate(expression) else { return false };
    Regex::new(&format!(r"\A(?:{translated})\z")).is_ok_and(|r| r.is_match(text))
}

/// Carries out changes to headers: remove, set, add.
pub fn edit(headers: &mut Vec<(String, String)>, changes: &HeaderChanges) {
    headers.retain(|(name, _)| !changes.remove.contains(name));
    for (name, value) in &changes.set {
        headers.retain(|(n, _)| n != name);
        headers.push((name.clone(), value.clone()));
    }
    headers.extend(changes.add.iter().cloned());
}
