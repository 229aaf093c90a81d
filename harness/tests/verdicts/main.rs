//! What becomes of a scenario that goes wrong: who is blamed, what is lost (nothing), and what the exit code says. The
//! implementation here is a script.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what went wrong by panicking, and scripts what it is about"
)]

mod claims;
mod fake;
mod hunt;
mod live;
mod refusals;
mod requests;
mod runs;
mod windows;
