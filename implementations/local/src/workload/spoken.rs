//! What came of one of several requests over one connection.

use std::time::{Duration, Instant};

use http::Version;
use meshproof_model::{ExchangeError, ExchangeErrorKind, Response};

use super::connection::Wire;

/// One request that was sent, and its outcome.
pub(super) struct Spoken {
    pub(super) result: Result<Response, ExchangeError>,
    /// What was written for it, and how much.
    pub(super) sent: (String, u64),
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Spoken {
    pub(super) fn now(result: Result<Response, ExchangeError>, wire: &Wire, began: Instant) -> Self {
        Self { result, sent: wire.shown(), began, ended: Instant::now() }
    }
}

/// Nothing came within the limit.
pub(super) fn timed_out(limit: Duration) -> ExchangeError {
    let message = format!("request: no whole answer within {limit:?}");
    ExchangeError { kind: ExchangeErrorKind::Timeout, message }
}

/// Whether another request may follow this answer on its connection (RFC 9112, section 9.3).
pub(super) fn stays_open(response: &Response) -> bool {
    let connection = response.headers.iter().filter(|h| h.name == "connection");
    let closes = connection.flat_map(|h| h.value.split(',')).any(|o| o.trim().eq_ignore_ascii_case("close"));
    response.status != 101 && response.version == crate::http_facts::version(Version::HTTP_11) && !closes
}
