//! Finds the virtual host and the route of a request. Expressions and headers are compiled when a
//! configuration is applied, not per request.

use std::collections::HashMap;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use meshproof_plan::model::{
    Forward, HeaderChanges, HttpRoutes, PathMatch, Route, RouteAction, StringMatch, WeightedCluster,
};
use meshproof_plan::re2::{self, Replacement};
use regex::Regex;

use crate::weights::WeightedTurns;

/// The routes of one HTTP listener, compiled.
pub(crate) struct CompiledRoutes {
    exact: HashMap<String, usize>,
    /// Suffixes with their leading dot, longest first.
    suffixes: Vec<(String, usize)>,
    any: Option<usize>,
    hosts: Vec<CompiledHost>,
}

struct CompiledHost {
    routes: Vec<CompiledRoute>,
    require_tls: bool,
}

/// One route, compiled.
pub(crate) struct CompiledRoute {
    pub(crate) name: String,
    path: PathRule,
    ignore_case: bool,
    headers: Vec<(String, TextRule)>,
    without_headers: Vec<(String, TextRule)>,
    query: Vec<(String, TextRule)>,
    pub(crate) action: CompiledAction,
}

enum PathRule {
    Any,
    Prefix(String),
    Exact(String),
    Regex(Regex),
}

enum TextRule {
    Exact(String),
    Prefix(String),
    Regex(Regex),
    Present,
}

/// A route's action, compiled.
pub(crate) enum CompiledAction {
    Forward(Box<Forwarding>),
    DirectResponse { status: u16, body: String },
    Redirect(RedirectRule),
}

/// Where a route redirects to. Absent parts stay as they are in the request.
pub(crate) struct RedirectRule {
    pub(crate) status: u16,
    pub(crate) scheme: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) path: Option<String>,
    /// Replaces the matched prefix of the path.
    pub(crate) prefix: Option<String>,
    pub(crate) port: Option<u16>,
}

/// Where a route sends a request, compiled.
pub(crate) struct Forwarding {
    pub(crate) plan: Forward,
    pub(crate) host_rewrite: Option<HeaderValue>,
    pub(crate) request: HeaderEdits,
    pub(crate) response: HeaderEdits,
    regex_rewrite: Option<Replacement>,
    turns: WeightedTurns,
    own: Vec<OwnChanges>,
}

/// What one of several destinations changes by itself.
#[derive(Default)]
pub(crate) struct OwnChanges {
    pub(crate) host_rewrite: Option<HeaderValue>,
    pub(crate) request: HeaderEdits,
    pub(crate) response: HeaderEdits,
}

/// HeaderEdits to headers, compiled.
#[derive(Default)]
pub(crate) struct HeaderEdits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// The parts of a request that routes are matched against.
pub(crate) struct RoutedRequest<'a> {
    /// As received, with its port if it has one.
    pub(crate) authority: &'a str,
    pub(crate) method: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

impl CompiledRoutes {
    /// # Errors
    /// The plan holds something that cannot be carried out; the message names it.
    pub(crate) fn new(planned: &HttpRoutes) -> Result<Self, String> {
        let mut routes = Self { exact: HashMap::new(), suffixes: Vec::new(), any: None, hosts: Vec::new() };
        for (index, host) in planned.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                if domain == "*" {
                    routes.any.get_or_insert(index);
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    routes.suffixes.push((suffix.to_ascii_lowercase(), index));
                } else {
                    routes.exact.entry(domain.to_ascii_lowercase()).or_insert(index);
                }
            }
            let compiled: Result<Vec<CompiledRoute>, String> = host
                .routes
                .iter()
                .map(|r| CompiledRoute::new(r).map_err(|e| format!("virtual host {}: {e}", host.name)))
                .collect();
            routes.hosts.push(CompiledHost { routes: compiled?, require_tls: host.require_tls });
        }
        routes.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(routes)
    }

    /// The first matching route of the virtual host that the request's authority selects.
    pub(crate) fn find(&self, request: &RoutedRequest<'_>) -> Option<&CompiledRoute> {
        let host = self.host(&request.authority.to_ascii_lowercase())?;
        self.hosts.get(host)?.routes.iter().find(|r| r.takes(request))
    }

    /// Whether the virtual host that an authority selects wants HTTPS.
    pub(crate) fn requires_tls(&self, authority: &str) -> bool {
        let host = self.host(&authority.to_ascii_lowercase());
        host.and_then(|i| self.hosts.get(i)).is_some_and(|h| h.require_tls)
    }

    fn host(&self, authority: &str) -> Option<usize> {
        let bare = without_port(authority);
        let exact = |name: &str| self.exact.get(name).copied();
        let suffix = |name: &str| {
            self.suffixes
                .iter()
                .find(|(s, _)| name.len() > s.len() && name.ends_with(s.as_str()))
                .map(|(_, i)| *i)
        };
        exact(authority)
            .or_else(|| suffix(authority))
            // Plans list the domains of sidecars with and without their port, and istiod sets
            // ignore_port_in_host_matching for gateways: a Host with another port still selects a host of
            // this listener.
            .or_else(|| exact(bare))
            .or_else(|| suffix(bare))
            .or(self.any)
    }
}

