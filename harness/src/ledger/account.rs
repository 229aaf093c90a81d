//! How each request went: what servers received, and what clients got for it.

use meshproof_model::{Deviation, Difference, HopResult, ValueKind};

use super::Entry;
use super::books::{Account, Asked, Opened, Received};
use super::compare::{self, Compared};
use super::deviations;
use super::sentences;
use crate::forecast::{Arrival, Promise, ServerCheck, Transport};

/// What a request does that a proxy must not or cannot forward.
const FAIL: &str = "fail with 502, 503, 504 or a closed connection";

/// How long after the end of a request another one may be lost with its connection, in microseconds.
const CLOSING_US: u64 = 1_000_000;

impl Account<'_> {
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
                        && !(refusal.is_some() && blames_somebody_else && !may_be_refused_for_its_form(asked))
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
        refused
            || closed_by_server
            || may_be_refused_for_its_form(asked)
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

/// Whether an intermediary may refuse the request for what it is, wherever it goes.
fn may_be_refused_for_its_form(asked: &Asked<'_>) -> bool {
    // RFC 9110, sections 15.5.22 and 15.6.6; Envoy's `accept_http_10` is off, and its answer is 426.
    let refused_version =
        asked.hop.is_http10() && asked.hop.response().is_some_and(|r| matches!(r.status, 426 | 505));
    refused_version
        // A method that it does not know (RFC 9110, sections 9.1 and 15.6.2).
        || !asked.is_known_method()
        // Content that has no meaning (RFC 9110, sections 9.3.1, 9.3.5 and 9.3.7).
        || asked.has_meaningless_content()
}
