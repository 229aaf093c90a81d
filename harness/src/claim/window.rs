//! Claims about everything that a server received during one request.

use meshproof_model::{
    Connection, Deviation, Evidence, EvidenceId, Fact, Field, Party, PeerCertificate, ServerRequest,
    TlsFacts, TlsFailure, ValueKind,
};

use super::deviation::{self, Odd, What};
use super::external::{at, requests};
use super::words::{self, Server, counted, listed};
use super::{Claim, Claims, Finding, Reply, View};
use crate::certificates::Issued;

/// Whether more than a handshake happened on the connection itself. Its requests are evidence of their own.
fn is_used(c: &Connection) -> bool {
    !c.clear_bytes.is_empty() || c.tls.as_ref().is_some_and(|tls| tls.failure.is_some())
}

/// Whether one of these pieces of evidence is a request on the connection.
fn carries_a_request<'a>(c: &Connection, mut evidence: impl Iterator<Item = &'a Evidence>) -> bool {
    evidence.any(|e| e.fact.as_request().is_some_and(|r| r.connection == c.number))
}

/// What a server received from the moment a request was sent until the suite's next one. All of it counts for this
/// request, with or without a token.
#[derive(Clone)]
#[must_use]
pub struct Window {
    server: Server,
    mark: usize,
    token: String,
    exchange: EvidenceId,
}

impl Window {
    pub(crate) fn new(server: &Server, reply: &Reply) -> Self {
        Self {
            server: server.clone(),
            mark: reply.mark,
            token: reply.token.clone(),
            exchange: reply.id.clone(),
        }
    }

    /// A claim on this window about this field.
    fn claim(
        &self,
        what: What,
        seen: ValueKind,
        judge: impl Fn(&Self, View<'_>) -> Finding + Send + Sync + 'static,
    ) -> Claim {
        let this = self.clone();
        Claim::on_the_side_of(&self.server.host, move |view| {
            let finding = judge(&this, view);
            // Without evidence, what was expected did not come.
            let kind = if finding.evidence.is_empty() { ValueKind::Absent } else { seen };
            let odd = Odd::being(kind, &finding.seen);
            let deviation = what.deviates(&this.hop(view, &finding.evidence), &finding.expected, &odd);
            let evidence = finding.evidence.first().cloned();
            finding.by([Deviation { evidence, ..deviation }]).about(&this.exchange)
        })
    }

    /// From the proxy that opened the connection of the first of these pieces.
    fn hop(&self, view: View<'_>, pieces: &[EvidenceId]) -> (Party, Party) {
        let first = pieces.first().and_then(|id| view.evidence.iter().find(|e| e.id == *id));
        let peer = first.and_then(|e| {
            let connection = e.fact.as_connection().map(|c| c.peer.as_str());
            connection.or_else(|| Some(e.fact.as_request()?.peer.as_str()))
        });
        let from = peer.map_or_else(deviation::some_proxy, |peer| deviation::opener(view, peer));
        (from, deviation::server(&self.server))
    }

    /// `external service edition.cnn.com received ...`.
    fn received(&self, what: impl IntoIterator<Item = String>) -> String {
        format!("{} received {}", self.server, listed(what))
    }

    /// No connection was used and no request arrived. A proxy that still talks to a server for other requests may open
    /// connections in advance or probe whether the server is there (Envoy, "Connection pooling": preconnecting; "Health
    /// checking": TCP). A connection on which nothing is sent does not belong to any request.
    pub fn nothing(&self) -> Claim {
        self.claim(
            What::of(Field::Request).being(ValueKind::Absent),
            ValueKind::Present,
            move |this, view| {
                let expected = format!(
                    "no request, and no connection except ones on which nothing is sent, at {}",
                    this.server
                );
                let mut seen = Vec::new();
                let mut ids = Vec::new();
                for e in at(&this.server.host, view.window(this.mark)) {
                    let connection = e.fact.as_connection().filter(|c| is_used(c));
                    let connection = connection.map(|c| words::connection(view, c));
                    if let Some(what) =
                        connection.or_else(|| Some(words::request(view, e.fact.as_request()?)))
                    {
                        seen.push(what);
                        ids.push(e.id.clone());
                    }
                }
                // A request may have come on a connection that was opened before the window, and after the window's end.
                for (id, r) in requests(&this.server.host, &this.token, view) {
                    if !ids.contains(id) {
                        seen.push(words::request(view, r));
                        ids.push(id.clone());
                    }
                }
                if seen.is_empty() {
                    Finding::holds(expected, format!("{} received nothing", this.server), ids)
                } else {
                    Finding::broken(expected, this.received(seen), ids)
                }
            },
        )
    }

    /// The requests of the window, later ones with the token, and later ones without any token: every request of the suite
    /// has its own token, so one without a token is a copy of another request, however late it arrives.
    fn all_requests<'a>(&self, view: View<'a>) -> Vec<(&'a EvidenceId, &'a ServerRequest)> {
        let window = view.window(self.mark);
        let later = view.evidence.get(self.mark + window.len()..).unwrap_or_default();
        let own = |e: &&Evidence| e.token.as_deref().is_none_or(|token| token == self.token);
        at(&self.server.host, window)
            .chain(at(&self.server.host, later).filter(own))
            .filter_map(|e| Some((&e.id, e.fact.as_request()?)))
            .collect()
    }