/// A host without its port; the brackets of an IPv6 address stay.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && port.bytes().all(|b| b.is_ascii_digit()) => {
            if host.contains(':') && !host.starts_with('[') { authority } else { host }
        }
        Some(_) | None => authority,
    }
}

impl CompiledRoute {
    fn new(planned: &Route) -> Result<Self, String> {
        let named = |e: String| format!("route {:?}: {e}", planned.name);
        let texts = |map: &std::collections::BTreeMap<String, StringMatch>| {
            map.iter().map(|(k, v)| Ok((k.clone(), TextRule::new(v)?))).collect::<Result<Vec<_>, String>>()
        };
        let path = match &planned.matches.path {
            PathMatch::Any => PathRule::Any,
            PathMatch::Prefix(p) => PathRule::Prefix(p.clone()),
            PathMatch::Exact(p) => PathRule::Exact(p.clone()),
            PathMatch::Regex(r) => PathRule::Regex(whole(r).map_err(named)?),
        };
        let action = match &planned.action {
            RouteAction::Forward(f) => CompiledAction::Forward(Box::new(Forwarding::new(f).map_err(named)?)),
            RouteAction::DirectResponse { status, body } => {
                CompiledAction::DirectResponse { status: *status, body: body.clone() }
            }
            RouteAction::Redirect { status, scheme, authority, path, prefix, port } => {
                CompiledAction::Redirect(RedirectRule {
                    status: *status,
                    scheme: scheme.clone(),
                    authority: authority.clone(),
                    path: path.clone(),
                    prefix: prefix.clone(),
                    port: *port,
                })
            }
        };
        Ok(Self {
            name: planned.name.clone(),
            path,
            ignore_case: planned.matches.ignore_case,
            headers: texts(&planned.matches.headers).map_err(named)?,
            without_headers: texts(&planned.matches.without_headers).map_err(named)?,
            query: texts(&planned.matches.query).map_err(named)?,
            action,
        })
    }

    fn takes(&self, request: &RoutedRequest<'_>) -> bool {
        let path = match &self.path {
            PathRule::Any => true,
            PathRule::Prefix(p) => self.prefix_of(request.path, p).is_some(),
            PathRule::Exact(p) if self.ignore_case => request.path.eq_ignore_ascii_case(p),
            PathRule::Exact(p) => request.path == p,
            PathRule::Regex(r) => r.is_match(request.path),
        };
        path && self.headers.iter().all(|(name, want)| request.header(name).is_some_and(|v| want.takes(v)))
            && self.without_headers.iter().all(|(name, unwanted)| match request.header(name) {
                Some(value) => !unwanted.takes(value),
                // Envoy's treat_missing_header_as_empty.
                None => matches!(unwanted, TextRule::Present) || !unwanted.takes(""),
            })
            && self.query.iter().all(|(name, want)| {
                request.query.unwrap_or_default().split('&').any(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    key == name && want.takes(value)
                })
            })
    }

    /// What follows a prefix in a path.
    fn prefix_of<'a>(&self, path: &'a str, prefix: &str) -> Option<&'a str> {
        let (start, rest) = path.split_at_checked(prefix.len())?;
        let same = if self.ignore_case { start.eq_ignore_ascii_case(prefix) } else { start == prefix };
        same.then_some(rest)
    }

    /// The path after a rewrite: `with` replaces the matched prefix or the whole path.
    pub(crate) fn rewritten(&self, path: &str, with: &str) -> String {
        match &self.path {
            PathRule::Prefix(prefix) => match self.prefix_of(path, prefix) {
                Some(rest) => format!("{with}{rest}"),
                None => with.to_owned(),
            },
            PathRule::Any | PathRule::Exact(_) | PathRule::Regex(_) => with.to_owned(),
        }
    }
}

