//! Load balancing by locality, which the plan passes over and istiod validates
//! (`ValidateLocalityLbSetting` and `ValidateZoneAwareLbSetting` in pkg/config/validation/agent/validation.go).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::problems::Problems;

/// LocalityLoadBalancerSetting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LocalitySetting {
    #[serde(default)]
    distribute: Vec<Distribute>,
    #[serde(default)]
    failover: Vec<Failover>,
    #[serde(default)]
    failover_priority: Vec<String>,
    #[serde(default, rename = "enabled")]
    _enabled: Option<bool>,
}

/// ZoneAwareLoadBalancerSetting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ZoneAwareSetting {
    #[serde(default)]
    failover: Vec<Failover>,
    #[serde(default)]
    failover_priority: Vec<String>,
    #[serde(default, rename = "enabled")]
    _enabled: Option<bool>,
    #[serde(default, rename = "minClusterSize")]
    _min_cluster_size: Option<u32>,
}

/// LocalityLoadBalancerSetting.Distribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Distribute {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: BTreeMap<String, u32>,
}

/// Failover, of either setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failover {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

impl LocalitySetting {
    /// `ValidateLocalityLbSetting`. `outliers`: whether the policy has `outlierDetection`.
    pub(crate) fn validate(&self, outliers: bool, problems: &mut Problems) {
        if !self.distribute.is_empty() && !self.failover.is_empty() {
            problems.error("can not simultaneously specify 'distribute' and 'failover'");
            return;
        }
        let topology = self.failover_priority.iter().find(|l| TOPOLOGY.contains(&l.as_str()));
        if let Some(label) = topology.filter(|_| !self.failover.is_empty()) {
            problems.error(format!(
                "can not simultaneously set 'failover' and topology label '{label}' in 'failover_priority'"
            ));
            return;
        }
        for distribute in &self.distribute {
            if distribute.to.values().any(|weight| !(1..=100).contains(weight)) {
                problems.error("locality weight must be in range [1, 100]");
                return;
            }
            let total: u32 = distribute.to.values().sum();
            if total != 100 {
                problems.error(format!("total locality weight {total} != 100"));
                return;
            }
            problems.check(localities(distribute.to.keys()));
        }
        problems.check(localities(self.distribute.iter().map(|d| &d.from)));
        outlier_detection(&self.failover, &self.failover_priority, outliers, problems);
        let only = "locality lb failover only specify region";
        failovers(&self.failover, "locality lb failover", only, problems);
    }
}

impl ZoneAwareSetting {
    /// `ValidateZoneAwareLbSetting`. `outliers`: whether the policy has `outlierDetection`.
    pub(crate) fn validate(&self, outliers: bool, problems: &mut Problems) {
        for label in self.failover_priority.iter().filter(|l| TOPOLOGY.contains(&l.as_str())) {
            problems.error(format!(
                "'failover_priority' for zone aware lb must not use topology label '{label}'; region- and \
                 zone-level routing are handled automatically"
            ));
        }
        outlier_detection(&self.failover, &self.failover_priority, outliers, problems);
        let only = "zone aware lb failover only specifies region; zone and subzone failover are handled \
                    automatically";
        failovers(&self.failover, "zone aware lb failover", only, problems);
    }
}

fn outlier_detection(failover: &[Failover], priority: &[String], there: bool, problems: &mut Problems) {
    let fails_over = !failover.is_empty() || !priority.is_empty();
    if fails_over && !there {
        problems.warn("outlier detection policy must be provided for failover");
    }
}

fn failovers(all: &[Failover], name: &str, only_regions: &str, problems: &mut Problems) {
    for failover in all {
        let either = |c: char| failover.from.contains(c) || failover.to.contains(c);
        if failover.from == failover.to {
            problems.error(format!("{name} settings must specify different regions"));
        }
        if either('/') {
            problems.error(only_regions);
        }
        if either('*') {
            problems.error(format!("{name} region should not contain '*' wildcard"));
        }
    }
}

/// `validateLocalities`: region, zone and subzone, of which a shorter one covers all that begin as it does.
fn localities<'a>(all: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut known: Vec<Vec<&str>> = Vec::new();
    for locality in all {
        let stars = locality.matches('*').count();
        if stars > 1 || (stars == 1 && !locality.ends_with('*')) {
            return Err(format!(
                "locality {locality} wildcard '*' number can not exceed 1 and must be in the end"
            ));
        }
        let overlap = || format!("locality {locality} overlap with previous specified ones");
        if known.iter().any(|other| other.first() == Some(&"*")) {
            return Err(overlap());
        }
        let parts: Vec<&str> = locality.splitn(3, '/').collect();
        if parts.contains(&"") {
            return Err(format!("locality {locality} must not contain empty region/zone/subzone info"));
        }
        if known.iter().any(|other| overlaps(&parts, other)) {
            return Err(overlap());
        }
        known.push(parts);
    }
    Ok(())
}

/// Whether a locality names places that an earlier one names. A `*` after a region or zone stands for all of it.
fn overlaps(new: &[&str], known: &[&str]) -> bool {
    let covers = |known: Option<&&str>| matches!(known, None | Some(&"*"));
    let [region, rest @ ..] = new else { return false };
    if known.first() != Some(region) {
        return false;
    }
    let [zone, rest @ ..] = rest else { return true };
    if covers(known.get(1)) {
        return true;
    }
    if known.get(1) != Some(zone) {
        return false;
    }
    let [subzone] = rest else { return true };
    covers(known.get(2)) || known.get(2) == Some(subzone)
}
