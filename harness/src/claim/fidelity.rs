//! Claims about what must arrive unchanged: bodies, trailers, versions, header fields, connections.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use meshproof_model::{EvidenceId, Field, Header, Response, ServerRequest, ValueKind};

use super::deviation::{self, Odd, What};
use super::external::{Sighting, requests};
use super::matcher::About;
use super::response::OnlyResponse;
use super::words::{Server, counted, listed, unlike};
use super::{Claim, Finding, Reply};
use crate::digest::sha256;
use crate::grpc;

/// `3000 bytes, SHA-256 9f86d081`.
fn summary(bytes: u64, sha256: Option<&str>) -> String {
    let sum = sha256.map(|s| format!(", SHA-256 {}", s.get(..12).unwrap_or(s))).unwrap_or_default();
    format!("{}{sum}", counted_bytes(bytes))
}

fn counted_bytes(bytes: u64) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

fn described(body: &Bytes) -> String {
    summary(body.len() as u64, Some(&sha256(body)))
}

fn holds<E>(holds: bool, otherwise: impl FnOnce() -> E) -> Result<(), E> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Whether a response's body is this one. If the client does not record the digest, the recorded part is compared.
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
    /// The HTTP version of the response: `HTTP/2`.
    pub fn version(self, version: &str) -> Self {
        self.with(Field::HttpVersion, format!("a response over {version}"), |r| {
            holds(r.version == version, || format!("a response over {}", r.version))
        })
    }

    /// The whole body is this one.
    pub fn body_is(self, body: &Bytes) -> Self {
        self.with(Field::ResponseBody, format!("a body of {}", described(body)), |r| has_body(r, body))
    }

    /// The response has no body.
    pub fn no_body(self) -> Self {
        self.with(Field::ResponseBody, "no body".to_owned(), |r| {
            holds(r.body_bytes == 0, || format!("a body of {}", counted_bytes(r.body_bytes)))
        })
    }

    /// A header's value.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(What::of(Field::ResponseHeader).named(name), format!("the header {name}: {value}"), |r| {
            holds(r.header(name) == Some(value), || match r.header(name) {
                Some(seen) => Odd::from(format!("the header {name}: {}", unlike(seen, value))),
                None => Odd::absent(format!("no header {name}")),
            })
        })
    }

    /// None of these headers.
    pub fn lacks_headers(self, names: &[&str]) -> Self {
        let what = What::of(Field::ResponseHeader).named(&names.join(", ")).being(ValueKind::Absent);
        self.with(what, format!("no header {}", names.join(", no header ")), |r| {
            let there: Vec<&str> = names.iter().copied().filter(|n| r.header(n).is_some()).collect();
            holds(there.is_empty(), || {
                let noun = if there.len() == 1 { "the header" } else { "the headers" };
                let shown =
                    there.iter().map(|n| format!("{n}: {}", unlike(r.header(n).unwrap_or_default(), "")));
                Odd::being(ValueKind::Present, format!("{noun} {}", listed(shown)))
                    .named(there.iter().copied())
            })
        })
    }

    /// A trailer's value.
    pub fn trailer(self, name: &str, value: &str) -> Self {
        self.with(Field::Trailer, format!("the trailer {name}: {value}"), |r| {
            let seen = r.trailers.iter().find(|t| t.name.eq_ignore_ascii_case(name));
            holds(seen.is_some_and(|t| t.value == value), || match seen {
                Some(Header { value: seen, .. }) => format!("the trailer {name}: {}", unlike(seen, value)),
                None => format!("no trailer {name}"),
            })
        })
    }

    /// An interim response came before it.
    pub fn after_interim(self, status: u16) -> Self {
        self.with(Field::Message, format!("the interim response {status} before the final one"), |r| {
            holds(r.informational.contains(&status), || match r.informational.as_slice() {
                [] => "no interim response".to_owned(),
                seen => {
                    let statuses = seen.iter().map(u16::to_string);
                    format!("{}: {}", counted(seen.len(), "interim response"), listed(statuses))
                }
            })
        })
    }

    /// These messages came back, in this order.
    pub fn messages(self, wanted: &[&str]) -> Self {
        self.with(Field::Message, format!("the messages {}", wanted.join(", ")), |r| {
            holds(r.messages == wanted, || format!("the messages {}", listed(r.messages.clone())))
        })
    }

    /// Exactly one WebSocket message came back: this one.
    pub fn message(self, text: &str) -> Self {
        self.with(Field::Message, format!("exactly one message: {text:?}"), |r| {
            holds(r.messages == [text], || match r.messages.as_slice() {
                [] => format!("status {} and no message", r.status),
                seen => {
                    let shown = seen.iter().map(|message| format!("{:?}", unlike(message, text)));
                    format!("{}: {}", counted(seen.len(), "message"), listed(shown))
                }
            })
        })
    }
}

