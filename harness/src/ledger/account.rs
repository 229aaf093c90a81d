//! Puts the evidence side by side: what clients asked, what servers received, what proxies logged.

use std::collections::BTreeMap;

use meshproof_model::{
    AccessLog, Connection, Deviation, Difference, Evidence, EvidenceId, Exchange, Fact, Feature, Field, Hop,
    HopResult, Party, Role, ServerRequest, Side, ValueKind,
};
use url::Url;

use super::compare::{self, Compared};
use super::{Entry, Ledger, side_host};
use crate::claim::View;
use crate::claim::deviation::{self, Odd, What};
use crate::forecast::{Arrival, Originated, Promise, Sender, SentRequest, ServerCheck, Transport};
use crate::workload::authority_of;

/// The methods of RFC 9110, section 9.3, and RFC 5789, which every intermediary forwards.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// One request that a client sent.
pub(super) struct Asked<'a> {
    pub(super) id: &'a EvidenceId,
    pub(super) token: &'a str,
    pub(super) side: &'a Side,
    pub(super) exchange: &'a Exchange,
    pub(super) hop: &'a Hop,
    /// What the configurations that may have been in force promise for it; several while the configuration changed.
    pub(super) promises: Vec<Promise>,
    /// The requests at servers that belong to it, by their place in [`Account::received`].
    pub(super) received: Vec<usize>,
    pub(super) began_us: u64,
    pub(super) ended_us: u64,
}

/// One request that a server received.
pub(super) struct Received<'a> {
    pub(super) id: &'a EvidenceId,
    pub(super) token: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) request: &'a ServerRequest,
    /// The request of a client that it belongs to, by its place in [`Account::asked`].
    pub(super) of: Option<usize>,
}

impl Received<'_> {
    /// Whether the server closed the connection without an answer, or in the middle of one.
    fn is_unanswered(&self) -> bool {
        self.request.status == 0 || self.request.answer.as_ref().is_some_and(|answer| answer.breaks_off)
    }
}

pub(super) struct Opened<'a> {
    pub(super) id: &'a EvidenceId,
    pub(super) host: &'a str,
    pub(super) at_us: u64,
    pub(super) connection: &'a Connection,
}

pub(super) struct LogLine<'a> {
    pub(super) id: &'a EvidenceId,
    pub(super) proxy: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) log: &'a AccessLog,
}

/// The books of one scenario.
pub(super) struct Account<'a> {
    pub(super) asked: Vec<Asked<'a>>,
    pub(super) received: Vec<Received<'a>>,
    pub(super) connections: Vec<Opened<'a>>,
    pub(super) logged: Vec<LogLine<'a>>,
    pub(super) ledger: &'a Ledger,
    unobserved: &'a [String],
    /// Whether any promise of the scenario is open or unknown, so that a destination without a promise may be right.
    open: bool,
}

impl<'a> Account<'a> {
    pub(super) fn open(ledger: &'a Ledger, view: View<'a>) -> Self {
        let mut account = Self {
            asked: Vec::new(),
            received: Vec::new(),
            connections: Vec::new(),
            logged: Vec::new(),
            unobserved: view.unobserved,
            ledger,
            open: false,
        };
        for e in view.evidence.iter().filter(|e| !ledger.judged.contains(&e.id)) {
            match &e.fact {
                Fact::Exchange(exchange) => account.ask(ledger, e, exchange),
                Fact::Request(request) => {
                    if let Some(host) = side_host(e) {
                        let token = e.token.as_deref();
                        account.received.push(Received { id: &e.id, token, host, request, of: None });
                    }
                }
                Fact::Connection(connection) => {
                    if let Some(host) = side_host(e) {
                        account.connections.push(Opened { id: &e.id, host, at_us: e.at_us, connection });
                    }
                }
                Fact::AccessLog(log) => {
                    if let Side::Proxy { name } = &e.side {
                        let token = e.token.as_deref();
                        account.logged.push(LogLine { id: &e.id, proxy: name, token, log });
                    }
                }
                Fact::Change(_) | Fact::Credential(_) | Fact::Note { .. } => {}
            }
        }
        account.open = account.asked.iter().flat_map(|a| &a.promises).any(|p| matches!(p, Promise::Open));
        account.assign();
        account
    }

