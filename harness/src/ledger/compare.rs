//! Whether a client's request, the server's view of it, and the answer at both ends agree.

use meshproof_model::{ExchangeErrorKind, Field, Header, HopResult, TlsFacts, ValueKind};

use super::books::{Asked, Received, server_name};
use super::headers::{FieldDifference, answer_differences, request_differences};
use crate::claim::deviation::What;
use crate::forecast::{Arrival, ServerCheck, Transport};
use crate::grpc;

/// Where a difference was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the server.
    Server,
    /// At the client.
    Client,
}

impl Place {
    pub(super) fn is_client(self) -> bool {
        self == Self::Client
    }
}

/// The differences, and where each was seen.
pub(super) type Compared = Vec<(Place, FieldDifference)>;

/// The ALPN values that a proxy may offer to a server outside the mesh, besides those that RFC 8701 reserves.
const ALPN: &[&str] = &["h2", "http/1.1", "http/1.0"];

/// Holds one request against what the client sent and the configuration promises. `undisturbed`: the configuration did not
/// change meanwhile.
pub(super) fn agree(
    asked: &Asked<'_>,
    received: &Received<'_>,
    arrival: &Arrival,
    undisturbed: bool,
) -> Compared {
    let mut found = Vec::new();
    let at_server = request(asked, received, arrival).into_iter().chain(transport(asked, received, arrival));
    found.extend(at_server.map(|d| (Place::Server, d)));
    found.extend(answer(asked, received, arrival, undisturbed).into_iter().map(|d| (Place::Client, d)));
    found
}

fn request(asked: &Asked<'_>, received: &Received<'_>, arrival: &Arrival) -> Vec<FieldDifference> {
    let r = received.request;
    let mut found = Vec::new();
    let mut differ = |field: Field, name: &str, want: &str, have: &str| {
        if want != have {
            let (want, have) = (format!("{name} {want}"), format!("{name} {have}"));
            found.push(FieldDifference::of(field, ValueKind::Other, want, have));
        }
    };
    if !r.is_conversation() {
        differ(Field::Path, "path", &crate::store::bounded(&arrival.target, 4096), &r.target);
        // A host is compared without regard to case, and without its scheme's default port (RFC 9110, section 4.2.3).
        differ(Field::Host, "Host", &bare(&arrival.authority), &bare(&r.authority));
    }
    // Only a service that records its answers records all headers and bodies.
    if r.answer.is_none() {
        return found;
    }
    if let (Some(want), Some(have)) = (asked.hop.body_bytes, r.body_bytes) {
        differ(Field::RequestBody, "body of", &format!("{want} bytes"), &format!("{have} bytes"));
        if want == have && asked.hop.body_sha256 != r.body_sha256 {
            found.push(FieldDifference::of(
                Field::RequestBody,
                ValueKind::Other,
                "the body that was sent",
                "a body of the same length with other content",
            ));
        }
    }
    // HTTP/2 may divide the cookies, and they are joined again for HTTP/1.1 (RFC 9113, section 8.2.3; RFC 6265, section 5.4).
    let lines = r.headers.iter().filter(|h| h.name == "cookie").count();
    if lines > 1 && r.version.starts_with("HTTP/1") {
        found.push(FieldDifference::of(
            What::of(Field::RequestHeader).named("cookie"),
            ValueKind::Several,
            "one header cookie",
            format!("{lines} headers cookie"),
        ));
    }
    // A proxy may drop trailer fields, and must not make others of them (RFC 9110, sections 6.5.1 and 6.5.2).
    if !r.trailers.is_empty() && !same_fields(&r.trailers, &asked.hop.trailers) {
        found.push(FieldDifference::of(
            Field::Trailer,
            ValueKind::Other,
            trailers(&asked.hop.trailers),
            trailers(&r.trailers),
        ));
    }
    if asked.hop.messages != r.messages && r.status == 101 {
        found.push(FieldDifference::of(
            Field::Message,
            ValueKind::Other,
            messages(&asked.hop.messages),
            messages(&r.messages),
        ));
    }
    if !asked.hop.headers.is_empty() {
        let sent: Vec<(String, String)> =
            asked.hop.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
        found.extend(request_differences(&sent, &arrival.request_headers, &r.headers));
    }
    found
}