impl Sighting {
    /// Host or `:authority`, byte for byte.
    pub fn authority(self, authority: &'static str) -> Self {
        self.demand(
            About::Piece,
            What::of(Field::Host),
            format!("Host {authority}, byte for byte"),
            move |r| holds(r.authority == authority, || format!("Host {}", r.authority)),
        )
    }

    /// The HTTP version: `HTTP/1.1`, `HTTP/2`.
    pub fn version(self, version: &'static str) -> Self {
        self.demand(About::Piece, What::of(Field::HttpVersion), version.to_owned(), move |r| {
            holds(r.version == version, || r.version.clone())
        })
    }

    /// The ALPN protocol that was negotiated; `None`: no protocol.
    pub fn alpn(self, alpn: Option<&'static str>) -> Self {
        let words = |alpn: Option<&str>| alpn.map_or("no ALPN".to_owned(), |a| format!("ALPN {a}"));
        self.demand(About::Handshake, What::of(Field::Alpn), words(alpn), move |r| {
            let seen = r.tls.as_ref().and_then(|t| t.alpn.as_deref());
            holds(seen == alpn, || words(seen))
        })
    }

    /// The whole body of the request is this one.
    pub fn body_is(self, body: &Bytes) -> Self {
        let (bytes, sum) = (body.len() as u64, sha256(body));
        self.demand(
            About::Piece,
            What::of(Field::RequestBody),
            format!("a body of {}", described(body)),
            move |r| {
                let same =
                    r.body_bytes == Some(bytes) && (bytes == 0 || r.body_sha256.as_deref() == Some(&sum));
                holds(same, || match r.body_bytes {
                    Some(bytes) => format!("a body of {}", summary(bytes, r.body_sha256.as_deref())),
                    None => "an incomplete body".to_owned(),
                })
            },
        )
    }

    /// A header that the application sent with these values, in this order. A proxy may combine several fields of one name
    /// into one, with commas between (RFC 9110, section 5.3).
    pub fn header_values(self, name: &'static str, values: &[&str]) -> Self {
        let combined =
            |values: &[&str]| values.join(",").split(',').map(str::trim).collect::<Vec<_>>().join(", ");
        let wanted = combined(values);
        let shown = |text: &str| crate::store::bounded(text, 200);
        let several = |n: usize| if n == 1 { "header".to_owned() } else { format!("{n} headers") };
        let what = What::of(Field::RequestHeader).named(name);
        self.demand(About::Piece, what, format!("header {name}: {}", shown(&wanted)), move |r| {
            let came = r.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            let came: Vec<&str> = came.map(|h| h.value.as_str()).collect();
            let seen = combined(&came);
            holds(!came.is_empty() && seen == wanted, || match came.len() {
                0 => Odd::absent(format!("no header {name}")),
                n => {
                    let bytes = counted_bytes(seen.len() as u64);
                    Odd::from(format!("{} {name}: {} ({bytes})", several(n), unlike(&seen, &wanted)))
                }
            })
        })
    }

