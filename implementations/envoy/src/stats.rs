//! What an Envoy's statistics say of its configuration.

use std::collections::{BTreeMap, BTreeSet};

/// One look at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    texts: BTreeMap<String, String>,
    numbers: BTreeMap<String, u64>,
}

impl Stats {
    /// Reads `NAME: VALUE` lines; a text is in quotes. Anything else is passed over.
    pub(crate) fn read(answer: &str) -> Self {
        let mut stats = Self::default();
        for line in answer.lines() {
            // A name may hold a colon and a space; a value of ours does not.
            let Some((name, value)) = line.rsplit_once(": ") else { continue };
            if let Some(text) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
                stats.texts.insert(name.to_owned(), text.to_owned());
            } else if let Ok(number) = value.parse() {
                stats.numbers.insert(name.to_owned(), number);
            }
        }
        stats
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The versions in force of route configurations, or of secrets. Names are not compared: Envoy rewrites them.
    fn versions(&self, holds: impl Fn(&str) -> bool) -> BTreeSet<&str> {
        self.texts.iter().filter(|(name, _)| holds(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether this is in force, as far as the process's main thread is concerned.
    pub(crate) fn have(&self, wanted: &Wanted) -> bool {
        let routes = self.versions(|name| name.contains(".rds."));
        let told =
            |name: &str, version: &Option<String>| version.is_none() || self.text(name) == version.as_deref();
        told("cluster_manager.cds.version_text", &wanted.clusters)
            && told("listener_manager.lds.version_text", &wanted.listeners)
            && wanted.routes.iter().all(|v| routes.contains(v.as_str()))
            && self.number("cluster_manager.warming_clusters") == 0
            && self.number("listener_manager.total_listeners_warming") == 0
    }

    /// Whether these secrets are with Envoy.
    pub(crate) fn have_secrets(&self, wanted: &Wanted) -> bool {
        let secrets = self.versions(|name| name.starts_with("sds."));
        wanted.secrets.iter().all(|v| secrets.contains(v.as_str()))
    }

    /// Whether an update has been refused since then. Secrets do not count: an empty one is refused, and so it should be.
    pub(crate) fn refused_since(&self, before: &Self) -> bool {
        self.numbers.iter().any(|(name, now)| {
            name.ends_with(".update_rejected") && !name.starts_with("sds.") && *now > before.number(name)
        }) || self.number(CREATE_FAILURE) > before.number(CREATE_FAILURE)
    }

    /// Whether no request can come any more on connections of chains that are gone: nothing drains, or nobody is connected
    /// to them. Each is known by its `stat_prefix`.
    pub(crate) fn are_drained(&self, chains: &[String]) -> bool {
        let draining = self.number("listener_manager.total_listeners_draining")
            + self.number("listener_manager.total_filter_chains_draining");
        let connected = chains.iter().any(|c| self.number(&format!("http.{c}.downstream_cx_active")) > 0);
        draining == 0 || !connected
    }
}

const CREATE_FAILURE: &str = "listener_manager.listener_create_failure";

/// The versions that are to be in force; nothing is asked of what is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) clusters: Option<String>,
    pub(crate) listeners: Option<String>,
    pub(crate) routes: Vec<String>,
    pub(crate) secrets: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "cluster_manager.cds.version_text: \"c1\"\n\
        http.http.rds.inbound|80||.version_text: \"r1\"\n\
        listener_manager.lds.version_text: \"l1\"\n\
        sds.kubernetes_a.version_text: \"s1\"\n\
        cluster_manager.warming_clusters: 0\n\
        cluster_manager.cds.update_rejected: 2\n\
        sds.kubernetes_a.update_rejected: 7\n\
        nonsense\n";

    fn wanted() -> Wanted {
        let text = |t: &str| t.to_owned();
        Wanted {
            clusters: Some(text("c1")),
            listeners: Some(text("l1")),
            routes: vec![text("r1")],
            secrets: vec![text("s1")],
        }
    }

    #[test]
    fn what_was_asked_for_is_in_force_only_when_every_version_is() {
        let stats = Stats::read(ANSWER);
        assert!(stats.have(&wanted()) && stats.have_secrets(&wanted()));
        for (from, to) in [
            ("\"c1\"", "\"c0\""),
            ("\"r1\"", "\"r0\""),
            ("\"l1\"", "\"\""),
            ("warming_clusters: 0", "warming_clusters: 1"),
        ] {
            assert!(!Stats::read(&ANSWER.replace(from, to)).have(&wanted()), "{from}");
        }
        assert!(!Stats::read(&ANSWER.replace("\"s1\"", "\"\"")).have_secrets(&wanted()));
    }

    #[test]
    fn a_refusal_is_a_counter_that_grew_and_is_not_of_a_secret() {
        let before = Stats::read(ANSWER);
        let later = |from: &str, to: &str| Stats::read(&ANSWER.replace(from, to)).refused_since(&before);
        assert!(!before.refused_since(&before));
        assert!(later("cds.update_rejected: 2", "cds.update_rejected: 3"));
        assert!(!later("a.update_rejected: 7", "a.update_rejected: 8"));
    }

    #[test]
    fn drained_means_that_nothing_drains_or_nobody_is_connected_to_what_does() {
        let gone = ["20001_plain".to_owned()];
        let draining = "listener_manager.total_filter_chains_draining: 1\n";
        let one = "http.20001_plain.downstream_cx_active: 1\n";
        let other = "http.20001_mesh.downstream_cx_active: 1\n";
        let drained = |lines: &[&str]| Stats::read(&lines.concat()).are_drained(&gone);
        assert!(!drained(&[draining, one]));
        assert!(drained(&[draining, other]) && drained(&[one]));
    }
}
