//! Selects the evidence of a check: the pieces that its verdict rests on, and everything else that the three
//! sides recorded about the same requests. Derived from the report alone.

use std::collections::{BTreeMap, HashMap};

use meshproof_model::evidence::{Change, Evidence, EvidenceId, Fact, Side};
use meshproof_model::report::{CheckResult, ScenarioResult};

use crate::evidence_text::manifest_name;

/// The maximum number of selected pieces. More pieces than this are not useful to a reader.
pub const MAX_SELECTED: usize = 120;

/// An index of a scenario's evidence by id, by token, and by the request during which it was recorded.
pub struct EvidenceIndex<'r> {
    scenario: &'r ScenarioResult,
    by_id: HashMap<&'r EvidenceId, usize>,
    by_token: HashMap<&'r str, Vec<usize>>,
    /// The changes in the order of their time.
    changes: Vec<ChangeInForce<'r>>,
}

struct ChangeInForce<'r> {
    piece: &'r Evidence,
    change: &'r Change,
    /// Whether a manifest in force after it configures Istio mutual TLS.
    mutual: bool,
}

/// One selected piece.
#[derive(Clone, Copy, Debug)]
pub struct SelectedEvidence<'r> {
    /// Its index in the scenario's evidence.
    pub index: usize,
    /// The piece.
    pub piece: &'r Evidence,
    /// Whether the verdict rests on it. Otherwise it only belongs to the same request.
    pub decides: bool,
    /// Whether it belongs to the request of the control and not to the request that the check is about.
    pub control: bool,
}

/// The evidence of one check: for each request the client's exchange, then the evidence of the other sides in
/// the order in which it was recorded.
#[derive(Clone, Debug, Default)]
pub struct CheckEvidence<'r> {
    /// At most [`MAX_SELECTED`].
    pub pieces: Vec<SelectedEvidence<'r>>,
    /// The number of pieces beyond the limit.
    pub left_out: usize,
    /// Ids that the check names but the report does not contain.
    pub missing: Vec<&'r EvidenceId>,
}

fn changes(scenario: &ScenarioResult) -> Vec<ChangeInForce<'_>> {
    let mut changes: Vec<ChangeInForce<'_>> = Vec::new();
    for piece in &scenario.evidence {
        if let Fact::Change(change) = &piece.fact {
            changes.push(ChangeInForce { piece, change, mutual: false });
        }
    }
    changes.sort_by_key(|change| change.piece.at_us);
    let mut in_force: BTreeMap<String, bool> = BTreeMap::new();
    for change in &mut changes {
        for yaml in &change.change.applied {
            let mutual = yaml.contains("ISTIO_MUTUAL") || yaml.contains("mode: STRICT");
            in_force.insert(manifest_name(yaml), mutual);
        }
        for name in &change.change.deleted {
            in_force.remove(name);
        }
        change.mutual = in_force.values().any(|mutual| *mutual);
    }
    changes
}

