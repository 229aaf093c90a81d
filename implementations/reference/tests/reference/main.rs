//! The reference data plane from outside: plans made by hand, servers of the tests' own.
#![allow(unreachable_pub, reason = "what the modules share stays in this program all the same")]
#![allow(clippy::unwrap_used, reason = "tests say what went wrong by panicking, their helpers too")]

mod http;
mod lifecycle;
mod saboteurs;
mod support;
mod tcp;
mod tls;
