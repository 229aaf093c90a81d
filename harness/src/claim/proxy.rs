//! Claims on what a proxy logged.

use std::net::SocketAddr;

use meshproof_model::{AccessLog, Evidence, EvidenceId, Fact, ServerRequest, Side, Verdict};

use super::matcher::Matcher;
use crate::access_log::{ENVOY_TEXT, ISTIO_JSON};

use super::{Claim, Claims, Count, Finding, Reply, View};

fn lines<'a>(proxy: &str, evidence: &'a [Evidence]) -> impl Iterator<Item = (&'a Evidence, &'a AccessLog)> {
    let proxy = proxy.to_owned();
    evidence.iter().filter_map(move |e| match (&e.side, &e.fact) {
        (Side::Proxy { name }, Fact::AccessLog(log)) if *name == proxy => Some((e, log)),
        _ => None,
    })
}

fn describe_line(log: &AccessLog) -> String {
    crate::store::bounded(&log.line, 600)
}

/// A line that cannot be read, its cause first: whoever cuts the text must not cut that.
fn describe_unread(log: &AccessLog) -> String {
    format!("{}: {:?}", log.unreadable.as_deref().unwrap_or("for no known cause"), describe_line(log))
}

fn field<T: Clone>(log: &AccessLog, get: impl Fn(&meshproof_model::LogFields) -> Option<T>) -> Option<T> {
    log.fields.as_ref().and_then(get)
}

/// Where a proxy's connection to a host and port must lead, as its access log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// To this `address:port`.
    At(String),
    /// To any address, as name servers have it for a real host; the port is the one.
    OnPort(u16),
    /// The host leads nowhere: no line can show it.
    Nowhere,
}

/// Whether the line's format has a place for the server name. Envoy's own has none ("Access logging", default format
/// string), and a JSON format has the members that somebody chose.
fn has_server_name(log: &AccessLog) -> bool {
    match log.format.as_deref() {
        Some(ENVOY_TEXT) => false,
        Some(ISTIO_JSON) => log.line.contains("\"requested_server_name\""),
        Some(_) | None => true,
    }
}

/// What a proxy logged of one request: the lines that carry its token. Exactly one, unless told otherwise.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct Logged {
    proxy: String,
    token: String,
    exchange: EvidenceId,
    matcher: Matcher<AccessLog>,
    wants_server_name: bool,
}

impl Logged {
    pub(crate) fn new(proxy: &str, reply: &Reply) -> Self {
        Self {
            proxy: proxy.to_owned(),
            token: reply.token.clone(),
            exchange: reply.id.clone(),
            matcher: Matcher::new(format!("access-log line of it at {proxy}"), Count::Exactly(1)),
            wants_server_name: false,
        }
    }

    fn text(
        mut self,
        name: &'static str,
        expected: &str,
        get: impl Fn(&meshproof_model::LogFields) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.matcher.demand_text(name, expected, move |log: &AccessLog| field(log, &get));
        self
    }

    /// Another number of lines.
    pub fn count(mut self, count: Count) -> Self {
        self.matcher.count(count);
        self
    }

    /// What there is of it is so; without a line nothing can be said. For a check that is about something else than the log.
    pub fn where_logged(self) -> Claim {
        let line = Self {
            matcher: Matcher::new(self.matcher.what().to_owned(), Count::AtLeast(1)),
            proxy: self.proxy.clone(),
            token: self.token.clone(),
            exchange: self.exchange.clone(),
            wants_server_name: false,
        };
        self.count(Count::AtLeast(0)).provided("the access log", line)
    }

    /// `%REQ(:METHOD)%`.
    pub fn method(self, method: &str) -> Self {
        self.text("method", method, |f| f.method.clone())
    }

    /// `%REQ(:PATH)%`, with the query.
    pub fn path(self, path: &str) -> Self {
        self.text("path", path, |f| f.path.clone())
    }

    /// `%RESPONSE_CODE%`.
    pub fn status(self, status: u16) -> Self {
        self.text("status", &status.to_string(), |f| f.response_code.map(|c| c.to_string()))
    }

    /// `%REQ(:AUTHORITY)%`; a default port beside the host is as good as none.
    pub fn authority(self, authority: &str) -> Self {
        self.text("authority", authority, |f| {
            let a = f.authority.as_deref()?;
            Some(a.strip_suffix(":80").or_else(|| a.strip_suffix(":443")).unwrap_or(a).to_owned())
        })
    }

    /// `%UPSTREAM_HOST%`.
    pub fn upstream_host(mut self, upstream: Upstream) -> Self {
        match upstream {
            Upstream::At(address) => self.text("upstream host", &address, |f| f.upstream_host.clone()),
            Upstream::OnPort(port) => {
                self.matcher.demand(format!("upstream host with port {port}"), move |log| {
                    match field(log, |f| f.upstream_host.clone()) {
                        Some(seen) if seen.parse().is_ok_and(|at: SocketAddr| at.port() == port) => Ok(()),
                        Some(seen) => Err(format!("upstream host {seen}")),
                        None => Err("no upstream host".to_owned()),
                    }
                });
                self
            }
            Upstream::Nowhere => self.text("upstream host", "(an address that the suite knows)", |_| None),
        }
    }

