//! The summary of a failed run on one screen: the causes with their checks folded, the likely faults, and the verdict. The number of
//! lines is bounded for any number of failures.

use textwrap::Options;

use super::escape::{line, no_command};
use super::style::OutputStyle;
use crate::conclusion::needs_attention;
use crate::text::{counted, plural, symbol};
use meshproof_model::cause::{Cause, CausedCheck};
use meshproof_model::report::{CheckResult, Report, ScenarioResult, Verdict};

/// How much of each cause is shown, and of how many.
#[derive(Clone, Copy)]
struct Shape {
    /// How many causes are shown with an example.
    detailed: usize,
    /// How many causes are shown at all.
    shown: usize,
    /// How many lines a detail may have.
    lines: usize,
}

/// What separates, in the reason of a check, what was seen from what was expected.
const EXPECTED: &str = " Expected: ";

/// From the most detailed to the briefest. The last one is always short enough.
const SHAPES: [Shape; 8] = [
    Shape { detailed: 4, shown: 8, lines: 4 },
    Shape { detailed: 3, shown: 8, lines: 3 },
    Shape { detailed: 2, shown: 6, lines: 3 },
    Shape { detailed: 2, shown: 4, lines: 2 },
    Shape { detailed: 1, shown: 4, lines: 2 },
    Shape { detailed: 1, shown: 2, lines: 2 },
    Shape { detailed: 0, shown: 2, lines: 1 },
    Shape { detailed: 0, shown: 1, lines: 1 },
];

/// The causes of failures that were not expected, in at most `most` lines.
pub(super) fn causes(report: &Report, style: OutputStyle, most: usize, brief: bool) -> Vec<String> {
    let causes: Vec<&Cause> = report.causes.iter().filter(|c| c.unexpected().next().is_some()).collect();
    let mut lines = Vec::new();
    for shape in SHAPES {
        let shape = if brief { Shape { detailed: 0, lines: 2, ..shape } } else { shape };
        lines = Screen { report, style }.causes(&causes, shape);
        if lines.len() <= most {
            return lines;
        }
    }
    lines.truncate(most);
    lines
}

/// The checks that could not be judged, and the faults of the environment or the suite, in at most `most` lines.
pub(super) fn errors(report: &Report, style: OutputStyle, most: usize) -> Vec<String> {
    let screen = Screen { report, style };
    let mut lines = Vec::new();
    let faults: Vec<(&ScenarioResult, String)> =
        report.scenarios.iter().flat_map(|s| s.faults.iter().map(move |f| (s, line(&f.message)))).collect();
    let errors = report.checks().filter(|c| c.verdict == Verdict::Error).count();
    if errors > 0 {
        let text = format!("{} could not be judged", plural(errors, "check"));
        lines.push(style.verdict(Verdict::Error, &text));
    } else if !faults.is_empty() {
        // Every check was judged, such as where only the teardown failed.
        lines.push(style.verdict(Verdict::Error, &plural(faults.len(), "environment or suite error")));
    }
    let mut told: Vec<&str> = Vec::new();
    for (scenario, message) in &faults {
        // Several scenarios often fail for the same reason.
        if told.contains(&message.as_str()) {
            continue;
        }
        told.push(message);
        let same = faults.iter().filter(|(_, m)| m == message).count();
        let also = if same > 1 { format!(" and {} more", same - 1) } else { String::new() };
        let text = format!("{}{also}: {message}", line(&scenario.selector()));
        // The first one is shown whole: it says how to fix it.
        let limit = if told.len() == 1 { most.saturating_sub(2).max(1) } else { 3 };
        let wrapped = screen.wrapped("   ", "   ", &text, limit);
        if told.len() > 1 && lines.len() + wrapped.len() >= most {
            lines.push("   … (more with -vv)".to_owned());
            break;
        }
        lines.extend(wrapped);
    }
    lines
}

/// Lines about failures that were expected and checks that passed although a failure was expected.
pub(super) fn expectations(report: &Report, style: OutputStyle, most: usize) -> Vec<String> {
    let screen = Screen { report, style };
    let all = report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
    let ids = |wanted: fn(&CheckResult) -> bool| -> Vec<String> {
        all.clone().filter(|(_, c)| wanted(c)).map(|(s, c)| line(&full_id(s, c))).collect()
    };
    let unexpected = ids(|c| c.expected_failure.is_some() && c.fails_run());
    let mut lines = Vec::new();
    if !unexpected.is_empty() {
        let text = format!("{} passed although a failure was expected:", plural(unexpected.len(), "check"));
        lines.push(style.verdict(Verdict::Failed, &text));
        let fix = "Remove the entries from the expectations file.";
        lines.extend(screen.wrapped("   ", "   ", &format!("{}. {fix}", folded(&unexpected, 6)), most));
    }
    lines
}

fn full_id(scenario: &ScenarioResult, check: &CheckResult) -> String {
    format!("{}/{}", scenario.selector(), scenario.check_name(check))
}

/// The first few, and how many there are besides.
fn folded(ids: &[String], most: usize) -> String {
    if ids.len() <= most {
        return ids.join(", ");
    }
    format!("{}, and {} more", ids[..most].join(", "), ids.len() - most)
}

