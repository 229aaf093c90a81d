//! `meshproof report`, `meshproof compare` and `meshproof baseline`: the commands that read saved reports.

use std::io::Read;
use std::path::{Path, PathBuf};

use meshproof_model::json::MAX_REPORT_BYTES;
use meshproof_model::{Level, Report, Verdict, from_json};
use meshproof_render::compare::{Comparison, ComparisonFormat, compare as compared};
use meshproof_render::expectations::{self, Expectations};
use meshproof_render::formats::Format;
use meshproof_render::terminal;
use meshproof_render::text::plural;

use crate::args;
use crate::dictionary::diagnose_report;
use crate::exit::{self, Refusal};
use crate::output::{OutFolder, answer, complain, style, write_file};
use crate::packed;
use crate::suite::Suite;

/// Converts a saved report to other formats.
///
/// # Errors
/// The report cannot be read, or a format cannot be written.
pub fn report(suite: Suite, args: &args::Render) -> Result<u8, Refusal> {
    let mut report = read_report(&args.report)?;
    if let Some(file) = &args.expect {
        // Another version may have written the report.
        let own = report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
        let own = own.flat_map(|(s, c)| [c.id.clone(), format!("{}/{}", s.selector(), s.check_name(c))]);
        expect(&read_expectations(file, suite, own.collect())?, &mut report);
    }
    diagnose_report(&mut report)?;
    let formats = if args.formats.is_empty() { vec![Format::Text] } else { args.formats.clone() };
    match &args.out {
        None if args.formats.is_empty() => {
            let mut text = Vec::new();
            let detail = args::detail(args.quiet, args.verbose);
            terminal::summary(&mut text, &report, None, style(&std::io::stdout()), detail)
                .map_err(|e| Refusal::Environment(format!("the summary cannot be written: {e}")))?;
            answer(&String::from_utf8_lossy(&text));
        }
        Some(folder) => {
            let out = OutFolder::open(folder)?;
            for format in formats {
                let path = out.write_as(&report, format)?;
                answer(&format!("{}\n", path.display()));
            }
        }
        None => {
            let [format] = formats.as_slice() else {
                return Err(Refusal::Usage("several formats need a folder: add --out DIR".to_owned()));
            };
            let text = format.render(&report).map_err(|e| Refusal::Environment(e.to_string()))?;
            answer(&text);
        }
    }
    let asked = enough(&report, args.min_checks, args.formats.is_empty());
    let Some(least) = args.fail_on.map(Level::from) else { return Ok(asked) };
    // The summary says "passed" when no MUST failed.
    let more: Vec<_> = report.checks().filter(|c| c.fails_at(least) && !c.fails_run()).collect();
    for check in &more {
        complain(&format!("{} {} {}: {}", check.level, check.id, check.verdict, check.reason));
    }
    if !more.is_empty() && args.formats.is_empty() {
        answer(&format!("✗ FAILED with --fail-on: {} below MUST failed\n", plural(more.len(), "check")));
    }
    Ok(worse(report.exit_code_at(least), asked))
}

/// [`exit::ERROR`], with a message, if fewer than `least` checks of the report were judged. The message is the last line of the
/// summary, if there is one.
#[must_use]
pub fn enough(report: &Report, least: Option<usize>, below_summary: bool) -> u8 {
    let judged = report.checks().filter(|c| match c.verdict {
        Verdict::Passed | Verdict::Failed | Verdict::Inconclusive => true,
        Verdict::Skipped | Verdict::Error => false,
    });
    let (judged, least) = (judged.count(), least.unwrap_or_default());
    if judged >= least {
        return exit::OK;
    }
    conclude(&format!("{} judged. --min-checks requires {least}", plural(judged, "check")), below_summary);
    exit::ERROR
}

/// Says that too little was asked: where readers look for the verdict, unless standard output is for a program.
pub fn conclude(words: &str, below_summary: bool) {
    if below_summary {
        answer(&format!("✗ NOT ENOUGH: {words}\n"));
    } else {
        complain(words);
    }
}

/// A failed implementation is a stronger result than a run that asked too little.
#[must_use]
pub const fn worse(code: u8, asked: u8) -> u8 {
    if code == exit::OK { asked } else { code }
}

