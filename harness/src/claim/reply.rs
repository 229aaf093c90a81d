//! Claims on what the application saw.

use meshproof_model::{
    Difference, EvidenceId, Exchange, ExchangeError, ExchangeErrorKind, Fact, Hop, HopResult, Response, Side,
};

use super::{Claim, Claims, Finding, View};

/// The answer to one request, with whatever redirects were followed.
#[derive(Clone, Debug)]
#[must_use]
pub struct Reply {
    /// The exchange, as evidence.
    pub id: EvidenceId,
    /// The request's correlation token.
    pub token: String,
    /// The exchange itself.
    pub exchange: Exchange,
    /// Who asked: `at workload sleep`.
    pub(crate) place: String,
    /// Where the request's part of the evidence begins.
    pub(crate) mark: usize,
}

/// A hop in a few words: `GET http://host/path -> 301`.
fn describe_hop(hop: &Hop) -> String {
    format!("{} {} -> {}", hop.method, hop.url, describe_result(&hop.result))
}

fn describe_result(result: &HopResult) -> String {
    match result {
        HopResult::Response(r) => {
            let location = r.header("location").map(|l| format!(" to {l}")).unwrap_or_default();
            format!("{} {}{location}", r.version, r.status)
        }
        HopResult::Error(ExchangeError { kind, message }) => {
            let kind = match kind {
                ExchangeErrorKind::ConnectionRefused => "connection refused",
                ExchangeErrorKind::ConnectionClosed => "connection closed without an answer",
                ExchangeErrorKind::Tls => "TLS failure",
                ExchangeErrorKind::Protocol => "not HTTP",
                ExchangeErrorKind::Timeout => "timeout",
                ExchangeErrorKind::ClientFailed => "the suite's client failed",
                ExchangeErrorKind::Other => "failure",
            };
            format!("{kind} ({message})")
        }
    }
}

