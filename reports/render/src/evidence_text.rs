//! Evidence as text, for every renderer. The texts are not escaped; each renderer does that.

use crate::text::{Micros, TimeRange};
use meshproof_model::evidence::{
    AccessLog, Change, Connection, Evidence, Exchange, ExchangeErrorKind, Fact, Hop, HopResult, LogFields,
    ServerRequest, Side, TlsFacts,
};
use meshproof_model::report::ScenarioResult;
use meshproof_model::{CredentialState, CredentialStatus};

/// A labelled value. Values may have several lines.
pub(crate) type LabelledText = (&'static str, String);

/// The side that recorded it: `workload sleep`, `external service edition.cnn.com`.
pub(crate) fn side(side: &Side, scenario: &ScenarioResult) -> String {
    match side {
        Side::Workload { name } => format!("workload {name}"),
        Side::Proxy { name } => format!("proxy {name}"),
        Side::Service { host } if scenario.is_external(host) => format!("external service {host}"),
        Side::Service { host } => format!("mesh service {host}"),
        Side::Suite => "the suite".to_owned(),
    }
}

/// The time from the scenario's start. An exchange is recorded at its end and shown from its beginning,
/// before the evidence that it caused.
pub(crate) fn when(piece: &Evidence) -> TimeRange {
    let lasted = match &piece.fact {
        Fact::Exchange(exchange) => exchange.duration_us,
        Fact::AccessLog(_)
        | Fact::Connection(_)
        | Fact::Request(_)
        | Fact::Change(_)
        | Fact::Credential(_)
        | Fact::Note { .. } => 0,
    };
    TimeRange(piece.at_us.saturating_sub(lasted), piece.at_us)
}

/// The fact in one line.
pub(crate) fn headline(fact: &Fact) -> String {
    match fact {
        Fact::Exchange(exchange) => exchange_headline(exchange),
        Fact::AccessLog(log) => log_headline(log),
        Fact::Connection(connection) => connection_headline(connection),
        Fact::Request(request) if request.is_conversation() => format!(
            "held a conversation on port {} {}",
            request.port,
            if request.over_tls { "over TLS" } else { "in plain text" }
        ),
        Fact::Request(request) => format!(
            "received {} {} for {} on port {} {}, responded {}",
            request.method,
            request.target,
            request.authority,
            request.port,
            if request.over_tls { "over TLS" } else { "in plain text" },
            request.status
        ),
        Fact::Change(change) => change_headline(change),
        Fact::Credential(credential) => credential_headline(credential),
        Fact::Note { text } => format!("note: {text}"),
    }
}

/// The details of the fact.
pub(crate) fn rows(fact: &Fact) -> Vec<LabelledText> {
    match fact {
        Fact::Exchange(exchange) => exchange.hops.iter().flat_map(hop_rows).collect(),
        Fact::AccessLog(log) => log_rows(log),
        Fact::Connection(connection) => connection_rows(connection),
        Fact::Request(request) => request_rows(request),
        Fact::Change(change) => change_rows(change),
        Fact::Credential(_) | Fact::Note { .. } => vec![],
    }
}

/// The details of the fact that are useful on a terminal.
pub(crate) fn brief_rows(fact: &Fact) -> Vec<LabelledText> {
    match fact {
        Fact::Exchange(exchange) => {
            exchange.hops.iter().flat_map(hop_rows).filter(|(label, _)| *label != "sent").collect()
        }
        Fact::AccessLog(log) => vec![("line", log.line.clone())],
        Fact::Connection(connection) => connection_rows(connection),
        Fact::Request(request) => request_rows(request),
        Fact::Change(_) | Fact::Credential(_) | Fact::Note { .. } => vec![],
    }
}

fn exchange_headline(exchange: &Exchange) -> String {
    let method = exchange.hops.first().map_or("", |h| h.method.as_str());
    let results: Vec<_> = exchange.hops.iter().map(|h| result(&h.result)).collect();
    let results = if results.is_empty() { "no request sent".to_owned() } else { results.join(", then ") };
    format!("{method} {}: {results} ({})", exchange.url, Micros(exchange.duration_us))
}

/// The outcome of one request: `301 redirect to https://...`, `no response (timeout)`.
pub(crate) fn result(result: &HopResult) -> String {
    match result {
        HopResult::Response(response) if response.is_conversation() => {
            format!("whole conversation, {} received", bytes(response.body_bytes))
        }
        HopResult::Response(response) => match response.header("location") {
            Some(location) if (300..400).contains(&response.status) => {
                format!("{} redirect to {location}", response.status)
            }
            Some(_) | None => response.status.to_string(),
        },
        HopResult::Error(error) => format!("no response ({}: {})", error_kind(error.kind), error.message),
    }
}

pub(crate) const fn error_kind(kind: ExchangeErrorKind) -> &'static str {
    match kind {
        ExchangeErrorKind::ConnectionRefused => "connection refused",
        ExchangeErrorKind::ConnectionClosed => "connection closed",
        ExchangeErrorKind::Tls => "TLS handshake failed",
        ExchangeErrorKind::Protocol => "invalid HTTP response",
        ExchangeErrorKind::Timeout => "timeout",
        ExchangeErrorKind::ClientFailed => "the suite's client failed",
        ExchangeErrorKind::Other => "other error",
    }
}

