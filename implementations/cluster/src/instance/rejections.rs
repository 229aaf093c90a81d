//! What the proxies of a scenario refused of their configuration, by their own logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// How many refusals of one proxy are kept.
const MAX_REJECTIONS: usize = 20;

/// The refusals, by proxy.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Rejections {
    /// Keeps a refusal. Returns whether it is new: Envoy reports the same words once per subscription.
    pub(super) fn saw(&self, proxy: &str, words: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(proxy.to_owned()).or_default();
        known.len() < MAX_REJECTIONS && known.insert(words.to_owned())
    }

    /// What these proxies refused, to be appended to a message; empty if they refused nothing.
    pub(super) fn quoted<'a>(&self, proxies: impl IntoIterator<Item = &'a str>) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<String> = proxies
            .into_iter()
            .filter_map(|proxy| all.get(proxy).map(|words| (proxy, words)))
            .flat_map(|(proxy, words)| words.iter().map(move |w| format!("{proxy} refused {w}")))
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

    #[test]
    fn the_refusals_of_one_proxy_are_bounded() {
        let rejections = Rejections::default();
        let kept = (0..100).filter(|n| rejections.saw("sleep", &n.to_string())).count();
        assert_eq!(kept, MAX_REJECTIONS);
    }
}
