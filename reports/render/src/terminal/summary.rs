//! The summary at the end of a run.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use textwrap::Options;

use super::escape::{block, cut, line, no_command};
use super::style::OutputStyle;
use super::{screen, suspects};
use crate::conclusion::{conclusion, needs_attention, skips};
use crate::evidence_text;
use crate::text::{Micros, plural, symbol};
use meshproof_model::evidence::{Evidence, EvidenceId};
use meshproof_model::report::{CheckResult, Level, Report, ScenarioResult, Tally, Verdict};

const LABEL: usize = 13;

/// How many lines of a manifest are shown.
const MANIFEST_LINES: usize = 40;

/// How many lines of a row of evidence are shown.
const EVIDENCE_LINES: usize = 6;

/// How many pieces of evidence are shown for one check.
const EVIDENCE_PIECES: usize = 12;

/// How much a summary shows of the failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// The verdict line and the causes: at most 15 lines.
    Quiet,
    /// One screen of at most 50 lines: counts, causes with their checks folded, likely faults, page and command.
    #[default]
    Screen,
    /// The screen, and for each cause the story of one check with its evidence.
    Stories,
    /// Every check that needs attention with its evidence.
    Full,
}

/// The longest summary of [`Detail::Quiet`].
pub(super) const QUIET_LINES: usize = 15;

/// The longest summary of [`Detail::Screen`]. With the lines of the progress, a run prints at most 60.
pub(super) const SCREEN_LINES: usize = 50;

/// Writes the summary, and at its end the overall result in one line. `report_path` is the report that the reader can open.
///
/// # Errors
/// The output cannot be written to.
pub fn summary(
    out: &mut impl Write,
    report: &Report,
    report_path: Option<&str>,
    style: OutputStyle,
    detail: Detail,
) -> io::Result<()> {
    let mut summary = Summary { out, style };
    match detail {
        Detail::Quiet => summary.quiet(report),
        Detail::Screen => summary.screen(report, report_path, SCREEN_LINES),
        Detail::Stories => {
            summary.stories(report)?;
            summary.screen(report, report_path, SCREEN_LINES)
        }
        Detail::Full => summary.write(report, report_path),
    }
}

/// If at least this many other checks have the same verdict and reason, only the first is shown in full.
const MIN_REPEATED: usize = 3;

/// Whether a reason already contains this text, perhaps as the beginning of a sentence.
fn says(reason: &str, text: &str) -> bool {
    let text = text.trim().trim_end_matches('.');
    !text.is_empty() && reason.to_lowercase().contains(&text.to_lowercase())
}

fn is_detailed(check: &CheckResult) -> bool {
    needs_attention(check) && !check.failed_as_expected()
}

/// The checks that are shown in full, grouped by verdict and reason.
fn by_reason(report: &Report) -> HashMap<(Verdict, &str), Vec<(&ScenarioResult, &CheckResult)>> {
    let mut groups: HashMap<_, Vec<_>> = HashMap::new();
    for scenario in &report.scenarios {
        for check in scenario.checks.iter().filter(|c| is_detailed(c)) {
            groups.entry((check.verdict, check.reason.as_str())).or_default().push((scenario, check));
        }
    }
    groups
}

struct Summary<'w, W> {
    out: &'w mut W,
    style: OutputStyle,
}

