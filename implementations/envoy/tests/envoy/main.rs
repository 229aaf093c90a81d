//! Plans on a real Envoy. Where Envoy is not installed, every test prints that it is skipped; with
//! `MESHPROOF_REQUIRE_INSTALLED=1` it fails instead.

#![allow(clippy::unwrap_used, reason = "tests and their helpers report failures by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test prints why")]

mod applying;
mod lifecycle;
mod scenarios;
mod settling;
mod support;
