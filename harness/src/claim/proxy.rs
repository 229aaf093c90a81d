//! Claims about what a proxy logged.

use std::net::SocketAddr;

use meshproof_model::{AccessLog, Deviation, Evidence, EvidenceId, Fact, Field, Side, ValueKind, Verdict};

use super::deviation::{self, Odd, What};
use super::matcher::{About, Matcher, Pieces, Subject};
use super::words::{counted, listed};
use crate::access_log::{ENVOY_TEXT, ISTIO_JSON};

use super::{Claim, Count, Finding, Reply, View};

pub(super) fn lines<'a>(
    proxy: &str,
    evidence: &'a [Evidence],
) -> impl Iterator<Item = (&'a Evidence, &'a AccessLog)> {
    let proxy = proxy.to_owned();
    evidence.iter().filter_map(move |e| match (&e.side, &e.fact) {
        (Side::Proxy { name }, Fact::AccessLog(log)) if *name == proxy => Some((e, log)),
        _ => None,
    })
}

pub(super) fn describe_line(log: &AccessLog) -> String {
    crate::store::bounded(&log.line, 600)
}

/// A line that cannot be read. Its cause comes first, so that it is never cut.
fn describe_unread(log: &AccessLog) -> String {
    format!("{}: {:?}", log.unreadable.as_deref().unwrap_or("unknown cause"), describe_line(log))
}

pub(super) fn field<T: Clone>(
    log: &AccessLog,
    get: impl Fn(&meshproof_model::LogFields) -> Option<T>,
) -> Option<T> {
    log.fields.as_ref().and_then(get)
}

/// The upstream address that a proxy's access log must show for a host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// This `address:port`.
    At(String),
    /// Any address with this port: name servers decide where a real host is.
    OnPort(u16),
    /// The host has no address: no line can show it.
    Nowhere,
}

/// Whether the line's format contains the server name. Envoy's default format does not ("Access logging", default format
/// string), and a JSON format has the members that the mesh's operator chose.
fn has_server_name(log: &AccessLog) -> bool {
    match log.format.as_deref() {
        _ if lacks(log, SERVER_NAME) => false,
        Some(ENVOY_TEXT) => false,
        Some(ISTIO_JSON) => log.line.contains("\"requested_server_name\""),
        Some(_) | None => true,
    }
}

const UPSTREAM_HOST: (&str, &str) = ("upstream host", "upstream_host");
const SERVER_NAME: &str = "requested_server_name";

/// Whether the mesh's operators configured a format without this field.
pub(super) fn lacks(log: &AccessLog, key: &str) -> bool {
    log.lacks.iter().any(|lacking| lacking == key)
}

/// What a claim finds that needs a field which the configured format does not have. The mesh is not to blame.
pub(super) fn not_logged(proxy: &str, names: &[&str], expected: String, ids: Vec<EvidenceId>) -> Finding {
    let names = names.join(", ");
    let seen = format!(
        "the access-log format that is configured for proxy {proxy} does not contain {names}, which this check needs"
    );
    Finding { verdict: Verdict::Skipped, ..Finding::holds(expected, seen, ids) }
}

/// What a proxy logged for one request: the lines that carry its token. Exactly one, unless another number is set.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct Logged {
    proxy: String,
    token: String,
    exchange: EvidenceId,
    matcher: Matcher<AccessLog>,
    wants_server_name: bool,
    /// The fields that it needs: how the report calls each, and its key.
    wants: Vec<(&'static str, &'static str)>,
}

fn log_field(name: &str) -> What {
    What::of(Field::LogField).named(name)
}

fn pieces(proxy: &str) -> Pieces {
    Pieces {
        actor: format!("proxy {proxy}"),
        did: "logged",
        noun: "access-log line",
        which: "with this token".to_owned(),
        field: Field::LogLine,
        hop: deviation::own(proxy),
    }
}

/// The claim of a check that is not about the log: lines that exist must have these values. Inconclusive without a line.
fn where_logged(logged: Logged) -> Claim {
    let (proxy, token, exchange) = (logged.proxy.clone(), logged.token.clone(), logged.exchange.clone());
    let claim = Claim::from(logged.count(Count::AtLeast(0)));
    Claim::new(move |view| {
        let found = claim.judge(view);
        let is_logged = || lines(&proxy, view.evidence).any(|(e, _)| e.token.as_deref() == Some(&token));
        if found.verdict != Verdict::Passed || is_logged() {
            return found;
        }
        let seen = format!(
            "proxy {proxy} logged no access-log line with this token, so its values are unknown{}",
            unreadable(&proxy, view)
        );
        let odd = Odd::absent("no access-log line");
        let deviation = deviation::log_line().deviates(&deviation::own(&proxy), &found.expected, &odd);
        Finding::undecided(found.expected, seen, Vec::new()).by([deviation]).about(&exchange)
    })
}

