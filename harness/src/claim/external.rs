//! Claims about the requests that a server received: an external service, or a service of the mesh.

use meshproof_model::{Evidence, EvidenceId, Field, ServerRequest, Side, ValueKind};

use super::deviation::{self, Odd, What};
use super::matcher::{About, Matcher, Pieces, Subject};
use super::words::{self, Server, unlike};
use super::{Claim, Count, Finding, Reply, View};
use crate::certificates::Issued;
use crate::grpc;

/// The evidence that a server recorded.
pub(super) fn at<'a>(host: &str, evidence: &'a [Evidence]) -> impl Iterator<Item = &'a Evidence> {
    let host = host.to_owned();
    evidence.iter().filter(move |e| matches!(&e.side, Side::Service { host: h } if *h == host))
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

/// The server received at least one of these requests, and perhaps at most so many, over TLS with this server name.
pub(crate) fn received_some(
    server: &Server,
    replies: &[Reply],
    server_name: &str,
    most: Option<usize>,
) -> Claim {
    let (server, replies, name) = (server.clone(), replies.to_vec(), server_name.to_owned());
    let host = server.host.clone();
    Claim::on_the_side_of(&host, move |view| {
        let expected = format!(
            "at least one{} of {} requests at {server}, over TLS with server name {name}",
            most.map(|most| format!(" and at most {most}")).unwrap_or_default(),
            replies.len()
        );
        let tokens = replies.iter().map(|reply| reply.token.as_str());
        let found: Vec<_> = tokens.flat_map(|token| requests(&server.host, token, view)).collect();
        let ids: Vec<EvidenceId> = found.iter().map(|(id, _)| (*id).clone()).collect();
        let named =
            |r: &ServerRequest| r.tls.as_ref().is_some_and(|tls| tls.server_name.as_ref() == Some(&name));
        let odd = found.iter().find(|(_, r)| !r.over_tls || !named(r));
        let hop = (deviation::some_proxy(), deviation::server(&server));
        let broken = |what: What, odd: Odd| {
            let deviation = what.deviates(&hop, &expected, &odd);
            let finding = Finding::broken(expected.clone(), odd.words, ids.clone()).by([deviation]);
            replies.first().map_or(finding.clone(), |first| finding.about(&first.id))
        };
        match (found.len(), odd) {
            (0, _) => {
                broken(What::of(Field::Request), Odd::absent(format!("{server} received none of them")))
            }
            (_, Some((_, r))) => {
                let seen = format!("{server} received {}", words::request(view, r));
                let nameless = r.tls.as_ref().is_some_and(|tls| tls.server_name.is_none());
                let odd = if nameless { Odd::absent(seen) } else { Odd::from(seen) };
                broken(What::of(Field::ServerName), odd)
            }
            (number, None) if most.is_some_and(|most| number > most) => {
                let odd = Odd::from(format!("{server} received {number} of them"));
                broken(What::of(Field::Destination), odd)
            }
            (number, None) => Finding::holds(&expected, format!("{server} received {number} of them"), ids),
        }
    })
}

/// The server received no request with the reply's token, because its certificate was refused.
pub(crate) fn certificate_refused(server: &Server, reply: &Reply) -> Claim {
    let (server, token, exchange) = (server.clone(), reply.token.clone(), reply.id.clone());
    let host = server.host.clone();
    Claim::on_the_side_of(&host, move |view| {
        let expected = format!("a refusal of the certificate of {server}, and no request there");
        let Some((id, request)) = requests(&server.host, &token, view).into_iter().next() else {
            let seen = format!("{server} received no request with this token");
            return Finding::holds(expected, seen, Vec::new()).about(&exchange);
        };
        let seen = format!("{server} received {}", words::request(view, request));
        let hop = (deviation::opener(view, &request.peer), deviation::server(&server));
        let what = What::of(Field::ServerVerification).being(ValueKind::Refusal);
        let accepted = what.deviates(&hop, &expected, &Odd::being(ValueKind::Success, seen.as_str()));
        Finding::broken(expected, seen, vec![id.clone()]).by([accepted]).about(&exchange)
    })
}

/// What a server received of one request: the requests that carry its token.
#[must_use = "a claim that is not judged asserts nothing"]
pub struct Sighting {
    server: Server,
    token: String,
    exchange: EvidenceId,
    port: Option<u16>,
    matcher: Matcher<ServerRequest>,
}

impl Sighting {
    pub(crate) fn new(server: &Server, port: Option<u16>, reply: &Reply) -> Self {
        let on_port = port.map(|p| format!(" on port {p}")).unwrap_or_default();
        let pieces = Pieces {
            actor: server.to_string(),
            did: "received",
            noun: "request",
            which: format!("with this token{on_port}"),
            field: Field::Request,
            hop: (deviation::some_proxy(), deviation::server(server)),
        };
        Self {
            server: server.clone(),
            token: reply.token.clone(),
            exchange: reply.id.clone(),
            port,
            matcher: Matcher::new(pieces, Count::AtLeast(1)),
        }
    }

