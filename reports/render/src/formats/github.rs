//! Workflow commands by which GitHub Actions annotates a run: a failed MUST is an error, a failed SHOULD a warning, the rest
//! a notice. The format and its escapes are those of "Workflow commands for GitHub Actions".

use std::fmt::Write as _;

use crate::words::{conclusion, needs_a_look, plural};
use meshproof_model::report::{CheckResult, Level, Report, ScenarioResult, Verdict};
use meshproof_model::visible::{clipped, line};

/// GitHub shows ten annotations of each sort for a step and drops the rest; the last says how many there were.
const MAX_OF_A_SORT: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Error,
    Warning,
    Notice,
}

impl Sort {
    const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Notice];

    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

fn sort(check: &CheckResult) -> Option<Sort> {
    if check.fails_run() || check.verdict == Verdict::Error {
        return Some(Sort::Error);
    }
    match check.level {
        _ if !needs_a_look(check) => None,
        _ if check.failed_as_expected() => Some(Sort::Notice),
        Level::Must => Some(Sort::Error),
        Level::Should => Some(Sort::Warning),
        Level::May => Some(Sort::Notice),
    }
}

pub(super) fn annotations(report: &Report) -> String {
    let mut out = String::new();
    for sort in Sort::ALL {
        let found: Vec<(String, String)> = report
            .scenarios
            .iter()
            .flat_map(|s| s.checks.iter().map(move |c| (s, c)))
            .filter(|(_, c)| self::sort(c) == Some(sort))
            .map(|(s, c)| message(s, c))
            .collect();
        let shown = if found.len() > MAX_OF_A_SORT { MAX_OF_A_SORT - 1 } else { found.len() };
        for (title, message) in &found[..shown] {
            let _infallible = writeln!(out, "::{} title={}::{}", sort.word(), property(title), data(message));
        }
        if found.len() > shown {
            let rest = plural(found.len() - shown, "check");
            let _infallible =
                writeln!(out, "::{} title=meshproof::and {rest} more; the report has them", sort.word());
        }
    }
    let faults = report.scenarios.iter().flat_map(|s| s.faults.iter().map(move |f| (s, f)));
    for (scenario, fault) in faults.take(MAX_OF_A_SORT) {
        let title = format!("fault in {}", scenario.selector());
        let _infallible = writeln!(out, "::error title={}::{}", property(&title), data(&fault.message));
    }
    if report.exit_code() != 0 && out.is_empty() {
        let _infallible = writeln!(out, "::error title=meshproof::{}", data(&conclusion(report).sentence));
    }
    out
}

fn message(scenario: &ScenarioResult, check: &CheckResult) -> (String, String) {
    let name = format!("{}/{}", scenario.selector(), crate::compare::short(scenario, check));
    let title = format!("{} {}: {name}", check.level, check.verdict);
    let reason = match (&check.expected_failure, check.verdict) {
        (Some(expected), Verdict::Passed) => {
            format!("passed, although a failure was expected ({})", expected.reason)
        }
        (Some(expected), _) => format!("{} (expected: {})", check.reason, expected.reason),
        (None, _) => check.reason.clone(),
    };
    (title, format!("{reason}\nrepeat: {}", check.repeat))
}

/// The message after `::`: a line end is the only thing that would end it.
fn data(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|l| clipped(&line(l), 1_500).into_owned()).collect();
    // The runner's older commands, `##[error]`, are looked for anywhere in a line.
    lines.join("\n").replace("##[", "# #[").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property's value: a comma or colon would end it too.
fn property(text: &str) -> String {
    data(&clipped(&line(text), 200)).replace(':', "%3A").replace(',', "%2C")
}
