//! Every timeout of the suite, named after the condition that it bounds. None is a sleep: each wait ends the moment
//! its condition holds.

use std::collections::BTreeMap;
use std::time::Duration;

/// The timeouts of a run. Set with `--timeout NAME=DURATION`.
#[derive(Clone, Debug)]
pub struct Timeouts {
    values: BTreeMap<&'static str, Duration>,
}

/// Name, default in milliseconds, and the condition that it bounds.
pub const NAMED: &[(&str, u64, &str)] = &[
    ("request", 10_000, "a request has its whole answer, or its connection failed"),
    (
        "continue",
        1_000,
        "100 Continue has answered a request that waits for it; then its body is sent all the same",
    ),
    ("external-service-ready", 15_000, "an external service accepts connections"),
    ("image-fetched", 300_000, "the image of a containerised external service is on this machine"),
    (
        "images-pulled",
        300_000,
        "the images of a cluster's pods are on their nodes, each time that pods are made",
    ),
    ("implementation-ready", 30_000, "the implementation has started"),
    ("adapter-hello", 10_000, "an adapter has said hello"),
    ("adapter-answer", 10_000, "an adapter has answered a message"),
    ("adapter-stop", 10_000, "an adapter and all that it started have ended"),
    (
        "cluster-answer",
        30_000,
        "a cluster's API server has answered a question, tried again where that is safe",
    ),
    ("applied", 60_000, "a changed configuration is in force"),
    ("evidence-settled", 10_000, "the access logs of finished requests have arrived"),
    ("teardown", 30_000, "everything that a scenario made is gone"),
    ("scenario", 600_000, "a scenario has come to its end"),
];

impl Default for Timeouts {
    fn default() -> Self {
        Self { values: NAMED.iter().map(|&(name, ms, _)| (name, Duration::from_millis(ms))).collect() }
    }
}

impl Timeouts {
    /// Sets one timeout.
    ///
    /// # Errors
    /// No timeout has this name; the names are in [`NAMED`].
    pub fn set(&mut self, name: &str, value: Duration) -> Result<(), UnknownTimeout> {
        let slot = NAMED
            .iter()
            .find(|(known, ..)| *known == name)
            .and_then(|(known, ..)| self.values.get_mut(known));
        *slot.ok_or_else(|| UnknownTimeout(name.to_owned()))? = value;
        Ok(())
    }

    /// The timeout of this name.
    ///
    /// # Panics
    /// No timeout has this name; names are constants of the suite.
    #[must_use]
    #[track_caller]
    pub fn get(&self, name: &str) -> Duration {
        match self.values.get(name) {
            Some(value) => *value,
            None => panic!("no timeout is named {name:?}"),
        }
    }
}

/// No timeout has this name.
#[derive(Debug, thiserror::Error)]
#[error("no timeout is named {0:?}")]
pub struct UnknownTimeout(pub String);