    /// How many requests at servers belong to a client's request.
    pub(super) fn matched(&self) -> usize {
        self.received.iter().filter(|r| r.of.is_some()).count()
    }

    fn ask(&mut self, ledger: &'a Ledger, e: &'a Evidence, exchange: &'a Exchange) {
        let Some(token) = e.token.as_deref() else { return };
        let began_us = e.at_us.saturating_sub(exchange.duration_us);
        for hop in &exchange.hops {
            let promises = ledger
                .in_force(began_us, e.at_us)
                .into_iter()
                .map(|period| match (&period.forecast, sender(ledger, &e.side, token)) {
                    (Some(forecast), Some(sender)) => {
                        let promise = promise(forecast.as_ref(), sender, hop);
                        if is_asked_for(ledger, &promise, hop) { promise } else { Promise::Open }
                    }
                    (_, _) => Promise::Open,
                })
                .collect();
            self.asked.push(Asked {
                id: &e.id,
                token,
                side: &e.side,
                exchange,
                hop,
                promises,
                received: Vec::new(),
                began_us,
                ended_us: e.at_us,
            });
        }
    }

    /// Gives each request at a server to the client's request that it belongs to.
    fn assign(&mut self) {
        let mut by_token: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, asked) in self.asked.iter().enumerate() {
            by_token.entry(asked.token).or_default().push(place);
        }
        for place in 0..self.received.len() {
            let received = &self.received[place];
            let Some(token) = received.token else { continue };
            let candidates = by_token.get(token).map(Vec::as_slice).unwrap_or_default();
            let fits =
                |asked: &Asked<'_>| asked.hop.method == received.request.method && asked.may_arrive(received);
            let of = |free: bool, definite: bool| {
                candidates.iter().copied().find(|&place| {
                    let asked = &self.asked[place];
                    let is_definite = !asked.promises.iter().any(|p| matches!(p, Promise::Open));
                    fits(asked) && asked.received.is_empty() == free && is_definite == definite
                })
            };
            // A definite promise before an open one, and a request without an owner before a repeated one.
            let owner = of(true, true)
                .or_else(|| of(false, true))
                .or_else(|| of(true, false))
                .or_else(|| of(false, false));
            if let Some(owner) = owner {
                self.received[place].of = Some(owner);
                self.asked[owner].received.push(place);
            }
        }
    }

    pub(super) fn is_unrecorded(&self, token: Option<&str>) -> bool {
        token.is_some_and(|token| self.ledger.unrecorded.iter().any(|known| known == token))
    }

    pub(super) fn is_received(&self, asked: &Asked<'_>) -> bool {
        !asked.received.is_empty()
    }

    fn is_observed(&self, host: &str) -> bool {
        !self.unobserved.iter().any(|h| h == host)
    }

    /// Requests that belong to no request of a client.
    pub(super) fn requests(&self) -> Vec<Entry> {
        let orphans = self.received.iter().filter(|r| r.of.is_none());
        orphans
            .filter(|r| !self.is_unrecorded(r.token))
            .map(|r| {
                let what = describe(r);
                let asked: Vec<&Asked<'_>> = self.asked.iter().filter(|a| r.token == Some(a.token)).collect();
                let words = match (r.token, asked.first()) {
                    (None, _) => {
                        format!("{what}, without the token of any request. Expected: no such request.")
                    }
                    (Some(_), None) => format!("{what}, and no client sent it. Expected: no such request."),
                    (Some(_), Some(first)) => {
                        let expected: Vec<String> = asked.iter().map(|a| a.expectation()).collect();
                        format!(
                            "{what}. It is not what the configuration in force makes of {}. Expected: {}.",
                            first.describe(),
                            expected.join(", or ")
                        )
                    }
                };
                let ids = std::iter::once(r.id.clone()).chain(asked.first().map(|a| a.id.clone()));
                Entry::new(words, ids).by(self.stray(r, &asked))
            })
            .collect()
    }

    /// How a request that belongs to none deviates from the requests with its token.
    fn stray(&self, r: &Received<'_>, asked: &[&Asked<'_>]) -> Deviation {
        let arrival = asked.iter().find_map(|a| a.arrivals().next());
        let is_tls = |a: &Arrival| a.transport.is_tls();
        let (what, kind, expected) = match arrival {
            Some(a) if a.host == r.host && is_tls(a) != r.request.over_tls => {
                let kind = |tls: bool| if tls { ValueKind::Tls } else { ValueKind::PlainText };
                let what = What::of(Field::Transport).being(kind(is_tls(a)));
                (what, kind(r.request.over_tls), a.transport.to_string())
            }
            Some(a) if a.host != r.host || a.port != r.request.port => {
                (What::of(Field::Destination), ValueKind::Other, format!("{} port {}", a.host, a.port))
            }
            Some(_) => (What::of(Field::Request).being(ValueKind::One), ValueKind::Other, String::new()),
            None => (
                What::of(Field::Request).being(ValueKind::Absent),
                ValueKind::Present,
                "no request".to_owned(),
            ),
        };
        let odd = Odd::being(kind, describe(r));
        let to = Party::named(Role::ExternalService, r.host);
        let hop = (self.opener(&r.request.peer), to);
        Deviation { evidence: Some(r.id.clone()), ..what.deviates(&hop, &expected, &odd) }
    }

    /// The proxy that logs this address as its own end of a connection.
    fn opener(&self, peer: &str) -> Party {
        let local = |l: &&LogLine<'_>| {
            l.log.fields.as_ref().and_then(|f| f.upstream_local_address.as_deref()) == Some(peer)
        };
        let line = self.logged.iter().find(local);
        line.map_or_else(deviation::some_proxy, |l| deviation::proxy(l.proxy))
    }

    /// A deviation of what the servers received of this request.
    fn number(&self, asked: &Asked<'_>, kind: ValueKind, first: Option<&Received<'_>>) -> Deviation {
        let host = first.map(|r| r.host).or_else(|| asked.arrivals().next().map(|a| a.host.as_str()));
        let to = match host {
            Some(host) => Party::named(Role::ExternalService, host),
            None => Party::unnamed(Role::ExternalService),
        };
        let from = first.map_or_else(deviation::some_proxy, |r| self.opener(&r.request.peer));
        let what = What::of(Field::Request).being(ValueKind::One);
        let odd = Odd::being(kind, asked.describe());
        let evidence = Some(asked.id.clone());
        Deviation { evidence, ..what.deviates(&(from, to), "one request", &odd) }
    }

    /// What happened to each client's request.
    pub(super) fn exchanges(&self) -> Vec<Entry> {
        self.asked.iter().filter_map(|asked| self.exchange(asked)).collect()
    }

    fn exchange(&self, asked: &Asked<'_>) -> Option<Entry> {
        match asked.received.as_slice() {
            [] => self.unreceived(asked),
            [first, more @ ..] => {
                let again: Vec<&Received<'_>> = more.iter().map(|place| &self.received[*place]).collect();
                // Istio's default retry policy repeats after 503 (`retriable-status-codes`). A request that was not answered
                // may be repeated if its method is idempotent (RFC 9110, section 9.2.2). No RFC says whether an unknown
                // method is.
                let idempotent = !matches!(asked.hop.method.as_str(), "POST" | "PATCH");
                let retried = std::iter::once(first).chain(more).take(more.len()).all(|place| {
                    let received = &self.received[*place];
                    received.request.status == 503 || (received.is_unanswered() && idempotent)
                });
                if !again.is_empty() && !retried {
                    let copies: Vec<String> = again.iter().map(|r| describe(r)).collect();
                    let words = format!(
                        "{} was received {} times: {}. Expected: once.",
                        asked.describe(),
                        again.len() + 1,
                        copies.join("; ")
                    );
                    let ids = again.iter().map(|r| r.id.clone()).chain([self.received[*first].id.clone()]);
                    let several = self.number(asked, ValueKind::Several, Some(&self.received[*first]));
                    return Some(Entry::new(words, ids.chain([asked.id.clone()])).by(several));
                }
                let last = &self.received[*asked.received.last()?];
                self.agree(asked, last)
            }
        }
    }

    /// A request that no server received.
    fn unreceived(&self, asked: &Asked<'_>) -> Option<Entry> {
        let response = asked.hop.response();
        let outcome =
            response.map_or_else(|| "it failed".to_owned(), |r| format!("the answer was {}", r.status));
        let entry = |expected: &str, deviation: Deviation| {
            let words =
                format!("{}: {outcome}, and no server received it. Expected: {expected}.", asked.describe());
            Some(Entry::new(words, [asked.id.clone()]).by(deviation))
        };
        let answer = |wanted: ValueKind| {
            let odd = Odd::being(deviation::outcome(asked.exchange), outcome.clone());
            let from = match asked.side {
                Side::Workload { name } => Party::named(Role::Workload, name),
                Side::Suite | Side::Proxy { .. } | Side::Service { .. } => Party::unnamed(Role::Client),
            };
            let what = What::of(Field::Response).being(wanted);
            let of = what.deviates(&(from, deviation::some_proxy()), "another answer", &odd);
            Deviation { evidence: Some(asked.id.clone()), ..of }
        };
        let succeeded = response.is_some_and(|r| r.status < 400);
        let mut wrong = None;
        for promise in &asked.promises {
            match promise {
                Promise::Open => return None,
                Promise::Ends { status: Some(status), .. } if *status < 400 => {
                    if response.is_some_and(|r| r.status == *status) {
                        return None;
                    }
                    wrong = entry(
                        &format!("the proxy's own answer {status}"),
                        answer(ValueKind::Status(*status)),
                    );
                }
                Promise::Ends { why, .. } => {
                    if !succeeded {
                        return None;
                    }
                    wrong = entry(&format!("a failure, because {why}"), answer(ValueKind::Refusal));
                }
                Promise::Arrives(arrival) => {
                    if !self.is_observed(&arrival.host) {
                        return None;
                    }
                    if !succeeded && self.may_fail(asked, arrival) {
                        return None;
                    }
                    wrong = entry(&asked.expectation(), self.number(asked, ValueKind::Absent, None));
                }
            }
        }
        wrong
    }

    /// Whether a request that must arrive may fail all the same: the server's certificate is refused, or the server itself
    /// refused the handshake.
    fn may_fail(&self, asked: &Asked<'_>, arrival: &Arrival) -> bool {
        let refused = match &arrival.transport {
            Transport::Originated(o) => !matches!(o.server, ServerCheck::Accepted),
            // Whether the mesh's CA issued the server's certificate is not in the forecast.
            Transport::Mesh => true,
            Transport::Clear | Transport::OwnTls => false,
        };
        // A server that closes a connection may take this request with it.
        let closed_by_server = self.received.iter().any(|r| r.host == arrival.host && r.is_unanswered());
        refused
            || closed_by_server
            // An intermediary may refuse a method that it does not know (RFC 9110, sections 9.1 and 15.6.2).
            || !asked.is_known_method()
            || matches!(&asked.hop.result, HopResult::Error(_)) && arrival.transport == Transport::OwnTls
            || asked.promises.len() > 1
            || self.connections.iter().any(|c| {
                c.host == arrival.host
                    && c.connection.port == arrival.port
                    && c.at_us + asked.exchange.duration_us >= asked.began_us
                    && c.at_us <= asked.ended_us
                    && c.connection.tls.as_ref().is_some_and(|tls| tls.failure.is_some())
            })
    }

    /// Whether the client's request, the server's and the answer agree.
    fn agree(&self, asked: &Asked<'_>, received: &Received<'_>) -> Option<Entry> {
        let undisturbed = asked.promises.len() == 1;
        let mut best: Option<Compared> = None;
        for promise in &asked.promises {
            let compared = match promise {
                Promise::Open => return None,
                Promise::Ends { .. } => continue,
                Promise::Arrives(arrival) if arrival.is_at(received) => {
                    compare::agree(asked, received, arrival, undisturbed)
                }
                Promise::Arrives(_) => continue,
            };
            if compared.is_empty() {
                return None;
            }
            if best.as_ref().is_none_or(|b| compared.len() < b.len()) {
                best = Some(compared);
            }
        }
        let compared = best?;
        let sentences: Vec<String> =
            compared.iter().map(|(at, d)| format!("{at}: {}. Expected: {}.", d.seen, d.expected)).collect();
        let differences = compared
            .iter()
            .map(|(at, d)| Difference {
                evidence: if at.is_client() { asked.id.clone() } else { received.id.clone() },
                expected: d.expected.clone(),
                seen: d.seen.clone(),
            })
            .collect();
        let words = format!("{} does not agree at both ends. {}", asked.describe(), sentences.join(" "));
        let client = match asked.side {
            Side::Workload { name } => Party::named(Role::Workload, name),
            Side::Suite | Side::Proxy { .. } | Side::Service { .. } => Party::unnamed(Role::Client),
        };
        let at_client = (client, deviation::some_proxy());
        let to = Party::named(Role::ExternalService, received.host);
        let at_server = (self.opener(&received.request.peer), to);
        let deviations = compared
            .iter()
            .map(|(at, d)| {
                if at.is_client() {
                    d.deviation(&at_client, asked.id)
                } else {
                    d.deviation(&at_server, received.id)
                }
            })
            .collect();
        Some(Entry { differences, deviations, ..Entry::new(words, [asked.id.clone(), received.id.clone()]) })
    }

    /// Connections that carry something and belong to nothing.
    pub(super) fn connections(&self) -> Vec<Entry> {
        self.connections.iter().filter_map(|opened| self.connection(opened)).collect()
    }

    fn connection(&self, opened: &Opened<'_>) -> Option<Entry> {
        let Connection { number, port, tls_port, clear_bytes, tls, peer } = opened.connection;
        let has_requests =
            self.received.iter().any(|r| r.host == opened.host && r.request.connection == *number);
        let promised: Vec<(&Asked<'_>, &Arrival)> = self
            .asked
            .iter()
            .flat_map(|asked| asked.arrivals().map(move |a| (asked, a)))
            .filter(|(_, a)| a.host == opened.host && a.port == *port)
            .collect();
        let entry = |of: What, kind: ValueKind, what: String, expected: String| {
            let words = format!(
                "{} received a connection from {peer} on port {port} {what}. Expected: {expected}.",
                opened.host
            );
            let hop = (self.opener(peer), Party::named(Role::ExternalService, opened.host));
            let deviation = of.deviates(&hop, &expected, &Odd::being(kind, what));
            let deviation = Deviation { evidence: Some(opened.id.clone()), ..deviation };
            Some(Entry::new(words, [opened.id.clone()]).by(deviation))
        };
        let in_clear = !clear_bytes.is_empty() && tls.is_none();
        if in_clear && !has_requests && !self.open {
            let allowed = promised.iter().any(|(_, a)| !a.transport.is_tls());
            if !allowed || *tls_port {
                let begin = crate::store::bounded(clear_bytes, 80);
                return entry(
                    What::of(Field::Transport).being(ValueKind::Tls),
                    ValueKind::PlainText,
                    format!("with the clear bytes {begin:?} and no request"),
                    "nothing outside TLS that belongs to no request".to_owned(),
                );
            }
        }
        let Some(facts) = tls else { return None };
        // nginx logs nothing of a ClientHello whose handshake fails.
        let hello_unseen =
            facts.failure.is_some() && facts.server_name.is_none() && facts.alpn_offered.is_none();
        if hello_unseen {
            return None;
        }
        if self.open || promised.is_empty() || promised.iter().any(|(_, a)| a.transport == Transport::Mesh) {
            return None;
        }
        let names: Vec<Option<&str>> = promised.iter().map(|(asked, a)| server_name(asked, a)).collect();
        let same = |name: &Option<&str>| match (name, &facts.server_name) {
            (Some(name), Some(seen)) => name.eq_ignore_ascii_case(seen),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !names.iter().any(same) {
            let mut expected: Vec<&str> = names.into_iter().map(|n| n.unwrap_or("no server name")).collect();
            expected.sort_unstable();
            expected.dedup();
            let seen = match &facts.server_name {
                Some(name) => format!("whose TLS handshake had the server name {name}"),
                None => "whose TLS handshake had no server name (SNI)".to_owned(),
            };
            let kind = if facts.server_name.is_none() { ValueKind::Absent } else { ValueKind::Other };
            return entry(What::of(Field::ServerName), kind, seen, expected.join(" or "));
        }
        None
    }
}

/// The server name that an arrival's handshake must have.
pub(super) fn server_name<'a>(asked: &Asked<'a>, arrival: &'a Arrival) -> Option<&'a str> {
    match &arrival.transport {
        Transport::Originated(Originated { server_name, .. }) => server_name.as_deref(),
        Transport::OwnTls => asked.hop.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
        Transport::Clear | Transport::Mesh => None,
    }
}

impl Asked<'_> {
    pub(super) fn arrivals(&self) -> impl Iterator<Item = &Arrival> {
        self.promises.iter().filter_map(|promise| match promise {
            Promise::Arrives(arrival) => Some(arrival.as_ref()),
            Promise::Ends { .. } | Promise::Open => None,
        })
    }

    fn is_known_method(&self) -> bool {
        METHODS.contains(&self.hop.method.as_str())
    }

    fn may_arrive(&self, received: &Received<'_>) -> bool {
        self.promises.iter().any(|promise| match promise {
            Promise::Open => true,
            Promise::Ends { .. } => false,
            Promise::Arrives(arrival) => arrival.is_at(received),
        })
    }

    /// `GET http://edition.cnn.com/politics from workload sleep`.
    pub(super) fn describe(&self) -> String {
        let from = match self.side {
            Side::Workload { name } => format!("workload {name}"),
            Side::Suite => "the suite's own client".to_owned(),
            Side::Proxy { name } | Side::Service { host: name } => name.clone(),
        };
        let url = crate::store::bounded(&self.hop.url, 200);
        format!("{} {url} from {from}", self.hop.method)
    }

    fn expectation(&self) -> String {
        let all: Vec<String> = self
            .promises
            .iter()
            .map(|promise| match promise {
                Promise::Open => "what the configuration leaves open".to_owned(),
                Promise::Ends { why, .. } => format!("no request at any server, because {why}"),
                Promise::Arrives(a) => {
                    let by: Vec<&str> = a.proxies.iter().map(|p| p.proxy.as_str()).collect();
                    let way =
                        if by.is_empty() { String::new() } else { format!(" through {}", by.join(" and ")) };
                    format!("one request at {} port {} {}{way}", a.host, a.port, a.transport)
                }
            })
            .collect();
        all.join(", or ")
    }
}