    /// The proxy had no upstream connection for it, or one to this address alone.
    pub fn no_upstream_but(mut self, upstream: &Upstream) -> Self {
        let allowed = match upstream {
            Upstream::At(address) => Some(address.clone()),
            Upstream::OnPort(_) | Upstream::Nowhere => None,
        };
        let or = allowed.as_ref().map(|a| format!(" but {a}")).unwrap_or_default();
        self.matcher.demand(format!("no upstream host{or}"), move |log| {
            match field(log, |f| f.upstream_host.clone()) {
                Some(seen) if allowed.as_ref() != Some(&seen) => Err(format!("upstream host {seen}")),
                Some(_) | None => Ok(()),
            }
        });
        self
    }

    /// The cluster, where the format shows it; the older default formats do not.
    pub fn upstream_cluster(mut self, cluster: &str) -> Self {
        let wanted = cluster.to_owned();
        self.matcher.demand(format!("upstream cluster {cluster}"), move |log| {
            let shows = log.format.as_deref() != Some(ENVOY_TEXT);
            match field(log, |f| f.upstream_cluster.clone()) {
                // `%UPSTREAM_CLUSTER_RAW%` ends here; `%UPSTREAM_CLUSTER%` may append `;`.
                Some(seen) if seen.trim_end_matches(';') == wanted => Ok(()),
                Some(seen) => Err(format!("upstream cluster {seen}")),
                None if !shows => Ok(()),
                None => Err("no upstream cluster".to_owned()),
            }
        });
        self
    }

    /// `%REQUESTED_SERVER_NAME%`. A format without it decides neither way.
    pub fn requested_server_name(mut self, name: &str) -> Self {
        const NAME: &str = "requested server name";
        let wanted = name.to_owned();
        self.wants_server_name = true;
        self.matcher.demand(format!("{NAME} {name}"), move |log| {
            match field(log, |f| f.requested_server_name.clone()) {
                Some(seen) if seen == wanted => Ok(()),
                Some(seen) => Err(format!("{NAME} {seen}")),
                None if !has_server_name(log) => Ok(()),
                None => Err(format!("no {NAME}")),
            }
        });
        self
    }
}

impl From<Logged> for Claim {
    fn from(l: Logged) -> Self {
        Self::new(move |view| {
            let found: Vec<(&EvidenceId, &AccessLog)> = lines(&l.proxy, view.evidence)
                .filter(|(e, _)| e.token.as_deref() == Some(l.token.as_str()))
                .map(|(e, log)| (&e.id, log))
                .collect();
            let mut finding = l.matcher.judge(&found, describe_line);
            if found.is_empty() {
                finding.seen.push_str(&unreadable(&l.proxy, view));
            }
            let mute = found.iter().find(|(_, log)| l.wants_server_name && !has_server_name(log));
            if let (Verdict::Passed, Some((id, log))) = (finding.verdict, mute) {
                let seen = format!("a format without the requested server name: {}", describe_line(log));
                finding = Finding::undecided(finding.expected, seen, vec![(*id).clone()]);
            }
            // A line that cannot be read and yet holds the token may be one more of this request.
            let told_again = lines(&l.proxy, view.evidence)
                .find(|(_, log)| log.unreadable.is_some() && log.line.contains(l.token.as_str()));
            if let (Verdict::Passed, Some((e, log))) = (finding.verdict, told_again) {
                let seen = format!("a line of it that cannot be read: {}", describe_unread(log));
                finding = Finding::undecided(finding.expected, seen, vec![e.id.clone()]);
            }
            finding.at(format!("in the access log of proxy {}", l.proxy)).about(&l.exchange)
        })
    }
}

/// Says so when lines were there that could not be read: the reader must not think that the log was empty.
fn unreadable(proxy: &str, view: View<'_>) -> String {
    let broken: Vec<&AccessLog> =
        lines(proxy, view.evidence).map(|(_, l)| l).filter(|l| l.unreadable.is_some()).collect();
    match broken.last() {
        Some(last) => {
            format!(" ({} lines could not be read, the last: {})", broken.len(), describe_unread(last))
        }
        None => String::new(),
    }
}

/// Lines of connections that were passed through: they carry no token, and are attributed by their place in time.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct ConnectionLine {
    proxy: String,
    reply: Reply,
    server_name: String,
}

impl ConnectionLine {
    pub(crate) fn new(proxy: &str, reply: &Reply, server_name: &str) -> Self {
        Self { proxy: proxy.to_owned(), reply: reply.clone(), server_name: server_name.to_owned() }
    }
}

impl From<ConnectionLine> for Claim {
    /// Exactly one line with the server name, and no line of the window shows a method or a path.
    fn from(c: ConnectionLine) -> Self {
        Self::new(move |view| {
            c.judge(view).at(format!("in the access log of proxy {}", c.proxy)).about(&c.reply.id)
        })
    }
}

