//! Claims on what an external service saw.

use meshproof_model::{
    Connection, Evidence, EvidenceId, PeerCertificate, ServerRequest, Side, TlsFacts, TlsFailure,
};

use super::matcher::Matcher;
use super::{Claim, Claims, Count, Finding, Reply, View};
use crate::certificates::Issued;

fn at<'a>(host: &str, evidence: &'a [Evidence]) -> impl Iterator<Item = &'a Evidence> {
    let host = host.to_owned();
    evidence.iter().filter(move |e| matches!(&e.side, Side::Service { host: h } if *h == host))
}

pub(super) fn hop_to(host: &str) -> String {
    format!("on the hop to external service {host}")
}

/// The requests that carry the token, in order of arrival.
pub(super) fn requests<'a>(
    host: &str,
    token: &str,
    view: View<'a>,
) -> Vec<(&'a EvidenceId, &'a ServerRequest)> {
    at(host, view.evidence)
        .filter(|e| e.token.as_deref() == Some(token))
        .filter_map(|e| Some((&e.id, e.fact.as_request()?)))
        .collect()
}

fn describe_request(r: &ServerRequest) -> String {
    let over = match r.tls.as_ref() {
        Some(t) => format!(
            "{} with server name {}",
            t.version.as_deref().unwrap_or("TLS"),
            t.server_name.as_deref().unwrap_or("(none)")
        ),
        None if r.over_tls => "TLS".to_owned(),
        None => "plain text".to_owned(),
    };
    format!("{} {} for {} on port {} in {over} from {}", r.method, r.target, r.authority, r.port, r.peer)
}

fn describe_connection(c: &Connection) -> String {
    let what = match &c.tls {
        Some(TlsFacts { failure: Some(f), peer_certificate, .. }) => {
            let presented = match peer_certificate {
                Some(c) => format!(" (the client presented {} serial {})", c.subject, c.serial),
                None => String::new(),
            };
            format!("TLS handshake failed: {f}{presented}")
        }
        Some(t) => format!("TLS with server name {}", t.server_name.as_deref().unwrap_or("(none)")),
        None if c.clear_bytes.is_empty() => "nothing sent".to_owned(),
        None => format!("plain text {:?}", crate::store::bounded(&c.clear_bytes, 80)),
    };
    format!("connection {} from {} to port {}: {what}", c.number, c.peer, c.port)
}

/// Whether anything but a handshake was seen on the connection itself. Its requests are evidence of their own.
fn is_used(c: &Connection) -> bool {
    !c.clear_bytes.is_empty() || c.tls.as_ref().is_some_and(|tls| tls.failure.is_some())
}

fn carries_a_request(c: &Connection, host: &str, view: View<'_>) -> bool {
    at(host, view.evidence).filter_map(|e| e.fact.as_request()).any(|r| r.connection == c.number)
}

/// What a service saw of one request: the requests that carry its token.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct Sighting {
    host: String,
    token: String,
    exchange: EvidenceId,
    port: Option<u16>,
    matcher: Matcher<ServerRequest>,
}

impl Sighting {
    pub(crate) fn new(host: &str, port: Option<u16>, reply: &Reply) -> Self {
        let place = port.map_or_else(|| host.to_owned(), |p| format!("{host} port {p}"));
        Self {
            host: host.to_owned(),
            token: reply.token.clone(),
            exchange: reply.id.clone(),
            port,
            matcher: Matcher::new(format!("request of it at {place}"), Count::AtLeast(1)),
        }
    }

