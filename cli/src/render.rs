//! `meshproof report`, `meshproof compare` and `meshproof baseline`: what is made of reports that were kept.

use std::path::{Path, PathBuf};

use meshproof_model::json::MAX_REPORT_BYTES;
use meshproof_model::{Level, Report, from_json};
use meshproof_render::compare::{Movement, compare as compared};
use meshproof_render::expectations::{self, Expectations};
use meshproof_render::formats::Format;
use meshproof_render::terminal::{self, OutputStyle};

use crate::output::{OutFolder, write_file};
use crate::{Refusal, args, exit};

/// Renders a report again, without running anything.
///
/// # Errors
/// The report cannot be read, or what is made of it cannot be written.
pub fn report(args: &args::Render) -> Result<u8, Refusal> {
    let mut report = read_report(&args.report)?;
    if let Some(file) = &args.expect {
        expect(&read_expectations(file)?, &mut report);
    }
    let formats = if args.formats.is_empty() { vec![Format::Text] } else { args.formats.clone() };
    match &args.out {
        Some(folder) => {
            let out = OutFolder::open(folder)?;
            for format in formats {
                let path = out.write_as(&report, format)?;
                crate::answer(&format!("{}\n", path.display()));
            }
        }
        None => {
            let [format] = formats.as_slice() else {
                return Err(Refusal::Usage("several formats need a folder to go to: --out DIR".to_owned()));
            };
            let text = format.render(&report).map_err(|e| Refusal::Environment(e.to_string()))?;
            crate::answer(&text);
        }
    }
    let Some(least) = args.fail_on.map(Level::from) else { return Ok(exit::OK) };
    // The summary calls what no MUST fails a pass.
    for check in report.checks().filter(|c| c.fails_at(least) && !c.fails_run()) {
        crate::complain(&format!("{} {} {}: {}", check.level, check.id, check.verdict, check.reason));
    }
    Ok(report.exit_code_at(least))
}

/// Puts reports side by side.
///
/// # Errors
/// A report cannot be read, or the comparison cannot be written.
pub fn compare(args: &args::Compare) -> Result<u8, Refusal> {
    let mut reports = Vec::new();
    for path in args.baseline.iter().chain(&args.reports) {
        reports.push(read_report(path)?);
    }
    let reports: Vec<&Report> = reports.iter().collect();
    let baseline = args.baseline.as_ref().map(|_| 0);
    if reports.len() < 2 {
        return Err(Refusal::Usage("a comparison needs two reports or more".to_owned()));
    }
    let comparison = compared(&reports, baseline);
    if args.json {
        let text = serde_json::to_string_pretty(&comparison);
        let text =
            text.map_err(|e| Refusal::Environment(format!("the comparison cannot be put into JSON: {e}")))?;
        crate::answer(&(text + "\n"));
    } else {
        let mut text = Vec::new();
        terminal::comparison(&mut text, &comparison, args.all, OutputStyle::of(&std::io::stdout()))
            .map_err(|e| Refusal::Environment(format!("the comparison cannot be written: {e}")))?;
        crate::answer(&String::from_utf8_lossy(&text));
    }
    if let Some(file) = &args.html {
        let page = meshproof_render::html::comparison(&reports, baseline, !args.no_evidence);
        write_file(file, page.as_bytes(), "another file with --html FILE")?;
        if !args.json {
            crate::answer(&format!("page {}\n", file.display()));
        }
    }
    Ok(if comparison.moved(Movement::Regression) > 0 { exit::FAILED } else { exit::OK })
}

/// Writes the file of expected failures that a report's failures make.
///
/// # Errors
/// The report cannot be read, or the file cannot be written.
pub fn baseline(args: &args::Baseline) -> Result<u8, Refusal> {
    let report = read_report(&args.report)?;
    if report.run.partial {
        let why = report.run.partial_reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
        crate::complain(&format!(
            "note: the run was cut short{why}: failures of the checks that it did not judge are not in the list"
        ));
    }
    let baseline = Expectations::baseline(&report);
    let yaml = baseline.to_yaml().map_err(|e| Refusal::Environment(e.to_string()))?;
    match &args.out {
        Some(file) => write_file(file, yaml.as_bytes(), "another file with --out FILE")?,
        None => crate::answer(&yaml),
    }
    Ok(exit::OK)
}

/// Reads a report from its file, or from the folder that a run left.
fn read_report(path: &Path) -> Result<Report, Refusal> {
    let file: PathBuf = if path.is_dir() { path.join(Format::Json.file_name()) } else { path.to_owned() };
    if !file.exists() {
        let what = if path.is_dir() { "holds no report" } else { "does not exist" };
        return Err(Refusal::Usage(format!(
            "{} {what}; a report is a report.json or the folder that a run left",
            path.display()
        )));
    }
    let bytes = read_bounded(&file, MAX_REPORT_BYTES)?;
    from_json(&bytes).map_err(|e| Refusal::Usage(format!("{}: {e}", file.display())))
}

/// Reads a file of expected failures.
///
/// # Errors
/// It cannot be read, or is not of the form that is wanted.
pub fn read_expectations(file: &Path) -> Result<Expectations, Refusal> {
    let bytes = read_bounded(file, expectations::MAX_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    Expectations::from_yaml(&text).map_err(|e| Refusal::Usage(format!("{}: {e}", file.display())))
}

/// Marks what is expected to fail and says what a reader must know.
pub fn expect(expectations: &Expectations, report: &mut Report) {
    for note in expectations.apply(report, expectations::today()) {
        crate::complain(&format!("note: {note}"));
    }
}

fn read_bounded(file: &Path, most: usize) -> Result<Vec<u8>, Refusal> {
    let shown = file.display();
    let size =
        std::fs::metadata(file).map_err(|e| Refusal::Usage(format!("{shown} cannot be read: {e}")))?.len();
    if size > most as u64 {
        return Err(Refusal::Usage(format!("{shown} has {size} bytes; at most {most} are read")));
    }
    std::fs::read(file).map_err(|e| Refusal::Usage(format!("{shown} cannot be read: {e}")))
}
