//! The delays between two looks at a condition that Envoy does not announce.

use std::time::Duration;

use meshproof_harness::backoff::Backoff;

/// The first and the longest delay.
const DELAYS: (Duration, Duration) = (Duration::from_micros(250), Duration::from_millis(15));

pub(crate) fn backoff() -> Backoff {
    Backoff::new(DELAYS.0, DELAYS.1)
}
