//! What the embedded service answers.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, LOCATION};
use http::{Method, StatusCode};
use meshproof_model::Header;
use serde_json::json;

use super::behaviour::{self, Framing, Holds, WEB_SOCKET};
use meshproof_harness::external::Page;

/// The path of the page that says what arrived.
const ECHO: &str = "/echo";

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

/// A response to be.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
    /// Whether the connection ends after it.
    pub(crate) close: bool,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![(CONTENT_TYPE, content_type.to_owned())];
        Self { status, headers, body: body.into(), framing: Framing::Length, close: false }
    }

    /// 405 for everything but GET and HEAD.
    pub(super) fn method_not_allowed() -> Self {
        let mut refusal = Self::nginx_page(StatusCode::METHOD_NOT_ALLOWED, None);
        refusal.headers.push((ALLOW, "GET, HEAD".to_owned()));
        refusal
    }

    /// A page in the form of nginx's own: the title says the status or what is wrong, and some of them end the
    /// connection.
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

    /// Whether connections switch over to WebSocket on this path.
    fn switches_over(&self, _path: &str) -> bool {
        false
    }
}

/// Pages by path, the echo page, and the behaviours.
pub(super) struct Pages {
    pages: Vec<Page>,
    holds: Holds,
}

impl Pages {
    pub(super) fn new(pages: Vec<Page>) -> Self {
        Self { pages, holds: Holds::default() }
    }

    fn page(&self, path: &str) -> Option<&Page> {
        self.pages.iter().find(|page| page.path == path)
    }
}

#[async_trait]
impl Content for Pages {
    async fn answer(&self, incoming: Incoming) -> Answer {
        let Some(page) = self.page(&incoming.path) else {
            if incoming.path == ECHO {
                return echo(&incoming);
            }
            let (method, path) = (&incoming.method, &incoming.path);
            return match behaviour::answer(method, path) {
                Some(answer) => answer,
                None => match self.holds.answer(method, path).await {
                    Some(answer) => answer,
                    None => Answer::nginx_page(StatusCode::NOT_FOUND, None),
                },
            };
        };
        if incoming.method != Method::GET && incoming.method != Method::HEAD {
            return Answer::method_not_allowed();
        }
        Answer::new(StatusCode::OK, page.content_type, page.body.clone())
    }

    fn switches_over(&self, path: &str) -> bool {
        path == WEB_SOCKET && self.page(path).is_none()
    }
}

fn echo(incoming: &Incoming) -> Answer {
    let headers: Vec<_> =
        incoming.headers.iter().map(|h| json!({ "name": h.name, "value": h.value })).collect();
    let seen = json!({
        "method": incoming.method.as_str(),
        "target": incoming.target,
        "authority": incoming.authority,
        "version": incoming.version,
        "headers": headers,
        "body_bytes": incoming.body_bytes,
        "body_sha256": incoming.body_sha256,
    });
    Answer::new(StatusCode::OK, "application/json", seen.to_string())
}

/// 301 to the same URL with `https`.
pub(super) struct RedirectToHttps;

#[async_trait]
impl Content for RedirectToHttps {
    async fn answer(&self, incoming: Incoming) -> Answer {
        let host = without_port(&incoming.authority);
        let mut answer = Answer::nginx_page(StatusCode::MOVED_PERMANENTLY, None);
        answer.headers.push((LOCATION, format!("https://{host}{}", incoming.target)));
        answer
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}
