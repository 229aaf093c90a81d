//! The commands that read reports.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use meshproof_model::Level;
use meshproof_render::compare::ComparisonFormat;
use meshproof_render::formats::Format;

/// `meshproof report`.
#[derive(Debug, Args)]
pub struct Render {
    /// A report.json, the folder that a run wrote it to, or `-` for standard input
    pub report: PathBuf,
    /// The format: html, json, junit, markdown, github, badge, badge-svg or text; can be repeated with --out [default: the summary of a run]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<Format>,
    /// The folder to write the files to; without it, the one format goes to standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A file of expected failures, as for `run`
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Exit as a run would if a failed check of this level or above failed it [default: always exit with 0]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub fail_on: Option<FailOn>,
    /// Exit with 3 if fewer than this number of checks were judged
    #[arg(long, value_name = "N")]
    pub min_checks: Option<usize>,
    /// Print only the verdict line and the causes of failures
    #[arg(short, long, conflicts_with_all = ["verbose", "formats"])]
    pub quiet: bool,
    /// Print the evidence of one check per cause; with -vv, the evidence of every check that failed
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "formats")]
    pub verbose: u8,
}

/// The lowest level whose failed checks fail the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Only a failed MUST, as in a run
    Must,
    /// A failed MUST or SHOULD
    Should,
    /// Any failed check
    May,
}

impl From<FailOn> for Level {
    fn from(f: FailOn) -> Self {
        match f {
            FailOn::Must => Self::Must,
            FailOn::Should => Self::Should,
            FailOn::May => Self::May,
        }
    }
}

/// `meshproof compare`.
#[derive(Debug, Default, Args)]
pub struct Compare {
    /// The reports: each is a report.json, or the folder that a run wrote it to. NAME=REPORT calls it NAME in the comparison
    #[arg(required = true, value_name = "[NAME=]REPORT", value_parser = named)]
    pub reports: Vec<NamedReport>,
    /// Mark regressions and fixes relative to this report; with a regression the exit code is 1. A check that passed in the
    /// baseline and is now skipped, missing or an error is lost, which is a regression
    #[arg(long, value_name = "[NAME=]REPORT", value_parser = named)]
    pub baseline: Option<NamedReport>,
    /// Accept that checks are lost: SCENARIO, SCENARIO:CONFIGURATION, SCENARIO/CHECK or SCENARIO:CONFIGURATION/CHECK; can be
    /// repeated
    #[arg(long, value_name = "CHECKS", requires = "baseline")]
    pub allow_lost: Vec<String>,
    /// How to print the comparison: text, markdown, junit, json or html [default: text]
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    pub format: Option<ComparisonFormat>,
    /// Print JSON; the same as --format json
    #[arg(long)]
    pub json: bool,
    /// Also write the comparison in this format to this file, for example `junit=comparison.xml`; can be repeated
    #[arg(long = "write", value_name = "FORMAT=FILE", value_parser = written_comparison)]
    pub write: Vec<(ComparisonFormat, PathBuf)>,
    /// Exit with 3 if fewer than this number of checks were judged in every report
    #[arg(long, value_name = "N")]
    pub min_checks: Option<usize>,
    /// Also write the comparison as an HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Leave the evidence out of the HTML page
    #[arg(long, requires = "html")]
    pub no_evidence: bool,
    /// Also show checks that do not differ
    #[arg(long, conflicts_with_all = ["json", "format"])]
    pub all: bool,
}

/// A report, and what the user calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedReport {
    /// The name, if the user gave one.
    pub name: Option<String>,
    /// The file or folder.
    pub path: PathBuf,
}

/// `NAME=REPORT` or `REPORT`. A path that exists is a path, even with an equals sign in it.
fn named(text: &str) -> Result<NamedReport, String> {
    match text.split_once('=') {
        Some((name, path)) if !std::path::Path::new(text).exists() => {
            if name.trim().is_empty() || path.is_empty() {
                return Err("expected NAME=REPORT, for example before=meshproof-report".to_owned());
            }
            Ok(NamedReport { name: Some(name.to_owned()), path: PathBuf::from(path) })
        }
        Some(_) | None => Ok(NamedReport { name: None, path: PathBuf::from(text) }),
    }
}

fn written_comparison(text: &str) -> Result<(ComparisonFormat, PathBuf), String> {
    let (format, file) =
        text.split_once('=').ok_or("expected FORMAT=FILE, for example junit=comparison.xml")?;
    Ok((format.parse()?, PathBuf::from(file)))
}

/// `meshproof site`.
#[derive(Debug, Args)]
pub struct Site {
    /// The reports to add: each is a report.json, or the folder that a run wrote it to. NAME=REPORT adds it to the history of
    /// the implementation NAME
    #[arg(value_name = "[NAME=]REPORT", value_parser = named)]
    pub reports: Vec<NamedReport>,
    /// The folder of the site. Reports that it has already stay in it
    #[arg(long, value_name = "DIR", required = true)]
    pub out: PathBuf,
}

/// `meshproof merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// The reports: each is a report.json, the folder that a run wrote it to, or the log of runs with --print-report
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// The folder to write the merged report to
    #[arg(long, value_name = "DIR", default_value = "meshproof-report")]
    pub out: PathBuf,
    /// A format to write besides report.json, as for `run`; can be repeated [default: html]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<Format>,
}

/// `meshproof baseline`.
#[derive(Debug, Args)]
pub struct Baseline {
    /// A report.json, or the folder that a run wrote it to
    pub report: PathBuf,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