/// The details of one request and its response.
pub(crate) fn hop_rows(hop: &Hop) -> Vec<LabelledText> {
    let sent = if hop.tls.is_some() {
        format!("{} over TLS", bytes(hop.sent_bytes))
    } else {
        format!("{}({})", with_newline(&hop.sent), bytes(hop.sent_bytes))
    };
    let mut rows = vec![("sent", sent)];
    if let Some(tls) = &hop.tls {
        rows.push(("TLS", tls_line(tls)));
    }
    match &hop.result {
        HopResult::Response(response) => {
            let mut head = if response.is_conversation() {
                format!("{}\n", result(&hop.result))
            } else {
                format!("{} {}\n", response.version, response.status)
            };
            for header in &response.headers {
                head.push_str(&format!("{}: {}\n", header.name, header.value));
            }
            for interim in response.informational.iter().rev() {
                head.insert_str(0, &format!("{} {interim}\n", response.version));
            }
            rows.push(("received", head.trim_end().to_owned()));
            if response.body_bytes > 0 {
                let cut = if response.body_truncated { ", truncated" } else { "" };
                let sum = response.body_sha256.as_ref().map(|s| format!(", SHA-256 {s}")).unwrap_or_default();
                rows.push((
                    "body",
                    format!("{}({}{cut}{sum})", with_newline(&response.body), bytes(response.body_bytes)),
                ));
            }
            rows.extend(response.trailers.iter().map(|t| ("trailer", format!("{}: {}", t.name, t.value))));
            rows.extend(response.messages.iter().map(|m| ("message", m.clone())));
        }
        HopResult::Error(_) => rows.push(("received", result(&hop.result))),
    }
    rows
}

/// `1 byte`, `2 bytes`.
fn bytes(n: u64) -> String {
    format!("{n} {}", if n == 1 { "byte" } else { "bytes" })
}

/// The text with a line end, or nothing if the text is empty.
fn with_newline(text: &str) -> String {
    let text = text.trim_end();
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

fn tls_line(tls: &TlsFacts) -> String {
    let mut parts = Vec::new();
    let mut part = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{label} {value}"));
        }
    };
    part("failed:", tls.failure.clone());
    part("server name", tls.server_name.clone());
    part("version", tls.version.clone());
    part("cipher", tls.cipher.clone());
    part("ALPN", tls.alpn.clone());
    let offered = |all: &Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(" ") };
    part("ALPN offered", tls.alpn_offered.as_ref().map(offered));
    part("weak offers", tls.weak_offers.as_ref().filter(|all| !all.is_empty()).map(offered));
    part(
        "peer certificate",
        tls.peer_certificate.as_ref().map(|c| {
            let names = c.alternative_names.join(" ");
            let names = if names.is_empty() { names } else { format!(", names {names}") };
            format!("{} (issuer {}, serial {}{names})", c.subject, c.issuer, c.serial)
        }),
    );
    part("verification", tls.peer_verification.clone());
    if parts.is_empty() { "no details recorded".to_owned() } else { parts.join("; ") }
}

/// As [`tls_line`] for the server, which knows that an absent server name was not sent.
fn server_tls_line(tls: &TlsFacts) -> String {
    let line = tls_line(tls) + if tls.resumed { ", resumed session" } else { "" };
    match (&tls.server_name, &tls.failure) {
        (None, None) => format!("no server name (SNI); {line}"),
        (Some(_), _) | (_, Some(_)) => line,
    }
}

fn log_headline(log: &AccessLog) -> String {
    let Some(f) = &log.fields else {
        let why = log.unreadable.as_deref().unwrap_or("no reason was recorded");
        return format!("unreadable log line: {why}");
    };
    let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let code = f.response_code.map_or_else(|| "-".to_owned(), |c| c.to_string());
    let flags =
        if f.response_flags.is_empty() { "no response flags".to_owned() } else { f.response_flags.join(",") };
    format!(
        "logged {} {} {code} ({flags}), authority {}, upstream {} ({})",
        dash(&f.method),
        dash(&f.path),
        dash(&f.authority),
        dash(&f.upstream_host),
        dash(&f.upstream_cluster)
    )
}

fn log_rows(log: &AccessLog) -> Vec<LabelledText> {
    let mut rows = vec![("line", log.line.clone())];
    rows.extend(log.format.clone().map(|format| ("format", format)));
    rows.extend(log.fields.as_ref().map(|fields| ("fields", log_fields(fields))));
    rows.extend(log.unreadable.clone().map(|why| ("unreadable", why)));
    rows
}

/// One field per line. The names come from the report's JSON, so that no field can be left out here.
fn log_fields(fields: &LogFields) -> String {
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(fields) else {
        return String::new();
    };
    let lines: Vec<_> = members
        .iter()
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}: {text}"),
            None => format!("{name}: {value}"),
        })
        .collect();
    lines.join("\n")
}

