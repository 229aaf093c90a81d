//! The fields of a piece of evidence that can be compared between implementations, because their values do
//! not depend on the run. Ephemeral ports, times, tokens and connection numbers are left out.

use crate::evidence_text;
use meshproof_model::evidence::{
    AccessLog, Change, Connection, EvidenceId, Exchange, Fact, Hop, HopResult, ServerRequest, TlsFacts,
};
use meshproof_model::report::CheckResult;
use meshproof_model::{CredentialState, CredentialStatus};

/// A field and its value.
pub(crate) type ComparableField = (String, String);

/// The comparable fields of a fact, in reading order.
pub(crate) fn fields(fact: &Fact) -> Vec<ComparableField> {
    let mut out = FieldList(Vec::new());
    match fact {
        Fact::Exchange(exchange) => out.exchange(exchange),
        Fact::AccessLog(log) => out.log(log),
        Fact::Connection(connection) => out.connection(connection),
        Fact::Request(request) => out.request(request),
        Fact::Change(change) => out.change(change),
        Fact::Credential(credential) => out.credential(credential),
        Fact::Note { text } => out.put("", "note", text.clone()),
    }
    out.0
}

/// The fields of a piece that the check's differences mention, as in `no header x-envoy-*` or `status 503`.
pub(crate) fn named(check: &CheckResult, piece: &EvidenceId, points: &[ComparableField]) -> Vec<String> {
    let words = |text: &str| {
        let plain = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
        let text: String = text.chars().map(plain).collect();
        format!(" {} ", text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let texts: Vec<String> = check
        .differences
        .iter()
        .filter(|d| d.evidence == *piece)
        .flat_map(|d| [words(&d.expected), words(&d.seen)])
        .collect();
    if texts.is_empty() {
        return vec![];
    }
    let fits = |field: &&String| {
        // `request 1: status` is the field `status` of the first of several requests.
        let name = words(field.rsplit(": ").next().unwrap_or(field));
        let singular = format!("{} ", name.trim_end().trim_end_matches('s'));
        texts.iter().any(|text| text.contains(&name) || text.contains(&singular))
    };
    points.iter().map(|(field, _)| field).filter(fits).cloned().collect()
}

/// The kind of a fact, for readers.
pub(crate) const fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::Exchange(_) => "exchange",
        Fact::AccessLog(_) => "access-log line",
        Fact::Connection(_) => "connection",
        Fact::Request(_) => "request",
        Fact::Change(_) => "change",
        Fact::Credential(_) => "credential",
        Fact::Note { .. } => "note",
    }
}

struct FieldList(Vec<ComparableField>);

impl FieldList {
    fn put(&mut self, prefix: &str, field: &str, value: String) {
        self.0.push((format!("{prefix}{field}"), value));
    }

    fn maybe(&mut self, prefix: &str, field: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.put(prefix, field, value.clone());
        }
    }

    fn exchange(&mut self, exchange: &Exchange) {
        let several = exchange.hops.len() > 1;
        for (number, hop) in exchange.hops.iter().enumerate() {
            let prefix = if several { format!("request {}: ", number + 1) } else { String::new() };
            self.hop(&prefix, hop);
        }
        self.put("", "requests sent", exchange.hops.len().to_string());
    }

    fn hop(&mut self, prefix: &str, hop: &Hop) {
        self.put(prefix, "URL", format!("{} {}", hop.method, hop.url));
        match &hop.result {
            HopResult::Response(response) => {
                self.put(prefix, "status", response.status.to_string());
                self.put(prefix, "HTTP version", response.version.clone());
                if let Some(location) = response.header("location") {
                    self.put(prefix, "location", location.to_owned());
                }
            }
            HopResult::Error(error) => {
                self.put(prefix, "status", evidence_text::error_kind(error.kind).to_owned())
            }
        }
        if let Some(tls) = &hop.tls {
            self.tls(prefix, tls, "server certificate");
        }
    }

    fn tls(&mut self, prefix: &str, tls: &TlsFacts, certificate: &str) {
        self.maybe(prefix, "handshake failure", tls.failure.as_ref());
        self.put(prefix, "server name", tls.server_name.clone().unwrap_or_else(|| "none".to_owned()));
        self.maybe(prefix, "TLS version", tls.version.as_ref());
        if let Some(offered) = &tls.alpn_offered {
            self.put(prefix, "ALPN offered", offered.join(" "));
        }
        self.maybe(prefix, "ALPN", tls.alpn.as_ref());
        let subject = tls.peer_certificate.as_ref().map_or("none", |c| c.subject.as_str());
        self.put(prefix, certificate, subject.to_owned());
        self.maybe(prefix, "verification", tls.peer_verification.as_ref());
    }

    fn connection(&mut self, connection: &Connection) {
        self.put("", "port", connection.port.to_string());
        self.put("", "transport", transport(connection.tls.is_some()).to_owned());
        if let Some(tls) = &connection.tls {
            self.tls("", tls, "client certificate");
        }
    }

    fn request(&mut self, request: &ServerRequest) {
        self.put("", "method", request.method.clone());
        self.put("", "path", request.target.clone());
        self.put("", "authority", request.authority.clone());
        self.put("", "port", request.port.to_string());
        self.put("", "transport", transport(request.over_tls).to_owned());
        self.put("", "HTTP version", request.version.clone());
        self.put("", "response status", request.status.to_string());
        if let Some(tls) = &request.tls {
            self.tls("", tls, "client certificate");
        }
        let mut names: Vec<&str> = request.headers.iter().map(|h| h.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        self.put("", "headers", names.join(" "));
    }

    fn log(&mut self, log: &AccessLog) {
        let Some(f) = &log.fields else {
            let why = log.unreadable.as_deref().unwrap_or("no reason was recorded");
            return self.put("", "line", format!("unreadable: {why}"));
        };
        self.maybe("", "method", f.method.as_ref());
        self.maybe("", "path", f.path.as_ref());
        self.put("", "status", f.response_code.map_or_else(|| "-".to_owned(), |c| c.to_string()));
        self.put("", "flags", f.response_flags.join(","));
        self.maybe("", "authority", f.authority.as_ref());
        self.maybe("", "upstream cluster", f.upstream_cluster.as_ref());
        self.maybe("", "requested server name", f.requested_server_name.as_ref());
        self.maybe("", "protocol", f.protocol.as_ref());
        self.maybe("", "transport failure", f.upstream_transport_failure_reason.as_ref());
        self.maybe("", "details", f.response_code_details.as_ref());
    }

    fn change(&mut self, change: &Change) {
        let names: Vec<String> =
            change.applied.iter().map(|yaml| evidence_text::manifest_name(yaml)).collect();
        self.put("", "applied", names.join(", "));
        self.put("", "deleted", change.deleted.join(", "));
        self.maybe("", "rejected", change.refused.as_ref());
    }

    fn credential(&mut self, credential: &CredentialStatus) {
        let state = match credential.state {
            CredentialState::Active => "active",
            CredentialState::Warming => "warming",
        };
        self.put("", &format!("credential {}", credential.name), state.to_owned());
    }
}

const fn transport(tls: bool) -> &'static str {
    if tls { "TLS" } else { "plain text" }
}
