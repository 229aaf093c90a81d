//! A request as a page sees it, and the answer to it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use meshproof_model::Header;

use super::framing::Framing;

/// The value of the service's `Server` header.
pub(super) const SERVER_NAME: HeaderValue = HeaderValue::from_static("meshproof-embedded");

/// A request whose body has arrived.
pub(crate) struct Incoming {
    pub(crate) method: Method,
    /// Path and query, as received.
    pub(crate) target: String,
    /// The path alone.
    pub(crate) path: String,
    /// Host or `:authority`.
    pub(crate) authority: String,
    /// `HTTP/1.1`, `HTTP/2`.
    pub(crate) version: String,
    pub(crate) headers: Vec<Header>,
    /// The token in its User-Agent.
    pub(crate) token: Option<String>,
    pub(crate) body_bytes: u64,
    pub(crate) body_sha256: String,
}

/// A response that is not sent yet.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
    /// Whether the connection ends after it.
    pub(crate) close: bool,
    /// Whether 103 comes before it. Only over HTTP/1.1.
    pub(crate) early_hints: bool,
    /// Whether the connection ends soon after it, although it does not say so. Only over HTTP/1.1.
    pub(crate) closes_silently: bool,
    /// How long the client waits for it.
    pub(crate) delay: Duration,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![(CONTENT_TYPE, content_type.to_owned())];
        Self {
            status,
            headers,
            body: body.into(),
            framing: Framing::Length,
            close: false,
            early_hints: false,
            closes_silently: false,
            delay: Duration::ZERO,
        }
    }

    /// 405 for everything but GET and HEAD.
    pub(super) fn method_not_allowed() -> Self {
        let mut refusal = Self::nginx_page(StatusCode::METHOD_NOT_ALLOWED, None);
        refusal.headers.push((ALLOW, "GET, HEAD".to_owned()));
        refusal
    }

    /// A page in the form of nginx's own: the title is the status or the problem. With a problem the connection ends.
    pub(crate) fn nginx_page(status: StatusCode, problem: Option<&str>) -> Self {
        let reason = status.canonical_reason().unwrap_or_default();
        let code = status.as_u16();
        let title = problem.unwrap_or(reason);
        let detail = problem.map(|p| format!("<center>{p}</center>\r\n")).unwrap_or_default();
        let body = format!(
            "<html>\r\n<head><title>{code} {title}</title></head>\r\n<body>\r\n\
             <center><h1>{code} {reason}</h1></center>\r\n{detail}<hr></body>\r\n</html>\r\n"
        );
        Self { close: problem.is_some(), ..Self::new(status, "text/html", body) }
    }
}

/// What a port answers.
#[async_trait]
pub(crate) trait Content: Send + Sync {
    /// The answer to a request. Its status is in the store before it is sent.
    async fn answer(&self, incoming: Incoming) -> Answer;

    /// Whether connections switch over to WebSocket for a request with this path and these headers.
    fn switches_over(&self, _path: &str, _headers: &HeaderMap) -> bool {
        false
    }
}
