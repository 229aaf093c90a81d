//! Claims about what the client received.

use meshproof_model::{
    Deviation, Difference, EvidenceId, Exchange, ExchangeError, ExchangeErrorKind, Fact, Field, Hop,
    HopResult, Response, Side, ValueKind,
};

use super::deviation::{self, Odd, What};
use super::words::{counted, unlike};
use super::{Claim, Claims, Finding, View};
use crate::store::bounded;

/// What came of one request, including the redirects that were followed.
#[derive(Clone, Debug)]
#[must_use]
pub struct Reply {
    /// The exchange, as evidence.
    pub id: EvidenceId,
    /// The request's correlation token.
    pub token: String,
    /// The exchange itself.
    pub exchange: Exchange,
    /// Who sent the request: `workload sleep`.
    pub(crate) client: String,
    /// Where the request's part of the evidence begins.
    pub(crate) mark: usize,
}

/// How much of a URL or a body a sentence shows, in bytes.
const BRIEF: usize = 200;

/// The request of a hop: `GET http://host/path`.
fn asked(hop: &Hop) -> String {
    format!("{} {}", hop.method, bounded(&hop.url, BRIEF))
}

/// What the client received on a hop: `HTTP/1.1 301 to https://host/path for GET http://host/path`.
pub(super) fn describe_hop(hop: &Hop) -> String {
    let asked = asked(hop);
    match &hop.result {
        HopResult::Response(r) if r.is_conversation() => {
            let said = hop.body_bytes.unwrap_or_default();
            format!("the whole conversation ({said} bytes sent, {} bytes received) for {asked}", r.body_bytes)
        }
        HopResult::Response(r) => {
            let location = r.header("location").map(|l| format!(" to {}", bounded(l, BRIEF)));
            format!("{} {}{} for {asked}", r.version, r.status, location.unwrap_or_default())
        }
        HopResult::Error(ExchangeError { kind, message }) => {
            let kind = match kind {
                ExchangeErrorKind::ConnectionRefused => "connection refused",
                ExchangeErrorKind::ConnectionClosed => "connection closed without a response",
                ExchangeErrorKind::Tls => "TLS failure",
                ExchangeErrorKind::Protocol => "response is not HTTP",
                ExchangeErrorKind::Timeout => "timeout",
                ExchangeErrorKind::ClientFailed => "the suite's client failed",
                ExchangeErrorKind::Other => "failure",
            };
            format!("no response to {asked}: {kind} ({message})")
        }
    }
}

/// What came of one hop.
pub(super) fn came(hop: &Hop) -> Odd {
    let kind = match &hop.result {
        HopResult::Response(r) => ValueKind::Status(r.status),
        HopResult::Error(e) => ValueKind::NoResponse(e.kind),
    };
    Odd::being(kind, describe_hop(hop))
}

/// `the body "..."`, shortened. An error page is shown by its title.
pub(super) fn body(r: &Response) -> String {
    let of_error = r.status >= 400;
    match (r.body.as_str(), title(&r.body).filter(|_| of_error)) {
        ("", _) => "an empty body".to_owned(),
        (_, Some(title)) => format!("a page with the title {:?}", bounded(title, BRIEF)),
        (text, None) => format!("the body {:?}", bounded(text, BRIEF)),
    }
}

/// The title of an HTML page.
fn title(page: &str) -> Option<&str> {
    let (begin, end) = ("<title>", "</title>");
    // ASCII letters in the other case have the same length.
    let lower = page.to_ascii_lowercase();
    let from = lower.find(begin)? + begin.len();
    let length = lower[from..].find(end)?;
    Some(page[from..from + length].trim()).filter(|title| !title.is_empty())
}

impl Reply {
    /// What the client received, in a few words: `HTTP/1.1 200 for GET http://host/path`.
    #[must_use]
    pub fn describe(&self) -> String {
        self.exchange.hops.iter().map(describe_hop).collect::<Vec<_>>().join(", then ")
    }

    /// `workload sleep received ...`.
    fn received(&self, what: &str) -> String {
        format!("{} received {what}", self.client)
    }