impl Logged {
    pub(crate) fn new(proxy: &str, reply: &Reply) -> Self {
        Self {
            proxy: proxy.to_owned(),
            token: reply.token.clone(),
            exchange: reply.id.clone(),
            matcher: Matcher::new(pieces(proxy), Count::Exactly(1)),
            wants_server_name: false,
            wants: Vec::new(),
        }
    }

    fn text(
        mut self,
        (name, key): (&'static str, &'static str),
        expected: &str,
        get: impl Fn(&meshproof_model::LogFields) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let wanted = expected.to_owned();
        self.wants.push((name, key));
        self.matcher.demand_text(About::Piece, log_field(name), name, expected, move |log: &AccessLog| {
            if lacks(log, key) { Some(wanted.clone()) } else { field(log, &get) }
        });
        self
    }

    /// Another number of lines.
    pub fn count(mut self, count: Count) -> Self {
        self.matcher.count(count);
        self
    }

    /// The lines that exist have these values; inconclusive without a line. For a check that is not about the log.
    pub fn where_logged(self) -> Claim {
        where_logged(self)
    }

    /// `%REQ(:METHOD)%`.
    pub fn method(self, method: &str) -> Self {
        self.text(("method", "method"), method, |f| f.method.clone())
    }

    /// `%REQ(:PATH)%`, with the query.
    pub fn path(self, path: &str) -> Self {
        self.text(("path", "path"), path, |f| f.path.clone())
    }

    /// `%RESPONSE_CODE%`.
    pub fn status(self, status: u16) -> Self {
        self.text(("status", "response_code"), &status.to_string(), |f| {
            f.response_code.map(|c| c.to_string())
        })
    }

    /// `%REQ(:AUTHORITY)%`; a default port is ignored.
    pub fn authority(self, authority: &str) -> Self {
        self.text(("authority", "authority"), authority, |f| {
            let a = f.authority.as_deref()?;
            Some(a.strip_suffix(":80").or_else(|| a.strip_suffix(":443")).unwrap_or(a).to_owned())
        })
    }

    /// `%UPSTREAM_HOST%`.
    pub fn upstream_host(mut self, upstream: Upstream) -> Self {
        match upstream {
            Upstream::At(address) => self.text(UPSTREAM_HOST, &address, |f| f.upstream_host.clone()),
            Upstream::OnPort(port) => {
                let expected = format!("upstream host with port {port}");
                self.wants.push(UPSTREAM_HOST);
                self.matcher.demand(
                    About::Piece,
                    log_field("upstream host"),
                    expected,
                    move |log| match field(log, |f| f.upstream_host.clone()) {
                        Some(seen) if seen.parse().is_ok_and(|at: SocketAddr| at.port() == port) => Ok(()),
                        Some(seen) => Err(Odd::from(format!("upstream host {seen}"))),
                        None if lacks(log, UPSTREAM_HOST.1) => Ok(()),
                        None => Err(Odd::absent("no upstream host")),
                    },
                );
                self
            }
            Upstream::Nowhere => self.text(UPSTREAM_HOST, "(an address that the suite knows)", |_| None),
        }
    }

    /// The proxy had no upstream connection for the request, or only one to this address.
    pub fn no_upstream_but(mut self, upstream: &Upstream) -> Self {
        let allowed = match upstream {
            Upstream::At(address) => Some(address.clone()),
            Upstream::OnPort(_) | Upstream::Nowhere => None,
        };
        let or = allowed.as_ref().map(|a| format!(" except {a}")).unwrap_or_default();
        let what = log_field("upstream host").being(ValueKind::Absent);
        self.wants.push(UPSTREAM_HOST);
        self.matcher.demand(About::Piece, what, format!("no upstream host{or}"), move |log| {
            match field(log, |f| f.upstream_host.clone()) {
                Some(seen) if allowed.as_ref() != Some(&seen) => {
                    Err(Odd::being(ValueKind::Present, format!("upstream host {seen}")))
                }
                Some(_) | None => Ok(()),
            }
        });
        self
    }

