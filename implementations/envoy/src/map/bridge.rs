//! The steps from one configuration to the next, such that nothing is missing at any moment: first everything
//! new is added beside the old, then senders of traffic switch, then what is no longer used is removed.

use std::sync::Arc;

use serde_json::Value;

use super::config::ProxyConfig;
use meshproof_plan::model::Direction;

/// Adds the new beside the old; senders of traffic keep their configuration.
pub(crate) fn prepared(old: &ProxyConfig, new: &ProxyConfig) -> ProxyConfig {
    let mut config = new.clone();
    for (name, cluster) in &old.clusters {
        config.clusters.entry(name.clone()).or_insert_with(|| cluster.clone());
    }
    // Senders keep their configuration.
    config.listeners.retain(|_, l| l.direction != Direction::Outbound);
    config.routes.retain(|_, r| r.direction != Direction::Outbound);
    for (name, before) in &old.routes {
        match config.routes.get_mut(name) {
            Some(now) if before.direction != Direction::Outbound => {
                join_hosts(&before.value, Arc::make_mut(&mut now.value));
            }
            Some(_) | None => {
                config.routes.insert(name.clone(), before.clone());
            }
        }
    }
    for (name, before) in &old.listeners {
        match config.listeners.get_mut(name) {
            Some(now) if before.direction != Direction::Outbound => {
                join_chains(&before.value, Arc::make_mut(&mut now.value))
            }
            Some(_) | None => {
                config.listeners.insert(name.clone(), before.clone());
            }
        }
    }
    config
}

/// Switches senders of traffic to the new configuration; receivers still serve both.
pub(crate) fn moved(old: &ProxyConfig, new: &ProxyConfig) -> ProxyConfig {
    let prepared = prepared(old, new);
    let mut config = ProxyConfig { clusters: prepared.clusters, ..new.clone() };
    let receives = |direction: Direction| direction != Direction::Outbound;
    config.listeners.extend(prepared.listeners.into_iter().filter(|(_, l)| receives(l.direction)));
    config.routes.extend(prepared.routes.into_iter().filter(|(_, r)| receives(r.direction)));
    config
}

/// Keeps removed virtual hosts whose domains no other host has taken.
fn join_hosts(before: &Value, now: &mut Value) {
    let Some(hosts) = now["virtual_hosts"].as_array_mut() else { return };
    for old in before["virtual_hosts"].as_array().into_iter().flatten() {
        let known = hosts.iter().any(|h| h["name"] == old["name"]);
        let taken = old["domains"].as_array().into_iter().flatten().any(|domain| {
            hosts.iter().any(|h| h["domains"].as_array().is_some_and(|all| all.contains(domain)))
        });
        if !known && !taken {
            hosts.push(old.clone());
        }
    }
}

/// Keeps removed filter chains whose connections no other chain takes.
fn join_chains(before: &Value, now: &mut Value) {
    if before["listener_filters"] != now["listener_filters"] {
        return;
    }
    let Some(chains) = now["filter_chains"].as_array_mut() else { return };
    for old in before["filter_chains"].as_array().into_iter().flatten() {
        let names = |chain: &Value| chain["filter_chain_match"]["server_names"].clone();
        let taken = chains.iter().any(|chain| {
            if chain["filter_chain_match"] == old["filter_chain_match"] {
                return true;
            }
            let (ours, theirs) = (names(chain), names(old));
            let theirs = theirs.as_array().cloned().unwrap_or_default();
            ours.as_array().is_some_and(|all| all.iter().any(|n| theirs.contains(n)))
        });
        if !taken {
            chains.push(old.clone());
        }
    }
}
