//! Findings for people.

use std::fmt::Write;

use super::{Finding, Weight};

/// A line a finding, the mend below it; last, whether a run can work.
#[must_use]
pub fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.weight {
            Weight::Good => "good",
            Weight::Note => "note",
            Weight::Lacking => "LACKING",
        };
        let _infallible = writeln!(text, "{mark:<8} {:<14} {}", finding.about, plain(&finding.says));
        if !finding.mend.is_empty() {
            let _infallible = writeln!(text, "{:24}mend: {}", "", plain(&finding.mend));
        }
    }
    let lacking = findings.iter().filter(|f| f.weight == Weight::Lacking).count();
    let _infallible = match lacking {
        0 => writeln!(text, "\na run can work on this cluster"),
        1 => writeln!(text, "\na run cannot work on this cluster: 1 thing is lacking"),
        n => writeln!(text, "\na run cannot work on this cluster: {n} things are lacking"),
    };
    text
}

/// Why a run refuses, in the same words; none where it can work.
#[must_use]
pub fn refusal(findings: &[Finding]) -> Option<String> {
    let lacking: Vec<String> = findings
        .iter()
        .filter(|f| f.weight == Weight::Lacking)
        .map(|f| format!("{}: {}\n  mend: {}", f.about, plain(&f.says), plain(&f.mend)))
        .collect();
    (!lacking.is_empty()).then(|| format!("a run cannot work on this cluster\n{}", lacking.join("\n")))
}

/// The cluster's words are in it: nothing of them may reach the terminal as more than text.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
