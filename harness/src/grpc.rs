//! gRPC over HTTP/2 (grpc.io, "gRPC over HTTP2"): calls that a client of the suite makes, and what its server answers.
//!
//! Client and server frame the messages themselves over hyper's HTTP/2. So every frame on the wire is in their hands: when a message
//! leaves, what the trailers say, and whether a stream was reset. A gRPC library hides exactly that.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The content type of a call.
pub const CONTENT_TYPE: &str = "application/grpc";
/// The trailer with the outcome.
pub const STATUS: &str = "grpc-status";
/// The header with the encoding of an answer's messages.
pub const ENCODING: &str = "grpc-encoding";
/// The encoding of all messages here: none.
pub const IDENTITY: &str = "identity";
/// The path of the method that answers each message with the same.
pub const ECHO: &str = "/meshproof.Talk/Echo";
/// The path of the method that is not answered before the call's deadline.
pub const LATE: &str = "/meshproof.Talk/Late";
/// The path of the method that answers each message with the same, and fails in the end.
pub const FAIL: &str = "/meshproof.Talk/Fail";
/// The trailer with the reason of a failure.
pub const MESSAGE: &str = "grpc-message";
/// The reason of a call that fails, percent-encoded as the protocol demands.
pub const REASON: &str = "no such talk: 100%25 sure";
/// The outcome of a call that asks for something that does not exist.
pub const NOT_FOUND: &str = "5";
/// The outcome of a call that went well.
pub const OK: &str = "0";
/// The outcome of a call that its client cancelled.
pub const CANCELLED: &str = "1";
/// The outcome of a call whose deadline has passed.
pub const DEADLINE_EXCEEDED: &str = "4";
/// The most bytes of a message.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The header with the time that a call may take.
pub const TIMEOUT: &str = "grpc-timeout";

/// A value of that header: at most eight digits and a unit (gRPC over HTTP2, "Requests").
#[must_use]
pub fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Each is sent when the one before was answered.
    pub messages: Vec<String>,
    /// Whether the client cancels the call when the last was answered, instead of ending its stream.
    pub cancels: bool,
}

impl Call {
    /// A call with these messages.
    #[must_use]
    pub fn of(messages: &[&str]) -> Self {
        Self { messages: messages.iter().map(|message| (*message).to_owned()).collect(), cancels: false }
    }

    /// The same, which the client cancels.
    #[must_use]
    pub fn cancelled(self) -> Self {
        Self { cancels: true, ..self }
    }

    /// All messages as they are sent.
    #[must_use]
    pub fn framed(&self) -> Bytes {
        self.messages.iter().map(|message| frame(message.as_bytes())).collect::<Vec<_>>().concat().into()
    }
}

/// How the record of a call begins that its client has cancelled.
const CANCELLED_BY_CLIENT: &str = "the client cancelled the call after ";

/// What the record of a call says that its client has cancelled.
#[must_use]
pub fn cancelled_after(answered: usize) -> String {
    format!("{CANCELLED_BY_CLIENT}{answered} messages")
}

/// Whether a record says that its client has cancelled.
#[must_use]
pub fn is_cancelled(record: &str) -> bool {
    record.starts_with(CANCELLED_BY_CLIENT)
}

/// A message with its prefix: not compressed, and its length.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Takes the first message out of what has arrived. None while it is not whole.
///
/// # Errors
/// It is compressed, or too long.
pub fn take(arrived: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
    let Some((prefix, rest)) = arrived.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    if compressed != 0 || length > MAX_MESSAGE {
        return Err("a gRPC message that is compressed or too long");
    }
    if rest.len() < length {
        return Ok(None);
    }
    Ok(Some(arrived.split_to(length + 5).split_off(5).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_again_however_they_arrive() {
        let sent = Call::of(&["first", "", "third"]).framed();
        let (mut arrived, mut found) = (BytesMut::new(), Vec::new());
        for byte in &sent {
            arrived.put_u8(*byte);
            found.extend(take(&mut arrived).unwrap());
        }
        assert_eq!(found, ["first", "", "third"]);
        assert!(take(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])).is_err());
    }
}