impl Reply {
    /// The exchange in a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        self.exchange.hops.iter().map(describe_hop).collect::<Vec<_>>().join(", then ")
    }

    fn fixed(&self, expected: String, verdict: Result<(), String>) -> Claim {
        // The exchange is over: the finding cannot change any more.
        let evidence = vec![self.id.clone()];
        let finding = match verdict {
            Ok(()) => Finding::holds(expected, format!("the application saw {}", self.describe()), evidence),
            Err(seen) => Finding {
                differences: vec![Difference {
                    evidence: self.id.clone(),
                    expected: expected.clone(),
                    seen: seen.clone(),
                }],
                ..Finding::broken(expected, seen, evidence)
            },
        }
        .at(self.place.clone());
        Claim::new(move |_| finding.clone())
    }

    /// The application saw just these statuses, one a hop, in this order.
    pub fn statuses(&self, wanted: &[u16]) -> Claim {
        let seen: Vec<Option<u16>> =
            self.exchange.hops.iter().map(|h| h.response().map(|r| r.status)).collect();
        let same = seen.len() == wanted.len() && seen.iter().zip(wanted).all(|(s, w)| *s == Some(*w));
        let words: Vec<String> = wanted.iter().map(u16::to_string).collect();
        self.fixed(
            format!("the application sees {}", words.join(", then ")),
            same.then_some(()).ok_or_else(|| self.describe()),
        )
    }

    /// Exactly one response and no redirect anywhere: not followed, and none offered.
    pub fn only_response(&self) -> OnlyResponse {
        let claim = match self.exchange.hops.as_slice() {
            [hop] => match hop.response() {
                Some(r) if (300..400).contains(&r.status) || r.header("location").is_some() => {
                    Err(format!("a redirect: {}", self.describe()))
                }
                Some(_) => Ok(()),
                None => Err(format!("no response: {}", self.describe())),
            },
            _ => Err(format!("{} requests: {}", self.exchange.hops.len(), self.describe())),
        };
        let claim = self.fixed("one response and no redirect at the application".to_owned(), claim);
        OnlyResponse { reply: self.clone(), claims: vec![claim] }
    }

    /// Exactly one response, with status 200, and no redirect anywhere.
    pub fn ok(&self) -> OnlyResponse {
        self.only_response().is(200)
    }

    /// The request failed, and the control succeeded: the same request but for what `control_is` names.
    pub fn unlike(&self, control_is: &str, control: &Self) -> Claim {
        self.fails().provided(control_is, control.ends_with(200))
    }

    /// One hop, counted from 0.
    pub fn hop(&self, index: usize) -> HopClaim {
        HopClaim { reply: self.clone(), index, claims: Vec::new() }
    }

    /// The request failed: an error or a status of 400 and above. What that is worth is a matter of its twin.
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
            "the request to fail at the application (4xx, 5xx, refused or closed connection)".to_owned(),
            failed.then_some(()).ok_or_else(|| self.describe()),
        )
    }

    /// The last response has this status, however many hops it took.
    pub fn ends_with(&self, status: u16) -> Claim {
        let ok = self.exchange.last_response().is_some_and(|r| r.status == status);
        self.fixed(
            format!("the application gets {status} in the end"),
            ok.then_some(()).ok_or_else(|| self.describe()),
        )
    }

    /// The last response's body has this text, however many hops it took.
    pub fn last_body_contains(&self, text: &str) -> Claim {
        let verdict = match self.exchange.last_response() {
            Some(r) if r.body.contains(text) => Ok(()),
            Some(r) => Err(format!("the body {:?}", excerpt(&r.body))),
            None => Err(self.describe()),
        };
        self.fixed(format!("a body with {text:?}"), verdict)
    }

    /// The application saw the same as in an earlier exchange, the baseline: as many hops, and for each the same status or kind
    /// of failure. Inconclusive where the baseline shows nothing to compare with: see [`Reply::as_baseline`].
    pub fn ends_as(&self, baseline: &Self) -> Claim {
        let outline = |reply: &Self| -> Vec<Result<u16, ExchangeErrorKind>> {
            let outcome = |hop: &Hop| match &hop.result {
                HopResult::Response(r) => Ok(r.status),
                HopResult::Error(e) => Err(e.kind),
            };
            reply.exchange.hops.iter().map(outcome).collect()
        };
        let expected = format!("the application to see what it saw before ({})", baseline.describe());
        if let Err(why) = baseline.as_baseline(self) {
            return self.without_baseline(baseline, expected, &why);
        }
        let same = outline(self) == outline(baseline);
        self.fixed(expected, same.then_some(()).ok_or_else(|| self.describe()))
    }

    fn ended_like(&self, later: &Self) -> bool {
        let status = |reply: &Self| reply.exchange.last_response().map(|r| r.status);
        status(self) == status(later)
    }

    /// Whether a later exchange can be compared with this one: it ended in a response, or in a refusal that a client sees at
    /// once. A timeout and a failure of the client are chance; 503 and 504 are chance too, unless the
    /// later exchange ends so as well: a gateway without a route gives them.
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

    /// The finding where the baseline of a comparison did not succeed.
    fn without_baseline(&self, baseline: &Self, expected: String, why: &str) -> Claim {
        let seen = format!(
            "the baseline request, with which this one is compared, did not succeed: {why}; this one: {}",
            self.describe()
        );
        let evidence = vec![baseline.id.clone(), self.id.clone()];
        let finding = Finding::undecided(expected, seen, evidence).at(self.place.clone());
        Claim::new(move |_| finding.clone())
    }

    /// The connection was refused or closed, or the TLS handshake failed: no HTTP answer at all.
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
            "the connection to be refused".to_owned(),
            cut.then_some(()).ok_or_else(|| self.describe()),
        )
    }

    /// Refused: the connection is cut off, or the answer is a 4xx. Servers differ in how they turn away who has no
    /// certificate, or none that they believe: Envoy and rustls cut off, nginx and Go answer 400.
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
            "the client to be refused (cut off, or 4xx)".to_owned(),
            refused.then_some(()).ok_or_else(|| format!("the client saw {}", self.describe())),
        )
    }

    /// What the application wrote is, byte for byte, what it wrote for the first hop of `before`, but for the correlation
    /// token; and it wrote nothing more.
    pub fn sent_just_what_it_sent_first_in(&self, before: &Self) -> Claim {
        let expected = "the application's request to be the same, byte for byte, and its only one".to_owned();
        let first = |reply: &Self| {
            reply.exchange.hops.first().map(|h| h.sent.replace(&reply.token, "TOKEN")).unwrap_or_default()
        };
        let (was, is) = (first(before), first(self));
        if was.is_empty() {
            return self.without_baseline(before, expected, "nothing of it was recorded");
        }
        let verdict = if self.exchange.hops.len() != 1 {
            Err(format!(
                "the application had to send {} requests: {}",
                self.exchange.hops.len(),
                self.describe()
            ))
        } else if was != is {
            Err(format!("the application wrote {is:?} where it had written {was:?}"))
        } else {
            Ok(())
        };
        let evidence = vec![before.id.clone(), self.id.clone()];
        let finding = match verdict {
            Ok(()) => Finding::holds(expected, format!("the same {} bytes, once", is.len()), evidence),
            Err(seen) => Finding::broken(expected, seen, evidence),
        }
        .at(self.place.clone());
        Claim::new(move |_| finding.clone())
    }

    /// The exchange of another workload that this request led to, as its application recorded it.
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
                    place: format!("at workload {name}"),
                    mark: self.mark,
                })
            }
            _ => None,
        })
    }
}

/// Claims on the one response.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct OnlyResponse {
    reply: Reply,
    claims: Vec<Claim>,
}

impl OnlyResponse {
    pub(super) fn with(
        mut self,
        expected: String,
        test: impl FnOnce(&Response) -> Result<(), String>,
    ) -> Self {
        let verdict = match self.reply.exchange.last_response() {
            Some(r) => test(r),
            None => Err(format!("no response: {}", self.reply.describe())),
        };
        let claim = self.reply.fixed(expected, verdict);
        self.claims.push(claim);
        self
    }

