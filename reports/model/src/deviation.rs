//! How evidence deviates from what was expected, as types: on which hop, in which field, and what kind of value was expected and
//! seen. Causes are worked out from deviations and never from sentences.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evidence::{EvidenceId, ExchangeErrorKind};

/// What a party is, apart from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An application in the mesh.
    Workload,
    /// The suite's own client, outside the mesh.
    Client,
    /// The proxy beside an application.
    Sidecar,
    /// The gateway where requests leave the mesh.
    EgressGateway,
    /// The gateway where requests enter the mesh.
    IngressGateway,
    /// A proxy of which the evidence does not say where it stands.
    Proxy,
    /// A server outside the mesh.
    ExternalService,
    /// A server inside the mesh.
    MeshService,
}

impl Role {
    /// Whether it is a proxy of the implementation.
    #[must_use]
    pub const fn is_proxy(self) -> bool {
        match self {
            Self::Sidecar | Self::EgressGateway | Self::IngressGateway | Self::Proxy => true,
            Self::Workload | Self::Client | Self::ExternalService | Self::MeshService => false,
        }
    }
}

/// One end of a hop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// What it is.
    pub role: Role,
    /// Its name or host, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Party {
    /// The party with this name.
    #[must_use]
    pub fn named(role: Role, name: impl Into<String>) -> Self {
        Self { role, name: Some(name.into()) }
    }

    /// A party whose name is not known.
    #[must_use]
    pub const fn unnamed(role: Role) -> Self {
        Self { role, name: None }
    }
}

/// What deviates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// Whether the request came inside TLS.
    Transport,
    /// The outcome of the TLS handshake.
    Handshake,
    /// The server name (SNI) of the ClientHello.
    ServerName,
    /// The ALPN protocols that the ClientHello offered.
    AlpnOffer,
    /// The negotiated ALPN protocol.
    Alpn,
    /// The negotiated TLS version.
    TlsVersion,
    /// TLS versions and cipher suites that the ClientHello offered.
    WeakOffer,
    /// The certificate that the client presented.
    ClientCertificate,
    /// Whether the client accepted the server's certificate.
    ServerVerification,
    /// The certificate that the server presented.
    ServerCertificate,
    /// A connection as such, and how many there are.
    Connection,
    /// Which proxy opened the connection.
    Opener,
    /// The arrival of the request, and how often it arrived.
    Request,
    /// The server that the request reached.
    Destination,
    /// The request's method.
    Method,
    /// The request's path.
    Path,
    /// The request's Host or `:authority`.
    Host,
    /// A header of the request; see the deviation's name.
    RequestHeader,
    /// The body of the request.
    RequestBody,
    /// The HTTP version.
    HttpVersion,
    /// Whether the client got an answer, and which kind.
    Response,
    /// The status of the answer.
    Status,
    /// A redirect.
    Redirect,
    /// A header of the answer; see the deviation's name.
    ResponseHeader,
    /// The body of the answer.
    ResponseBody,
    /// The trailers of the answer.
    Trailer,
    /// Interim answers and WebSocket messages.
    Message,
    /// The bytes that the application sent.
    SentBytes,
    /// The number of access-log lines.
    LogLine,
    /// A field of an access-log line; see the deviation's name.
    LogField,
    /// The state of a credential that a proxy reports.
    Credential,
    /// A configuration change.
    Change,
    /// The implementation's processes.
    Process,
}

impl Field {
    /// How near to the origin of a failure a deviation of this field is: a failed handshake explains a missing request, a missing
    /// request explains a status, and a status explains an access-log line. A redirect, too, explains a missing request: the client
    /// follows it.
    #[must_use]
    pub const fn depth(self) -> u8 {
        match self {
            Self::Change | Self::Process => 5,
            Self::Transport
            | Self::Handshake
            | Self::ServerName
            | Self::AlpnOffer
            | Self::Alpn
            | Self::TlsVersion
            | Self::WeakOffer
            | Self::ClientCertificate
            | Self::ServerVerification
            | Self::Redirect
            | Self::Destination => 4,
            Self::Connection
            | Self::Opener
            | Self::Request
            | Self::Method
            | Self::Path
            | Self::Host
            | Self::RequestHeader
            | Self::RequestBody
            | Self::HttpVersion
            | Self::Credential => 3,
            Self::Response
            | Self::Status
            | Self::ResponseHeader
            | Self::ResponseBody
            | Self::Trailer
            | Self::Message
            | Self::ServerCertificate
            | Self::SentBytes => 2,
            Self::LogLine | Self::LogField => 1,
        }
    }
}

/// The kind of a value, in which hosts, ports, tokens and names do not appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// Nothing.
    Absent,
    /// Something.
    Present,
    /// The value that the document or the configuration names.
    Configured,
    /// Another value.
    Other,
    /// Exactly one.
    One,
    /// More than one, or more than the limit.
    Several,
    /// Inside TLS.
    Tls,
    /// Outside TLS.
    PlainText,
    /// It succeeded, or was accepted.
    Success,
    /// It failed, or was refused.
    Refusal,
    /// This HTTP status.
    Status(u16),
    /// No HTTP response, for this reason.
    NoResponse(ExchangeErrorKind),
    /// It took longer than its timeout.
    Timeout,
    /// The evidence does not show it.
    Unknown,
}

/// One way in which the evidence deviates from what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Deviation {
    /// Who sent what deviates; for an answer, who received it.
    pub from: Party,
    /// To whom it went.
    pub to: Party,
    /// What deviates.
    pub field: Field,
    /// Which header or log field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of value that was expected.
    pub expected_kind: ValueKind,
    /// The kind of value that was seen.
    pub seen_kind: ValueKind,
    /// What was expected: `server name edition.cnn.com`.
    pub expected: String,
    /// What was seen: `no server name (SNI)`.
    pub seen: String,
    /// The piece that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceId>,
}
