//! Measures runs of the suite and prints a table for docs/performance.md: `cargo bench -p meshproof --bench suite`.
//!
//! Each repetition is a whole run in this process: certificates, external services, data plane, requests, report and both
//! renderings. The figures are medians. The benchmark does not fail if a run is slow.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use meshproof_harness::feature::Feature;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec};
use meshproof_harness::runner::{self, Options};
use meshproof_harness::select::select;
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, Target, TargetError};
use meshproof_harness::workload::RequestSpec;
use meshproof_local::LocalTarget;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory, Update};
use meshproof_model::{
    CredentialStatus, Exchange, ExchangeError, ExchangeErrorKind, ExternalService, Hop, HopResult,
    Implementation, Report, Verdict,
};
use meshproof_reference::Reference;
use tokio::runtime::Runtime;

const FEATURES: &[Feature] = meshproof_reference::FEATURES;

fn identity(name: &str) -> Implementation {
    Implementation {
        name: name.to_owned(),
        version: String::new(),
        target: name.to_owned(),
        features: FEATURES.iter().copied().map(Into::into).collect(),
        details: BTreeMap::new(),
    }
}

/// Never listens: every request is refused, so everything that can fail fails.
struct Absent;

#[async_trait]
impl DataPlaneFactory for Absent {
    async fn identify(&self) -> Result<Implementation, DataPlaneError> {
        Ok(identity("absent"))
    }

    async fn start(&self, _: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl DataPlane for Absent {
    async fn apply(&self, _: Update<'_>) -> Result<(), DataPlaneError> {
        Ok(())
    }

    async fn credentials(&self, _: &str) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        Ok(Vec::new())
    }

    async fn settle(&self) -> Result<(), DataPlaneError> {
        Ok(())
    }

    async fn stop(&self) -> Result<(), DataPlaneError> {
        Ok(())
    }
}

/// Does nothing and answers immediately: what remains is the suite's own work.
struct Null;

#[async_trait]
impl Target for Null {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        Ok(identity("null"))
    }

    async fn start(&self, _: Seat) -> Result<Box<dyn Instance>, TargetError> {
        Ok(Box::new(Self))
    }
}

fn refused(url: &str) -> Exchange {
    let error = ExchangeError { kind: ExchangeErrorKind::ConnectionRefused, message: String::new() };
    let hop = Hop {
        method: "GET".to_owned(),
        url: url.to_owned(),
        sent: String::new(),
        sent_bytes: 0,
        headers: Vec::new(),
        body_bytes: None,
        body_sha256: None,
        trailers: Vec::new(),
        messages: Vec::new(),
        tls: None,
        result: HopResult::Error(error),
    };
    Exchange { url: url.to_owned(), hops: vec![hop], duration_us: 0 }
}

#[async_trait]
impl Instance for Null {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        let describe = |(spec, _): (ExternalSpec, Documented)| ExternalService {
            host: spec.host,
            kind: "null".to_owned(),
            version: String::new(),
        };
        Ok(specs.into_iter().map(describe).collect())
    }

    async fn change(&self, _: &ConfigChange) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_running(&self, _: &str, _: bool) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_variable(&self, _: &str, _: &str, _: &str) -> Result<(), TargetError> {
        Ok(())
    }

    async fn send(&self, _: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        Ok(refused(&request.url))
    }

    async fn probe(&self, _: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        Ok(refused(&request.url))
    }

    async fn settle(&self) -> Result<(), TargetError> {
        Ok(())
    }

    async fn credentials(&self, _: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        Ok(Vec::new())
    }

    fn upstream_address(&self, _: &str, _: u16) -> Option<String> {
        None
    }

    async fn stop(&self) -> Result<(), TargetError> {
        Ok(())
    }
}

fn once(runtime: &Runtime, target: Arc<dyn Target>) -> (Report, Duration) {
    let selection = select(&meshproof_scenarios::ALL, &[]).expect("no selector can be wrong");
    let begun = Instant::now();
    let report = runtime
        .block_on(runner::run(Options {
            external: ExternalChoice::Embedded,
            ..Options::new(target, selection)
        }))
        .expect("the run begins");
    black_box(meshproof_model::to_json(&report).expect("it is JSON"));
    black_box(meshproof_render::html::html(&report));
    (report, begun.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn verdicts(report: &Report) -> Vec<(String, Verdict)> {
    let of = |s: &meshproof_model::ScenarioResult| {
        s.checks.iter().map(|c| (format!("{} {}", s.selector(), c.id), c.verdict)).collect::<Vec<_>>()
    };
    report.scenarios.iter().flat_map(of).collect()
}

/// Prints the checks whose verdict differs from the first run's, with their reasons.
fn explain(report: &Report, expected: &[(String, Verdict)]) {
    for scenario in &report.scenarios {
        for check in &scenario.checks {
            let name = format!("{} {}", scenario.selector(), check.id);
            if !expected.contains(&(name.clone(), check.verdict)) {
                eprintln!("{name}: {:?}: {}", check.verdict, check.reason);
            }
        }
        for fault in &scenario.faults {
            eprintln!("{}: {}", scenario.selector(), fault.message);
        }
    }
}

/// The process's peak resident memory in MiB, if /proc has it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn main() {
    // `cargo test --benches` runs this too; then two repetitions show that it works.
    let repetitions = if std::env::args().any(|a| a == "--bench") { 100 } else { 2 };
    let runtime = Runtime::new().expect("a runtime");
    let reference = || -> Arc<dyn Target> { Arc::new(LocalTarget::new(Arc::new(Reference::new()), None)) };

    let (first, cold) = once(&runtime, reference());
    let after_one = peak_memory();
    let expected = verdicts(&first);
    let mut different = 0;
    let mut passing = Vec::new();
    for _ in 0..repetitions {
        let (report, time) = once(&runtime, reference());
        passing.push(time);
        if verdicts(&report) != expected {
            different += 1;
            explain(&report, &expected);
        }
    }
    let failing: Vec<Duration> = (0..repetitions.min(20))
        .map(|_| once(&runtime, Arc::new(LocalTarget::new(Arc::new(Absent), None))).1)
        .collect();
    let own: Vec<Duration> = (0..repetitions.min(20)).map(|_| once(&runtime, Arc::new(Null)).1).collect();

    let checks = expected.len();
    let passed = expected.iter().filter(|(_, v)| *v == Verdict::Passed).count();
    let (passing, failing, own) = (median(passing), median(failing), median(own));
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    println!("| figure | value |");
    println!("| --- | --- |");
    println!("| checks, and those that passed | {checks}, {passed} |");
    println!("| first run, with all keys and certificates | {:.0} ms |", ms(cold));
    println!("| a later run (median of {repetitions}) | {:.0} ms |", ms(passing));
    println!("| checks per second, first run | {:.0} |", checks as f64 / cold.as_secs_f64());
    println!(
        "| the suite's own work per check (with a target that does nothing) | {:.2} ms |",
        ms(own) / checks as f64
    );
    println!(
        "| a run in which the implementation never listens, compared with a run that passes | {:.2} times |",
        ms(failing) / ms(passing)
    );
    println!("| runs whose verdicts differ from the first run's | {different} of {repetitions} |");
    for (what, memory) in [("after the first run", after_one), ("after all of them", peak_memory())] {
        match memory {
            Some(mib) => println!("| peak memory {what} | {mib} MiB |"),
            None => println!("| peak memory {what} | unknown |"),
        }
    }
}
