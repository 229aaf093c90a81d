//! The contract from the suite's side: adapters that keep it, and adapters that break it in every way.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests say what went wrong by panicking"
)]

mod adapters;
mod documentation;
mod hostile;
mod memory;
mod runs;
mod support;
