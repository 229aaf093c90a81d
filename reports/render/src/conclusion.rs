//! The overall result of a report, why checks were skipped, and which checks need attention.

use std::collections::HashMap;

use crate::text::plural;
use meshproof_model::report::{CheckResult, Level, Report, Tally, Verdict};

/// The overall result of a report, consistent with [`Report::exit_code`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// `Passed`, `Failed` (a MUST failed or is inconclusive) or `Error` (the run does not allow a
    /// conclusion).
    pub verdict: Verdict,
    /// One sentence without the verdict and without a full stop.
    pub sentence: String,
}

/// The overall result of a report.
#[must_use]
pub fn conclusion(report: &Report) -> Conclusion {
    let must = Tally::of(report.checks(), |c| c.level == Level::Must);
    let unexpected = Tally::of(report.checks(), |c| c.level == Level::Must && c.expected_failure.is_none());
    let all = Tally::of(report.checks(), |_| true);
    let executed_must = must.total() - must.count(Verdict::Skipped);
    let faults: usize = report.scenarios.iter().map(|s| s.faults.len()).sum();
    let verdict = match report.exit_code() {
        0 => Verdict::Passed,
        1 => Verdict::Failed,
        _ => Verdict::Error,
    };
    let mut parts = Vec::new();
    let mut count = |n: usize, text: &dyn Fn(usize) -> String| {
        if n > 0 {
            parts.push(text(n));
        }
    };
    if verdict != Verdict::Passed && executed_must > 0 {
        count(1, &|_| passed_of(must.count(Verdict::Passed), must.total()));
    }
    count(unexpected.count(Verdict::Failed), &|n| format!("{n} failed"));
    count(unexpected.count(Verdict::Inconclusive), &|n| format!("{n} inconclusive"));
    let unexpectedly_passed =
        report.checks().filter(|c| c.fails_run() && c.verdict == Verdict::Passed).count();
    count(unexpectedly_passed, &|n| format!("{} passed although a failure was expected", plural(n, "check")));
    count(all.count(Verdict::Error), &|n| format!("{} could not be judged", plural(n, "check")));
    count(faults, &|n| plural(n, "environment or suite error"));
    if report.run.partial {
        parts.push("the run stopped early".to_owned());
    }
    let executed = all.count(Verdict::Passed) + all.count(Verdict::Failed);
    if executed == 0 {
        parts.push("no check was judged".to_owned());
    }
    if verdict == Verdict::Passed {
        let passed = must.count(Verdict::Passed);
        parts.push(if executed_must == 0 {
            let failed = |level| Tally::of(report.checks(), |c| c.level == level).count(Verdict::Failed);
            let others: Vec<String> = [Level::Should, Level::May]
                .into_iter()
                .filter_map(|level| Some((level, failed(level))).filter(|(_, n)| *n > 0))
                .map(|(level, n)| format!("; {} failed", plural(n, &format!("{level} check"))))
                .collect();
            format!("no MUST check was executed{}", others.concat())
        } else {
            passed_of(passed, must.total())
        });
    }
    let expected = report.checks().filter(|c| c.failed_as_expected()).count();
    if expected > 0 {
        parts.push(format!("{} failed as expected", plural(expected, "check")));
    }
    let not_asked = must.count(Verdict::Skipped);
    if not_asked > 0 {
        parts.push(format!("{not_asked} not asked"));
    }
    let others = all.count(Verdict::Skipped) - not_asked;
    if others > 0 {
        parts.push(format!("{} skipped", plural(others, "SHOULD or MAY check")));
    }
    Conclusion { verdict, sentence: parts.join(", ") }
}

