//! Which manifests were in force at what time, and how each configuration change modified them, derived from
//! the evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use crate::evidence_text;
use meshproof_model::evidence::{Change, Fact};
use meshproof_model::report::ScenarioResult;

/// Time limit for computing one difference; after it, a coarser difference is shown.
const DIFF_TIME: Duration = Duration::from_millis(50);

/// Unchanged lines shown around a changed one.
const CONTEXT: usize = 3;

/// The longest manifest that is compared line by line, in bytes.
const MAX_COMPARED: usize = 64 * 1024;

/// Why a line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiffLine {
    Same,
    Added,
    Removed,
    Gap,
}

/// What a change did to one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

pub(super) struct ResourceChange {
    pub(super) name: String,
    pub(super) kind: ChangeKind,
    pub(super) lines: Vec<(DiffLine, String)>,
}

/// One change of the configuration.
pub(super) struct ChangeView<'r> {
    /// Its index in the scenario's evidence.
    pub(super) index: usize,
    pub(super) change: &'r Change,
    pub(super) items: Vec<ResourceChange>,
    /// The names of what was in force after it.
    pub(super) in_force: Vec<String>,
}

/// Every configuration change of a scenario, in order.
pub(super) fn history(scenario: &ScenarioResult) -> Vec<ChangeView<'_>> {
    let mut in_force: BTreeMap<String, &str> = BTreeMap::new();
    let mut history = Vec::new();
    for (index, piece) in scenario.evidence.iter().enumerate() {
        let Fact::Change(change) = &piece.fact else { continue };
        let mut items = Vec::new();
        let mut after = in_force.clone();
        for yaml in &change.applied {
            let name = evidence_text::manifest_name(yaml);
            let before = after.insert(name.clone(), yaml);
            let (kind, lines) = match before {
                None => (ChangeKind::Created, whole(yaml, DiffLine::Added)),
                Some(before) if before == yaml => (ChangeKind::Unchanged, vec![]),
                Some(before) => (ChangeKind::Changed, difference(before, yaml)),
            };
            items.push(ResourceChange { name, kind, lines });
        }
        for name in &change.deleted {
            let before = after.remove(name);
            let lines = before.map(|yaml| whole(yaml, DiffLine::Removed)).unwrap_or_default();
            items.push(ResourceChange { name: name.clone(), kind: ChangeKind::Deleted, lines });
        }
        // A rejected change did not come into force.
        if change.refused.is_none() {
            in_force = after;
        }
        history.push(ChangeView { index, change, items, in_force: in_force.keys().cloned().collect() });
    }
    history
}

fn whole(yaml: &str, mark: DiffLine) -> Vec<(DiffLine, String)> {
    yaml.lines().map(|line| (mark, line.to_owned())).collect()
}

fn difference(before: &str, after: &str) -> Vec<(DiffLine, String)> {
    if before.len() > MAX_COMPARED || after.len() > MAX_COMPARED {
        return whole(after, DiffLine::Added);
    }
    let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(before, after);
    let mut lines = Vec::new();
    for (number, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if number > 0 {
            lines.push((DiffLine::Gap, "…".to_owned()));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let mark = match change.tag() {
                ChangeTag::Equal => DiffLine::Same,
                ChangeTag::Insert => DiffLine::Added,
                ChangeTag::Delete => DiffLine::Removed,
            };
            lines.push((mark, change.value().trim_end_matches(['\r', '\n']).to_owned()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_model::evidence::{Evidence, EvidenceId, Side};
    use meshproof_model::sample;

    fn scenario(changes: &[(&[&str], &[&str], Option<&str>)]) -> ScenarioResult {
        let mut scenario = sample::passing().scenarios.remove(0);
        let texts = |t: &[&str]| t.iter().map(|&t| t.to_owned()).collect();
        scenario.evidence = (1..)
            .zip(changes)
            .map(|(n, (applied, deleted, refused))| Evidence {
                id: EvidenceId(format!("e{n}")),
                at_us: n,
                step: 0,
                side: Side::Suite,
                token: None,
                fact: Fact::Change(Change {
                    applied: texts(applied),
                    deleted: texts(deleted),
                    convergence_us: 0,
                    refused: refused.map(str::to_owned),
                }),
            })
            .collect();
        scenario
    }

    const ONE: &str = "kind: Gateway\nmetadata:\n  name: g\n  namespace: default\nspec:\n  port: 80\n";
    const TWO: &str = "kind: Gateway\nmetadata:\n  name: g\n  namespace: default\nspec:\n  port: 443\n";

    #[test]
    fn a_replaced_manifest_shows_the_lines_that_changed() {
        let scenario = scenario(&[(&[ONE], &[], None), (&[TWO], &[], None)]);
        let history = history(&scenario);
        assert_eq!(history[0].items[0].kind, ChangeKind::Created);
        assert_eq!(history[1].items[0].kind, ChangeKind::Changed);
        let marked: Vec<_> =
            history[1].items[0].lines.iter().filter(|(m, _)| *m != DiffLine::Same).cloned().collect();
        assert_eq!(
            marked,
            [(DiffLine::Removed, "  port: 80".to_owned()), (DiffLine::Added, "  port: 443".to_owned())]
        );
    }

    #[test]
    fn a_deleted_manifest_is_no_longer_in_force() {
        let scenario = scenario(&[(&[ONE], &[], None), (&[], &["Gateway default/g"], None)]);
        let history = history(&scenario);
        assert_eq!(history[0].in_force, ["Gateway default/g"]);
        assert_eq!(history[1].items[0].kind, ChangeKind::Deleted);
        assert!(history[1].items[0].lines.iter().all(|(m, _)| *m == DiffLine::Removed));
        assert!(history[1].in_force.is_empty());
    }

    #[test]
    fn a_rejected_change_is_not_in_force() {
        let scenario = scenario(&[(&[ONE], &[], Some("no"))]);
        assert!(history(&scenario)[0].in_force.is_empty());
    }
}
