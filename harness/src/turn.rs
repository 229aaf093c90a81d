//! Whose turn it is: so many scenarios run side by side.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// A scenario's turn. It ends when it is dropped.
pub(crate) struct Turn {
    places: Arc<Semaphore>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
    may_rest: bool,
}

impl Turn {
    /// Waits for a turn. `may_rest`: whether another scenario may begin while this one rests.
    pub(crate) async fn wait(places: &Arc<Semaphore>, may_rest: bool) -> Self {
        // An error would mean that the semaphore was closed, which does not happen.
        let place = Arc::clone(places).acquire_owned().await.ok();
        Self { places: Arc::clone(places), place: Mutex::new(place), may_rest }
    }

    /// Does something that takes time and no computing. Another scenario may have its turn meanwhile.
    pub(crate) async fn resting<T>(&self, work: impl Future<Output = T>) -> T {
        if !self.may_rest {
            return work.await;
        }
        let mut place = self.place.lock().await;
        drop(place.take());
        let done = work.await;
        *place = Arc::clone(&self.places).acquire_owned().await.ok();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    async fn two(may_rest: bool) -> Duration {
        let places = Arc::new(Semaphore::new(1));
        let begun = Instant::now();
        let one = async || {
            let turn = Turn::wait(&places, may_rest).await;
            turn.resting(sleep(Duration::from_secs(1))).await;
        };
        tokio::join!(one(), one());
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn scenarios_rest_at_the_same_time_unless_each_must_be_alone() {
        assert_eq!(two(true).await, Duration::from_secs(1));
        assert_eq!(two(false).await, Duration::from_secs(2));
    }
}
