//! `meshproof serve`: with the suite's own servers and clients in other processes, everything that needs them is judged as with
//! those in the process of the suite.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "support/judged.rs"]
mod judged;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options};
use meshproof_harness::select::select;
use meshproof_harness::traffic::{Budget, Traffic};
use meshproof_local::LocalTarget;
use meshproof_local::external::ServeProgram;
use meshproof_model::{Report, Verdict};
use meshproof_reference::Reference;
use meshproof_scenarios::ALL;

use judged::not_passed;

/// How many exchanges of generated traffic each configuration has: enough for every kind.
const EXCHANGES: u64 = 300;

fn meshproof() -> std::path::PathBuf {
    assert_cmd::cargo::cargo_bin("meshproof")
}

/// The checks of the scenarios that need the embedded server, and of one that uses it by choice; and as few configurations as have
/// them all.
fn needy() -> (BTreeSet<String>, Vec<String>) {
    let (mut checks, mut selectors) = (BTreeSet::new(), Vec::new());
    for scenario in ALL.iter().filter(|s| s.catalogue.needs_embedded || s.id() == "sidecar-origination") {
        for configuration in &scenario.catalogue.configurations {
            let in_it = scenario.catalogue.checks.iter().filter(|check| check.is_in(&configuration.id));
            let before = checks.len();
            checks.extend(in_it.map(|check| format!("{}/{}", scenario.id(), check.id)));
            if checks.len() > before {
                selectors.push(format!("{}:{}", scenario.id(), configuration.id));
            }
        }
    }
    (checks, selectors)
}

fn served() -> Option<ServeProgram> {
    Some(ServeProgram(vec![meshproof().into_os_string(), "serve".into()]))
}

async fn run(reference: Reference, selectors: &[&str], program: Option<ServeProgram>) -> Report {
    let target = LocalTarget::new(Arc::new(reference), None).served_by(program);
    let selectors: Vec<String> = selectors.iter().map(|s| (*s).to_owned()).collect();
    let selection = select(&ALL, &selectors).unwrap();
    let traffic = Traffic { budget: Budget::Exchanges(EXCHANGES), ..Traffic::default() };
    let options = Options::new(Arc::new(target), selection);
    runner::run(Options { external: ExternalChoice::Embedded, traffic, ..options }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_embedded_server_is_judged_with_servers_and_clients_in_other_processes() {
    let (checks, selectors) = needy();
    let selectors: Vec<&str> = selectors.iter().map(String::as_str).collect();
    let report = run(Reference::new(), &selectors, served()).await;
    let wrong = not_passed(&report);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let asked: BTreeSet<String> = report.checks().map(|check| check.id.clone()).collect();
    assert_eq!(asked, checks);
    let kinds: BTreeSet<&str> =
        report.scenarios.iter().flat_map(|s| &s.external_services).map(|s| s.kind.as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["embedded"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_is_an_error_and_not_a_failure_of_the_mesh() {
    let report =
        run(Reference::new(), &["sidecar-origination"], Some(ServeProgram(vec!["true".into()]))).await;
    let verdicts: Vec<Verdict> = report.checks().map(|check| check.verdict).collect();
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Error), "{verdicts:?}");
    let message = &report.scenarios[0].faults[0].message;
    assert!(message.contains("meshproof serve (client "), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_is_noticed_through_the_stream_too() {
    for (saboteur, check) in [
        ("no-sni", "sidecar-origination/sni-is-host"),
        ("drop-trailers", "traffic-fidelity/response-trailers"),
        ("collect-answers", "generated-traffic/events-streamed"),
    ] {
        let reference = Reference::varied(saboteur.parse().unwrap());
        let report = run(reference, &[check], served()).await;
        let failed: Vec<_> =
            report.checks().filter(|c| c.verdict == Verdict::Failed).map(|c| &c.id).collect();
        assert!(failed.contains(&&check.to_owned()), "{saboteur}: {failed:?}");
    }
}

/// What the program answers to these lines, and how it exits.
fn said(lines: &str) -> (String, String, Option<i32>) {
    let mut child = Command::new(meshproof())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn it_ends_with_its_input() {
    let hello =
        r#"{"id":1,"ask":{"type":"hello","protocol":1,"client":null,"timeouts_ms":{"request":1000}}}"#;
    let (out, err, code) = said(&format!("{hello}\n"));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(r#""answer":{"id":1,"answer":{"type":"hello","protocol":1"#), "{out}");
}

#[test]
fn other_input_is_refused_and_not_repeated() {
    let (out, err, code) = said("-----BEGIN PRIVATE KEY----- abc\n");
    assert_eq!((out.as_str(), code), ("", Some(3)));
    assert!(err.contains("not the protocol between the suite and its servers"), "{err}");
    assert!(!err.contains("PRIVATE KEY"), "{err}");
}
