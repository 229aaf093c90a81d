//! Plans on a real Envoy. Without one installed every test skips itself and says so; with
//! `MESHPROOF_REQUIRE_INSTALLED=1` it fails instead.

#![allow(clippy::unwrap_used, reason = "tests say what went wrong by panicking, their helpers too")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod applying;
mod lifecycle;
mod scenarios;
mod settling;
mod support;
