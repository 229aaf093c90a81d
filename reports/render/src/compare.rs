//! Compares any number of reports in one matrix. Rows are the checks of scenario configurations, columns are
//! implementations. For cells with different verdicts, the matrix names the first divergence in their
//! evidence.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check_evidence::EvidenceIndex;
use crate::conclusion::conclusion;
use crate::parallel;
use meshproof_model::report::{
    CheckResult, Document, Level, Report, ScenarioResult, Tally, Verdict, variants,
};

mod divergence;
mod formats;
mod lost;
mod rollup;

pub use divergence::Divergence;
use divergence::{divergence, slots};
pub use formats::ComparisonFormat;
pub use lost::{HowLost, LostCheck};
pub use rollup::{RollUp, RollUpCell};

/// The version of the comparison's JSON, found in its `schema` field.
pub const SCHEMA: &str = "meshproof.comparison/1";

/// A comparison of several reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// One entry per report, in the given order.
    pub columns: Vec<Column>,
    /// The column that regressions and fixes refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<usize>,
    /// One entry per scenario configuration that any report contains.
    pub scenarios: Vec<Group>,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Column {
    /// Its name in queries: lower case, unique in the comparison.
    pub key: String,
    /// What the person who compares calls it, instead of name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The address of the report's page, relative to the page of the comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// The implementation's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Other facts about it: build, revision, saboteur.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// How the suite reached it.
    pub target: String,
    /// The run's id.
    pub run: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// The overall result of the report.
    pub verdict: Verdict,
    /// The number of MUST checks that passed.
    pub must_passed: usize,
    /// The number of MUST checks that were executed.
    pub must_asked: usize,
    /// The number of MUST checks of this comparison that were not executed in this report, or that it does not contain.
    #[serde(default)]
    pub must_not_asked: usize,
}

/// One scenario configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// `scenario` or `scenario:configuration`.
    pub selector: String,
    /// Its title.
    pub title: String,
    /// The document that it comes from.
    pub document: Document,
    /// The checks, in the scenario's order.
    pub rows: Vec<Row>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The check's name within its scenario.
    pub name: String,
    /// How binding it is.
    pub level: Level,
    /// Whether it is a control.
    pub control: bool,
    /// What it requires.
    pub requirement: String,
    /// The document's section.
    pub section: String,
    /// Whether the implementations have different verdicts.
    pub differs: bool,
    /// One entry per column; empty if the report does not contain the check.
    pub cells: Vec<Option<Cell>>,
    /// The columns that lost the check: it passed in the baseline, and they do not judge it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostCheck>,
}

/// One check of one implementation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The verdict.
    pub verdict: Verdict,
    /// The reason of the verdict.
    pub reason: String,
    /// The feature for lack of which the check was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_feature: Option<String>,
    /// How it changed since the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movement: Option<Movement>,
    /// The first divergence from the row's reference cell; absent if the verdicts are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
}

/// How a check changed since the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Movement {
    /// It passed in the baseline and fails or is inconclusive now.
    Regression,
    /// It failed or was inconclusive in the baseline and passes now.
    Fix,
    /// It passed in the baseline and was skipped or could not be judged now. Counts as a regression, unless it is allowed.
    Lost,
}

impl Column {
    /// Name, version and variant, as shown to readers.
    #[must_use]
    pub fn label(&self) -> String {
        if let Some(label) = &self.label {
            return label.clone();
        }
        format!("{} {}", self.name, self.variant())
    }

    /// Version and variant.
    #[must_use]
    pub fn variant(&self) -> String {
        let variant: String = variants(&self.details).map(|(_, value)| format!(" · {value}")).collect();
        format!("{}{variant}", self.version)
    }
}

impl Row {
    /// How this column lost the check, if it did.
    #[must_use]
    pub fn lost_in(&self, column: usize) -> Option<&LostCheck> {
        self.lost.iter().find(|l| l.column == column)
    }
}

impl Comparison {
    /// Names the columns. A column with a label is called by it everywhere, also in queries.
    pub fn label(&mut self, labels: &[Option<String>]) {
        for (number, label) in labels.iter().enumerate().take(self.columns.len()) {
            let Some(label) = label else { continue };
            let mut key = slug(label);
            while self.columns.iter().enumerate().any(|(n, c)| n != number && c.key == key) {
                key.push_str("-2");
            }
            (self.columns[number].label, self.columns[number].key) = (Some(label.clone()), key);
        }
    }