impl TextRule {
    fn new(planned: &StringMatch) -> Result<Self, String> {
        Ok(match planned {
            StringMatch::Exact(t) => Self::Exact(t.clone()),
            StringMatch::Prefix(t) => Self::Prefix(t.clone()),
            StringMatch::Regex(r) => Self::Regex(whole(r)?),
            StringMatch::Present => Self::Present,
        })
    }

    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Exact(t) => value == t,
            Self::Prefix(t) => value.starts_with(t.as_str()),
            Self::Regex(r) => r.is_match(value),
            Self::Present => true,
        }
    }
}

impl RoutedRequest<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        match name {
            ":method" => Some(self.method),
            ":scheme" => Some(self.scheme),
            ":authority" | "host" => Some(self.authority),
            ":path" => Some(self.path),
            other => self.headers.get(other).and_then(|v| v.to_str().ok()),
        }
    }
}

/// RE2's full match.
fn whole(expression: &str) -> Result<Regex, String> {
    let translated = re2::translate(expression).map_err(|e| format!("regular expression: {e}"))?;
    Regex::new(&format!(r"\A(?:{translated})\z")).map_err(|e| format!("regular expression: {e}"))
}

impl Forwarding {
    fn new(plan: &Forward) -> Result<Self, String> {
        if let Some(mirror) = plan.mirrors.first() {
            return Err(format!("meshproof does not support copies of requests (mirror, to {mirror}) yet"));
        }
        Ok(Self {
            host_rewrite: host_value(plan.host_rewrite.as_deref())?,
            request: HeaderEdits::new(&plan.request_headers)?,
            response: HeaderEdits::new(&plan.response_headers)?,
            regex_rewrite: plan.regex_rewrite.as_ref().map(Replacement::new).transpose()?,
            turns: WeightedTurns::new(&plan.clusters),
            own: plan.clusters.iter().map(OwnChanges::new).collect::<Result<_, _>>()?,
            plan: plan.clone(),
        })
    }

    /// The next cluster by weight, and what it changes by itself.
    pub(crate) fn cluster(&self) -> Option<(&str, &OwnChanges)> {
        let (position, name) = self.turns.next()?;
        Some((name, self.own.get(position)?))
    }

    /// The rewritten path, where the route rewrites it.
    pub(crate) fn path(&self, route: &CompiledRoute, path: &str) -> Option<String> {
        match (&self.regex_rewrite, &self.plan.path_rewrite) {
            (Some(replacement), _) => Some(replacement.apply(path)),
            (None, Some(with)) => Some(route.rewritten(path, with)),
            (None, None) => None,
        }
    }
}

impl OwnChanges {
    fn new(planned: &WeightedCluster) -> Result<Self, String> {
        Ok(Self {
            host_rewrite: host_value(planned.host_rewrite.as_deref())?,
            request: HeaderEdits::new(&planned.request_headers)?,
            response: HeaderEdits::new(&planned.response_headers)?,
        })
    }
}

fn host_value(host: Option<&str>) -> Result<Option<HeaderValue>, String> {
    let value = |host| HeaderValue::from_str(host).map_err(|_| format!("{host:?} cannot be a Host"));
    host.map(value).transpose()
}

impl HeaderEdits {
    fn new(planned: &HeaderChanges) -> Result<Self, String> {
        let name = |n: &str| {
            HeaderName::from_bytes(n.as_bytes()).map_err(|_| format!("{n:?} cannot be a header's name"))
        };
        let pairs = |list: &[(String, String)]| {
            list.iter()
                .map(|(n, v)| {
                    let value = HeaderValue::from_str(v)
                        .map_err(|_| format!("the value of header {n:?} cannot be sent"))?;
                    Ok((name(n)?, value))
                })
                .collect::<Result<Vec<_>, String>>()
        };
        Ok(Self {
            remove: planned.remove.iter().map(|n| name(n)).collect::<Result<_, _>>()?,
            set: pairs(&planned.set)?,
            add: pairs(&planned.add)?,
        })
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}