/// The result in one sentence for a reader who knows neither the tool nor its terms. A MUST check is a requirement.
#[must_use]
pub fn promise(report: &Report) -> String {
    let implementation = &report.implementation;
    let mut name = format!("{} {}", implementation.name, implementation.version);
    // `verify` judges a configuration, and the implementation only carries it out.
    let of_configuration = report.scenarios.iter().all(|s| matches!(s.id.as_str(), "verify" | "findings"))
        && !report.scenarios.is_empty();
    if of_configuration {
        name = format!("The configuration, carried out by {name},");
    }
    let must = Tally::of(report.checks(), |c| c.level == Level::Must);
    let (passed, not_asked) = (must.count(Verdict::Passed), must.count(Verdict::Skipped));
    let result = match conclusion(report).verdict {
        _ if passed == must.total() && passed > 0 && of_configuration => "does what its flows describe",
        Verdict::Failed | Verdict::Passed if passed + not_asked < must.total() && of_configuration => {
            "has faults"
        }
        _ if passed == must.total() && passed > 0 => "does what the documents promise",
        Verdict::Passed if passed + not_asked == must.total() && passed > 0 => "does what it was asked for",
        Verdict::Failed | Verdict::Passed if passed + not_asked < must.total() => {
            "does not do everything that the documents promise"
        }
        Verdict::Passed | Verdict::Failed | Verdict::Inconclusive | Verdict::Error | Verdict::Skipped => {
            return format!("This run does not allow a conclusion about {name}.");
        }
    };
    let mut parts = vec![format!("{passed} of {} met", plural(must.total(), "requirement"))];
    for (count, what) in [
        (must.count(Verdict::Failed), "not met"),
        (must.count(Verdict::Inconclusive), "undecided"),
        (must.count(Verdict::Error), "not judged because of an error"),
        (not_asked, "not asked"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{name} {result}: {}.", parts.join(", "))
}

/// How many reasons for skipping are listed separately.
const SKIP_REASONS: usize = 20;

/// Why checks were skipped, one line per reason, the most frequent first: `12 checks skipped: the
/// implementation does not declare the feature mesh-mtls`. The reasons are not escaped; each renderer does
/// that.
#[must_use]
pub fn skips(report: &Report) -> Vec<String> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for check in report.checks().filter(|c| c.verdict == Verdict::Skipped) {
        let at = *index.entry(&check.reason).or_insert_with(|| {
            counts.push((&check.reason, 0));
            counts.len() - 1
        });
        counts[at].1 += 1;
    }
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let mut lines: Vec<String> = counts
        .iter()
        .take(SKIP_REASONS)
        .map(|(reason, n)| format!("{} skipped: {reason}", plural(*n, "check")))
        .collect();
    let rest = counts.get(SKIP_REASONS..).unwrap_or_default();
    if !rest.is_empty() {
        let checks: usize = rest.iter().map(|(_, n)| n).sum();
        lines.push(format!(
            "{} skipped for {}; see report.json",
            plural(checks, "check"),
            plural(rest.len(), "more reason")
        ));
    }
    lines
}

/// `2 MUST checks passed` if all did, else `1 of 2 MUST checks passed`.
fn passed_of(passed: usize, all: usize) -> String {
    let checks = plural(all, "MUST check");
    if passed == all { format!("{checks} passed") } else { format!("{passed} of {checks} passed") }
}

/// Whether a summary explains the check: failed, inconclusive or error, at any level.
#[must_use]
pub const fn needs_attention(check: &CheckResult) -> bool {
    match check.verdict {
        Verdict::Failed | Verdict::Inconclusive | Verdict::Error => true,
        Verdict::Passed | Verdict::Skipped => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_model::sample;

    #[test]
    fn a_sentence_for_everyone_says_how_many_requirements_are_met_and_how_many_were_not_asked() {
        let said = |verdicts: &[Verdict]| {
            let mut report = sample::passing();
            let checks = report.scenarios[0].checks.clone();
            report.scenarios[0].checks.extend(checks.iter().cycle().take(2 * checks.len()).cloned());
            let must: Vec<_> = report
                .scenarios
                .iter_mut()
                .flat_map(|s| &mut s.checks)
                .filter(|c| c.level == Level::Must)
                .collect();
            for (check, verdict) in must.into_iter().zip(verdicts) {
                check.verdict = *verdict;
            }
            promise(&report)
        };
        let all = 3 * Tally::of(sample::passing().checks(), |c| c.level == Level::Must).total();
        let name = "meshproof reference 0.1.0";
        assert_eq!(
            said(&[]),
            format!("{name} does what the documents promise: {all} of {all} requirements met.")
        );
        assert_eq!(
            said(&[Verdict::Skipped]),
            format!("{name} does what it was asked for: {} of {all} requirements met, 1 not asked.", all - 1)
        );
        assert_eq!(
            said(&[Verdict::Skipped, Verdict::Failed, Verdict::Inconclusive]),
            format!(
                "{name} does not do everything that the documents promise: {} of {all} requirements met, 1 not met, 1 \
                 undecided, 1 not asked.",
                all - 3
            )
        );
        let nothing = said(&vec![Verdict::Skipped; all]);
        assert_eq!(nothing, format!("This run does not allow a conclusion about {name}."));
    }

    fn concluded(change: impl FnOnce(&mut Report)) -> (Verdict, String) {
        let mut report = sample::passing();
        change(&mut report);
        let conclusion = conclusion(&report);
        (conclusion.verdict, conclusion.sentence)
    }

    #[test]
    fn a_run_passes_if_its_must_checks_pass() {
        assert_eq!(concluded(|_| {}), (Verdict::Passed, "2 MUST checks passed".to_owned()));
    }

    #[test]
    fn an_inconclusive_must_fails_the_run() {
        let (verdict, sentence) = concluded(|r| r.scenarios[0].checks[0].verdict = Verdict::Inconclusive);
        assert_eq!(
            (verdict, sentence.as_str()),
            (Verdict::Failed, "1 of 2 MUST checks passed, 1 inconclusive")
        );
    }

    #[test]
    fn a_failed_should_or_may_does_not_fail_the_run() {
        for level in [Level::Should, Level::May] {
            let (verdict, sentence) = concluded(|r| {
                let check = &mut r.scenarios[0].checks[2];
                (check.level, check.verdict) = (level, Verdict::Failed);
            });
            assert_eq!((verdict, sentence.as_str()), (Verdict::Passed, "2 MUST checks passed"));
        }
    }

    #[test]
    fn a_failed_must_outranks_an_error() {
        let (verdict, sentence) = concluded(|r| {
            r.scenarios[0].checks[0].verdict = Verdict::Failed;
            r.scenarios[0].checks[1].verdict = Verdict::Error;
        });
        assert_eq!(verdict, Verdict::Failed);
        assert_eq!(sentence, "0 of 2 MUST checks passed, 1 failed, 1 check could not be judged");
    }

    #[test]
    fn skipped_checks_are_not_counted_as_executed() {
        let (_, sentence) = concluded(|r| r.scenarios[0].checks[0].verdict = Verdict::Skipped);
        assert_eq!(sentence, "1 of 2 MUST checks passed, 1 not asked");
    }

    #[test]
    fn a_run_in_which_every_check_was_skipped_is_an_error() {
        let (verdict, sentence) =
            concluded(|r| r.scenarios[0].checks.iter_mut().for_each(|c| c.verdict = Verdict::Skipped));
        assert_eq!(
            (verdict, sentence.as_str()),
            (Verdict::Error, "no check was judged, 2 not asked, 1 SHOULD or MAY check skipped")
        );
    }

    #[test]
    fn a_run_without_a_must_check_reports_other_failures() {
        let (verdict, sentence) = concluded(|r| {
            let check = &mut r.scenarios[0].checks[2];
            (check.level, check.verdict) = (Level::Should, Verdict::Failed);
            let check = check.clone();
            r.scenarios[0].checks = vec![check];
        });
        assert_eq!(
            (verdict, sentence.as_str()),
            (Verdict::Passed, "no MUST check was executed; 1 SHOULD check failed")
        );
    }

    #[test]
    fn skipped_checks_are_counted_by_reason_and_rare_reasons_are_summed_up() {
        let mut report = sample::passing();
        let mut skipped = report.scenarios[0].checks[0].clone();
        skipped.verdict = Verdict::Skipped;
        let with = |reason: String| meshproof_model::report::CheckResult { reason, ..skipped.clone() };
        let checks = &mut report.scenarios[0].checks;
        assert!(skips(&sample::passing()).is_empty());
        checks.push(with("rare".to_owned()));
        checks.extend([with("frequent".to_owned()), with("frequent".to_owned())]);
        assert_eq!(skips(&report), ["2 checks skipped: frequent", "1 check skipped: rare"]);
        report.scenarios[0].checks.extend((0..50).map(|n| with(format!("other {n}"))));
        let lines = skips(&report);
        assert_eq!(lines.len(), SKIP_REASONS + 1);
        assert_eq!(lines.last().unwrap(), "32 checks skipped for 32 more reasons; see report.json");
    }

    #[test]
    fn the_last_change_before_the_evidence_is_the_one_in_force() {
        let report = sample::report();
        let scenario = &report.scenarios[0];
        let change =
            |check: usize| scenario.last_change(&scenario.checks[check]).map(|(e, _)| e.id.0.as_str());
        assert_eq!(change(0), None, "nothing had been changed when e1 was recorded");
        assert_eq!(change(1), Some("e2"));
        let mut without = scenario.checks[0].clone();
        without.evidence.clear();
        assert_eq!(scenario.last_change(&without).map(|(e, _)| e.id.0.as_str()), Some("e2"));
    }
}
