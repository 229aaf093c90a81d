//! What [`crate::mesh::Client::under_load`] relies on: an external service that holds responses back until it is asked to
//! release them. The embedded server keeps this contract ([`crate::external::Documented::Embedded`]).

/// The length in bytes of a response that is held back. The server sends the first half at once.
pub const HELD_BODY: usize = 4096;

/// A GET whose response is held back until its key is released: 200 with `HELD_BODY` bytes ([`crate::digest::sample`]).
#[must_use]
pub fn hold(key: &str) -> String {
    format!("/hold/{key}")
}

/// A GET that is answered with 200 as soon as this many responses are held back under this key.
#[must_use]
pub fn held(key: &str, count: usize) -> String {
    format!("/held/{key}/{count}")
}

/// A GET that releases what is held back under this key, now and later, and is answered with 200.
#[must_use]
pub fn release(key: &str) -> String {
    format!("/release/{key}")
}

/// A GET that is answered at once: 200 with this many bytes ([`crate::digest::sample`]).
#[must_use]
pub fn bytes(count: usize) -> String {
    format!("/bytes/{count}")
}
