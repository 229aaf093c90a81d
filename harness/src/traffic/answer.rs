//! How the embedded service is to answer a generated request. The request carries it, so that every kind of embedded
//! service can follow it, wherever it runs.

use serde::{Deserialize, Serialize};

/// The request header that carries an [`AnswerSpec`] as JSON.
pub const DIRECTIONS: &str = "meshproof-answer";

/// How a request is to be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerSpec {
    /// The status code.
    pub status: u16,
    /// In this order; a name may come several times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The length of the body, which is [`crate::digest::binary_sample`]. No body where the status allows none.
    #[serde(default)]
    pub body: usize,
    /// How the body is sent.
    #[serde(default)]
    pub framing: AnswerFraming,
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
    /// With its length, and the connection breaks off after half of it.
    BreaksOff,
    /// Not at all: the connection is closed once the request has arrived.
    NoAnswer,
}

impl AnswerSpec {
    /// An empty 200.
    #[must_use]
    pub fn plain() -> Self {
        Self { status: 200, headers: Vec::new(), body: 0, framing: AnswerFraming::Length }
    }

    /// Whether the answer comes, and comes whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self.framing {
            AnswerFraming::Length | AnswerFraming::Pieces => true,
            AnswerFraming::BreaksOff | AnswerFraming::NoAnswer => false,
        }
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
