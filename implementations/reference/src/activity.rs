//! What a data plane waits for before it reports that everything that ended is logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Wakes the waiting task whenever a connection or request ends, and counts upstream connections that are
/// closing.
#[derive(Default)]
pub(crate) struct Activity {
    closing: AtomicUsize,
    changed: Notify,
}

impl Activity {
    /// Something ended.
    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// An upstream connection lost its last user and is about to close. It counts until the guard is dropped.
    pub(crate) fn closing(self: &Arc<Self>) -> ClosingUpstream {
        self.closing.fetch_add(1, Ordering::SeqCst);
        ClosingUpstream(Arc::clone(self))
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst) > 0
    }

    /// Returns when a condition holds or `bound` has passed. The condition is evaluated whenever something
    /// ends, and every millisecond besides: reading from a socket sends no notification.
    pub(crate) async fn wait(&self, bound: Duration, holds: impl Fn() -> bool) {
        const LOOK_AGAIN: Duration = Duration::from_millis(1);
        let last = Instant::now() + bound;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() || Instant::now() >= last {
                return;
            }
            let _ = tokio::time::timeout_at(Instant::now() + LOOK_AGAIN, changed).await;
        }
    }
}

/// See [`Activity::closing`].
pub(crate) struct ClosingUpstream(Arc<Activity>);

impl Drop for ClosingUpstream {
    fn drop(&mut self) {
        self.0.closing.fetch_sub(1, Ordering::SeqCst);
        self.0.notify();
    }
}
