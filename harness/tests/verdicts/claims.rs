//! How claims are combined, and the sentences of their findings.

use std::sync::LazyLock;

use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::claim::{Claim, Claims, Finding, View};
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::Scenario;
use meshproof_harness::topology::{PlainService, Topology, Workload};
use meshproof_model::{EvidenceId, Verdict};
use serde_json::json;

use crate::fake::{HOST, exchange};
use crate::hunt::{QUIET, Script, Scripted, connected, logged, report_of, seen};

const WELCOME: &str = "welcome.default.svc.cluster.local";

fn fixed(verdict: Verdict, word: &str) -> Claim {
    let (expected, seen) = (format!("{word} expected"), format!("{word} seen"));
    let finding = Finding { verdict, ..Finding::holds(expected, seen, vec![EvidenceId(word.to_owned())]) };
    Claim::new(move |_| finding.clone())
}

fn judged(claim: &Claim) -> Finding {
    claim.judge(View { evidence: &[], marks: &[], changes: &[], unobserved: &[] })
}

#[test]
fn a_conjunction_holds_only_if_every_part_does() {
    let (yes, no, unknown) =
        (fixed(Verdict::Passed, "a"), fixed(Verdict::Failed, "b"), fixed(Verdict::Inconclusive, "c"));
    let verdict = |parts: &[&Claim]| judged(&Claim::all(parts.iter().map(|c| (*c).clone()))).verdict;
    assert_eq!(verdict(&[&yes, &yes]), Verdict::Passed);
    assert_eq!(verdict(&[&yes, &unknown]), Verdict::Inconclusive);
    assert_eq!(verdict(&[&unknown, &no]), Verdict::Failed, "a broken part decides");
    assert_eq!(verdict(&[&no, &yes]), Verdict::Failed);
}

#[test]
fn an_error_in_a_part_is_never_a_pass() {
    let (yes, no, error) =
        (fixed(Verdict::Passed, "a"), fixed(Verdict::Failed, "b"), fixed(Verdict::Error, "c"));
    assert_eq!(judged(&yes.clone().and(error.clone())).verdict, Verdict::Error);
    assert_eq!(judged(&error.clone().and(no)).verdict, Verdict::Failed, "a broken part decides");
    assert_eq!(judged(&yes.provided("the control", error)).verdict, Verdict::Error);
}

#[test]
fn a_conjunction_without_claims_is_inconclusive() {
    assert_eq!(judged(&Claim::all([])).verdict, Verdict::Inconclusive);
}

#[test]
fn the_finding_of_a_conjunction_is_that_of_its_failed_part() {
    let finding = judged(&fixed(Verdict::Passed, "a").and(fixed(Verdict::Failed, "b")));
    assert_eq!(finding.reason(), "B seen. Expected: b expected.");
    assert_eq!(finding.evidence, [EvidenceId("b".into())]);
}

#[test]
fn a_requirement_that_is_a_sentence_ends_the_reason_with_one_full_stop() {
    let finding =
        Finding { verdict: Verdict::Failed, ..Finding::holds("It answers.", "silence", Vec::new()) };
    assert_eq!(finding.reason(), "Silence. Expected: It answers.");
}

#[test]
fn a_conjunction_that_holds_keeps_all_its_evidence_once() {
    let finding = judged(&Claim::all([
        fixed(Verdict::Passed, "a"),
        fixed(Verdict::Passed, "b"),
        fixed(Verdict::Passed, "a"),
    ]));
    assert_eq!(finding.evidence, [EvidenceId("a".into()), EvidenceId("b".into())]);
    assert_eq!(finding.seen, "a seen; b seen");
}

#[test]
fn a_negative_claim_passes_only_if_its_control_does() {
    let with =
        |own, control| judged(&fixed(own, "own").provided("the control", fixed(control, "control"))).verdict;
    assert_eq!(with(Verdict::Passed, Verdict::Passed), Verdict::Passed);
    assert_eq!(with(Verdict::Passed, Verdict::Failed), Verdict::Inconclusive);
    assert_eq!(with(Verdict::Passed, Verdict::Inconclusive), Verdict::Inconclusive);
    assert_eq!(with(Verdict::Failed, Verdict::Passed), Verdict::Failed);
    assert_eq!(with(Verdict::Failed, Verdict::Failed), Verdict::Failed);
}

static WORDED: LazyLock<Scenario> = LazyLock::new(|| {
    let checks = ["inside", "by-host", "outside", "no-sni", "copies", "leak", "line", "opener"];
    let checks = checks.map(|id| Check::must(id, "A", "Worded."));
    let catalogue = Catalogue::new("worded").checks(checks);
    let welcome = PlainService::new("welcome", 8080, "");
    let topology = Topology::default().workload(Workload::sleep()).service(welcome);
    Scenario::new(catalogue, Fixtures::default(), topology, story)
});

async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let reply = mesh.workload("sleep").get("http://service.example/private?of=today").await?;
    let outside = mesh.external(HOST);
    mesh.check("inside", mesh.service(WELCOME).saw(&reply).exactly(1))?;
    mesh.check("by-host", mesh.external(WELCOME).connection_opened_by("sleep", &reply))?;
    mesh.check("outside", outside.saw(&reply).exactly(1))?;
    mesh.check("no-sni", outside.saw(&reply).exactly(2).server_name(HOST))?;
    mesh.check("copies", outside.during(&reply).only_request())?;
    mesh.check("leak", outside.during(&reply).no_plaintext(&["/private"]))?;
    mesh.check("line", mesh.proxy("sleep").logged(&reply).status(200))?;
    mesh.check("opener", outside.connection_opened_by("sleep", &reply))
}

#[tokio::test]
async fn findings_name_the_actor_the_deciding_value_and_what_was_expected() {
    let send: Script = |seat, request| {
        let tls = json!({"tls": {"version": "TLSv1.3"}});
        seen(seat, Some(&request.token), tls.clone());
        seen(seat, Some(&request.token), tls);
        connected(seat, json!({"port": 80, "tls_port": false, "clear_bytes": "GET /private HTTP/1.1"}));
        let line = json!({
            "user_agent": format!("meshproof/{}", request.token), "response_code": 503,
            "upstream_local_address": "127.0.0.1:1", "start_time": "2026-01-01T00:00:00.000Z",
        });
        logged(seat, Some(&request.token), &line.to_string());
        exchange(&request.url, 200)
    };
    let report = report_of(Scripted { send, ..QUIET }, &WORDED).await;
    let reasons: Vec<String> = report.checks().map(|c| format!("{}: {}", c.id, c.reason)).collect();
    insta::assert_snapshot!(reasons.join("\n"));
}
