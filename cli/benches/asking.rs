//! Measures the cost of evidence: `cargo bench -p meshproof --bench asking`. It compares a request through one running Envoy, with
//! evidence from three sides and four checks, with the same request by hurl with four assertions.
//!
//! Envoy is `MESHPROOF_ENVOY`, or envoy on PATH; hurl is `HURL`, or hurl on PATH. Both send through the same sidecar in alternating
//! turns, so that a busy machine slows both, and the ratio is computed per pair. hurl is measured twice: with one connection per
//! request, like the workload's client (and curl in the documents), and with one connection for all requests of a turn.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark prints, and its helpers report by panicking"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::claim::Claim;
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::external_server::Site;
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::{External, Mesh, Stop};
use meshproof_harness::runner::{self, Options, Selected};
use meshproof_harness::scenario::Scenario;
use meshproof_harness::topology::{Topology, Workload};
use meshproof_model::{Fact, Verdict};
use meshproof_targets::Settings;
use tokio::process::Command;
use tokio::runtime::Runtime;

const HOST: &str = "edition.cnn.com";
const PAGE: &str = "<!DOCTYPE html><title>Politics</title><h1>Politics of the day</h1>";

/// The requests of one turn.
const REQUESTS: usize = 50;

static SCENARIO: LazyLock<Scenario> = LazyLock::new(|| {
    let check = Check::must("asked", "Benchmark", "Every check of every request holds.");
    let fixtures = meshproof_fixtures::files("sidecar-origination");
    Scenario::new(
        Catalogue::new("asking").checks([check]),
        Fixtures::embedded("fixtures/sidecar-origination", fixtures),
        Topology::default().workload(Workload::sleep()),
        run,
    )
});

/// The input and the result of the story, which has no arguments.
static INPUT: Mutex<Option<(PathBuf, usize)>> = Mutex::new(None);
static MEASURED: Mutex<Option<Measured>> = Mutex::new(None);

/// For each turn, the time per request.
#[derive(Clone, Default)]
struct Measured {
    ours: Vec<Duration>,
    hurl_each: Vec<Duration>,
    hurl_kept: Vec<Duration>,
    /// The connections that hurl opened in its last turn of each form.
    connections: (usize, usize),
}

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    let (hurl, turns) = INPUT.lock().expect("not poisoned").clone().expect("it was set");
    let certificate = mesh.public_authority().server(HOST).issue()?;
    let origin = Site::at(HOST).certificate(&certificate).redirecting_to_https().html("/politics", PAGE);
    let origin = mesh.deploy_external(origin).await?;
    mesh.apply(&["target-port-access", "target-port-originate"]).await?;
    // Both warm up. The sidecar's log has the local address of its port 80.
    mesh.check("asked", Claim::all(ask(mesh, &origin).await?))?;
    let sidecar = capture(mesh).ok_or_else(|| Stop::Suite("the log has no local address".to_owned()))?;
    let folder = tempfile::tempdir().map_err(|e| Stop::Suite(e.to_string()))?;
    let one = entry(&sidecar);
    let each = Script::write(folder.path(), "each.hurl", &one, &["--repeat", &REQUESTS.to_string()]);
    let kept = Script::write(folder.path(), "kept.hurl", &one.repeat(REQUESTS), &[]);
    let mut measured = Measured::default();
    for _ in 0..turns {
        measured.ours.push(ours(mesh, &origin).await?);
        let before = clients(mesh).len();
        measured.hurl_each.push(each.run(&hurl).await?);
        let between = clients(mesh).len();
        measured.hurl_kept.push(kept.run(&hurl).await?);
        measured.connections = (between - before, clients(mesh).len() - between);
    }
    *MEASURED.lock().expect("not poisoned") = Some(measured);
    Ok(())
}

/// One request with its evidence, and four checks: what the application received, what arrived, what did not arrive, and
/// what was logged.
async fn ask(mesh: &Mesh, origin: &External<'_>) -> Result<[Claim; 4], Stop> {
    let reply = mesh.workload("sleep").get("http://edition.cnn.com/politics").await?;
    Ok([
        reply.only_response().is(200).body_contains(PAGE).into(),
        origin.saw(&reply).exactly(1).over_tls().server_name(HOST).into(),
        origin.during(&reply).no_plaintext(&["/politics", HOST]),
        mesh.proxy("sleep").logged(&reply).method("GET").path("/politics").status(200).authority(HOST).into(),
    ])
}

async fn ours(mesh: &Mesh, origin: &External<'_>) -> Result<Duration, Stop> {
    let begun = Instant::now();
    for _ in 0..REQUESTS {
        for claim in ask(mesh, origin).await? {
            let finding = mesh.view(|view| claim.judge(view));
            if finding.verdict != Verdict::Passed {
                return Err(Stop::Suite(format!("not passed: {finding:?}")));
            }
        }
    }
    Ok(begun.elapsed() / per_turn())
}