impl<W: Write> Summary<'_, W> {
    fn write(&mut self, report: &Report, report_path: Option<&str>) -> io::Result<()> {
        self.head(report)?;
        self.table(report)?;
        self.skipped(report)?;
        let groups = by_reason(report);
        for scenario in &report.scenarios {
            // A manifest is shown once, with the first check that it applies to.
            let mut manifest_of = None;
            for check in scenario.checks.iter().filter(|c| is_detailed(c)) {
                let group = groups.get(&(check.verdict, check.reason.as_str()));
                let group = group.map(Vec::as_slice).unwrap_or_default();
                let Some(((_, first), others)) = group.split_first() else { continue };
                let repeated = others.len() >= MIN_REPEATED;
                if repeated && !std::ptr::eq(*first, check) {
                    continue;
                }
                self.check(scenario, check, &mut manifest_of)?;
                if repeated {
                    self.others(others)?;
                }
            }
        }
        self.expectations(report)?;
        self.faults(report)?;
        self.end(report, report_path)
    }

    fn quiet(&mut self, report: &Report) -> io::Result<()> {
        let mut end = Vec::new();
        Summary { out: &mut end, style: self.style }.verdict(report)?;
        let end = String::from_utf8_lossy(&end).into_owned();
        let left = QUIET_LINES.saturating_sub(end.lines().count());
        let mut lines = screen::errors(report, self.style, 4.min(left));
        let left = left - lines.len().min(left);
        lines.extend(screen::expectations(report, self.style, 3.min(left)));
        let left = left - lines.len().min(left);
        lines.extend(screen::causes(report, self.style, left, true));
        lines.iter().try_for_each(|l| writeln!(self.out, "{l}"))?;
        write!(self.out, "{end}")
    }

    fn screen(&mut self, report: &Report, report_path: Option<&str>, most: usize) -> io::Result<()> {
        let (mut head, mut end) = (Vec::new(), Vec::new());
        let mut upper = Summary { out: &mut head, style: self.style };
        upper.head(report)?;
        upper.table(report)?;
        if report.exit_code() == 0 {
            upper.skipped(report)?;
        }
        Summary { out: &mut end, style: self.style }.end(report, report_path)?;
        let (head, end) = (String::from_utf8_lossy(&head), String::from_utf8_lossy(&end));
        let left = |lines: &[String]| {
            most.saturating_sub(head.lines().count() + end.lines().count() + lines.len() + 2)
        };
        let mut lines = screen::errors(report, self.style, 10.min(left(&[])));
        lines.extend(screen::expectations(report, self.style, 4.min(left(&lines))));
        let suspects = suspects::lines(report, self.style, 12);
        let for_causes = left(&lines).saturating_sub(suspects.len());
        lines.extend(screen::causes(report, self.style, for_causes, false));
        if !suspects.is_empty() && !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(suspects);
        write!(self.out, "{head}")?;
        if !lines.is_empty() {
            writeln!(self.out)?;
        }
        lines.iter().try_for_each(|l| writeln!(self.out, "{l}"))?;
        write!(self.out, "{end}")
    }

    /// One check of each cause with its evidence.
    fn stories(&mut self, report: &Report) -> io::Result<()> {
        let all: Vec<_> =
            report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c))).collect();
        for cause in report.causes.iter().filter(|c| c.unexpected().next().is_some()) {
            let Some(example) = cause.example() else { continue };
            let id = |s: &ScenarioResult, c: &CheckResult| format!("{}/{}", s.selector(), s.check_name(c));
            let found = all.iter().find(|(s, c)| needs_attention(c) && id(s, c) == example.check);
            let Some((scenario, check)) = found else { continue };
            let title = format!("{} ({})", line(&cause.title), plural(cause.checks.len(), "check"));
            writeln!(self.out)?;
            self.wrapped("", &title)?;
            self.check(scenario, check, &mut None)?;
        }
        Ok(())
    }

    fn head(&mut self, report: &Report) -> io::Result<()> {
        let implementation = &report.implementation;
        let run = &report.run;
        let title = format!("{} {}", line(&implementation.name), line(&implementation.version));
        writeln!(self.out, "\n{}", self.style.bold(&no_command(&title)))?;
        self.row(2, "target", &[line(&implementation.target)])?;
        let took = Micros(run.duration_us);
        let text = format!("{}, started {}, took {took}", line(&run.id), line(&run.started));
        self.row(2, "run", &[text])?;
        for (name, value) in &implementation.details {
            self.row(2, &line(name), &[line(value)])?;
        }
        if report.run.partial {
            let why = report.run.partial_reason.as_deref().unwrap_or("no reason was recorded");
            let text = format!("partial run: stopped early ({}); missing checks were not judged", line(why));
            writeln!(self.out, "{}", self.style.verdict(Verdict::Error, &text))?;
        }
        Ok(())
    }

    fn table(&mut self, report: &Report) -> io::Result<()> {
        write!(self.out, "\n{:8}", "")?;
        for verdict in Verdict::ALL {
            write!(self.out, "{verdict:>14}")?;
        }
        writeln!(self.out)?;
        for level in Level::ALL {
            let tally = Tally::of(report.checks(), |c| c.level == level);
            if tally.total() == 0 {
                continue;
            }
            write!(self.out, "{level:<8}")?;
            for verdict in Verdict::ALL {
                write!(self.out, "{:>14}", tally.count(verdict))?;
            }
            writeln!(self.out)?;
        }
        Ok(())
    }

    /// Why checks were skipped: one line per reason.
    fn skipped(&mut self, report: &Report) -> io::Result<()> {
        let reasons = skips(report);
        if !reasons.is_empty() {
            writeln!(self.out)?;
        }
        reasons.iter().try_for_each(|reason| self.wrapped("", &line(reason)))
    }

    /// The checks with the same verdict and reason as the check above them.
    fn others(&mut self, others: &[(&ScenarioResult, &CheckResult)]) -> io::Result<()> {
        let ids: Vec<String> =
            others.iter().map(|(s, c)| line(&format!("{}/{}", s.selector(), s.check_name(c)))).collect();
        let text =
            format!("and {} with the same reason: {}", plural(ids.len(), "more check"), ids.join(", "));
        self.wrapped("  ", &text)
    }

    /// Text wrapped to the width, with a hanging indent.
    fn wrapped(&mut self, indent: &str, text: &str) -> io::Result<()> {
        let options = Options::new(self.style.width.max(40))
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .initial_indent(indent)
            .subsequent_indent("    ");
        textwrap::wrap(text, &options).iter().try_for_each(|text| writeln!(self.out, "{}", no_command(text)))
    }

    fn check<'r>(
        &mut self,
        scenario: &'r ScenarioResult,
        check: &CheckResult,
        manifest_of: &mut Option<&'r EvidenceId>,
    ) -> io::Result<()> {
        let verdict = self.style.verdict(check.verdict, &check.verdict.to_string());
        let id = format!("{}/{}", scenario.selector(), scenario.check_name(check));
        writeln!(self.out, "\n{verdict} {} {}", check.level, self.style.bold(&line(&id)))?;
        self.row(2, "requirement", &block(&check.requirement, EVIDENCE_LINES))?;
        let source = format!("{}, \"{}\"", line(&scenario.document.title), line(&check.section));
        self.row(2, "document", &[source])?;
        self.command("", &scenario.document.url)?;
        self.row(2, "reason", &block(&check.reason, EVIDENCE_LINES))?;
        for (label, text) in [("expected", &check.expected), ("seen", &check.seen)] {
            if !says(&check.reason, text) {
                self.row(2, label, &block(text, EVIDENCE_LINES))?;
            }
        }
        self.evidence(scenario, check)?;
        self.last_change(scenario, check, manifest_of)?;
        self.command("repeat", &check.repeat)
    }

    fn evidence(&mut self, scenario: &ScenarioResult, check: &CheckResult) -> io::Result<()> {
        let mut pieces: Vec<&Evidence> =
            check.evidence.iter().take(EVIDENCE_PIECES).filter_map(|id| scenario.evidence(id)).collect();
        // Grouped by side, in the order of the request path.
        pieces.sort_by(|a, b| {
            (a.side.path_position(), &a.side, a.at_us).cmp(&(b.side.path_position(), &b.side, b.at_us))
        });
        let mut side = None;
        for piece in pieces {
            if side != Some(&piece.side) {
                side = Some(&piece.side);
                writeln!(
                    self.out,
                    "  {}",
                    self.style.bold(&line(&evidence_text::side(&piece.side, scenario)))
                )?;
            }
            let headline = line(&evidence_text::headline(&piece.fact));
            self.row(4, &line(&piece.id.0), &[headline])?;
            for (label, value) in evidence_text::brief_rows(&piece.fact) {
                self.row(6, label, &block(&value, EVIDENCE_LINES))?;
            }
        }
        if check.evidence.len() > EVIDENCE_PIECES {
            let more = check.evidence.len() - EVIDENCE_PIECES;
            writeln!(self.out, "    … ({more} more in the report)")?;
        }
        let known: HashSet<&EvidenceId> = scenario.evidence.iter().map(|e| &e.id).collect();
        let mut missing = check.evidence.iter().filter(|id| !known.contains(id));
        let shown: Vec<_> = missing.by_ref().take(EVIDENCE_PIECES).map(|id| line(&id.0)).collect();
        let more = missing.count();
        let missing = shown;
        if !missing.is_empty() {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(self.out, "    (missing from the report: {}{more})", missing.join(", "))?;
        }
        Ok(())
    }

    fn last_change<'r>(
        &mut self,
        scenario: &'r ScenarioResult,
        check: &CheckResult,
        manifest_of: &mut Option<&'r EvidenceId>,
    ) -> io::Result<()> {
        let Some((evidence, change)) = scenario.last_change(check) else {
            return self.row(2, "last change", &["none before this evidence was recorded".to_owned()]);
        };
        let mut lines = vec![line(&evidence_text::headline(&evidence.fact))];
        if let Some(step) = scenario.steps.get(evidence.step) {
            lines.push(format!("in step \"{}\"", line(&step.title)));
        }
        if manifest_of.replace(&evidence.id) == Some(&evidence.id) {
            lines.push("(manifests are shown above)".to_owned());
            return self.row(2, "last change", &lines);
        }
        self.row(2, "last change", &lines)?;
        for text in block(&change.applied.join("---\n"), MANIFEST_LINES) {
            writeln!(self.out, "    {} {text}", self.style.dim("|"))?;
        }
        Ok(())
    }

    /// Expected failures, and checks that passed although a failure was expected.
    fn expectations(&mut self, report: &Report) -> io::Result<()> {
        for (scenario, check) in report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c))) {
            let Some(expected) = &check.expected_failure else { continue };
            let word = match (check.failed_as_expected(), check.fails_run()) {
                (true, _) => format!("{} as expected", check.verdict),
                (false, true) => "passed although a failure was expected".to_owned(),
                (false, false) => continue,
            };
            let verdict = if check.fails_run() { Verdict::Failed } else { Verdict::Skipped };
            let word = self.style.verdict(verdict, &word);
            let id = format!("{}/{}", scenario.selector(), scenario.check_name(check));
            writeln!(self.out, "\n{word} {} {}", check.level, self.style.bold(&line(&id)))?;
            self.row(2, "reason", &[line(&expected.reason)])?;
            if check.fails_run() {
                self.row(2, "fix", &["remove the entry from the expectations file".to_owned()])?;
            }
        }
        Ok(())
    }

    fn faults(&mut self, report: &Report) -> io::Result<()> {
        let faults = report.scenarios.iter().flat_map(|s| s.faults.iter().map(move |f| (s, f)));
        for (scenario, fault) in faults {
            let verdict = self.style.verdict(Verdict::Error, "environment or suite error");
            writeln!(self.out, "\n{verdict} in {}", line(&scenario.selector()))?;
            self.row(2, "message", &block(&fault.message, EVIDENCE_LINES))?;
            if let Some(step) = &fault.step {
                self.row(2, "step", &[line(step)])?;
            }
        }
        Ok(())
    }

    fn end(&mut self, report: &Report, report_path: Option<&str>) -> io::Result<()> {
        writeln!(self.out)?;
        if let Some(path) = report_path {
            self.command("report", path)?;
        }
        self.command("repeat", &report.run.command)?;
        self.verdict(report)
    }

    /// The overall result in one line.
    fn verdict(&mut self, report: &Report) -> io::Result<()> {
        let conclusion = conclusion(report);
        let word = conclusion.verdict.to_string().to_uppercase();
        let plain = format!("{} {word}", symbol(conclusion.verdict));
        let text = format!("{plain}: {}", conclusion.sentence);
        let wrapped = textwrap::wrap(&text, self.style.width.max(40));
        for (number, line) in wrapped.iter().enumerate() {
            match line.strip_prefix(plain.as_str()) {
                Some(rest) if number == 0 => {
                    writeln!(self.out, "{}{rest}", self.style.verdict(conclusion.verdict, &word))?;
                }
                Some(_) | None => writeln!(self.out, "{}", no_command(line))?,
            }
        }
        Ok(())
    }

    /// A path or a command: always on one line, so that it can be copied.
    fn command(&mut self, label: &str, text: &str) -> io::Result<()> {
        let label = self.style.dim(&format!("{label:LABEL$}"));
        writeln!(self.out, "  {label}{}", no_command(&line(text)))
    }

    /// A label and its text, wrapped to the right of it.
    fn row(&mut self, indent: usize, label: &str, lines: &[String]) -> io::Result<()> {
        let label = cut(label, 2 * LABEL);
        let label = no_command(&label);
        let label_width = LABEL.max(label.chars().count() + 1);
        let rest = " ".repeat(indent + label_width);
        let options = Options::new(self.style.width.max(rest.len() + 20))
            .break_words(true)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .initial_indent(&rest)
            .subsequent_indent(&rest);
        let mut wrapped = lines.iter().flat_map(|text| textwrap::wrap(text, &options));
        let first = wrapped.next().unwrap_or_default();
        let first = no_command(first.strip_prefix(rest.as_str()).unwrap_or(first.trim_start()));
        let label = self.style.dim(&format!("{label:label_width$}"));
        writeln!(self.out, "{:indent$}{label}{first}", "")?;
        for text in wrapped {
            let text = no_command(text.strip_prefix(rest.as_str()).unwrap_or(text.trim_start()));
            writeln!(self.out, "{rest}{text}")?;
        }
        Ok(())
    }
}
