//! The workload's client in a cluster is curl, run in its pod: its command line, and what its output shows.
//!
//! curl's trace (`--trace`, on standard error) has every byte that it wrote and every header that it read, as
//! hexadecimal; standard output has the last response's body; `--write-out` adds the server's certificates.

mod command;
mod exit_code;
mod output;
mod trace;

pub use command::{CurlCommand, MAX_BODY, MAX_TRACE, Route, command};
pub use output::exchange;
