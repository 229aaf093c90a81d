//! Expected failures: a file that lists the checks that are known to fail for an implementation, with a
//! reason and an optional last day. An expected failure does not fail the run. If such a check passes, the
//! run fails, so that the file cannot become outdated.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use meshproof_model::report::{CheckResult, ExpectedFailure, Report, ScenarioResult, Verdict};
use meshproof_model::visible::line;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The current date in UTC.
#[must_use]
pub fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// A file of expected failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// One entry per check that is known to fail.
    pub expected_failures: Vec<Expectation>,
}

/// A check that is known to fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// `SCENARIO:CONFIGURATION/CHECK`, or `SCENARIO/CHECK` for every configuration.
    pub check: String,
    /// Why it fails; never empty.
    pub reason: String,
    /// The last day, in UTC, on which the failure is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
}

/// Why an expectations file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectationError {
    /// Larger than [`MAX_BYTES`].
    #[error("the file is too large: {0} bytes. The limit is {MAX_BYTES} bytes")]
    TooLarge(usize),
    /// Not YAML of the expected form.
    #[error("{0}. Each entry of expected_failures needs check and reason, and may have until: YYYY-MM-DD")]
    Yaml(String),
    /// An entry without a reason.
    #[error("the entry for {0:?} has no reason. State why the check is known to fail")]
    NoReason(String),
    /// A check that is listed twice.
    #[error("{0:?} is listed twice")]
    Twice(String),
}

/// The position and the problem. The following lines show an excerpt with a placeholder for the file name.
fn first_line(error: &str) -> String {
    let first = error.lines().next().unwrap_or(error);
    line(first.strip_prefix("error: ").unwrap_or(first)).into_owned()
}

