//! Which DestinationRule a proxy follows for a service, and what it says of a port and subset.

use std::collections::BTreeSet;

use meshproof_model::ResourceId;

use super::input::Proxy;
use super::registry::Service;
use crate::resources::Named;
use crate::resources::common::labels_match;
use crate::resources::destination_rule::{ClientTls, ClientTlsMode, DestinationRule, Subset, TrafficPolicy};
use crate::resources::hosts::{most_specific, qualified};
use crate::resources::traffic_policy::{ConnectionPool, LoadBalancer};

/// One or several rules for one host, merged.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) rule: Named<DestinationRule>,
    /// The rules that it is merged from.
    pub(crate) from: Vec<ResourceId>,
    host: String,
    export_to: BTreeSet<String>,
}

impl Merged {
    fn selector(&self) -> Option<&std::collections::BTreeMap<String, String>> {
        self.rule.spec.workload_selector.as_ref().map(|s| &s.match_labels)
    }

    /// Whether the rule has a `workloadSelector`.
    pub(crate) fn selects_workloads(&self) -> bool {
        self.rule.spec.workload_selector.is_some()
    }
}

/// All rules, as `setDestinationRules` (pilot/pkg/model/push_context.go) indexes them.
pub(crate) struct DestinationRules {
    local: Vec<Merged>,
    exported: Vec<Merged>,
    root_local: Vec<Merged>,
    root: String,
}

impl DestinationRules {
    /// Merges what is to be merged. Subsets that are lost to an older one of the same name are warned of.
    pub(crate) fn index(
        rules: &[Named<DestinationRule>],
        root: &str,
        default_export_to: &[String],
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut index =
            Self { local: Vec::new(), exported: Vec::new(), root_local: Vec::new(), root: root.to_owned() };
        // Rules with a selector first, then by age (sortConfigBySelectorAndCreationTime).
        let (with, without): (Vec<_>, Vec<_>) =
            rules.iter().partition(|r| r.spec.workload_selector.is_some());
        for rule in with.into_iter().chain(without) {
            let namespace = &rule.id.namespace;
            let export_to: BTreeSet<String> = if rule.spec.workload_selector.is_some() {
                BTreeSet::from([".".to_owned()])
            } else {
                rule.spec.export_to.iter().cloned().collect()
            };
            let merged = Merged {
                rule: rule.clone(),
                from: vec![rule.id.clone()],
                host: qualified(&rule.spec.host, namespace),
                export_to: export_to.clone(),
            };
            let reaches_own =
                export_to.is_empty() || [".", "*", namespace].into_iter().any(|e| export_to.contains(e));
            if reaches_own {
                add(&mut index.local, merged.clone(), warnings);
            }
            let private = if export_to.is_empty() {
                default_export_to.iter().any(|e| e == ".")
            } else {
                export_to.len() == 1 && (export_to.contains(".") || export_to.contains(namespace))
            };
            if !private {
                add(&mut index.exported, merged, &mut Vec::new());
            } else if namespace == root {
                add(&mut index.root_local, merged, &mut Vec::new());
            }
        }
        index
    }

    /// `destinationRule` (push_context.go), then `SidecarScope.DestinationRule` (sidecar.go): the proxy's namespace, then
    /// the service's as far as exported, then the root namespace as far as exported; of those found, the one whose
    /// selector matches, else one without.
    pub(crate) fn for_service(&self, proxy: &Proxy, service: &Service) -> Option<&Merged> {
        let own = if proxy.namespace == self.root {
            // In the root namespace live rules that are meant for all; only private ones go before the service's own.
            pick(&self.root_local, &proxy.namespace, &service.host)
        } else {
            pick(&self.local, &proxy.namespace, &service.host)
        };
        let exported = |owner: &str| {
            let mut found = pick(&self.exported, owner, &service.host);
            found.retain(|m| {
                m.export_to.is_empty() || m.export_to.contains("*") || m.export_to.contains(&proxy.namespace)
            });
            found
        };
        let found = [own, exported(&service.namespace), exported(&self.root)]
            .into_iter()
            .find(|found| !found.is_empty())?;
        let selected = found.iter().find(|m| {
            m.rule.id.namespace == proxy.namespace
                && m.selector().is_some_and(|s| labels_match(s, &proxy.labels))
        });
        selected.or_else(|| found.iter().rev().find(|m| m.selector().is_none())).copied()
    }
}

/// The rules of the most specific host in a namespace.
fn pick<'a>(index: &'a [Merged], namespace: &str, host: &str) -> Vec<&'a Merged> {
    let own = || index.iter().filter(|m| m.rule.id.namespace == namespace);
    match most_specific(host, own().map(|m| m.host.as_str())) {
        Some(best) => own().filter(|m| m.host == best).collect(),
        None => Vec::new(),
    }
}

