//! A moment in which requests are refused.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::Saboteur;
use crate::registry::Registry;
use crate::state::State;

/// How long an outage waits for a request to refuse.
const NOTICED: Duration = Duration::from_millis(500);

const NONE: u8 = 0;
const ONGOING: u8 = 1;
const FELT: u8 = 2;

/// What [`Saboteur::OutageWhileRotating`] is at.
#[derive(Default)]
pub(crate) struct Outage(AtomicU8);

impl Outage {
    /// Has one, if the change from `old` to `new` replaces a credential; returns when somebody has felt it, or nobody is
    /// there to.
    pub(crate) async fn pass(
        &self,
        saboteur: Option<Saboteur>,
        old: &State,
        new: &State,
        registry: &Registry,
    ) {
        if saboteur != Some(Saboteur::OutageWhileRotating) || !new.rotates(old) {
            return;
        }
        self.0.store(ONGOING, Ordering::SeqCst);
        registry.wait(NOTICED, || self.0.load(Ordering::SeqCst) == FELT).await;
        self.0.store(NONE, Ordering::SeqCst);
    }

    /// Whether a request that comes now is refused.
    pub(crate) fn refuses(&self) -> bool {
        match self.0.compare_exchange(ONGOING, FELT, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(now) => now == FELT,
        }
    }
}
