//! `meshproof run`.

mod repeat;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshproof_harness::external::ExternalChoice;
use meshproof_harness::mesh::RUNS_UNTIL_STOPPED;
use meshproof_harness::run_folder;
use meshproof_harness::runner::{self, Options, Selected};
use meshproof_harness::scenario::Scenario;
use meshproof_harness::traffic::Traffic;
use meshproof_local::external::prepare_container;
use meshproof_local::real_hosts::RealHosts;
use meshproof_model::report::{CheckResult, Verdict};
use meshproof_model::{Event, Report};
use meshproof_render::conclusion::needs_attention;
use meshproof_render::formats::Format;
use meshproof_render::terminal::{Detail, Progress, Verbosity, summary};
use meshproof_render::text::plural;
use meshproof_scenarios::Paths;
use meshproof_vectors::limbo;
use tokio::sync::watch;

use crate::args;
use crate::authority::kept_authority;
use crate::dictionary::diagnose_report;
use crate::events::EventLog;
use crate::exit::{self, Refusal};
use crate::flaky::flaky;
use crate::output::{OutFolder, answer, complain, quoted, style};
use crate::packed;
use crate::reports::{compare, conclude, enough, expect, read_expectations, read_report, worse};
use crate::runtime::runtime;
use crate::signals::watch_signals;
use crate::suite::Suite;
use crate::target::{target, timeouts};
use repeat::repeat;

/// The scenario that certificate paths belong to.
const PATH_VALIDATION: &str = "path-validation";
/// The largest file of vectors that is read, in bytes.
const MAX_VECTORS: u64 = 256 << 20;

/// Runs what the command line selects, and writes the report and the summary. Several targets run one after the other, each
/// with its own folder below `--out`, and are then compared.
///
/// # Errors
/// The command line is wrong, a run did not start, or its report was not written.
pub fn command(suite: Suite, args: &args::Run) -> Result<u8, Refusal> {
    let [first, others @ ..] = args.targets.as_slice() else {
        return Err(Refusal::Usage("no target is given: add --target TARGET".to_owned()));
    };
    if args.list {
        return list(suite, args);
    }
    if let (Some(name), false) = (&args.name, others.is_empty()) {
        return Err(Refusal::Usage(format!(
            "--name {} names one implementation, and there are {} targets. Leave --name out, or run one target at a time",
            quoted(name),
            args.targets.len()
        )));
    }
    if let Some(file) = &args.events {
        EventLog::create(file)?;
    }
    if let Some(times) = args.repeat.filter(|n| *n > 1) {
        return repeated(suite, args, first, usize::from(times), others.is_empty());
    }
    if args.last_failed && last_failed(&args.out)?.is_empty() {
        answer(&format!("Nothing to repeat: every check passed in the report in {}.\n", args.out.display()));
        return Ok(exit::OK);
    }
    if others.is_empty() {
        return exit_code(suite, &one(suite, args, first, &args.out)?, args);
    }
    let mut folders = Vec::new();
    let mut codes = Vec::new();
    for (number, target) in args.targets.iter().enumerate() {
        let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = target.chars().map(fit).take(60).collect();
        let folder = args.out.join(format!("{}-{}", number + 1, name.trim_matches('-')));
        let report = one(suite, args, target, &folder)?;
        codes.push(exit_code(suite, &report, args)?);
        folders.push(folder);
        if report.run.partial {
            return Ok(exit::ERROR);
        }
    }
    // Several control planes of one cluster: the first is the one in force, and the others must keep what it fulfils.
    let is_upgrade = args.targets.iter().all(|target| meshproof_targets::is_cluster(target));
    let unnamed = |path| args::NamedReport { name: None, path };
    let baseline = is_upgrade.then(|| unnamed(folders.remove(0)));
    let comparison = args::Compare {
        reports: folders.into_iter().map(unnamed).collect(),
        baseline,
        html: Some(args.out.join("comparison.html")),
        ..args::Compare::default()
    };
    codes.push(compare(&comparison)?);
    // A failed implementation is a stronger result than an error at another one.
    let worst = codes.iter().find(|code| **code == exit::FAILED).or_else(|| codes.iter().max());
    Ok(worst.copied().unwrap_or(exit::ERROR))
}

/// Prints the checks that would run.
fn list(suite: Suite, args: &args::Run) -> Result<u8, Refusal> {
    let suite = asking(suite, args)?;
    let mut text = String::new();
    for selected in selection(suite, args)? {
        text.extend(ids(&selected).map(|id| id + "\n"));
    }
    answer(&text);
    Ok(exit::OK)
}