    /// The cluster, if the format contains it; older default formats do not.
    pub fn upstream_cluster(mut self, cluster: &str) -> Self {
        let wanted = cluster.to_owned();
        let what = log_field("upstream cluster");
        self.wants.push(("upstream cluster", "upstream_cluster"));
        self.matcher.demand(About::Piece, what, format!("upstream cluster {cluster}"), move |log| {
            let shows = log.format.as_deref() != Some(ENVOY_TEXT) && !lacks(log, "upstream_cluster");
            match field(log, |f| f.upstream_cluster.clone()) {
                // `%UPSTREAM_CLUSTER_RAW%` ends here; `%UPSTREAM_CLUSTER%` may append `;`.
                Some(seen) if seen.trim_end_matches(';') == wanted => Ok(()),
                Some(seen) => Err(Odd::from(format!("upstream cluster {seen}"))),
                None if !shows => Ok(()),
                None => Err(Odd::absent("no upstream cluster")),
            }
        });
        self
    }

    /// `%REQUESTED_SERVER_NAME%`. Inconclusive if the format does not contain it.
    pub fn requested_server_name(mut self, name: &str) -> Self {
        const NAME: &str = "requested server name";
        let wanted = name.to_owned();
        self.wants_server_name = true;
        self.wants.push((NAME, SERVER_NAME));
        self.matcher.demand(About::Piece, log_field(NAME), format!("{NAME} {name}"), move |log| match field(
            log,
            |f| f.requested_server_name.clone(),
        ) {
            Some(seen) if seen == wanted => Ok(()),
            Some(seen) => Err(Odd::from(format!("{NAME} {seen}"))),
            None if !has_server_name(log) => Ok(()),
            None => Err(Odd::absent(format!("no {NAME}"))),
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
            let subject = |_: &AccessLog| {
                let line = format!("the access-log line of proxy {} for this request", l.proxy);
                Subject { piece: line.clone(), handshake: line, hop: deviation::own(&l.proxy) }
            };
            let mut finding = l.matcher.judge(&found, describe_line, subject);
            if found.is_empty() {
                finding.seen.push_str(&unreadable(&l.proxy, view));
            }
            let missing: Vec<&str> = l
                .wants
                .iter()
                .filter(|(_, key)| found.iter().any(|(_, log)| lacks(log, key)))
                .map(|(name, _)| *name)
                .collect();
            if finding.verdict == Verdict::Passed && !missing.is_empty() {
                finding = not_logged(&l.proxy, &missing, finding.expected, finding.evidence);
            }
            let mute = found.iter().find(|(_, log)| l.wants_server_name && !has_server_name(log));
            if let (Verdict::Passed, Some((id, log))) = (finding.verdict, mute) {
                let what = log_field("requested server name");
                let odd = Odd::being(ValueKind::Unknown, "a format without it");
                let deviation = what.deviates(&deviation::own(&l.proxy), &finding.expected, &odd);
                let seen = no_server_name(&l.proxy, log);
                finding = Finding::undecided(finding.expected, seen, vec![(*id).clone()]).by([deviation]);
            }
            // An unreadable line that contains the token may be a second line for this request.
            let second = lines(&l.proxy, view.evidence)
                .find(|(_, log)| log.unreadable.is_some() && log.line.contains(l.token.as_str()));
            let unclear = match finding.verdict {
                Verdict::Passed => true,
                Verdict::Failed => found.is_empty(),
                Verdict::Inconclusive | Verdict::Skipped | Verdict::Error => false,
            };
            if let (true, Some((e, log))) = (unclear, second) {
                let which = if found.is_empty() { "an" } else { "a second" };
                let seen = unread_line(&l.proxy, &format!("{which} access-log line with this token"), log);
                let odd = Odd::being(ValueKind::Unknown, "a line that cannot be parsed");
                let deviation =
                    deviation::log_line().deviates(&deviation::own(&l.proxy), &finding.expected, &odd);
                finding = Finding::undecided(finding.expected, seen, vec![e.id.clone()]).by([deviation]);
            }
            finding.about(&l.exchange)
        })
    }
}

fn no_server_name(proxy: &str, log: &AccessLog) -> String {
    format!(
        "the access-log format of proxy {proxy} does not contain the requested server name: {}",
        describe_line(log)
    )
}

