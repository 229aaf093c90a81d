//! The sentence, the id and the advice of a cause.

use std::fmt::Write as _;

use super::CommonDeviation;
use crate::deviation::{Field, Role, ValueKind};
use crate::evidence::ExchangeErrorKind;

/// The deviation as a sentence without a full stop. Hosts do not appear in it.
pub(super) fn title(d: &CommonDeviation) -> String {
    let hop = hop(d);
    let handshake = format!("in the TLS handshake {hop}");
    let name = d.name.as_deref();
    let header = |of: &str| match name {
        Some(name) => format!("The {of} header {name} is"),
        None => format!("Headers of the {of} are"),
    };
    let listed = name.map(|name| format!(" ({name})")).unwrap_or_default();
    let value = name.unwrap_or("value");
    match (d.field, d.expected_kind, d.seen_kind) {
        (Field::Transport, ValueKind::PlainText, _) => format!("TLS instead of plain text {hop}"),
        (Field::Transport, _, _) => format!("Plain text instead of TLS {hop}"),
        (Field::Handshake, _, _) => format!("The TLS handshake {hop} fails: {}", d.seen),
        (Field::ServerName, _, ValueKind::Absent) => format!("No server name (SNI) {handshake}"),
        (Field::ServerName, ValueKind::Absent, _) => format!("Unexpected server name (SNI) {handshake}"),
        (Field::ServerName, _, _) => format!("Wrong server name (SNI) {handshake}"),
        (Field::AlpnOffer, _, ValueKind::Unknown) => {
            format!("No ALPN offer was recorded {handshake}")
        }
        (Field::AlpnOffer, _, _) => format!("Wrong ALPN offer {handshake}: {}", d.seen),
        (Field::Alpn, _, _) => {
            format!("Wrong ALPN protocol {handshake}: {} instead of {}", d.seen, d.expected)
        }
        (Field::TlsVersion, _, _) => {
            format!("Wrong TLS version {handshake}: {} instead of {}", d.seen, d.expected)
        }
        (Field::WeakOffer, _, _) => {
            format!("Obsolete TLS versions or weak cipher suites offered {handshake}")
        }
        (Field::ClientCertificate, _, ValueKind::Absent) => format!("No client certificate {handshake}"),
        (Field::ClientCertificate, ValueKind::Absent, _) => {
            format!("A client certificate that is not configured {handshake}")
        }
        (Field::ClientCertificate, ValueKind::Refusal, _) => {
            format!("A client certificate that must be refused is accepted {hop}")
        }
        (Field::ClientCertificate, _, _) => format!("Wrong client certificate {handshake}"),
        (Field::ServerVerification, _, _) => {
            format!("A server certificate that must be refused is accepted {hop}")
        }
        (Field::ServerCertificate, _, _) => {
            format!("Another server certificate than the server's own {}", at(d))
        }
        (Field::Connection, ValueKind::Absent, _) => format!("Connections that must not be opened {hop}"),
        (Field::Connection, _, ValueKind::Absent) => format!("No connection {hop}"),
        (Field::Connection, _, _) => format!("Too many connections {hop}"),
        (Field::Opener, _, _) => format!("The connection is opened by another proxy than {}", roles(&d.from)),
        (Field::Request, ValueKind::Absent, _) => format!("Requests that must not be sent arrive {hop}"),
        (Field::Request, _, ValueKind::Absent) => format!("Requests do not arrive {hop}"),
        (Field::Request, _, ValueKind::Several) => format!("Requests arrive more than once {hop}"),
        (Field::Request, _, _) => format!("Requests arrive that no client sent {hop}"),
        (Field::Destination, _, _) => {
            format!("Requests reach another server or port than the configured one {hop}")
        }
        (Field::Method, _, _) => format!("The method of the request is changed {hop}"),
        (Field::Path, _, _) => format!("Wrong request path {hop}"),
        (Field::Host, _, _) => format!("Wrong Host header {hop}"),
        (Field::RequestHeader, ValueKind::Absent, _) => {
            format!("Headers that must not be forwarded{listed} are sent {hop}")
        }
        (Field::RequestHeader, _, ValueKind::Absent) => format!("{} lost {hop}", header("request")),
        (Field::RequestHeader, _, _) => format!("{} changed {hop}", header("request")),
        (Field::RequestBody, _, _) => format!("The body of the request is changed {hop}"),
        (Field::HttpVersion, _, _) => {
            format!("Wrong HTTP version {hop}: {} instead of {}", d.seen, d.expected)
        }
        (Field::Response | Field::Status, ValueKind::Refusal, ValueKind::NoResponse(error)) => {
            format!("{}, which is no proof of a refusal, {}", error_words(error), at(d))
        }
        (Field::Response | Field::Status, ValueKind::Refusal, _) => {
            format!("An answer where a refusal is required {}", at(d))
        }
        (Field::Response | Field::Status, ValueKind::Status(wanted), ValueKind::Status(seen)) => {
            format!("Status {seen} instead of {wanted} {}", at(d))
        }
        (Field::Response | Field::Status, _, ValueKind::Status(seen)) => {
            format!("Unexpected status {seen} {}", at(d))
        }
        (Field::Response | Field::Status, _, ValueKind::NoResponse(error)) => {
            format!("No complete response ({}) {}", error_words(error), at(d))
        }
        (Field::Response | Field::Status, _, ValueKind::Timeout) => {
            format!("A response that takes too long {}", at(d))
        }
        (Field::Response | Field::Status, _, _) => format!("Unexpected response {}", at(d)),
        (Field::Redirect, ValueKind::Absent, _) => format!("A redirect instead of the page {}", at(d)),
        (Field::Redirect, _, _) => format!("Not the expected redirect {}", at(d)),
        (Field::ResponseHeader, ValueKind::Absent, _) => {
            format!("Response headers that must not be forwarded{listed} {}", at(d))
        }
        (Field::ResponseHeader, _, ValueKind::Absent) => {
            format!("{} lost {}", header("response"), at(d))
        }
        (Field::ResponseHeader, _, _) => format!("{} changed {}", header("response"), at(d)),
        (Field::ResponseBody, _, _) => format!("The body of the response is not the server's {}", at(d)),
        (Field::Trailer, _, _) => format!("The trailers of the response are lost or changed {}", at(d)),
        (Field::Message, _, _) => format!("Interim responses or messages are lost or changed {}", at(d)),
        (Field::SentBytes, _, _) => "The application does not send the same bytes as before".to_owned(),
        (Field::LogLine, _, ValueKind::Absent) => format!("No access-log line of {}", roles(&d.from)),
        (Field::LogLine, _, ValueKind::Several) => {
            format!("More than one access-log line per request of {}", roles(&d.from))
        }
        (Field::LogLine, _, _) => format!("Unexpected or unreadable access-log lines of {}", roles(&d.from)),
        (Field::LogField, _, ValueKind::Absent) => {
            format!("The access log of {} does not show the {value}", roles(&d.from))
        }
        (Field::LogField, _, _) => format!("The access log of {} shows another {value}", roles(&d.from)),
        (Field::Credential, ValueKind::Absent, _) => {
            format!("A deleted credential is still in use at {}", roles(&d.from))
        }
        (Field::Credential, _, _) => {
            format!("A credential is missing, or another one is loaded, at {}", roles(&d.from))
        }
        (Field::Change, _, ValueKind::Timeout) => {
            "A configuration change does not take effect in time".to_owned()
        }
        (Field::Change, _, _) => "The implementation rejects the documents' configuration".to_owned(),
        (Field::Process, _, _) => "The implementation exits before the suite stops it".to_owned(),
    }
}

