//! How much of an answer has reached its client, while the answer is on its way: a server that sends one piece at a time
//! learns it before it sends the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The answers that are watched, by the token of their request. Clones share them.
#[derive(Clone, Default)]
pub struct Deliveries(Arc<Mutex<HashMap<String, watch::Sender<u64>>>>);

impl Deliveries {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the answer to the request with this token.
    #[must_use]
    pub fn watch(&self, token: &str) -> Delivery {
        let (sender, arrived) = watch::channel(0);
        self.lock().insert(token.to_owned(), sender);
        Delivery { all: self.clone(), token: token.to_owned(), arrived }
    }

    /// The client has so many bytes of the body of this answer.
    pub fn arrived(&self, token: &str, bytes: u64) {
        if let Some(watched) = self.lock().get(token) {
            watched.send_replace(bytes);
        }
    }
}

/// An answer that is watched until this is dropped.
pub struct Delivery {
    all: Deliveries,
    token: String,
    arrived: watch::Receiver<u64>,
}

impl Delivery {
    /// Waits until the client has so many bytes of the body; false if it has fewer after `limit`.
    pub async fn reaches(&mut self, bytes: u64, limit: Duration) -> bool {
        let enough = self.arrived.wait_for(|arrived| *arrived >= bytes);
        matches!(tokio::time::timeout(limit, enough).await, Ok(Ok(_)))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.all.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_learns_when_the_client_has_enough_and_when_it_has_not() {
        let deliveries = Deliveries::default();
        let mut delivery = deliveries.watch("t");
        deliveries.arrived("t", 64);
        deliveries.arrived("another", 1000);
        assert!(delivery.reaches(64, Duration::from_secs(1)).await);
        assert!(!delivery.reaches(65, Duration::from_secs(1)).await);
        drop(delivery);
        assert!(deliveries.lock().is_empty());
    }
}
