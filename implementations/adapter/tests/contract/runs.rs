//! Whole runs: what an adapter's misbehaviour does to the verdicts, and what an adapter with few features is
//! asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshproof_adapter::Adapter;
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::feature::Feature;
use meshproof_harness::runner::{self, Options, RunError, Selected};
use meshproof_harness::select::select;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_local::LocalTarget;
use meshproof_model::{CheckResult, Fact, Report, Verdict};
use meshproof_scenarios::ALL;

use crate::support::{hostile, installed, timeouts};

pub(crate) async fn run(command: &str, selectors: &[&str], timeouts: Timeouts) -> Result<Report, RunError> {
    let selectors: Vec<String> = selectors.iter().map(|s| (*s).to_owned()).collect();
    let selection: Vec<Selected> = select(&ALL, &selectors).unwrap();
    let work = tempfile::tempdir().unwrap();
    let factory = Adapter::new(command, &timeouts).unwrap();
    let report = runner::run(Options {
        jobs: Some(2),
        external: ExternalChoice::Embedded,
        timeouts,
        work: work.path().to_owned(),
        ..Options::new(Arc::new(LocalTarget::new(Arc::new(factory), None)), selection)
    })
    .await;
    let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    report
}

fn verdicts(report: &Report) -> Vec<(&str, Verdict, &str)> {
    report.checks().map(|c| (c.id.as_str(), c.verdict, c.reason.as_str())).collect()
}