    /// No request arrived, with this token or without. Connections whose handshake failed do not count.
    pub fn no_request(&self) -> Claim {
        self.claim(What::of(Field::Request).being(ValueKind::Absent), ValueKind::Present, |this, view| {
            let expected = format!("no request at {}", this.server);
            let seen = this.all_requests(view);
            if seen.is_empty() {
                return Finding::holds(expected, format!("{} received no request", this.server), Vec::new());
            }
            let ids = seen.iter().map(|(id, _)| (*id).clone()).collect();
            let requests = seen.iter().map(|(_, r)| words::request(view, r));
            Finding::broken(expected, this.received(requests), ids)
        })
    }

    /// A connection to the TLS port was opened: a client that refuses the server's certificate has examined it. Inconclusive
    /// without a connection.
    pub fn reached(&self) -> Claim {
        self.claim(
            What::of(Field::Connection).being(ValueKind::Present),
            ValueKind::Absent,
            move |this, view| {
                let expected = format!("a connection to the TLS port of {}", this.server);
                let opened = at(&this.server.host, view.window(this.mark))
                    .filter_map(|e| Some((&e.id, e.fact.as_connection().filter(|c| c.tls_port)?)));
                let (ids, seen): (Vec<EvidenceId>, Vec<String>) =
                    opened.map(|(id, c)| (id.clone(), words::connection(view, c))).unzip();
                if ids.is_empty() {
                    let seen = format!(
                        "{} received no TLS connection, so its certificate was not examined",
                        this.server
                    );
                    return Finding::undecided(expected, seen, ids);
                }
                Finding::holds(expected, this.received(seen), ids)
            },
        )
    }

    /// A connection with this server name (SNI) was opened, so that its client has seen the certificate for that name.
    /// Inconclusive without one: the client may have failed for another reason.
    pub fn reached_as(&self, server_name: &str) -> Claim {
        let name = server_name.to_owned();
        let what = What::of(Field::Connection).being(ValueKind::Present);
        self.claim(what, ValueKind::Absent, move |this, view| {
            let expected = format!("a TLS connection to {} with the server name {name}", this.server);
            let opened = at(&this.server.host, view.window(this.mark))
                .filter_map(|e| Some((&e.id, e.fact.as_connection()?)))
                .find(|(_, c)| {
                    let asked = c.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
                    asked.is_some_and(|asked| asked.eq_ignore_ascii_case(&name))
                });
            match opened {
                Some((id, c)) => {
                    let seen = this.received([words::connection(view, c)]);
                    Finding::holds(expected, seen, vec![id.clone()])
                }
                None => {
                    let seen = format!(
                        "{} received no TLS connection with that server name, so its certificate was not examined",
                        this.server
                    );
                    Finding::undecided(expected, seen, Vec::new())
                }
            }
        })
    }

    /// No request was answered, except with a refusal (4xx or 5xx).
    pub fn served_nothing(&self) -> Claim {
        self.claim(What::of(Field::Request).being(ValueKind::Absent), ValueKind::Present, |this, view| {
            let expected = format!("no answer from {} but refusals (4xx or 5xx)", this.server);
            let mut served = this.all_requests(view);
            // A request that was never answered has the status 0.
            served.retain(|(_, r)| (100..400).contains(&r.status));
            if served.is_empty() {
                return Finding::holds(expected, format!("{} served nothing", this.server), Vec::new());
            }
            let ids = served.iter().map(|(id, _)| (*id).clone()).collect();
            Finding::broken(expected, this.answered(served.iter().map(|(_, r)| *r), view), ids)
        })
    }

