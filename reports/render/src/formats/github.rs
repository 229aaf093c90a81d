//! Workflow commands that create annotations in GitHub Actions: a failed MUST is an error, a failed SHOULD a
//! warning, a failed MAY or an expected failure a notice. Format and escapes follow "Workflow commands for
//! GitHub Actions".

use std::fmt::Write as _;

use crate::conclusion::{conclusion, needs_attention};
use crate::text::plural;
use meshproof_model::report::{CheckResult, Level, Report, ScenarioResult, Verdict};
use meshproof_model::visible::{clipped, line};

/// GitHub shows ten annotations of each kind per step and drops the rest. The last one states how many are
/// left out.
const MAX_PER_KIND: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Annotation {
    Error,
    Warning,
    Notice,
}

impl Annotation {
    const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Notice];

    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

fn annotation(check: &CheckResult) -> Option<Annotation> {
    if check.fails_run() || check.verdict == Verdict::Error {
        return Some(Annotation::Error);
    }
    match check.level {
        _ if !needs_attention(check) => None,
        _ if check.failed_as_expected() => Some(Annotation::Notice),
        Level::Must => Some(Annotation::Error),
        Level::Should => Some(Annotation::Warning),
        Level::May => Some(Annotation::Notice),
    }
}

pub(crate) fn annotations(report: &Report) -> String {
    let mut out = String::new();
    for kind in Annotation::ALL {
        let found: Vec<(String, String)> = report
            .scenarios
            .iter()
            .flat_map(|s| s.checks.iter().map(move |c| (s, c)))
            .filter(|(_, c)| annotation(c) == Some(kind))
            .map(|(s, c)| message(s, c))
            .collect();
        let shown = if found.len() > MAX_PER_KIND { MAX_PER_KIND - 1 } else { found.len() };
        for (title, message) in &found[..shown] {
            let _infallible = writeln!(out, "::{} title={}::{}", kind.word(), property(title), data(message));
        }
        if found.len() > shown {
            let rest = plural(found.len() - shown, "more check");
            let _infallible = writeln!(out, "::{} title=meshproof::{rest}; see the report", kind.word());
        }
    }
    let faults = report.scenarios.iter().flat_map(|s| s.faults.iter().map(move |f| (s, f)));
    for (scenario, fault) in faults.take(MAX_PER_KIND) {
        let title = format!("environment or suite error in {}", scenario.selector());
        let _infallible = writeln!(out, "::error title={}::{}", property(&title), data(&fault.message));
    }
    if report.exit_code() != 0 && out.is_empty() {
        let _infallible = writeln!(out, "::error title=meshproof::{}", data(&conclusion(report).sentence));
    }
    out
}

fn message(scenario: &ScenarioResult, check: &CheckResult) -> (String, String) {
    let name = format!("{}/{}", scenario.selector(), scenario.check_name(check));
    let title = format!("{} {}: {name}", check.level, check.verdict);
    let reason = match (&check.expected_failure, check.verdict) {
        (Some(expected), Verdict::Passed) => {
            format!("passed although a failure was expected ({})", expected.reason)
        }
        (Some(expected), _) => format!("{} (expected failure: {})", check.reason, expected.reason),
        (None, _) => check.reason.clone(),
    };
    (title, format!("{reason}\nrepeat: {}", check.repeat))
}

/// The message after `::`, which only a line end would terminate.
fn data(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|l| clipped(&line(l), 1_500).into_owned()).collect();
    // The runner accepts its older commands, such as `##[error]`, anywhere in a line.
    lines.join("\n").replace("##[", "# #[").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a property, which a comma or a colon would terminate too.
fn property(text: &str) -> String {
    data(&clipped(&line(text), 200)).replace(':', "%3A").replace(',', "%2C")
}