fn unread_line(proxy: &str, which: &str, log: &AccessLog) -> String {
    format!("proxy {proxy} logged {which}, which cannot be parsed: {}", describe_unread(log))
}

/// Mentions lines that cannot be parsed: a reader must not think that the log is empty.
pub(super) fn unreadable(proxy: &str, view: View<'_>) -> String {
    let broken: Vec<&AccessLog> =
        lines(proxy, view.evidence).map(|(_, l)| l).filter(|l| l.unreadable.is_some()).collect();
    match broken.last() {
        Some(last) => format!(
            "; {} cannot be parsed, the last: {}",
            counted(broken.len(), "access-log line"),
            describe_unread(last)
        ),
        None => String::new(),
    }
}

/// Lines of connections that were passed through. They carry no token; the time tells which request they belong to.
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
            let finding = c.judge(view);
            let odd = Odd::from(finding.seen.clone());
            let deviation =
                deviation::log_line().deviates(&deviation::own(&c.proxy), &finding.expected, &odd);
            let seen_kind = if finding.evidence.is_empty() { ValueKind::Absent } else { ValueKind::Other };
            finding.by([Deviation { seen_kind, ..deviation }]).about(&c.reply.id)
        })
    }
}

impl ConnectionLine {
    fn judge(&self, view: View<'_>) -> Finding {
        let c = self;
        let expected = format!(
            "exactly one access-log line at proxy {} with server name {}, and no line with a method or path",
            c.proxy, c.server_name
        );
        let found: Vec<(&Evidence, &AccessLog)> = lines(&c.proxy, view.window(c.reply.mark)).collect();
        let ids: Vec<EvidenceId> = found.iter().map(|(e, _)| e.id.clone()).collect();
        let needed = [("method or path", ["method", "path"]), ("requested server name", [SERVER_NAME; 2])];
        let missing = |keys: &[&str; 2]| found.iter().any(|(_, log)| keys.iter().all(|key| lacks(log, key)));
        if let Some((name, _)) = needed.iter().find(|(_, keys)| missing(keys)) {
            return not_logged(&c.proxy, &[name], expected, ids);
        }
        let shows_http =
            |log: &AccessLog| field(log, |f| f.path.clone().or_else(|| f.method.clone())).is_some();
        if let Some((e, log)) = found.iter().find(|(_, l)| shows_http(l)) {
            let seen =
                format!("proxy {} logged a line with a method or path: {}", c.proxy, describe_line(log));
            return Finding::broken(expected, seen, vec![e.id.clone()]);
        }
        if let Some((e, log)) = found.iter().find(|(_, l)| l.unreadable.is_some()) {
            let seen = unread_line(&c.proxy, "an access-log line", log);
            return Finding::undecided(expected, seen, vec![e.id.clone()]);
        }
        let named: Vec<&AccessLog> = found
            .iter()
            .map(|(_, l)| *l)
            .filter(|l| {
                field(l, |f| f.requested_server_name.clone()).as_deref() == Some(c.server_name.as_str())
            })
            .collect();
        let shown = |logs: &[&AccessLog]| listed(logs.iter().map(|log| describe_line(log)));
        let number =
            |n: usize| format!("{} with server name {}", counted(n, "access-log line"), c.server_name);
        match named.as_slice() {
            [log] => {
                Finding::holds(expected, format!("proxy {} logged {}", c.proxy, describe_line(log)), ids)
            }
            [] if found.is_empty() => {
                let seen = format!(
                    "proxy {} logged no access-log line during this request{}",
                    c.proxy,
                    unreadable(&c.proxy, view)
                );
                Finding::broken(expected, seen, ids)
            }
            [] => match found.iter().find(|(_, l)| !has_server_name(l)) {
                Some((_, log)) => Finding::undecided(expected, no_server_name(&c.proxy, log), ids),
                None => {
                    let all: Vec<&AccessLog> = found.iter().map(|(_, l)| *l).collect();
                    let seen = format!("proxy {} logged {}, but {}", c.proxy, number(0), shown(&all));
                    Finding::broken(expected, seen, ids)
                }
            },
            several => {
                let seen = format!("proxy {} logged {}: {}", c.proxy, number(several.len()), shown(several));
                Finding::broken(expected, seen, ids)
            }
        }
    }
}