/// Compares reports.
///
/// # Errors
/// A report cannot be read, the reports have no check in common, or the comparison cannot be written.
pub fn compare(args: &args::Compare) -> Result<u8, Refusal> {
    let named: Vec<&args::NamedReport> = args.baseline.iter().chain(&args.reports).collect();
    let reports = named.iter().map(|n| read_report(&n.path)).collect::<Result<Vec<Report>, Refusal>>()?;
    let reports: Vec<&Report> = reports.iter().collect();
    let baseline = args.baseline.as_ref().map(|_| 0);
    if reports.len() < 2 {
        return Err(Refusal::Usage("a comparison needs at least two reports".to_owned()));
    }
    let mut labels: Vec<&str> = named.iter().filter_map(|n| n.name.as_deref()).collect();
    labels.sort_unstable();
    if let Some(twice) = labels.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refusal::Usage(format!(
            "two reports are called {:?}. Give each a name of its own",
            twice[0]
        )));
    }
    let mut comparison = compared(&reports, baseline);
    if let Some(column) = comparison.disjoint() {
        return Err(Refusal::Usage(no_common_check(&named, &reports, column, baseline)));
    }
    comparison.label(&named.iter().map(|n| n.name.clone()).collect::<Vec<_>>());
    for note in comparison.allow_lost(&args.allow_lost) {
        complain(&format!("note: {note}"));
    }
    let unwritten = |e: String| Refusal::Environment(format!("the comparison cannot be written: {e}"));
    let format =
        args.format.unwrap_or(if args.json { ComparisonFormat::Json } else { ComparisonFormat::Text });
    if format == ComparisonFormat::Text {
        let mut text = Vec::new();
        terminal::comparison(&mut text, &comparison, args.all, style(&std::io::stdout()))
            .map_err(|e| unwritten(e.to_string()))?;
        answer(&String::from_utf8_lossy(&text));
    } else {
        answer(&format.render(&comparison, &reports).map_err(unwritten)?);
    }
    if let Some(file) = &args.html {
        link(&mut comparison, &named, file);
        let page = meshproof_render::html::comparison_page(&comparison, &reports, !args.no_evidence);
        write_file(file, page.as_bytes(), "--html FILE")?;
        if format == ComparisonFormat::Text {
            answer(&format!("page {}\n", file.display()));
        }
    }
    for (format, file) in &args.write {
        link(&mut comparison, &named, file);
        let text = format.render(&comparison, &reports).map_err(unwritten)?;
        write_file(file, text.as_bytes(), "--write FORMAT=FILE")?;
    }
    let failed = if comparison.regressions() > 0 { exit::FAILED } else { exit::OK };
    let below_summary = format == ComparisonFormat::Text;
    Ok(worse(failed, enough_in_all(&comparison, args.min_checks, below_summary)))
}

/// Why reports without a common check cannot be compared.
fn no_common_check(
    named: &[&args::NamedReport],
    reports: &[&Report],
    column: usize,
    baseline: Option<usize>,
) -> String {
    let scenarios = |report: &Report| {
        let mut ids: Vec<&str> = report.scenarios.iter().map(|s| s.id.as_str()).collect();
        ids.dedup();
        let shown = ids.iter().take(8).copied().collect::<Vec<_>>().join(", ");
        match ids.len() {
            0 => "no scenario".to_owned(),
            1..=8 => shown,
            n => format!("{shown} and {} more", n - 8),
        }
    };
    let other = baseline.unwrap_or(usize::from(column == 0));
    let path = |at: usize| named[at].path.display();
    let what = if baseline.is_some() { "the baseline" } else { "any other report" };
    format!(
        "{} has no check in common with {what}, so there is nothing to compare.\n  {} contains {}\n  {} contains {}\nCompare \
         reports of the same scenarios and configurations",
        path(column),
        path(column),
        scenarios(reports[column]),
        path(other),
        scenarios(reports[other])
    )
}

/// Links the columns to the pages of their reports, as far as they have one, for a page in this file.
fn link(comparison: &mut Comparison, named: &[&args::NamedReport], file: &Path) {
    let absolute = |path: &Path| std::path::absolute(path).ok();
    for (column, report) in comparison.columns.iter_mut().zip(named) {
        let folder = if report.path.is_dir() { Some(report.path.as_path()) } else { report.path.parent() };
        let page = folder.map(|f| f.join(Format::Html.file_name())).filter(|page| page.is_file());
        let relative = |page: PathBuf| meshproof_render::html::relative(&absolute(file)?, &absolute(&page)?);
        column.page = page.and_then(relative);
    }
}

/// [`exit::ERROR`], with a message, if fewer than `least` checks were judged in every report.
fn enough_in_all(comparison: &Comparison, least: Option<usize>, below_summary: bool) -> u8 {
    let (judged, least) = (comparison.judged_in_all(), least.unwrap_or_default());
    if judged >= least {
        return exit::OK;
    }
    let judged = plural(judged, "check");
    conclude(&format!("{judged} judged in every report. --min-checks requires {least}"), below_summary);
    exit::ERROR
}

