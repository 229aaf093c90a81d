//! The delays between two attempts, or between two looks at a condition that nothing announces.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Delays that double from the first to the longest, without end. The caller bounds the whole wait.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    longest: Duration,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// Begins with the delay `first`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .with_factor(2.0)
            .without_max_times();
        Self { builder, longest, delays: builder.build() }
    }

    /// The next delay.
    pub fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.longest)
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.delay()).await;
    }

    /// Begins again with the first delay.
    pub fn reset(&mut self) {
        self.delays = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_begin_again_after_a_reset() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(500));
        let delays: Vec<u128> = (0..6).map(|_| backoff.delay().as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 500, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.delay(), ms(100));
    }

    #[test]
    fn there_is_always_a_next_delay() {
        let longest = Duration::from_secs(1);
        let mut backoff = Backoff::new(Duration::from_nanos(1), longest);
        assert_eq!((0..10_000).map(|_| backoff.delay()).last(), Some(longest));
    }
}