    fn text(
        mut self,
        about: About,
        what: What,
        name: &'static str,
        expected: &str,
        get: impl Fn(&ServerRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.matcher.demand_text(about, what, name, expected, get);
        self
    }

    pub(super) fn demand<E: Into<Odd>>(
        mut self,
        about: About,
        what: What,
        expected: String,
        test: impl Fn(&ServerRequest) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.matcher.demand(about, what, expected, test);
        self
    }

    /// This number of requests until the end of the scenario.
    pub fn exactly(mut self, count: usize) -> Self {
        self.matcher.count(Count::Exactly(count));
        self
    }

    /// No request until the end of the scenario.
    pub fn none(self) -> Self {
        self.exactly(0)
    }

    /// Inside TLS, on the TLS port.
    pub fn over_tls(self) -> Self {
        let seen = |r: &ServerRequest| {
            if r.over_tls { Ok(()) } else { Err(Odd::being(ValueKind::PlainText, CLEAR)) }
        };
        self.demand(About::Arrival, What::of(Field::Transport).being(ValueKind::Tls), TLS.to_owned(), seen)
    }

    /// Outside TLS.
    pub fn in_clear(self) -> Self {
        let seen = |r: &ServerRequest| if r.over_tls { Err(Odd::being(ValueKind::Tls, TLS)) } else { Ok(()) };
        let what = What::of(Field::Transport).being(ValueKind::PlainText);
        self.demand(About::Arrival, what, CLEAR.to_owned(), seen)
    }

    /// The server name (SNI) of the ClientHello.
    pub fn server_name(self, name: &str) -> Self {
        let wanted = name.to_owned();
        self.demand(About::Handshake, What::of(Field::ServerName), format!("server name {name}"), move |r| {
            match r.tls.as_ref().and_then(|t| t.server_name.as_deref()) {
                Some(seen) if seen == wanted => Ok(()),
                Some(seen) => Err(Odd::from(format!("server name {}", unlike(seen, &wanted)))),
                None => Err(Odd::absent("no server name (SNI)")),
            }
        })
    }

    /// Host or `:authority`. A default port is ignored.
    pub fn host(self, host: &str) -> Self {
        self.text(About::Piece, What::of(Field::Host), "Host", host, |r| {
            let bare = r.authority.strip_suffix(":80").or_else(|| r.authority.strip_suffix(":443"));
            Some(bare.unwrap_or(&r.authority).to_owned())
        })
    }

    /// The method.
    pub fn method(self, method: &str) -> Self {
        self.text(About::Piece, What::of(Field::Method), "method", method, |r| Some(r.method.clone()))
    }

    /// Path and query.
    pub fn target(self, target: &str) -> Self {
        self.text(About::Piece, What::of(Field::Path), "path", target, |r| Some(r.target.clone()))
    }

    /// A header's value. Several headers of this name are more than one value: servers differ in which one they read.
    pub fn header(self, name: &'static str, value: &str) -> Self {
        let wanted = value.to_owned();
        let what = What::of(Field::RequestHeader).named(name);
        self.demand(About::Piece, what, format!("header {name}: {value}"), move |r| {
            let values: Vec<&str> = r
                .headers
                .iter()
                .filter(|h| h.name.eq_ignore_ascii_case(name))
                .map(|h| h.value.as_str())
                .collect();
            match values.as_slice() {
                [] => Err(Odd::absent(format!("no header {name}"))),
                [seen] if *seen == wanted => Ok(()),
                [seen] => Err(Odd::from(format!("header {name}: {}", unlike(seen, &wanted)))),
                several => {
                    let shown = several.iter().map(|seen| unlike(seen, &wanted));
                    let words = format!("{} headers {name}: {}", several.len(), words::listed(shown));
                    Err(Odd::being(ValueKind::Several, words))
                }
            }
        })
    }

    /// The messages that the server received, in this order.
    pub fn messages(self, wanted: &[String]) -> Self {
        let wanted = wanted.to_vec();
        let expected = format!("the messages {}", wanted.join(", "));
        self.demand(About::Piece, What::of(Field::Message), expected, move |r| {
            let shown = || Odd::from(format!("the messages {}", r.messages.join(", ")));
            if r.messages == wanted { Ok(()) } else { Err(shown()) }
        })
    }

    /// The outcome of a gRPC call as the server has it.
    pub fn outcome(self, status: &'static str) -> Self {
        let expected = format!("{} {status} at the server", grpc::STATUS);
        self.demand(About::Piece, What::of(Field::Trailer).named(grpc::STATUS), expected, move |r| {
            let trailers = r.answer.iter().flat_map(|answer| &answer.trailers);
            match trailers.into_iter().find(|h| h.name == grpc::STATUS) {
                Some(seen) if seen.value == status => Ok(()),
                Some(seen) => Err(Odd::from(format!("{} {} at the server", grpc::STATUS, seen.value))),
                None => Err(Odd::absent("a call that goes on at the server")),
            }
        })
    }

    /// All that the client said in its conversation, byte for byte.
    pub fn whole(self, reply: &Reply) -> Self {
        let said = reply.exchange.hops.last().map(|hop| (hop.body_bytes, hop.body_sha256.clone()));
        let bytes = said.as_ref().and_then(|(bytes, _)| *bytes).unwrap_or_default();
        let expected = format!("the {bytes} bytes that the client sent");
        self.demand(About::Piece, What::of(Field::RequestBody), expected, move |r| {
            if said.as_ref().is_some_and(|(n, sum)| *n == r.body_bytes && *sum == r.body_sha256) {
                Ok(())
            } else if r.body_bytes == Some(bytes) {
                Err(Odd::from(format!("{bytes} bytes with another content")))
            } else {
                Err(Odd::from(format!("{} bytes", r.body_bytes.unwrap_or_default())))
            }
        })
    }

    /// The ALPN protocols that the ClientHello offered, where the server can see them.
    pub fn alpn_offered(self, offered: &'static [&'static str]) -> Self {
        self.demand(
            About::Handshake,
            What::of(Field::AlpnOffer),
            format!("ALPN offer {}", offered.join(",")),
            move |r| {
                let Some(seen) = r.tls.as_ref().and_then(|t| t.alpn_offered.as_ref()) else { return Ok(()) };
                if seen.iter().eq(offered) { Ok(()) } else { Err(format!("ALPN offer {}", seen.join(","))) }
            },
        )
    }