/// `from the sidecar and both gateways to external services`.
fn hop(d: &CommonDeviation) -> String {
    format!("from {} to {}", roles(&d.from), to(d.to))
}

/// `at the workload`.
fn at(d: &CommonDeviation) -> String {
    format!("at {}", roles(&d.from))
}

fn roles(roles: &[Role]) -> String {
    let has = |role: Role| roles.contains(&role);
    let mut parts = Vec::new();
    for role in roles {
        parts.push(match role {
            Role::Workload => "the workload",
            Role::Client => "the suite's client outside the mesh",
            Role::Sidecar => "the sidecar",
            Role::EgressGateway if has(Role::IngressGateway) => "both gateways",
            Role::IngressGateway if has(Role::EgressGateway) => continue,
            Role::EgressGateway => "the egress gateway",
            Role::IngressGateway => "the ingress gateway",
            Role::Proxy => "the mesh",
            Role::ExternalService => "external services",
            Role::MeshService => "services in the mesh",
        });
    }
    match parts.as_slice() {
        [] => "the mesh".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

const fn to(role: Role) -> &'static str {
    match role {
        Role::ExternalService => "external services",
        Role::MeshService => "services in the mesh",
        Role::Workload => "the workload",
        Role::Client => "the suite's client",
        Role::Sidecar | Role::EgressGateway | Role::IngressGateway | Role::Proxy => "a proxy of the mesh",
    }
}

const fn error_words(error: ExchangeErrorKind) -> &'static str {
    match error {
        ExchangeErrorKind::ConnectionRefused => "connection refused",
        ExchangeErrorKind::ConnectionClosed => "connection closed",
        ExchangeErrorKind::Tls => "TLS handshake failed",
        ExchangeErrorKind::Protocol => "invalid HTTP",
        ExchangeErrorKind::Timeout => "timeout",
        ExchangeErrorKind::ClientFailed => "the suite's client failed",
        ExchangeErrorKind::Other => "unknown failure",
    }
}

