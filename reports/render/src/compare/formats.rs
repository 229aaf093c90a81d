//! The output formats of a comparison.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{Cell, Comparison, LostCheck, Movement, Row};
use crate::terminal::{self, OutputStyle};
use crate::text::{asked, plural, symbol};
use meshproof_model::report::{Level, Report, Verdict};
use meshproof_model::visible::{clipped, line};

/// A comment on GitHub has at most 65,536 characters.
const MAX_MARKDOWN: usize = 60_000;

/// The longest text of one value, in characters.
const MAX_TEXT: usize = 2_000;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonFormat {
    /// For a terminal.
    Text,
    /// For a job summary or a comment.
    Markdown,
    /// JUnit XML: one suite per report and scenario configuration.
    Junit,
    /// The data itself; its JSON Schema is published.
    Json,
    /// The page.
    Html,
}

impl ComparisonFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Text, Self::Markdown, Self::Junit, Self::Json, Self::Html];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Junit => "junit",
            Self::Json => "json",
            Self::Html => "html",
        }
    }

    /// The comparison in this format. `reports` are those that were compared; the page contains their evidence.
    ///
    /// # Errors
    /// None is known.
    pub fn render(self, comparison: &Comparison, reports: &[&Report]) -> Result<String, String> {
        match self {
            Self::Text => {
                let mut text = Vec::new();
                terminal::comparison(&mut text, comparison, false, OutputStyle::PLAIN)
                    .map_err(|e| e.to_string())?;
                String::from_utf8(text).map_err(|e| e.to_string())
            }
            Self::Markdown => Ok(markdown(comparison)),
            Self::Junit => junit(comparison).map_err(|e| e.to_string()),
            Self::Json => {
                serde_json::to_string_pretty(comparison).map(|text| text + "\n").map_err(|e| e.to_string())
            }
            Self::Html => Ok(crate::html::comparison_page(comparison, reports, true)),
        }
    }
}

impl fmt::Display for ComparisonFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ComparisonFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|f| f.name()).collect();
            format!("unknown format {text:?}. The formats are: {}", names.join(", "))
        })
    }
}

/// What a reader should know about a cell; nothing for one that passed or failed like its reference.
fn remark(cell: Option<&Cell>, lost: Option<&LostCheck>) -> Option<String> {
    let moved = match cell.and_then(|c| c.movement) {
        Some(Movement::Regression) => "regression: ",
        Some(Movement::Fix) => "fixed",
        Some(Movement::Lost) | None => "",
    };
    match (lost, cell) {
        (Some(lost), _) if lost.allowed => Some(format!("lost ({}), which is allowed", lost.how.word())),
        (Some(lost), _) => Some(format!("lost ({}): {}", lost.how.word(), lost.reason)),
        (None, Some(cell)) => match (&cell.divergence, cell.verdict) {
            (Some(divergence), _) => Some(format!("{moved}{}", divergence.sentence())),
            (None, Verdict::Passed) => Some(moved.to_owned()).filter(|m| !m.is_empty()),
            (None, Verdict::Failed | Verdict::Inconclusive | Verdict::Skipped | Verdict::Error) => {
                Some(format!("{moved}{}", cell.reason))
            }
        },
        (None, None) => None,
    }
}

/// Untrusted text in a code span, where markup and mentions have no effect (GitHub Flavored Markdown, 6.1), and in one cell of a
/// table.
fn span(text: &str, most: usize) -> String {
    let text = clipped(&line(text), most).replace('|', "¦");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let ticks = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    if text.is_empty() { String::new() } else { format!("{ticks}{pad}{text}{pad}{ticks}") }
}

fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    let differ = comparison.rows().filter(|(_, r)| r.differs).count();
    let total = comparison.rows().count();
    let have = if differ == 1 || total == 1 { "has" } else { "have" };
    let total = plural(total, "check");
    let regressions = comparison.regressions();
    let title = match comparison.baseline {
        Some(_) if regressions > 0 => format!("✗ meshproof: {}", plural(regressions, "regression")),
        Some(_) => "✓ meshproof: no regression".to_owned(),
        None => format!("meshproof: {} compared", plural(comparison.columns.len(), "report")),
    };
    let _infallible = writeln!(out, "## {title}\n\n{differ} of {total} {have} different verdicts.\n");
    out.push_str("| | report | verdict | MUST checks |\n| --- | --- | --- | --- |\n");
    for (number, column) in comparison.columns.iter().enumerate() {
        let baseline = if comparison.baseline == Some(number) { " (baseline)" } else { "" };
        let _infallible = writeln!(
            out,
            "| {} | {}{baseline} | {} {} | {} |",
            number + 1,
            span(&column.label(), 120),
            symbol(column.verdict),
            column.verdict,
            asked(column.must_passed, column.must_asked, column.must_not_asked)
        );
    }
    out.push_str("\n| scenario |");
    for number in 1..=comparison.columns.len() {
        let _infallible = write!(out, " {number} |");
    }
    let _infallible = writeln!(out, "\n| --- |{}", " --- |".repeat(comparison.columns.len()));
    for scenario in comparison.by_scenario() {
        let _infallible = write!(out, "| {} |", span(&scenario.scenario, 100));
        for cell in &scenario.cells {
            let _infallible = write!(out, " {} {} |", symbol(cell.verdict()), cell.text());
        }
        out.push('\n');
    }
    let mut left_out = 0;
    for (selector, row) in comparison.rows().filter(|(_, r)| r.differs) {
        let text = differing(selector, row);
        if out.len() + text.len() > MAX_MARKDOWN { left_out += 1 } else { out.push_str(&text) }
    }
    if left_out > 0 {
        let _infallible =
            writeln!(out, "\n… and {} with different verdicts.", plural(left_out, "more check"));
    }
    out
}

/// A check with different verdicts, one line per report.
fn differing(selector: &str, row: &Row) -> String {
    let mut text = format!("\n{} {}\n", row.level, span(&format!("{selector}/{}", row.name), 200));
    for (number, cell) in row.cells.iter().enumerate() {
        let verdict = cell
            .as_ref()
            .map_or_else(|| "· missing".to_owned(), |c| format!("{} {}", symbol(c.verdict), c.verdict));
        let remark = remark(cell.as_ref(), row.lost_in(number)).map(|r| format!(": {}", span(&r, 400)));
        let _infallible = writeln!(text, "- {} {verdict}{}", number + 1, remark.unwrap_or_default());
    }
    text
}

/// With a baseline, a regression is a failure; without one, a MUST check that failed or is inconclusive.
fn junit(comparison: &Comparison) -> Result<String, quick_junit::SerializeError> {
    let text = |text: &str| clipped(&line(text), MAX_TEXT).into_owned();
    let mut out = quick_junit::Report::new("meshproof comparison");
    for (number, column) in comparison.columns.iter().enumerate() {
        if comparison.baseline == Some(number) {
            continue;
        }
        for group in &comparison.scenarios {
            let mut suite = TestSuite::new(text(&format!("{}: {}", column.label(), group.selector)));
            for row in &group.rows {
                let status = status(row, number, comparison.baseline.is_some());
                let mut case = TestCase::new(text(&row.name), status);
                case.set_classname(text(&group.selector));
                suite.add_test_case(case);
            }
            out.add_test_suite(suite);
        }
    }
    out.to_string()
}

fn status(row: &Row, column: usize, has_baseline: bool) -> TestCaseStatus {
    let (cell, lost) = (row.cells[column].as_ref(), row.lost_in(column));
    let reason = remark(cell, lost).unwrap_or_default();
    let reason = clipped(&line(&reason), MAX_TEXT).into_owned();
    let regressed = cell.is_some_and(|c| c.movement == Some(Movement::Regression));
    let is_failure = match cell.map(|c| c.verdict) {
        _ if has_baseline => regressed || lost.is_some_and(|l| !l.allowed),
        Some(Verdict::Failed | Verdict::Inconclusive) => row.level == Level::Must,
        Some(Verdict::Passed | Verdict::Skipped | Verdict::Error) | None => false,
    };
    if is_failure {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        let kind = if lost.is_some() {
            "lost"
        } else if has_baseline {
            "regression"
        } else {
            "failed"
        };
        status.set_type(kind).set_message(reason);
        return status;
    }
    match cell.map(|c| c.verdict) {
        Some(Verdict::Passed) => TestCaseStatus::success(),
        Some(Verdict::Failed | Verdict::Inconclusive | Verdict::Skipped | Verdict::Error) | None => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(if reason.is_empty() { "not in this report".to_owned() } else { reason });
            status
        }
    }
}
