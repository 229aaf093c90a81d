//! Configurations with one fault each, or none, and the findings that are right.
//!
//! The first set is not part of the repository. It is looked for in `MESHPROOF_VERIFY_CASES`, else in `../shared/cases/verify` beside
//! it. Without it the test is ignored, unless `MESHPROOF_REQUIRE_CASES` is set.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod fixtures;
mod in_force;
mod input;
mod users;
mod variants;

use std::path::{Path, PathBuf};

use meshproof_verify::{Source, Verified, verify};

/// The findings of each case: code, and the line of `case.yaml`.
const EXPECTED: &[(&str, &[(&str, usize)])] = &[
    ("01-sni-after-authority-rewrite", &[]),
    ("02-double-tls", &[("MP0002", 17)]),
    ("04-credential-on-sidecar", &[("MP0001", 19)]),
    ("04b-credential-on-sidecar-selected", &[]),
    ("05-port-level-of-the-wrong-port", &[("MP0003", 19)]),
    ("08-two-tcp-hosts-one-port", &[("MP0017", 17)]),
    ("09-grpc-without-target-port", &[("MP0004", 8)]),
    ("09b-grpc-with-target-port", &[]),
    ("10-resolution-none-target-port", &[]),
    ("13b-one-host-unlike-labels", &[("MP0013", 12)]),
    ("17-idle-timeout-and-retries", &[]),
    ("20-gateway-api-backend-tls", &[]),
    ("22-hop-sni-of-another-host", &[("MP0010", 30)]),
    ("23-outlier-detection", &[]),
    ("27-delegate", &[]),
    ("30-service-entry-sans", &[]),
    ("32-secret-in-application-namespace", &[("MP0007", 50)]),
    ("36-no-service-on-port-80", &[("MP0016", 23)]),
    ("37-route-order-over-two-virtual-services", &[]),
    ("39-other-kinds-beside", &[]),
    ("40-kubectl-list", &[]),
    ("42-external-name-service", &[]),
    ("46-udp-port-beside", &[]),
    ("50-ca-cert-credential-name", &[]),
    ("51-yaml-anchors-and-server-fields", &[]),
];

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/verify");
    let folder = std::env::var_os("MESHPROOF_VERIFY_CASES").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn verified(files: &[(&str, &str)]) -> Verified {
    let sources: Vec<Source> = files
        .iter()
        .map(|(name, text)| Source { name: (*name).to_owned(), text: (*text).to_owned(), found: false })
        .collect();
    verify(&sources).unwrap_or_else(|e| panic!("{e}"))
}

/// Code and line of each finding.
fn found(verified: &Verified) -> Vec<(String, usize)> {
    verified.verification.findings.iter().map(|f| (f.code.clone(), f.at.line)).collect()
}

/// Everything that was said, for a failure.
fn said(verified: &Verified) -> String {
    let all = verified.verification.findings.iter().chain(&verified.verification.notes);
    all.map(|f| format!("  {} {} {} {}\n     {}\n", f.code, f.at, f.severity, f.message, f.effect)).collect()
}

#[test]
fn every_case_gets_its_findings_and_no_other() {
    let Some(folder) = folder() else {
        assert!(
            std::env::var_os("MESHPROOF_REQUIRE_CASES").is_none(),
            "MESHPROOF_REQUIRE_CASES is set, and there are no cases in MESHPROOF_VERIFY_CASES or ../shared/cases/verify"
        );
        eprintln!("ignored: no cases in MESHPROOF_VERIFY_CASES or ../shared/cases/verify");
        return;
    };
    let mut wrong = String::new();
    for (case, expected) in EXPECTED {
        let text = std::fs::read_to_string(folder.join(case).join("case.yaml")).unwrap();
        let verified = verified(&[("case.yaml", &text)]);
        let expected: Vec<(String, usize)> =
            expected.iter().map(|(code, line)| ((*code).to_owned(), *line)).collect();
        if found(&verified) != expected {
            wrong.push_str(&format!("{case}: expected {expected:?}\n{}", said(&verified)));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let there = std::fs::read_dir(&folder).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(there, EXPECTED.len(), "a case of {} is not listed here", folder.display());
}
