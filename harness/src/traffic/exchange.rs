//! One generated exchange.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::answer::{AnswerFraming, AnswerSpec, DIRECTIONS, is_zero};
use crate::digest::binary_sample;
use crate::workload::{Delivery, Method, RequestSpec};

/// One exchange: the request, and how it is to be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedExchange {
    /// The host, one of those that the scenario originates TLS for.
    pub host: String,
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Host as the client writes it; absent: as in `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_header: Option<String>,
    /// In this order; a name may come several times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The length of the body, which is [`crate::digest::binary_sample`].
    #[serde(default)]
    pub body: usize,
    /// Whether the body is sent in chunks, without a length.
    #[serde(default)]
    pub chunked: bool,
    /// Trailer fields after a body in chunks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
    /// The client's messages over WebSocket, if the request asks to switch over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// How long the client says nothing in the middle of a body in chunks, and before each message but the first, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pause_ms: u64,
    /// How it is to be answered.
    pub answer: AnswerSpec,
}

impl GeneratedExchange {
    /// The simplest exchange with this host.
    #[must_use]
    pub fn plain(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            method: "GET".to_owned(),
            target: "/".to_owned(),
            host_header: None,
            headers: Vec::new(),
            body: 0,
            chunked: false,
            trailers: Vec::new(),
            messages: Vec::new(),
            pause_ms: 0,
            answer: AnswerSpec::plain(),
        }
    }

    /// What a workload is to send.
    ///
    /// # Errors
    /// The method is none; the text says so.
    pub fn request(&self) -> Result<RequestSpec, String> {
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| format!("{:?} is not a method of HTTP", self.method))?;
        let mut headers = self.headers.clone();
        headers.push((DIRECTIONS.to_owned(), self.answer.to_header()));
        Ok(RequestSpec {
            method,
            headers,
            body: if self.body == 0 { Bytes::new() } else { binary_sample(self.body) },
            delivery: if self.chunked { Delivery::Pieces } else { Delivery::Whole },
            trailers: self.trailers.clone(),
            websocket: (!self.messages.is_empty()).then(|| self.messages.clone()),
            pause: (self.pause_ms > 0).then(|| Duration::from_millis(self.pause_ms)),
            host_header: self.host_header.clone(),
            ..RequestSpec::get(format!("http://{}{}", self.host, self.target), "")
        })
    }

    /// What curl needs to send the request through the same sidecar or gateway.
    pub(super) fn curl(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let mut words = vec![format!("-i --path-as-is -X {}", quoted(&self.method))];
        if let Some(host) = &self.host_header {
            words.push(format!("-H {}", quoted(&format!("Host: {host}"))));
        }
        for (name, value) in &self.headers {
            // curl sends an empty header only with a semicolon.
            let header = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
            words.push(format!("-H {}", quoted(&header)));
        }
        words.push(format!("-H {}", quoted(&format!("{DIRECTIONS}: {}", self.answer.to_header()))));
        if self.body > 0 {
            if self.chunked {
                words.push("-H 'Transfer-Encoding: chunked'".to_owned());
            }
            words.push(format!("--data-binary \"$(head -c {} /dev/zero | tr '\\0' x)\"", self.body));
        }
        let scheme = if self.messages.is_empty() { "http" } else { "ws" };
        words.push(quoted(&format!("{scheme}://{}{}", self.host, self.target)));
        words.join(" ")
    }

    /// The rules that this exchange puts to the test, with the document that states each.
    pub(super) fn rules(&self) -> Vec<&'static str> {
        let mut rules = vec![
            "the request target is forwarded as received (RFC 9110, section 7.6; RFC 3986, section 6.2.2)",
        ];
        if !matches!(self.method.as_str(), "GET" | "HEAD") {
            rules.push("the method is forwarded as received (RFC 9110, section 9.1)");
        }
        if !self.headers.is_empty() {
            rules.push("fields are forwarded unless the Connection field names them (RFC 9110, sections 5.1, 5.3 and 7.6.1)");
        }
        if self.body > 0 {
            rules.push("content is forwarded whole (RFC 9110, section 6.4; RFC 9112, section 6)");
        }
        if !self.trailers.is_empty() {
            rules.push(
                "trailer fields are forwarded or dropped, and not made header fields (RFC 9110, section 6.5.1)",
            );
        }
        if !self.messages.is_empty() {
            rules.push(
                "after 101 everything passes unchanged, both ways (RFC 9110, section 7.8; RFC 6455, section 5)",
            );
        }
        if !self.answer.headers.is_empty() {
            rules.push(
                "the answer's fields are forwarded, several Set-Cookie fields apart (RFC 9110, section 5.3)",
            );
        }
        if self.answer.early_hints {
            rules.push("an interim answer is not the final one (RFC 9110, section 15.2)");
        }
        if self.headers.iter().any(|(name, _)| name == "connection") {
            rules.push("fields that the Connection field names are not forwarded (RFC 9110, section 7.6.1)");
        }
        if self.answer.delay_ms > 0 || self.answer.pause_ms > 0 || self.pause_ms > 0 {
            rules.push(
                "neither end has to say something all the time, and the access log says how long an exchange took \
                 (RFC 9112, section 9.5; Envoy, \"Access logging\")",
            );
        }
        if self.answer.closes {
            rules.push(
                "a connection that its server has closed carries no further request (RFC 9112, section 9.5)",
            );
        }
        match self.answer.framing {
            AnswerFraming::BreaksOff | AnswerFraming::PiecesBreakOff => {
                rules.push("an incomplete answer is not passed off as complete (RFC 9112, section 8)");
            }
            AnswerFraming::NoAnswer => {
                rules.push("a request that is not idempotent is not repeated (RFC 9110, section 9.2.2)");
            }
            AnswerFraming::Length
            | AnswerFraming::Pieces
            | AnswerFraming::Events
            | AnswerFraming::WebSocket => {}
        }
        rules
    }
}
