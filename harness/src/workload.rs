//! Requests as a scenario asks a workload to send them.

use bytes::Bytes;
pub use http::Method;

use crate::external::PrivateKeyPem;

/// How many requests one exchange may come to when redirects are followed.
pub const MAX_HOPS: usize = 10;
/// How many bytes of a response's body are kept.
pub const MAX_BODY_KEPT: usize = 64 * 1024;
/// After how many bytes of a response's body reading stops.
pub const MAX_BODY_READ: u64 = 8 * 1024 * 1024;
/// How large a response's head may be.
pub const MAX_HEAD: usize = 64 * 1024;

/// How a request's body is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// In one piece, with its length in `content-length`; an empty one: not at all.
    #[default]
    Whole,
    /// In pieces, without a length.
    Pieces,
    /// With its length, after `Expect: 100-continue` was answered (RFC 9110, section 10.1.1). Where no answer comes
    /// within the timeout `continue`, it is sent all the same, as curl does.
    Expecting,
}

impl Delivery {
    /// Whether the length is said beforehand.
    #[must_use]
    pub fn has_length(self) -> bool {
        match self {
            Self::Whole | Self::Expecting => true,
            Self::Pieces => false,
        }
    }
}

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpChoice {
    /// As curl does: HTTP/1.1 in plain text; inside TLS `h2` and `http/1.1` are offered and the server chooses.
    #[default]
    Negotiated,
    /// HTTP/1.1 alone, and offered alone.
    Http1,
    /// HTTP/2 alone: with prior knowledge in plain text, `h2` offered alone inside TLS.
    Http2,
}

/// A certificate with which a client identifies itself.
#[derive(Clone, Debug)]
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

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct RequestSpec {
    /// `GET`.
    pub method: Method,
    /// `http://edition.cnn.com/politics`.
    pub url: String,
    /// Beside Host, User-Agent and Accept, which are there always; one of the same name replaces those.
    pub headers: Vec<(String, String)>,
    /// Empty: none.
    pub body: Bytes,
    /// How the body is sent.
    pub delivery: Delivery,
    /// A WebSocket handshake (RFC 6455, section 4.1; HTTP/1.1) that is followed by this text message; the answer is waited for.
    pub websocket: Option<String>,
    /// How often the request is sent, one after the other over one connection; more than once: no redirect is followed.
    pub times: usize,
    /// Whether redirects are followed, as with `curl -L`.
    pub follow_redirects: bool,
    /// The correlation token, which goes into the User-Agent.
    pub token: String,
    /// Host or `:authority` of the first hop, instead of the URL's (which keeps its port as written).
    pub host_header: Option<String>,
    /// The ClientHello's server name instead of the URL's host; the server's certificate is held against it too.
    pub server_name: Option<String>,
    /// What the client shows to a server that asks.
    pub identity: Option<ClientIdentity>,
    /// Which HTTP to speak.
    pub http: HttpChoice,
    /// Whether the server's certificate is taken as it is, as with `curl -k`.
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
            websocket: None,
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
