//! The likely faults on a terminal.

use textwrap::Options;

use super::escape::{line, no_command};
use super::style::OutputStyle;
use crate::text::plural;
use meshproof_model::diagnosis::Diagnosis;
use meshproof_model::report::Report;

/// The likely faults, in at most `most` lines; nothing if there is no diagnosis.
pub(super) fn lines(report: &Report, style: OutputStyle, most: usize) -> Vec<String> {
    let Some(diagnosis) = &report.diagnosis else { return Vec::new() };
    let options = |first: &'static str| {
        Options::new(style.width.max(40))
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .initial_indent(first)
            .subsequent_indent("     ")
    };
    let mut lines = Vec::new();
    let mut wrap = |first: &'static str, text: &str| {
        lines.extend(textwrap::wrap(text, options(first)).into_iter().map(|l| no_command(&l).into_owned()));
    };
    let Diagnosis { suspects, .. } = diagnosis;
    if suspects.is_empty() {
        wrap("", "Likely fault: no known fault fits what failed.");
        return lines;
    }
    for (number, suspect) in suspects.iter().enumerate() {
        let what =
            format!("{} (fits {} %): {}", line(&suspect.fault), suspect.score, line(&suspect.description));
        if number == 0 {
            wrap("", &format!("Likely fault: {what}"));
            if !suspect.expected_too.is_empty() {
                let count = suspect.expected_too.len();
                let notice = if count == 1 { "notices" } else { "notice" };
                let checks = plural(count, "check");
                let first = suspect.expected_too.first().map(|id| line(id)).unwrap_or_default();
                let example = if count == 1 { first } else { format!("for example {first}") };
                wrap("     ", &format!("against it: {checks} that {notice} this fault passed, {example}"));
            }
            let causes = suspect.misconfigurations.iter().take(4);
            for (platform, text) in causes {
                wrap("     ", &format!("{}: {}", line(platform), line(text)));
            }
        } else {
            wrap("or   ", &what);
        }
    }
    lines.truncate(most);
    lines
}
