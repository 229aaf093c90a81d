//! Claims, held against evidence made by hand.

use meshproof_harness::claim::{Claim, Claims, Finding, View};
use meshproof_model::{EvidenceId, Verdict};

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
fn a_conjunction_of_nothing_proves_nothing() {
    assert_eq!(judged(&Claim::all([])).verdict, Verdict::Inconclusive);
}

#[test]
fn a_failed_part_speaks_for_the_conjunction() {
    let finding = judged(&fixed(Verdict::Passed, "a").and(fixed(Verdict::Failed, "b")));
    assert_eq!(finding.reason(), "expected b expected; saw b seen");
    assert_eq!(finding.evidence, [EvidenceId("b".into())]);
}

#[test]
fn a_requirement_that_is_a_sentence_goes_on_in_the_reason_without_its_stop() {
    let finding =
        Finding { verdict: Verdict::Failed, ..Finding::holds("It answers.", "silence", Vec::new()) };
    assert_eq!(finding.reason(), "expected It answers; saw silence");
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
fn a_negative_is_worth_what_its_twin_is() {
    let with = |own, twin| judged(&fixed(own, "own").provided("the twin", fixed(twin, "twin"))).verdict;
    assert_eq!(with(Verdict::Passed, Verdict::Passed), Verdict::Passed);
    assert_eq!(with(Verdict::Passed, Verdict::Failed), Verdict::Inconclusive);
    assert_eq!(with(Verdict::Passed, Verdict::Inconclusive), Verdict::Inconclusive);
    assert_eq!(with(Verdict::Failed, Verdict::Passed), Verdict::Failed);
    assert_eq!(with(Verdict::Failed, Verdict::Failed), Verdict::Failed);
}
