//! The delays between two looks at a condition that nothing announces.

use std::time::Duration;

/// The longest delay.
const LONGEST: Duration = Duration::from_millis(15);

/// Delays that double from a fraction of a millisecond to [`LONGEST`].
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self(Duration::from_micros(250))
    }

    /// Waits for the next delay.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}
