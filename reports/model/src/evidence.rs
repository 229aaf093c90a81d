//! What the three sides recorded: the workload's exchanges, the proxies' access logs, and the connections and
//! requests of the services. All of it comes from the implementation under test and is untrusted: it is
//! bounded when it is recorded and escaped when it is rendered.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::access_log::{AccessLog, LogFields};
use crate::credential::CredentialStatus;
use crate::tls_failure::TlsFailure;

/// The id of a piece of evidence within its scenario: `e1`, `e2`, ...
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EvidenceId(pub String);

impl fmt::Display for EvidenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One fact that one side recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Its id within its scenario.
    pub id: EvidenceId,
    /// When it was recorded, in microseconds from the scenario's start.
    pub at_us: u64,
    /// The step of the document during which it was recorded, an index into the scenario's steps.
    pub step: usize,
    /// The side that recorded it.
    pub side: Side,
    /// The correlation token of the request that it belongs to, if it contains one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What was recorded.
    pub fact: Fact,
}

/// The side that recorded a piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "side", rename_all = "kebab-case")]
pub enum Side {
    /// An application, named by its workload.
    Workload {
        /// `sleep`, `details`.
        name: String,
    },
    /// A proxy of the implementation.
    Proxy {
        /// `sleep`, `istio-egressgateway`.
        name: String,
    },
    /// A server that the suite runs: an external service, or a mesh service that the scenario calls.
    Service {
        /// The host name that it serves.
        host: String,
    },
    /// The suite itself: its configuration changes and its own requests.
    Suite,
}

impl Side {
    /// The position of this side on the request path.
    #[must_use]
    pub const fn path_position(&self) -> u8 {
        match self {
            Self::Suite => 0,
            Self::Workload { .. } => 1,
            Self::Proxy { .. } => 2,
            Self::Service { .. } => 3,
        }
    }
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fact {
    /// A request of an application or of the suite, including every redirect that was followed.
    Exchange(Exchange),
    /// One line of a proxy's access log.
    AccessLog(AccessLog),
    /// A connection that a service accepted.
    Connection(Connection),
    /// A request that a service received.
    Request(ServerRequest),
    /// A configuration change by the suite.
    Change(Change),
    /// The state of a credential, as a proxy reports it.
    Credential(CredentialStatus),
    /// Anything else of interest: the standard error of a process, a limit that was reached.
    Note {
        /// The text, bounded.
        text: String,
    },
}

// Each match is exhaustive, so that a new kind of fact cannot be overlooked.
impl Fact {
    /// The exchange, if this fact is one.
    #[must_use]
    pub const fn as_exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Exchange(fact) => Some(fact),
            Self::AccessLog(_)
            | Self::Connection(_)
            | Self::Request(_)
            | Self::Change(_)
            | Self::Credential(_)
            | Self::Note { .. } => None,
        }
    }

    /// The access-log line, if it is one.
    #[must_use]
    pub const fn as_access_log(&self) -> Option<&AccessLog> {
        match self {
            Self::AccessLog(fact) => Some(fact),
            Self::Exchange(_)
            | Self::Connection(_)
            | Self::Request(_)
            | Self::Change(_)
            | Self::Credential(_)
            | Self::Note { .. } => None,
        }
    }

    /// The connection, if it is one.
    #[must_use]
    pub const fn as_connection(&self) -> Option<&Connection> {
        match self {
            Self::Connection(fact) => Some(fact),
            Self::Exchange(_)
            | Self::AccessLog(_)
            | Self::Request(_)
            | Self::Change(_)
            | Self::Credential(_)
            | Self::Note { .. } => None,
        }
    }

    /// The request at a service, if it is one.
    #[must_use]
    pub const fn as_request(&self) -> Option<&ServerRequest> {
        match self {
            Self::Request(fact) => Some(fact),
            Self::Exchange(_)
            | Self::AccessLog(_)
            | Self::Connection(_)
            | Self::Change(_)
            | Self::Credential(_)
            | Self::Note { .. } => None,
        }
    }
}

/// A header's name and value. Bytes that are not UTF-8 become replacement characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Lower case.
    pub name: String,
    /// As received.
    pub value: String,
}

/// One request of a client with its responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exchange {
    /// The URL of the first request.
    pub url: String,
    /// One entry per request sent: more than one if redirects were followed, or if the same request was sent
    /// several times over one connection. Never empty.
    pub hops: Vec<Hop>,
    /// How long it took in microseconds, redirects included.
    pub duration_us: u64,
}