    /// What was received, with the request that it answers.
    pub(super) fn for_request(&self, seen: &str) -> String {
        match self.exchange.hops.last() {
            Some(hop) => format!("{seen} for {}", asked(hop)),
            None => seen.to_owned(),
        }
    }

    /// `expected` is what the client had to receive; the error of `verdict` is what it received instead.
    pub(super) fn fixed(&self, what: impl Into<What>, expected: String, verdict: Result<(), Odd>) -> Claim {
        // The exchange is over: the finding cannot change any more.
        let evidence = vec![self.id.clone()];
        let finding = match verdict {
            Ok(()) => Finding::holds(expected, self.received(&self.describe()), evidence),
            Err(odd) => {
                let deviation = self.deviation(&what.into(), &expected, &odd);
                let seen = odd.words;
                Finding {
                    differences: vec![Difference {
                        evidence: self.id.clone(),
                        expected: expected.clone(),
                        seen: seen.clone(),
                    }],
                    ..Finding::broken(expected, self.received(&seen), evidence)
                }
                .by([deviation])
            }
        };
        Claim::new(move |_| finding.clone())
    }

    pub(super) fn deviation(&self, what: &What, expected: &str, odd: &Odd) -> Deviation {
        let hop = (deviation::client(&self.client), deviation::some_proxy());
        Deviation { evidence: Some(self.id.clone()), ..what.deviates(&hop, expected, odd) }
    }

    /// What came of the whole exchange.
    pub(super) fn came(&self) -> Odd {
        Odd::being(deviation::outcome(&self.exchange), self.describe())
    }

    /// The client received these statuses, one per hop, in this order.
    pub fn statuses(&self, wanted: &[u16]) -> Claim {
        let seen: Vec<Option<u16>> =
            self.exchange.hops.iter().map(|h| h.response().map(|r| r.status)).collect();
        let same = seen.len() == wanted.len() && seen.iter().zip(wanted).all(|(s, w)| *s == Some(*w));
        let words: Vec<String> = wanted.iter().map(u16::to_string).collect();
        let ended = self.exchange.last_response().is_some();
        let redirected = ended && seen.len() != wanted.len();
        let (what, odd) = match (redirected, wanted.last()) {
            (true, _) if seen.len() > wanted.len() => {
                let odd = Odd::being(ValueKind::Present, self.describe());
                (What::of(Field::Redirect).being(ValueKind::Absent), odd)
            }
            (true, _) => (What::of(Field::Redirect), Odd::absent(self.describe())),
            (false, last) => {
                let status = last.copied().unwrap_or_default();
                (What::of(Field::Status).being(ValueKind::Status(status)), self.came())
            }
        };
        let expected = format!("status {}", words.join(", then "));
        self.fixed(what, expected, same.then_some(()).ok_or(odd))
    }

    /// The request failed, and the control succeeded. `control_is` names the control and the one thing that differs in it.
    pub fn unlike(&self, control_is: &str, control: &Self) -> Claim {
        self.fails().provided(control_is, control.succeeds())
    }

    /// The request failed: an error, or a status of 400 or above. It proves something only together with a control.
    pub fn fails(&self) -> Claim {
        let failed = match self.exchange.hops.last().map(|h| &h.result) {
            Some(HopResult::Response(r)) => r.status >= 400,
            Some(HopResult::Error(e)) => match e.kind {
                ExchangeErrorKind::ConnectionRefused
                | ExchangeErrorKind::ConnectionClosed
                | ExchangeErrorKind::Tls
                | ExchangeErrorKind::Protocol => true,
                ExchangeErrorKind::Timeout | ExchangeErrorKind::ClientFailed | ExchangeErrorKind::Other => {
                    false
                }
            },
            None => false,
        };
        self.fixed(
            What::of(Field::Response).being(ValueKind::Refusal),
            "a failure (4xx, 5xx, refused or closed connection, TLS failure)".to_owned(),
            failed.then_some(()).ok_or_else(|| self.came()),
        )
    }

    /// The last response has this status, after any number of redirects.
    pub fn ends_with(&self, status: u16) -> Claim {
        let ok = self.exchange.last_response().is_some_and(|r| r.status == status);
        self.fixed(
            What::of(Field::Status).being(ValueKind::Status(status)),
            format!("status {status} in the last response"),
            ok.then_some(()).ok_or_else(|| self.came()),
        )
    }