/// Runs the selection several times and names the checks whose verdict differs.
fn repeated(
    suite: Suite,
    args: &args::Run,
    target: &str,
    times: usize,
    one_target: bool,
) -> Result<u8, Refusal> {
    if !one_target {
        return Err(Refusal::Usage("--repeat runs one target. Give --target once".to_owned()));
    }
    let mut reports = Vec::new();
    for number in 1..=times {
        let report = one(suite, args, target, &args.out.join(format!("run-{number}")))?;
        let partial = report.run.partial;
        reports.push(report);
        if partial {
            break;
        }
    }
    answer(&flaky(&reports));
    let codes = reports.iter().map(|r| exit_code(suite, r, args)).collect::<Result<Vec<u8>, Refusal>>()?;
    let worst = codes.iter().find(|code| **code == exit::FAILED).or_else(|| codes.iter().max());
    Ok(worst.copied().unwrap_or(exit::ERROR))
}

/// The checks that did not pass in the last report, as selectors.
fn last_failed(folder: &Path) -> Result<Vec<String>, Refusal> {
    let report = read_report(folder)?;
    let mut selectors = Vec::new();
    for scenario in &report.scenarios {
        for check in scenario.checks.iter().filter(|c| needs_attention(c)) {
            let name = scenario.check_name(check);
            // No story judges it by itself.
            let whole = name == RUNS_UNTIL_STOPPED.id;
            let selector = scenario.selector();
            selectors.push(if whole { selector } else { format!("{selector}/{name}") });
        }
    }
    Ok(selectors)
}

fn exit_code(suite: Suite, report: &Report, args: &args::Run) -> Result<u8, Refusal> {
    let asked = worse(enough(report, args.min_checks, true), all_asked(suite, report, args)?);
    Ok(worse(report.exit_code(), asked))
}

/// How many checks a message names.
const NAMED: usize = 5;

/// [`exit::ERROR`], with a message, if a check of `--must-ask` was not judged.
fn all_asked(suite: Suite, report: &Report, args: &args::Run) -> Result<u8, Refusal> {
    if args.must_ask.is_empty() {
        return Ok(exit::OK);
    }
    let is_judged = |check: &CheckResult| match check.verdict {
        Verdict::Passed | Verdict::Failed | Verdict::Inconclusive => true,
        Verdict::Skipped | Verdict::Error => false,
    };
    let mut judged = HashSet::new();
    for scenario in &report.scenarios {
        let checks = scenario.checks.iter().filter(|c| is_judged(c));
        judged.extend(checks.map(|c| format!("{}/{}", scenario.selector(), scenario.check_name(c))));
    }
    let wanted = asking(suite, args)?.select(&args.must_ask, false)?;
    let missing: Vec<String> = wanted.iter().flat_map(ids).filter(|id| !judged.contains(id)).collect();
    if missing.is_empty() {
        return Ok(exit::OK);
    }
    let more = missing.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = missing.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let missing = plural(missing.len(), "check");
    conclude(&format!("{missing} of --must-ask not judged: {named}{more}"), true);
    Ok(exit::ERROR)
}

/// The checks of one selected configuration, as `scenario:configuration/check`.
fn ids(selected: &Selected) -> impl Iterator<Item = String> + use<> {
    let (catalogue, configuration) = (&selected.scenario.catalogue, selected.configuration);
    let only = selected.checks.clone();
    let checks = catalogue.checks_in(configuration);
    checks
        .filter(move |c| only.as_ref().is_none_or(|only| only.contains(&c.id)))
        .map(move |c| format!("{}:{configuration}/{}", catalogue.id, c.id))
}

