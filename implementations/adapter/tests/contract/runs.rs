//! Whole runs: whose fault an adapter's misbehaviour is, and what is asked of an adapter that declares little.

use meshproof_harness::feature::Feature;
use meshproof_harness::timeouts::Timeout;
use std::sync::Arc;

use meshproof_adapter::Adapter;
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options, RunError, Selected};
use meshproof_harness::select::select;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::LocalTarget;
use meshproof_model::{CheckResult, Report, Verdict};
use meshproof_scenarios::ALL;

use crate::support::{hostile, installed, timeouts};

pub(crate) async fn run(command: &str, selectors: &[&str], timeouts: Timeouts) -> Result<Report, RunError> {
    let selectors: Vec<String> = selectors.iter().map(|s| (*s).to_owned()).collect();
    let selection: Vec<Selected> = select(&ALL, &selectors).unwrap();
    let work = tempfile::tempdir().unwrap();
    let factory = Adapter::new(command, &timeouts).unwrap();
    let report = runner::run(Options {
        jobs: 2,
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
async fn a_breach_at_hello_ends_the_run_before_anything_is_judged_and_is_told_once() {
    if !installed("python3", "--version") {
        return;
    }
    for (way, words) in [
        ("dies-at-hello", "no licence found"),
        ("garbage", "Starting up, please wait..."),
        ("unknown-feature", "did you mean egress-gateway"),
        ("wrong-contract", "this suite speaks 1"),
    ] {
        let error = run(&hostile(way), &["sidecar-origination"], timeouts(None)).await.unwrap_err();
        assert!(matches!(error, RunError::Implementation(_)), "{way}: {error:?}");
        let told = error.to_string();
        assert!(told.starts_with("nothing was judged: the adapter") && told.contains(words), "{told}");
        assert!(told.contains(way) && told.contains("adapter check"), "{told}");
    }
}

#[tokio::test]
async fn an_adapter_that_dies_in_the_middle_fails_what_is_left() {
    if !installed("python3", "--version") {
        return;
    }
    let report = run(&hostile("dies-in-the-middle"), &["sidecar-origination:target-port"], timeouts(None))
        .await
        .unwrap();
    assert_all_fail(&report, "out of luck");
}

#[tokio::test]
async fn a_log_line_that_cannot_be_read_is_told_with_its_cause_before_its_text() {
    if !installed("python3", "--version") {
        return;
    }
    let selectors = ["sidecar-origination:target-port/sidecar-access-log"];
    let report = run(&hostile("declares-a-log"), &selectors, timeouts(None)).await.unwrap();
    let told: Vec<_> = report.checks().map(|c| c.reason.as_str()).collect();
    let cause = "the last: the line fits none of the known formats: \"a line before settled\"";
    assert!(told.len() == 1 && told[0].contains(cause), "{told:#?}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_an_error_before_the_run() {
    let error = run("/no/such/adapter", &["sidecar-origination"], timeouts(None)).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/adapter"), "{error}");
}

#[tokio::test]
async fn an_unsupported_feature_skips_what_is_left_and_is_named() {
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
        assert_eq!(check.feature, Some(Feature::EgressGateway), "{}", check.id);
    }
    // Nothing was asked, so nothing was proved.
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
async fn an_adapter_that_dies_when_it_is_told_to_stop_fails_a_check_of_its_own_and_no_other() {
    if !installed("python3", "--version") {
        return;
    }
    // It applies whatever it is told and does nothing, so that the scenario comes to its end.
    let selectors = ["sidecar-origination:target-port"];
    let (honest, dying) = (hostile(""), hostile("dies-at-the-end"));
    let (honest, dying) =
        tokio::join!(run(&honest, &selectors, timeouts(None)), run(&dying, &selectors, timeouts(None)),);
    let (honest, dying) = (honest.unwrap(), dying.unwrap());
    let told = |report: &Report| -> Vec<(String, Verdict)> {
        report.checks().map(|c| (c.id.clone(), c.verdict)).collect()
    };
    let mut expected = told(&honest);
    expected.push(("sidecar-origination/runs-until-stopped".to_owned(), Verdict::Failed));
    assert_eq!(told(&dying), expected);
    assert!(dying.scenarios[0].faults.is_empty(), "{:?}", dying.scenarios[0].faults);
}
