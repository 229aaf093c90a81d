//! JUnit XML: one test suite per scenario configuration, one test case per check. Only a check that fails the
//! run is a failure, so that a reader of the file comes to the same verdict as the run. A failed SHOULD, a
//! failed MAY and an expected failure are skipped with their reason.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, SerializeError, TestCase, TestCaseStatus, TestSuite};

use meshproof_model::evidence::Fact;
use meshproof_model::report::{CheckResult, Report, ScenarioResult, Verdict};
use meshproof_model::visible::{block, clipped, line};

/// The longest text of one value, in characters.
const MAX_TEXT: usize = 4_000;

pub(super) fn junit(report: &Report) -> Result<String, SerializeError> {
    let name = format!("meshproof: {} {}", report.implementation.name, report.implementation.version);
    let mut out = quick_junit::Report::new(text(&name));
    out.set_time(Duration::from_micros(report.run.duration_us));
    out.add_test_suites(suites(report));
    out.to_string()
}

/// The test suites of a report.
pub(crate) fn suites(report: &Report) -> impl Iterator<Item = TestSuite> + '_ {
    report.scenarios.iter().map(|scenario| suite(report, scenario))
}

fn text(value: &str) -> String {
    clipped(&line(value), MAX_TEXT).into_owned()
}

fn suite(report: &Report, scenario: &ScenarioResult) -> TestSuite {
    let mut suite = TestSuite::new(text(&scenario.selector()));
    suite.set_time(Duration::from_micros(scenario.timing.total_us));
    suite.add_property(Property::new("implementation", text(&report.implementation.name)));
    suite.add_property(Property::new("version", text(&report.implementation.version)));
    suite.add_property(Property::new("target", text(&report.implementation.target)));
    suite.add_property(Property::new("document", text(&scenario.document.title)));
    for check in &scenario.checks {
        suite.add_test_case(case(scenario, check));
    }
    if !scenario.faults.is_empty() {
        let faults: Vec<String> = scenario.faults.iter().map(|f| text(&f.message)).collect();
        suite.set_system_err(faults.join("\n"));
    }
    suite
}

fn case(scenario: &ScenarioResult, check: &CheckResult) -> TestCase {
    let mut case = TestCase::new(text(&check.id), status(scenario, check));
    case.set_classname(text(&scenario.selector()));
    case.set_time(Duration::from_micros(time_of(scenario, check)));
    case.add_property(Property::new("level", check.level.to_string()));
    case.add_property(Property::new("section", text(&check.section)));
    case
}

/// The time of the exchanges that the check rests on, in microseconds. Several checks can rest on one exchange.
fn time_of(scenario: &ScenarioResult, check: &CheckResult) -> u64 {
    let exchanges = check.evidence.iter().filter_map(|id| match &scenario.evidence(id)?.fact {
        Fact::Exchange(exchange) => Some(exchange.duration_us),
        Fact::AccessLog(_)
        | Fact::Connection(_)
        | Fact::Request(_)
        | Fact::Change(_)
        | Fact::Credential(_)
        | Fact::Note { .. } => None,
    });
    exchanges.fold(0, u64::saturating_add)
}

fn status(scenario: &ScenarioResult, check: &CheckResult) -> TestCaseStatus {
    let mut status = match check.verdict {
        Verdict::Passed if check.fails_run() => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("unexpected pass").set_message("passed although a failure was expected");
            return status;
        }
        Verdict::Passed => return TestCaseStatus::success(),
        Verdict::Failed | Verdict::Inconclusive if check.fails_run() => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
        Verdict::Failed | Verdict::Inconclusive => {
            let why = match &check.expected_failure {
                Some(expected) => format!("{} as expected: {}", check.verdict, expected.reason),
                None => {
                    format!("{} {} (does not fail the run): {}", check.level, check.verdict, check.reason)
                }
            };
            let mut status = TestCaseStatus::skipped();
            status.set_message(text(&why));
            return status;
        }
        Verdict::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(text(&check.reason));
            return status;
        }
    };
    let body = format!(
        "requirement: {}\ndocument: {}, \"{}\"\n          {}\nreason: {}\nexpected: {}\nseen: {}\nrepeat: {}",
        check.requirement,
        scenario.document.title,
        check.section,
        scenario.document.url,
        check.reason,
        check.expected,
        check.seen,
        check.repeat
    );
    status
        .set_type(check.verdict.to_string())
        .set_message(text(&check.reason))
        .set_description(clipped(&block(&body), 4 * MAX_TEXT).into_owned());
    status
}
