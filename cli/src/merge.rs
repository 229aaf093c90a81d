//! `meshproof merge`: the reports of the shards of a run as one report.

use meshproof_model::{Report, ScenarioResult};

use crate::args;
use crate::dictionary::diagnose_report;
use crate::exit::Refusal;
use crate::output::{OutFolder, answer, style};
use crate::reports::read_reports;
use crate::suite::Suite;
use meshproof_render::terminal::summary;

/// Merges reports of one implementation, writes the result, and exits as a run of everything would.
///
/// # Errors
/// A report cannot be read, the reports do not belong together, or the result cannot be written.
pub fn command(suite: Suite, args: &args::Merge) -> Result<u8, Refusal> {
    let mut reports = Vec::new();
    for path in &args.reports {
        reports.extend(read_reports(path)?.into_iter().map(|report| (path.display().to_string(), report)));
    }
    let mut report = merged(suite, reports)?;
    diagnose_report(&mut report)?;
    let out = OutFolder::open(&args.out)?;
    let written = out.write(&report, &args.formats);
    let shown = written.shown.map(|path| path.display().to_string());
    let mut text = Vec::new();
    summary(&mut text, &report, shown.as_deref(), style(&std::io::stdout()), args::detail(false, 0))
        .map_err(|e| Refusal::Environment(format!("the summary cannot be written: {e}")))?;
    answer(&String::from_utf8_lossy(&text));
    written.missing.map_or(Ok(report.exit_code()), |words| Err(Refusal::Environment(words)))
}

/// One report with the scenarios of all, in the order of the suite. If they are shards of a run and one is missing, the result is
/// that of a run that stopped early.
///
/// # Errors
/// There is no report, they are of different implementations, or two of them contain the same scenario configuration.
pub fn merged(suite: Suite, reports: Vec<(String, Report)>) -> Result<Report, Refusal> {
    let mut reports = reports.into_iter();
    let Some((first_path, mut merged)) = reports.next() else {
        return Err(Refusal::Usage("no report is given".to_owned()));
    };
    let mut shards: Vec<Option<String>> = vec![merged.run.shard.take()];
    if let Some(shard) = &shards[0] {
        merged.run.command = merged.run.command.replace(&format!(" --shard {shard}"), "");
    }
    for (path, report) in reports {
        shards.push(report.run.shard.clone());
        let identity = |r: &Report| (r.implementation.name.clone(), r.implementation.version.clone());
        if identity(&report) != identity(&merged) {
            return Err(Refusal::Usage(format!(
                "{path} is a report of {} {}, and {first_path} one of {} {}. Only reports of one implementation can be merged",
                report.implementation.name,
                report.implementation.version,
                merged.implementation.name,
                merged.implementation.version
            )));
        }
        for scenario in report.scenarios {
            let same = |s: &&ScenarioResult| s.selector() == scenario.selector();
            if merged.scenarios.iter().find(same).is_some() {
                return Err(Refusal::Usage(format!(
                    "{path} contains {}, which another report contains, too. Merge the shards of one run",
                    scenario.selector()
                )));
            }
            merged.scenarios.push(scenario);
        }
        merged.run.id = format!("{}+{}", merged.run.id, report.run.id);
        merged.run.started = merged.run.started.min(report.run.started);
        // Shards run side by side.
        merged.run.duration_us = merged.run.duration_us.max(report.run.duration_us);
        merged.run.partial |= report.run.partial;
        merged.run.partial_reason = merged.run.partial_reason.or(report.run.partial_reason);
    }
    let place = |s: &ScenarioResult| {
        let scenario = suite.scenarios.iter().position(|known| known.id() == s.id);
        let configuration = scenario.and_then(|n| {
            let all = &suite.scenarios[n].catalogue.configurations;
            all.iter().position(|c| c.id == s.configuration)
        });
        (scenario.unwrap_or(usize::MAX), configuration.unwrap_or(usize::MAX))
    };
    merged.scenarios.sort_by_key(place);
    let missing = missing(&shards);
    if !missing.is_empty() {
        merged.run.partial = true;
        let words = format!("no report of shard {} was merged", missing.join(", "));
        merged.run.partial_reason = merged.run.partial_reason.or(Some(words));
    }
    merged.derive_causes();
    Ok(merged)
}

/// The shards that are not among these, if all of these are shards of one run.
fn missing(shards: &[Option<String>]) -> Vec<String> {
    let parts: Option<Vec<(usize, usize)>> = shards
        .iter()
        .map(|shard| {
            let (number, of) = shard.as_deref()?.split_once('/')?;
            Some((number.parse().ok()?, of.parse().ok()?))
        })
        .collect();
    let Some(of) = parts.as_ref().and_then(|parts| Some(parts.first()?.1)) else { return Vec::new() };
    let there = |number: usize| parts.iter().flatten().any(|part| *part == (number, of));
    (1..=of).filter(|number| !there(*number)).map(|number| format!("{number}/{of}")).collect()
}
