//! The timeouts that the contract names.

use std::time::Duration;

use meshproof_harness::timeouts::{Timeout, Timeouts};

/// The contract's timeouts with their values in this run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdapterTimeouts {
    /// `adapter-hello`
    pub(crate) hello: Duration,
    /// `adapter-answer`
    pub(crate) answer: Duration,
    /// `adapter-stop`
    pub(crate) stop: Duration,
}

impl AdapterTimeouts {
    pub(crate) fn of(timeouts: &Timeouts) -> Self {
        Self {
            hello: timeouts.get(Timeout::AdapterHello),
            answer: timeouts.get(Timeout::AdapterAnswer),
            stop: timeouts.get(Timeout::AdapterStop),
        }
    }
}
