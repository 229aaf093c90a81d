//! Which kind of failure an error is.

use std::error::Error;
use std::io;

use meshproof_model::{ExchangeError, ExchangeErrorKind};

use crate::tls;
use meshproof_harness::store::bounded;

/// How much of a library's error text is kept.
const MAX_MESSAGE: usize = 1024;

/// The kind of an error, by its root cause, and its text with those of its causes.
pub(crate) fn sorted(error: &(dyn Error + 'static)) -> ExchangeError {
    let mut kind = None;
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(e) = next {
        let text = e.to_string();
        // Some libraries repeat the text of the cause.
        if words.last() != Some(&text) {
            words.push(text);
        }
        // A deeper cause says more: "connection reset" rather than "error sending request".
        kind = kind_of(e).or(kind);
        next = e.source();
    }
    ExchangeError {
        kind: kind.unwrap_or(ExchangeErrorKind::Other),
        message: bounded(&words.join(": "), MAX_MESSAGE),
    }
}

fn kind_of(error: &(dyn Error + 'static)) -> Option<ExchangeErrorKind> {
    if error.is::<rustls::Error>() {
        return Some(ExchangeErrorKind::Tls);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return kind_of_io(error);
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    Some(if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        ExchangeErrorKind::ConnectionClosed
    } else if error.is_user() {
        ExchangeErrorKind::Other
    } else {
        // It cannot be parsed, or it breaks the rules of HTTP/2.
        ExchangeErrorKind::Protocol
    })
}

fn kind_of_io(error: &io::Error) -> Option<ExchangeErrorKind> {
    if tls::inside(error).is_some() {
        return Some(ExchangeErrorKind::Tls);
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum with many variants, of which a few matter here"
    )]
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(ExchangeErrorKind::ConnectionRefused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(ExchangeErrorKind::ConnectionClosed),
        _ => None,
    }
}