/// `mergeDestinationRule` (pilot/pkg/model/destination_rule.go), with its feature for exportTo on, as it is by default:
/// rules of one namespace and host with equal exportTo and equal selectors become one, whose top-level policy is the
/// first that there is and whose subsets are those of all, the older winning a name.
fn add(index: &mut Vec<Merged>, new: Merged, warnings: &mut Vec<String>) {
    let mut separately = true;
    for existing in &mut *index {
        if existing.host != new.host || existing.rule.id.namespace != new.rule.id.namespace {
            continue;
        }
        let equal = existing.export_to == new.export_to;
        let superset = !existing.export_to.is_empty() && new.export_to.is_superset(&existing.export_to);
        if !equal && !superset {
            separately = true;
            continue;
        }
        separately = !equal;
        let same_selectors = existing.selector() == new.selector();
        let both_select = existing.selector().is_some() && new.selector().is_some();
        if both_select && !same_selectors {
            separately = true;
            continue;
        }
        if same_selectors {
            separately = false;
        }
        existing.from.push(new.rule.id.clone());
        for subset in &new.rule.spec.subsets {
            let subsets = &mut existing.rule.spec.subsets;
            if subsets.iter().any(|s| s.name == subset.name) {
                warnings.push(format!(
                    "{}: subset {:?} of {} is already defined by {}, which is kept",
                    new.rule.id, subset.name, new.host, existing.rule.id
                ));
            } else {
                subsets.push(subset.clone());
            }
        }
        match (&mut existing.rule.spec.traffic_policy, &new.rule.spec.traffic_policy) {
            (slot @ None, Some(policy)) => *slot = Some(policy.clone()),
            (Some(_), Some(_)) => warnings.push(format!(
                "{}: its trafficPolicy for {} has no effect, {} is older",
                new.rule.id, new.host, existing.rule.id
            )),
            (Some(_) | None, None) => {}
        }
    }
    if separately {
        index.push(new);
    }
}

/// What applies to one port.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PortPolicy {
    pub(crate) tls: Option<ClientTls>,
    pub(crate) connection_pool: Option<ConnectionPool>,
    pub(crate) load_balancer: Option<LoadBalancer>,
}

/// `GetPortLevelTrafficPolicy` (pilot/pkg/networking/util/util.go): settings for the port stand in the place of all the
/// others; what they leave out gets its default. Also says whether there were any.
fn port_policy(policy: &TrafficPolicy, port: u16) -> (PortPolicy, bool) {
    let own = policy
        .port_level_settings
        .iter()
        .find(|s| s.port.as_ref().is_some_and(|p| p.number == u32::from(port)));
    match own {
        Some(own) => {
            let policy = PortPolicy {
                tls: own.tls.clone(),
                connection_pool: own.connection_pool.clone(),
                load_balancer: own.load_balancer.clone(),
            };
            (policy, true)
        }
        None => {
            let policy = PortPolicy {
                tls: policy.tls.clone(),
                connection_pool: policy.connection_pool.clone(),
                load_balancer: policy.load_balancer.clone(),
            };
            (policy, false)
        }
    }
}

/// `MergeSubsetTrafficPolicy` (util.go): a subset overrides what it sets and keeps the rest of the rule's; the subset's
/// settings for the port override all.
pub(crate) fn policy(rule: Option<&DestinationRule>, subset: Option<&Subset>, port: u16) -> PortPolicy {
    let base = rule.and_then(|r| r.traffic_policy.as_ref()).map(|p| port_policy(p, port).0);
    let Some(of_subset) = subset.and_then(|s| s.traffic_policy.as_ref()) else {
        return base.unwrap_or_default();
    };
    let (of_subset, whole) = port_policy(of_subset, port);
    match base {
        Some(mut base) if !whole => {
            base.tls = of_subset.tls.or(base.tls);
            base.connection_pool = of_subset.connection_pool.or(base.connection_pool);
            base.load_balancer = of_subset.load_balancer.or(base.load_balancer);
            base
        }
        Some(_) | None => of_subset,
    }
}

/// `tlsModeForDestinationRule` (pilot/pkg/xds/endpoints/mtls_checker.go): settings for the port, as far as they set TLS,
/// before the top-level ones; a subset's before the rule's.
pub(crate) fn tls_mode(
    rule: Option<&DestinationRule>,
    subset: Option<&Subset>,
    port: u16,
) -> Option<ClientTlsMode> {
    let of = |policy: &TrafficPolicy| {
        let own = policy
            .port_level_settings
            .iter()
            .find(|s| s.tls.is_some() && s.port.as_ref().is_some_and(|p| p.number == u32::from(port)));
        own.and_then(|s| s.tls.as_ref()).or(policy.tls.as_ref()).map(|t| t.mode)
    };
    let of_subset = subset.and_then(|s| s.traffic_policy.as_ref()).and_then(of);
    of_subset.or_else(|| rule.and_then(|r| r.traffic_policy.as_ref()).and_then(of))
}