impl Arrival {
    fn is_at(&self, received: &Received<'_>) -> bool {
        self.host == received.host
            && self.port == received.request.port
            && (self.transport == Transport::Mesh || self.transport.is_tls() == received.request.over_tls)
    }
}

/// Whether the implementation declares every feature that this request needs. What it declares it lacks is not judged.
fn is_asked_for(ledger: &Ledger, promise: &Promise, hop: &Hop) -> bool {
    let http2 = hop.sent.starts_with("PRI * HTTP/2");
    let web_socket = hop.sent.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n");
    let of_request =
        (!http2 || ledger.has(Feature::Http2)) && (!web_socket || ledger.has(Feature::WebSocket));
    let of_way = match promise {
        Promise::Arrives(arrival) => arrival.needs.iter().all(|feature| ledger.has(*feature)),
        Promise::Ends { .. } => ledger.has(Feature::RegistryOnly),
        Promise::Open => true,
    };
    of_request && of_way
}

fn sender<'a>(ledger: &'a Ledger, side: &'a Side, token: &str) -> Option<Sender<'a>> {
    match side {
        Side::Workload { name } => Some(Sender::Workload(name)),
        Side::Suite => ledger.probes.get(token).map(Sender::Probe),
        Side::Proxy { .. } | Side::Service { .. } => None,
    }
}

fn promise(forecast: &dyn crate::forecast::Forecast, sender: Sender<'_>, hop: &Hop) -> Promise {
    let Ok(url) = Url::parse(&hop.url) else { return Promise::Open };
    let host = hop.headers.iter().find(|h| h.name == "host").map(|h| h.value.clone());
    let authority = host.unwrap_or_else(|| authority_of(&hop.url).to_owned());
    let headers: Vec<(String, String)> =
        hop.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.clone())).collect();
    let own_name = hop.tls.as_ref().and_then(|tls| tls.server_name.clone());
    let server_name = (url.scheme() == "https")
        .then(|| own_name.or_else(|| url.host_str().map(str::to_owned)).unwrap_or_default());
    forecast.of(&SentRequest {
        sender,
        method: &hop.method,
        url: &hop.url,
        authority: &authority,
        server_name: server_name.as_deref(),
        headers: &headers,
    })
}

/// `edition.cnn.com received GET /politics on port 80 in plain text`.
pub(super) fn describe(r: &Received<'_>) -> String {
    let over = if r.request.over_tls { "over TLS" } else { "in plain text" };
    let target = crate::store::bounded(&r.request.target, 200);
    format!("{} received {} {target} on port {} {over}", r.host, r.request.method, r.request.port)
}