impl ConnectionLine {
    fn judge(&self, view: View<'_>) -> Finding {
        let c = self;
        let expected = format!(
            "one access-log line at {} with server name {}, and no method or path",
            c.proxy, c.server_name
        );
        let found: Vec<(&Evidence, &AccessLog)> = lines(&c.proxy, view.window(c.reply.mark)).collect();
        let ids: Vec<EvidenceId> = found.iter().map(|(e, _)| e.id.clone()).collect();
        let shows_http =
            |log: &AccessLog| field(log, |f| f.path.clone().or_else(|| f.method.clone())).is_some();
        if let Some((e, log)) = found.iter().find(|(_, l)| shows_http(l)) {
            let seen = format!("a line with method or path: {}", describe_line(log));
            return Finding::broken(expected, seen, vec![e.id.clone()]);
        }
        if let Some((e, log)) = found.iter().find(|(_, l)| l.unreadable.is_some()) {
            let seen = format!("a line that cannot be read: {}", describe_unread(log));
            return Finding::undecided(expected, seen, vec![e.id.clone()]);
        }
        let named: Vec<_> = found
            .iter()
            .filter(|(_, l)| {
                field(l, |f| f.requested_server_name.clone()).as_deref() == Some(c.server_name.as_str())
            })
            .collect();
        match named.as_slice() {
            [(_, log)] => Finding::holds(expected, describe_line(log), ids),
            [] if found.is_empty() => {
                let seen = format!("no line at {}{}", c.proxy, unreadable(&c.proxy, view));
                Finding::broken(expected, seen, ids)
            }
            [] => match found.iter().find(|(_, l)| !has_server_name(l)) {
                Some((_, log)) => {
                    let seen = format!("a format without the requested server name: {}", describe_line(log));
                    Finding::undecided(expected, seen, ids)
                }
                None => {
                    let seen = format!("no such line, but {}", describe_line(found[0].1));
                    Finding::broken(expected, seen, ids)
                }
            },
            several => Finding::broken(expected, format!("{} such lines", several.len()), ids),
        }
    }
}

/// The connection on which an external service got a request was opened by this proxy: the proxy's log names, as its own
/// end of the upstream connection, the address that the service saw.
pub(crate) fn opened_by(proxy: &str, host: &str, reply: &Reply) -> Claim {
    let (proxy, of, token) = (proxy.to_owned(), host.to_owned(), reply.token.clone());
    let (exchange, place) = (reply.id.clone(), format!("on the hop to external service {host}"));
    let claim = Claim::new(move |view| {
        let host = &of;
        let expected = format!("the connection to {host} to come from {proxy}");
        let request: Option<(&EvidenceId, &ServerRequest)> =
            view.evidence.iter().find_map(|e| match (&e.side, &e.fact) {
                (Side::Service { host: h }, Fact::Request(r))
                    if h == host && e.token.as_deref() == Some(&token) =>
                {
                    Some((&e.id, r))
                }
                _ => None,
            });
        let Some((request_id, request)) = request else {
            return Finding::broken(expected, format!("no request of it at {host}"), Vec::new());
        };
        let line = lines(&proxy, view.evidence).find(|(e, _)| e.token.as_deref() == Some(&token));
        let Some((line_id, log)) = line.map(|(e, l)| (&e.id, l)) else {
            let seen = format!("no access-log line of it at {proxy}, and a connection from {}", request.peer);
            return Finding::broken(expected, seen, vec![request_id.clone()]);
        };
        let ids = vec![request_id.clone(), line_id.clone()];
        match field(log, |f| f.upstream_local_address.clone()) {
            Some(local) if local == request.peer => {
                Finding::holds(expected, format!("{proxy} logs {local}, {host} saw {}", request.peer), ids)
            }
            Some(local) => {
                Finding::broken(expected, format!("{proxy} logs {local}, {host} saw {}", request.peer), ids)
            }
            None => {
                let seen =
                    format!("{proxy} does not log its own end of the connection: {}", describe_line(log));
                Finding::undecided(expected, seen, ids)
            }
        }
    });
    Claim::on_the_side_of(host, move |view| claim.judge(view).at(place.clone()).about(&exchange))
}

/// A fact of a log line, whatever it is. Inconclusive where there is no line to take it from.
pub(crate) fn recorded(
    proxy: &str,
    reply: &Reply,
    what: &'static str,
    get: impl Fn(&AccessLog, &Reply) -> Option<String> + Send + Sync + 'static,
) -> Claim {
    let (proxy, reply) = (proxy.to_owned(), reply.clone());
    Claim::new(move |view| {
        let expected = format!("the {what}, whatever it is, in the access log of {proxy}");
        let line = lines(&proxy, view.evidence).find(|(e, _)| e.token.as_deref() == Some(&reply.token));
        let found = line.and_then(|(e, log)| Some((e.id.clone(), get(log, &reply)?)));
        match found {
            Some((id, seen)) => Finding::holds(expected, format!("{what} {seen}"), vec![id]),
            None => {
                let seen =
                    format!("no access-log line of it at {proxy} shows a {what}{}", unreadable(&proxy, view));
                Finding::undecided(expected, seen, vec![reply.id.clone()])
            }
        }
    })
}
