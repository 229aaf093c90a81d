//! Findings as checks of the proof's report, so that its page, its JSON and its JUnit come to the conclusion of the exit code.

use meshproof_model::report::{CheckResult, Document, Level, Report, ScenarioResult, Timing, Verdict};
use meshproof_model::verification::{Finding, Severity, Verification};

/// The scenario that holds them.
const FINDINGS: &str = "findings";

/// The report with one failed check per finding, before the checks of the proof: a MUST where the finding fails the command.
pub(super) fn with_findings(report: &Report, verification: &Verification, least: Severity) -> Report {
    let mut report = report.clone();
    let failing = verification.notes.iter().filter(|f| f.severity >= least);
    let all = verification.findings.iter().chain(failing);
    let command = report.run.command.clone();
    let checks: Vec<CheckResult> =
        all.enumerate().map(|(i, finding)| check(i + 1, finding, least, &command)).collect();
    if checks.is_empty() {
        return report;
    }
    let findings = ScenarioResult {
        id: FINDINGS.to_owned(),
        configuration: String::new(),
        title: "What is wrong with the configuration".to_owned(),
        proves: None,
        source: None,
        document: Document { title: "the user's own configuration".to_owned(), url: String::new() },
        checks,
        external_services: Vec::new(),
        steps: Vec::new(),
        evidence: Vec::new(),
        timing: Timing::default(),
        faults: Vec::new(),
    };
    report.scenarios.insert(0, findings);
    report.derive_causes();
    report
}

fn check(number: usize, finding: &Finding, least: Severity, command: &str) -> CheckResult {
    let title = meshproof_verify::code(&finding.code).map_or(finding.name.as_str(), |c| c.title);
    let proof = finding.proof.as_ref().map(|p| format!(" Proof: {p}.")).unwrap_or_default();
    let fix = finding.fix.as_ref().map(|f| format!("{}.", f.summary));
    CheckResult {
        id: format!("{FINDINGS}/{number}-{}", finding.code.to_ascii_lowercase()),
        level: if finding.severity >= least { Level::Must } else { Level::Should },
        control: false,
        verdict: Verdict::Failed,
        reason: format!("{}: {}. {}.{proof}", finding.at, finding.message, finding.effect),
        requirement: format!("The configuration does not have the fault {} ({title})", finding.code),
        section: finding.resource.clone(),
        expected: fix
            .map_or_else(|| "no such finding".to_owned(), |fix| format!("no such finding. Fix: {fix}")),
        seen: finding.effect.clone(),
        evidence: Vec::new(),
        control_evidence: Vec::new(),
        differences: Vec::new(),
        deviations: Vec::new(),
        expected_failure: None,
        feature: None,
        repeat: format!("{command} --static"),
    }
}
