//! Claims on what must arrive unchanged: bodies, trailers, versions, header fields, connections.

use std::collections::BTreeSet;

use bytes::Bytes;
use meshproof_reports::{EvidenceId, Header, Response, ServerRequest};

use super::external::{Sighting, hop_to, requests};
use super::reply::OnlyResponse;
use super::{Claim, Finding, Reply};
use crate::digest::sha256;

/// `3000 bytes, SHA-256 9f86d081`.
fn summary(bytes: u64, sha256: Option<&str>) -> String {
    let sum = sha256.map(|s| format!(", SHA-256 {}", s.get(..12).unwrap_or(s))).unwrap_or_default();
    format!("{bytes} bytes{sum}")
}

fn described(body: &Bytes) -> String {
    summary(body.len() as u64, Some(&sha256(body)))
}

fn holds(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Whether a response's body is this one. Where the client does not say its digest, as much of it is compared as was kept.
pub(super) fn has_body(r: &Response, body: &Bytes) -> Result<(), String> {
    let same = match &r.body_sha256 {
        Some(sum) => *sum == sha256(body),
        None if r.body_truncated => body.starts_with(r.body.as_bytes()),
        None => body.as_ref() == r.body.as_bytes(),
    };
    holds(same && r.body_bytes == body.len() as u64, || {
        format!("a body of {}", summary(r.body_bytes, r.body_sha256.as_deref()))
    })
}

impl OnlyResponse {
    /// The HTTP version that the application was answered in: `HTTP/2`.
    pub fn version(self, version: &str) -> Self {
        self.with(format!("{version} at the application"), |r| holds(r.version == version, || r.version.clone()))
    }

    /// Its body is this one, whole.
    pub fn body_is(self, body: &Bytes) -> Self {
        self.with(format!("a body of {}", described(body)), |r| has_body(r, body))
    }

    /// It has no body.
    pub fn no_body(self) -> Self {
        self.with("no body".to_owned(), |r| {
            holds(r.body_bytes == 0, || format!("a body of {} bytes", r.body_bytes))
        })
    }

    /// A header's value.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(format!("{name}: {value}"), |r| {
            holds(r.header(name) == Some(value), || match r.header(name) {
                Some(seen) => format!("{name}: {seen}"),
                None => format!("no {name}"),
            })
        })
    }

    /// None of these headers.
    pub fn lacks_headers(self, names: &[&str]) -> Self {
        self.with(format!("no {}", names.join(", no ")), |r| {
            let there: Vec<String> =
                names.iter().filter_map(|n| Some(format!("{n}: {}", r.header(n)?))).collect();
            holds(there.is_empty(), || there.join(", "))
        })
    }

    /// A trailer's value.
    pub fn trailer(self, name: &str, value: &str) -> Self {
        self.with(format!("the trailer {name}: {value}"), |r| {
            let seen = r.trailers.iter().find(|t| t.name.eq_ignore_ascii_case(name));
            holds(seen.is_some_and(|t| t.value == value), || match seen {
                Some(Header { value, .. }) => format!("the trailer {name}: {value}"),
                None => format!("no trailer {name}"),
            })
        })
    }

    /// An interim response came before it.
    pub fn after_interim(self, status: u16) -> Self {
        self.with(format!("{status} before the final response"), |r| {
            holds(r.informational.contains(&status), || match r.informational.as_slice() {
                [] => "no interim response".to_owned(),
                seen => format!("interim responses {seen:?}"),
            })
        })
    }

    /// Just this WebSocket message came back.
    pub fn message(self, text: &str) -> Self {
        self.with(format!("the message {text:?}"), |r| {
            holds(r.messages == [text], || match r.messages.as_slice() {
                [] => format!("status {} and no message", r.status),
                seen => format!("messages {}", crate::store::bounded(&format!("{seen:?}"), 200)),
            })
        })
    }
}

impl Sighting {
    /// Host or `:authority`, byte for byte.
    pub fn authority(self, authority: &'static str) -> Self {
        self.demand(format!("Host {authority}, byte for byte"), move |r| {
            holds(r.authority == authority, || format!("Host {}", r.authority))
        })
    }

    /// The HTTP version: `HTTP/1.1`, `HTTP/2`.
    pub fn version(self, version: &'static str) -> Self {
        self.demand(version.to_owned(), move |r| holds(r.version == version, || r.version.clone()))
    }

    /// The ALPN protocol that was agreed on; none where that is `None`.
    pub fn alpn(self, alpn: Option<&'static str>) -> Self {
        let words = |alpn: Option<&str>| alpn.map_or("no ALPN".to_owned(), |a| format!("ALPN {a}"));
        self.demand(words(alpn), move |r| {
            let seen = r.tls.as_ref().and_then(|t| t.alpn.as_deref());
            holds(seen == alpn, || words(seen))
        })
    }

    /// The request's body is this one, whole.
    pub fn body_is(self, body: &Bytes) -> Self {
        let (bytes, sum) = (body.len() as u64, sha256(body));
        self.demand(format!("a body of {}", described(body)), move |r| {
            let same = r.body_bytes == Some(bytes) && (bytes == 0 || r.body_sha256.as_deref() == Some(&sum));
            holds(same, || match r.body_bytes {
                Some(bytes) => format!("a body of {}", summary(bytes, r.body_sha256.as_deref())),
                None => "a body that did not come to its end".to_owned(),
            })
        })
    }

    /// No header whose name begins with one of these, in lower case.
    pub fn no_header_beginning_with(self, prefixes: &'static [&'static str]) -> Self {
        self.demand(format!("no header {}", prefixes.join("*, ") + "*"), move |r| {
            let leaked = |h: &&Header| prefixes.iter().any(|p| h.name.to_ascii_lowercase().starts_with(p));
            let names: Vec<&str> = r.headers.iter().filter(leaked).map(|h| h.name.as_str()).collect();
            holds(names.is_empty(), || format!("headers {}", names.join(", ")))
        })
    }
}

/// All requests of this token came, and over no more connections than these.
pub(crate) fn connections_of(host: &str, reply: &Reply, requested: usize, most: usize) -> Claim {
    let (host, token, exchange) = (host.to_owned(), reply.token.clone(), reply.id.clone());
    Claim::new(move |view| {
        let expected = format!("{requested} requests at {host} over at most {most} TLS connections");
        let seen: Vec<(&EvidenceId, &ServerRequest)> =
            requests(&host, &token, view).into_iter().filter(|(_, r)| r.over_tls).collect();
        let used: BTreeSet<u64> = seen.iter().map(|(_, r)| r.connection).collect();
        let words = format!("{} requests over {} TLS connections", seen.len(), used.len());
        let ids = seen.into_iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let right = ids.len() == requested && used.len() <= most;
        let finding =
            if right { Finding::holds(expected, words, ids) } else { Finding::broken(expected, words, ids) };
        finding.at(hop_to(&host)).about(&exchange)
    })
}
