//! Short texts that every renderer uses: symbols, durations, plurals.

use std::fmt;

use meshproof_model::cause::CausedCheck;
use meshproof_model::report::Verdict;

/// The symbol shown next to the verdict, so that the meaning does not depend on colour alone.
#[must_use]
pub const fn symbol(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "✓",
        Verdict::Failed => "✗",
        Verdict::Inconclusive => "?",
        Verdict::Error => "!",
        Verdict::Skipped => "-",
    }
}

/// A duration in microseconds, rounded for readers: `0.9 ms`, `12 ms`, `1.4 s`, `2 min 5 s`.
#[derive(Clone, Copy, Debug)]
pub struct Micros(pub u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0;
        match us {
            0..50 => f.write_str("0 ms"),
            50..950 => write!(f, "0.{} ms", (us + 50) / 100),
            950..1_000 => f.write_str("1 ms"),
            1_000..1_000_000 => write!(f, "{} ms", us / 1_000),
            1_000_000..60_000_000 => write!(f, "{}.{} s", us / 1_000_000, us / 100_000 % 10),
            _ => write!(f, "{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
        }
    }
}

/// From one time to a later one: `213–250 ms`, `950 ms–1.2 s`; one time if both look the same.
#[derive(Clone, Copy, Debug)]
pub struct TimeRange(pub u64, pub u64);

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (Micros(self.0).to_string(), Micros(self.1).to_string());
        if from == to || self.0 > self.1 {
            return f.write_str(&to);
        }
        match (from.split_once(' '), to.split_once(' ')) {
            (Some((number, unit)), Some((_, same))) if unit == same => write!(f, "{number}–{to}"),
            _ => write!(f, "{from}–{to}"),
        }
    }
}

/// `1 check`, `2 checks`.
#[must_use]
pub fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// How many of the MUST checks passed, and how many were not asked: `45 of 129 MUST checks passed, 84 not asked`.
#[must_use]
pub fn asked(passed: usize, asked: usize, not_asked: usize) -> String {
    let all = plural(asked + not_asked, "MUST check");
    match not_asked {
        0 => format!("{passed} of {all} passed"),
        n => format!("{passed} of {all} passed, {n} not asked"),
    }
}

/// `12 checks, 3 of them inconclusive`.
pub(crate) fn counted(checks: &[&CausedCheck]) -> String {
    let failed = checks.iter().filter(|c| c.verdict == Verdict::Failed).count();
    match (failed, checks.len() - failed) {
        (failed, 0) => plural(failed, "check"),
        (0, inconclusive) => format!("{} inconclusive", plural(inconclusive, "check")),
        (_, inconclusive) => {
            format!("{}, {inconclusive} of them inconclusive", plural(checks.len(), "check"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let shown = |us| Micros(us).to_string();
        let bounds = [0, 870, 999, 1_000, 999_999, 1_000_000, 1_450_000, 59_999_999, 60_000_000, 125_000_000];
        let wanted = [
            "0 ms",
            "0.9 ms",
            "1 ms",
            "1 ms",
            "999 ms",
            "1.0 s",
            "1.4 s",
            "59.9 s",
            "1 min 0 s",
            "2 min 5 s",
        ];
        assert_eq!(bounds.map(shown), wanted);
    }

    #[test]
    fn a_span_repeats_the_unit_only_if_the_units_differ() {
        let spans = [(213_000, 250_400), (950_000, 1_200_000), (5, 5), (1_000, 1_001), (9, 4)];
        let shown = spans.map(|(from, to)| TimeRange(from, to).to_string());
        assert_eq!(shown, ["213–250 ms", "950 ms–1.2 s", "0 ms", "1 ms", "0 ms"]);
    }
}
