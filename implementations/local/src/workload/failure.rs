//! Which sort of failure an error is.

use std::error::Error;
use std::io;

use meshproof_model::{ExchangeError, ExchangeErrorKind};

use crate::tls;
use meshproof_harness::store::bounded;

/// How much of a library's words is kept.
const MAX_MESSAGE: usize = 1024;

/// Sorts an error by what is at its root and keeps its words with their causes.
pub(crate) fn sorted(error: &(dyn Error + 'static)) -> ExchangeError {
    let mut kind = None;
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(e) = next {
        let text = e.to_string();
        // Some libraries repeat their cause's words.
        if words.last() != Some(&text) {
            words.push(text);
        }
        // What is deeper says more: "connection reset" rather than "error sending request".
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
        // It does not parse, or HTTP/2 says that its rules were broken.
        ExchangeErrorKind::Protocol
    })
}

fn kind_of_io(error: &io::Error) -> Option<ExchangeErrorKind> {
    if tls::inside(error).is_some() {
        return Some(ExchangeErrorKind::Tls);
    }
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum of many kinds, of which a few are distinguished"
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
