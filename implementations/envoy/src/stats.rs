//! What Envoy's statistics show about its configuration.

use std::collections::{BTreeMap, BTreeSet};

/// Envoy's statistics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvoyStats {
    texts: BTreeMap<String, String>,
    numbers: BTreeMap<String, u64>,
}

impl EnvoyStats {
    /// Reads `NAME: VALUE` lines; a text value is in quotes. Other lines are ignored.
    pub(crate) fn read(answer: &str) -> Self {
        let mut stats = Self::default();
        for line in answer.lines() {
            // A name may contain a colon and a space; the values read here do not.
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

    /// The versions in force of route configurations or secrets. Names are not compared because Envoy
    /// rewrites them.
    fn versions(&self, holds: impl Fn(&str) -> bool) -> BTreeSet<&str> {
        self.texts.iter().filter(|(name, _)| holds(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether the process's main thread has brought these versions into force.
    pub(crate) fn have(&self, expected: &ExpectedVersions) -> bool {
        let routes = self.versions(|name| name.contains(".rds."));
        let has =
            |name: &str, version: &Option<String>| version.is_none() || self.text(name) == version.as_deref();
        has("cluster_manager.cds.version_text", &expected.clusters)
            && has("listener_manager.lds.version_text", &expected.listeners)
            && expected.routes.iter().all(|v| routes.contains(v.as_str()))
            && self.number("cluster_manager.warming_clusters") == 0
            && self.number("listener_manager.total_listeners_warming") == 0
    }

    /// Whether Envoy has these secrets.
    pub(crate) fn have_secrets(&self, expected: &ExpectedVersions) -> bool {
        let secrets = self.versions(|name| name.starts_with("sds."));
        expected.secrets.iter().all(|v| secrets.contains(v.as_str()))
    }

    /// Whether Envoy has refused an update since then. Secrets do not count: Envoy refuses an empty one, on
    /// purpose.
    pub(crate) fn refused_since(&self, before: &Self) -> bool {
        self.numbers.iter().any(|(name, now)| {
            name.ends_with(".update_rejected") && !name.starts_with("sds.") && *now > before.number(name)
        }) || self.number(CREATE_FAILURE) > before.number(CREATE_FAILURE)
    }

    /// Whether no further request can come on connections of filter chains that were removed: nothing drains,
    /// or no client is connected to them. A chain is identified by its `stat_prefix`.
    pub(crate) fn are_drained(&self, chains: &[String]) -> bool {
        let draining = self.number("listener_manager.total_listeners_draining")
            + self.number("listener_manager.total_filter_chains_draining");
        let connected = chains.iter().any(|c| self.number(&format!("http.{c}.downstream_cx_active")) > 0);
        draining == 0 || !connected
    }
}

const CREATE_FAILURE: &str = "listener_manager.listener_create_failure";

/// The versions that must be in force; what is absent is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpectedVersions {
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

    fn wanted() -> ExpectedVersions {
        let text = |t: &str| t.to_owned();
        ExpectedVersions {
            clusters: Some(text("c1")),
            listeners: Some(text("l1")),
            routes: vec![text("r1")],
            secrets: vec![text("s1")],
        }
    }

    #[test]
    fn a_configuration_is_in_force_only_when_each_of_its_versions_is() {
        let stats = EnvoyStats::read(ANSWER);
        assert!(stats.have(&wanted()) && stats.have_secrets(&wanted()));
        for (from, to) in [
            ("\"c1\"", "\"c0\""),
            ("\"r1\"", "\"r0\""),
            ("\"l1\"", "\"\""),
            ("warming_clusters: 0", "warming_clusters: 1"),
        ] {
            assert!(!EnvoyStats::read(&ANSWER.replace(from, to)).have(&wanted()), "{from}");
        }
        assert!(!EnvoyStats::read(&ANSWER.replace("\"s1\"", "\"\"")).have_secrets(&wanted()));
    }

    #[test]
    fn a_refusal_is_a_counter_that_grew_except_for_secrets() {
        let before = EnvoyStats::read(ANSWER);
        let later = |from: &str, to: &str| EnvoyStats::read(&ANSWER.replace(from, to)).refused_since(&before);
        assert!(!before.refused_since(&before));
        assert!(later("cds.update_rejected: 2", "cds.update_rejected: 3"));
        assert!(!later("a.update_rejected: 7", "a.update_rejected: 8"));
    }

    #[test]
    fn chains_are_drained_when_nothing_drains_or_no_client_is_connected_to_them() {
        let gone = ["20001_plain".to_owned()];
        let draining = "listener_manager.total_filter_chains_draining: 1\n";
        let one = "http.20001_plain.downstream_cx_active: 1\n";
        let other = "http.20001_mesh.downstream_cx_active: 1\n";
        let drained = |lines: &[&str]| EnvoyStats::read(&lines.concat()).are_drained(&gone);
        assert!(!drained(&[draining, one]));
        assert!(drained(&[draining, other]) && drained(&[one]));
    }
}
