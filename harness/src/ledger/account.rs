//! Puts the evidence side by side: what clients asked, what servers received, what proxies logged.

use std::collections::BTreeMap;

use meshproof_model::{
    AccessLog, Connection, Deviation, Difference, Evidence, EvidenceId, Exchange, ExchangeErrorKind, Fact,
    Hop, HopResult, ServerAnswer, ServerRequest, Side, TCP, ValueKind,
};

use super::compare::{self, Compared};
use super::deviations;
use super::promised::{is_asked_for, promises, sender};
use super::sentences;
use super::{Entry, Ledger, side_host};
use crate::claim::View;
use crate::forecast::{Arrival, Originated, Promise, ServerCheck, Transport};
use crate::grpc;
use crate::traffic::{AnswerFraming, AnswerSpec, DIRECTIONS};

/// The methods of RFC 9110, section 9.3, and RFC 5789, which every intermediary forwards.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// What a request does that a proxy must not or cannot forward.
const FAIL: &str = "fail with 502, 503, 504 or a closed connection";

/// How long after the end of a request another one may be lost with its connection, in microseconds.
const CLOSING_US: u64 = 1_000_000;

/// One request that a client sent.
pub(super) struct Asked<'a> {
    pub(super) id: &'a EvidenceId,
    pub(super) token: &'a str,
    pub(super) side: &'a Side,
    pub(super) exchange: &'a Exchange,
    pub(super) hop: &'a Hop,
    /// What the configurations that may have been in force promise for it; several while the configuration changed.
    pub(super) promises: Vec<Promise>,
    /// Whether the target works out what the configuration promises.
    pub(super) foreseen: bool,
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
        (self.request.status == 0 && !self.request.is_conversation())
            || self.request.answer.as_ref().is_some_and(|answer| answer.breaks_off)
    }

    /// Whether the server closed the connection with it, unannounced. Of an HTTP/2 connection it ends the stream alone (RFC 9113,
    /// section 5.4.2).
    fn ends_connection(&self) -> bool {
        let of_its_own = self.is_unanswered() && self.taken_away().is_none();
        (of_its_own && !self.request.version.starts_with("HTTP/2"))
            || self.request.answer.as_ref().is_some_and(|answer| answer.closes)
    }

    /// The status that the server was going to answer with when the request was taken away from it: its connection or its stream
    /// ended before.
    pub(super) fn taken_away(&self) -> Option<u16> {
        if self.request.status != 0 || self.request.answer.is_some() {
            return None;
        }
        let directed = AnswerSpec::from_header(self.request.header(DIRECTIONS)?)?;
        (directed.framing != AnswerFraming::NoAnswer).then_some(directed.status)
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
    pub(super) open: bool,
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
        let periods = ledger.in_force(began_us, e.at_us);
        let foreseen = periods.iter().any(|period| period.forecast.is_some());
        for hop in &exchange.hops {
            let promises = periods
                .iter()
                .flat_map(|period| match (&period.forecast, sender(ledger, &e.side, token)) {
                    (Some(forecast), Some(sender)) => {
                        let asked_for = |promise| {
                            if is_asked_for(ledger, &promise, hop) { promise } else { Promise::Open }
                        };
                        promises(forecast.as_ref(), sender, hop).into_iter().map(asked_for).collect()
                    }
                    (_, _) => vec![Promise::Open],
                })
                .collect();
            self.asked.push(Asked {
                id: &e.id,
                token,
                side: &e.side,
                exchange,
                hop,
                promises,
                foreseen,
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

    fn is_observed(&self, host: &str) -> bool {
        !self.unobserved.iter().any(|h| h == host)
    }

    /// Requests that belong to no request of a client.
    pub(super) fn requests(&self) -> Vec<Entry> {
        let orphans = self.received.iter().filter(|r| r.of.is_none());
        orphans
            .filter(|r| !self.is_unrecorded(r.token))
            .map(|r| {
                let received = sentences::received(self.ledger, r);
                let asked: Vec<&Asked<'_>> = self.asked.iter().filter(|a| r.token == Some(a.token)).collect();
                let words = match (r.token, asked.first()) {
                    (None, _) => format!("{received} without the token of any request."),
                    (Some(_), None) => format!("{received}, and no client sent it."),
                    (Some(_), Some(first)) => {
                        let promised: Vec<String> =
                            asked.iter().map(|a| sentences::promised(self.ledger, a)).collect();
                        format!(
                            "{}. According to the current configuration it must {}. {received}.",
                            sentences::sent(first),
                            promised.join(", or ")
                        )
                    }
                };
                let ids = std::iter::once(r.id.clone()).chain(asked.first().map(|a| a.id.clone()));
                Entry::new(words, ids).by(self.stray(r, &asked))
            })
            .collect()
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
                    // A proxy that gives up when its route's timeout has passed may close the connection to the one before it.
                    let too_late = received.request.answer.as_ref();
                    let too_late =
                        too_late.is_some_and(|answer| asked.arrivals().any(|a| a.is_too_late(answer)));
                    received.request.status == 503 || ((received.is_unanswered() || too_late) && idempotent)
                });
                if !again.is_empty() && !retried {
                    let first = &self.received[*first];
                    let copies: Vec<String> = std::iter::once(first)
                        .chain(again.iter().copied())
                        .map(|r| sentences::received_inside(self.ledger, r))
                        .collect();
                    let words = format!(
                        "{} once, and servers received it {} times: {}.",
                        sentences::sent(asked),
                        copies.len(),
                        copies.join("; ")
                    );
                    let ids = again.iter().map(|r| r.id.clone()).chain([first.id.clone()]);
                    let several = self.number(asked, ValueKind::Several, Some(first));
                    return Some(Entry::new(words, ids.chain([asked.id.clone()])).by(several));
                }
                let last = &self.received[*asked.received.last()?];
                self.agree(asked, last)
            }
        }
    }

    /// A request that no server received.
    fn unreceived(&self, asked: &Asked<'_>) -> Option<Entry> {
        // One that a wrong server received has an entry already.
        if self.received.iter().any(|r| r.of.is_none() && r.token == Some(asked.token)) {
            return None;
        }
        let response = asked.hop.response();
        let outcome = response.map_or_else(|| "no answer".to_owned(), |r| format!("the answer {}", r.status));
        let entry = |promised: &str, deviation: Deviation| {
            let words = format!(
                "{} and received {outcome}, but no server received the request. According to the current configuration it \
                 must {promised}.",
                sentences::sent(asked)
            );
            Some(Entry::new(words, [asked.id.clone()]).by(deviation))
        };
        let succeeded = response.is_some_and(|r| r.status < 400);
        // A status below 500 says that the client or the origin server is at fault (RFC 9110, sections 15.5 and 15.6).
        let blames_somebody_else = response.is_some_and(|r| r.status < 500);
        let mut wrong = None;
        for promise in &asked.promises {
            match promise {
                Promise::Open => return None,
                Promise::Ends { status: Some(status), .. } if *status < 400 => {
                    if response.is_some_and(|r| r.status == *status) {
                        return None;
                    }
                    let answer = deviations::answer(asked, ValueKind::Status(*status));
                    wrong = entry(&format!("be answered with {status} by the proxy itself"), answer);
                }
                Promise::Ends { why, status, .. } => {
                    let must_blame_the_upstream = *status >= Some(500);
                    let wrong_blame = must_blame_the_upstream && blames_somebody_else;
                    if !succeeded && !wrong_blame {
                        return None;
                    }
                    let answer = deviations::answer(asked, ValueKind::Refusal);
                    wrong = entry(&format!("{FAIL}, because {why}"), answer);
                }
                Promise::Arrives(arrival) => {
                    if !self.is_observed(&arrival.host) {
                        return None;
                    }
                    let refusal = arrival.refusal();
                    if !succeeded
                        && self.may_fail(asked, arrival)
                        && !(refusal.is_some() && blames_somebody_else)
                    {
                        return None;
                    }
                    let (promised, deviation) = match refusal {
                        Some((by, why)) => (
                            format!("{FAIL}, because {by} must refuse the server's certificate: {why}"),
                            deviations::answer(asked, ValueKind::Refusal),
                        ),
                        None => (
                            sentences::promised(self.ledger, asked),
                            self.number(asked, ValueKind::Absent, None),
                        ),
                    };
                    wrong = entry(&promised, deviation);
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
        // A server that closes a connection may take with it this request, if it was sent at about the same time.
        let meanwhile = |other: &Asked<'_>| {
            other.began_us <= asked.ended_us + CLOSING_US && asked.began_us <= other.ended_us + CLOSING_US
        };
        let closed_by_server = self.received.iter().any(|r| {
            let of = r.of.map(|place| &self.asked[place]);
            r.host == arrival.host && r.ends_connection() && of.is_none_or(meanwhile)
        });
        // RFC 9110, sections 15.5.22 and 15.6.6; Envoy's `accept_http_10` is off, and its answer is 426.
        let refused_version =
            asked.hop.is_http10() && asked.hop.response().is_some_and(|r| matches!(r.status, 426 | 505));
        refused
            || closed_by_server
            || refused_version
            // An intermediary may refuse a method that it does not know (RFC 9110, sections 9.1 and 15.6.2).
            || !asked.is_known_method()
            // It may also refuse content that has no meaning (RFC 9110, sections 9.3.1, 9.3.5 and 9.3.7).
            || asked.has_meaningless_content()
            // A server that expects TLS cannot answer plain text, unless it is one of HTTP.
            || asked.is_conversation() && !arrival.transport.is_tls() && self.expects_tls(arrival)
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

    fn expects_tls(&self, arrival: &Arrival) -> bool {
        let at = |c: &&Opened<'_>| c.host == arrival.host && c.connection.port == arrival.port;
        self.connections.iter().find(at).is_some_and(|c| c.connection.tls_port)
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
        let differences = compared
            .iter()
            .map(|(at, d)| Difference {
                evidence: if at.is_client() { asked.id.clone() } else { received.id.clone() },
                expected: d.expected.clone(),
                seen: d.seen.clone(),
            })
            .collect();
        let words = sentences::differing(self.ledger, asked, received, &compared);
        let (at_client, at_server) = (deviations::client_hop(asked), self.hop_to(received));
        let deviations = compared
            .iter()
            .map(|(at, d)| match at.is_client() {
                true => d.deviation(&at_client, asked.id),
                false => d.deviation(&at_server, received.id),
            })
            .collect();
        Some(Entry { differences, deviations, ..Entry::new(words, [asked.id.clone(), received.id.clone()]) })
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
        METHODS.contains(&self.hop.method.as_str()) || self.is_conversation()
    }

    fn has_meaningless_content(&self) -> bool {
        let methods = ["GET", "HEAD", "DELETE", "OPTIONS"];
        self.hop.body_bytes.is_some_and(|bytes| bytes > 0) && methods.contains(&self.hop.method.as_str())
    }

    /// Whether the proxy ended it, and not the client.
    pub(super) fn outcome_is_the_proxys(&self) -> bool {
        match &self.hop.result {
            HopResult::Response(_) => true,
            HopResult::Error(error) => {
                error.kind != ExchangeErrorKind::Timeout && !grpc::is_cancelled(&error.message)
            }
        }
    }

    /// Whether it is a conversation over TCP.
    pub(super) fn is_conversation(&self) -> bool {
        self.hop.method == TCP
    }

    fn may_arrive(&self, received: &Received<'_>) -> bool {
        self.promises.iter().any(|promise| match promise {
            Promise::Open => true,
            Promise::Ends { .. } => false,
            Promise::Arrives(arrival) => arrival.is_at(received),
        })
    }
}

impl Arrival {
    /// The proxy that must refuse the server's certificate, and why.
    fn refusal(&self) -> Option<(&str, &str)> {
        match &self.transport {
            Transport::Originated(Originated { by, server: ServerCheck::Refused(why), .. }) => {
                Some((by, why))
            }
            Transport::Originated(_) | Transport::Clear | Transport::OwnTls | Transport::Mesh => None,
        }
    }

    /// Whether a server that waited so long before it answered is too late.
    pub(super) fn is_too_late(&self, answer: &ServerAnswer) -> bool {
        self.timeout_ms.is_some_and(|limit| answer.waited_ms > limit)
    }

    fn is_at(&self, received: &Received<'_>) -> bool {
        self.host == received.host
            && self.port == received.request.port
            && (self.transport == Transport::Mesh || self.transport.is_tls() == received.request.over_tls)
    }
}