/// Whether two sections have the same fields: only the order of one field's values matters (RFC 9110, section 5.3).
fn same_fields(a: &[Header], b: &[Header]) -> bool {
    let by_name = |section: &[Header]| {
        let mut fields: Vec<(String, String)> =
            section.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.clone())).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    };
    by_name(a) == by_name(b)
}

fn is_grpc(headers: &[Header]) -> bool {
    let content_type = headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-type"));
    content_type.is_some_and(|h| h.value.starts_with(grpc::CONTENT_TYPE))
}

fn trailers(trailers: &[Header]) -> String {
    let all: Vec<String> = trailers.iter().map(|h| format!("{}: {}", h.name, h.value)).collect();
    if all.is_empty() { "no trailers".to_owned() } else { format!("trailers {}", all.join(", ")) }
}

fn messages(messages: &[String]) -> String {
    let all: Vec<String> = messages.iter().map(|message| format!("{message:?}")).collect();
    let all = crate::store::bounded(&all.join(", "), 300);
    if all.is_empty() { "no WebSocket message".to_owned() } else { format!("the WebSocket messages {all}") }
}

pub(super) fn bare(authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    lower.strip_suffix(":80").or_else(|| lower.strip_suffix(":443")).map(str::to_owned).unwrap_or(lower)
}

fn transport(asked: &Asked<'_>, received: &Received<'_>, arrival: &Arrival) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    let Some(facts) = &received.request.tls else { return found };
    if arrival.transport.is_tls() && arrival.transport != Transport::Mesh {
        // A host name in either case (RFC 6066, section 3).
        let want = server_name(asked, arrival);
        let have = facts.server_name.as_deref();
        if want.map(str::to_ascii_lowercase) != have.map(str::to_ascii_lowercase) {
            let words =
                |name: Option<&str>| name.map_or("no server name".to_owned(), |n| format!("server name {n}"));
            let kind = if have.is_none() { ValueKind::Absent } else { ValueKind::Other };
            let wanted = if want.is_none() { ValueKind::Absent } else { ValueKind::Configured };
            let what = What::of(Field::ServerName).being(wanted);
            found.push(FieldDifference::of(what, kind, words(want), words(have)));
        }
    }
    let Transport::Originated(o) = &arrival.transport else { return found };
    // No certificate is presented again in a resumed session: it has those of its beginning, and must be one that the proxy could
    // have begun for this request (RFC 8446, section 4.6.1).
    let resumed = if facts.resumed { " in a TLS session that was resumed" } else { "" };
    if let ServerCheck::Refused(reason) = &o.server {
        found.push(FieldDifference::of(
            What::of(Field::ServerVerification).being(ValueKind::Refusal),
            ValueKind::Success,
            format!("a refusal of its certificate, because {reason}"),
            format!("a server certificate that {} accepted{resumed}", o.by),
        ));
    }
    found.extend(alpn(facts, received.request.is_conversation()));
    let certificate = |c: Option<(&str, &str)>| match c {
        Some((subject, serial)) => format!("client certificate {subject} serial {serial}"),
        None => "no client certificate".to_owned(),
    };
    let identify = |c: &'_ meshproof_model::PeerCertificate| (c.subject.clone(), c.serial.clone());
    let want = o.client_certificate.as_ref().map(identify);
    let have = facts.peer_certificate.as_ref().map(identify);
    // A server that does not ask for a certificate gets none. One of the suite's own says whether it asked; nginx does not.
    let asked_in_vain =
        received.request.answer.is_some() && facts.peer_verification.as_deref() == Some("NONE");
    if (have.is_some() || asked_in_vain) && want != have {
        let pair =
            |c: &Option<(String, String)>| certificate(c.as_ref().map(|(a, b)| (a.as_str(), b.as_str())));
        let wanted = if want.is_none() { ValueKind::Absent } else { ValueKind::Configured };
        let what = What::of(Field::ClientCertificate).being(wanted);
        let kind = match (&want, &have) {
            (_, None) => ValueKind::Absent,
            (None, Some(_)) => ValueKind::Present,
            (Some(_), Some(_)) => ValueKind::Other,
        };
        found.push(FieldDifference::of(what, kind, pair(&want), pair(&have) + resumed));
    }
    found
}