/// Lower-case letters, digits and dashes.
pub(super) fn slug(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = text.chars().map(fit).take(120).collect();
    let words: Vec<&str> = text.split('-').filter(|w| !w.is_empty()).collect();
    words.join("-")
}

/// `server-name-absent`, `status-503`.
pub(super) fn id(d: &CommonDeviation) -> String {
    let word =
        |value: serde_json::Value| value.as_str().map_or_else(|| slug(&value.to_string()), str::to_owned);
    let field = serde_json::to_value(d.field).map(word).unwrap_or_default();
    let mut id = field;
    if let Some(name) = &d.name {
        let _infallible = write!(id, "-{}", slug(name));
    }
    let seen = if let ValueKind::Status(code) = d.seen_kind {
        code.to_string()
    } else {
        serde_json::to_value(d.seen_kind).map(word).unwrap_or_default()
    };
    let _infallible = write!(id, "-{}", slug(&seen));
    id
}

/// Where to look.
pub(super) const fn advice(d: &CommonDeviation) -> &'static str {
    match (d.field, d.seen_kind) {
        (Field::Transport, _) => {
            "Look at the TLS mode of the DestinationRule (or the TLS context of the upstream cluster), and at whether its host and port match the route."
        }
        (Field::ServerName, _) => {
            "Look at the `sni` in the TLS settings of the upstream. It is the configured name, or else the host of the request."
        }
        (Field::Handshake, _) => {
            "Look at the trusted CA, the client certificate, the ALPN protocols and the TLS versions in the upstream's TLS settings. The alert says what the end that refused the other did not accept."
        }
        (Field::ServerVerification, _) => {
            "Look at the trusted CA and at the expected subject names of the upstream's TLS settings. Without them a proxy accepts any certificate."
        }
        (Field::ClientCertificate, _) => {
            "Look at where the client certificate comes from (credentialName, or files) and whether it reaches this proxy."
        }
        (Field::AlpnOffer | Field::Alpn, _) => "Look at the ALPN protocols of the upstream's TLS settings.",
        (Field::Request, ValueKind::Absent) => {
            "Look at the route and at the endpoints: the proxy has no way to the server, or refuses the request itself."
        }
        (Field::Destination, _) => {
            "Look at the route and at the port mapping (targetPort) of the ServiceEntry."
        }
        (Field::Path | Field::Host, _) => "Look at the rewrite of the route.",
        (Field::Credential, _) => {
            "Look at the Secret that credentialName names, at its namespace, and at whether the proxy reloads it when it changes."
        }
        (Field::Trailer | Field::ResponseBody | Field::RequestBody | Field::Message, _) => {
            "Look at what the proxy buffers, compresses or rewrites between its two connections."
        }
        (Field::RequestHeader | Field::ResponseHeader, _) => {
            "Look at which route takes the request, at the headers that it sets or removes, and at those that the proxy adds or drops by itself."
        }
        (Field::LogLine, ValueKind::Absent) => {
            "Look at whether the access log is on (`accessLogFile`, or a Telemetry resource), and at the filter of its provider."
        }
        (Field::LogLine | Field::LogField, _) => {
            "Look at the access-log format, and at the filter of its provider."
        }
        (Field::Redirect, _) => {
            "Look at `httpsRedirect` of the Gateway and at `redirect` of the route, and at whether the host's port takes plain HTTP."
        }
        (Field::Response | Field::Status, _) if matches!(d.expected_kind, ValueKind::Refusal) => {
            "Look at who must refuse: a proxy that does not trust the server or the client, or that has no route for the host."
        }
        (Field::Method, _) => {
            "Look at what rewrites the request line: methods are case-sensitive and are forwarded as received."
        }
        (Field::Change, _) => "The message of the implementation is in the evidence of the first check.",
        (
            Field::TlsVersion
            | Field::WeakOffer
            | Field::ServerCertificate
            | Field::Connection
            | Field::Opener
            | Field::Request
            | Field::HttpVersion
            | Field::Response
            | Field::Status
            | Field::SentBytes
            | Field::Process,
            _,
        ) => "",
    }
}
