//! How the embedded service is to answer a generated request. The request carries it, so that every kind of embedded
//! service can follow it, wherever it runs.

use serde::{Deserialize, Serialize};

/// The request header that carries an [`AnswerSpec`] as JSON.
pub const DIRECTIONS: &str = "meshproof-answer";

/// The length of one event of [`AnswerFraming::Events`] in bytes.
pub const EVENT: usize = 64;

/// How a request is to be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerSpec {
    /// The status code.
    pub status: u16,
    /// In this order; a name may come several times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The length of the body, which is [`crate::digest::binary_sample`], or [`events`]. No body where the status allows none.
    #[serde(default)]
    pub body: usize,
    /// How the body is sent.
    #[serde(default)]
    pub framing: AnswerFraming,
    /// Whether 103 (RFC 8297) comes before the answer. Only over HTTP/1.1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early_hints: bool,
    /// Whether the connection is closed soon after the answer, although the answer does not announce it. Only over HTTP/1.1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes: bool,
    /// How long the server waits before it answers, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delay_ms: u64,
    /// How long the server says nothing in the middle of a body in pieces, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pause_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How the body of an answer is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerFraming {
    /// With its length.
    #[default]
    Length,
    /// In pieces, without a length.
    Pieces,
    /// As server-sent events, without a length. Each is sent when the client has those before.
    Events,
    /// With its length, and the connection breaks off after half of it.
    BreaksOff,
    /// In pieces, without a length, and the connection breaks off after half of them.
    PiecesBreakOff,
    /// Not at all: the connection is closed once the request has arrived.
    NoAnswer,
    /// The connection switches over to WebSocket, and every message is answered ([`crate::workload::answers_to`]).
    WebSocket,
}

impl AnswerSpec {
    /// An empty 200.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: 0,
            framing: AnswerFraming::Length,
            early_hints: false,
            closes: false,
            delay_ms: 0,
            pause_ms: 0,
        }
    }

    /// Whether the answer comes, and comes whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self.framing {
            AnswerFraming::Length
            | AnswerFraming::Pieces
            | AnswerFraming::Events
            | AnswerFraming::WebSocket => true,
            AnswerFraming::BreaksOff | AnswerFraming::PiecesBreakOff | AnswerFraming::NoAnswer => false,
        }
    }

    /// Whether the answer ends in the middle.
    #[must_use]
    pub fn breaks_off(&self) -> bool {
        matches!(self.framing, AnswerFraming::BreaksOff | AnswerFraming::PiecesBreakOff)
    }

    /// Whether the server ends the connection, so that it may take another request with it.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        self.closes || !self.is_whole()
    }

    /// Whether a message with this status has a body (RFC 9110, section 6.4.1).
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.body > 0 && !matches!(self.status, 204 | 304)
    }

    /// As a header's value. JSON in ASCII: other characters are escaped.
    #[must_use]
    pub fn to_header(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From a header's value.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        serde_json::from_str(value).ok()
    }
}

/// Server-sent events (WHATWG HTML, section 9.2.5) of [`EVENT`] bytes each: as many as fit into `bytes`, at least one.
#[must_use]
pub fn events(bytes: usize) -> Vec<u8> {
    let one = |number: usize| {
        let event = format!("id: {number}\ndata: ");
        format!("{event}{}\n\n", "x".repeat(EVENT.saturating_sub(event.len() + 2)))
    };
    (1..=(bytes / EVENT).max(1)).map(one).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_their_length_and_differ() {
        let three = events(3 * EVENT + 5);
        assert_eq!(three.len(), 3 * EVENT);
        assert!(three.chunks(EVENT).all(|event| event.ends_with(b"\n\n") && event.starts_with(b"id: ")));
        assert_ne!(three[..EVENT], three[EVENT..2 * EVENT]);
        assert_eq!(events(0).len(), EVENT);
    }
}