impl<'r> EvidenceIndex<'r> {
    /// Builds the index.
    #[must_use]
    pub fn of(scenario: &'r ScenarioResult) -> Self {
        let mut by_id = HashMap::new();
        let mut by_token: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, piece) in scenario.evidence.iter().enumerate() {
            by_id.entry(&piece.id).or_insert(index);
            if let Some(token) = &piece.token {
                by_token.entry(token).or_default().push(index);
            }
        }
        Self { scenario, by_id, by_token, changes: changes(scenario) }
    }

    /// The scenario that is indexed.
    #[must_use]
    pub const fn scenario(&self) -> &'r ScenarioResult {
        self.scenario
    }

    /// The position of a piece in the scenario's evidence.
    #[must_use]
    pub fn index(&self, id: &EvidenceId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The last change before the last piece of evidence that a check rests on; without evidence, the last one of the scenario.
    #[must_use]
    pub fn last_change(&self, check: &CheckResult) -> Option<&'r Evidence> {
        let cited = check.evidence.iter().filter_map(|id| self.index(id));
        let judged_at = cited.map(|index| self.scenario.evidence[index].at_us).max();
        Some(self.change_at(judged_at.unwrap_or(u64::MAX))?.piece)
    }

    /// Whether a manifest in force at this time configures Istio mutual TLS.
    pub(crate) fn is_mutual_at(&self, at_us: u64) -> bool {
        self.change_at(at_us).is_some_and(|change| change.mutual)
    }

    fn change_at(&self, at_us: u64) -> Option<&ChangeInForce<'r>> {
        let until = self.changes.partition_point(|change| change.piece.at_us <= at_us);
        self.changes[..until].last()
    }

    /// Selects the evidence of a check.
    #[must_use]
    pub fn of_check(&self, check: &'r CheckResult) -> CheckEvidence<'r> {
        let evidence = &self.scenario.evidence;
        let mut listed = Vec::new();
        let mut missing = Vec::new();
        for id in &check.evidence {
            match self.index(id) {
                Some(index) => listed.push(index),
                None => missing.push(id),
            }
        }
        listed.sort_unstable();
        listed.dedup();
        let of_control = |index: usize| check.control_evidence.contains(&evidence[index].id);
        let mut order: Vec<(usize, bool)> = Vec::new();
        let mut taken = vec![false; evidence.len()];
        for &index in &listed {
            let Some(token) = evidence[index].token.as_deref() else {
                if !taken[index] {
                    taken[index] = true;
                    order.push((index, of_control(index)));
                }
                continue;
            };
            if taken[index] {
                continue;
            }
            // The whole thread has one role: that of the pieces of this request on which the verdict rests.
            let own = listed.iter().filter(|i| evidence[**i].token.as_deref() == Some(token));
            let control = own.copied().all(of_control);
            for index in self.thread(token) {
                if !std::mem::replace(&mut taken[index], true) {
                    order.push((index, control));
                }
            }
        }
        // A connection without a token may already have been selected with an earlier request.
        order.dedup();
        let left_out = order.len().saturating_sub(MAX_SELECTED);
        order.truncate(MAX_SELECTED);
        let pieces = order
            .into_iter()
            .map(|(index, control)| SelectedEvidence {
                index,
                piece: &evidence[index],
                decides: listed.binary_search(&index).is_ok(),
                control,
            })
            .collect();
        CheckEvidence { pieces, left_out, missing }
    }

    /// Everything recorded about one request, its exchanges first, and the outermost exchange before those
    /// that it caused.
    fn thread(&self, token: &str) -> Vec<usize> {
        let evidence = &self.scenario.evidence;
        let Some(own) = self.by_token.get(token) else { return Vec::new() };
        let is_exchange = |index: &usize| matches!(evidence[*index].fact, Fact::Exchange(_));
        let mut order: Vec<usize> = own.iter().copied().filter(is_exchange).rev().collect();
        let mut seen: Vec<usize> = own.iter().copied().filter(|i| !is_exchange(i)).collect();
        if let Some(end) = order.first() {
            seen.extend(self.window(*end, token));
        }
        seen.sort_unstable();
        order.extend(seen);
        order
    }

    /// Pieces without a token that were recorded between the suite's previous action and the end of this
    /// exchange. The suite sends one request at a time, so they belong to this exchange.
    fn window(&self, end: usize, token: &str) -> impl Iterator<Item = usize> + '_ {
        let evidence = &self.scenario.evidence;
        let foreign = |piece: &Evidence| match &piece.fact {
            Fact::Exchange(_) => piece.token.as_deref() != Some(token),
            Fact::Change(_) => true,
            Fact::Note { .. } => piece.side == Side::Suite,
            Fact::AccessLog(_) | Fact::Connection(_) | Fact::Request(_) | Fact::Credential(_) => false,
        };
        let start = evidence[..end].iter().rposition(foreign).map_or(0, |before| before + 1);
        (start..end).filter(|&i| {
            evidence[i].token.is_none()
                && match evidence[i].fact {
                    Fact::Connection(_) | Fact::AccessLog(_) | Fact::Request(_) => true,
                    Fact::Exchange(_) | Fact::Change(_) | Fact::Credential(_) | Fact::Note { .. } => false,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_model::sample;

    fn ids(check: usize) -> Vec<(String, bool)> {
        let report = sample::report();
        let scenario = &report.scenarios[0];
        let selected = EvidenceIndex::of(scenario).of_check(&scenario.checks[check]);
        selected.pieces.iter().map(|b| (b.piece.id.0.clone(), b.decides)).collect()
    }

    fn owned(wanted: &[(&str, bool)]) -> Vec<(String, bool)> {
        wanted.iter().map(|(id, decides)| ((*id).to_owned(), *decides)).collect()
    }

    #[test]
    fn the_evidence_of_a_check_begins_with_the_exchange() {
        assert_eq!(ids(1), owned(&[("e3", true), ("e4", true), ("e5", true), ("e6", true)]));
    }

    #[test]
    fn evidence_of_the_same_request_is_included_although_the_verdict_does_not_rest_on_it() {
        assert_eq!(ids(3), owned(&[("e3", false), ("e4", false), ("e5", false), ("e6", true)]));
    }

    #[test]
    fn a_connection_without_a_token_belongs_to_the_request_during_which_it_was_recorded() {
        let mut report = sample::report();
        let scenario = &mut report.scenarios[0];
        let mut connection = scenario.evidence[4].clone();
        (connection.id, connection.token) = (EvidenceId("e0".to_owned()), None);
        // Between the change (e2) and the exchange (e3).
        scenario.evidence.insert(2, connection);
        let selected = EvidenceIndex::of(scenario).of_check(&scenario.checks[1]);
        let ids: Vec<&str> = selected.pieces.iter().map(|b| b.piece.id.0.as_str()).collect();
        assert_eq!(ids, ["e3", "e0", "e4", "e5", "e6"]);
    }

    #[test]
    fn missing_evidence_is_listed() {
        let report = sample::report();
        let scenario = &report.scenarios[2];
        let selected = EvidenceIndex::of(scenario).of_check(&scenario.checks[0]);
        assert_eq!(selected.missing.iter().map(|id| id.0.as_str()).collect::<Vec<_>>(), ["e99"]);
    }

    #[test]
    fn evidence_beyond_the_limit_is_left_out_and_counted() {
        let mut report = sample::passing();
        let scenario = &mut report.scenarios[0];
        let piece = scenario.evidence[3].clone();
        scenario
            .evidence
            .extend((0..500).map(|n| Evidence { id: EvidenceId(format!("x{n}")), ..piece.clone() }));
        scenario.checks[0].evidence.push(piece.id);
        let selected = EvidenceIndex::of(scenario).of_check(&scenario.checks[0]);
        assert_eq!(selected.pieces.len(), MAX_SELECTED);
        assert!(selected.left_out > 380);
    }
}
