//! `meshproof run`.

use std::path::Path;
use std::sync::{Arc, Mutex};

use meshproof_harness::external::{ExternalChoice, prepare_container};
use meshproof_harness::runner::{self, Options, Selected};
use meshproof_harness::scenario::Scenario;
use meshproof_model::{Event, Report};
use meshproof_render::terminal::{OutputStyle, Progress, Verbosity, summary};
use meshproof_scenarios::select::{select, select_live};
use tokio::sync::watch;

use crate::catalogue::SEE_LIST;
use crate::output::{OutFolder, answer, quoted};
use crate::render::{expect, read_expectations};
use crate::signals::watch_signals;
use crate::{Refusal, args, exit, runtime};

/// Runs what the command line asks for, writes the report and the summary; of several targets one after the other, each
/// into a folder of its own below `--out`, and then their comparison.
///
/// # Errors
/// The command line is wrong, or a run could not begin or be written down.
pub fn command(args: &args::Run) -> Result<u8, Refusal> {
    let [first, others @ ..] = args.targets.as_slice() else {
        return Err(Refusal::Usage("no --target is named".to_owned()));
    };
    // Nothing runs where a later target could not.
    for target in others {
        selection(args, target)?;
    }
    if others.is_empty() {
        return Ok(one(args, first, &args.out)?.exit_code());
    }
    let mut folders = Vec::new();
    let mut codes = Vec::new();
    for (number, target) in args.targets.iter().enumerate() {
        let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = target.chars().map(fit).take(60).collect();
        let folder = args.out.join(format!("{}-{}", number + 1, name.trim_matches('-')));
        let report = one(args, target, &folder)?;
        codes.push(report.exit_code());
        folders.push(folder);
        if report.run.partial {
            return Ok(exit::ERROR);
        }
    }
    let compare = args::Compare {
        reports: folders,
        html: Some(args.out.join("comparison.html")),
        ..args::Compare::default()
    };
    crate::render::compare(&compare)?;
    // What is found of an implementation outranks what kept another from being judged.
    let worst = codes.iter().find(|code| **code == exit::FAILED).or_else(|| codes.iter().max());
    Ok(worst.copied().unwrap_or(exit::ERROR))
}

/// Runs the selection against one target.
fn one(args: &args::Run, target_name: &str, folder: &Path) -> Result<Report, Refusal> {
    let selection = selection(args, target_name)?;
    let mut timeouts = meshproof_targets::default_timeouts(target_name);
    for (name, duration) in &args.timeouts {
        timeouts.set(name, *duration).map_err(|e| Refusal::Usage(e.to_string()))?;
    }
    let settings = meshproof_targets::Settings {
        nginx: args.nginx.clone(),
        nginx_image: args.nginx_image.clone(),
        envoy: args.envoy.clone(),
        cluster: args.connection.options(&args.cluster),
        timeouts: timeouts.clone(),
    };
    let target = crate::target(target_name, &settings)?;
    if let Some(folder) = args.fixtures.as_ref().filter(|f| !f.is_dir()) {
        return Err(Refusal::Usage(format!("--fixtures {}: no such folder", folder.display())));
    }
    if let Some(folder) = args.fixtures.as_ref().filter(|f| !is_used(f, &selection)) {
        let shown = folder.display();
        crate::complain(&format!(
            "note: nothing in --fixtures {shown} replaces a manifest of what runs; it takes {shown}/SCENARIO/NAME.yaml, named as \
             the built-in ones in fixtures/"
        ));
    }
    let expectations = args.expect.as_deref().map(read_expectations).transpose()?;
    let out = OutFolder::open(folder)?;
    let verbosity = match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let progress = Arc::new(Mutex::new(Progress::new(
        std::io::stderr(),
        OutputStyle::of(&std::io::stderr()),
        verbosity,
    )));
    let shown = Arc::clone(&progress);
    let (interrupt, interrupted) = watch::channel(None);
    let options = Options {
        target,
        jobs: args.jobs.map_or(selection.len(), usize::from),
        selection,
        external: if args.live { ExternalChoice::Live } else { args.external.into() },
        fail_fast: args.fail_fast,
        keep: args.keep,
        timeouts,
        work: std::env::temp_dir(),
        fixtures: args.fixtures.clone(),
        events: Arc::new(move |event| {
            let mut progress = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // Progress that cannot be shown loses nothing: the report holds it all.
            let _unshown = progress.on(&event);
        }),
        interrupt: interrupted,
        command: repeat(args, target_name, true),
        repeat: repeat(args, target_name, false),
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
            let report = runner::run(options).await;
            watching.abort();
            report
        })
        .map_err(|e| Refusal::Environment(e.to_string()))?;
    // Whatever a connection still does must not hold up the answer.
    runtime.shutdown_background();
    {
        let mut progress = progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _unshown = progress.finish();
    }
    if let Some(expectations) = &expectations {
        expect(expectations, &mut report);
    }
    let written = out.write(&report, &args.formats);
    let shown = written.shown.map(|path| path.display().to_string());
    let mut text = Vec::new();
    summary(&mut text, &report, shown.as_deref(), OutputStyle::of(&std::io::stdout()))
        .map_err(|e| Refusal::Environment(format!("the summary cannot be written: {e}")))?;
    answer(&String::from_utf8_lossy(&text));
    written.missing.map_or(Ok(report), |words| Err(Refusal::Environment(words)))
}

