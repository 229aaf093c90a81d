//! The contract from the suite's side: adapters that keep it, and adapters that break it in every known way.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers report failures by panicking"
)]

mod adapters;
mod documentation;
mod hostile;
mod memory;
mod runs;
mod support;