/// Writes the failures of a report as a file of expected failures.
///
/// # Errors
/// The report cannot be read, or the file cannot be written.
pub fn baseline(args: &args::Baseline) -> Result<u8, Refusal> {
    let report = read_report(&args.report)?;
    if report.run.partial {
        let why = report.run.partial_reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
        complain(&format!(
            "note: the run was interrupted{why}, so the list lacks failures of checks that it did not execute"
        ));
    }
    let baseline = Expectations::baseline(&report);
    let yaml = baseline.to_yaml().map_err(|e| Refusal::Environment(e.to_string()))?;
    match &args.out {
        Some(file) => write_file(file, yaml.as_bytes(), "--out FILE")?,
        None => answer(&yaml),
    }
    Ok(exit::OK)
}

/// Reads a report from its file, from the folder that a run wrote it to, or from standard input (`-`).
pub(crate) fn read_report(path: &Path) -> Result<Report, Refusal> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let most = MAX_REPORT_BYTES as u64 + 1;
        std::io::stdin()
            .lock()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|e| Refusal::Usage(format!("standard input cannot be read: {e}")))?;
        return one_of(reports_in("standard input", &bytes)?, "standard input");
    }
    let named = path.display().to_string();
    one_of(read_reports(path)?, &named)
}

fn one_of(mut reports: Vec<Report>, named: &str) -> Result<Report, Refusal> {
    match (reports.pop(), reports.len()) {
        (Some(report), 0) => Ok(report),
        (_, others) => Err(Refusal::Usage(format!(
            "{named} has {} reports. `meshproof merge` makes one of the shards of a run",
            others + 1
        ))),
    }
}

/// The reports of a file: the one of a `report.json`, or those in a log ([`packed`]).
fn reports_in(named: &str, bytes: &[u8]) -> Result<Vec<Report>, Refusal> {
    let wrong = |e: String| Refusal::Usage(format!("{named}: {e}"));
    if !packed::is_packed(bytes) {
        return Ok(vec![from_json(bytes).map_err(|e| wrong(e.to_string()))?]);
    }
    let found = packed::unpacked(bytes).map_err(wrong)?;
    found.iter().map(|report| from_json(report).map_err(|e| wrong(e.to_string()))).collect()
}

/// Reads the reports of a `report.json`, of the folder that a run wrote it to, or of a log.
///
/// # Errors
/// There is none, or it cannot be read.
pub(crate) fn read_reports(path: &Path) -> Result<Vec<Report>, Refusal> {
    let file: PathBuf = if path.is_dir() { path.join(Format::Json.file_name()) } else { path.to_owned() };
    if !file.exists() {
        let what = if path.is_dir() { "contains no report.json" } else { "does not exist" };
        return Err(Refusal::Usage(format!(
            "{} {what}. Name a report.json, or the folder that a run wrote it to",
            path.display()
        )));
    }
    let bytes = read_bounded(&file, MAX_REPORT_BYTES)?;
    reports_in(&file.display().to_string(), &bytes)
}

/// Reads a file of expected failures. The checks in it are those of the suite, or `others`.
///
/// # Errors
/// The file cannot be read, is not a valid list, or names a check that does not exist.
pub fn read_expectations(file: &Path, suite: Suite, others: Vec<String>) -> Result<Expectations, Refusal> {
    let bytes = read_bounded(file, expectations::MAX_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let wrong = |e: String| Refusal::Usage(format!("{}: {e}", file.display()));
    let expectations = Expectations::from_yaml(&text).map_err(|e| wrong(e.to_string()))?;
    let mut known = suite.check_ids();
    known.extend(others);
    if !expectations.unknown(&known).is_empty() {
        // A run of the full matrix has more checks.
        let full = meshproof_scenarios::asking(suite.scenarios, &meshproof_scenarios::Paths::Full);
        let full = full.map_err(|e| Refusal::Environment(e.to_string()))?;
        known.extend(Suite { scenarios: full.leak(), ..suite }.check_ids());
    }
    let unknown = expectations.unknown(&known);
    if unknown.is_empty() {
        return Ok(expectations);
    }
    let hint = format!("`{} list` shows all scenarios and checks", suite.program);
    Err(wrong(format!("{}\n{hint}", unknown.join("\n"))))
}

/// Marks the expected failures in the report, and prints what the user should know about them.
pub fn expect(expectations: &Expectations, report: &mut Report) {
    for note in expectations.apply(report, expectations::today()) {
        complain(&format!("note: {note}"));
    }
}

fn read_bounded(file: &Path, most: usize) -> Result<Vec<u8>, Refusal> {
    let shown = file.display();
    let size =
        std::fs::metadata(file).map_err(|e| Refusal::Usage(format!("{shown} cannot be read: {e}")))?.len();
    if size > most as u64 {
        return Err(Refusal::Usage(format!("{shown} has {size} bytes; the limit is {most} bytes")));
    }
    std::fs::read(file).map_err(|e| Refusal::Usage(format!("{shown} cannot be read: {e}")))
}
