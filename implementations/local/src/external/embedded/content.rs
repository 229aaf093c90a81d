//! The pages that the embedded service serves.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use meshproof_harness::digest::binary_sample;
use meshproof_harness::external::Page;
use meshproof_harness::traffic::{AnswerFraming, AnswerSpec, DIRECTIONS, EVENT, events};
use serde_json::json;

use super::answer::{Answer, Content, Incoming};
use super::behaviour::{self, Holds};
use super::framing::{Framing, OneByOne};
use super::web_socket::WEB_SOCKET;

/// The path of the page that describes the request.
const ECHO: &str = "/echo";

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
        if let Some(directions) = incoming.headers.iter().find(|h| h.name == DIRECTIONS) {
            return match AnswerSpec::from_header(&directions.value) {
                Some(spec) => directed(spec),
                None => Answer::nginx_page(StatusCode::BAD_REQUEST, None),
            };
        }
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
        Answer::new(StatusCode::OK, &page.content_type, page.body.clone())
    }

    fn switches_over(&self, path: &str, headers: &HeaderMap) -> bool {
        let directions = headers.get(DIRECTIONS).and_then(|value| value.to_str().ok());
        match directions.and_then(AnswerSpec::from_header) {
            Some(spec) => spec.framing == AnswerFraming::WebSocket,
            None => path == WEB_SOCKET && self.page(path).is_none(),
        }
    }
}

/// The answer that the request itself asks for.
fn directed(spec: AnswerSpec) -> Answer {
    let Ok(status) = StatusCode::from_u16(spec.status) else {
        return Answer::nginx_page(StatusCode::BAD_REQUEST, None);
    };
    let body = if !spec.has_body() {
        Bytes::new()
    } else if spec.framing == AnswerFraming::Events {
        events(spec.body).into()
    } else {
        binary_sample(spec.body)
    };
    let framing = match spec.framing {
        AnswerFraming::NoAnswer => Framing::NoAnswer,
        AnswerFraming::Pieces
        | AnswerFraming::Events
        | AnswerFraming::BreaksOff
        | AnswerFraming::PiecesBreakOff
            if body.is_empty() =>
        {
            Framing::Length
        }
        AnswerFraming::Pieces if spec.pause_ms > 0 => Framing::Paused(Duration::from_millis(spec.pause_ms)),
        AnswerFraming::Pieces => Framing::Pieces,
        AnswerFraming::Events => Framing::OneByOne(OneByOne { piece: EVENT, watched: None }),
        AnswerFraming::BreaksOff => Framing::BreaksOff,
        AnswerFraming::PiecesBreakOff => Framing::PiecesBreakOff,
        // A request that asks for WebSocket does not come here.
        AnswerFraming::Length | AnswerFraming::WebSocket => Framing::Length,
    };
    let named = |(name, value): (String, String)| Some((HeaderName::try_from(name).ok()?, value));
    let mut headers: Vec<_> = spec.headers.into_iter().filter_map(named).collect();
    if !body.is_empty() && headers.iter().all(|(name, _)| *name != CONTENT_TYPE) {
        headers.push((CONTENT_TYPE, "text/plain".to_owned()));
    }
    Answer {
        status,
        headers,
        body,
        framing,
        close: false,
        early_hints: spec.early_hints,
        closes_silently: spec.closes,
        delay: Duration::from_millis(spec.delay_ms),
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
