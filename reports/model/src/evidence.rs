//! What the three sides of the wire saw: the workload's exchanges, the proxies' access logs, the external
//! services' connections and requests. Everything here comes from the thing under test and is untrusted:
//! it is bounded where it is recorded and escaped where it is rendered.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tls_failure::TlsFailure;

/// Names one piece of evidence within a scenario: `e1`, `e2`, ...
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EvidenceId(pub String);

impl fmt::Display for EvidenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One thing that one side saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Names it within its scenario.
    pub id: EvidenceId,
    /// When it was recorded, in microseconds from the scenario's start.
    pub at_us: u64,
    /// The step of the document during which it was recorded, an index into the scenario's steps.
    pub step: usize,
    /// Who saw it.
    pub side: Side,
    /// The correlation token of the request that it belongs to, where it carries one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What was seen.
    pub fact: Fact,
}

/// Who saw a piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "side", rename_all = "kebab-case")]
pub enum Side {
    /// An application, by the name of its workload.
    Workload {
        /// `sleep`, `details`.
        name: String,
    },
    /// A proxy of the implementation.
    Proxy {
        /// `sleep`, `istio-egressgateway`.
        name: String,
    },
    /// A server outside the mesh, or a service inside it that the suite runs to be called.
    Service {
        /// The host name it answers for.
        host: String,
    },
    /// The suite itself: what it changed, what it asked directly.
    Suite,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fact {
    /// A request of an application or of the suite, with every redirect that was followed.
    Exchange(Exchange),
    /// One line of a proxy's access log.
    AccessLog(AccessLog),
    /// A connection that a service accepted.
    Connection(Connection),
    /// A request that a service received.
    Request(ServerRequest),
    /// The suite changed the configuration.
    Change(Change),
    /// A proxy's word on its credentials.
    Credential(CredentialStatus),
    /// Anything else worth keeping: a process's stderr, a limit that was reached.
    Note {
        /// The text, bounded.
        text: String,
    },
}

// Each match is whole, so that a new kind of fact is placed everywhere.
impl Fact {
    /// The exchange, if it is one.
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

/// A header's name and value; a value that is not UTF-8 is shown with replacement characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Lower case.
    pub name: String,
    /// As received.
    pub value: String,
}

/// One request of a client and all that came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exchange {
    /// The URL that was asked for first.
    pub url: String,
    /// One entry a request sent: more than one where redirects were followed, or where the same request was sent several
    /// times over one connection. Never empty.
    pub hops: Vec<Hop>,
    /// How long it took in microseconds, redirects included.
    pub duration_us: u64,
}

impl Exchange {
    /// The last hop's response, if the exchange ended in one.
    #[must_use]
    pub fn last_response(&self) -> Option<&Response> {
        self.hops.last().and_then(|h| h.response())
    }
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    /// `GET`.
    pub method: String,
    /// The URL of this hop.
    pub url: String,
    /// What the client wrote on its connection before TLS, if any, bounded: for a plain request its head, byte for
    /// byte; for an HTTPS request the ClientHello's first bytes (hex would be unreadable: lossy UTF-8).
    pub sent: String,
    /// How many bytes the client wrote in all.
    pub sent_bytes: u64,
    /// The client's own TLS on this hop, where the URL is `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
    /// What came back.
    pub result: HopResult,
}

impl Hop {
    /// The response, if there was one.
    #[must_use]
    pub fn response(&self) -> Option<&Response> {
        match &self.result {
            HopResult::Response(r) => Some(r),
            HopResult::Error(_) => None,
        }
    }
}

/// A response, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HopResult {
    /// A whole response head, and as much of the body as the bound allows.
    Response(Response),
    /// No response.
    Error(ExchangeError),
}

/// Why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExchangeError {
    /// What sort of failure.
    pub kind: ExchangeErrorKind,
    /// The client library's words, with their causes.
    pub message: String,
}

/// The sorts of failure that a client tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExchangeErrorKind {
    /// Nobody listens.
    ConnectionRefused,
    /// The connection was opened and then reset or closed without an answer.
    ConnectionClosed,
    /// The TLS handshake failed.
    Tls,
    /// What came back is not HTTP.
    Protocol,
    /// The named timeout `request` ran out.
    Timeout,
    /// Anything else.
    Other,
}

/// A response as a client saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// `HTTP/1.1`, `HTTP/2`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// In the order received; bounded.
    pub headers: Vec<Header>,
    /// The body, bounded and lossily decoded.
    pub body: String,
    /// The body's length in bytes, as received (up to the bound at which reading stopped).
    pub body_bytes: u64,
    /// True when the body was longer than the bound.
    pub body_truncated: bool,
    /// SHA-256 of the body in lower-case hex; absent where there is none, where it was not read to its end, or where
    /// this client does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// What followed the body (RFC 9110, section 6.5); bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<Header>,
    /// The statuses of interim responses (RFC 9110, section 15.2) that came before it, where this client shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub informational: Vec<u16>,
    /// What came back as WebSocket messages after a 101; bounded and lossily decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
}