/// Refuses a program that does not exist, before anything runs. A name without a separator is looked up on PATH at its start.
fn programs_exist(args: &args::Run) -> Result<(), Refusal> {
    for (option, file) in [("nginx", &args.nginx), ("envoy", &args.envoy)] {
        let Some(file) = file else { continue };
        if file.components().count() > 1 && !file.is_file() {
            let what = if file.is_dir() { "is a folder" } else { "does not exist" };
            return Err(Refusal::Usage(format!(
                "--{option} {}: this file {what}. Give the path of the {option} program, or leave --{option} out to use \
                 the one on PATH",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Runs the selection on one target.
fn one(suite: Suite, args: &args::Run, target_name: &str, folder: &Path) -> Result<Report, Refusal> {
    let suite = asking(suite, args)?;
    let selection = selection(suite, args)?;
    programs_exist(args)?;
    if !args.must_ask.is_empty() {
        suite.select(&args.must_ask, false)?;
    }
    let timeouts = timeouts(target_name, &args.timeouts);
    let settings = meshproof_targets::Settings {
        nginx: args.nginx.clone(),
        nginx_image: args.nginx_image.clone(),
        envoy: args.envoy.clone(),
        real_hosts: RealHosts::default(),
        cluster: args.connection.options(&args.cluster),
        timeouts: timeouts.clone(),
    };
    let target = target(target_name, &settings)?;
    if let Some(folder) = args.fixtures.as_ref().filter(|f| !f.is_dir()) {
        return Err(Refusal::Usage(format!("--fixtures {}: there is no such folder", folder.display())));
    }
    if let Some(folder) = args.fixtures.as_ref().filter(|f| !is_used(f, &selection)) {
        let shown = folder.display();
        complain(&format!(
            "note: no file in --fixtures {shown} replaces a manifest of the selected scenarios. A replacement is called \
             {shown}/SCENARIO/NAME.yaml, with the name of a built-in manifest"
        ));
    }
    let expectations =
        args.expect.as_deref().map(|file| read_expectations(file, suite, Vec::new())).transpose()?;
    let out = OutFolder::open(folder)?;
    let detail = args::detail(args.quiet, args.verbose);
    let verbosity = match detail {
        Detail::Quiet => Verbosity::Quiet,
        Detail::Screen => Verbosity::Normal,
        Detail::Stories => Verbosity::Scenarios,
        Detail::Full => Verbosity::Verbose,
    };
    let progress =
        Arc::new(Mutex::new(Progress::new(std::io::stderr(), style(&std::io::stderr()), verbosity)));
    let shown = Arc::clone(&progress);
    let trace = args.trace.as_deref().map(|trace| trace_folder(trace, args, folder)).transpose()?;
    let log = args.events.as_deref().map(EventLog::open).transpose()?;
    let (interrupt, interrupted) = watch::channel(None);
    let options = Options {
        target,
        jobs: args.jobs.map(usize::from),
        selection,
        name: args.name.clone(),
        external: if args.live { ExternalChoice::Live } else { args.external.into() },
        fail_fast: args.fail_fast,
        keep: args.keep,
        timeouts,
        work: std::env::temp_dir(),
        fixtures: args.fixtures.clone(),
        public: args.cluster.ca.as_deref().map(kept_authority).transpose()?,
        trace: trace.clone(),
        events: Arc::new(move |event| {
            if let Some(log) = &log {
                log.on(&event);
            }
            let mut progress = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // Progress that cannot be printed loses nothing: the report contains all of it.
            let _unshown = progress.on(&event);
        }),
        interrupt: interrupted,
        command: repeat(suite.called, args, target_name, true),
        repeat: repeat(suite.called, args, target_name, false),
        traffic: Traffic { seed: args.seed, budget: args.budget, ..Traffic::default() },
    };
    let runtime = runtime()?;
    if args.external == args::External::Container {
        let prepared = prepare_container(args.nginx_image.as_deref(), &options.timeouts);
        runtime.block_on(prepared).map_err(|e| Refusal::Environment(e.to_string()))?;
    }
    let mut report = runtime
        .block_on(async {
            let events = Arc::clone(&options.events);
            let watching = tokio::spawn(watch_signals(interrupt, move |reason| {
                events(Event::Interrupted { reason: reason.to_owned() });
            }));
            let ticking = tokio::spawn(tick(Arc::clone(&progress)));
            let report = runner::run(options).await;
            watching.abort();
            ticking.abort();
            report
        })
        .map_err(|e| Refusal::Environment(e.to_string()))?;
    // Connections that are still open must not delay the answer.
    runtime.shutdown_background();
    {
        let mut progress = progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _unshown = progress.finish();
    }
    if let Some(expectations) = &expectations {
        expect(expectations, &mut report);
    }
    report.run.shard = args.shard.map(|s| format!("{}/{}", s.number, s.of));
    diagnose_report(&mut report)?;
    let written = out.write(&report, &args.formats);
    let shown = written.shown.map(|path| path.display().to_string());
    let mut text = Vec::new();
    summary(&mut text, &report, shown.as_deref(), style(&std::io::stdout()), detail)
        .map_err(|e| Refusal::Environment(format!("the summary cannot be written: {e}")))?;
    answer(&String::from_utf8_lossy(&text));
    if args.print_report {
        let packed = Format::Json.render(&report).map_err(|e| e.to_string());
        let packed = packed.and_then(|text| packed::packed(&text).map_err(|e| e.to_string()));
        answer(&packed.map_err(|e| Refusal::Environment(format!("the report cannot be printed: {e}")))?);
    }
    if let Some(trace) = trace.filter(|_| detail != Detail::Quiet) {
        complain(&format!(
            "note: the trace is in {}. It contains the secrets of TLS sessions and all that was sent in them",
            trace.display()
        ));
    }
    written.missing.map_or(Ok(report), |words| Err(Refusal::Environment(words)))
}

/// Makes the folder for the trace of one run, whose report goes to `out`. Several runs of one command have one each.
fn trace_folder(trace: &Path, args: &args::Run, out: &Path) -> Result<PathBuf, Refusal> {
    let unusable = |e: std::io::Error| {
        Refusal::Environment(format!("--trace {}: the folder cannot be used: {e}", trace.display()))
    };
    let folder = match out.strip_prefix(&args.out) {
        Ok(below) if below.components().next().is_some() => trace.join(below),
        Ok(_) | Err(_) => trace.to_owned(),
    };
    run_folder::create_private(&folder).map_err(unusable)?;
    if std::fs::read_dir(&folder).map_err(unusable)?.next().is_some() {
        return Err(Refusal::Usage(format!(
            "--trace {}: this folder is not empty. Give a new folder, so that the trace is of one run only",
            folder.display()
        )));
    }
    // A folder that existed may be open to others.
    #[cfg(unix)]
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(unusable)?;
    Ok(folder)
}

/// Lets the progress say what a slow run waits for.
async fn tick(progress: Arc<Mutex<Progress<std::io::Stderr>>>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        let now = seconds.tick().await;
        let mut progress = progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _unshown = progress.tick(now.into_std());
    }
}

/// Whether a file in the folder replaces a built-in manifest of the selection.
fn is_used(folder: &Path, selection: &[Selected]) -> bool {
    let replaced =
        |scenario: &Scenario, name: &str| folder.join(scenario.id()).join(format!("{name}.yaml")).exists();
    selection.iter().any(|s| s.scenario.fixtures.manifests().any(|(name, _)| replaced(s.scenario, name)))
}

/// The suite with the certificate paths that the command line asks for.
fn asking(suite: Suite, args: &args::Run) -> Result<Suite, Refusal> {
    let paths = match (&args.vectors, args.matrix) {
        (None, args::MatrixChoice::Covering) => return Ok(suite),
        (None, args::MatrixChoice::Full) => Paths::Full,
        (Some(file), _) => {
            let unusable = |reason: String| Refusal::Usage(format!("--vectors {}: {reason}", file.display()));
            let size = std::fs::metadata(file).map_err(|e| unusable(e.to_string()))?.len();
            if size > MAX_VECTORS {
                return Err(unusable(format!("it is larger than {} MiB", MAX_VECTORS >> 20)));
            }
            let text = std::fs::read_to_string(file).map_err(|e| unusable(e.to_string()))?;
            Paths::File(Arc::new(limbo::read(&text).map_err(|e| unusable(e.to_string()))?))
        }
    };
    if suite.scenario(PATH_VALIDATION).is_err() {
        return Err(Refusal::Usage(format!(
            "--matrix and --vectors are for the scenario {PATH_VALIDATION}, which {} does not have",
            suite.program
        )));
    }
    let scenarios = meshproof_scenarios::asking(suite.scenarios, &paths);
    // They stay in memory until the process exits, as those of the program itself do.
    let scenarios = scenarios.map_err(|e| Refusal::Environment(e.to_string()))?.leak();
    Ok(Suite { scenarios, ..suite })
}

/// What runs. Refuses options that exclude each other.
fn selection(suite: Suite, args: &args::Run) -> Result<Vec<Selected>, Refusal> {
    if args.live && args.external != args::External::Auto {
        return Err(Refusal::Usage(
            "--live uses the documents' real hosts, and --external uses servers of the suite. Use only one of them"
                .to_owned(),
        ));
    }
    let selectors = match (args.last_failed, &args.vectors) {
        (true, _) => last_failed(&args.out)?,
        (false, Some(_)) if args.selectors.is_empty() => vec![PATH_VALIDATION.to_owned()],
        (false, Some(_) | None) => args.selectors.clone(),
    };
    let mut selected = suite.select(&selectors, args.live)?;
    if let Some(args::Shard { number, of }) = args.shard {
        let mut place = 0;
        selected.retain(|_| {
            place += 1;
            place % of == number % of
        });
        if selected.is_empty() {
            return Err(Refusal::Usage(format!(
                "--shard {number}/{of} selects nothing: there are fewer configurations"
            )));
        }
    }
    Ok(selected)
}