    /// `external service edition.cnn.com answered 200 to GET /politics ...`.
    fn answered<'a>(&self, requests: impl Iterator<Item = &'a ServerRequest>, view: View<'_>) -> String {
        let answers = requests.map(|r| match r.status {
            0 => format!("nothing to {}", words::request(view, r)),
            status => format!("{status} to {}", words::request(view, r)),
        });
        format!("{} answered {}", self.server, listed(answers))
    }

    /// The server refused this client certificate, with status 400 as nginx does or with an alert in the handshake, and
    /// served nothing. If the client vanishes, refuses the server, or presents no certificate or another one, then the server
    /// did not refuse this one.
    pub fn refused_client(&self, stranger: &Issued) -> Claim {
        let (subject, serial) = (stranger.subject().to_owned(), stranger.serial().to_owned());
        let what = What::of(Field::ClientCertificate).being(ValueKind::Refusal);
        let refused = self.claim(what, ValueKind::Success, move |this, view| {
            let expected =
                format!("{} refuses the client certificate {subject} with serial {serial}", this.server);
            let same = |c: &PeerCertificate| c.subject == subject && c.serial == serial;
            let did_not_verify = |t: &TlsFacts| {
                let failed = t.peer_verification.as_deref().is_some_and(|v| v.starts_with("FAILED"));
                failed && t.peer_certificate.as_ref().is_some_and(same)
            };
            // Not every server shows the certificate of a handshake that failed.
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
            let requests = this.all_requests(view);
            for (id, r) in &requests {
                if r.status == 400 && r.tls.as_ref().is_some_and(did_not_verify) {
                    let seen = this.answered(std::iter::once(*r), view);
                    return Finding::holds(expected, seen, vec![(*id).clone()]);
                }
            }
            let mut seen = Vec::new();
            for e in at(&this.server.host, view.window(this.mark)) {
                let Some(c) = e.fact.as_connection() else { continue };
                let connection = words::connection(view, c);
                if c.tls.as_ref().is_some_and(refused_in_handshake) {
                    let seen = format!("{} refused {connection}", this.server);
                    return Finding::holds(expected, seen, vec![e.id.clone()]);
                }
                seen.push(connection);
            }
            let mut words = format!("{} did not refuse this certificate", this.server);
            if !seen.is_empty() {
                words = format!("{words}; it received {}", listed(seen));
            }
            if !requests.is_empty() {
                let answered = this.answered(requests.iter().map(|(_, r)| *r), view);
                words = format!("{words}; {answered}");
            }
            Finding::broken(expected, words, Vec::new())
        });
        self.served_nothing().and(refused)
    }

    /// Exactly one request arrived until the suite's next one, and it carries the token.
    pub fn only_request(&self) -> Claim {
        self.claim(What::of(Field::Request).being(ValueKind::One), ValueKind::Several, move |this, view| {
            let expected = format!("exactly one request, with this token, at {}", this.server);
            let all = this.all_requests(view);
            let ids = all.iter().map(|(id, _)| (*id).clone()).collect();
            let own = requests(&this.server.host, &this.token, view);
            let requests = all.iter().map(|(_, r)| words::request(view, r));
            match all.as_slice() {
                [_] if own.len() == 1 => Finding::holds(expected, this.received(requests), ids),
                [] => Finding::broken(expected, format!("{} received no request", this.server), ids),
                [_] => {
                    let seen = format!(
                        "{} received one request without this token: {}",
                        this.server,
                        listed(requests)
                    );
                    Finding::broken(expected, seen, ids)
                }
                several => {
                    let number = counted(several.len(), "request");
                    let seen = format!("{} received {number}: {}", this.server, listed(requests));
                    Finding::broken(expected, seen, ids)
                }
            }
        })
    }

    /// Every connection that was opened and used in this time is the one on which the request with this token came. A proxy
    /// may open others in advance, also to use them for later requests; see [`Window::nothing`].
    pub fn no_other_connection(&self) -> Claim {
        self.claim(
            What::of(Field::Connection).being(ValueKind::One),
            ValueKind::Several,
            move |this, view| {
                let host = &this.server.host;
                let expected = format!("no connection at {} but the one of the request", this.server);
                let own: Vec<&str> =
                    requests(host, &this.token, view).into_iter().map(|(_, r)| r.peer.as_str()).collect();
                let others: Vec<(&EvidenceId, &Connection)> = at(host, view.window(this.mark))
                    .filter_map(|e| Some((&e.id, e.fact.as_connection()?)))
                    .filter(|(_, c)| !own.contains(&c.peer.as_str()))
                    .filter(|(_, c)| is_used(c) || carries_a_request(c, at(host, view.window(this.mark))))
                    .collect();
                if others.is_empty() {
                    let seen = format!("{} received no other connection", this.server);
                    return Finding::holds(expected, seen, Vec::new());
                }
                let ids = others.iter().map(|(id, _)| (*id).clone()).collect();
                let number = counted(others.len(), "other connection");
                let others = listed(others.iter().map(|(_, c)| words::connection(view, c)));
                Finding::broken(expected, format!("{} received {number}: {others}", this.server), ids)
            },
        )
    }

    /// Nothing arrived outside TLS until the next change of the configuration: nothing on the plain port, and none of
    /// `secrets` in any clear bytes.
    pub fn no_plaintext(&self, secrets: &[&str]) -> Claim {
        let secrets: Vec<String> = secrets.iter().map(|s| (*s).to_owned()).collect();
        let what = What::of(Field::Transport).being(ValueKind::Tls);
        self.claim(what, ValueKind::PlainText, move |this, view| {
            let expected = format!(
                "nothing outside TLS at {}: nothing sent to its plain port, no {} in clear bytes",
                this.server,
                secrets.join(" or ")
            );
            let leak = |fact: &Fact| {
                if let Some(c) = fact.as_connection() {
                    let leaked = secrets.iter().find(|s| c.clear_bytes.contains(s.as_str()));
                    return match leaked {
                        Some(secret) => {
                            let shown = words::containing(&c.clear_bytes, secret);
                            let from = words::opener(view, &c.peer);
                            Some(format!("{secret} in plain text from {from} on port {}: {shown:?}", c.port))
                        }
                        None => (!c.tls_port && is_used(c)).then(|| words::connection(view, c)),
                    };
                }
                let r = fact.as_request().filter(|r| !r.over_tls)?;
                Some(words::request(view, r))
            };
            let mut leaks = Vec::new();
            let mut ids = Vec::new();
            for e in at(&this.server.host, view.phase(this.mark)) {
                if let Some(leak) = leak(&e.fact) {
                    leaks.push(leak);
                    ids.push(e.id.clone());
                }
            }
            for (id, r) in requests(&this.server.host, &this.token, view) {
                if !r.over_tls && !ids.contains(id) {
                    leaks.push(words::request(view, r));
                    ids.push(id.clone());
                }
            }
            if leaks.is_empty() {
                Finding::holds(expected, format!("{} received nothing outside TLS", this.server), ids)
            } else {
                Finding::broken(expected, this.received(leaks), ids)
            }
        })
    }

    /// These bytes arrived outside TLS, on a connection that need not carry a request.
    pub fn clear_bytes(&self, text: &str) -> Claim {
        let text = text.to_owned();
        let what = What::of(Field::Transport).being(ValueKind::PlainText);
        self.claim(what, ValueKind::Tls, move |this, view| {
            let expected = format!("{text} in plain text at {}", this.server);
            let all: Vec<(&EvidenceId, &Connection)> = at(&this.server.host, view.window(this.mark))
                .filter_map(|e| Some((&e.id, e.fact.as_connection()?)))
                .collect();
            if let Some((id, c)) = all.iter().find(|(_, c)| c.clear_bytes.contains(&text)) {
                let seen = this.received([words::connection(view, c)]);
                return Finding::holds(expected, seen, vec![(*id).clone()]);
            }
            let ids = all.iter().map(|(id, _)| (*id).clone()).collect();
            let seen = match all.as_slice() {
                [] => format!("{} received no connection", this.server),
                all => this.received(all.iter().map(|(_, c)| words::connection(view, c))),
            };
            Finding::broken(expected, seen, ids)
        })
    }

    /// The plain port received this text in a request with this token.
    pub fn saw_in_clear(&self, text: &str) -> Claim {
        let text = text.to_owned();
        self.claim(What::of(Field::Request).being(ValueKind::One), ValueKind::Absent, move |this, view| {
            let expected = format!("{text} in plain text at {}", this.server);
            let all = requests(&this.server.host, &this.token, view);
            for (id, r) in &all {
                if !r.over_tls && r.target.contains(&text) {
                    let seen = this.received([words::request(view, r)]);
                    return Finding::holds(expected, seen, vec![(*id).clone()]);
                }
            }
            let seen = match all.as_slice() {
                [] => format!("{} received no request with this token", this.server),
                _ => this.received(all.iter().map(|(_, r)| words::request(view, r))),
            };
            Finding::broken(expected, seen, Vec::new())
        })
    }
}
