//! Every line of the documents is covered by checks that exist, or says why none can.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod pages;

use std::collections::BTreeSet;

use meshproof_scenarios::ALL;
use meshproof_scenarios::documents::{DOCUMENTS, Part, covered_by, markdown};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/coverage.md");

fn every_part() -> impl Iterator<Item = (String, &'static Part)> {
    DOCUMENTS.iter().flat_map(|document| {
        document.parts.iter().map(move |part| (format!("{}, {}", document.title, part.place()), part))
    })
}

#[test]
fn every_line_of_a_document_belongs_to_a_part() {
    for document in DOCUMENTS.iter() {
        let title = &document.title;
        let (mut covered, mut begun) = (0, 0);
        for part in document.parts.iter().filter(|part| part.beyond.is_none()) {
            let (first, last) = part.range().unwrap_or_else(|| panic!("{title}: {part:?} has no range"));
            assert!(first >= begun, "{title}: line {first} comes after line {begun}");
            assert!(first <= covered + 1, "{title}: lines {} to {} are in no part", covered + 1, first - 1);
            (begun, covered) = (first, covered.max(last));
        }
        assert_eq!(covered, document.lines, "{title}: the last line that is in a part");
    }
}

#[test]
fn every_statement_has_checks_or_a_reason_and_only_lines_without_a_statement_have_neither() {
    for (place, part) in every_part() {
        let Part { says, checks, reason, nothing, .. } = part;
        match (says, nothing) {
            (Some(text), None) => {
                assert!(text.ends_with('.'), "{place}: a statement is a sentence: {text}");
                assert!(checks.is_empty() == reason.is_some(), "{place}: either checks or a reason: {text}");
            }
            (None, Some(_)) => assert!(checks.is_empty() && reason.is_none(), "{place}"),
            (Some(_), Some(_)) | (None, None) => panic!("{place}: either `says` or `nothing`"),
        }
        let reason = reason.as_deref().unwrap_or("Given.").trim_end();
        assert!(reason.ends_with('.') && reason.len() > 5, "{place}: a reason is a sentence: {reason}");
    }
}

#[test]
fn every_check_that_covers_a_statement_is_in_the_catalogue() {
    let of = |s: &'static meshproof_harness::scenario::Scenario| {
        s.catalogue.checks.iter().map(|check| s.catalogue.check_id(check))
    };
    let known: BTreeSet<String> = ALL.iter().flat_map(of).collect();
    for (place, part) in every_part() {
        for check in &part.checks {
            assert!(known.contains(check), "{place}: there is no check {check}");
        }
        let once: BTreeSet<&String> = part.checks.iter().collect();
        assert_eq!(once.len(), part.checks.len(), "{place}: a check is named twice");
    }
}

/// The scenarios that tell the documents' own tasks; the others ask what users need beyond them.
#[test]
fn every_check_of_a_documents_own_task_covers_one_of_its_statements() {
    let own = [
        "sidecar-origination",
        "egress-gateway-simple",
        "egress-gateway-mutual",
        "path-based-routing",
        "external-web-service",
    ];
    for scenario in ALL.iter().filter(|s| own.contains(&s.id())) {
        for check in scenario.catalogue.checks.iter().filter(|c| c.id != "every-request-accounted-for") {
            let id = scenario.catalogue.check_id(check);
            assert!(covered_by(&id).next().is_some(), "{id} covers no statement in fixtures/documents");
        }
    }
}

#[test]
fn the_page_is_what_the_data_says() {
    let written = markdown(&DOCUMENTS);
    if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(PAGE, &written).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        kept == written,
        "docs/coverage.md is not what fixtures/documents says; write it with\n  \
         MESHPROOF_BLESS=1 cargo test -p meshproof-scenarios --test documents"
    );
}