    /// `X-Forwarded-For` as a gateway behind a load balancer sends it: the client's address as the load balancer gave it, and
    /// after it at least that of the gateway's own client (Envoy, "HTTP header manipulation": x-forwarded-for).
    pub fn forwarded_for(self, client: &str) -> Self {
        let wanted = client.to_owned();
        let what = What::of(Field::RequestHeader).named("x-forwarded-for");
        let expected = format!("header x-forwarded-for: {client}, and at least one more address");
        self.demand(About::Piece, what, expected, move |r| {
            let came = r.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("x-forwarded-for"));
            let all: Vec<&str> = came.flat_map(|h| h.value.split(',')).map(str::trim).collect();
            match all.as_slice() {
                [first, _, ..] if *first == wanted => Ok(()),
                [] => Err(Odd::absent("no header x-forwarded-for")),
                seen => Err(Odd::from(format!("header x-forwarded-for: {}", seen.join(", ")))),
            }
        })
    }

    /// The time that a gRPC call may take: what the client sent, less what has passed since, in any unit.
    pub fn grpc_timeout(self, sent: Duration, took: Duration) -> Self {
        let what = What::of(Field::RequestHeader).named(grpc::TIMEOUT);
        self.demand(
            About::Piece,
            what,
            format!("header {}: {sent:?}, or a little less", grpc::TIMEOUT),
            move |r| {
                let Some(value) = r.header(grpc::TIMEOUT) else {
                    return Err(Odd::absent(format!("no header {}", grpc::TIMEOUT)));
                };
                let right = grpc::timeout(value).is_some_and(|left| left <= sent && left + took >= sent);
                holds(right, || Odd::from(format!("header {}: {}", grpc::TIMEOUT, unlike(value, ""))))
            },
        )
    }

    /// No header whose name begins with one of these prefixes, which are in lower case.
    pub fn no_header_beginning_with(self, prefixes: &'static [&'static str]) -> Self {
        let what =
            What::of(Field::RequestHeader).named(&(prefixes.join("*, ") + "*")).being(ValueKind::Absent);
        self.demand(About::Piece, what, format!("no header {}", prefixes.join("* or ") + "*"), move |r| {
            let leaked = |h: &&Header| prefixes.iter().any(|p| h.name.to_ascii_lowercase().starts_with(p));
            let names: Vec<&str> = r.headers.iter().filter(leaked).map(|h| h.name.as_str()).collect();
            holds(names.is_empty(), || {
                let noun = if names.len() == 1 { "header" } else { "headers" };
                Odd::being(ValueKind::Present, format!("the {noun} {}", names.join(", "))).named(names)
            })
        })
    }
}

/// All requests with this token arrived, over at most this many connections.
pub(crate) fn connections_of(server: &Server, reply: &Reply, requested: usize, most: usize) -> Claim {
    let (token, exchange) = (reply.token.clone(), reply.id.clone());
    let of = server.clone();
    Claim::on_the_side_of(&server.host, move |view| {
        let server = &of;
        let expected = format!(
            "{} at {server} over at most {}",
            counted(requested, "request"),
            counted(most, "TLS connection")
        );
        let seen: Vec<(&EvidenceId, &ServerRequest)> =
            requests(&server.host, &token, view).into_iter().filter(|(_, r)| r.over_tls).collect();
        let used: BTreeSet<u64> = seen.iter().map(|(_, r)| r.connection).collect();
        let words = format!(
            "{server} received {} over {}",
            counted(seen.len(), "request"),
            counted(used.len(), "TLS connection")
        );
        let ids = seen.into_iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let right = ids.len() == requested && used.len() <= most;
        let finding = if right {
            Finding::holds(expected, words, ids)
        } else {
            let few = ids.len() != requested;
            let what = What::of(if few { Field::Request } else { Field::Connection }).being(ValueKind::One);
            let kind = if ids.len() < requested { ValueKind::Absent } else { ValueKind::Several };
            let hop = (deviation::some_proxy(), deviation::server(server));
            let odd = what.deviates(&hop, &expected, &Odd::being(kind, &words));
            Finding::broken(expected, words, ids).by([odd])
        };
        finding.about(&exchange)
    })
}

