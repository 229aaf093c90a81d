//! The reference data plane from outside, with handmade plans and the tests' own servers.
#![allow(
    unreachable_pub,
    reason = "items that the modules share are not visible outside this program anyway"
)]
#![allow(clippy::unwrap_used, reason = "tests and their helpers report failures by panicking")]

mod benign;
mod http;
mod lifecycle;
mod placements;
mod saboteurs;
mod situation;
mod support;
mod tcp;
mod tls;