    /// Every row with the selector of its scenario.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &Row)> {
        self.scenarios.iter().flat_map(|g| g.rows.iter().map(move |r| (g.selector.as_str(), r)))
    }

    /// The number of cells with this movement since the baseline.
    #[must_use]
    pub fn moved(&self, movement: Movement) -> usize {
        let cells = self.rows().flat_map(|(_, r)| r.cells.iter().flatten());
        cells.filter(|c| c.movement == Some(movement)).count()
    }
}

/// Compares reports. `baseline` is the index of the report that regressions and fixes refer to. See
/// [`Comparison::allow_lost`] for checks that may be lost.
#[must_use]
pub fn compare(reports: &[&Report], baseline: Option<usize>) -> Comparison {
    let baseline = baseline.filter(|&b| b < reports.len());
    let groups = aligned(reports);
    let mut scenarios = parallel::map(groups.len(), |n| group(&groups[n], baseline));
    lost::explain_missing(&mut scenarios, reports, baseline);
    let columns = columns(reports, &scenarios);
    Comparison { schema: SCHEMA.to_owned(), columns, baseline, scenarios }
}

/// Lower case words joined by dashes.
pub(crate) fn slug(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let words: Vec<&str> = text.split('-').filter(|w| !w.is_empty()).collect();
    if words.is_empty() { "implementation".to_owned() } else { words.join("-") }
}

fn columns(reports: &[&Report], scenarios: &[Group]) -> Vec<Column> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for report in reports {
        *names.entry(slug(&report.implementation.name)).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let mut unique = |mut key: String, report: &Report| {
        if names.get(&key).is_some_and(|n| *n > 1) {
            let implementation = &report.implementation;
            let variant: Vec<&str> = variants(&implementation.details).map(|(_, value)| value).collect();
            let suffix = if variant.is_empty() { implementation.version.clone() } else { variant.join("-") };
            key = slug(&format!("{key}-{suffix}"));
        }
        let mut candidate = key.clone();
        let mut number = 1;
        while !taken.insert(candidate.clone()) {
            number += 1;
            candidate = format!("{key}-{number}");
        }
        candidate
    };
    let not_asked = |column: usize| {
        let must = scenarios.iter().flat_map(|g| &g.rows).filter(|r| r.level == Level::Must);
        must.filter(|r| r.cells[column].as_ref().is_none_or(|c| c.verdict == Verdict::Skipped)).count()
    };
    reports
        .iter()
        .enumerate()
        .map(|(number, report)| {
            let must = Tally::of(report.checks(), |c| c.level == Level::Must);
            let implementation = &report.implementation;
            Column {
                key: unique(slug(&implementation.name), report),
                label: None,
                page: None,
                name: implementation.name.clone(),
                version: implementation.version.clone(),
                details: implementation.details.clone(),
                target: implementation.target.clone(),
                run: report.run.id.clone(),
                started: report.run.started.clone(),
                verdict: conclusion(report).verdict,
                must_passed: must.count(Verdict::Passed),
                must_asked: must.total() - must.count(Verdict::Skipped),
                must_not_asked: not_asked(number),
            }
        })
        .collect()
}

/// One scenario configuration in every report that contains it.
pub(crate) type Aligned<'r> = Vec<Option<&'r ScenarioResult>>;

/// Scenario configurations in the order of the first report that contains them.
pub(crate) fn aligned<'r>(reports: &[&'r Report]) -> Vec<Aligned<'r>> {
    let mut groups: Vec<Aligned<'r>> = Vec::new();
    let mut index: HashMap<(&str, &str), usize> = HashMap::new();
    for (column, report) in reports.iter().enumerate() {
        for scenario in &report.scenarios {
            let at = *index.entry((&scenario.id, &scenario.configuration)).or_insert_with(|| {
                groups.push(vec![None; reports.len()]);
                groups.len() - 1
            });
            groups[at][column].get_or_insert(scenario);
        }
    }
    groups
}