fn alpn(facts: &TlsFacts, conversation: bool) -> Option<FieldDifference> {
    let offered = facts.alpn_offered.as_ref()?;
    // Of bytes that it passes on, a proxy knows no protocol to offer (RFC 7301, section 3.1).
    let allowed: &[&str] = if conversation { &[] } else { ALPN };
    // RFC 8701, section 3.1: 0x0A0A, 0x1A1A, ... are no protocols and may stand anywhere; shown in hex or as odd bytes.
    let is_grease =
        |name: &str| name.chars().all(|c| !c.is_ascii_graphic() || c == '\u{fffd}') || grease_hex(name);
    let wrong: Vec<&str> = offered
        .iter()
        .map(String::as_str)
        .filter(|name| !allowed.contains(name) && !is_grease(name))
        .collect();
    (!wrong.is_empty()).then(|| {
        FieldDifference::of(
            Field::AlpnOffer,
            ValueKind::Other,
            match allowed {
                [] => "no ALPN offer".to_owned(),
                [..] => format!("an ALPN offer of {} or nothing", allowed.join(", ")),
            },
            format!("ALPN offer {}", offered.join(", ")),
        )
    })
}

fn grease_hex(name: &str) -> bool {
    let bytes = name.as_bytes();
    matches!(bytes, [a, b] if a == b && a & 0x0f == 0x0a)
}

/// A request that was taken away from a server, which was going to answer it, while its client waited.
fn taken_away(asked: &Asked<'_>, received: &Received<'_>, arrival: &Arrival) -> Option<FieldDifference> {
    // A route's timeout ends requests.
    let status = received.taken_away().filter(|_| arrival.timeout_ms.is_none())?;
    let (kind, seen) = match &asked.hop.result {
        HopResult::Response(response) if response.status == status => return None,
        HopResult::Response(response) => {
            (ValueKind::Status(response.status), format!("status {}", response.status))
        }
        HopResult::Error(error) if error.kind == ExchangeErrorKind::Timeout => return None,
        HopResult::Error(error) if grpc::is_cancelled(&error.message) => return None,
        HopResult::Error(error) => {
            (ValueKind::NoResponse(error.kind), format!("no answer ({})", error.message))
        }
    };
    let expected = format!(
        "status {status}, with which the server was going to answer when its connection or stream ended"
    );
    Some(FieldDifference::of(What::of(Field::Status).being(ValueKind::Status(status)), kind, expected, seen))
}

/// The statuses of an answer that a proxy did not wait for.
const TIMED_OUT: [u16; 4] = [500, 502, 503, 504];

