//! A comparison of several reports on a terminal.

use std::io::{self, Write};

use super::escape::{cut, line, no_command};
use super::style::OutputStyle;
use crate::compare::{Cell, Comparison, LostCheck, Movement, Row};
use crate::text::{asked, plural, symbol};
use meshproof_model::report::Verdict;

/// The width of one verdict.
const CELL: usize = 16;

/// Writes the comparison: the implementations, then every check with different verdicts and their first
/// divergences. With `all`, the other checks too.
///
/// # Errors
/// Writing to the output fails.
pub fn comparison(
    out: &mut impl Write,
    comparison: &Comparison,
    all: bool,
    style: OutputStyle,
) -> io::Result<()> {
    for (number, column) in comparison.columns.iter().enumerate() {
        let name = line(&column.label());
        let verdict = style.verdict(column.verdict, &column.verdict.to_string());
        let baseline = if comparison.baseline == Some(number) { ", the baseline" } else { "" };
        writeln!(
            out,
            "{:>3} {} ({}, run {}){baseline}: {verdict}, {}",
            number + 1,
            style.bold(&no_command(&cut(&name, 60))),
            line(&column.target),
            line(&column.run),
            asked(column.must_passed, column.must_asked, column.must_not_asked)
        )?;
    }
    by_scenario(out, comparison, style)?;
    for group in &comparison.scenarios {
        let shown: Vec<&Row> = group.rows.iter().filter(|r| all || r.differs).collect();
        if shown.is_empty() {
            continue;
        }
        writeln!(out, "\n{}", style.bold(&no_command(&line(&group.selector))))?;
        for rows in alike(&shown) {
            write_rows(out, &rows, style)?;
        }
    }
    let total = comparison.rows().count();
    let differ = comparison.rows().filter(|(_, r)| r.differs).count();
    let have = if differ == 1 || total == 1 { "has" } else { "have" };
    write!(out, "\n{differ} of {} {have} different verdicts", plural(total, "check"))?;
    if comparison.baseline.is_some() {
        write!(out, "; {}", since_baseline(comparison))?;
    }
    writeln!(out)
}

/// The width of one cell of the table by scenario.
const SCENARIO_CELL: usize = 20;