    /// The last response's body contains this text, after any number of redirects.
    pub fn last_body_contains(&self, text: &str) -> Claim {
        let verdict = match self.exchange.last_response() {
            Some(r) if r.body.contains(text) => Ok(()),
            Some(r) => Err(Odd::from(body(r))),
            None => Err(self.came()),
        };
        self.fixed(Field::ResponseBody, format!("a body that contains {text:?}"), verdict)
    }

    /// The client received the same as in an earlier exchange, the baseline: as many hops, and for each the same status or
    /// kind of failure. Inconclusive if the baseline cannot be compared with: see [`Reply::as_baseline`].
    pub fn ends_as(&self, baseline: &Self) -> Claim {
        let outline = |reply: &Self| -> Vec<Result<u16, ExchangeErrorKind>> {
            let outcome = |hop: &Hop| match &hop.result {
                HopResult::Response(r) => Ok(r.status),
                HopResult::Error(e) => Err(e.kind),
            };
            reply.exchange.hops.iter().map(outcome).collect()
        };
        let expected = format!("the same as in the baseline request: {}", baseline.describe());
        if let Err(why) = baseline.as_baseline(self) {
            return self.without_baseline(baseline, expected, &why);
        }
        let same = outline(self) == outline(baseline);
        let what = What::of(Field::Status).being(deviation::outcome(&baseline.exchange));
        self.fixed(what, expected, same.then_some(()).ok_or_else(|| self.came()))
    }

    fn ended_like(&self, later: &Self) -> bool {
        let status = |reply: &Self| reply.exchange.last_response().map(|r| r.status);
        status(self) == status(later)
    }

    /// Whether a later exchange can be compared with this one: it ended in a response, or in a refusal that a client notices at
    /// once. A timeout or a failure of the client is accidental. So are 503 and 504, unless the later exchange ends with the
    /// same status: a gateway without a route answers so.
    fn as_baseline(&self, later: &Self) -> Result<(), String> {
        let stable = match self.exchange.hops.last().map(|h| &h.result) {
            Some(HopResult::Response(r)) => !matches!(r.status, 503 | 504) || self.ended_like(later),
            Some(HopResult::Error(e)) => match e.kind {
                ExchangeErrorKind::ConnectionRefused
                | ExchangeErrorKind::ConnectionClosed
                | ExchangeErrorKind::Tls
                | ExchangeErrorKind::Protocol => true,
                ExchangeErrorKind::Timeout | ExchangeErrorKind::ClientFailed | ExchangeErrorKind::Other => {
                    false
                }
            },
            None => false,
        };
        stable.then_some(()).ok_or_else(|| self.describe())
    }

    /// The finding if the baseline of a comparison did not succeed.
    pub(super) fn without_baseline(&self, baseline: &Self, expected: String, why: &str) -> Claim {
        let seen = format!(
            "the baseline request, with which this one is compared, did not succeed, because {}. This request: {}",
            baseline.received(why),
            self.received(&self.describe())
        );
        let evidence = vec![baseline.id.clone(), self.id.clone()];
        let what = What::of(Field::Response).being(ValueKind::Success);
        let deviation = baseline.deviation(&what, "a baseline request that succeeds", &baseline.came());
        let finding = Finding::undecided(expected, seen, evidence).by([deviation]);
        Claim::new(move |_| finding.clone())
    }

    /// The connection was refused or closed, or the TLS handshake failed. There is no HTTP response.
    pub fn is_cut_off(&self) -> Claim {
        let cut = match self.exchange.hops.last().map(|h| &h.result) {
            Some(HopResult::Error(e)) => matches!(
                e.kind,
                ExchangeErrorKind::ConnectionRefused
                    | ExchangeErrorKind::ConnectionClosed
                    | ExchangeErrorKind::Tls
            ),
            Some(HopResult::Response(_)) | None => false,
        };
        self.fixed(
            What::of(Field::Response).being(ValueKind::Refusal),
            "a refused or closed connection and no HTTP response".to_owned(),
            cut.then_some(()).ok_or_else(|| self.came()),
        )
    }

