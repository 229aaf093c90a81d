//! What the proxies of a scenario refused of their configuration, by their own logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many refusals of one proxy are kept.
const MAX_REJECTIONS: usize = 20;

/// istiod combines changes for at most this long before it sends them (istio.io/istio, pilot/pkg/features,
/// `PILOT_DEBOUNCE_MAX`), so what would replace a refused configuration is sent after that at the latest.
pub(super) const REPLACED: Duration = Duration::from_secs(10);

/// The refusals, by proxy.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<BTreeMap<String, OfProxy>>);

#[derive(Debug, Default)]
struct OfProxy {
    words: BTreeSet<String>,
    latest: Option<Instant>,
}

impl Rejections {
    /// Keeps a refusal. Returns whether it is new: Envoy reports the same words once per subscription.
    pub(super) fn saw(&self, proxy: &str, words: &str) -> bool {
        let mut all = self.all();
        let known = all.entry(proxy.to_owned()).or_default();
        known.latest = Some(Instant::now());
        known.words.len() < MAX_REJECTIONS && known.words.insert(words.to_owned())
    }

    /// Whether the proxy has refused something since then, and nothing more came for longer than [`REPLACED`].
    pub(super) fn stands(&self, proxy: &str, since: Instant) -> bool {
        let latest = self.all().get(proxy).and_then(|known| known.latest);
        latest.is_some_and(|latest| latest >= since && latest.elapsed() > REPLACED)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, OfProxy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What these proxies refused, to be appended to a message; empty if they refused nothing.
    pub(super) fn quoted<'a>(&self, proxies: impl IntoIterator<Item = &'a str>) -> String {
        let all = self.all();
        let words: Vec<String> = proxies
            .into_iter()
            .filter_map(|proxy| all.get(proxy).map(|known| (proxy, known)))
            .flat_map(|(proxy, known)| known.words.iter().map(move |w| format!("{proxy} refused {w}")))
            .collect();
        if words.is_empty() { String::new() } else { format!(". {}", words.join(". ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_kept_once_and_quoted_for_its_proxy() {
        let rejections = Rejections::default();
        assert!(rejections.saw("sleep", "RouteConfiguration: no cluster"));
        assert!(!rejections.saw("sleep", "RouteConfiguration: no cluster"));
        assert_eq!(rejections.quoted(["gateway"]), "");
        let quoted = rejections.quoted(["gateway", "sleep"]);
        assert_eq!(quoted, ". sleep refused RouteConfiguration: no cluster");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_stands_if_nothing_replaces_it_in_time_and_it_is_not_older_than_the_change() {
        let rejections = Rejections::default();
        let change = Instant::now();
        assert!(!rejections.stands("sleep", change));
        rejections.saw("sleep", "RouteConfiguration: no cluster");
        assert!(!rejections.stands("sleep", change));
        tokio::time::advance(REPLACED * 2).await;
        assert!(rejections.stands("sleep", change));
        assert!(!rejections.stands("sleep", Instant::now()), "of an earlier change");
        rejections.saw("sleep", "RouteConfiguration: no cluster");
        assert!(!rejections.stands("sleep", change), "the same words count as a refusal of this change");
    }

    #[test]
    fn the_refusals_of_one_proxy_are_bounded() {
        let rejections = Rejections::default();
        let kept = (0..100).filter(|n| rejections.saw("sleep", &n.to_string())).count();
        assert_eq!(kept, MAX_REJECTIONS);
    }
}