    /// Every ALPN protocol that the ClientHello offered is one of these. An empty offer passes; an offer that the server
    /// cannot see does not.
    pub fn alpn_offered_among(self, allowed: &'static [&'static str]) -> Self {
        let expected = format!("an ALPN offer with no protocol but {}", allowed.join(", "));
        self.demand(About::Handshake, What::of(Field::AlpnOffer), expected, move |r| {
            let Some(seen) = r.tls.as_ref().and_then(|t| t.alpn_offered.as_ref()) else {
                let words = "an ALPN offer that the server does not record";
                return Err(Odd::being(ValueKind::Unknown, words));
            };
            let all = seen.iter().all(|s| allowed.contains(&s.as_str()));
            all.then_some(()).ok_or_else(|| Odd::from(format!("ALPN offer {}", seen.join(","))))
        })
    }

    /// The TLS version.
    pub fn tls_version(self, version: &str) -> Self {
        let get = |r: &ServerRequest| r.tls.as_ref().and_then(|t| t.version.clone());
        self.text(About::Handshake, What::of(Field::TlsVersion), "TLS version", version, get)
    }

    /// This client certificate, which the server verified.
    pub fn client_certificate(self, issued: &Issued) -> Self {
        let (subject, serial) = (issued.subject().to_owned(), issued.serial().to_owned());
        let expected = format!("a verified client certificate {subject} with serial {serial}");
        self.demand(About::Handshake, What::of(Field::ClientCertificate), expected, move |r| {
            let tls = r.tls.as_ref();
            let Some(seen) = tls.and_then(|t| t.peer_certificate.as_ref()) else {
                return Err(Odd::absent("no client certificate"));
            };
            let verified = tls.and_then(|t| t.peer_verification.as_deref()).unwrap_or("NONE");
            if seen.subject == subject && seen.serial == serial && verified == "SUCCESS" {
                Ok(())
            } else {
                Err(Odd::from(format!(
                    "client certificate {} with serial {} (verification: {verified})",
                    seen.subject, seen.serial
                )))
            }
        })
    }
}

const TLS: &str = "over TLS";
const CLEAR: &str = "in plain text";

impl From<Sighting> for Claim {
    fn from(s: Sighting) -> Self {
        let host = s.server.host.clone();
        Self::on_the_side_of(&host, move |view| {
            let mut found = requests(&s.server.host, &s.token, view);
            found.retain(|(_, r)| s.port.is_none_or(|p| p == r.port));
            let subject = |r: &ServerRequest| {
                let from = words::opener(view, &r.peer);
                Subject {
                    piece: format!("the request {} from {from} to {}", words::line(r), s.server),
                    handshake: format!("the TLS handshake of {from} with {}", s.server),
                    hop: (deviation::opener(view, &r.peer), deviation::server(&s.server)),
                }
            };
            s.matcher.judge(&found, |r| words::request(view, r), subject).about(&s.exchange)
        })
    }
}
