//! What a whole run on Envoy costs against what it cannot do without: `cargo bench -p meshproof --bench envoy`
//!
//! In turns, so that a busy machine is busy for all of them:
//!
//! - **whole**: every scenario configuration, side by side, report included;
//! - **starts**: the same configurations with stories that do nothing: the processes start, take their first configuration and end;
//! - **suite**: the same run on the reference: certificates, external services, requests, evidence and report, without a process;
//! - **changes**: the time that Envoy took to bring changes into force, of the configuration of the whole run in which that was
//!   longest.
//!
//! The last three are what cannot be left out. Envoy is `MESHPROOF_ENVOY`, else the one on PATH.

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
use meshproof_harness::runner::{self, Options, Selected};
use meshproof_harness::scenario::Scenario;
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

/// The same configurations, in which nothing happens once everything has started.
fn idle(selection: &[Selected]) -> Vec<Selected> {
    let still = |chosen: &Selected| {
        let scenario =
            Scenario { run: |_| Box::pin(async { Ok(()) }), features: &[], checks: &[], ..*chosen.scenario };
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
    // `cargo test --benches` asks for a quick proof that it runs.
    let measured = std::env::args().any(|a| a == "--bench");
    let turns = if measured { 7 } else { 1 };
    let selection = meshproof_scenarios::select::select(&[]).expect("nothing was asked for by name");
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
    println!("\nThe whole against it: {:.2} times ({low:.2} to {high:.2} of a turn)", median(ratios));
}
