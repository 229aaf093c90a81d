//! Plans on a real Envoy. Without one installed every test skips itself and says so; with
//! `MESHPROOF_REQUIRE_INSTALLED=1` it fails instead.

mod applying;
mod lifecycle;
mod scenarios;
mod settling;
mod support;
