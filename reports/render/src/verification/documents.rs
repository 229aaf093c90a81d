//! Markdown, JUnit and GitHub annotations.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use meshproof_model::verification::{Finding, Severity, Verification};
use meshproof_model::visible::{block, clipped, line};
use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::cells::{HEADINGS, cells};
use super::{page_of, place_and_resource};
use crate::formats;
use crate::text::plural;

/// GitHub shows ten annotations of each kind per step and drops the rest.
const MAX_PER_KIND: usize = 10;
/// How many flows a summary shows.
const MAX_FLOWS: usize = 200;

/// A cell of a table: on one line, without what Markdown or HTML would read.
fn cell(text: &str) -> String {
    let text = clipped(&line(text), 300).into_owned();
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '#' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // A mention or a link would otherwise be made of it.
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
    }
    out.replace("://", ":&#47;&#47;")
}

pub(super) fn markdown(verification: &Verification) -> String {
    let mut out = String::new();
    let errors = verification.findings.iter().filter(|f| f.severity == Severity::Error).count();
    let warnings = verification.findings.len() - errors;
    let _infallible =
        writeln!(out, "## meshproof verify: {}, {}\n", plural(errors, "error"), plural(warnings, "warning"));
    if let Some(cluster) = &verification.cluster {
        let _infallible = writeln!(out, "In {}.\n", cell(cluster));
    }
    for finding in &verification.findings {
        let (at, resource) = place_and_resource(finding);
        let _infallible = writeln!(
            out,
            "### {} {} {}\n\n{}\n\n{}.\n\n{}.\n",
            finding.severity,
            finding.code,
            cell(&finding.name),
            if resource.is_empty() { cell(&at) } else { format!("{}, {}", cell(&at), cell(resource)) },
            cell(&finding.message),
            cell(&finding.effect)
        );
        if let Some(proof) = &finding.proof {
            let _infallible = writeln!(out, "Proof: {}\n", cell(proof));
        }
        if let Some(fix) = &finding.fix {
            let _infallible = writeln!(out, "**Fix:** {}.\n", cell(&fix.summary));
            if !fix.patch.is_empty() {
                let patch = block(&fix.patch).replace("```", "`\u{200b}``");
                let _infallible = writeln!(out, "```yaml\n{}\n```\n", patch.trim_end());
            }
        }
    }
    if !verification.flows.is_empty() {
        let _infallible = writeln!(out, "### Where requests go\n");
        let _infallible = writeln!(out, "| {} |", HEADINGS.join(" | "));
        let _infallible = writeln!(out, "|{}", " --- |".repeat(HEADINGS.len()));
        for flow in verification.flows.iter().take(MAX_FLOWS) {
            let _infallible = writeln!(out, "| {} |", cells(flow).map(|c| cell(&c)).join(" | "));
        }
        if verification.flows.len() > MAX_FLOWS {
            let rest = plural(verification.flows.len() - MAX_FLOWS, "more flow");
            let _infallible = writeln!(out, "\n{rest} in the JSON format.");
        }
    }
    if !verification.notes.is_empty() {
        let _infallible = writeln!(out, "\n### Notes\n");
        for note in verification.notes.iter().take(MAX_FLOWS) {
            let _infallible =
                writeln!(out, "- {} {}: {}", note.code, cell(&note.at.to_string()), cell(&note.message));
        }
    }
    if let Some(proof) = &verification.proof {
        let _infallible = writeln!(out, "\n{}", formats::markdown::markdown(proof));
    }
    if !verification.not_proved.is_empty() {
        let _infallible = writeln!(out, "\n### Not proved\n");
        for request in verification.not_proved.iter().take(MAX_FLOWS) {
            let _infallible = writeln!(out, "- {}", cell(request));
        }
    }
    out
}

/// The message after `::`, which only a line end would terminate.
fn data(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|l| clipped(&line(l), 1_500).into_owned()).collect();
    // The runner accepts its older commands, such as `##[error]`, anywhere in a line.
    lines.join("\n").replace("##[", "# #[").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property, which a comma or a colon would terminate too.
fn property(text: &str) -> String {
    data(&clipped(&line(text), 200)).replace(':', "%3A").replace(',', "%2C")
}

pub(super) fn annotations(verification: &Verification) -> String {
    let mut out = String::new();
    let all = || verification.findings.iter().chain(&verification.notes);
    for (severity, word) in
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "notice")]
    {
        let found: Vec<&Finding> = all().filter(|f| f.severity == severity).collect();
        let shown = if found.len() > MAX_PER_KIND { MAX_PER_KIND - 1 } else { found.len() };
        for finding in &found[..shown] {
            let title = format!("{} {}", finding.code, finding.name);
            let fix = finding.fix.as_ref().map(|f| format!("\nFix: {}", f.summary)).unwrap_or_default();
            let at = &finding.at;
            // Without a file the annotation is the run's, and its text says where.
            let (place, before) = if at.is_in_file() {
                let place = format!("file={},line={},col={},", property(&at.file), at.line, at.column);
                (place, String::new())
            } else {
                (String::new(), format!("{at}: "))
            };
            let message = format!("{before}{}\n{}{fix}", finding.message, finding.effect);
            let _infallible = writeln!(out, "::{word} {place}title={}::{}", property(&title), data(&message));
        }
        if found.len() > shown {
            let rest = plural(found.len() - shown, "more finding");
            let _infallible = writeln!(out, "::{word} title=meshproof::{rest}; see the report");
        }
    }
    if let Some(proof) = &verification.proof {
        out.push_str(&formats::github::annotations(proof));
    }
    out
}

/// One suite per file, or for the cluster, one case per finding; a file without findings has one case that passes. Then the checks of
/// the proof, as in any report.
pub(super) fn junit(verification: &Verification) -> Result<String, SerializeError> {
    let text = |value: &str| clipped(&line(value), 4_000).into_owned();
    let mut out = quick_junit::Report::new("meshproof verify");
    let mut by_file: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for file in verification.files.iter().chain(&verification.cluster) {
        by_file.entry(file).or_default();
    }
    for finding in &verification.findings {
        let of_cluster = verification.cluster.as_ref().filter(|_| !finding.at.is_in_file());
        by_file.entry(of_cluster.unwrap_or(&finding.at.file)).or_default().push(finding);
    }
    for (file, findings) in by_file {
        let mut suite = TestSuite::new(text(file));
        if findings.is_empty() {
            let mut case = TestCase::new("no finding", TestCaseStatus::success());
            case.set_classname(text(file));
            suite.add_test_case(case);
        }
        for finding in findings {
            let mut status = if finding.severity == Severity::Error {
                TestCaseStatus::non_success(NonSuccessKind::Failure)
            } else {
                TestCaseStatus::skipped()
            };
            status.set_message(text(&finding.message));
            if finding.severity == Severity::Error {
                let fix = finding.fix.as_ref().map(|f| format!("\nfix: {}\n{}", f.summary, f.patch));
                let body = format!(
                    "{}\n{}\n{}{}\nmore: {}",
                    finding.at,
                    finding.message,
                    finding.effect,
                    fix.unwrap_or_default(),
                    page_of(&finding.code)
                );
                status
                    .set_type(finding.code.clone())
                    .set_description(clipped(&block(&body), 16_000).into_owned());
            }
            let name = format!("{} {} {}", finding.code, finding.name, finding.at);
            let mut case = TestCase::new(text(&name), status);
            case.set_classname(text(file));
            suite.add_test_case(case);
        }
        out.add_test_suite(suite);
    }
    if let Some(proof) = &verification.proof {
        out.add_test_suites(formats::junit::suites(proof));
    }
    out.to_string()
}
