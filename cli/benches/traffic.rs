//! Measures generated traffic and prints a table for docs/performance.md: `cargo bench -p meshproof --bench traffic`.
//!
//! Each turn sends a budget of exchanges per placement and twice that budget, with the full ledger. What costs the same for
//! every budget (certificates, servers, proxies) is measured with a budget of a few exchanges and taken off. Turns alternate, so
//! that a busy machine slows all of them. With `MESHPROOF_ENVOY`, Envoy is measured, too. The benchmark does not fail if a run is
//! slow.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark prints, and its helpers report by panicking"
)]

use std::time::{Duration, Instant};

use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options};
use meshproof_harness::select::select;
use meshproof_harness::traffic::{Budget, Traffic};
use meshproof_model::Verdict;
use meshproof_targets::Settings;
use tokio::runtime::Runtime;

/// A budget that costs next to nothing.
const FEW: u64 = 24;

/// How long a run with this budget takes, and how many placements it asks.
fn run(runtime: &Runtime, name: &str, budget: u64) -> (Duration, u64) {
    let target = meshproof_targets::by_name(name, &Settings::default()).expect("it is a target");
    let selection =
        select(&meshproof_scenarios::ALL, &["generated-traffic".to_owned()]).expect("it is a scenario");
    let traffic = Traffic { budget: Budget::Exchanges(budget), ..Traffic::default() };
    let options = Options { external: ExternalChoice::Embedded, traffic, ..Options::new(target, selection) };
    let begun = Instant::now();
    let report = runtime.block_on(runner::run(options)).expect("the run begins");
    let took = begun.elapsed();
    let placements =
        report.scenarios.iter().filter(|s| s.checks.iter().any(|c| c.verdict != Verdict::Skipped));
    let placements = placements.count() as u64;
    for check in report.scenarios.iter().flat_map(|s| &s.checks) {
        assert!(
            matches!(check.verdict, Verdict::Passed | Verdict::Skipped),
            "{}: {}",
            check.id,
            check.reason
        );
    }
    (took, placements)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The process's peak resident memory in MiB, if /proc has it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn measure(runtime: &Runtime, name: &str, budget: u64, turns: usize) {
    let (mut per_second, mut doubled) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let (few, _) = run(runtime, name, FEW);
        let (once, placements) = run(runtime, name, budget);
        let (twice, _) = run(runtime, name, 2 * budget);
        let of_traffic = once.saturating_sub(few).as_secs_f64();
        per_second.push(((budget - FEW) * placements) as f64 / of_traffic);
        doubled.push(twice.as_secs_f64() / once.as_secs_f64());
    }
    println!("| {name}: exchanges per second (budget {budget} per placement) | {:.0} |", median(per_second));
    println!("| {name}: time with twice the budget | {:.2} times |", median(doubled));
}

fn main() {
    // `cargo test --benches` runs this too; then one short turn shows that it works.
    let whole = std::env::args().any(|a| a == "--bench");
    let (budget, turns) = if whole { (4000, 5) } else { (60, 1) };
    let runtime = Runtime::new().expect("a runtime");
    println!("| figure | value |");
    println!("| --- | --- |");
    measure(&runtime, "reference", budget, turns);
    if whole && std::env::var_os("MESHPROOF_ENVOY").is_some() {
        measure(&runtime, "envoy", budget, turns);
    }
    if whole {
        let (took, placements) = run(&runtime, "reference", 100_000 / 3);
        let exchanges = (100_000 / 3) * placements;
        println!("| reference: {exchanges} exchanges | {:.1} s |", took.as_secs_f64());
        match peak_memory() {
            Some(mib) => println!("| peak memory after all of them | {mib} MiB |"),
            None => println!("| peak memory after all of them | unknown |"),
        }
    }
}