/// Whether a file there replaces a built-in manifest of what runs.
fn is_used(folder: &Path, selection: &[Selected]) -> bool {
    let replaced =
        |scenario: &Scenario, name: &str| folder.join(scenario.id).join(format!("{name}.yaml")).exists();
    selection.iter().any(|s| s.scenario.fixtures.iter().any(|(name, _)| replaced(s.scenario, name)))
}

/// What runs, and whether it can run so.
fn selection(args: &args::Run, target_name: &str) -> Result<Vec<Selected>, Refusal> {
    if args.live && target_name != "cluster" {
        return Err(Refusal::Usage(format!(
            "--live (or MESHPROOF_LIVE) asks the documents' own hosts from within a cluster, and the target is {target_name}: say --target \
             cluster, or run without --live"
        )));
    }
    if args.live && args.external != args::External::Auto {
        return Err(Refusal::Usage(
            "--live uses the documents' own hosts and --external servers of the suite's: say one of them"
                .to_owned(),
        ));
    }
    let selected = if args.live {
        select_live(&args.selectors).map_err(|e| e.to_string())
    } else {
        select(&args.selectors).map_err(|e| e.to_string())
    };
    selected.map_err(|e| Refusal::Usage(format!("{e}\n{SEE_LIST}")))
}

/// The command that repeats the run; without the selectors, where a check's own is added.
fn repeat(args: &args::Run, target: &str, selectors: bool) -> String {
    let mut words = vec!["meshproof run".to_owned()];
    if target != "reference" {
        words.push(format!("--target {}", quoted(target)));
    }
    let path = |option: &str, path: &Path| format!("{option} {}", quoted(&path.display().to_string()));
    match args.external {
        args::External::Auto => {}
        args::External::Embedded => words.push("--external embedded".to_owned()),
        args::External::Nginx => words.push("--external nginx".to_owned()),
        args::External::Container => {
            words.push("--external container".to_owned());
            words.extend(args.nginx_image.iter().map(|image| format!("--nginx-image {}", quoted(image))));
        }
    }
    if matches!(args.external, args::External::Auto | args::External::Nginx) && target != "cluster" {
        words.extend(args.nginx.iter().map(|nginx| path("--nginx", nginx)));
    }
    if target == "envoy" || target.starts_with("envoy:") {
        words.extend(args.envoy.iter().map(|envoy| path("--envoy", envoy)));
    }
    if target == "cluster" {
        words.extend(cluster_words(args));
    }
    words.extend(args.fixtures.iter().map(|folder| path("--fixtures", folder)));
    words.extend(args.expect.iter().map(|file| path("--expect", file)));
    for (name, duration) in &args.timeouts {
        words.push(format!(
            "--timeout {name}={}",
            humantime::format_duration(*duration).to_string().replace(' ', "")
        ));
    }
    if selectors {
        words.extend(args.selectors.iter().cloned());
    }
    words.join(" ")
}

/// Which cluster, and what is put into it.
fn cluster_words(args: &args::Run) -> Vec<String> {
    let (at, put) = (&args.connection, &args.cluster);
    let mut words = Vec::new();
    words.extend(at.kubeconfig.iter().map(|f| format!("--kubeconfig {}", quoted(&f.display().to_string()))));
    words.extend(at.context.iter().map(|c| format!("--context {}", quoted(c))));
    if put.gateways == args::Gateways::Installed {
        words.push(format!("--gateways installed --gateway-namespace {}", quoted(&put.gateway_namespace)));
    }
    words.extend(
        put.images.iter().map(|(key, image)| format!("--image {}", quoted(&format!("{key}={image}")))),
    );
    words.extend(put.pull_policy.iter().map(|p| format!("--pull-policy {}", quoted(p))));
    words.extend(put.pull_secrets.iter().map(|s| format!("--pull-secret {}", quoted(s))));
    if args.live {
        words.push("--live".to_owned());
    }
    words.extend(put.name.iter().map(|n| format!("--name {}", quoted(n))));
    words
}

/// Every configuration of every scenario, as the runner takes it.
///
/// # Errors
/// Never: nothing is asked for by name.
pub fn everything() -> Result<Vec<Selected>, Refusal> {
    select(&[]).map_err(|e| Refusal::Usage(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_repeats_a_run_carries_what_it_was_given_as_a_shell_takes_it() {
        let path = |text: &str| Some(text.into());
        let given = |external| args::Run {
            external,
            nginx: path("/opt/my nginx"),
            nginx_image: Some("nginx:1".to_owned()),
            envoy: path("/opt/envoy"),
            fixtures: path("it's"),
            expect: path("known failures.yaml"),
            ..args::Run::default()
        };
        let rest = r"--fixtures 'it'\''s' --expect 'known failures.yaml'";
        for (external, target, words) in [
            (args::External::Auto, "reference", "--nginx '/opt/my nginx'"),
            (args::External::Auto, "envoy", "--target envoy --nginx '/opt/my nginx' --envoy /opt/envoy"),
            (
                args::External::Embedded,
                "envoy:no-sni",
                "--target envoy:no-sni --external embedded --envoy /opt/envoy",
            ),
            (args::External::Nginx, "reference", "--external nginx --nginx '/opt/my nginx'"),
            (args::External::Container, "reference", "--external container --nginx-image nginx:1"),
        ] {
            let wanted = format!("meshproof run {words} {rest}");
            assert_eq!(repeat(&given(external), target, true), wanted);
        }
    }
}
