//! The fault dictionary: the true fault comes first, and an unknown one is never certain.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;

use meshproof::dictionary::{known_faults, notes};
use meshproof::kill_matrix::KillMatrix;
use meshproof_model::Role;
use meshproof_model::diagnosis::{KnownFault, Symptoms, diagnose};
use meshproof_reference::Variant;

/// What a run of all checks shows with this fault.
fn symptoms_of(fault: &KnownFault, checks: &BTreeSet<String>) -> Symptoms {
    let places: &[Role] = match fault.name.split_once('@') {
        Some((_, "sidecar")) => &[Role::Sidecar],
        Some((_, "egress-gateway")) => &[Role::EgressGateway],
        Some((_, "ingress-gateway")) => &[Role::IngressGateway],
        Some(_) | None => &[Role::Sidecar, Role::EgressGateway, Role::IngressGateway],
    };
    Symptoms {
        passed: checks.difference(&fault.breaks).cloned().collect(),
        broken: fault.breaks.clone(),
        causes: fault.causes.clone(),
        places: places.iter().copied().collect(),
    }
}

#[test]
fn the_notes_are_about_known_saboteurs() {
    for name in notes().unwrap().keys() {
        assert!(name.parse::<Variant>().is_ok(), "cli/faults.toml: {name} is no saboteur");
    }
}

#[test]
fn the_true_fault_comes_first_unless_another_breaks_the_same_checks() {
    let (faults, checks) = (known_faults().unwrap(), &KillMatrix::kept().unwrap().checks);
    let is_first = |fault: &&KnownFault| {
        let found = diagnose(&faults, &symptoms_of(fault, checks));
        let first = found.suspects.first().and_then(|s| faults.iter().find(|f| f.name == s.fault));
        first.is_some_and(|first| first.breaks == fault.breaks)
    };
    let right = faults.iter().filter(is_first).count();
    assert!(10 * right >= 9 * faults.len(), "{right} of {} faults come first", faults.len());
}

#[test]
fn a_fault_that_the_dictionary_does_not_have_is_never_certain() {
    let (faults, checks) = (known_faults().unwrap(), &KillMatrix::kept().unwrap().checks);
    for fault in &faults {
        let others: Vec<KnownFault> = faults.iter().filter(|f| f.breaks != fault.breaks).cloned().collect();
        let found = diagnose(&others, &symptoms_of(fault, checks));
        assert!(found.suspects.iter().all(|s| s.score <= 90), "{}: {found:?}", fault.name);
    }
}
