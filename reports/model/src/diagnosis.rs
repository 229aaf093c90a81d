//! Diagnosis by fault dictionary: which known faults break the checks that failed, and deviate in the way that was seen. A known
//! fault that fits is likely and never certain: another one may have the same symptoms.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deviation::Role;

/// The highest score. A dictionary cannot know every fault.
const MOST: f64 = 95.0;
/// The highest score of a fault that does not break exactly the checks that are broken: one that is not known fits better.
const MOST_OF_A_PARTIAL_FIT: f64 = 85.0;

/// Faults with a lower score do not fit, and faults that many others fit as well as do not say enough.
const LEAST: f64 = 40.0;

/// How many likely faults are named.
const NAMED: usize = 3;

/// Where a fault may be: the word after `@` in its name, which names of scenarios and configurations have too.
pub(crate) const PLACEMENTS: [(&str, Role); 3] = [
    ("sidecar", Role::Sidecar),
    ("egress-gateway", Role::EgressGateway),
    ("ingress-gateway", Role::IngressGateway),
];

/// The result of comparing a report with the known faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// How many faults are known.
    pub known: usize,
    /// The faults that fit, the most likely first; empty if none does.
    pub suspects: Vec<Suspect>,
}

/// A known fault that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspect {
    /// Its name, which is that of a saboteur: `no-sni`.
    pub fault: String,
    /// What it does wrong, in one sentence.
    pub description: String,
    /// How well it fits, from 0 to 95. Not a probability: a fault that is not known may fit better.
    pub score: u8,
    /// The checks that failed here and that this fault does not break.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unexplained: Vec<String>,
    /// The checks that this fault breaks and that passed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_too: Vec<String>,
    /// By platform (`Istio`, `Envoy`): the configuration mistake that typically has these symptoms.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub misconfigurations: BTreeMap<String, String>,
}

/// A fault of the dictionary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownFault {
    /// Its name, with `@PLACEMENT` for a fault at one placement only.
    pub name: String,
    /// What it does wrong.
    pub description: String,
    /// The checks that it breaks, by `scenario/check`.
    pub breaks: BTreeSet<String>,
    /// The ids of the causes that it shows; empty if they are not known.
    pub causes: BTreeSet<String>,
    /// The ids of causes that it typically shows, for a fault whose causes are not known.
    pub typical: BTreeSet<String>,
    /// By platform: the typical mistake.
    pub misconfigurations: BTreeMap<String, String>,
}

/// What was seen, as far as a diagnosis rests on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symptoms {
    /// The checks that passed in each configuration.
    pub passed: BTreeSet<String>,
    /// The checks that failed or are inconclusive in some configuration.
    pub broken: BTreeSet<String>,
    /// The ids of the causes that are not consequences of others.
    pub causes: BTreeSet<String>,
    /// The proxies that deviate.
    pub places: BTreeSet<Role>,
}

/// The known faults that fit the symptoms, the most likely first.
#[must_use]
pub fn diagnose(faults: &[KnownFault], symptoms: &Symptoms) -> Diagnosis {
    let mut breaking: BTreeMap<&str, usize> = BTreeMap::new();
    for check in faults.iter().flat_map(|f| &f.breaks) {
        *breaking.entry(check).or_default() += 1;
    }
    // A check that few faults break says more.
    let weight = |check: &str| {
        let count = breaking.get(check).copied().unwrap_or(1);
        0.3 + ((faults.len() + 2) as f64 / (count + 1) as f64).ln()
    };
    let mut scored: Vec<(f64, &KnownFault)> = faults
        .iter()
        .map(|fault| (score(fault, symptoms, &weight) * place(fault, faults, symptoms), fault))
        .filter(|(score, _)| *score >= LEAST)
        .collect();
    scored.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.name.cmp(&y.name)));
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    // Faults that fit equally well share the confidence.
    let ties = scored.iter().filter(|(score, _)| best - score < 0.5).count();
    let shared = 1.0 / (1.0 + 0.1 * (ties.saturating_sub(1)) as f64);
    // What fits much worse than the best is no alternative.
    scored.retain(|(score, _)| *score > 0.6 * best && best * shared >= LEAST);
    let suspects = scored.into_iter().take(NAMED).map(|(score, fault)| {
        let unexplained: Vec<String> = symptoms.broken.difference(&fault.breaks).cloned().collect();
        let expected_too: Vec<String> = fault.breaks.intersection(&symptoms.passed).cloned().collect();
        let fits = unexplained.is_empty() && expected_too.is_empty();
        Suspect {
            fault: fault.name.clone(),
            description: fault.description.clone(),
            score: (score * shared).min(if fits { MOST } else { MOST_OF_A_PARTIAL_FIT }).round() as u8,
            unexplained,
            expected_too,
            misconfigurations: fault.misconfigurations.clone(),
        }
    });
    Diagnosis { known: faults.len(), suspects: suspects.collect() }
}

/// How well the fault explains the symptoms, from 0 to 95.
fn score(fault: &KnownFault, symptoms: &Symptoms, weight: &impl Fn(&str) -> f64) -> f64 {
    let sum = |checks: &mut dyn Iterator<Item = &String>| checks.map(|c| weight(c)).sum::<f64>();
    // Checks that this run did not judge say nothing.
    let is_judged = |c: &&String| symptoms.broken.contains(*c) || symptoms.passed.contains(*c);
    let both = sum(&mut fault.breaks.intersection(&symptoms.broken));
    // A cause alone names no fault: very different ones have it in common.
    if both <= 0.0 {
        return 0.0;
    }
    let expected = sum(&mut fault.breaks.iter().filter(is_judged));
    let seen = sum(&mut symptoms.broken.iter());
    let checks = both / (expected + seen - both);
    let causes = if symptoms.causes.is_empty() || (fault.causes.is_empty() && fault.typical.is_empty()) {
        checks
    } else if fault.causes.is_empty() {
        // Typical causes are neither complete nor exclusive.
        if fault.typical.is_disjoint(&symptoms.causes) { checks / 2.0 } else { (checks + 1.0) / 2.0 }
    } else {
        let both = fault.causes.intersection(&symptoms.causes).count() as f64;
        let either = fault.causes.union(&symptoms.causes).count() as f64;
        both / either
    };
    MOST * (checks + causes) / 2.0
}