/// The checks of a scenario configuration, each listed once, with the result of every column.
pub(crate) fn rows<'r>(group: &Aligned<'r>) -> Vec<(&'r str, Vec<Option<&'r CheckResult>>)> {
    let mut rows: Vec<(&str, Vec<Option<&CheckResult>>)> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for (column, scenario) in group.iter().enumerate() {
        let Some(scenario) = scenario else { continue };
        for check in &scenario.checks {
            let name = scenario.check_name(check);
            let at = *index.entry(name).or_insert_with(|| {
                rows.push((name, vec![None; group.len()]));
                rows.len() - 1
            });
            // A report that contains a check twice is not better than the worse of the two.
            let known = rows[at].1[column].get_or_insert(check);
            if check.verdict > known.verdict {
                *known = check;
            }
        }
    }
    rows
}

fn group(group: &Aligned<'_>, baseline: Option<usize>) -> Group {
    let evidence_index: Vec<Option<EvidenceIndex<'_>>> =
        group.iter().map(|s| s.map(EvidenceIndex::of)).collect();
    let rows = rows(group)
        .into_iter()
        .filter_map(|(name, results)| row(name, &results, &evidence_index, baseline))
        .collect();
    let first = group.iter().flatten().next();
    Group {
        selector: first.map(|s| s.selector()).unwrap_or_default(),
        title: first.map(|s| s.title.clone()).unwrap_or_default(),
        document: first
            .map(|s| s.document.clone())
            .unwrap_or_else(|| Document { title: String::new(), url: String::new() }),
        rows,
    }
}

fn row(
    name: &str,
    results: &[Option<&CheckResult>],
    evidence_index: &[Option<EvidenceIndex<'_>>],
    baseline: Option<usize>,
) -> Option<Row> {
    let first = results.iter().flatten().next()?;
    let reference = baseline
        .filter(|&b| results[b].is_some())
        .or_else(|| results.iter().position(|r| r.is_some_and(|r| r.verdict == Verdict::Passed)))
        .or_else(|| results.iter().position(Option::is_some))?;
    let before = baseline.and_then(|b| results[b]).map(|c| c.verdict);
    let reference_cell = results[reference]?;
    let cell = |(column, result): (usize, &Option<&CheckResult>)| {
        let result = (*result)?;
        let is_judged = |c: &CheckResult| match c.verdict {
            Verdict::Passed | Verdict::Failed | Verdict::Inconclusive => true,
            // Without evidence there is nothing that could differ.
            Verdict::Skipped | Verdict::Error => false,
        };
        let comparable = is_judged(result) && is_judged(reference_cell);
        let divergence = (comparable && result.verdict != reference_cell.verdict)
            .then(|| {
                let here = slots(evidence_index[column].as_ref()?, result);
                let there = slots(evidence_index[reference].as_ref()?, reference_cell);
                divergence(&here, &there, reference)
            })
            .flatten();
        Some(Cell {
            verdict: result.verdict,
            reason: result.reason.clone(),
            missing_feature: result
                .feature
                .as_ref()
                .filter(|_| result.verdict == Verdict::Skipped)
                .map(ToString::to_string),
            movement: before.filter(|_| Some(column) != baseline).and_then(|b| movement(b, result.verdict)),
            divergence,
        })
    };
    let cells: Vec<Option<Cell>> = results.iter().enumerate().map(cell).collect();
    let lost = lost::in_row(before, &cells, baseline);
    let differs = !lost.is_empty() || cells.iter().flatten().any(|c| c.verdict != reference_cell.verdict);
    Some(Row {
        name: name.to_owned(),
        level: first.level,
        control: first.control,
        requirement: first.requirement.clone(),
        section: first.section.clone(),
        differs,
        cells,
        lost,
    })
}

const fn movement(before: Verdict, now: Verdict) -> Option<Movement> {
    match (before, now) {
        (Verdict::Passed, Verdict::Failed | Verdict::Inconclusive) => Some(Movement::Regression),
        (Verdict::Failed | Verdict::Inconclusive, Verdict::Passed) => Some(Movement::Fix),
        (Verdict::Passed, Verdict::Skipped | Verdict::Error) => Some(Movement::Lost),
        (
            Verdict::Passed | Verdict::Failed | Verdict::Inconclusive | Verdict::Skipped | Verdict::Error,
            Verdict::Passed | Verdict::Failed | Verdict::Inconclusive | Verdict::Skipped | Verdict::Error,
        ) => None,
    }
}

#[cfg(test)]
mod tests;
