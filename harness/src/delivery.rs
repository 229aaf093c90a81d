//! How much of an answer has reached its client, while the answer is on its way: a server that sends one piece at a time
//! learns it before it sends the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The answers that are watched, by the token of their request. Clones share them.
#[derive(Clone, Default)]
pub struct Deliveries {
    watched: Arc<Mutex<HashMap<String, watch::Sender<Option<u64>>>>>,
    relay: Option<Arc<dyn Relay>>,
}

/// Where a process tells another what happens to deliveries: servers and clients may be in different processes.
pub trait Relay: Send + Sync {
    /// A server watches the answer to the request with this token.
    fn watches(&self, token: &str);

    /// It does so no longer.
    fn watched(&self, token: &str);

    /// A client has so many bytes of the body of this answer.
    fn arrived(&self, token: &str, bytes: u64);
}

impl Deliveries {
    /// Deliveries between this process and others.
    #[must_use]
    pub fn relayed(relay: Arc<dyn Relay>) -> Self {
        Self { relay: Some(relay), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Option<u64>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the answer to the request with this token. Where the client is in another process, the watch is in force when it
    /// has reached 0 bytes ([`Delivery::reaches`]).
    #[must_use]
    pub fn watch(&self, token: &str) -> Delivery {
        let (sender, arrived) = watch::channel(self.relay.is_none().then_some(0));
        self.lock().insert(token.to_owned(), sender);
        if let Some(relay) = &self.relay {
            relay.watches(token);
        }
        Delivery { all: self.clone(), token: token.to_owned(), arrived }
    }

    /// The client, in this process, has so many bytes of the body of this answer.
    pub fn arrived(&self, token: &str, bytes: u64) {
        self.heard(token, bytes);
        if let Some(relay) = &self.relay {
            relay.arrived(token, bytes);
        }
    }

    /// The client, in another process, has so many bytes of the body of this answer.
    pub fn heard(&self, token: &str, bytes: u64) {
        if let Some(watched) = self.lock().get(token) {
            watched.send_replace(Some(bytes));
        }
    }
}

/// An answer that is watched until this is dropped.
pub struct Delivery {
    all: Deliveries,
    token: String,
    arrived: watch::Receiver<Option<u64>>,
}

impl Delivery {
    /// Waits until the client has so many bytes of the body; false if it has fewer after `limit`.
    pub async fn reaches(&mut self, bytes: u64, limit: Duration) -> bool {
        let enough = self.arrived.wait_for(|arrived| arrived.is_some_and(|arrived| arrived >= bytes));
        matches!(tokio::time::timeout(limit, enough).await, Ok(Ok(_)))
    }

    /// Waits for the next news: how many bytes the client has. None once nothing more will be heard.
    pub async fn next(&mut self) -> Option<u64> {
        self.arrived.changed().await.ok()?;
        *self.arrived.borrow_and_update()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.all.lock().remove(&self.token);
        if let Some(relay) = &self.all.relay {
            relay.watched(&self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_learns_when_the_client_has_enough_and_when_it_has_not() {
        let deliveries = Deliveries::default();
        let mut delivery = deliveries.watch("t");
        assert!(delivery.reaches(0, Duration::ZERO).await);
        deliveries.arrived("t", 64);
        deliveries.arrived("another", 1000);
        assert!(delivery.reaches(64, Duration::from_secs(1)).await);
        assert!(!delivery.reaches(65, Duration::from_secs(1)).await);
        drop(delivery);
        assert!(deliveries.lock().is_empty());
    }

    #[derive(Default)]
    struct Noted(Mutex<Vec<String>>);

    impl Relay for Noted {
        fn watches(&self, token: &str) {
            self.0.lock().unwrap().push(format!("watches {token}"));
        }

        fn watched(&self, token: &str) {
            self.0.lock().unwrap().push(format!("watched {token}"));
        }

        fn arrived(&self, token: &str, bytes: u64) {
            self.0.lock().unwrap().push(format!("{token} {bytes}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn between_processes_a_watch_is_in_force_only_when_the_other_one_says_so() {
        let noted = Arc::new(Noted::default());
        let deliveries = Deliveries::relayed(noted.clone());
        let mut delivery = deliveries.watch("t");
        assert!(!delivery.reaches(0, Duration::from_secs(1)).await);
        deliveries.heard("t", 0);
        assert!(delivery.reaches(0, Duration::from_secs(1)).await);
        deliveries.arrived("another", 7);
        drop(delivery);
        assert_eq!(*noted.0.lock().unwrap(), ["watches t", "another 7", "watched t"]);
    }
}