fn connection_headline(connection: &Connection) -> String {
    let what = match &connection.tls {
        Some(TlsFacts { failure: Some(failure), .. }) => format!("TLS handshake failed: {failure}"),
        Some(tls) => match &tls.server_name {
            Some(name) => format!("TLS, server name {name}"),
            None => "TLS, no server name (SNI)".to_owned(),
        },
        None => "plain text".to_owned(),
    };
    format!("accepted connection {} on port {}: {what}", connection.number, connection.port)
}

fn connection_rows(connection: &Connection) -> Vec<LabelledText> {
    let mut rows = vec![("peer", connection.peer.clone())];
    rows.extend(connection.tls.as_ref().map(|tls| ("TLS", server_tls_line(tls))));
    if !connection.clear_bytes.is_empty() {
        rows.push(("plain text", connection.clear_bytes.clone()));
    }
    rows
}

fn request_rows(request: &ServerRequest) -> Vec<LabelledText> {
    let mut head = format!("{} {} {}\n", request.method, request.target, request.version);
    for header in &request.headers {
        head.push_str(&format!("{}: {}\n", header.name, header.value));
    }
    let mut rows = vec![("request", head.trim_end().to_owned())];
    if let Some(size) = request.body_bytes.filter(|size| *size > 0) {
        let sum = request.body_sha256.as_ref().map(|s| format!(", SHA-256 {s}")).unwrap_or_default();
        rows.push(("body", format!("{}{sum}", bytes(size))));
    }
    rows.push(("peer", format!("{} (connection {})", request.peer, request.connection)));
    rows.extend(request.tls.as_ref().map(|tls| ("TLS", server_tls_line(tls))));
    rows
}

fn change_headline(change: &Change) -> String {
    let mut parts = Vec::new();
    if !change.applied.is_empty() {
        let names: Vec<_> = change.applied.iter().map(|yaml| manifest_name(yaml)).collect();
        parts.push(format!("applied {}", names.join(", ")));
    }
    if !change.deleted.is_empty() {
        parts.push(format!("deleted {}", change.deleted.join(", ")));
    }
    if parts.is_empty() {
        parts.push("changed nothing".to_owned());
    }
    let outcome = match &change.refused {
        Some(reason) => format!("rejected: {reason}"),
        None => format!("took effect after {}", Micros(change.convergence_us)),
    };
    format!("{} ({outcome})", parts.join("; "))
}

/// `DestinationRule default/edition-cnn-com`, read from the text without parsing it as YAML.
pub(crate) fn manifest_name(yaml: &str) -> String {
    let field = |key: &str| {
        let value = yaml.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    };
    let kind = field("kind").unwrap_or_else(|| "a resource".to_owned());
    let name = field("  name").unwrap_or_default();
    match field("  namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn change_rows(change: &Change) -> Vec<LabelledText> {
    let mut rows: Vec<LabelledText> =
        change.applied.iter().map(|yaml| ("applied", yaml.trim_end().to_owned())).collect();
    rows.extend(change.deleted.iter().map(|name| ("deleted", name.clone())));
    rows.extend(change.refused.clone().map(|reason| ("rejected", reason)));
    rows
}

fn credential_headline(credential: &CredentialStatus) -> String {
    let state = match credential.state {
        CredentialState::Active => "active",
        CredentialState::Warming => "requested, not yet delivered",
    };
    let kind = credential.kind.map(|kind| format!(", {}", kind.name()));
    let serial = credential.serial.as_deref().map(|serial| format!(", serial {serial}"));
    let from = credential.not_before.as_deref().map(|time| format!(", valid from {time}"));
    let until = credential.not_after.as_deref().map(|time| format!(", valid until {time}"));
    let certificate: String = [kind, serial, from, until].into_iter().flatten().collect();
    format!("credential {}: {state}{certificate}", credential.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_responses_digest_trailers_and_messages_are_shown_with_the_response() {
        let hop: Hop = serde_json::from_value(serde_json::json!({
            "method": "GET", "url": "http://a/", "sent": "", "sent_bytes": 0,
            "result": {"response": {
                "version": "HTTP/1.1", "status": 200, "headers": [], "body": "hi", "body_bytes": 2,
                "body_truncated": false, "body_sha256": "8f43", "informational": [103, 100],
                "trailers": [{"name": "x-sum", "value": "1"}], "messages": ["hello"],
            }},
        }))
        .unwrap();
        let rows = hop_rows(&hop);
        let of = |label: &str| rows.iter().find(|(l, _)| *l == label).map(|(_, text)| text.as_str());
        assert_eq!(of("received"), Some("HTTP/1.1 103\nHTTP/1.1 100\nHTTP/1.1 200"));
        assert_eq!(of("body"), Some("hi\n(2 bytes, SHA-256 8f43)"));
        assert_eq!((of("trailer"), of("message")), (Some("x-sum: 1"), Some("hello")));
    }
}