impl Expectations {
    /// Why the entries are wrong that name none of the known checks, with near names.
    #[must_use]
    pub fn unknown(&self, known: &[String]) -> Vec<String> {
        let entries = self.expected_failures.iter().filter(|e| !known.contains(&e.check));
        entries
            .map(|e| {
                let near = meshproof_model::names::did_you_mean(&e.check, known.iter().map(String::as_str));
                format!("there is no check {}{near}", line(&e.check))
            })
            .collect()
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// The file is too large, is not YAML of this form, has an entry without a reason, or lists a check
    /// twice.
    pub fn from_yaml(text: &str) -> Result<Self, ExpectationError> {
        if text.len() > MAX_BYTES {
            return Err(ExpectationError::TooLarge(text.len()));
        }
        let read: Self =
            serde_saphyr::from_str(text).map_err(|e| ExpectationError::Yaml(first_line(&e.to_string())))?;
        for (number, entry) in read.expected_failures.iter().enumerate() {
            if entry.reason.trim().is_empty() {
                return Err(ExpectationError::NoReason(entry.check.clone()));
            }
            if read.expected_failures[..number].iter().any(|e| e.check == entry.check) {
                return Err(ExpectationError::Twice(entry.check.clone()));
            }
        }
        Ok(read)
    }

    /// A file that makes every failure of this report an expected one. The reasons are those of the report;
    /// the owner of the file should replace them with better ones.
    #[must_use]
    pub fn baseline(report: &Report) -> Self {
        let failing = |c: &&CheckResult| matches!(c.verdict, Verdict::Failed | Verdict::Inconclusive);
        let entry = |s: &ScenarioResult, c: &CheckResult| {
            let (reason, until) = match &c.expected_failure {
                Some(known) => (known.reason.clone(), known.until.as_ref().and_then(|u| u.parse().ok())),
                None => (meshproof_model::visible::clipped(&line(&c.reason), 300).into_owned(), None),
            };
            let reason = if reason.trim().is_empty() { c.verdict.to_string() } else { reason };
            Expectation { check: format!("{}/{}", s.selector(), s.check_name(c)), reason, until }
        };
        let mut expected_failures: Vec<Expectation> = Vec::new();
        for scenario in &report.scenarios {
            for check in scenario.checks.iter().filter(failing) {
                let entry = entry(scenario, check);
                if !expected_failures.iter().any(|e| e.check == entry.check) {
                    expected_failures.push(entry);
                }
            }
        }
        Self { expected_failures }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// None is known: every value of the model can be written as YAML.
    pub fn to_yaml(&self) -> Result<String, ExpectationError> {
        let yaml = serde_saphyr::to_string(self).map_err(|e| ExpectationError::Yaml(e.to_string()))?;
        Ok(format!("# Checks that are known to fail, for `meshproof run --expect FILE`.\n{yaml}"))
    }

    /// Marks the checks that are expected to fail. Returns notes about entries that expired and entries that
    /// match no check.
    pub fn apply(&self, report: &mut Report, today: Date) -> Vec<String> {
        let mut notes = Vec::new();
        for entry in &self.expected_failures {
            let expired = entry.until.is_some_and(|until| until < today);
            let mut found = false;
            for scenario in &mut report.scenarios {
                let selector = scenario.selector();
                let id = scenario.id.clone();
                for check in &mut scenario.checks {
                    let name = check.name_in(&id);
                    let matches = entry.check == check.id || entry.check == format!("{selector}/{name}");
                    found |= matches;
                    if matches && !expired {
                        check.expected_failure = Some(ExpectedFailure {
                            reason: entry.reason.clone(),
                            until: entry.until.map(|u| u.to_string()),
                        });
                    }
                }
            }
            if !found {
                notes.push(format!("{} is expected to fail but was not run", line(&entry.check)));
            } else if let (true, Some(until)) = (expired, entry.until) {
                notes.push(format!(
                    "the expectation for {} expired on {until}; a failure fails the run again",
                    line(&entry.check)
                ));
            }
        }
        report.derive_causes();
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conclusion::conclusion;
    use meshproof_model::sample;

    const TODAY: Date = jiff::civil::date(2026, 11, 21);

    fn read(yaml: &str) -> Expectations {
        Expectations::from_yaml(yaml).unwrap()
    }

    fn report(verdict: Verdict) -> Report {
        let mut report = sample::passing();
        report.scenarios[0].checks[1].verdict = verdict;
        report
    }

    const ENTRY: &str =
        "expected_failures:\n- check: sidecar-origination:target-port/sni-is-host\n  reason: known\n";

    #[test]
    fn an_expected_failure_does_not_fail_the_run() {
        for verdict in [Verdict::Failed, Verdict::Inconclusive] {
            let mut report = report(verdict);
            assert_eq!(report.exit_code(), 1);
            assert!(read(ENTRY).apply(&mut report, TODAY).is_empty());
            assert_eq!(report.exit_code(), 0);
            assert_eq!(conclusion(&report).sentence, "1 of 2 MUST checks passed, 1 check failed as expected");
        }
    }

    #[test]
    fn an_unexpected_success_fails_the_run() {
        let mut report = report(Verdict::Passed);
        read(ENTRY).apply(&mut report, TODAY);
        assert_eq!(report.exit_code(), 1);
        let sentence = "2 MUST checks passed, 1 check passed although a failure was expected";
        assert_eq!(conclusion(&report).sentence, sentence);
    }

    #[test]
    fn an_error_is_never_an_expected_failure() {
        let mut report = report(Verdict::Error);
        read(ENTRY).apply(&mut report, TODAY);
        assert_eq!(report.exit_code(), 3);
    }

    #[test]
    fn an_entry_without_a_configuration_matches_every_configuration() {
        let mut report = report(Verdict::Failed);
        read("expected_failures: [{check: sidecar-origination/sni-is-host, reason: known}]")
            .apply(&mut report, TODAY);
        assert_eq!(report.exit_code(), 0);
    }

    #[test]
    fn an_expectation_expires_after_its_last_day() {
        for (until, code, notes) in [("2026-11-21", 0, 0), ("2026-11-20", 1, 1)] {
            let mut report = report(Verdict::Failed);
            let reported = read(&format!("{ENTRY}  until: {until}\n")).apply(&mut report, TODAY);
            assert_eq!((report.exit_code(), reported.len()), (code, notes), "{until}");
        }
    }

    #[test]
    fn an_entry_of_an_unknown_check_has_near_names() {
        let read =
            read("expected_failures: [{check: a/sni-is-hst, reason: known}, {check: a:b/c, reason: known}]");
        let known = ["a/sni-is-host", "a:b/c"].map(str::to_owned);
        assert_eq!(read.unknown(&known), ["there is no check a/sni-is-hst; did you mean a/sni-is-host?"]);
    }

    #[test]
    fn an_entry_that_matches_no_check_is_reported() {
        let mut report = report(Verdict::Passed);
        let notes = read("expected_failures: [{check: gone/check, reason: known}]").apply(&mut report, TODAY);
        assert_eq!(notes, ["gone/check is expected to fail but was not run"]);
        assert_eq!(report.exit_code(), 0);
    }

    #[test]
    fn a_report_passes_with_its_own_baseline() {
        let mut report = sample::report();
        let baseline = Expectations::baseline(&report);
        let again = Expectations::from_yaml(&baseline.to_yaml().unwrap()).unwrap();
        assert_eq!(again, baseline);
        assert!(again.apply(&mut report, TODAY).is_empty());
        assert!(!report.checks().any(CheckResult::fails_run));
    }

    #[test]
    fn baseline_text() {
        let mut report = sample::report();
        report.scenarios.truncate(2);
        insta::assert_snapshot!(Expectations::baseline(&report).to_yaml().unwrap());
    }

    #[test]
    fn an_invalid_file_is_rejected_and_the_message_says_what_to_do() {
        for (yaml, wanted) in [
            ("expected_failures: [{check: a/b}]", "reason"),
            ("expected_failures: [{check: a/b, reason: ' '}]", "State why"),
            ("expected_failures: [{check: a/b, reason: x, untill: 2020-01-01}]", "untill"),
            ("expected_failures: [{check: a/b, reason: x, until: soon}]", "YYYY-MM-DD"),
            ("expected_failures: [{check: a/b, reason: x}, {check: a/b, reason: y}]", "twice"),
            ("[", "expected_failures"),
        ] {
            let error = Expectations::from_yaml(yaml).unwrap_err().to_string();
            assert!(error.contains(wanted), "{yaml}: {error}");
        }
    }
}
