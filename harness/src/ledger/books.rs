//! The books of one scenario: the evidence side by side, each request at a server beside the client's request that it belongs to.

use std::collections::BTreeMap;

use meshproof_model::{
    AccessLog, Connection, Evidence, EvidenceId, Exchange, ExchangeErrorKind, Fact, Hop, HopResult,
    ServerAnswer, ServerRequest, Side, TCP,
};

use super::promised::{is_asked_for, promises, sender};
use super::{Ledger, side_host};
use crate::claim::View;
use crate::forecast::{Arrival, Originated, Promise, ServerCheck, Transport};
use crate::grpc;
use crate::traffic::{AnswerFraming, AnswerSpec, DIRECTIONS};

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
    pub(super) fn is_unanswered(&self) -> bool {
        (self.request.status == 0 && !self.request.is_conversation())
            || self.request.answer.as_ref().is_some_and(|answer| answer.breaks_off)
    }

    /// Whether the server closed the connection with it, unannounced. Of an HTTP/2 connection it ends the stream alone (RFC 9113,
    /// section 5.4.2).
    pub(super) fn ends_connection(&self) -> bool {
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

    pub(super) fn is_observed(&self, host: &str) -> bool {
        !self.unobserved.iter().any(|h| h == host)
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

    pub(super) fn is_known_method(&self) -> bool {
        METHODS.contains(&self.hop.method.as_str()) || self.is_conversation()
    }

    pub(super) fn has_meaningless_content(&self) -> bool {
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

    pub(super) fn may_arrive(&self, received: &Received<'_>) -> bool {
        self.promises.iter().any(|promise| match promise {
            Promise::Open => true,
            Promise::Ends { .. } => false,
            Promise::Arrives(arrival) => arrival.is_at(received),
        })
    }
}

impl Arrival {
    /// The proxy that must refuse the server's certificate, and why.
    pub(super) fn refusal(&self) -> Option<(&str, &str)> {
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

    pub(super) fn is_at(&self, received: &Received<'_>) -> bool {
        self.host == received.host
            && self.port == received.request.port
            && (self.transport == Transport::Mesh || self.transport.is_tls() == received.request.over_tls)
    }
}
