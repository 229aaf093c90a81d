//! Claims about one response: the only one, or that of one hop.

use meshproof_model::{Field, Hop, Response, ValueKind};

use super::deviation::{Odd, What};
use super::reply::{body, came, describe_hop};
use super::words::{containing, counted};
use super::{Claim, Reply};

impl Reply {
    /// Exactly one response and no redirect: none was followed and none was offered.
    pub fn only_response(&self) -> OnlyResponse {
        let redirect = |words: String| Odd::being(ValueKind::Present, words);
        let claim = match self.exchange.hops.as_slice() {
            [hop] => match hop.response() {
                Some(r) if (300..400).contains(&r.status) || r.header("location").is_some() => {
                    Err(redirect(format!("a redirect: {}", self.describe())))
                }
                Some(_) => Ok(()),
                None => Err(self.came()),
            },
            hops => {
                let sent = counted(hops.len(), "request");
                Err(redirect(format!("a redirect, and sent {sent}: {}", self.describe())))
            }
        };
        let what = match &claim {
            Err(odd) if odd.kind != ValueKind::Present => What::of(Field::Response).being(ValueKind::Success),
            Ok(()) | Err(_) => What::of(Field::Redirect).being(ValueKind::Absent),
        };
        let claim = self.fixed(what, "exactly one response and no redirect".to_owned(), claim);
        OnlyResponse { reply: self.clone(), claims: vec![claim] }
    }

    /// Exactly one response, with status 200, and no redirect.
    pub fn ok(&self) -> OnlyResponse {
        self.only_response().is(200)
    }

    /// One hop, counted from 0.
    pub fn hop(&self, index: usize) -> HopClaim {
        HopClaim { reply: self.clone(), index, claims: Vec::new() }
    }
}

/// Claims about the only response.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct OnlyResponse {
    reply: Reply,
    claims: Vec<Claim>,
}

impl OnlyResponse {
    pub(super) fn with<E: Into<Odd>>(
        mut self,
        what: impl Into<What>,
        expected: String,
        test: impl FnOnce(&Response) -> Result<(), E>,
    ) -> Self {
        let claim = match self.reply.exchange.last_response() {
            Some(r) => {
                let verdict = test(r).map_err(|odd| {
                    let odd: Odd = odd.into();
                    Odd { words: self.reply.for_request(&odd.words), ..odd }
                });
                // An answer of the proxy lacks everything that the server's has.
                let error = verdict.is_err() && r.status >= 500;
                let what = what.into();
                match verdict {
                    Err(odd) if error && what.field != Field::Status => {
                        let status = What::of(Field::Response).being(ValueKind::Success);
                        let odd = Odd::being(ValueKind::Status(r.status), odd.words);
                        self.reply.fixed(status, expected, Err(odd))
                    }
                    verdict => self.reply.fixed(what, expected, verdict),
                }
            }
            None => {
                let what = What::of(Field::Response).being(ValueKind::Success);
                self.reply.fixed(what, expected, Err(self.reply.came()))
            }
        };
        self.claims.push(claim);
        self
    }

    /// The status.
    pub fn is(self, status: u16) -> Self {
        let what = What::of(Field::Status).being(ValueKind::Status(status));
        self.with(what, format!("status {status}"), |r| {
            let odd = || {
                let words = format!("status {} with {}", r.status, body(r));
                Odd::being(ValueKind::Status(r.status), words)
            };
            (r.status == status).then_some(()).ok_or_else(odd)
        })
    }

    /// The body contains this text.
    pub fn body_contains(self, text: &str) -> Self {
        self.with(Field::ResponseBody, format!("a body that contains {text:?}"), |r| {
            r.body.contains(text).then_some(()).ok_or_else(|| body(r))
        })
    }

    /// The body contains the page of the suite ([`crate::mesh::External::own`]). Nothing is expected of a real host's page.
    pub fn shows(self, page: Option<&str>) -> Self {
        match page {
            Some(text) => self.body_contains(text),
            None => self,
        }
    }

    /// The body does not contain this text.
    pub fn body_lacks(self, text: &str) -> Self {
        self.with(Field::ResponseBody, format!("a body without {text:?}"), |r| {
            (!r.body.contains(text))
                .then_some(())
                .ok_or_else(|| format!("a body that contains {text:?}: {:?}", containing(&r.body, text)))
        })
    }
}