fn answer(
    asked: &Asked<'_>,
    received: &Received<'_>,
    arrival: &Arrival,
    undisturbed: bool,
) -> Vec<FieldDifference> {
    let Some(sent) = &received.request.answer else {
        return taken_away(asked, received, arrival).filter(|_| undisturbed).into_iter().collect();
    };
    if arrival.is_too_late(sent) {
        // 504 says it best (RFC 9110, section 15.6.5). Istio's reference promises the end of the wait, not the form of the answer.
        let Some(status) = asked.hop.response().map(|r| r.status).filter(|s| !TIMED_OUT.contains(s)) else {
            return Vec::new();
        };
        let what = What::of(Field::Status).being(ValueKind::Status(504));
        let seen = format!("status {status}");
        return vec![FieldDifference::of(what, ValueKind::Status(status), "status 504", seen)];
    }
    let response = match &asked.hop.result {
        // What ends early must not look complete (RFC 9112, section 8).
        HopResult::Response(response) if sent.breaks_off => {
            // A proxy that has sent nothing yet may answer with an error of its own.
            if response.status != sent.status {
                return Vec::new();
            }
            return vec![FieldDifference::of(
                What::of(Field::Response).being(ValueKind::Refusal),
                ValueKind::Success,
                "an error, because the server broke off in the middle of its answer",
                "a whole answer",
            )];
        }
        HopResult::Response(response) => response,
        HopResult::Error(_) if sent.breaks_off => return Vec::new(),
        // The client did not wait for the rest.
        HopResult::Error(error) if grpc::is_cancelled(&error.message) => return Vec::new(),
        HopResult::Error(error) => {
            return if undisturbed {
                vec![FieldDifference::of(
                    What::of(Field::Response).being(ValueKind::Success),
                    ValueKind::NoResponse(error.kind),
                    if received.request.is_conversation() {
                        "the whole conversation".to_owned()
                    } else {
                        format!("the server's answer {}", sent.status)
                    },
                    format!("no answer ({})", error.message),
                )]
            } else {
                Vec::new()
            };
        }
    };
    let mut found = Vec::new();
    if sent.status != response.status {
        found.push(FieldDifference::of(
            What::of(Field::Status).being(ValueKind::Status(sent.status)),
            ValueKind::Status(response.status),
            format!("status {}", sent.status),
            format!("status {}", response.status),
        ));
        // The answer is another one; its fields say nothing more.
        return found;
    }
    found.extend(answer_differences(sent, &arrival.answer_headers, &response.headers));
    let cut = response.body_bytes >= crate::workload::MAX_BODY_READ;
    if !cut && sent.body_bytes != response.body_bytes {
        found.push(FieldDifference::of(
            Field::ResponseBody,
            ValueKind::Other,
            format!("a body of {} bytes", sent.body_bytes),
            format!("a body of {} bytes", response.body_bytes),
        ));
    } else if !cut && response.body_sha256.is_some() && sent.body_sha256 != response.body_sha256 {
        found.push(FieldDifference::of(
            Field::ResponseBody,
            ValueKind::Other,
            "the body that the server sent",
            "a body of the same length with other content",
        ));
    }
    // A proxy may keep an interim answer to itself, as Envoy does, but has none of its own besides 100 (RFC 9110, section 15.2).
    let mut own = sent.informational.clone();
    for status in response.informational.iter().filter(|status| **status != 100) {
        match own.iter().position(|known| known == status) {
            Some(place) => drop(own.remove(place)),
            None => found.push(FieldDifference::of(
                What::of(Field::Response).being(ValueKind::Absent),
                ValueKind::Status(*status),
                format!(
                    "{} interim answers {status}",
                    sent.informational.iter().filter(|s| *s == status).count()
                ),
                format!("another interim answer {status}"),
            )),
        }
    }
    // HTTP/1.1 carries trailers only to a client that asked for them, and a proxy may discard them (RFC 9110, section 6.5.1). A call of
    // gRPC has its status there.
    let discarded = response.trailers.is_empty() && !is_grpc(&sent.headers);
    if response.version == "HTTP/2" && !discarded && !same_fields(&sent.trailers, &response.trailers) {
        found.push(FieldDifference::of(
            Field::Trailer,
            ValueKind::Other,
            trailers(&sent.trailers),
            trailers(&response.trailers),
        ));
    }
    if sent.messages != response.messages {
        found.push(FieldDifference::of(
            Field::Message,
            ValueKind::Other,
            messages(&sent.messages),
            messages(&response.messages),
        ));
    }
    // RFC 9112, section 6.1.
    let coding = response.headers.iter().find(|h| h.name == "transfer-encoding");
    if let Some(coding) = coding.filter(|_| asked.hop.is_http10()) {
        found.push(FieldDifference::of(
            Field::ResponseHeader,
            ValueKind::Present,
            "an answer without Transfer-Encoding, because the client speaks HTTP/1.0",
            format!("header transfer-encoding: {}", coding.value),
        ));
    }
    found
}
