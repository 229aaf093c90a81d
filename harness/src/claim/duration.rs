//! Claims about how long an answer took.

use std::time::Duration;

use meshproof_model::{Field, ValueKind};

use super::deviation::{Odd, What};
use super::{Claim, Reply};

impl Reply {
    /// How long the exchange took, redirects included.
    #[must_use]
    pub fn took(&self) -> Duration {
        Duration::from_micros(self.exchange.duration_us)
    }

    /// The exchange ended within this time, however it ended. A busy machine is slow as well: give it a control.
    pub fn ended_within(&self, limit: Duration) -> Claim {
        let odd = || {
            let words = format!("{} after {} ms", self.describe(), self.took().as_millis());
            Odd::being(ValueKind::Timeout, words)
        };
        self.fixed(
            // Any answer will do, so a failed handshake is no explanation.
            What::of(Field::Response).being(ValueKind::Other),
            format!("an answer within {} ms", limit.as_millis()),
            (self.took() <= limit).then_some(()).ok_or_else(odd),
        )
    }
}