    fn text(
        mut self,
        name: &'static str,
        expected: &str,
        get: impl Fn(&ServerRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.matcher.demand_text(name, expected, get);
        self
    }

    pub(super) fn demand(
        mut self,
        expected: String,
        test: impl Fn(&ServerRequest) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.matcher.demand(expected, test);
        self
    }

    /// So many, no more and no fewer, to the end of the scenario.
    pub fn exactly(mut self, count: usize) -> Self {
        self.matcher.count(Count::Exactly(count));
        self
    }

    /// None at all, to the end of the scenario.
    pub fn none(self) -> Self {
        self.exactly(0)
    }

    /// Inside TLS, on the TLS port.
    pub fn over_tls(mut self) -> Self {
        self.matcher.demand("TLS", |r| if r.over_tls { Ok(()) } else { Err("plain text".to_owned()) });
        self
    }

    /// Outside TLS.
    pub fn in_clear(mut self) -> Self {
        self.matcher.demand("plain text", |r| if r.over_tls { Err("TLS".to_owned()) } else { Ok(()) });
        self
    }

    /// The ClientHello's server name.
    pub fn server_name(self, name: &str) -> Self {
        self.text("server name", name, |r| r.tls.as_ref().and_then(|t| t.server_name.clone()))
    }

    /// Host or `:authority`. A default port beside it is as good as none.
    pub fn host(self, host: &str) -> Self {
        self.text("Host", host, |r| {
            let bare = r.authority.strip_suffix(":80").or_else(|| r.authority.strip_suffix(":443"));
            Some(bare.unwrap_or(&r.authority).to_owned())
        })
    }

    /// The method.
    pub fn method(self, method: &str) -> Self {
        self.text("method", method, |r| Some(r.method.clone()))
    }

    /// Path and query.
    pub fn target(self, target: &str) -> Self {
        self.text("path", target, |r| Some(r.target.clone()))
    }

    /// A header's value.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.matcher.demand_text(name, value, move |r| {
            let values: Vec<&str> = r
                .headers
                .iter()
                .filter(|h| h.name.eq_ignore_ascii_case(name))
                .map(|h| h.value.as_str())
                .collect();
            // Two of it are two opinions; who reads it will take one or the other.
            (!values.is_empty()).then(|| values.join(" and "))
        });
        self
    }

    /// The ALPN protocols that the ClientHello offered, where the service can see them.
    pub fn alpn_offered(mut self, offered: &'static [&'static str]) -> Self {
        self.matcher.demand(format!("ALPN offer {}", offered.join(",")), move |r| {
            let Some(seen) = r.tls.as_ref().and_then(|t| t.alpn_offered.as_ref()) else { return Ok(()) };
            if seen.iter().eq(offered) { Ok(()) } else { Err(format!("ALPN offer {}", seen.join(","))) }
        });
        self
    }

    /// Every ALPN protocol that the ClientHello offered is one of these; none is fine. A service that cannot see the offer
    /// cannot tell.
    pub fn alpn_offered_among(mut self, allowed: &'static [&'static str]) -> Self {
        self.matcher.demand(format!("an ALPN offer among {}", allowed.join(",")), move |r| {
            let Some(seen) = r.tls.as_ref().and_then(|t| t.alpn_offered.as_ref()) else {
                return Err("an ALPN offer that the service cannot see".to_owned());
            };
            let all = seen.iter().all(|s| allowed.contains(&s.as_str()));
            all.then_some(()).ok_or_else(|| format!("ALPN offer {}", seen.join(",")))
        });
        self
    }

    /// The TLS version.
    pub fn tls_version(self, version: &str) -> Self {
        self.text("TLS version", version, |r| r.tls.as_ref().and_then(|t| t.version.clone()))
    }

    /// This very client certificate, and the service verified it.
    pub fn client_certificate(mut self, issued: &Issued) -> Self {
        let (subject, serial) = (issued.subject().to_owned(), issued.serial().to_owned());
        self.matcher.demand(format!("a verified client certificate {subject} serial {serial}"), move |r| {
            let tls = r.tls.as_ref();
            let Some(seen) = tls.and_then(|t| t.peer_certificate.as_ref()) else {
                return Err("no client certificate".to_owned());
            };
            let verified = tls.and_then(|t| t.peer_verification.as_deref()).unwrap_or("NONE");
            if seen.subject == subject && seen.serial == serial && verified == "SUCCESS" {
                Ok(())
            } else {
                Err(format!("client certificate {} serial {} ({verified})", seen.subject, seen.serial))
            }
        });
        self
    }
}