impl Response {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }
}

/// What one end of a TLS connection knows about it. Fields that this end cannot know are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TlsFacts {
    /// The ClientHello's server name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The ALPN protocols that the ClientHello offered, in its order; absent where this end cannot see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn_offered: Option<Vec<String>>,
    /// The ALPN protocol that was agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// `TLSv1.2`, `TLSv1.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The cipher suite's standard name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The certificate that the other end presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_certificate: Option<PeerCertificate>,
    /// Whether this end verified that certificate (`SUCCESS`, `NONE`, `FAILED:reason`, as nginx says it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_verification: Option<String>,
    /// Why the handshake failed, in this end's words; an alert that was sent or received.
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
    /// The issuer, likewise.
    pub issuer: String,
    /// The serial number in upper-case hex, without leading zeros beyond a whole byte: `01`.
    pub serial: String,
    /// SHA-256 of the DER in lower-case hex, where this end shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// DNS and URI subject alternative names, where this end shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternative_names: Vec<String>,
}

/// A connection that a service accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// Tells this connection from the service's others.
    pub number: u64,
    /// The port as the documents name it: 80, 443.
    pub port: u16,
    /// True where that port speaks TLS.
    pub tls_port: bool,
    /// The other end's `address:port`.
    pub peer: String,
    /// The first bytes that arrived outside TLS, lossily decoded and bounded. On a TLS port that got a ClientHello: empty.
    pub clear_bytes: String,
    /// What the handshake showed; absent on a plain port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
}

/// A request that a service received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerRequest {
    /// The connection that it came on, by [`Connection::number`].
    pub connection: u64,
    /// The port as the documents name it.
    pub port: u16,
    /// True when it arrived inside TLS.
    pub over_tls: bool,
    /// The other end's `address:port`.
    pub peer: String,
    /// `GET`.
    pub method: String,
    /// Path and query, as received.
    pub target: String,
    /// The `Host` header or the `:authority` pseudo-header.
    pub authority: String,
    /// `HTTP/1.1`, `HTTP/2`.
    pub version: String,
    /// All headers where the service can show them; nginx shows those that its log format names.
    pub headers: Vec<Header>,
    /// The status that the service answered.
    pub status: u16,
    /// The body's length in bytes, once it has come to its end; absent where the service does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// SHA-256 of the body in lower-case hex, likewise; absent where there is no body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// The handshake facts of its connection, where it arrived inside TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
}

impl ServerRequest {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }
}

/// One line of a proxy's access log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccessLog {
    /// The line, bounded.
    pub line: String,
    /// The format that it was read in; absent when it fits none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What the line says; absent when it fits no format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<LogFields>,
    /// Why the line could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// The fields of an access-log line. A field is absent when its format lacks it or the line says `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogFields {
    /// `%START_TIME%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// `%REQ(:METHOD)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `%PROTOCOL%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `%RESPONSE_CODE%`; 0 where there was no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code: Option<u16>,
    /// `%RESPONSE_FLAGS%`, one entry a flag.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_flags: Vec<String>,
    /// `%RESPONSE_CODE_DETAILS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code_details: Option<String>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_termination_details: Option<String>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_transport_failure_reason: Option<String>,
    /// `%BYTES_RECEIVED%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// `%BYTES_SENT%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// `%DURATION%`, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// `%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%`, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_service_time_ms: Option<u64>,
    /// `%REQ(X-FORWARDED-FOR)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_forwarded_for: Option<String>,
    /// `%REQ(USER-AGENT)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// `%REQ(X-REQUEST-ID)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// `%REQ(:AUTHORITY)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// `%UPSTREAM_HOST%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// `%UPSTREAM_CLUSTER_RAW%` or `%UPSTREAM_CLUSTER%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_cluster: Option<String>,
    /// `%UPSTREAM_LOCAL_ADDRESS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_local_address: Option<String>,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream_local_address: Option<String>,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream_remote_address: Option<String>,
    /// `%REQUESTED_SERVER_NAME%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_server_name: Option<String>,
    /// `%ROUTE_NAME%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_name: Option<String>,
    /// Members of a JSON line that no field above holds; of a text line of Istio 1.3 to 1.7, `istio.mixer:status`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, String>,
}

/// The suite changed the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What was created or replaced, as YAML; Secrets without their data.
    pub applied: Vec<String>,
    /// What was deleted: `DestinationRule default/edition-cnn-com`.
    pub deleted: Vec<String>,
    /// From the change until it was in force, in microseconds.
    pub convergence_us: u64,
    /// The implementation's words, where it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A proxy's word on one credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialStatus {
    /// `kubernetes://client-credential`, `kubernetes://client-credential-cacert`.
    pub name: String,
    /// Whether it is in use.
    pub state: CredentialState,
    /// The certificate's serial number, where there is one, as in [`PeerCertificate::serial`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// The states that `istioctl proxy-config secret` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CredentialState {
    /// Supplied and in use.
    Active,
    /// Asked for, not yet supplied.
    Warming,
}
