//! Measures how long it takes to compare and render large reports, how large the pages are, and, if a browser
//! is installed, how soon they can be used. Prints the numbers and fails if a limit is exceeded.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its results")]

use std::time::{Duration, Instant};

use meshproof_model::{Report, Verdict, from_json};
use meshproof_render::html;

#[path = "../tests/browser/driver.rs"]
#[allow(dead_code, reason = "the tests use the other functions")]
mod driver;

/// A report of a real run. Its scenarios are repeated until there are enough checks.
const REAL: &[u8] = include_bytes!("../samples/no-sni.json");

const IMPLEMENTATIONS: usize = 20;
const CHECKS: usize = 500;
const MIB: f64 = 1024.0 * 1024.0;

/// One implementation's report, with its own tokens, ports and times.
fn report(number: usize) -> Report {
    let text = String::from_utf8(REAL.to_vec()).unwrap();
    let real = from_json(REAL).unwrap();
    let port = |p: &str| format!("127.0.0.1:{}{p}", number % 10);
    let text = text
        .replace(&real.run.id, &format!("run{number:03}{}", &real.run.id[6..]))
        .replace("127.0.0.1:4", &port(""));
    let mut report = from_json(text.as_bytes()).unwrap();
    report.implementation.name = format!("Implementation {number}");
    let scenarios = std::mem::take(&mut report.scenarios);
    let mut checks = 0;
    for (round, mut scenario) in scenarios.iter().cloned().cycle().enumerate() {
        scenario.id = format!("{}-{round}", scenario.id);
        for piece in &mut scenario.evidence {
            piece.at_us += (number * 7 + round) as u64;
            piece.token = piece.token.as_ref().map(|t| format!("{t}r{round}"));
        }
        for (at, check) in scenario.checks.iter_mut().enumerate() {
            check.id = check.id.replacen('/', &format!("-{round}/"), 1);
            if (at + round + number).is_multiple_of(11) {
                check.verdict = Verdict::Failed;
            }
        }
        scenario.checks.truncate(CHECKS - checks);
        checks += scenario.checks.len();
        report.scenarios.push(scenario);
        if checks == CHECKS {
            return report;
        }
    }
    report
}

/// The best of three measurements, to exclude the effect of other load on the machine.
fn timed<T>(work: impl Fn() -> T) -> (Duration, T) {
    (0..3)
        .map(|_| {
            let started = Instant::now();
            let made = work();
            (started.elapsed(), made)
        })
        .min_by_key(|(took, _)| *took)
        .unwrap()
}

async fn ready(page: String) -> Option<Duration> {
    if !driver::there_is_a_browser() {
        return None;
    }
    let took = std::sync::Arc::new(std::sync::Mutex::new(None));
    let set = std::sync::Arc::clone(&took);
    driver::with_browser(async move |browser| {
        browser.open(&page, "").await;
        // From the start of the navigation until the page's script has run and a filter has been applied.
        let ms = browser
            .run(
                "const began = performance.timing.navigationStart; const loaded = performance.timing.domInteractive - began;\
                 const input = document.getElementById('query') ?? document.getElementById('search');\
                 const from = performance.now(); input.value = 'sni'; input.dispatchEvent(new Event('input', {bubbles: true}));\
                 document.body.offsetHeight; return performance.timing.domContentLoadedEventEnd - began + (performance.now() - from) + loaded * 0",
            )
            .await;
        *set.lock().unwrap() = Some(Duration::from_secs_f64(ms.as_f64().unwrap() / 1000.0));
    })
    .await;
    *took.lock().unwrap()
}

fn main() {
    // `cargo test --benches` starts this too, but without optimisation the numbers are meaningless.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let reports: Vec<Report> = (0..IMPLEMENTATIONS).map(report).collect();
    let all: Vec<&Report> = reports.iter().collect();
    let pieces: usize = reports.iter().flat_map(|r| &r.scenarios).map(|s| s.evidence.len()).sum();
    let json: usize = reports.iter().map(|r| serde_json::to_vec(r).unwrap().len()).sum();
    println!(
        "{IMPLEMENTATIONS} implementations x {CHECKS} checks, {pieces} pieces of evidence, {:.1} MiB of JSON",
        json as f64 / MIB
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut missed = false;
    let mut figure = |name: &str, page: &dyn Fn() -> String, seconds: f64, mib: f64| {
        let (took, page) = timed(page);
        let size = page.len() as f64 / MIB;
        let ready = runtime.block_on(ready(page));
        let usable =
            ready.map_or("no browser".to_owned(), |r| format!("usable in {:.0} ms", r.as_secs_f64() * 1e3));
        println!("{name:<34} rendered in {:>6.0} ms, {size:>5.2} MiB, {usable}", took.as_secs_f64() * 1e3);
        missed |=
            took.as_secs_f64() > seconds || size > mib || ready.is_some_and(|r| r > Duration::from_secs(1));
    };
    figure("comparison with full evidence", &|| html::comparison(&all, Some(0), true), 1.0, 8.0);
    figure("comparison without evidence", &|| html::comparison(&all, Some(0), false), 1.0, 2.0);
    figure("one report of 500 checks", &|| html::html(&reports[1]), 1.0, 8.0);
    if missed {
        println!(
            "limit exceeded: 1 s to render, 1 s until usable, 8 MiB with evidence, 2 MiB without evidence"
        );
        std::process::exit(1);
    }
}