impl From<Sighting> for Claim {
    fn from(s: Sighting) -> Self {
        let host = s.host.clone();
        Self::on_the_side_of(&host, move |view| {
            let mut found = requests(&s.host, &s.token, view);
            found.retain(|(_, r)| s.port.is_none_or(|p| p == r.port));
            s.matcher.judge(&found, describe_request).at(hop_to(&s.host)).about(&s.exchange)
        })
    }
}

/// What a service saw from the moment a request was sent until the suite's next one: everything is attributed to it,
/// with or without a token.
#[derive(Clone)]
#[must_use]
pub struct Window {
    host: String,
    mark: usize,
    token: String,
    exchange: EvidenceId,
}

impl Window {
    pub(crate) fn new(host: &str, reply: &Reply) -> Self {
        Self {
            host: host.to_owned(),
            mark: reply.mark,
            token: reply.token.clone(),
            exchange: reply.id.clone(),
        }
    }

    /// A claim on this window.
    fn claim(&self, judge: impl Fn(&Self, View<'_>) -> Finding + Send + Sync + 'static) -> Claim {
        let this = self.clone();
        Claim::on_the_side_of(&self.host, move |view| {
            judge(&this, view).at(hop_to(&this.host)).about(&this.exchange)
        })
    }

    /// No connection was opened and no request arrived.
    pub fn nothing(&self) -> Claim {
        self.nothing_that("to see nothing of it", |_| true)
    }

    /// No connection was used and no request arrived. A proxy that goes on talking to a server for others may hold connections to
    /// it in reserve, or look whether it is there (Envoy, "Connection pooling": preconnecting; "Health checking": TCP): one on
    /// which nothing is sent is not on account of any request.
    pub fn no_use(&self) -> Claim {
        self.nothing_that("to see nothing of it, save connections on which nothing is sent", is_used)
    }

    fn nothing_that(
        &self,
        expected: &'static str,
        counts: impl Fn(&Connection) -> bool + Send + Sync + 'static,
    ) -> Claim {
        self.claim(move |this, view| {
            let expected = format!("{} {expected}", this.host);
            let mut seen = Vec::new();
            let mut ids = Vec::new();
            for e in at(&this.host, view.window(this.mark)) {
                let connection = e.fact.as_connection().filter(|c| counts(c)).map(describe_connection);
                if let Some(what) = connection.or_else(|| e.fact.as_request().map(describe_request)) {
                    seen.push(what);
                    ids.push(e.id.clone());
                }
            }
            // A request may have come on a connection that was open before, and after the window.
            for (id, r) in requests(&this.host, &this.token, view) {
                if !ids.contains(id) {
                    seen.push(describe_request(r));
                    ids.push(id.clone());
                }
            }
            if seen.is_empty() {
                Finding::holds(expected, format!("nothing at {}", this.host), ids)
            } else {
                Finding::broken(expected, seen.join(" | "), ids)
            }
        })
    }

    /// Those of the window, those of the token, and those without any: the suite's own requests carry tokens, each its own, so
    /// that one without is a copy of some other, however late it comes.
    fn all_requests<'a>(&self, view: View<'a>) -> Vec<(&'a EvidenceId, &'a ServerRequest)> {
        let window = view.window(self.mark);
        let later = view.evidence.get(self.mark + window.len()..).unwrap_or_default();
        let own = |e: &&Evidence| e.token.as_deref().is_none_or(|token| token == self.token);
        at(&self.host, window)
            .chain(at(&self.host, later).filter(own))
            .filter_map(|e| Some((&e.id, e.fact.as_request()?)))
            .collect()
    }

    fn no_request_that(
        &self,
        expected: &'static str,
        counts: impl Fn(&ServerRequest) -> bool + Send + Sync + 'static,
    ) -> Claim {
        self.claim(move |this, view| {
            let expected = format!("{} {expected}", this.host);
            let mut seen = this.all_requests(view);
            seen.retain(|(_, r)| counts(r));
            if seen.is_empty() {
                return Finding::holds(expected, format!("none at {}", this.host), Vec::new());
            }
            let ids = seen.iter().map(|(id, _)| (*id).clone()).collect();
            let words: Vec<String> = seen.iter().map(|(_, r)| describe_request(r)).collect();
            Finding::broken(expected, words.join(" | "), ids)
        })
    }

