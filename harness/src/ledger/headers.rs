//! What a proxy may do to the fields of a message, and what it must leave alone.

use http::HeaderName;
use meshproof_model::{Deviation, EvidenceId, Field, Header, Party, ServerAnswer, ValueKind};

use crate::claim::deviation::{Odd, What};
use crate::forecast::HeaderEdits;

/// A field in each answer of the suite's embedded servers: the token of the request that it answers.
pub const ANSWERS: HeaderName = HeaderName::from_static("meshproof-answers");

/// Fields that belong to one connection, or frame the message on it: RFC 9110, sections 7.6.1, 8.6, 10.1.1 and 10.1.4.
const CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a WebSocket handshake needs in HTTP/1.1 and not in HTTP/2 (RFC 8441, section 5). The protocols and extensions that a client
/// offers are for the server.
const WEB_SOCKET: &[&str] = &["sec-websocket-key", "sec-websocket-version"];

/// Fields that proxies add or change on requests: RFC 9110, section 7.6.3; RFC 7239; Envoy, "HTTP header manipulation";
/// W3C Trace Context; OpenZipkin B3. A name that ends with `-` stands for all that begin with it.
const PROXIES_REQUEST: &[&str] = &[
    "b3",
    "baggage",
    "forwarded",
    "grpc-trace-bin",
    "traceparent",
    "tracestate",
    "via",
    "x-b3-",
    "x-client-trace-id",
    "x-cloud-trace-context",
    "x-envoy-",
    "x-forwarded-",
    "x-istio-",
    "x-ot-span-context",
    "x-real-ip",
    "x-request-id",
];

/// Fields that proxies add or change on answers: RFC 9110, sections 6.6.1, 7.6.3 and 10.2.4; Envoy overwrites `Server`
/// (`server_header_transformation`).
const PROXIES_ANSWER: &[&str] = &["date", "server", "via", "x-envoy-", "x-request-id"];

fn is_among(name: &str, list: &[&str]) -> bool {
    list.iter().any(|n| if n.ends_with('-') { name.starts_with(n) } else { *n == name })
}

/// One field in which two messages differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldDifference {
    /// What was expected: `header cookie: a=1; b=2`.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// What differs, as a type.
    pub what: What,
    /// The kind of value that was seen.
    pub kind: ValueKind,
}

impl FieldDifference {
    pub(crate) fn of(
        what: impl Into<What>,
        kind: ValueKind,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self { expected: expected.into(), seen: seen.into(), what: what.into(), kind }
    }

    /// As a deviation on this hop, which this piece shows.
    pub(super) fn deviation(&self, hop: &(Party, Party), evidence: &EvidenceId) -> Deviation {
        let odd = Odd::being(self.kind, &self.seen);
        Deviation { evidence: Some(evidence.clone()), ..self.what.deviates(hop, &self.expected, &odd) }
    }
}

/// The values of a field as one: several lines are a list (RFC 9110, section 5.3), cookie pairs a list of their own kind
/// (RFC 9113, section 8.2.3).
fn values<'a>(name: &str, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let all = headers.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim());
    match name {
        // Never a list: each line stands for itself (RFC 6265, section 3).
        "set-cookie" => all.map(str::to_owned).collect(),
        "cookie" => vec![all.collect::<Vec<_>>().join("; ")],
        _ => {
            let joined = all.collect::<Vec<_>>().join(",");
            vec![joined.split(',').map(str::trim).collect::<Vec<_>>().join(", ")]
        }
    }
}

fn shown(name: &str, values: &[String]) -> String {
    let text = values.join("; and again: ");
    format!("header {name}: {}", crate::store::bounded(&text, 300))
}

fn names<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut names: Vec<String> = headers.map(|(n, _)| n.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names
}

/// Names that the message's Connection field makes fields of one connection.
fn nominated(headers: &[(String, String)]) -> Vec<String> {
    let connection = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    connection.flat_map(|(_, value)| value.split(',')).map(|n| n.trim().to_ascii_lowercase()).collect()
}

