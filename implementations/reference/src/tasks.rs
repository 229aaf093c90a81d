//! Everything that a data plane starts, so that nothing is left when it stops.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one data plane. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a future until it ends or the data plane stops.
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

    /// Tells every task to end.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }

    /// A token that ends with the data plane, or earlier.
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

/// hyper's own tasks (HTTP/2 streams) are ours too.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}
