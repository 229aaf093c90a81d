//! Which virtual host and which route a request takes. Expressions and headers are compiled when a configuration is
//! applied.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use meshproof_plan::model::{
    Forward, HeaderChanges, HttpRoutes, PathMatch, Route as PlannedRoute, RouteAction, StringMatch,
};
use regex::Regex;

/// The routes of one HTTP listener, compiled.
pub(crate) struct Routes {
    exact: HashMap<String, usize>,
    /// Suffixes with their leading dot, longest first.
    suffixes: Vec<(String, usize)>,
    any: Option<usize>,
    hosts: Vec<Vec<Route>>,
}

/// One route, compiled.
pub(crate) struct Route {
    pub(crate) name: String,
    path: Path,
    headers: Vec<(String, Text)>,
    query: Vec<(String, Text)>,
    pub(crate) action: Action,
}

enum Path {
    Any,
    Prefix(String),
    Exact(String),
    Regex(Regex),
}

enum Text {
    Exact(String),
    Prefix(String),
    Regex(Regex),
    Present,
}

/// What becomes of a request, compiled.
pub(crate) enum Action {
    Forward(Box<Forwarding>),
    DirectResponse {
        status: u16,
        body: String,
    },
    Redirect {
        status: u16,
        scheme: Option<String>,
        authority: Option<String>,
        path: Option<String>,
        port: Option<u16>,
    },
}

/// Where a request is sent, compiled.
pub(crate) struct Forwarding {
    pub(crate) plan: Forward,
    pub(crate) host_rewrite: Option<HeaderValue>,
    pub(crate) request: Changes,
    pub(crate) response: Changes,
    turn: AtomicU64,
}

/// Changes to headers, compiled.
#[derive(Default)]
pub(crate) struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// What routes look at.
pub(crate) struct Asked<'a> {
    /// As it came, with its port if it has one.
    pub(crate) authority: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

impl Routes {
    /// The error names what cannot be carried out.
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
            let compiled: Result<Vec<Route>, String> = host
                .routes
                .iter()
                .map(|r| Route::new(r).map_err(|e| format!("virtual host {}: {e}", host.name)))
                .collect();
            routes.hosts.push(compiled?);
        }
        routes.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(routes)
    }

    /// The first route that takes the request, of the virtual host that its authority leads to.
    pub(crate) fn find(&self, asked: &Asked<'_>) -> Option<&Route> {
        let host = self.host(&asked.authority.to_ascii_lowercase())?;
        self.hosts.get(host)?.iter().find(|r| r.takes(asked))
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
            // Domains come with and without their port; a Host with another port still means this listener's hosts
            // (istiod sets ignore_port_in_host_matching for gateways, and plans list both for sidecars).
            .or_else(|| exact(bare))
            .or_else(|| suffix(bare))
            .or(self.any)
    }
}

/// A host without its port; brackets of an IPv6 address stay.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && port.bytes().all(|b| b.is_ascii_digit()) => {
            if host.contains(':') && !host.starts_with('[') { authority } else { host }
        }
        Some(_) | None => authority,
    }
}

impl Route {
    fn new(planned: &PlannedRoute) -> Result<Self, String> {
        let named = |e: String| format!("route {:?}: {e}", planned.name);
        let texts = |map: &std::collections::BTreeMap<String, StringMatch>| {
            map.iter().map(|(k, v)| Ok((k.clone(), Text::new(v)?))).collect::<Result<Vec<_>, String>>()
        };
        let path = match &planned.matches.path {
            PathMatch::Any => Path::Any,
            PathMatch::Prefix(p) => Path::Prefix(p.clone()),
            PathMatch::Exact(p) => Path::Exact(p.clone()),
            PathMatch::Regex(r) => Path::Regex(whole(r).map_err(named)?),
        };
        let action = match &planned.action {
            RouteAction::Forward(f) => Action::Forward(Box::new(Forwarding::new(f).map_err(named)?)),
            RouteAction::DirectResponse { status, body } => {
                Action::DirectResponse { status: *status, body: body.clone() }
            }
            RouteAction::Redirect { status, scheme, authority, path, port } => Action::Redirect {
                status: *status,
                scheme: scheme.clone(),
                authority: authority.clone(),
                path: path.clone(),
                port: *port,
            },
        };
        Ok(Self {
            name: planned.name.clone(),
            path,
            headers: texts(&planned.matches.headers).map_err(named)?,
            query: texts(&planned.matches.query).map_err(named)?,
            action,
        })
    }

    fn takes(&self, asked: &Asked<'_>) -> bool {
        let path = match &self.path {
            Path::Any => true,
            Path::Prefix(p) => asked.path.starts_with(p.as_str()),
            Path::Exact(p) => asked.path == p,
            Path::Regex(r) => r.is_match(asked.path),
        };
        path && self.headers.iter().all(|(name, want)| {
            let value = match name.as_str() {
                ":method" => Some(asked.method),
                ":authority" | "host" => Some(asked.authority),
                ":path" => Some(asked.path),
                other => asked.headers.get(other).and_then(|v| v.to_str().ok()),
            };
            value.is_some_and(|v| want.takes(v))
        }) && self.query.iter().all(|(name, want)| {
            asked.query.unwrap_or_default().split('&').any(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                key == name && want.takes(value)
            })
        })
    }

    /// The path after a rewrite: the matched prefix is replaced, or the whole path.
    pub(crate) fn rewritten(&self, path: &str, with: &str) -> String {
        match &self.path {
            Path::Prefix(prefix) => match path.strip_prefix(prefix.as_str()) {
                Some(rest) => format!("{with}{rest}"),
                None => with.to_owned(),
            },
            Path::Any | Path::Exact(_) | Path::Regex(_) => with.to_owned(),
        }
    }
}

impl Text {
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

/// RE2's full match. The regex crate has RE2's syntax for what both know, and linear time as RE2 has.
fn whole(expression: &str) -> Result<Regex, String> {
    Regex::new(&format!(r"\A(?:{expression})\z")).map_err(|e| format!("regular expression: {e}"))
}

impl Forwarding {
    fn new(plan: &Forward) -> Result<Self, String> {
        let host_rewrite = match &plan.host_rewrite {
            Some(host) => {
                Some(HeaderValue::from_str(host).map_err(|_| format!("{host:?} cannot be a Host"))?)
            }
            None => None,
        };
        Ok(Self {
            host_rewrite,
            request: Changes::new(&plan.request_headers)?,
            response: Changes::new(&plan.response_headers)?,
            turn: AtomicU64::new(0),
            plan: plan.clone(),
        })
    }

    /// A cluster by weight: in turn, so that the shares are exact over each round.
    pub(crate) fn cluster(&self) -> Option<&str> {
        let total: u64 = self.plan.clusters.iter().map(|c| u64::from(c.weight)).sum();
        let Some(round) = std::num::NonZeroU64::new(total) else {
            return self.plan.clusters.first().map(|c| c.cluster.as_str());
        };
        let mut point = self.turn.fetch_add(1, Ordering::Relaxed) % round;
        for choice in &self.plan.clusters {
            let weight = u64::from(choice.weight);
            if point < weight {
                return Some(&choice.cluster);
            }
            point -= weight;
        }
        None
    }
}

impl Changes {
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