impl From<OnlyResponse> for Claim {
    fn from(value: OnlyResponse) -> Self {
        Self::all(value.claims)
    }
}

/// Claims about one hop.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct HopClaim {
    reply: Reply,
    index: usize,
    claims: Vec<Claim>,
}

impl HopClaim {
    fn with(
        mut self,
        what: impl Into<What>,
        expected: String,
        test: impl FnOnce(&Hop) -> Result<(), Odd>,
    ) -> Self {
        let number = self.index + 1;
        let expected = format!("{expected} for request {number}");
        let verdict = match self.reply.exchange.hops.get(self.index) {
            Some(hop) => test(hop),
            None => {
                let words = format!(
                    "no response to a request {number}, because the client sent only {}: {}",
                    counted(self.reply.exchange.hops.len(), "request"),
                    self.reply.describe()
                );
                Err(Odd { words, ..self.reply.came() })
            }
        };
        let claim = self.reply.fixed(what, expected, verdict);
        self.claims.push(claim);
        self
    }

    /// A redirect with this status and Location.
    pub fn redirects(self, status: u16, location: &str) -> Self {
        self.with(Field::Redirect, format!("status {status} with Location {location}"), |hop| {
            let right =
                hop.response().is_some_and(|r| r.status == status && r.header("location") == Some(location));
            right.then_some(()).ok_or_else(|| came(hop))
        })
    }

    /// A response with this status.
    pub fn status(self, status: u16) -> Self {
        let what = What::of(Field::Status).being(ValueKind::Status(status));
        self.with(what, format!("status {status}"), |hop| {
            let right = hop.response().is_some_and(|r| r.status == status);
            right.then_some(()).ok_or_else(|| came(hop))
        })
    }

    /// A response with this status over this HTTP version (`HTTP/2`).
    pub fn answers(self, status: u16, version: &str) -> Self {
        let other_version = self.reply.exchange.hops.get(self.index).and_then(|hop| hop.response());
        let what = match other_version {
            Some(r) if r.status == status => What::of(Field::HttpVersion),
            Some(_) | None => What::of(Field::Status).being(ValueKind::Status(status)),
        };
        self.with(what, format!("{version} {status}"), |hop| {
            let right = hop.response().is_some_and(|r| r.status == status && r.version == version);
            right.then_some(()).ok_or_else(|| came(hop))
        })
    }

    /// The server's certificate, as the client's own TLS received it.
    pub fn certificate(self, of: impl Into<ServerCertificate>) -> Self {
        let sha256 = match of.into() {
            ServerCertificate::Own { sha256 } => sha256,
            // A mesh that terminated the application's TLS would have no certificate that the system's roots verify.
            ServerCertificate::Public { host } => return self.verified_certificate(&host),
        };
        let expected = format!("the server's own certificate (SHA-256 {})", short(&sha256));
        self.with(Field::ServerCertificate, expected, |hop| {
            let seen = hop.tls.as_ref().and_then(|t| t.peer_certificate.as_ref());
            match seen.and_then(|c| c.sha256.as_deref()) {
                Some(s) if s == sha256 => Ok(()),
                Some(s) => Err(Odd::from(format!(
                    "another certificate (SHA-256 {}), issued by {}",
                    short(s),
                    seen.map(|c| c.issuer.as_str()).unwrap_or_default()
                ))),
                None => Err(Odd::absent(format!("no certificate, but {}", describe_hop(hop)))),
            }
        })
    }
}

impl HopClaim {
    /// A response over TLS from a server whose certificate the client's system roots verify. A client that verifies accepts no
    /// other.
    fn verified_certificate(self, host: &str) -> Self {
        let expected = format!("a certificate for {host} that the system's roots verify");
        self.with(Field::ServerCertificate, expected, |hop| {
            let seen = hop.tls.as_ref().and_then(|t| t.peer_certificate.as_ref());
            let verified = hop.response().is_some() && seen.is_some();
            let odd = || Odd::absent(format!("no certificate, but {}", describe_hop(hop)));
            verified.then_some(()).ok_or_else(odd)
        })
    }
}

/// Which certificate the application must receive in its own TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCertificate {
    /// The certificate that the suite created for the server.
    Own {
        /// The digest of its DER, in lower-case hex.
        sha256: String,
    },
    /// Any certificate that the application's system roots verify: a real host has several and changes them.
    Public {
        /// The host name that it must contain.
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
