//! What a report's checks come to.

use meshproof_model::{Report, Verdict};

/// The checks that did not pass, with the reason.
pub(crate) fn not_passed(report: &Report) -> Vec<(&str, Verdict, &str)> {
    let wrong = report.checks().filter(|check| check.verdict != Verdict::Passed);
    wrong.map(|check| (check.id.as_str(), check.verdict, check.reason.as_str())).collect()
}
