//! How the suite knows that logs are complete: it asks each proxy and each server at a place of its own, with a token of its own,
//! and when that line has come, whatever was logged before has come, too. (Envoy buffers its log and flushes it once a second, with
//! Istio's arguments; a log is one stream, in order.)

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

/// How many tokens are remembered; those of a moment ago.
const REMEMBERED: usize = 4096;

/// The tokens that were seen, by who logged them.
#[derive(Debug)]
pub(super) struct Fences {
    seen: watch::Sender<BTreeSet<(String, String)>>,
}

impl Default for Fences {
    fn default() -> Self {
        Self { seen: watch::Sender::new(BTreeSet::new()) }
    }
}

impl Fences {
    pub(super) fn saw(&self, who: &str, token: &str) {
        self.seen.send_modify(|seen| {
            if seen.len() >= REMEMBERED {
                seen.pop_first();
            }
            seen.insert((token.to_owned(), who.to_owned()));
        });
    }

    /// Returns when all of these have logged the token; else those that have not.
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
    async fn everybody_is_waited_for_and_who_stays_silent_is_named() {
        let fences = Fences::default();
        let who = ["sleep".to_owned(), "gateway".to_owned()];
        fences.saw("sleep", "t1");
        fences.saw("gateway", "t0");
        let silent = fences.wait(&who, "t1", Duration::from_millis(1)).await;
        assert_eq!(silent, Err(vec!["gateway".to_owned()]));
        let (waited, ()) = tokio::join!(fences.wait(&who, "t1", Duration::from_secs(5)), async {
            fences.saw("gateway", "t1")
        });
        assert_eq!(waited, Ok(()));
    }
}
