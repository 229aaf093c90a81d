//! For a terminal: findings with their fix, then flows.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use meshproof_model::verification::{Finding, Flow, Place, Severity, Verification};
use meshproof_model::visible;
use textwrap::Options;

use super::cells::sentence;
use super::{assumed_because, page_of, place_and_resource, read_from};
use crate::terminal::OutputStyle;
use crate::text::plural;

/// How many flows are shown. JSON has all.
const MAX_FLOWS: usize = 60;
/// How many notes are shown.
const MAX_NOTES: usize = 20;

/// Everything, for people.
#[must_use]
pub fn text(verification: &Verification, style: OutputStyle) -> String {
    let mut out = Out { text: String::new(), style };
    for finding in &verification.findings {
        out.finding(finding);
    }
    out.flows(&verification.flows);
    out.notes(&verification.notes);
    out.list(&format!("{}:", assumed_because(verification)), &verification.assumed);
    out.list("Not examined, because it does not change TLS:", &verification.passed_over);
    out.end(verification);
    out.text
}

/// One request with every decision on its way: who decided, what, and the line that made it.
#[must_use]
pub fn answer(steps: &[(String, String, Option<Place>)], flow: &Flow, style: OutputStyle) -> String {
    let mut out = Out { text: String::new(), style };
    let title = format!("{} from {}", clean(&flow.shown()), clean(&flow.from));
    out.line(&out.style.bold(&title));
    let mut at_proxy = "";
    for (proxy, what, at) in steps {
        if proxy != at_proxy {
            out.wrapped("  ", "  ", &format!("at {}", clean(proxy)));
            at_proxy = proxy;
        }
        let place = at.as_ref().map(|p| format!(" ({p})")).unwrap_or_default();
        out.wrapped("    - ", "      ", &format!("{}{}", clean(what), clean(&place)));
    }
    out.wrapped("  ⇒ ", "    ", &sentence(flow));
    out.text
}

struct Out {
    text: String,
    style: OutputStyle,
}

fn clean(text: &str) -> String {
    // GitHub's runner treats `##[...]` as a command anywhere in a line.
    visible::clipped_inside(&visible::line(text), 600).replace("##[", "# #[")
}

impl Out {
    fn line(&mut self, text: &str) {
        let _infallible = writeln!(self.text, "{text}");
    }

    fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        let options = Options::new(self.style.width)
            .initial_indent(first)
            .subsequent_indent(rest)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .break_words(false);
        for line in textwrap::wrap(&clean(text), options) {
            self.line(&line);
        }
    }

    fn severity(&self, severity: Severity, text: &str) -> String {
        let colour = match severity {
            Severity::Error => AnsiColor::Red,
            Severity::Warning => AnsiColor::Yellow,
            Severity::Note => AnsiColor::Cyan,
        };
        self.style.paint(Style::new().bold().fg_color(Some(colour.into())), text)
    }

    fn finding(&mut self, finding: &Finding) {
        let head = format!("{} {} {}", finding.severity, finding.code, clean(&finding.name));
        let head = self.severity(finding.severity, &head);
        let (at, resource) = place_and_resource(finding);
        let place = format!("  {}  {}", clean(&at), clean(resource));
        self.line(&head);
        self.line(place.trim_end());
        self.wrapped("  ", "  ", &sentence_case(&finding.message));
        self.wrapped("  → ", "    ", &finding.effect);
        if let Some(proof) = &finding.proof {
            self.wrapped("  Proof: ", "         ", proof);
        }
        if let Some(fix) = &finding.fix {
            let sure = if fix.confirmed { " (planned again with it, the fault is gone)" } else { "" };
            self.wrapped("  Fix: ", "       ", &format!("{}{sure}", fix.summary));
            for line in visible::block(&fix.patch).lines() {
                let line = format!("      {}", clean(line));
                self.line(&self.style.dim(&line));
            }
        }
        self.line(&format!("  More: {}", page_of(&finding.code)));
        self.line("");
    }

    fn flows(&mut self, flows: &[Flow]) {
        if flows.is_empty() {
            return;
        }
        self.line(&self.style.bold("Where requests go"));
        for flow in flows.iter().take(MAX_FLOWS) {
            let head = format!("{}  {}", clean(&flow.from), clean(&flow.shown()));
            self.line(&format!("  {head}"));
            self.wrapped("      ", "        ", &sentence(flow));
        }
        if flows.len() > MAX_FLOWS {
            let rest = plural(flows.len() - MAX_FLOWS, "more flow");
            self.line(&format!("  … ({rest} in the JSON format)"));
        }
        self.line("");
    }

    fn notes(&mut self, notes: &[Finding]) {
        if notes.is_empty() {
            return;
        }
        self.line(&self.style.bold("Notes"));
        for note in notes.iter().take(MAX_NOTES) {
            let text = format!("{} {}: {}", note.code, note.at, note.message);
            self.wrapped("  ", "    ", &text);
        }
        if notes.len() > MAX_NOTES {
            let rest = plural(notes.len() - MAX_NOTES, "more note");
            self.line(&format!("  … ({rest} in the JSON format)"));
        }
        self.line("");
    }

    fn list(&mut self, title: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.line(&self.style.bold(title));
        for item in items.iter().take(MAX_NOTES) {
            self.wrapped("  - ", "    ", item);
        }
        if items.len() > MAX_NOTES {
            self.line(&format!("  … ({} more)", items.len() - MAX_NOTES));
        }
        self.line("");
    }

    fn end(&mut self, verification: &Verification) {
        let count =
            |severity: Severity| verification.findings.iter().filter(|f| f.severity == severity).count();
        let text = format!(
            "{}, {}, {}; {}",
            plural(count(Severity::Error), "error"),
            plural(count(Severity::Warning), "warning"),
            plural(verification.notes.len(), "note"),
            clean(&read_from(verification)),
        );
        let severity = verification.findings.iter().map(|f| f.severity).max();
        let text = severity.map_or_else(|| self.style.bold(&text), |s| self.severity(s, &text));
        self.line(&text);
    }
}

/// A sentence begins with a capital letter, unless it begins with a name.
fn sentence_case(text: &str) -> String {
    let mut letters = text.chars();
    let first_word = text.split_whitespace().next().unwrap_or_default();
    let name = first_word.contains(|c: char| !c.is_ascii_lowercase());
    match letters.next() {
        Some(first) if !name => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        Some(_) | None => format!("{text}."),
    }
}
