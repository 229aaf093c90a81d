//! What a proxy was told, and what that makes necessary.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::map::{Config, Leading, Listening};
use crate::stats::Stats;
use crate::vault::Vault;

/// What a proxy was told.
#[derive(Default)]
pub(crate) struct Told {
    /// What is in force.
    pub(crate) config: Config,
    /// What is being brought into force.
    pub(crate) next: Config,
    pub(crate) vault: Vault,
    versions: u64,
    /// The versions of the route configurations in `config`.
    pub(crate) routes: BTreeMap<String, String>,
    /// As last looked at.
    pub(crate) stats: Stats,
    /// What is in its files may differ from `config`.
    pub(crate) unsure: bool,
}

impl Told {
    /// A version that was never used before.
    pub(crate) fn version(&mut self, kind: &str) -> String {
        self.versions += 1;
        format!("{kind}{}", self.versions)
    }

    /// The versions of the secrets that these clusters use, as far as there are any.
    pub(crate) fn secrets(&self, clusters: &BTreeMap<String, Leading>) -> Vec<String> {
        let uses = credentials(clusters);
        let there = self.vault.present().into_iter().filter(|(name, _)| uses.contains(name));
        there.map(|(_, version)| version).collect()
    }
}

/// The names of the credentials that these clusters get over SDS.
pub(crate) fn credentials(clusters: &BTreeMap<String, Leading>) -> BTreeSet<String> {
    clusters.values().flat_map(|cluster| cluster.credentials.keys().cloned()).collect()
}

/// The `stat_prefix` of every HTTP chain that is there in `old` and not as it was in `new`.
pub(crate) fn lost_chains(old: &Config, new: &Config) -> Vec<String> {
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

fn chains(listener: &Listening) -> &[Value] {
    listener.value["filter_chains"].as_array().map(Vec::as_slice).unwrap_or_default()
}
