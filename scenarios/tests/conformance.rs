//! Every scenario configuration as a Rust test: `cargo test -p meshproof-scenarios --test conformance`.
//!
//! `MESHPROOF_TARGET` picks the implementation (a wrong value lists the choices), `MESHPROOF_EXTERNAL` the external
//! services (`auto`, `embedded`, `nginx`, `container`), `MESHPROOF_OUT` the folder that the report is left in. For the target
//! `cluster`, `MESHPROOF_KUBECONFIG`, `MESHPROOF_CONTEXT` and the other variables of `meshproof_targets::cluster::Options` stand for
//! flags, and `MESHPROOF_LIVE=1` asks the documents' own hosts.

#![allow(clippy::print_stdout, reason = "the path of the report helps the developer who runs the tests")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options, Selected};
use meshproof_harness::select::{select, select_live};
use meshproof_harness::target::Target;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::external::prepare_container;
use meshproof_model::{Report, to_json};
use meshproof_render::html;
use meshproof_render::terminal::{Detail, OutputStyle, summary};
use meshproof_scenarios::ALL;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let world = match World::from_environment() {
        Ok(world) => Arc::new(world),
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let selection = world.selection();
    let trials = selection
        .into_iter()
        .map(|selected| {
            let world = Arc::clone(&world);
            let name = format!("{}:{}", selected.scenario.id(), selected.configuration);
            Trial::test(name, move || world.judge(selected))
        })
        .collect();
    let listing = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !listing {
        world.leave_report();
    }
    conclusion.exit_code()
}

struct World {
    runtime: Runtime,
    name: String,
    target: Arc<dyn Target>,
    external: ExternalChoice,
    timeouts: Timeouts,
    reports: Mutex<Vec<Report>>,
}

impl World {
    fn selection(&self) -> Vec<Selected> {
        if self.external == ExternalChoice::Live {
            select_live(&ALL, &[]).expect("nothing was asked for by name")
        } else {
            select(&ALL, &[]).expect("nothing was asked for by name")
        }
    }

    fn from_environment() -> Result<Self, String> {
        let name = std::env::var("MESHPROOF_TARGET").unwrap_or_else(|_| "reference".to_owned());
        let timeouts = meshproof_targets::default_timeouts(&name);
        let cluster = meshproof_targets::cluster::Options::from_environment(|name| std::env::var(name).ok())
            .map_err(|e| e.to_string())?;
        let settings = meshproof_targets::Settings {
            cluster,
            timeouts: timeouts.clone(),
            ..meshproof_targets::Settings::default()
        };
        let target =
            meshproof_targets::by_name(&name, &settings).map_err(|e| format!("MESHPROOF_TARGET: {e}"))?;
        let external = match std::env::var("MESHPROOF_EXTERNAL").as_deref() {
            Ok("auto") | Err(_) => ExternalChoice::Auto,
            Ok("embedded") => ExternalChoice::Embedded,
            Ok("nginx") => ExternalChoice::Nginx,
            Ok("container") => ExternalChoice::Container,
            Ok(other) => {
                return Err(format!(
                    "MESHPROOF_EXTERNAL: {other:?} is none of auto, embedded, nginx, container"
                ));
            }
        };
        let live = std::env::var("MESHPROOF_LIVE").unwrap_or_default();
        let live = meshproof_targets::cluster::live(&live).map_err(|e| format!("MESHPROOF_LIVE: {e}"))?;
        let external = if live { ExternalChoice::Live } else { external };
        let runtime = Runtime::new().map_err(|e| e.to_string())?;
        if external == ExternalChoice::Container {
            let prepared = runtime.block_on(prepare_container(None, &timeouts));
            prepared.map_err(|e| format!("MESHPROOF_EXTERNAL: {e}"))?;
        }
        Ok(Self { runtime, name, target, external, timeouts, reports: Mutex::default() })
    }

    fn judge(&self, selected: Selected) -> Result<(), Failed> {
        let selector = format!("{}:{}", selected.scenario.id(), selected.configuration);
        let live = if self.external == ExternalChoice::Live { " --live" } else { "" };
        let repeat = format!("meshproof run --target {}{live}", self.name);
        let options = Options {
            external: self.external,
            timeouts: self.timeouts.clone(),
            name: std::env::var("MESHPROOF_NAME").ok().filter(|name| !name.is_empty()),
            command: format!("{repeat} {selector}"),
            repeat,
            ..Options::new(Arc::clone(&self.target), vec![selected])
        };
        let report = self.runtime.block_on(runner::run(options)).map_err(|e| e.to_string())?;
        let passed = report.exit_code() == 0;
        let mut told = Vec::new();
        summary(&mut told, &report, None, OutputStyle::PLAIN, Detail::Full)?;
        self.reports.lock().expect("no judge panics while it holds this").push(report);
        if passed { Ok(()) } else { Err(String::from_utf8_lossy(&told).into_owned().into()) }
    }

    /// One report of all that ran, in the catalogue's order.
    fn leave_report(&self) {
        let reports = std::mem::take(&mut *self.reports.lock().expect("all judges are done"));
        let Some(mut whole) = reports.first().cloned() else { return };
        whole.scenarios = reports.iter().flat_map(|r| r.scenarios.clone()).collect();
        let order = select(&ALL, &[]).expect("nothing was asked for by name");
        whole.scenarios.sort_by_key(|s| {
            order.iter().position(|o| o.scenario.id() == s.id && o.configuration == s.configuration)
        });
        whole.run.duration_us = reports.iter().map(|r| r.run.duration_us).max().unwrap_or_default();
        whole.run.command = format!("MESHPROOF_TARGET={} cargo test -p meshproof-scenarios", self.name);
        let folder = std::env::var_os("MESHPROOF_OUT").map_or_else(default_folder, PathBuf::from);
        let left = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join("report.json"), to_json(&whole)?))
            .and_then(|()| std::fs::write(folder.join("index.html"), html::html(&whole)));
        match left {
            Ok(()) => println!("report: {}", folder.join("index.html").display()),
            Err(e) => println!("the report could not be left in {}: {e}", folder.display()),
        }
    }
}

/// Beside the build, so that `cargo clean` removes it.
fn default_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("meshproof-report")
}
