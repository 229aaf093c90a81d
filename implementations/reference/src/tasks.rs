//! Everything that a data plane spawns, so that nothing is left when it stops.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one data plane. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct PlaneTasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl PlaneTasks {
    /// Runs a future until it completes or the data plane stops.
    pub(crate) fn spawn<F>(&self, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = future => {}
            }
        });
    }

    /// Asks every task to end.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }

    /// A token that is cancelled when the data plane stops, if not earlier.
    pub(crate) fn child(&self) -> CancellationToken {
        self.stop.child_token()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends every task and returns when none is left.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// hyper spawns tasks too (one per HTTP/2 stream); they belong to the data plane like all others.
impl<F> hyper::rt::Executor<F> for PlaneTasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}