    /// No request arrived, with this token or without. Connections that failed in their handshake do not count.
    pub fn no_request(&self) -> Claim {
        self.no_request_that("to see no request", |_| true)
    }

    /// A connection was opened to the TLS port: who refuses a server for its certificate has seen it. Inconclusive without one.
    pub fn reached(&self) -> Claim {
        self.claim(move |this, view| {
            let expected = format!("a connection to {}", this.host);
            let opened = at(&this.host, view.window(this.mark))
                .filter_map(|e| Some((&e.id, e.fact.as_connection().filter(|c| c.tls_port)?)));
            let (ids, words): (Vec<EvidenceId>, Vec<String>) =
                opened.map(|(id, c)| (id.clone(), describe_connection(c))).unzip();
            if ids.is_empty() {
                let seen =
                    format!("no connection to {}, so that its certificate was not looked at", this.host);
                return Finding::undecided(expected, seen, ids);
            }
            Finding::holds(expected, words.join(" | "), ids)
        })
    }

    /// No request was answered with anything but a refusal (4xx or 5xx).
    pub fn served_nothing(&self) -> Claim {
        // 0: it was never answered.
        self.no_request_that("to serve nothing", |r| (100..400).contains(&r.status))
    }

    /// The service refused this very client certificate, with 400 as nginx does it or with an alert in the handshake, and
    /// served nothing. A client that vanishes, refuses the server, or presents no certificate or another one shows no refusal of
    /// this one.
    pub fn refused_client(&self, stranger: &Issued) -> Claim {
        let (subject, serial) = (stranger.subject().to_owned(), stranger.serial().to_owned());
        let refused = self.claim(move |this, view| {
            let expected = format!("{} to refuse the certificate {subject} serial {serial}", this.host);
            let same = |c: &PeerCertificate| c.subject == subject && c.serial == serial;
            let did_not_verify = |t: &TlsFacts| {
                let failed = t.peer_verification.as_deref().is_some_and(|v| v.starts_with("FAILED"));
                failed && t.peer_certificate.as_ref().is_some_and(same)
            };
            // Of a handshake that failed, not every service shows the certificate.
            let refused_in_handshake = |t: &TlsFacts| match (&t.peer_certificate, &t.failure_kind) {
                (Some(_), Some(TlsFailure::AlertSent { .. })) => did_not_verify(t),
                (None, Some(failure)) => failure.refused_certificate(),
                (
                    Some(_),
                    Some(TlsFailure::AlertReceived { .. } | TlsFailure::PeerVanished | TlsFailure::Other)
                    | None,
                )
                | (None, None) => false,
            };
            for (id, r) in this.all_requests(view) {
                if r.status == 400 && r.tls.as_ref().is_some_and(did_not_verify) {
                    return Finding::holds(
                        expected,
                        format!("400 to {}", describe_request(r)),
                        vec![id.clone()],
                    );
                }
            }
            let mut seen = Vec::new();
            for e in at(&this.host, view.window(this.mark)) {
                let Some(c) = e.fact.as_connection() else { continue };
                if c.tls.as_ref().is_some_and(refused_in_handshake) {
                    return Finding::holds(expected, describe_connection(c), vec![e.id.clone()]);
                }
                seen.push(describe_connection(c));
            }
            seen.extend(
                this.all_requests(view)
                    .iter()
                    .map(|(_, r)| format!("{} to {}", r.status, describe_request(r))),
            );
            let seen =
                if seen.is_empty() { format!("no refusal at {}", this.host) } else { seen.join(" | ") };
            Finding::broken(expected, seen, Vec::new())
        });
        self.served_nothing().and(refused)
    }