#[cfg(test)]
mod tests {
    use meshproof_model::{Evidence, Exchange, Fact, Hop, HopResult, Side, Verdict};
    use serde_json::{Value, json};

    use super::*;
    use crate::claim::{ServerPlace, View};

    const HOST: &str = "api.example.com";

    fn server() -> Server {
        Server { host: HOST.into(), place: ServerPlace::Outside }
    }

    /// A reply whose one response has these members.
    fn reply(members: Value) -> Reply {
        let mut response = json!({
            "version": "HTTP/1.1", "status": 200, "headers": [{"name": "content-length", "value": "5"}],
            "body": "hello", "body_bytes": 5, "body_truncated": false,
        });
        merge(&mut response, members);
        let response: Response = serde_json::from_value(response).unwrap();
        let hop = Hop {
            method: "GET".into(),
            url: format!("http://{HOST}/"),
            sent: String::new(),
            sent_bytes: 0,
            headers: Vec::new(),
            body_bytes: None,
            body_sha256: None,
            trailers: Vec::new(),
            messages: Vec::new(),
            tls: None,
            result: HopResult::Response(response),
        };
        let exchange = Exchange { url: hop.url.clone(), hops: vec![hop], duration_us: 1 };
        let id = EvidenceId("e1".into());
        Reply { id, token: "t".into(), exchange, client: "workload sleep".into(), mark: 0 }
    }

    /// A request that the service saw, with these members.
    fn seen(members: Value) -> Evidence {
        let mut request = json!({
            "connection": 1, "port": 443, "over_tls": true, "peer": "", "method": "GET", "target": "/",
            "authority": HOST, "version": "HTTP/1.1", "headers": [{"name": "x-request-id", "value": "1"}],
            "status": 200, "tls": {"alpn": "h2"},
        });
        merge(&mut request, members);
        Evidence {
            id: EvidenceId("e2".into()),
            at_us: 0,
            step: 0,
            side: Side::Service { host: HOST.into() },
            token: Some("t".into()),
            fact: Fact::Request(serde_json::from_value(request).unwrap()),
        }
    }

    fn merge(into: &mut Value, members: Value) {
        let members = members.as_object().unwrap().clone();
        into.as_object_mut().unwrap().extend(members);
    }

    fn verdict(claim: impl Into<Claim>, evidence: &[Evidence]) -> Verdict {
        claim.into().judge(View { evidence, marks: &[], changes: &[], unobserved: &[] }).verdict
    }

    /// The claim holds for the first response and for none of the others.
    fn distinguishes(claim: impl Fn(OnlyResponse) -> OnlyResponse, right: Value, wrong: &[Value]) {
        assert_eq!(verdict(claim(reply(right.clone()).only_response()), &[]), Verdict::Passed, "{right}");
        for wrong in wrong {
            assert_eq!(verdict(claim(reply(wrong.clone()).only_response()), &[]), Verdict::Failed, "{wrong}");
        }
    }

    /// The claim holds for the first request and for none of the others.
    fn distinguishes_requests(claim: impl Fn(Sighting) -> Sighting, right: Value, wrong: &[Value]) {
        let judged = |members: &Value| {
            verdict(claim(Sighting::new(&server(), None, &reply(json!({})))), &[seen(members.clone())])
        };
        assert_eq!(judged(&right), Verdict::Passed, "{right}");
        for wrong in wrong {
            assert_eq!(judged(wrong), Verdict::Failed, "{wrong}");
        }
    }

