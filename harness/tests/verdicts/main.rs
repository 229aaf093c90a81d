//! Scenarios that fail: whose fault it is, that no evidence is lost, and which exit code follows. The
//! implementation here is a script.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what went wrong by panicking, and scripts what it is about"
)]

mod claims;
mod fake;
mod formats;
mod hunt;
mod live;
mod needless;
mod refusals;
mod requests;
mod runs;
mod windows;