    /// Exactly one request arrived until the suite's next one, and it carries the token.
    pub fn only_request(&self) -> Claim {
        self.claim(move |this, view| {
            let expected = format!("one request at {}, and none beside it", this.host);
            let all = this.all_requests(view);
            let ids = all.iter().map(|(id, _)| (*id).clone()).collect();
            let own = requests(&this.host, &this.token, view);
            match all.as_slice() {
                [(_, one)] if own.len() == 1 => Finding::holds(expected, describe_request(one), ids),
                [] => Finding::broken(expected, format!("no request at {}", this.host), ids),
                several => {
                    let words: Vec<String> = several.iter().map(|(_, r)| describe_request(r)).collect();
                    Finding::broken(expected, words.join(" | "), ids)
                }
            }
        })
    }

    /// Every connection that was opened and used is the one on which the request of this token came. A proxy may open others in
    /// advance; see [`Window::no_use`].
    pub fn no_other_connection(&self) -> Claim {
        self.claim(move |this, view| {
            let expected = format!("no connection at {} but the one that the request came on", this.host);
            let own: Vec<&str> =
                requests(&this.host, &this.token, view).into_iter().map(|(_, r)| r.peer.as_str()).collect();
            let others: Vec<(&EvidenceId, &Connection)> = at(&this.host, view.window(this.mark))
                .filter_map(|e| Some((&e.id, e.fact.as_connection()?)))
                .filter(|(_, c)| !own.contains(&c.peer.as_str()))
                .filter(|(_, c)| is_used(c) || carries_a_request(c, &this.host, view))
                .collect();
            if others.is_empty() {
                return Finding::holds(expected, format!("no other connection at {}", this.host), Vec::new());
            }
            let ids = others.iter().map(|(id, _)| (*id).clone()).collect();
            let words: Vec<String> = others.iter().map(|(_, c)| describe_connection(c)).collect();
            Finding::broken(expected, words.join(" | "), ids)
        })
    }

    /// Nothing arrived outside TLS until the configuration changed next: no connection to the plain port, and none of
    /// `secrets` in any clear bytes.
    pub fn no_plaintext(&self, secrets: &[&str]) -> Claim {
        let secrets: Vec<String> = secrets.iter().map(|s| (*s).to_owned()).collect();
        self.claim(move |this, view| {
            let expected = format!(
                "nothing outside TLS at {}: no connection to its plain port, no {} in clear bytes",
                this.host,
                secrets.join(" or ")
            );
            let mut leaks = Vec::new();
            let mut ids = Vec::new();
            for e in at(&this.host, view.phase(this.mark)) {
                let connection = e
                    .fact
                    .as_connection()
                    .filter(|c| !c.tls_port || secrets.iter().any(|s| c.clear_bytes.contains(s.as_str())));
                let request = e.fact.as_request().filter(|r| !r.over_tls);
                let leak = connection.map(describe_connection).or_else(|| request.map(describe_request));
                if let Some(leak) = leak {
                    leaks.push(leak);
                    ids.push(e.id.clone());
                }
            }
            for (id, r) in requests(&this.host, &this.token, view) {
                if !r.over_tls && !ids.contains(id) {
                    leaks.push(describe_request(r));
                    ids.push(id.clone());
                }
            }
            if leaks.is_empty() {
                Finding::holds(expected, format!("nothing outside TLS at {}", this.host), ids)
            } else {
                Finding::broken(expected, leaks.join(" | "), ids)
            }
        })
    }

    /// The plain port saw this text in clear, in a connection or a request of this token.
    pub fn saw_in_clear(&self, text: &str) -> Claim {
        let text = text.to_owned();
        self.claim(move |this, view| {
            let expected = format!("{} to see {text} in clear text", this.host);
            for (id, r) in requests(&this.host, &this.token, view) {
                if !r.over_tls && r.target.contains(&text) {
                    return Finding::holds(expected, describe_request(r), vec![id.clone()]);
                }
            }
            let seen: Vec<String> = requests(&this.host, &this.token, view)
                .into_iter()
                .map(|(_, r)| describe_request(r))
                .collect();
            let seen =
                if seen.is_empty() { format!("no request of it at {}", this.host) } else { seen.join(" | ") };
            Finding::broken(expected, seen, Vec::new())
        })
    }
}