    #[test]
    fn another_body_of_the_same_length_or_a_part_of_the_body_fails() {
        let (hello, large) = (Bytes::from("hello"), sample());
        let other = sha256(b"other");
        distinguishes(
            |r| r.body_is(&hello),
            json!({"body_sha256": sha256(&hello)}),
            &[
                json!({"body_sha256": other}),
                json!({"body": "hellx"}),
                json!({"body": "hell", "body_bytes": 4}),
            ],
        );
        let start = |bytes: u64| json!({"body": "0000", "body_bytes": bytes, "body_truncated": true});
        distinguishes(
            |r| r.body_is(&large),
            start(large.len() as u64),
            &[start(4), start(large.len() as u64 + 1)],
        );
        distinguishes(|r| r.no_body(), json!({"body": "", "body_bytes": 0}), &[json!({})]);
    }

    fn sample() -> Bytes {
        crate::digest::sample(100_000)
    }

    #[test]
    fn wrong_headers_trailers_versions_interim_responses_or_messages_fail() {
        distinguishes(
            |r| r.header("Content-Length", "5"),
            json!({}),
            &[json!({"headers": []}), json!({"headers": [{"name": "content-length", "value": "6"}]})],
        );
        distinguishes(|r| r.lacks_headers(&["content-length", "x"]), json!({"headers": []}), &[json!({})]);
        let trailer = |value: &str| json!({"trailers": [{"name": "x-sum", "value": value}]});
        distinguishes(|r| r.trailer("x-sum", "1"), trailer("1"), &[trailer("2"), json!({})]);
        distinguishes(|r| r.version("HTTP/2"), json!({"version": "HTTP/2"}), &[json!({})]);
        let interim = |statuses: &[u16]| json!({"informational": statuses});
        distinguishes(|r| r.after_interim(100), interim(&[103, 100]), &[interim(&[103]), json!({})]);
        let messages = |texts: &[&str]| json!({"messages": texts});
        distinguishes(
            |r| r.message("hi"),
            messages(&["hi"]),
            &[messages(&[]), messages(&["hi", "hi"]), messages(&["x"])],
        );
    }

    #[test]
    fn wrong_fields_of_the_request_at_the_server_fail() {
        let body = Bytes::from("hello");
        let of =
            |bytes: u64, text: &str| json!({"body_bytes": bytes, "body_sha256": sha256(text.as_bytes())});
        distinguishes_requests(
            |s| s.body_is(&body),
            of(5, "hello"),
            &[of(5, "hellx"), of(6, "hello"), json!({"body_bytes": 0}), json!({"body_bytes": 5}), json!({})],
        );
        distinguishes_requests(
            |s| s.authority(HOST),
            json!({}),
            &[json!({"authority": "api.example.com:80"}), json!({"authority": "API.example.com"})],
        );
        distinguishes_requests(|s| s.version("HTTP/1.1"), json!({}), &[json!({"version": "HTTP/2"})]);
        distinguishes_requests(
            |s| s.alpn(Some("h2")),
            json!({}),
            &[json!({"tls": {}}), json!({"tls": {"alpn": "x"}})],
        );
        distinguishes_requests(|s| s.alpn(None), json!({"tls": {}}), &[json!({})]);
        let tags = |values: &[&str]| {
            let tag = |value: &&str| json!({"name": "X-Tag", "value": value});
            json!({"headers": values.iter().map(tag).collect::<Vec<_>>()})
        };
        for right in [&["b", "a"][..], &["b, a"], &["b,a"]] {
            distinguishes_requests(
                |s| s.header_values("x-tag", &["b", "a"]),
                tags(right),
                &[tags(&["a", "b"]), tags(&["b"]), tags(&["b", "a", "a"]), tags(&["b", "A"]), tags(&[])],
            );
        }
        distinguishes_requests(
            |s| s.no_header_beginning_with(&["x-envoy-"]),
            json!({}),
            &[json!({"headers": [{"name": "X-Envoy-Attempt-Count", "value": "1"}]})],
        );
    }