/// A fault at one placement fits if only proxies there deviate; a fault everywhere fits less well then.
fn place(fault: &KnownFault, faults: &[KnownFault], symptoms: &Symptoms) -> f64 {
    let role = |place: &str| PLACEMENTS.iter().find(|(name, _)| *name == place).map(|(_, role)| *role);
    let own = fault.name.split_once('@').and_then(|(_, place)| role(place));
    let places = &symptoms.places;
    match own {
        Some(_) if places.is_empty() => 0.9,
        Some(own) if places.len() == 1 && places.contains(&own) => 1.0,
        Some(own) if places.contains(&own) => 0.8,
        Some(_) => 0.4,
        None => {
            let with_place = |f: &KnownFault| f.name.split_once('@').is_some_and(|(n, _)| n == fault.name);
            if places.len() == 1 && faults.iter().any(with_place) { 0.95 } else { 1.0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, breaks: &[&str], causes: &[&str]) -> KnownFault {
        let set = |all: &[&str]| all.iter().map(|c| (*c).to_owned()).collect();
        KnownFault {
            name: name.to_owned(),
            breaks: set(breaks),
            causes: set(causes),
            ..KnownFault::default()
        }
    }

    fn symptoms(broken: &[&str], passed: &[&str], causes: &[&str]) -> Symptoms {
        let set = |all: &[&str]| all.iter().map(|c| (*c).to_owned()).collect();
        Symptoms { passed: set(passed), broken: set(broken), causes: set(causes), ..Symptoms::default() }
    }

    fn named(diagnosis: &Diagnosis) -> Vec<&str> {
        diagnosis.suspects.iter().map(|s| s.fault.as_str()).collect()
    }

    #[test]
    fn the_fault_that_breaks_the_same_checks_comes_first_and_is_never_certain() {
        let faults =
            [fault("one", &["a", "b"], &[]), fault("other", &["a", "c"], &[]), fault("far", &["x"], &[])];
        let found = diagnose(&faults, &symptoms(&["a", "b"], &["c", "x"], &[]));
        assert_eq!(named(&found)[0], "one");
        assert!(found.suspects[0].score <= 95);
        assert!(!named(&found).contains(&"far"));
    }

    #[test]
    fn causes_distinguish_faults_that_break_the_same_checks() {
        let faults = [fault("absent", &["a"], &["sni-absent"]), fault("other", &["a"], &["sni-other"])];
        let found = diagnose(&faults, &symptoms(&["a"], &[], &["sni-other"]));
        assert_eq!(named(&found)[0], "other");
    }

    #[test]
    fn nothing_fits_a_pattern_that_no_known_fault_has() {
        let faults = [fault("one", &["a", "b", "c", "d"], &["x"])];
        assert!(diagnose(&faults, &symptoms(&["a", "y", "z"], &["b", "c", "d"], &["q"])).suspects.is_empty());
        assert!(diagnose(&faults, &Symptoms::default()).suspects.is_empty());
    }

    #[test]
    fn a_cause_alone_names_no_fault_and_neither_do_many_faults_that_fit_equally_badly() {
        let one = [fault("one", &["a"], &["refused"])];
        assert!(diagnose(&one, &symptoms(&["of-a-file"], &["a"], &["refused"])).suspects.is_empty());
        let many: Vec<KnownFault> = (0..20).map(|n| fault(&format!("f{n}"), &["a", "b"], &[])).collect();
        assert!(diagnose(&many, &symptoms(&["a"], &["b"], &[])).suspects.is_empty());
    }

    #[test]
    fn a_suspect_says_what_it_does_not_explain_and_what_should_have_failed_too() {
        let faults = [fault("one", &["a", "b", "c", "gone"], &[])];
        let found = diagnose(&faults, &symptoms(&["a", "b", "z"], &["c"], &[]));
        assert_eq!(
            (&found.suspects[0].unexplained, &found.suspects[0].expected_too),
            (&vec!["z".to_owned()], &vec!["c".to_owned()])
        );
    }

    #[test]
    fn a_fault_at_one_placement_is_preferred_if_only_proxies_there_deviate() {
        let faults = [
            fault("f", &["a"], &[]),
            fault("f@sidecar", &["a"], &[]),
            fault("f@egress-gateway", &["a"], &[]),
        ];
        let mut seen = symptoms(&["a"], &[], &[]);
        seen.places = BTreeSet::from([Role::EgressGateway]);
        assert_eq!(named(&diagnose(&faults, &seen))[0], "f@egress-gateway");
        seen.places = BTreeSet::from([Role::Sidecar, Role::EgressGateway]);
        assert_eq!(named(&diagnose(&faults, &seen))[0], "f");
    }

    #[test]
    fn faults_that_fit_equally_well_share_the_score() {
        let alone = diagnose(&[fault("one", &["a"], &[])], &symptoms(&["a"], &[], &[]));
        let many: Vec<KnownFault> = (0..10).map(|n| fault(&n.to_string(), &["a"], &[])).collect();
        let shared = diagnose(&many, &symptoms(&["a"], &[], &[]));
        assert!(shared.suspects[0].score < alone.suspects[0].score);
    }
}