impl Exchange {
    /// The last hop's response, if the exchange ended with a response.
    #[must_use]
    pub fn last_response(&self) -> Option<&Response> {
        self.hops.last().and_then(|h| h.response())
    }
}

/// One request and its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    /// `GET`.
    pub method: String,
    /// The URL of this hop.
    pub url: String,
    /// What the client wrote to its connection outside TLS, bounded: for a plain request its head, byte for
    /// byte; for an HTTPS request the first bytes of the ClientHello, decoded as lossy UTF-8.
    pub sent: String,
    /// The total number of bytes that the client wrote.
    pub sent_bytes: u64,
    /// The header fields that the client sent, Host included; empty if the client does not report them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// The length of the request's body in bytes; absent if the client does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// SHA-256 of the request's body in lower-case hex; absent if there is no body or the client does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// The trailer fields that the client sent after the request's body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<Header>,
    /// The WebSocket messages that the client sent after status 101; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// The client's own TLS connection on this hop, if the URL is `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
    /// The outcome.
    pub result: HopResult,
}

impl Hop {
    /// Whether the client spoke HTTP/1.0.
    #[must_use]
    pub fn is_http10(&self) -> bool {
        self.sent.lines().next().is_some_and(|line| line.ends_with(" HTTP/1.0"))
    }

    /// The response, if there was one.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        match &self.result {
            HopResult::Response(r) => Some(r),
            HopResult::Error(_) => None,
        }
    }
}

/// What stands for the HTTP version, and for the method, of a conversation over TCP: a request whose body is all that the
/// client said, and an answer whose body is all that the server said.
pub const TCP: &str = "TCP";

/// A response, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HopResult {
    /// A complete response head, and as much of the body as the bound allows.
    Response(Response),
    /// No response.
    Error(ExchangeError),
}

/// Why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExchangeError {
    /// The kind of failure.
    pub kind: ExchangeErrorKind,
    /// The client library's error message, including its causes.
    pub message: String,
}

/// The kinds of failure that a client distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExchangeErrorKind {
    /// Nothing listens on the address.
    ConnectionRefused,
    /// The connection was opened and then reset or closed without a response.
    ConnectionClosed,
    /// The TLS handshake failed.
    Tls,
    /// The response is not valid HTTP.
    Protocol,
    /// The timeout `request` expired.
    Timeout,
    /// The suite's own client could not send the request, or failed in a way that it does not name. As the first thing that a
    /// request comes to, it is an error of the suite or its environment, never the implementation's.
    ClientFailed,
    /// Anything else.
    Other,
}

/// A response as a client received it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// `HTTP/1.1`, `HTTP/2`; `TCP` for a conversation over TCP.
    pub version: String,
    /// The status code; 0 for a conversation over TCP.
    pub status: u16,
    /// In the order received; bounded.
    pub headers: Vec<Header>,
    /// The body, bounded and lossily decoded.
    pub body: String,
    /// The body's length in bytes, as received (up to the bound at which reading stopped).
    pub body_bytes: u64,
    /// True if the body was longer than the bound.
    pub body_truncated: bool,
    /// SHA-256 of the body in lower-case hex; absent if there is no body, if it was not read to its end, or
    /// if the client does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// The trailer fields after the body (RFC 9110, section 6.5); bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<Header>,
    /// The status codes of the interim responses (RFC 9110, section 15.2) before it, if the client reports
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub informational: Vec<u16>,
    /// The WebSocket messages received after status 101; bounded and lossily decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
}

impl Response {
    /// Whether it stands for a conversation over TCP: every byte that the server had to say arrived, in its turn, and the
    /// connection ended in order. There is no status then.
    #[must_use]
    pub fn is_conversation(&self) -> bool {
        self.version == TCP
    }

    /// The first header with this name, compared case-insensitively.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }
}