    #[test]
    fn a_deadline_may_be_written_in_another_unit_and_shrink_by_the_time_that_has_passed() {
        let of = |value: &str| json!({"headers": [{"name": "grpc-timeout", "value": value}]});
        let (sent, took) = (Duration::from_secs(5), Duration::from_millis(10));
        for right in ["5S", "5000m", "5000000u", "4995m"] {
            distinguishes_requests(
                |s| s.grpc_timeout(sent, took),
                of(right),
                &[
                    of("4S"),
                    of("4980m"),
                    of("5001m"),
                    of("5"),
                    of("S"),
                    of("005000000u"),
                    of("-5S"),
                    json!({}),
                ],
            );
        }
        assert_eq!(grpc::timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(grpc::timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(grpc::timeout("7n"), Some(Duration::from_nanos(7)));
    }

    #[test]
    fn of_several_headers_that_must_not_be_there_the_first_that_is_there_is_named() {
        let named = |claim: Claim, evidence: &[Evidence]| -> Vec<(Option<String>, ValueKind)> {
            let judged = claim.judge(View { evidence, marks: &[], changes: &[], unobserved: &[] });
            judged.deviations.into_iter().map(|d| (d.name, d.seen_kind)).collect()
        };
        let leaked = json!({"headers": [
            {"name": "X-Istio-B", "value": "1"}, {"name": "x-envoy-a", "value": "1"}, {"name": "X-Istio-B", "value": "2"},
        ]});
        let request = Sighting::new(&server(), None, &reply(json!({})));
        assert_eq!(
            named(
                request.no_header_beginning_with(&["x-envoy-", "x-istio-", "x-b3-"]).into(),
                &[seen(leaked)]
            ),
            [(Some("x-envoy-a".to_owned()), ValueKind::Present)]
        );
        assert_eq!(
            named(reply(json!({})).only_response().lacks_headers(&["x", "Content-Length"]).into(), &[]),
            [(Some("content-length".to_owned()), ValueKind::Present)]
        );
    }

    #[test]
    fn a_reply_is_unlike_its_control_only_if_it_failed_and_the_control_succeeded() {
        let (good, bad) = (reply(json!({})), reply(json!({"status": 503})));
        let judged = |reply: &Reply, control: &Reply| verdict(reply.unlike("the control", control), &[]);
        assert_eq!(judged(&bad, &good), Verdict::Passed);
        assert_eq!(judged(&bad, &bad), Verdict::Inconclusive);
        assert_eq!(judged(&good, &good), Verdict::Failed);
        assert_eq!(judged(&good, &bad), Verdict::Failed);
    }

    #[test]
    fn one_response_with_status_200_is_ok_and_nothing_else_is() {
        let redirect = json!({"headers": [{"name": "location", "value": "/"}]});
        assert_eq!(verdict(reply(json!({})).ok(), &[]), Verdict::Passed);
        for wrong in [json!({"status": 204}), json!({"status": 301}), json!({"status": 503}), redirect] {
            assert_eq!(verdict(reply(wrong.clone()).ok(), &[]), Verdict::Failed, "{wrong}");
        }
    }

    #[test]
    fn connections_are_counted_by_the_requests_that_came_on_them() {
        let on = |connections: &[u64]| -> Vec<Evidence> {
            connections.iter().map(|c| seen(json!({"connection": c}))).collect()
        };
        let judged =
            |evidence: &[Evidence]| verdict(connections_of(&server(), &reply(json!({})), 3, 2), evidence);
        assert_eq!(judged(&on(&[1, 1, 2])), Verdict::Passed);
        assert_eq!(judged(&on(&[1, 2, 3])), Verdict::Failed);
        assert_eq!(judged(&on(&[1, 1])), Verdict::Failed, "one request did not arrive");
        let plain: Vec<_> = (0..3).map(|_| seen(json!({"over_tls": false}))).collect();
        assert_eq!(judged(&plain), Verdict::Failed);
    }
}