#[track_caller]
fn assert_all_fail(report: &Report, reason: &str) {
    let wrong = |c: &&CheckResult| c.verdict != Verdict::Failed || !c.reason.contains(reason);
    let wrong: Vec<_> = report.checks().filter(wrong).map(|c| (&c.id, c.verdict, &c.reason)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(report.checks().count() > 0);
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test]
async fn a_broken_hello_ends_the_run_before_anything_is_judged_with_one_error() {
    if !installed("python3", "--version") {
        return;
    }
    for (way, words) in [
        ("dies-at-hello", "no licence found"),
        ("garbage", "Starting up, please wait..."),
        ("unknown-feature", "did you mean egress-gateway"),
        ("wrong-contract", "meshproof uses version 1"),
    ] {
        let error = run(&hostile(way), &["sidecar-origination"], timeouts(None)).await.unwrap_err();
        assert!(matches!(error, RunError::Implementation(_)), "{way}: {error:?}");
        let text = error.to_string();
        assert!(text.starts_with("nothing was judged: the adapter") && text.contains(words), "{text}");
        assert!(text.contains(way) && text.contains("adapter check"), "{text}");
    }
}

#[tokio::test]
async fn an_adapter_that_crashes_fails_the_remaining_checks() {
    if !installed("python3", "--version") {
        return;
    }
    let report = run(&hostile("dies-in-the-middle"), &["sidecar-origination:target-port"], timeouts(None))
        .await
        .unwrap();
    assert_all_fail(&report, "out of memory");
}

#[tokio::test]
async fn an_unreadable_log_line_is_reported_with_its_cause_before_its_text() {
    if !installed("python3", "--version") {
        return;
    }
    let selectors = ["sidecar-origination:target-port/sidecar-access-log"];
    let report = run(&hostile("declares-a-log"), &selectors, timeouts(None)).await.unwrap();
    let reasons: Vec<_> = report.checks().map(|c| c.reason.as_str()).collect();
    let cause = "the last: the line matches none of the known formats: \"a line before settled\"";
    assert!(reasons.len() == 1 && reasons[0].contains(cause), "{reasons:#?}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_an_error_before_the_run() {
    let error = run("/no/such/adapter", &["sidecar-origination"], timeouts(None)).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/adapter"), "{error}");
}

#[tokio::test]
async fn an_unsupported_feature_skips_the_remaining_checks_and_is_named() {
    if !installed("python3", "--version") {
        return;
    }
    let report =
        run(&hostile("unsupported"), &["sidecar-origination:target-port"], timeouts(None)).await.unwrap();
    for (id, verdict, reason) in verdicts(&report) {
        assert_eq!(verdict, Verdict::Skipped, "{id}");
        assert!(reason.contains("mesh-mtls") || reason.contains("does not declare"), "{id}: {reason}");
    }
}

#[tokio::test]
async fn a_scenario_that_needs_an_undeclared_feature_is_skipped_and_names_it() {
    if !installed("python3", "--version") {
        return;
    }
    let report = run(&hostile("rejects"), &["egress-gateway-simple"], timeouts(None)).await.unwrap();
    for check in report.checks() {
        assert_eq!(check.verdict, Verdict::Skipped, "{}", check.id);
        assert_eq!(check.feature, Some(Feature::EgressGateway.into()), "{}", check.id);
    }
    // No check ran, so nothing was proved.
    assert_eq!(report.exit_code(), 3);
}

#[tokio::test]
async fn an_adapter_that_does_not_stop_when_it_introduces_itself_ends_the_run() {
    if !installed("python3", "--version") {
        return;
    }
    let selectors = ["sidecar-origination:target-port"];
    let error =
        run(&hostile("stays-after-stopped"), &selectors, timeouts(Timeout::AdapterStop)).await.unwrap_err();
    assert!(error.to_string().contains("did not exit within the timeout `adapter-stop` (300ms)"), "{error}");
}

#[tokio::test]
async fn an_adapter_that_crashes_at_the_stop_fails_runs_until_stopped_and_no_other_check() {
    if !installed("python3", "--version") {
        return;
    }
    // It accepts every plan and does nothing, so the scenario runs to its end.
    let selectors = ["sidecar-origination:target-port"];
    let (honest, dying) = (hostile(""), hostile("dies-at-the-end"));
    let (honest, dying) =
        tokio::join!(run(&honest, &selectors, timeouts(None)), run(&dying, &selectors, timeouts(None)),);
    let (honest, dying) = (honest.unwrap(), dying.unwrap());
    let verdicts = |report: &Report| -> Vec<(String, Verdict)> {
        report.checks().map(|c| (c.id.clone(), c.verdict)).collect()
    };
    let mut expected = verdicts(&honest);
    expected.push(("sidecar-origination/runs-until-stopped".to_owned(), Verdict::Failed));
    assert_eq!(verdicts(&dying), expected);
    assert!(dying.scenarios[0].faults.is_empty(), "{:?}", dying.scenarios[0].faults);
}

/// A machine without free processor time is not the implementation's failure.
#[tokio::test]
async fn an_adapter_that_does_not_start_in_time_is_an_error_of_the_environment_and_fails_no_check() {
    if !installed("python3", "--version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let command = hostile("slow-after-the-first-start");
    let command = format!("env 'MESHPROOF_TEST_FOLDER={}' {command}", folder.path().display());
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::AdapterHello, std::time::Duration::from_secs(3));
    let report = run(&command, &["sidecar-origination:target-port"], timeouts).await.unwrap();
    for (id, verdict, reason) in verdicts(&report) {
        // What the adapter does not declare is skipped all the same.
        assert!(matches!(verdict, Verdict::Error | Verdict::Skipped), "{id}: {verdict:?}: {reason}");
    }
    assert!(report.checks().any(|c| c.reason.contains("--timeout adapter-hello=")));
    assert_eq!(report.exit_code(), 3);
}

/// A report that a browser cannot open proves nothing.
#[tokio::test]
async fn log_lines_within_the_contracts_limits_do_not_make_a_huge_report() {
    if !installed("python3", "--version") {
        return;
    }
    let report =
        run(&hostile("fills-the-log"), &["sidecar-origination:target-port"], timeouts(None)).await.unwrap();
    let bytes = serde_json::to_vec(&report).unwrap().len();
    assert!(bytes < 4 * 1024 * 1024, "{bytes} bytes");
    let evidence = &report.scenarios[0].evidence;
    let notes = evidence.iter().filter_map(|e| match &e.fact {
        Fact::Note { text } => Some(text.as_str()),
        Fact::Exchange(_)
        | Fact::AccessLog(_)
        | Fact::Connection(_)
        | Fact::Request(_)
        | Fact::Change(_)
        | Fact::Credential(_) => None,
    });
    assert!(notes.into_iter().any(|text| text.contains("left out of this report")));
    let kept: BTreeSet<_> = evidence.iter().map(|e| &e.id).collect();
    let cited: Vec<_> = report.checks().flat_map(|c| &c.evidence).collect();
    assert!(cited.iter().all(|id| kept.contains(id)), "a verdict rests on evidence that was left out");
}
