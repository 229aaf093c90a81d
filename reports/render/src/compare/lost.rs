//! Checks that passed in the baseline and are not judged any more. A run that asks less must not look better than one that asks
//! everything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, Comparison, Group, Movement, Row};
use meshproof_model::names;
use meshproof_model::report::{Report, Verdict};

/// A check that one column lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LostCheck {
    /// The column.
    pub column: usize,
    /// How the check was lost.
    pub how: HowLost,
    /// One sentence: why it was not judged.
    pub reason: String,
    /// Whether the loss was allowed, so that it is no regression.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allowed: bool,
}

/// How a check was lost that passed in the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HowLost {
    /// It was skipped.
    Skipped,
    /// It could not be judged.
    Error,
    /// The report does not contain it.
    Missing,
}

/// The columns that lost a check which had the verdict `before` in the baseline.
pub(super) fn in_row(
    before: Option<Verdict>,
    cells: &[Option<Cell>],
    baseline: Option<usize>,
) -> Vec<LostCheck> {
    if before != Some(Verdict::Passed) {
        return Vec::new();
    }
    let lost = |(column, cell): (usize, &Option<Cell>)| {
        let (how, reason) = match cell {
            None => (HowLost::Missing, "The report does not contain this check.".to_owned()),
            Some(cell) => match cell.verdict {
                Verdict::Skipped => (HowLost::Skipped, cell.reason.clone()),
                Verdict::Error => (HowLost::Error, cell.reason.clone()),
                Verdict::Passed | Verdict::Failed | Verdict::Inconclusive => return None,
            },
        };
        Some(LostCheck { column, how, reason, allowed: false })
    };
    cells.iter().enumerate().filter(|(column, _)| Some(*column) != baseline).filter_map(lost).collect()
}

/// Says why whole scenario configurations are missing, as far as the reports show it.
pub(super) fn explain_missing(groups: &mut [Group], reports: &[&Report], baseline: Option<usize>) {
    let Some(baseline) = baseline else { return };
    let names = |group: &Group, column: usize| -> Vec<String> {
        let rows = group.rows.iter().filter(|r| r.cells[column].is_some());
        rows.map(|r| r.name.clone()).collect()
    };
    for at in 0..groups.len() {
        for (column, report) in reports.iter().enumerate() {
            let is_gone = groups[at].rows.iter().all(|r| r.cells[column].is_none());
            if !is_gone || groups[at].rows.iter().all(|r| r.lost_in(column).is_none()) {
                continue;
            }
            let scenario = |selector: &str| selector.split(':').next().unwrap_or(selector).to_owned();
            let own: Vec<String> = groups[at].rows.iter().map(|r| r.name.clone()).collect();
            // A configuration of the same scenario that the baseline does not have, with mostly the same checks.
            let successor = groups.iter().find(|other| {
                let shared = names(other, column).iter().filter(|n| own.contains(n)).count();
                scenario(&other.selector) == scenario(&groups[at].selector)
                    && names(other, baseline).is_empty()
                    && 2 * shared > own.len()
            });
            let reason = match successor {
                Some(new) => format!(
                    "The report does not contain {old}. It contains {new} with the same checks; if {old} was renamed, \
                     allow it with --allow-lost {old}",
                    old = groups[at].selector,
                    new = new.selector
                ),
                None if report.run.partial => "The run stopped early.".to_owned(),
                None => format!("The report does not contain {}.", groups[at].selector),
            };
            for lost in groups[at].rows.iter_mut().flat_map(|r| &mut r.lost).filter(|l| l.column == column) {
                lost.reason.clone_from(&reason);
            }
        }
    }
}

/// Whether `SCENARIO`, `SCENARIO:CONFIGURATION`, `SCENARIO/CHECK` or `SCENARIO:CONFIGURATION/CHECK` names this check.
fn is_named(pattern: &str, selector: &str, check: &str) -> bool {
    let scenario = selector.split(':').next().unwrap_or(selector);
    [selector, scenario].iter().any(|place| {
        let rest = pattern.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/') == Some(check))
    })
}

impl Comparison {
    /// Allows checks to be lost: `SCENARIO`, `SCENARIO:CONFIGURATION`, `SCENARIO/CHECK` or `SCENARIO:CONFIGURATION/CHECK`.
    /// Returns a note for each name that no lost check has.
    pub fn allow_lost(&mut self, allowed: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        for pattern in allowed {
            let mut found = false;
            for group in &mut self.scenarios {
                for row in &mut group.rows {
                    if is_named(pattern, &group.selector, &row.name) && !row.lost.is_empty() {
                        found = true;
                        row.lost.iter_mut().for_each(|l| l.allowed = true);
                    }
                }
            }
            if !found {
                let lost = self.lost().map(|(selector, row, _)| format!("{selector}/{}", row.name));
                let known: Vec<String> = lost.collect();
                let near = names::did_you_mean(pattern, known.iter().map(String::as_str));
                notes.push(format!("--allow-lost {pattern}: no check of this name was lost{near}"));
            }
        }
        notes
    }

    /// Every check that a column lost, with the selector of its scenario.
    pub fn lost(&self) -> impl Iterator<Item = (&str, &Row, &LostCheck)> {
        self.rows().flat_map(|(selector, row)| row.lost.iter().map(move |l| (selector, row, l)))
    }

    /// The number of checks that passed in the baseline and now fail, are inconclusive, or are lost without being allowed.
    #[must_use]
    pub fn regressions(&self) -> usize {
        self.moved(Movement::Regression) + self.lost().filter(|(_, _, l)| !l.allowed).count()
    }
}
