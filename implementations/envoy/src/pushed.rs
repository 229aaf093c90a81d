//! The configuration that was pushed to a proxy, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::map::{ListenerConfig, ProxyConfig};
use crate::secret_files::SecretFiles;
use crate::stats::EnvoyStats;

/// What was pushed to one proxy.
#[derive(Default)]
pub(crate) struct PushedConfig {
    /// What is in force.
    pub(crate) config: ProxyConfig,
    /// What is being brought into force.
    pub(crate) next: ProxyConfig,
    pub(crate) secret_files: SecretFiles,
    versions: u64,
    /// The versions of the route configurations in `config`.
    pub(crate) routes: BTreeMap<String, String>,
    /// As last read.
    pub(crate) stats: EnvoyStats,
    /// Whether the watched files may differ from `config`.
    pub(crate) unsure: bool,
}

impl PushedConfig {
    /// A version that was never used before.
    pub(crate) fn version(&mut self, kind: &str) -> String {
        self.versions += 1;
        format!("{kind}{}", self.versions)
    }

    /// The versions of the secrets with these names, as far as the secrets exist.
    pub(crate) fn secrets(&self, used: &BTreeSet<String>) -> Vec<String> {
        let present = self.secret_files.present().into_iter().filter(|(name, _)| used.contains(name));
        present.map(|(_, version)| version).collect()
    }
}

/// The names of the credentials that the clusters get over SDS.
pub(crate) fn of_clusters(config: &ProxyConfig) -> BTreeSet<String> {
    config.clusters.values().flat_map(|cluster| cluster.credentials.keys().cloned()).collect()
}

/// The names of the credentials that the listeners get over SDS.
pub(crate) fn of_listeners(config: &ProxyConfig) -> BTreeSet<String> {
    config.listeners.values().flat_map(|listener| listener.credentials.keys().cloned()).collect()
}

/// The `stat_prefix` of every HTTP filter chain of `old` that `new` lacks or changes.
pub(crate) fn lost_chains(old: &ProxyConfig, new: &ProxyConfig) -> Vec<String> {
    let mut lost = Vec::new();
    for (name, before) in &old.listeners {
        let kept = new.listeners.get(name).map_or(&[][..], chains);
        let gone = chains(before).iter().filter(|chain| !kept.contains(chain));
        lost.extend(gone.filter_map(|chain| {
            let filter = &chain["filters"][0];
            let speaks_http = filter["name"] == "envoy.filters.network.http_connection_manager";
            filter["typed_config"]["stat_prefix"].as_str().filter(|_| speaks_http).map(str::to_owned)
        }));
    }
    lost
}

fn chains(listener: &ListenerConfig) -> &[Value] {
    listener.value["filter_chains"].as_array().map(Vec::as_slice).unwrap_or_default()
}