fn differences(
    sent: &[(String, String)],
    edits: &[HeaderEdits],
    received: &[Header],
    of_proxies: &[&str],
    field: Field,
) -> Vec<FieldDifference> {
    let nominated = nominated(sent);
    let mut expected: Vec<(String, String)> =
        sent.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect();
    for edit in edits {
        edit.apply(&mut expected);
    }
    let one_hop = |name: &str| is_among(name, CONNECTION) || nominated.iter().any(|n| n == name);
    let pairs = || expected.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let seen = || received.iter().map(|h| (h.name.as_str(), h.value.as_str()));
    let edited = |name: &str| edits.iter().any(|e| e.set.iter().chain(&e.add).any(|(n, _)| n == name));
    let mut found = Vec::new();
    for name in names(pairs()) {
        // What a route sets is checked even where proxies have values of their own.
        if one_hop(&name) || (is_among(&name, of_proxies) && !edited(&name)) {
            continue;
        }
        let (want, have) = (values(&name, pairs()), values(&name, seen()));
        let present = seen().any(|(n, _)| n.eq_ignore_ascii_case(&name));
        let what = What::of(field).named(&name);
        if !present {
            let none = format!("no header {name}");
            found.push(FieldDifference::of(what, ValueKind::Absent, shown(&name, &want), none));
        } else if want != have {
            let have = shown(&name, &have);
            found.push(FieldDifference::of(what, ValueKind::Other, shown(&name, &want), have));
        }
    }
    // Each proxy adds to it, and none may leave out the others (RFC 9110, section 7.6.3).
    let sent_via = pairs().any(|(name, _)| name == "via");
    if sent_via && !one_hop("via") && !edited("via") && !seen().any(|(n, _)| n.eq_ignore_ascii_case("via")) {
        let what = What::of(field).named("via");
        let want = shown("via", &values("via", pairs()));
        found.push(FieldDifference::of(what, ValueKind::Absent, want, "no header via"));
    }
    let known = names(pairs());
    for name in names(seen()) {
        if !known.contains(&name) && !is_among(&name, CONNECTION) && !is_among(&name, of_proxies) {
            found.push(FieldDifference::of(
                What::of(field).named(&name).being(ValueKind::Absent),
                ValueKind::Present,
                format!("no header {name}"),
                shown(&name, &values(&name, seen())),
            ));
        }
    }
    found
}

/// How the request's fields at the server differ from those that the client sent, beyond what proxies may do.
#[must_use]
pub(super) fn request_differences(
    sent: &[(String, String)],
    edits: &[HeaderEdits],
    received: &[Header],
) -> Vec<FieldDifference> {
    let mut found = passed_on(sent, received);
    let end_to_end = |name: &str| !is_among(&name.to_ascii_lowercase(), WEB_SOCKET);
    let received: Vec<Header> = received.iter().filter(|h| end_to_end(&h.name)).cloned().collect();
    let sent: Vec<(String, String)> = sent.iter().filter(|(name, _)| end_to_end(name)).cloned().collect();
    found.extend(differences(&sent, edits, &received, PROXIES_REQUEST, Field::RequestHeader));
    found.retain(|difference| !is_pragma_as_cache_control(&sent, difference));
    found
}

/// Fields that the request's Connection field names and that the server received all the same (RFC 9110, section 7.6.1). A proxy may
/// send fields of these names for its own connection: only the same value was passed on.
fn passed_on(sent: &[(String, String)], received: &[Header]) -> Vec<FieldDifference> {
    let mut found: Vec<FieldDifference> = Vec::new();
    let mut named = nominated(sent);
    named.sort();
    named.dedup();
    for name in named {
        let sent = values(&name, sent.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let seen = values(&name, received.iter().map(|h| (h.name.as_str(), h.value.as_str())));
        // Switching over goes on at the next connection (RFC 9110, section 7.8), but never to HTTP/2 (RFC 7540, section 3.3: over
        // TLS it is negotiated). Every proxy may accept trailers.
        let own = name == "connection"
            || (name == "upgrade" && sent != ["h2c"])
            || sent == [""]
            || (name == "te" && sent == ["trailers"]);
        if !own && sent == seen {
            found.push(FieldDifference::of(
                What::of(Field::RequestHeader).named(&name).being(ValueKind::Absent),
                ValueKind::Present,
                format!("no header {name}, which the request's Connection header names"),
                shown(&name, &seen),
            ));
        }
    }
    found
}

/// Go's HTTP server, on which many proxies are built, reads `Pragma: no-cache` as `Cache-Control: no-cache` (net/http,
/// `fixPragmaCacheControl`), as RFC 9111, section 5.4, has caches treat the one.
fn is_pragma_as_cache_control(sent: &[(String, String)], difference: &FieldDifference) -> bool {
    let has = |name: &str| sent.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let pragma =
        sent.iter().any(|(n, v)| n.eq_ignore_ascii_case("pragma") && v.eq_ignore_ascii_case("no-cache"));
    pragma && !has("cache-control") && difference.seen == "header cache-control: no-cache"
}

/// How the answer's fields at the client differ from those that the server sent, beyond what proxies may do.
#[must_use]
pub(super) fn answer_differences(
    sent: &ServerAnswer,
    edits: &[HeaderEdits],
    received: &[Header],
) -> Vec<FieldDifference> {
    let sent: Vec<(String, String)> =
        sent.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
    differences(&sent, edits, received, PROXIES_ANSWER, Field::ResponseHeader)
}