/// What one end of a TLS connection recorded about it. Fields that this end cannot observe are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TlsFacts {
    /// The ClientHello's server name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The ALPN protocols that the ClientHello offered, in its order; absent if this end cannot observe them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn_offered: Option<Vec<String>>,
    /// What the ClientHello offered that RFC 9325 (sections 3.1.1 and 4.1) forbids: versions below TLS 1.2, and cipher suites that
    /// encrypt nothing, weakly or with RC4. Absent if this end cannot observe it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weak_offers: Option<Vec<String>>,
    /// The negotiated ALPN protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// `TLSv1.2`, `TLSv1.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The cipher suite's standard name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The certificate that the other end presented; in a resumed session, the one that it presented when the session began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_certificate: Option<PeerCertificate>,
    /// Whether the handshake resumed an earlier session (RFC 8446, section 2.2; RFC 5077), so that neither end presented a
    /// certificate again. False where this end cannot observe it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Whether this end verified that certificate (`SUCCESS`, `NONE`, `FAILED:reason`, as in nginx).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_verification: Option<String>,
    /// Why the handshake failed, as this end reports it; an alert that was sent or received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The same as a type, which claims decide by; absent where the handshake did not fail, and in old reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_kind: Option<TlsFailure>,
}

/// A certificate as the other end presented it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerCertificate {
    /// The subject as an RFC 2253 string: `CN=client.example.com,O=client organization`.
    pub subject: String,
    /// The issuer in the same form.
    pub issuer: String,
    /// The serial number in upper-case hex, without leading zeros beyond a whole byte: `01`.
    pub serial: String,
    /// SHA-256 of the DER encoding in lower-case hex, if this end reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// DNS and URI subject alternative names, if this end reports them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternative_names: Vec<String>,
}

/// A connection that a service accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// Identifies this connection among those of the service.
    pub number: u64,
    /// The port that the documents use: 80, 443.
    pub port: u16,
    /// True if the port speaks TLS.
    pub tls_port: bool,
    /// The other end's `address:port`.
    pub peer: String,
    /// The first bytes that arrived outside TLS, lossily decoded and bounded. Empty if a TLS port received a
    /// ClientHello.
    pub clear_bytes: String,
    /// The facts of the handshake; absent on a plain port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
}

/// A request that a service received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerRequest {
    /// The connection that it arrived on, by [`Connection::number`].
    pub connection: u64,
    /// The port that the documents use.
    pub port: u16,
    /// True if it arrived over TLS.
    pub over_tls: bool,
    /// The other end's `address:port`.
    pub peer: String,
    /// `GET`.
    pub method: String,
    /// Path and query, as received.
    pub target: String,
    /// The `Host` header or the `:authority` pseudo-header.
    pub authority: String,
    /// `HTTP/1.1`, `HTTP/2`; `TCP` for a conversation over TCP.
    pub version: String,
    /// All headers if the service records them; nginx records those that its log format lists.
    pub headers: Vec<Header>,
    /// The status of the service's response.
    pub status: u16,
    /// The length of the complete body in bytes; absent if the service does not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// SHA-256 of the body in lower-case hex; absent if there is no body or the service does not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// The trailer fields after the body; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<Header>,
    /// The WebSocket messages that arrived after status 101; bounded and lossily decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// The handshake facts of its connection, if it arrived over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
    /// What the service answered; absent if it has not answered or does not record it. A service that records its answers
    /// records all headers of the request, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ServerAnswer>,
}

/// A response as the service sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerAnswer {
    /// The status code.
    pub status: u16,
    /// In the order sent, without the fields that only frame the message on its own connection.
    pub headers: Vec<Header>,
    /// The length of the body in bytes.
    pub body_bytes: u64,
    /// SHA-256 of the body in lower-case hex; absent if there is no body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// The trailer fields after the body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<Header>,
    /// Whether the service broke the connection off in the middle of the body, as the scenario asked it to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub breaks_off: bool,
    /// Whether the service closed the connection after it, without an announcement, as the scenario asked it to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes: bool,
    /// Of a body that is sent piece by piece: how many bytes had been sent when the service stopped waiting for the client to
    /// have them, and sent the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_up_after: Option<u64>,
    /// The WebSocket messages that the service sent after status 101; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// The status codes of the interim responses (RFC 9110, section 15.2) before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub informational: Vec<u16>,
    /// How long the service waited before it answered, in milliseconds, as the scenario asked it to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ServerRequest {
    /// Whether it is a conversation over TCP, and not a request of HTTP.
    #[must_use]
    pub fn is_conversation(&self) -> bool {
        self.version == TCP
    }

    /// The first header with this name, compared case-insensitively.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }
}

/// A configuration change by the suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The created or replaced resources as YAML; Secrets without their data.
    pub applied: Vec<String>,
    /// The deleted resources: `DestinationRule default/edition-cnn-com`.
    pub deleted: Vec<String>,
    /// The time from the change until it was in force, in microseconds.
    pub convergence_us: u64,
    /// The implementation's message, if it rejected the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
