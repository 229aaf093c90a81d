//! Markdown for a job summary or a comment. Text from the report appears in code spans and code blocks only,
//! where markup, user mentions and issue references have no effect (GitHub Flavored Markdown, 6.1 and 4.5).

use std::fmt::Write as _;

use crate::conclusion::{conclusion, needs_attention};
use crate::text::{Micros, plural, symbol};
use meshproof_model::report::{CheckResult, Level, Report, ScenarioResult, Tally, Verdict};
use meshproof_model::visible::{block, clipped, line};

/// GitHub accepts job summaries of 1 MiB and comments of 65,536 characters. This leaves room for other text.
const MAX_BYTES: usize = 60_000;

pub(crate) fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let conclusion = conclusion(report);
    let name = format!("{} {}", report.implementation.name, report.implementation.version);
    let _infallible = writeln!(
        out,
        "## {} meshproof: {} {}\n\n{}.\n",
        symbol(conclusion.verdict),
        span(&name, 100),
        conclusion.verdict,
        conclusion.sentence
    );
    if report.run.partial {
        let why = report.run.partial_reason.as_deref().unwrap_or("no reason was recorded");
        let _infallible = writeln!(
            out,
            "**Partial run**: stopped early ({}). Missing checks were not judged.\n",
            span(why, 300)
        );
    }
    causes(&mut out, report);
    score(&mut out, report);
    scenarios(&mut out, report);
    let unresolved = || {
        let checks = report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
        checks.filter(|(_, c)| needs_attention(c) || c.fails_run())
    };
    let mut left_out = 0;
    for (scenario, check) in unresolved() {
        let text = one(scenario, check);
        if out.len() + text.len() > MAX_BYTES {
            left_out += 1;
        } else {
            out.push_str(&text);
        }
    }
    if left_out > 0 {
        let _infallible = writeln!(out, "\n… and {}; see the report.", plural(left_out, "more check"));
    }
    for (scenario, fault) in report.scenarios.iter().flat_map(|s| s.faults.iter().map(move |f| (s, f))) {
        if out.len() < MAX_BYTES {
            let _infallible = writeln!(
                out,
                "\n**! Environment or suite error** in {}: {}",
                span(&scenario.selector(), 200),
                span(&fault.message, 600)
            );
        }
    }
    let _infallible = writeln!(
        out,
        "\nRun {}, started {}, took {}. Repeat: {}",
        span(&report.run.id, 60),
        span(&report.run.started, 60),
        Micros(report.run.duration_us),
        span(&report.run.command, 600)
    );
    out
}

/// How many causes are listed.
const MAX_CAUSES: usize = 10;

/// What the failures have in common, and the known faults that fit.
fn causes(out: &mut String, report: &Report) {
    let causes: Vec<_> = report.causes.iter().filter(|c| c.unexpected().next().is_some()).collect();
    for (number, cause) in causes.iter().take(MAX_CAUSES).enumerate() {
        let count = plural(cause.unexpected().count(), "check");
        let up = cause.consequence_of.as_ref().and_then(|up| causes.iter().position(|c| c.id == *up));
        let probably = up.map(|up| format!(" (probably a consequence of {})", up + 1)).unwrap_or_default();
        let _infallible = writeln!(out, "{}. {}: {count}{probably}", number + 1, span(&cause.title, 400));
    }
    if causes.len() > MAX_CAUSES {
        let _infallible =
            writeln!(out, "\n… and {}; see the report.", plural(causes.len() - MAX_CAUSES, "more cause"));
    }
    if let Some(diagnosis) = &report.diagnosis {
        let _infallible = match diagnosis.suspects.first() {
            Some(first) => writeln!(
                out,
                "\nLikely fault: {} ({} %): {}",
                span(&first.fault, 100),
                first.score,
                span(&first.description, 300)
            ),
            None => writeln!(out, "\nNo known fault fits what failed."),
        };
    }
    if !causes.is_empty() {
        out.push('\n');
    }
}

fn score(out: &mut String, report: &Report) {
    out.push_str("| level |");
    for verdict in Verdict::ALL {
        let _infallible = write!(out, " {} {verdict} |", symbol(verdict));
    }
    out.push_str("\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
    for level in Level::ALL {
        let tally = Tally::of(report.checks(), |c| c.level == level);
        if tally.total() > 0 {
            let _infallible = write!(out, "| {level} |");
            for verdict in Verdict::ALL {
                let _infallible = write!(out, " {} |", tally.count(verdict));
            }
            out.push('\n');
        }
    }
    out.push('\n');
}

fn scenarios(out: &mut String, report: &Report) {
    out.push_str("| scenario | verdict | checks passed | time |\n| --- | --- | ---: | ---: |\n");
    for scenario in &report.scenarios {
        let tally = Tally::of(&scenario.checks, |_| true);
        let verdict = scenario.verdict();
        let _infallible = writeln!(
            out,
            "| {} | {} {verdict} | {} of {} | {} |",
            cell(&scenario.selector(), 120),
            symbol(verdict),
            tally.count(Verdict::Passed),
            tally.total() - tally.count(Verdict::Skipped),
            Micros(scenario.timing.total_us)
        );
    }
}

fn one(scenario: &ScenarioResult, check: &CheckResult) -> String {
    let as_expected = if check.failed_as_expected() { ", as expected" } else { "" };
    let unexpected = if check.verdict == Verdict::Passed { " although a failure was expected" } else { "" };
    let name = format!("{}/{}", scenario.selector(), scenario.check_name(check));
    let rows = [
        ("requirement", check.requirement.clone()),
        ("document", format!("{}, \"{}\" {}", scenario.document.title, check.section, scenario.document.url)),
        ("expected", check.expected.clone()),
        ("seen", check.seen.clone()),
        ("repeat", check.repeat.clone()),
    ];
    let mut text = String::new();
    for (label, value) in rows {
        let value = clipped(&block(&value), 1_500).replace('\n', "\n            ");
        let _infallible = writeln!(text, "{label:<12}{value}");
    }
    format!(
        "\n### {} {} {}{as_expected}{unexpected}: {}\n\n{}\n\n<details><summary>expected, seen, \
            repeat</summary>\n\n{}\n\n</details>\n",
        symbol(check.verdict),
        check.level,
        check.verdict,
        span(&name, 300),
        span(&check.reason, 1_000),
        code_block(&text)
    )
}

/// Untrusted text in a code span, delimited by more backticks than the text contains in sequence.
fn span(text: &str, max: usize) -> String {
    let text = clipped(&line(text), max).into_owned();
    if text.trim().is_empty() {
        return "(nothing)".to_owned();
    }
    let delimiter = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{delimiter}{pad}{text}{pad}{delimiter}")
}

/// Untrusted text in a table cell, where a vertical bar ends the cell even inside a code span.
fn cell(text: &str, max: usize) -> String {
    span(&text.replace('|', "\u{2502}"), max)
}

fn code_block(text: &str) -> String {
    let delimiter = "`".repeat(longest_run(text).max(2) + 1);
    format!("{delimiter}text\n{}\n{delimiter}", text.trim_end())
}

fn longest_run(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}
