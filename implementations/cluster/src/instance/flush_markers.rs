//! How the suite knows that logs are complete: it sends each proxy and each server a request with a token of
//! its own, a flush marker. A log is one stream in order, so when the marker's line has arrived, everything
//! that was logged before has arrived as well. (Envoy buffers its log and flushes it once per second, with
//! Istio's arguments.)

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

/// How many tokens are remembered.
const REMEMBERED: usize = 4096;

/// The tokens that were seen, with the name of the proxy or server that logged them.
#[derive(Debug)]
pub(super) struct FlushMarkers {
    seen: watch::Sender<BTreeSet<(String, String)>>,
}

impl Default for FlushMarkers {
    fn default() -> Self {
        Self { seen: watch::Sender::new(BTreeSet::new()) }
    }
}

impl FlushMarkers {
    pub(super) fn saw(&self, who: &str, token: &str) {
        self.seen.send_modify(|seen| {
            if seen.len() >= REMEMBERED {
                seen.pop_first();
            }
            seen.insert((token.to_owned(), who.to_owned()));
        });
    }

    /// Returns when all of these have logged the token; otherwise those that have not.
    pub(super) async fn wait(&self, who: &[String], token: &str, limit: Duration) -> Result<(), Vec<String>> {
        let mut watched = self.seen.subscribe();
        let missing = |seen: &BTreeSet<(String, String)>| -> Vec<String> {
            who.iter().filter(|w| !seen.contains(&(token.to_owned(), (*w).clone()))).cloned().collect()
        };
        let all = watched.wait_for(|seen| missing(seen).is_empty());
        let arrived = tokio::time::timeout(limit, all).await.is_ok_and(|ended| ended.is_ok());
        if arrived { Ok(()) } else { Err(missing(&self.seen.borrow())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_are_waited_for_and_those_that_stay_silent_are_named() {
        let markers = FlushMarkers::default();
        let who = ["sleep".to_owned(), "gateway".to_owned()];
        markers.saw("sleep", "t1");
        markers.saw("gateway", "t0");
        let silent = markers.wait(&who, "t1", Duration::from_millis(1)).await;
        assert_eq!(silent, Err(vec!["gateway".to_owned()]));
        let (waited, ()) = tokio::join!(markers.wait(&who, "t1", Duration::from_secs(5)), async {
            markers.saw("gateway", "t1")
        });
        assert_eq!(waited, Ok(()));
    }
}