struct Screen<'r> {
    report: &'r Report,
    style: OutputStyle,
}

impl Screen<'_> {
    fn causes(&self, causes: &[&Cause], shape: Shape) -> Vec<String> {
        let mut lines = Vec::new();
        // A line that says that there is one more could be that cause.
        let shown = if causes.len() == shape.shown + 1 { causes.len() } else { shape.shown };
        for (number, cause) in causes.iter().take(shown).enumerate() {
            self.title(&mut lines, number + 1, cause, causes);
            if number < shape.detailed && cause.consequence_of.is_none() {
                self.details(&mut lines, cause, shape.lines);
            }
        }
        let rest = causes.get(shown..).unwrap_or_default();
        if !rest.is_empty() {
            let checks: usize = rest.iter().map(|c| c.unexpected().count()).sum();
            let text =
                format!("   … and {} with {}", plural(rest.len(), "more cause"), plural(checks, "check"));
            lines.push(self.style.dim(&text));
        }
        lines
    }

    fn title(&self, lines: &mut Vec<String>, number: usize, cause: &Cause, all: &[&Cause]) {
        let checks: Vec<_> = cause.unexpected().collect();
        let failed = checks.iter().any(|c| c.verdict == Verdict::Failed);
        let counts = counted(&checks);
        let up = cause.consequence_of.as_ref().and_then(|up| all.iter().position(|c| c.id == *up));
        let probably = up.map(|up| format!(" (probably a consequence of {})", up + 1)).unwrap_or_default();
        let text = format!("{}: {counts}{probably}", line(&cause.title));
        let verdict = if failed { Verdict::Failed } else { Verdict::Inconclusive };
        let mark = format!("{} {number}. ", symbol(verdict));
        let rest = " ".repeat(mark.chars().count());
        for (n, text) in self.wrapped(&mark, &rest, &text, 4).into_iter().enumerate() {
            lines.push(if n == 0 || up.is_none() { self.style.bold(&text) } else { text });
        }
    }

    fn details(&self, lines: &mut Vec<String>, cause: &Cause, most: usize) {
        let ids: Vec<String> = cause.unexpected().map(|c| line(&c.check)).collect();
        // How many more there are is never cut.
        let checks = (1..=3).rev().map(|named| self.labelled("checks", &folded(&ids, named), usize::MAX));
        let checks: Vec<Vec<String>> = checks.collect();
        let fitting = checks.iter().find(|lines| lines.len() <= most.min(3)).or(checks.last());
        lines.extend(fitting.into_iter().flatten().cloned());
        if let Some((_, check)) = cause.example().and_then(|c| self.find(c)) {
            lines.extend(self.example(&line(&check.reason), most + 1));
        }
        if !cause.advice.is_empty() {
            lines.extend(self.labelled("where", &line(&cause.advice), most));
        }
        if let Some((_, check)) = cause.example().and_then(|c| self.find(c)) {
            let label = self.style.dim(&format!("     {:8}", "repeat"));
            // On one line, so that it can be copied.
            lines.push(format!("{label}{}", no_command(&line(&check.repeat))));
        }
    }

    /// What was seen is shortened first, because what was expected comes at the end of the sentence.
    fn example(&self, reason: &str, most: usize) -> Vec<String> {
        let whole = self.labelled("example", reason, usize::MAX);
        let Some((seen, expected)) = reason.rsplit_once(EXPECTED).filter(|_| whole.len() > most) else {
            return self.labelled("example", reason, most);
        };
        let mut words: Vec<&str> = seen.split(' ').collect();
        while words.len() > 6 {
            words.pop();
            let text = format!("{} …{EXPECTED}{expected}", words.join(" "));
            let lines = self.labelled("example", &text, usize::MAX);
            if lines.len() <= most {
                return lines;
            }
        }
        self.labelled("example", reason, most)
    }

    fn find(&self, wanted: &CausedCheck) -> Option<(&ScenarioResult, &CheckResult)> {
        let all = self.report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
        all.filter(|(_, c)| needs_attention(c)).find(|(s, c)| full_id(s, c) == wanted.check)
    }

    fn labelled(&self, label: &str, text: &str, most: usize) -> Vec<String> {
        let rest = " ".repeat(13);
        let mut lines = self.wrapped(&rest, &rest, text, most);
        if let Some(first) = lines.first_mut() {
            let label = self.style.dim(&format!("     {label:8}"));
            *first = format!("{label}{}", first.trim_start());
        }
        lines
    }

    /// Wrapped to the width. What does not fit into `most` lines is cut, with a mark.
    fn wrapped(&self, first: &str, rest: &str, text: &str, most: usize) -> Vec<String> {
        let options = Options::new(self.style.width.max(40))
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .initial_indent(first)
            .subsequent_indent(rest);
        let all = textwrap::wrap(text, &options);
        let cut = all.len() > most;
        let mut lines: Vec<String> =
            all.into_iter().take(most).map(|l| no_command(&l).into_owned()).collect();
        if let Some(last) = lines.last_mut().filter(|_| cut) {
            last.push('…');
        }
        lines
    }
}
