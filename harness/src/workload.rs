//! The requests that a workload sends for a scenario.

use std::time::Duration;

use bytes::Bytes;
pub use http::Method;
use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;
use crate::external::PrivateKeyPem;
use crate::grpc::Call;

/// The maximum number of requests per exchange if redirects are followed.
pub const MAX_HOPS: usize = 10;
/// The maximum number of bytes that are kept of a response's body.
pub const MAX_BODY_KEPT: usize = 64 * 1024;
/// Reading a response's body stops after this many bytes.
pub const MAX_BODY_READ: u64 = 8 * 1024 * 1024;
/// The maximum size of a response's head.
pub const MAX_HEAD: usize = 64 * 1024;

/// How a request's body is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// In one piece, with `content-length`. An empty body is not sent.
    #[default]
    Whole,
    /// In pieces, without a length.
    Pieces,
    /// With its length, after `Expect: 100-continue` was answered (RFC 9110, section 10.1.1). If no answer arrives
    /// within the timeout `continue`, it is sent anyway, as curl does.
    Expecting,
}

impl Delivery {
    /// Whether the length is sent before the body.
    #[must_use]
    pub fn has_length(self) -> bool {
        match self {
            Self::Whole | Self::Expecting => true,
            Self::Pieces => false,
        }
    }
}

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpChoice {
    /// As curl does: HTTP/1.1 in plain text; inside TLS `h2` and `http/1.1` are offered and the server chooses.
    #[default]
    Negotiated,
    /// Only HTTP/1.1, and only that is offered.
    Http1,
    /// Only HTTP/2: with prior knowledge in plain text; inside TLS only `h2` is offered.
    Http2,
    /// HTTP/1.0 (RFC 9112, section 9.3: the connection ends after the answer). Inside TLS, `http/1.1` is offered.
    Http10,
    /// HTTP/1.1, and several requests over one connection are sent before the first answer has come, if each may be repeated (RFC
    /// 9112, section 9.3.2).
    Pipelined,
}

/// A certificate with which a client identifies itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientIdentity {
    /// PEM: its chain.
    pub certificate: String,
    /// PEM: its key.
    pub key: PrivateKeyPem,
}

impl From<&crate::certificates::Issued> for ClientIdentity {
    fn from(issued: &crate::certificates::Issued) -> Self {
        Self { certificate: issued.certificate_pem().to_owned(), key: issued.key() }
    }
}

/// A request to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestSpec {
    /// `GET`.
    #[serde(with = "crate::encoding::method")]
    pub method: Method,
    /// `http://edition.cnn.com/politics`.
    pub url: String,
    /// Beside Host, User-Agent and Accept, which are there always; one of the same name replaces those.
    pub headers: Vec<(String, String)>,
    /// Empty: none.
    #[serde(with = "crate::encoding::base64")]
    pub body: Bytes,
    /// How the body is sent.
    pub delivery: Delivery,
    /// Trailer fields after a body that is sent in pieces (RFC 9110, section 6.5).
    pub trailers: Vec<(String, String)>,
    /// A WebSocket handshake (RFC 6455, section 4.1; HTTP/1.1) that is followed by these text messages. Each is sent when the
    /// one before was answered ([`answers_to`]).
    pub websocket: Option<Vec<String>>,
    /// The messages of a gRPC call in place of a body, over HTTP/2.
    pub grpc: Option<Call>,
    /// What is said over TCP, for a URL `tcp://HOST:PORT` or, inside TLS of the client's own, `tls://HOST:PORT`. Nothing but the
    /// URL, the token and what concerns TLS counts then.
    pub conversation: Option<Conversation>,
    /// How many bytes the client writes at a time until the head of its first request is written; absent: as many as it has.
    pub segment: Option<usize>,
    /// How long the client says nothing after the first half of a body in pieces, and before each WebSocket message but the first;
    /// absent: hardly at all.
    pub pause: Option<Duration>,
    /// How often the request is sent, one after the other over one connection; more than once: no redirect is followed.
    pub times: usize,
    /// Whether redirects are followed, as with `curl -L`.
    pub follow_redirects: bool,
    /// The correlation token, which goes into the User-Agent.
    pub token: String,
    /// Host or `:authority` of the first hop, instead of the URL's (which keeps its port as written).
    pub host_header: Option<String>,
    /// The server name of the ClientHello instead of the URL's host; the server's certificate must match it too.
    pub server_name: Option<String>,
    /// The certificate for a server that requests one.
    pub identity: Option<ClientIdentity>,
    /// Which HTTP to speak.
    pub http: HttpChoice,
    /// Whether any server certificate is accepted, as with `curl -k`.
    pub accept_any_server: bool,
}

impl RequestSpec {
    /// A GET of `url` that follows no redirects.
    #[must_use]
    pub fn get(url: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            url: url.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            delivery: Delivery::default(),
            trailers: Vec::new(),
            websocket: None,
            grpc: None,
            conversation: None,
            segment: None,
            pause: None,
            times: 1,
            follow_redirects: false,
            token: token.into(),
            host_header: None,
            server_name: None,
            identity: None,
            http: HttpChoice::default(),
            accept_any_server: false,
        }
    }
}

/// What a message over a WebSocket begins with that the suite's server answers twice, the second time after a pause.
const TWICE: &str = "twice: ";

/// What the suite's server sends back for a message over a WebSocket: the message itself, and for some a second one.
#[must_use]
pub fn answers_to(message: &str) -> Vec<String> {
    let mut answers = vec![message.to_owned()];
    answers.extend(message.strip_prefix(TWICE).map(|rest| format!("again: {rest}")));
    answers
}

/// Host and port of a URL exactly as written: document 002's application asks for
/// `http://www.googleapis.com:80/...`, and its Host is `www.googleapis.com:80`.
#[must_use]
pub fn authority_of(url: &str) -> &str {
    let rest = url.split_once("//").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_port_stays_in_the_host_even_where_it_is_the_default() {
        assert_eq!(authority_of("http://www.googleapis.com:80/books/v1?q=a@b"), "www.googleapis.com:80");
        assert_eq!(authority_of("https://edition.cnn.com/politics"), "edition.cnn.com");
        assert_eq!(authority_of("http://user@host:8080?q"), "host:8080");
    }
}
