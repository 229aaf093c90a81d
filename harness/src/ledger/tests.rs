//! Books that balance, and books with one fault each.

use meshproof_model::{
    AccessLog, Connection, Evidence, EvidenceId, Exchange, Fact, Feature, Header, Hop, HopResult, LogFields,
    PeerCertificate, ServerRequest, Side, TlsFacts, Verdict,
};
use serde_json::json;

mod logs;
mod wire;

use super::*;
use crate::forecast::{Arrival, Forecast, Originated, Passage, Promise, SentRequest, ServerCheck, Transport};

const HOST: &str = "edition.cnn.com";
const PEER: &str = "127.0.0.1:41000";
const UPSTREAM: &str = "127.0.0.1:9443";

/// The same promise for every request.
struct Always(Promise);

impl Forecast for Always {
    fn of(&self, _: &SentRequest<'_>) -> Promise {
        self.0.clone()
    }
}

fn arrival() -> Arrival {
    Arrival {
        needs: Vec::new(),
        proxies: vec![Passage {
            proxy: "sleep".into(),
            cluster: "outbound|443||edition.cnn.com".into(),
            upstream: UPSTREAM.into(),
            server_name: None,
            http: true,
        }],
        host: HOST.into(),
        port: 443,
        transport: Transport::Originated(Originated {
            by: "sleep".into(),
            server_name: Some(HOST.into()),
            client_certificate: None,
            server: ServerCheck::Accepted,
        }),
        authority: HOST.into(),
        target: "/politics".into(),
        request_headers: Vec::new(),
        answer_headers: Vec::new(),
        timeout_ms: None,
    }
}

/// The books of one request: what each side recorded, and what the configuration promises.
struct Books {
    hop: Hop,
    request: ServerRequest,
    log: LogFields,
    connection: Connection,
    more: Vec<(Side, Option<String>, Fact)>,
    without: Vec<&'static str>,
    promises: Vec<Promise>,
    /// Whether the target works out what the configuration promises.
    foreseen: bool,
}

fn headers(pairs: &[(&str, &str)]) -> Vec<Header> {
    pairs.iter().map(|(n, v)| Header { name: (*n).into(), value: (*v).into() }).collect()
}