/// One line per scenario: how many of its MUST checks passed in each report.
fn by_scenario(out: &mut impl Write, comparison: &Comparison, style: OutputStyle) -> io::Result<()> {
    let scenarios = comparison.by_scenario();
    let label = scenarios.iter().map(|s| line(&s.scenario).chars().count()).max().unwrap_or(0).min(40);
    let fit = style.width.saturating_sub(label + 4).max(SCENARIO_CELL) / SCENARIO_CELL;
    writeln!(out)?;
    for scenario in &scenarios {
        for (part, cells) in scenario.cells.chunks(fit).enumerate() {
            let name =
                if part == 0 { cut(&line(&scenario.scenario), label).into_owned() } else { String::new() };
            write!(out, "  {}", no_command(&format!("{name:label$}")))?;
            for (number, cell) in cells.iter().enumerate() {
                let text = format!("{} {} {}", part * fit + number + 1, symbol(cell.verdict()), cell.text());
                let last = number + 1 == cells.len();
                let pad = if last { 0 } else { SCENARIO_CELL.saturating_sub(text.chars().count()) };
                write!(out, "  {}{}", painted(style, Some(cell.verdict()), &text), " ".repeat(pad))?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// `compared with the baseline: 3 regressions (2 of them lost checks), 1 check fixed`.
fn since_baseline(comparison: &Comparison) -> String {
    let (allowed, lost): (Vec<_>, Vec<_>) = comparison.lost().partition(|(_, _, l)| l.allowed);
    let of_them = match lost.len() {
        0 => String::new(),
        n => format!(" ({n} of them {})", if n == 1 { "a lost check" } else { "lost checks" }),
    };
    let allowed = match allowed.len() {
        0 => String::new(),
        n => format!(", {} lost as allowed", plural(n, "check")),
    };
    format!(
        "compared with the baseline: {}{of_them}{allowed}, {} fixed",
        plural(comparison.regressions(), "regression"),
        plural(comparison.moved(Movement::Fix), "check")
    )
}

/// Rows with the same verdicts and remarks, in the order of the first of each. A row with a failure is never put together with
/// another one: its evidence is its own.
fn alike<'r>(rows: &[&'r Row]) -> Vec<Vec<&'r Row>> {
    let mut groups: Vec<Vec<&'r Row>> = Vec::new();
    for row in rows {
        let same = groups.iter_mut().find(|group| group.first().is_some_and(|first| reads_like(first, row)));
        match same {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

fn reads_like(a: &Row, b: &Row) -> bool {
    let is_quiet = |row: &Row| {
        row.cells.iter().flatten().all(|cell| match cell.verdict {
            Verdict::Passed | Verdict::Skipped => true,
            Verdict::Failed | Verdict::Inconclusive | Verdict::Error => false,
        })
    };
    let verdicts = |row: &Row| row.cells.iter().map(|c| c.as_ref().map(|c| c.verdict)).collect::<Vec<_>>();
    let remarks = |row: &Row| {
        row.cells.iter().enumerate().map(|(n, c)| remark(row.lost_in(n), c.as_ref())).collect::<Vec<_>>()
    };
    is_quiet(a) && is_quiet(b) && verdicts(a) == verdicts(b) && remarks(a) == remarks(b)
}

fn write_rows(out: &mut impl Write, rows: &[&Row], style: OutputStyle) -> io::Result<()> {
    let Some(row) = rows.first() else { return Ok(()) };
    let labels: Vec<String> =
        rows.iter().map(|row| cut(&format!("{} {}", row.level, line(&row.name)), 100).into_owned()).collect();
    let options = textwrap::Options::new(style.width.max(40))
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .initial_indent("  ")
        .subsequent_indent("  ");
    for wrapped in textwrap::wrap(&labels.join(", "), options) {
        writeln!(out, "{}", no_command(&wrapped))?;
    }
    // As many columns per line as fit.
    let fit = style.width.saturating_sub(4).max(CELL) / CELL;
    for (part, cells) in row.cells.chunks(fit).enumerate() {
        write!(out, "    ")?;
        for (number, cell) in cells.iter().enumerate() {
            let column = part * fit + number + 1;
            let word = cell.as_ref().map_or_else(|| "missing".to_owned(), |c| c.verdict.to_string());
            let sign = cell.as_ref().map_or("·", |c| symbol(c.verdict));
            let text = format!("{column} {sign} {word}");
            let last = number + 1 == cells.len();
            let pad = " ".repeat(if last { 0 } else { CELL.saturating_sub(text.chars().count()) });
            write!(out, "{}{pad}", painted(style, cell.as_ref().map(|c| c.verdict), &text))?;
        }
        writeln!(out)?;
    }
    for (number, cell) in row.cells.iter().enumerate() {
        let Some(text) = remark(row.lost_in(number), cell.as_ref()) else { continue };
        let options = textwrap::Options::new(style.width.max(40))
            .initial_indent("      ")
            .subsequent_indent("        ");
        for wrapped in textwrap::wrap(&format!("{}: {}", number + 1, line(&text)), options) {
            writeln!(out, "{}", no_command(&wrapped))?;
        }
    }
    Ok(())
}

fn painted(style: OutputStyle, verdict: Option<Verdict>, text: &str) -> String {
    match verdict {
        Some(Verdict::Passed) | None => text.to_owned(),
        Some(Verdict::Failed | Verdict::Inconclusive | Verdict::Error | Verdict::Skipped) => style.bold(text),
    }
}

/// What is said of a cell besides its verdict.
fn remark(lost: Option<&LostCheck>, cell: Option<&Cell>) -> Option<String> {
    let moved = match cell.and_then(|c| c.movement) {
        Some(Movement::Regression) => "regression; ",
        Some(Movement::Fix) => "fixed; ",
        Some(Movement::Lost) | None => "",
    };
    Some(match (lost, cell) {
        (Some(lost), _) if lost.allowed => format!("lost, which is allowed: {}", lost.reason),
        (Some(lost), _) => format!("lost: {}", lost.reason),
        (None, Some(Cell { divergence: Some(divergence), .. })) => {
            format!("{moved}first divergence from {}: {}", divergence.with + 1, divergence.sentence())
        }
        (None, Some(Cell { verdict, reason, .. })) if *verdict != Verdict::Passed => {
            format!("{moved}{reason}")
        }
        (None, Some(_)) if !moved.is_empty() => moved.trim_end_matches("; ").to_owned(),
        (None, Some(_) | None) => return None,
    })
}