fn per_turn() -> u32 {
    u32::try_from(REQUESTS).expect("a small number")
}

/// The sidecar's own address, from its log.
fn capture(mesh: &Mesh) -> Option<String> {
    mesh.view(|view| {
        view.evidence.iter().rev().find_map(|e| {
            let Fact::AccessLog(log) = &e.fact else { return None };
            log.fields.as_ref()?.downstream_local_address.clone()
        })
    })
}

/// The client addresses that the sidecar has logged so far.
fn clients(mesh: &Mesh) -> BTreeSet<String> {
    mesh.view(|view| {
        let logged = view.evidence.iter().filter_map(|e| {
            let Fact::AccessLog(log) = &e.fact else { return None };
            log.fields.as_ref()?.downstream_remote_address.clone()
        });
        logged.collect()
    })
}

/// The same request with four assertions.
fn entry(sidecar: &str) -> String {
    let mut text = String::new();
    let _infallible = write!(
        text,
        "GET http://{sidecar}/politics\nHost: {HOST}\nHTTP *\n[Asserts]\nstatus == 200\nheader \"content-type\" contains \
         \"text/html\"\nbytes count == {}\nbody contains \"Politics of the day\"\n\n",
        PAGE.len()
    );
    text
}

struct Script {
    file: PathBuf,
    options: Vec<String>,
}

impl Script {
    fn write(folder: &Path, name: &str, text: &str, options: &[&str]) -> Self {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("the folder is writable");
        Self { file, options: options.iter().map(|&o| o.to_owned()).collect() }
    }

    /// How long hurl takes a request, its start included: shared by all of a turn, it hardly shows.
    async fn run(&self, hurl: &Path) -> Result<Duration, Stop> {
        let begun = Instant::now();
        let mut command = Command::new(hurl);
        // One request after the other, like the suite.
        command.args(["--jobs", "1", "--no-output", "--test"]).args(&self.options).arg(&self.file);
        let output = command.output().await.map_err(|e| Stop::Suite(format!("{}: {e}", hurl.display())))?;
        let elapsed = begun.elapsed();
        if !output.status.success() {
            return Err(Stop::Suite(format!("hurl: {}", String::from_utf8_lossy(&output.stderr))));
        }
        Ok(elapsed / per_turn())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn milliseconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|t| t.as_secs_f64() * 1000.0).collect()
}

/// The program in the variable, or the one with this name on PATH.
fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    set.or_else(|| meshproof_local::child::on_path(name))
}

fn main() {
    let (Some(envoy), Some(hurl)) = (program("MESHPROOF_ENVOY", "envoy"), program("HURL", "hurl")) else {
        println!(
            "skipped: it takes an Envoy (MESHPROOF_ENVOY) and a hurl (HURL: cargo install hurl@8.0.1 --locked)"
        );
        return;
    };
    // `cargo test --benches` runs this too; then few turns show that it works.
    let turns = if std::env::args().any(|a| a == "--bench") { 11 } else { 1 };
    *INPUT.lock().expect("not poisoned") = Some((hurl, turns));
    let settings = Settings { envoy: Some(envoy), ..Settings::default() };
    let options = Options {
        external: ExternalChoice::Embedded,
        ..Options::new(
            meshproof_targets::by_name("envoy", &settings).expect("it is a target"),
            vec![Selected { scenario: &SCENARIO, configuration: "only", checks: None }],
        )
    };
    let report = Runtime::new().expect("a runtime").block_on(runner::run(options)).expect("the run begins");
    assert_eq!(report.exit_code(), 0, "{:#?}", report.scenarios[0].faults);
    let measured = MEASURED.lock().expect("not poisoned").clone().expect("it was measured");
    let ours = milliseconds(&measured.ours);
    let row = |what: &str, hurl: &[Duration], connections: usize| {
        let hurl = milliseconds(hurl);
        let ratios: Vec<f64> = ours.iter().zip(&hurl).map(|(ours, hurl)| ours / hurl).collect();
        let (low, high) = ratios.iter().fold((f64::MAX, f64::MIN), |(l, h), r| (l.min(*r), h.max(*r)));
        println!(
            "| hurl, {what} | {:.2} ms | {:.2} ({low:.2} to {high:.2}) | {connections} |",
            median(hurl),
            median(ratios)
        );
    };
    println!("{turns} turns of {REQUESTS} requests each; medians\n");
    println!(
        "| | per request | meshproof compared with it (lowest to highest of a pair) | connections per turn |"
    );
    println!("| --- | --- | --- | --- |");
    println!(
        "| meshproof, evidence of three sides and four checks | {:.2} ms | | {REQUESTS} |",
        median(ours.clone())
    );
    row("a connection each", &measured.hurl_each, measured.connections.0);
    row("one connection", &measured.hurl_kept, measured.connections.1);
}