impl Books {
    fn new() -> Self {
        let answered = headers(&[("content-type", "text/plain"), (ANSWERS.as_str(), "t.1")]);
        let tls = TlsFacts {
            server_name: Some(HOST.into()),
            alpn_offered: Some(vec!["h2".into(), "http/1.1".into()]),
            ..TlsFacts::default()
        };
        let hop = json!({
            "method": "GET", "url": "http://edition.cnn.com/politics", "sent": "GET /politics HTTP/1.1\r\n\r\n", "sent_bytes": 0, "body_bytes": 0,
            "headers": headers(&[("host", HOST), ("accept", "*/*"), ("cookie", "a=1; b=2"), ("connection", "x-hop"), ("x-hop", "1")]),
            "result": { "response": {
                "version": "HTTP/1.1", "status": 200, "headers": answered.clone(), "body": "body", "body_bytes": 4,
                "body_truncated": false, "body_sha256": "aa",
            } },
        });
        let request = json!({
            "connection": 1, "port": 443, "over_tls": true, "peer": PEER, "method": "GET", "target": "/politics",
            "authority": HOST, "version": "HTTP/2", "status": 200, "body_bytes": 0, "tls": tls.clone(),
            "headers": headers(&[("host", HOST), ("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-request-id", "1")]),
            "answer": { "status": 200, "headers": answered, "body_bytes": 4, "body_sha256": "aa" },
        });
        let connection = json!({
            "number": 1, "port": 443, "tls_port": true, "peer": PEER, "clear_bytes": "", "tls": tls,
        });
        Self {
            hop: serde_json::from_value(hop).unwrap(),
            request: serde_json::from_value(request).unwrap(),
            log: LogFields {
                method: Some("GET".into()),
                response_code: Some(200),
                bytes_sent: Some(4),
                bytes_received: Some(0),
                upstream_host: Some(UPSTREAM.into()),
                upstream_local_address: Some(PEER.into()),
                upstream_cluster: Some("outbound|443||edition.cnn.com;".into()),
                ..LogFields::default()
            },
            connection: serde_json::from_value(connection).unwrap(),
            more: Vec::new(),
            without: Vec::new(),
            promises: vec![Promise::Arrives(Box::new(arrival()))],
            foreseen: true,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut books = Self::new();
        change(&mut books);
        books
    }

    fn promising(change: impl FnOnce(&mut Arrival)) -> Self {
        let mut promised = arrival();
        change(&mut promised);
        Self::with(|b| b.promises = vec![Promise::Arrives(Box::new(promised))])
    }

    /// The server asked for a client certificate, or it did not.
    fn asking(mut self, asked: bool) -> Self {
        self.request.tls.as_mut().unwrap().peer_verification = asked.then(|| "NONE".into());
        self
    }

    fn answer(&mut self) -> &mut meshproof_model::Response {
        match &mut self.hop.result {
            HopResult::Response(response) => response,
            HopResult::Error(e) => panic!("{e:?}"),
        }
    }

    fn log_fact(fields: LogFields) -> Fact {
        Fact::AccessLog(AccessLog { line: "the line".into(), fields: Some(fields), ..AccessLog::default() })
    }

    fn judge(self) -> Finding {
        let token = || Some("t.1".to_owned());
        let service = || Side::Service { host: HOST.into() };
        let exchange = Exchange { url: self.hop.url.clone(), hops: vec![self.hop], duration_us: 1000 };
        let mut facts = vec![
            ("connection", service(), None, Fact::Connection(self.connection)),
            ("request", service(), token(), Fact::Request(self.request)),
            ("log", Side::Proxy { name: "sleep".into() }, token(), Self::log_fact(self.log)),
            ("exchange", Side::Workload { name: "sleep".into() }, token(), Fact::Exchange(exchange)),
        ];
        facts.retain(|(kind, ..)| !self.without.contains(kind));
        let facts = facts.into_iter().map(|(_, side, token, fact)| (side, token, fact)).chain(self.more);
        let evidence: Vec<Evidence> = facts
            .enumerate()
            .map(|(n, (side, token, fact))| Evidence {
                id: EvidenceId(format!("e{n}")),
                at_us: 10_000,
                step: 0,
                side,
                token,
                fact,
            })
            .collect();
        let last = self.promises.len() - 1;
        let periods = self.promises.into_iter().enumerate().map(|(n, promise)| Period {
            begun_us: if n == 0 { 0 } else { 9_500 },
            settled_us: if n == 0 { 0 } else { 10_000 + last as u64 },
            forecast: self.foreseen.then(|| Arc::new(Always(promise)) as Arc<dyn Forecast>),
        });
        let ledger = Ledger {
            periods: periods.collect(),
            features: Feature::ALL.iter().copied().map(Into::into).collect(),
            started: Some("2026-11-05T10:00:00Z".parse().unwrap()),
            ..Ledger::default()
        };
        ledger.judge(View { evidence: &evidence, marks: &[], changes: &[], unobserved: &[] })
    }
}

#[track_caller]
fn balances(books: Books) {
    let finding = books.judge();
    assert_eq!(finding.verdict, Verdict::Passed, "{}", finding.seen);
}

#[track_caller]
fn fails_with(books: Books, words: &str) {
    let finding = books.judge();
    assert_eq!(finding.verdict, Verdict::Failed, "{}", finding.seen);
    assert!(finding.seen.contains(words), "{words:?} is not in: {}", finding.seen);
    assert!(!finding.evidence.is_empty());
}

#[test]
fn one_request_that_all_sides_agree_on_balances() {
    balances(Books::new());
}

#[test]
fn what_rfcs_and_proxies_allow_balances() {
    // A Host in the other case with its default port, extra fields of proxies, GREASE in the ALPN offer.
    balances(Books::with(|b| b.request.authority = "EDITION.cnn.com:443".into()));
    balances(Books::with(|b| {
        b.request.headers.extend(headers(&[("via", "1.1 x"), ("x-forwarded-for", "1.2.3.4")]))
    }));
    balances(Books::with(|b| b.answer().headers.extend(headers(&[("server", "envoy"), ("date", "now")]))));
    balances(Books::with(|b| {
        b.request.tls.as_mut().unwrap().alpn_offered = Some(vec!["\u{fffd}\u{fffd}".into(), "h2".into()]);
    }));
    // A connection in reserve.
    balances(Books::with(|b| {
        let mut idle = b.connection.clone();
        idle.number = 2;
        b.more.push((Side::Service { host: HOST.into() }, None, Fact::Connection(idle)));
    }));
    // A retry after 503, as Istio's default policy has it.
    balances(Books::with(|b| {
        let mut again = b.request.clone();
        (again.status, again.answer) = (200, b.request.answer.clone());
        b.request.status = 503;
        b.more.push((Side::Service { host: HOST.into() }, Some("t.1".into()), Fact::Request(again)));
        b.log.upstream_local_address = None;
    }));
}

#[test]
fn a_request_without_an_owner_fails() {
    fails_with(
        Books::with(|b| {
            b.more.push((Side::Service { host: HOST.into() }, None, Fact::Request(b.request.clone())));
        }),
        "received GET /politics on port 443 over TLS without the token of any request",
    );
    fails_with(
        Books::with(|b| {
            b.more.push((
                Side::Service { host: HOST.into() },
                Some("t.9".into()),
                Fact::Request(b.request.clone()),
            ));
        }),
        "no client sent it",
    );
}

#[test]
fn a_copy_at_the_same_host_at_another_host_or_in_plain_text_fails() {
    let copy = |host: &str, change: fn(&mut ServerRequest)| {
        Books::with(|b| {
            let mut copy = b.request.clone();
            change(&mut copy);
            b.more.push((Side::Service { host: host.into() }, Some("t.1".into()), Fact::Request(copy)));
        })
    };
    fails_with(copy(HOST, |_| {}), "once, and servers received it 2 times");
    fails_with(
        copy("elsewhere.example", |_| {}),
        "External service elsewhere.example received GET /politics on port 443",
    );
    fails_with(
        copy(HOST, |r| (r.over_tls, r.port, r.tls) = (false, 80, None)),
        "External service edition.cnn.com received GET /politics on port 80 in plain text",
    );
}

#[test]
fn an_answer_without_a_request_and_a_lost_request_fail() {
    fails_with(
        Books::with(|b| b.without = vec!["request", "log"]),
        "Workload sleep sent GET http://edition.cnn.com/politics and received the answer 200, but no server received",
    );
    fails_with(
        Books::with(|b| {
            b.without = vec!["request", "log"];
            b.answer().status = 503;
        }),
        "received the answer 503, but no server received",
    );
}

#[test]
fn a_request_that_must_end_at_a_proxy_may_fail_and_must_not_succeed() {
    let ends = || {
        vec![Promise::Ends {
            status: Some(503),
            why: "there is no endpoint".into(),
            proxies: vec!["sleep".into()],
        }]
    };
    balances(Books::with(|b| {
        (b.promises, b.without) = (ends(), vec!["request", "connection"]);
        b.answer().status = 502;
        b.log = LogFields { response_code: Some(502), bytes_sent: Some(4), ..LogFields::default() };
    }));
    fails_with(Books::with(|b| b.promises = ends()), "it must reach no server, because there is no endpoint");
}

#[test]
fn a_changed_request_fails() {
    fails_with(
        Books::with(|b| b.request.target = "/Politics".into()),
        "External service edition.cnn.com received it with path /Politics instead of path /politics.",
    );
    fails_with(Books::with(|b| b.request.authority = "other.example".into()), "Host other.example");
    fails_with(Books::with(|b| b.request.headers.retain(|h| h.name != "cookie")), "no header cookie");
    fails_with(
        Books::with(|b| b.request.headers.extend(headers(&[("x-secret", "1")]))),
        "header x-secret: 1",
    );
    fails_with(Books::with(|b| b.request.body_bytes = Some(3)), "body of 3 bytes instead of body of 0 bytes");
}

#[test]
fn trailer_fields_of_different_names_have_no_order() {
    let with = |received: &[(&str, &str)]| {
        Books::with(|b| {
            b.hop.trailers = headers(&[("x-sum", "1"), ("x-sum", "2"), ("server-timing", "app")]);
            b.request.trailers = headers(received);
        })
    };
    balances(with(&[("server-timing", "app"), ("x-sum", "1"), ("x-sum", "2")]));
    fails_with(with(&[("x-sum", "2"), ("x-sum", "1"), ("server-timing", "app")]), "with trailers x-sum: 2");
}

#[test]
fn trailers_of_an_answer_may_be_dropped_but_not_those_of_a_grpc_call() {
    let with = |content_type: &str, received: &[(&str, &str)]| {
        Books::with(|b| {
            let sent = headers(&[("content-type", content_type), (ANSWERS.as_str(), "t.1")]);
            let answer = b.answer();
            answer.version = "HTTP/2".into();
            (answer.headers, answer.trailers) = (sent.clone(), headers(received));
            let answer = b.request.answer.as_mut().unwrap();
            (answer.headers, answer.trailers) = (sent, headers(&[("x-sum", "1")]));
        })
    };
    balances(with("text/plain", &[]));
    balances(with("text/plain", &[("x-sum", "1")]));
    fails_with(with("text/plain", &[("x-sum", "2")]), "trailers x-sum: 2");
    fails_with(with("application/grpc", &[]), "no trailers");
}

#[test]
fn what_a_route_sets_and_removes_is_expected() {
    let edits = |a: &mut Arrival| {
        a.request_headers = vec![crate::forecast::HeaderEdits {
            remove: vec!["accept".into()],
            set: vec![("x-forwarded-proto".into(), "https".into())],
            add: Vec::new(),
        }];
    };
    fails_with(Books::promising(edits), "no header x-forwarded-proto");
    let mut books = Books::promising(edits);
    books.request.headers.retain(|h| h.name != "accept");
    books.request.headers.extend(headers(&[("x-forwarded-proto", "https")]));
    balances(books);
}

#[test]
fn a_changed_answer_fails() {
    fails_with(
        Books::with(|b| b.answer().status = 204),
        "received it, and workload sleep received status 204 instead of status 200",
    );
    fails_with(
        Books::with(|b| b.answer().headers.retain(|h| h.name != "content-type")),
        "no header content-type",
    );
    fails_with(Books::with(|b| b.answer().body_bytes = 3), "a body of 3 bytes instead of a body of 4 bytes");
    fails_with(Books::with(|b| b.answer().body_sha256 = Some("bb".into())), "with other content");
    // The answer to another request, with the same body.
    let other = |b: &mut Books| {
        b.answer().headers = headers(&[("content-type", "text/plain"), (ANSWERS.as_str(), "t.2")])
    };
    fails_with(Books::with(other), "meshproof-answers: t.2");
    // Several Set-Cookie fields stay several.
    fails_with(
        Books::with(|b| {
            let answer = b.request.answer.as_mut().unwrap();
            answer.headers.extend(headers(&[("set-cookie", "a=1"), ("set-cookie", "b=2")]));
            b.answer().headers.extend(headers(&[("set-cookie", "a=1, b=2")]));
        }),
        "header set-cookie",
    );
}

#[test]
fn an_answer_that_broke_off_must_not_look_whole() {
    let broken = |b: &mut Books| b.request.answer.as_mut().unwrap().breaks_off = true;
    fails_with(Books::with(broken), "because the server broke off");
    balances(Books::with(|b| {
        broken(b);
        b.hop.result = HopResult::Error(meshproof_model::ExchangeError {
            kind: meshproof_model::ExchangeErrorKind::ConnectionClosed,
            message: "closed".into(),
        });
    }));
}

#[test]
fn tls_that_differs_from_the_configuration_fails() {
    fails_with(Books::with(|b| b.request.tls.as_mut().unwrap().server_name = None), "no server name");
    fails_with(
        Books::with(|b| {
            b.request.tls.as_mut().unwrap().alpn_offered = Some(vec!["istio-peer-exchange".into()])
        }),
        "ALPN offer istio-peer-exchange",
    );
    fails_with(
        Books::with(|b| {
            b.request.tls.as_mut().unwrap().peer_certificate = Some(PeerCertificate {
                subject: "CN=mesh".into(),
                serial: "01".into(),
                ..PeerCertificate::default()
            });
        }),
        "client certificate CN=mesh serial 01 instead of no client certificate",
    );
    let certified = |asked: bool| {
        Books::promising(|a| {
            if let Transport::Originated(o) = &mut a.transport {
                let certificate =
                    PeerCertificate { subject: "CN=c".into(), serial: "02".into(), ..Default::default() };
                o.client_certificate = Some(certificate);
            }
        })
        .asking(asked)
    };
    fails_with(certified(true), "no client certificate instead of client certificate CN=c serial 02");
    balances(certified(false));
    fails_with(
        Books::promising(|a| {
            if let Transport::Originated(o) = &mut a.transport {
                o.server = ServerCheck::Refused("it has expired".into());
            }
        }),
        "with a server certificate that sleep accepted instead of a refusal of its certificate, because it has expired",
    );
}

#[test]
fn a_connection_with_clear_bytes_or_another_server_name_fails() {
    let opened = |change: fn(&mut Connection)| {
        Books::with(|b| {
            let mut other = b.connection.clone();
            other.number = 2;
            change(&mut other);
            b.more.push((Side::Service { host: HOST.into() }, None, Fact::Connection(other)));
        })
    };
    fails_with(
        opened(|c| (c.tls, c.clear_bytes) = (None, "GET /politics".into())),
        "sent the bytes \"GET /politics\" outside TLS",
    );
    fails_with(
        opened(|c| c.tls.as_mut().unwrap().server_name = Some("internal.example".into())),
        "with the server name internal.example instead of edition.cnn.com",
    );
    // Opened in advance, where the server name follows the request: two requests have two.
    let named = |name: &str| {
        let mut arrival = arrival();
        if let Transport::Originated(o) = &mut arrival.transport {
            o.server_name = Some(name.into());
        }
        Promise::Arrives(Box::new(arrival))
    };
    let in_advance = |promises: Vec<Promise>| {
        Books::with(|b| {
            b.promises = promises;
            b.request.tls.as_mut().unwrap().server_name = Some("a.cnn.com".into());
            let mut reserve = b.connection.clone();
            reserve.number = 2;
            b.connection.tls.as_mut().unwrap().server_name = Some("a.cnn.com".into());
            b.more.push((Side::Service { host: HOST.into() }, None, Fact::Connection(reserve)));
        })
    };
    balances(in_advance(vec![named("a.cnn.com"), named("b.cnn.com")]));
    fails_with(
        in_advance(vec![named("a.cnn.com")]),
        "with the server name edition.cnn.com instead of a.cnn.com",
    );
    // nginx sees nothing of a ClientHello whose handshake fails.
    balances(opened(|c| c.tls = Some(TlsFacts { failure: Some("refused".into()), ..TlsFacts::default() })));
}

#[test]
fn while_the_configuration_changes_either_promise_is_kept() {
    let other = || {
        let mut other = arrival();
        (other.port, other.transport) = (80, Transport::Clear);
        Promise::Arrives(Box::new(other))
    };
    balances(Books::with(|b| b.promises.push(other())));
    balances(Books::with(|b| b.promises.insert(0, other())));
}

#[test]
fn what_is_open_or_needs_a_feature_that_is_not_declared_is_not_judged() {
    balances(Books::with(|b| {
        b.promises = vec![Promise::Open];
        b.request.target = "/other".into();
    }));
}

#[test]
fn a_resumed_session_counts_as_what_it_was_at_its_beginning() {
    let certificate = || {
        let subject = "CN=client".to_owned();
        Some(PeerCertificate { subject, serial: "01".into(), ..PeerCertificate::default() })
    };
    let resumed = |mut books: Books| {
        books.request.tls.as_mut().unwrap().resumed = true;
        books
    };
    balances(resumed(Books::new()));
    // With the certificate of another policy's session.
    fails_with(
        resumed(Books::with(|b| b.request.tls.as_mut().unwrap().peer_certificate = certificate())),
        "with client certificate CN=client serial 01 in a TLS session that was resumed instead of no client certificate",
    );
    let originated = |change: &dyn Fn(&mut Originated)| {
        resumed(Books::promising(|a| {
            if let Transport::Originated(o) = &mut a.transport {
                change(o);
            }
        }))
    };
    // With that of its own.
    balances({
        let mut books = originated(&|o| o.client_certificate = certificate());
        books.request.tls.as_mut().unwrap().peer_certificate = certificate();
        books
    });
    // With a server that was accepted under another policy.
    fails_with(
        originated(&|o| o.server = ServerCheck::Refused("no trusted CA issued it".into())),
        "a server certificate that sleep accepted in a TLS session that was resumed instead of a refusal",
    );
}

#[test]
fn a_field_that_the_connection_header_names_must_not_arrive() {
    let named = |name: &str, sent: &str, received: &str| {
        Books::with(|b| {
            b.hop.headers.push(Header { name: "connection".into(), value: name.into() });
            b.hop.headers.push(Header { name: name.into(), value: sent.into() });
            b.request.headers.push(Header { name: name.into(), value: received.into() });
        })
    };
    fails_with(
        named("keep-alive", "timeout=7, max=77", "timeout=7,max=77"),
        "header keep-alive: timeout=7, max=77",
    );
    fails_with(named("te", "trailers, x-own;q=0.3", "trailers, x-own;q=0.3"), "header te");
    fails_with(named("upgrade", "h2c", "h2c"), "header upgrade: h2c");
    balances(named("upgrade", "foo/2", "foo/2"));
    // The proxy's own.
    balances(named("keep-alive", "timeout=7, max=77", "timeout=60"));
    balances(named("te", "trailers", "trailers"));
    balances(named("te", "trailers, x-own;q=0.3", "trailers"));
}

#[test]
fn a_proxy_adds_to_via_and_does_not_drop_it() {
    let via = |received: Option<&str>| {
        Books::with(|b| {
            b.hop.headers.push(Header { name: "via".into(), value: "1.0 fred".into() });
            let header = |value: &str| Header { name: "via".into(), value: value.into() };
            b.request.headers.extend(received.map(header));
        })
    };
    fails_with(via(None), "no header via instead of header via: 1.0 fred");
    balances(via(Some("1.0 fred")));
    balances(via(Some("1.0 fred, 1.1 proxy")));
}

#[test]
fn pragma_may_become_cache_control_and_nothing_else_may() {
    let added = |sent: &[(&str, &str)], received: &[(&str, &str)]| {
        Books::with(|b| {
            b.hop.headers.extend(headers(sent));
            b.request.headers.extend(headers(sent).into_iter().chain(headers(received)));
        })
    };
    let pragma = ("pragma", "no-cache");
    balances(added(&[pragma], &[("cache-control", "no-cache")]));
    fails_with(added(&[pragma], &[("cache-control", "no-store")]), "header cache-control: no-store");
    fails_with(added(&[], &[("cache-control", "no-cache")]), "header cache-control: no-cache");
}

#[test]
fn an_interim_answer_that_the_server_did_not_give_fails() {
    let interim = |sent: &[u16], received: &[u16]| {
        Books::with(|b| {
            b.request.answer.as_mut().unwrap().informational = sent.to_vec();
            b.answer().informational = received.to_vec();
        })
    };
    balances(interim(&[103], &[103]));
    // Envoy keeps it to itself.
    balances(interim(&[103], &[]));
    balances(interim(&[], &[100]));
    fails_with(interim(&[103], &[103, 103]), "another interim answer 103");
    fails_with(interim(&[], &[103]), "another interim answer 103");
}

#[test]
fn content_without_a_meaning_may_be_refused_but_not_dropped() {
    let refused = |method: &str| {
        Books::with(|b| {
            b.hop.method = method.into();
            b.hop.body_bytes = Some(3);
            b.answer().status = 400;
            b.without = vec!["request", "connection", "log"];
        })
    };
    balances(refused("GET"));
    balances(refused("DELETE"));
    fails_with(refused("PUT"), "no server received the request");
    fails_with(Books::with(|b| b.hop.body_bytes = Some(3)), "body of 0 bytes instead of body of 3 bytes");
}

#[test]
fn a_request_that_is_not_answered_within_the_timeout_of_its_route_gets_504() {
    let timed = |waited_ms: u64, status: u16| {
        let mut books = Books::promising(|a| a.timeout_ms = Some(150));
        books.request.answer.as_mut().unwrap().waited_ms = waited_ms;
        books.answer().status = status;
        if status == 504 {
            books.log.response_code = Some(504);
        }
        books
    };
    balances(timed(1000, 504));
    balances(timed(0, 200));
    fails_with(timed(1000, 200), "status 200 instead of status 504");
    balances(timed(1000, 503));
    fails_with(timed(0, 504), "status 504 instead of status 200");
}

#[test]
fn cookies_are_one_header_over_http1() {
    let over = |version: &str| Books::with(|b| b.request.version = version.into());
    // The books of these tests have two lines, as HTTP/2 may have them.
    balances(over("HTTP/2"));
    fails_with(over("HTTP/1.1"), "2 headers cookie instead of one header cookie");
}

#[test]
fn a_connection_that_is_passed_on_offers_no_protocol_of_http() {
    let conversation = |offered: &[&str]| {
        Books::with(|b| {
            (b.hop.method, b.hop.url) = (meshproof_model::TCP.into(), "tcp://edition.cnn.com:443".into());
            (b.request.method, b.request.version) =
                (meshproof_model::TCP.into(), meshproof_model::TCP.into());
            b.request.tls.as_mut().unwrap().alpn_offered =
                Some(offered.iter().map(|name| (*name).to_owned()).collect());
            b.answer().version = meshproof_model::TCP.into();
            b.without = vec!["log"];
        })
    };
    balances(conversation(&[]));
    fails_with(conversation(&["http/1.1"]), "ALPN offer http/1.1 instead of no ALPN offer");
}
