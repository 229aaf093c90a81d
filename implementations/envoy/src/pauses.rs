//! Between two looks at whether a condition holds.

use std::time::Duration;

/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(15);

/// Pauses that grow from nothing to [`PAUSE`].
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self(Duration::from_micros(250))
    }

    /// Waits a little, and each time a little longer.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE);
    }
}
