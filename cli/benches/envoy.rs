//! Compares a whole run on Envoy with the parts that it cannot avoid: `cargo bench -p meshproof --bench envoy`
//!
//! They run in alternating turns, so that a busy machine slows all of them:
//!
//! - **whole**: every scenario configuration at the same time, with the report;
//! - **starts**: the same configurations without a story: the processes start, load their first configuration and end;
//! - **suite**: the same run on the reference: certificates, external services, requests, evidence and report, without a process;
//! - **changes**: the time that Envoy needed to bring changes into force, in the slowest configuration of the whole run.
//!
//! The last three parts cannot be avoided. Envoy is `MESHPROOF_ENVOY`, or envoy on PATH.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark prints, and its helpers report by panicking"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshproof_harness::external::ExternalChoice;
use meshproof_harness::mesh::Mesh;
use meshproof_harness::runner::{self, Options, Selected};
use meshproof_harness::scenario::{Scenario, Story};
use meshproof_harness::select::select;
use meshproof_harness::target::Target;
use meshproof_model::{Report, Verdict};
use meshproof_targets::Settings;
use tokio::runtime::Runtime;

struct Turn {
    whole: Duration,
    starts: Duration,
    suite: Duration,
    changes: Duration,
}

impl Turn {
    fn unavoidable(&self) -> Duration {
        self.starts + self.suite + self.changes
    }

    fn ratio(&self) -> f64 {
        self.whole.as_secs_f64() / self.unavoidable().as_secs_f64()
    }
}

fn target(name: &str) -> Arc<dyn Target> {
    meshproof_targets::by_name(name, &Settings::default()).expect("it is a target")
}

fn once(runtime: &Runtime, name: &str, selection: Vec<Selected>) -> (Report, Duration) {
    let options = Options { external: ExternalChoice::Embedded, ..Options::new(target(name), selection) };
    let begun = Instant::now();
    let report = runtime.block_on(runner::run(options)).expect("the run begins");
    black_box(meshproof_model::to_json(&report).expect("it is JSON"));
    black_box(meshproof_render::html::html(&report));
    (report, begun.elapsed())
}

/// The same configurations, without a story after everything has started.
fn idle(selection: &[Selected]) -> Vec<Selected> {
    let still = |chosen: &Selected| {
        let Scenario { fixtures, topology, .. } = chosen.scenario.clone();
        let mut catalogue = chosen.scenario.catalogue.clone();
        catalogue.features.clear();
        catalogue.checks.clear();
        let nothing: for<'a> fn(&'a Mesh) -> Story<'a> = |_| Box::pin(async { Ok(()) });
        let scenario = Scenario::new(catalogue, fixtures, topology, nothing);
        // A scenario lives as long as the program; a benchmark makes a few.
        Selected { scenario: Box::leak(Box::new(scenario)), ..chosen.clone() }
    };
    selection.iter().map(still).collect()
}

fn turn(runtime: &Runtime, selection: &[Selected], still: &[Selected]) -> Turn {
    let (report, whole) = once(runtime, "envoy", selection.to_vec());
    let judged = report.scenarios.iter().flat_map(|s| &s.checks);
    let unsound: Vec<_> =
        judged.filter(|c| matches!(c.verdict, Verdict::Error | Verdict::Skipped)).map(|c| &c.id).collect();
    assert!(unsound.is_empty(), "not judged: {unsound:?}");
    let (started, starts) = once(runtime, "envoy", still.to_vec());
    let faults: Vec<_> = started.scenarios.iter().flat_map(|s| &s.faults).map(|f| &f.message).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let (_, suite) = once(runtime, "reference", selection.to_vec());
    let changes = report.scenarios.iter().map(|s| s.timing.convergence_us).max().unwrap_or_default();
    Turn { whole, starts, suite, changes: Duration::from_micros(changes) }
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("they are numbers"));
    values[values.len() / 2]
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    if let Err(e) = runtime.block_on(target("envoy").identify()) {
        println!("skipped: {e}");
        return;
    }
    // `cargo test --benches` runs this too; then few turns show that it works.
    let measured = std::env::args().any(|a| a == "--bench");
    let turns = if measured { 7 } else { 1 };
    let selection = select(&meshproof_scenarios::ALL, &[]).expect("no selector can be wrong");
    let still = idle(&selection);
    if measured {
        // The first run reads Envoy from disk and makes the keys that later ones share.
        turn(&runtime, &selection, &still);
    }
    let turns: Vec<Turn> = (0..turns).map(|_| turn(&runtime, &selection, &still)).collect();
    println!("{} turns; medians\n", turns.len());
    println!("| part | wall time |");
    println!("| --- | --- |");
    let row = |what: &str, part: fn(&Turn) -> Duration| {
        println!("| {what} | {:.2} s |", median(turns.iter().map(part).collect()).as_secs_f64());
    };
    row("the whole run", |t| t.whole);
    row("starts: the same processes, started and ended", |t| t.starts);
    row("suite: the same run on the reference", |t| t.suite);
    row("changes: the longest of a configuration", |t| t.changes);
    row("what cannot be left out, together", Turn::unavoidable);
    let ratios: Vec<f64> = turns.iter().map(Turn::ratio).collect();
    let (low, high) = ratios.iter().fold((f64::MAX, f64::MIN), |(l, h), r| (l.min(*r), h.max(*r)));
    println!(
        "\nThe whole run compared with them: {:.2} times ({low:.2} to {high:.2} of a turn)",
        median(ratios)
    );
}