    /// The client was refused: the connection was closed, or the status is 4xx. Servers differ in how they refuse a client
    /// without a certificate that they accept: Envoy and rustls close the connection, nginx and Go answer 400.
    pub fn is_refused(&self) -> Claim {
        let refused = match self.exchange.hops.last().map(|h| &h.result) {
            Some(HopResult::Response(r)) => (400..500).contains(&r.status),
            Some(HopResult::Error(e)) => matches!(
                e.kind,
                ExchangeErrorKind::ConnectionRefused
                    | ExchangeErrorKind::ConnectionClosed
                    | ExchangeErrorKind::Tls
            ),
            None => false,
        };
        self.fixed(
            What::of(Field::Response).being(ValueKind::Refusal),
            "a refusal (refused or closed connection, TLS failure, or 4xx)".to_owned(),
            refused.then_some(()).ok_or_else(|| self.came()),
        )
    }

    /// The client sent one request, and its bytes are those of the first request of `before`, except for the correlation
    /// token.
    pub fn sent_just_what_it_sent_first_in(&self, before: &Self) -> Claim {
        let expected = "exactly one request, with the same bytes as before".to_owned();
        let first = |reply: &Self| {
            reply.exchange.hops.first().map(|h| h.sent.replace(&reply.token, "TOKEN")).unwrap_or_default()
        };
        let (was, is) = (first(before), first(self));
        if was.is_empty() {
            return self.without_baseline(before, expected, "no record of the bytes that it sent");
        }
        let (requests, client) = (self.exchange.hops.len(), &self.client);
        let verdict = if requests != 1 {
            Err(format!("{client} sent {}: {}", counted(requests, "request"), self.describe()))
        } else if was != is {
            Err(format!("{client} sent {:?}; before, it sent {:?}", unlike(&is, &was), unlike(&was, &is)))
        } else {
            Ok(())
        };
        let evidence = vec![before.id.clone(), self.id.clone()];
        let finding = match verdict {
            Ok(()) => {
                let seen = format!("{client} sent the same {} bytes once", is.len());
                Finding::holds(expected, seen, evidence)
            }
            Err(seen) => {
                let odd = Odd::from(seen.clone());
                let deviation = self.deviation(&What::of(Field::SentBytes), &expected, &odd);
                Finding::broken(expected, seen, evidence).by([deviation])
            }
        };
        Claim::new(move |_| finding.clone())
    }

    /// The exchange of another workload that this request caused, as recorded by that workload's application.
    #[must_use]
    pub fn nested(&self, view: View<'_>, workload: &str) -> Option<Self> {
        view.evidence.iter().find_map(|e| match (&e.side, &e.fact) {
            (Side::Workload { name }, Fact::Exchange(x))
                if name == workload && e.token.as_ref() == Some(&self.token) && e.id != self.id =>
            {
                Some(Self {
                    id: e.id.clone(),
                    token: self.token.clone(),
                    exchange: x.clone(),
                    client: format!("workload {name}"),
                    mark: self.mark,
                })
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_page_is_shown_by_its_title_and_any_other_body_by_its_beginning() {
        let of = |status: u16, body: &str| {
            self::body(&Response {
                version: "HTTP/1.1".to_owned(),
                status,
                headers: Vec::new(),
                body: body.to_owned(),
                body_bytes: body.len() as u64,
                body_truncated: false,
                body_sha256: None,
                trailers: Vec::new(),
                informational: Vec::new(),
                messages: Vec::new(),
            })
        };
        let page = "<!DOCTYPE HTML>\n<HTML><TITLE>\n503 Service Unavailable</title><p>é";
        assert_eq!(of(503, page), "a page with the title \"503 Service Unavailable\"");
        assert!(of(200, page).starts_with("the body \"<!DOCTYPE HTML>"), "{}", of(200, page));
        for body in ["no healthy upstream", "<title></title>", "<title>without an end"] {
            assert_eq!(of(503, body), format!("the body {body:?}"));
        }
        assert_eq!(of(502, ""), "an empty body");
    }
}
