//! From one configuration to the next without a moment at which something is missing: first everything that is new beside
//! everything that was, then whoever sends is moved over, then what nobody uses any more goes.

use std::sync::Arc;

use serde_json::Value;

use super::Config;
use meshproof_plan::model::Direction;

/// What is new is there, what was is still there, and what sends traffic goes as before.
pub(crate) fn prepared(old: &Config, new: &Config) -> Config {
    let mut config = new.clone();
    for (name, cluster) in &old.clusters {
        config.clusters.entry(name.clone()).or_insert_with(|| cluster.clone());
    }
    // Sidecars go on as before.
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

/// What sends traffic is moved over; what receives it still serves both.
pub(crate) fn moved(old: &Config, new: &Config) -> Config {
    let prepared = prepared(old, new);
    let mut config = Config { clusters: prepared.clusters, ..new.clone() };
    let receives = |direction: Direction| direction != Direction::Outbound;
    config.listeners.extend(prepared.listeners.into_iter().filter(|(_, l)| receives(l.direction)));
    config.routes.extend(prepared.routes.into_iter().filter(|(_, r)| receives(r.direction)));
    config
}

/// Virtual hosts that are gone stay, as far as their domains are not taken.
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

/// Filter chains that are gone stay, as far as no other takes their connections.
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
