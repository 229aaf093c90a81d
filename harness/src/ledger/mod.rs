//! The ledger: at the end of a scenario every piece of evidence must be accounted for. Each request that a server received
//! belongs to exactly one request that a client sent, went where the configuration in force sends it, and arrived as it
//! was sent; each answer came back as the server gave it; each access-log line says what the two ends saw.
//!
//! What an HTTP proxy may do is in RFC 9110 (sections 5.3, 7.6 and 15.2) and RFC 9113 (section 8.2.3). What Istio's
//! proxies add is in Envoy, "HTTP header manipulation".

mod account;
mod books;
mod compare;
mod connections;
mod deviations;
mod headers;
mod line;
mod lines;
mod promised;
mod sentences;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use meshproof_model::{Deviation, Difference, Evidence, EvidenceId, Feature, ReportedFeature};

use crate::claim::{Finding, View};
use crate::forecast::Forecast;
use crate::target::Probe;

pub use headers::ANSWERS;

/// The id of the check that the ledger judges, in each catalogue that declares it.
pub const CHECK: &str = "every-request-accounted-for";

/// How many entries one finding names.
const MAX_NAMED: usize = 5;
/// How many entries' evidence one finding cites.
const MAX_CITED: usize = 20;

/// One state of the configuration, and from when it may have been and must have been in force (microseconds from the
/// scenario's start).
#[derive(Clone)]
pub struct Period {
    /// The change to it began.
    pub begun_us: u64,
    /// It is in force.
    pub settled_us: u64,
    /// What it promises; absent where the target does not work it out.
    pub forecast: Option<Arc<dyn Forecast>>,
}

/// What the ledger knows besides the evidence.
#[derive(Clone, Default)]
pub struct Ledger {
    /// In order of time.
    pub periods: Vec<Period>,
    /// By token: where the suite's own requests went.
    pub probes: BTreeMap<String, Probe>,
    /// When the scenario started, by the proxies' clock; absent if that is not known.
    pub started: Option<Timestamp>,
    /// The hosts of the servers inside the mesh.
    pub mesh_services: BTreeSet<String>,
    /// The features that the implementation declares.
    pub features: Vec<ReportedFeature>,
    /// Tokens of requests of the suite that are not in the evidence.
    pub unrecorded: Vec<String>,
    /// Tokens of requests that were judged while the scenario ran.
    pub retired: BTreeSet<String>,
    /// By host and port: the server names of their connections, over which further ones may be kept in reserve.
    pub retired_names: BTreeSet<(String, u16, String)>,
    /// The proxies whose lines of those requests have response flags.
    pub flagged: BTreeSet<String>,
    /// The evidence of them that is still kept.
    pub judged: BTreeSet<EvidenceId>,
}

/// Something that is not accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// One or more sentences: what happened, and what was expected.
    pub(crate) words: String,
    pub(crate) evidence: Vec<EvidenceId>,
    pub(crate) differences: Vec<Difference>,
    /// The same, as types.
    pub(crate) deviations: Vec<Deviation>,
}

impl Entry {
    pub(crate) fn new(words: impl Into<String>, evidence: impl IntoIterator<Item = EvidenceId>) -> Self {
        Self {
            words: words.into(),
            evidence: evidence.into_iter().collect(),
            differences: Vec::new(),
            deviations: Vec::new(),
        }
    }

    /// The same entry, with how the evidence deviates.
    pub(crate) fn by(mut self, deviation: Deviation) -> Self {
        self.deviations.push(deviation);
        self
    }
}

impl Ledger {
    /// What is not accounted for in this evidence.
    pub(crate) fn entries(&self, view: View<'_>) -> Vec<Entry> {
        Self::entries_of(&books::Account::open(self, view))
    }

    fn entries_of(account: &books::Account<'_>) -> Vec<Entry> {
        let mut entries = account.requests();
        entries.extend(account.exchanges());
        entries.extend(account.connections());
        entries.extend(account.lines());
        entries
    }

    /// Balances the books of a scenario.
    #[must_use]
    pub fn judge(&self, view: View<'_>) -> Finding {
        // What a real host received is not known, so nothing balances.
        if let Some(host) = view.unobserved.first() {
            return Finding::unobserved(host);
        }
        let account = books::Account::open(self, view);
        let entries = Self::entries_of(&account);
        let expected = "every request, connection and access-log line is accounted for";
        if entries.is_empty() {
            let seen = format!(
                "{} of {} requests at servers belong to a request of a client and agree with it; {} exchanges, {} \
                 connections and {} access-log lines are accounted for",
                account.matched(),
                account.received.len(),
                account.asked.len(),
                account.connections.len(),
                account.logged.len()
            );
            return Finding::holds(expected, seen, Vec::new());
        }
        let mut words: Vec<&str> = entries.iter().take(MAX_NAMED).map(|e| e.words.as_str()).collect();
        let more;
        if entries.len() > MAX_NAMED {
            more = format!("{} more entries are not accounted for.", entries.len() - MAX_NAMED);
            words.push(&more);
        }
        let mut evidence: Vec<EvidenceId> = Vec::new();
        for id in entries.iter().take(MAX_CITED).flat_map(|e| &e.evidence) {
            if !evidence.contains(id) {
                evidence.push(id.clone());
            }
        }
        let differences = entries.iter().take(MAX_CITED).flat_map(|e| e.differences.clone()).collect();
        let deviations = entries.iter().take(MAX_CITED).flat_map(|e| e.deviations.clone());
        Finding { differences, ..Finding::broken(expected, words.join(" "), evidence).by(deviations) }
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature.into())
    }

    /// The states of the configuration that may have been in force at some time between these.
    fn in_force(&self, from_us: u64, until_us: u64) -> Vec<&Period> {
        let first = self.periods.iter().rposition(|p| p.settled_us <= from_us).unwrap_or_default();
        self.periods.iter().skip(first).take_while(|p| p.begun_us <= until_us).collect()
    }
}

fn side_host(e: &Evidence) -> Option<&str> {
    match &e.side {
        meshproof_model::Side::Service { host } => Some(host),
        meshproof_model::Side::Workload { .. }
        | meshproof_model::Side::Proxy { .. }
        | meshproof_model::Side::Suite => None,
    }
}