    /// Its status.
    pub fn is(self, status: u16) -> Self {
        self.with(format!("status {status} at the application"), |r| {
            (r.status == status)
                .then_some(())
                .ok_or_else(|| format!("status {}, body {:?}", r.status, excerpt(&r.body)))
        })
    }

    /// A text in its body.
    pub fn body_contains(self, text: &str) -> Self {
        self.with(format!("a body with {text:?}"), |r| {
            r.body.contains(text).then_some(()).ok_or_else(|| format!("the body {:?}", excerpt(&r.body)))
        })
    }

    /// The page that the suite put there ([`crate::mesh::External::own`]); what a real host's page says is its own affair.
    pub fn shows(self, page: Option<&str>) -> Self {
        match page {
            Some(text) => self.body_contains(text),
            None => self,
        }
    }

    /// A text that must not be in its body.
    pub fn body_lacks(self, text: &str) -> Self {
        self.with(format!("a body without {text:?}"), |r| {
            (!r.body.contains(text)).then_some(()).ok_or_else(|| format!("the body {:?}", excerpt(&r.body)))
        })
    }
}

fn excerpt(body: &str) -> String {
    crate::store::bounded(body, 200)
}

impl From<OnlyResponse> for Claim {
    fn from(value: OnlyResponse) -> Self {
        Self::all(value.claims)
    }
}

/// Claims on one hop.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct HopClaim {
    reply: Reply,
    index: usize,
    claims: Vec<Claim>,
}

impl HopClaim {
    fn with(mut self, expected: String, test: impl FnOnce(&Hop) -> Result<(), String>) -> Self {
        let expected = format!("request {} of the application: {expected}", self.index + 1);
        let verdict = match self.reply.exchange.hops.get(self.index) {
            Some(hop) => test(hop),
            None => {
                Err(format!("only {} request(s): {}", self.reply.exchange.hops.len(), self.reply.describe()))
            }
        };
        let claim = self.reply.fixed(expected, verdict);
        self.claims.push(claim);
        self
    }

    /// A redirect with this status and Location.
    pub fn redirects(self, status: u16, location: &str) -> Self {
        self.with(format!("{status} with Location {location}"), |hop| {
            let right =
                hop.response().is_some_and(|r| r.status == status && r.header("location") == Some(location));
            right.then_some(()).ok_or_else(|| describe_hop(hop))
        })
    }

    /// A response with this status over this HTTP version (`HTTP/2`).
    pub fn answers(self, status: u16, version: &str) -> Self {
        self.with(format!("{version} {status}"), |hop| {
            let right = hop.response().is_some_and(|r| r.status == status && r.version == version);
            right.then_some(()).ok_or_else(|| describe_hop(hop))
        })
    }

    /// The server's certificate, as the application's own TLS saw it.
    pub fn certificate(self, of: impl Into<ServerCertificate>) -> Self {
        let sha256 = match of.into() {
            ServerCertificate::Own { sha256 } => sha256,
            // A mesh that ended the application's TLS would have none that the system's roots vouch for.
            ServerCertificate::Public { host } => return self.verified_certificate(&host),
        };
        self.with(format!("the external service's own certificate ({})", short(&sha256)), |hop| {
            let seen = hop.tls.as_ref().and_then(|t| t.peer_certificate.as_ref());
            match seen.and_then(|c| c.sha256.as_deref()) {
                Some(s) if s == sha256 => Ok(()),
                Some(s) => Err(format!(
                    "another certificate ({}), issued by {}",
                    short(s),
                    seen.map(|c| c.issuer.as_str()).unwrap_or_default()
                )),
                None => Err(format!("no certificate: {}", describe_hop(hop))),
            }
        })
    }
}

impl HopClaim {
    /// An answer that came over TLS with a server whose certificate the client's system roots vouch for: a client that verifies gets none
    /// from anybody else.
    fn verified_certificate(self, host: &str) -> Self {
        let expected = format!("a certificate for {host} that the system's roots vouch for");
        self.with(expected, |hop| {
            let seen = hop.tls.as_ref().and_then(|t| t.peer_certificate.as_ref());
            let verified = hop.response().is_some() && seen.is_some();
            verified.then_some(()).ok_or_else(|| format!("no certificate: {}", describe_hop(hop)))
        })
    }
}

/// Which certificate the application must see in its own TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCertificate {
    /// The one that the suite made for the external service.
    Own {
        /// Of its DER, in lower-case hex.
        sha256: String,
    },
    /// Any that the application's system roots vouch for: a real host has several, and changes them.
    Public {
        /// Whom it must name.
        host: String,
    },
}

impl From<&str> for ServerCertificate {
    fn from(sha256: &str) -> Self {
        Self::Own { sha256: sha256.to_owned() }
    }
}

fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

impl From<HopClaim> for Claim {
    fn from(value: HopClaim) -> Self {
        Self::all(value.claims)
    }
}
