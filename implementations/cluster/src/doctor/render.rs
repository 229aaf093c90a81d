//! Findings for people.

use std::fmt::Write;

use super::{DoctorFinding, Severity};

/// One line per finding, with the fix below it; last, whether a run is possible.
#[must_use]
pub fn as_text(findings: &[DoctorFinding]) -> String {
    ending(findings, "run on this cluster")
}

/// The same about reading a namespace for `verify`.
#[must_use]
pub fn as_text_of_reading(findings: &[DoctorFinding], namespace: &str) -> String {
    ending(findings, &format!("read what is in force in namespace {}", plain(namespace)))
}

fn ending(findings: &[DoctorFinding], what: &str) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.severity {
            Severity::Good => "ok",
            Severity::Note => "note",
            Severity::Problem => "PROBLEM",
        };
        let _infallible = writeln!(text, "{mark:<8} {:<14} {}", finding.about, plain(&finding.says));
        if !finding.fix.is_empty() {
            let _infallible = writeln!(text, "{:24}fix: {}", "", plain(&finding.fix));
        }
    }
    let problems = findings.iter().filter(|f| f.severity == Severity::Problem).count();
    let _infallible = match problems {
        0 => writeln!(text, "\nmeshproof can {what}"),
        1 => writeln!(text, "\nmeshproof cannot {what}: 1 problem"),
        n => writeln!(text, "\nmeshproof cannot {what}: {n} problems"),
    };
    text
}

/// Why a run refuses to start, in the same words; none where it is possible.
#[must_use]
pub fn refusal(findings: &[DoctorFinding]) -> Option<String> {
    let problems: Vec<String> = findings
        .iter()
        .filter(|f| f.severity == Severity::Problem)
        .map(|f| format!("{}: {}\n  fix: {}", f.about, plain(&f.says), plain(&f.fix)))
        .collect();
    (!problems.is_empty()).then(|| format!("meshproof cannot run on this cluster\n{}", problems.join("\n")))
}

/// The text has the cluster's words in it, which must not act on the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
