//! The kill matrix: which check detects which saboteur. A check that detects no saboteur may be unable to
//! fail; a saboteur that no check detects is a gap in the suite.

use std::collections::{BTreeMap, BTreeSet};

use crate::result::Level;

/// Checks, saboteurs, and which check detects which saboteur.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillMatrix {
    /// The checks, in display order.
    pub checks: Vec<KillCheck>,
    /// The saboteurs, in display order.
    pub saboteurs: Vec<KillSaboteur>,
    /// Whether every known saboteur was run. Only then does a check without detections show a gap.
    pub whole: bool,
    /// For each saboteur's name, the ids of the checks that did not pass.
    pub kills: BTreeMap<String, BTreeSet<String>>,
    /// Variants that are correct but unusual, in display order.
    pub benign: Vec<KillSaboteur>,
    /// For each benign variant's name, the ids of the MUST checks that did not pass: false alarms.
    pub false_alarms: BTreeMap<String, BTreeSet<String>>,
}

/// A check of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillCheck {
    /// `scenario/check`.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// What it requires.
    pub requirement: String,
}

/// One named way of breaking the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillSaboteur {
    /// Its name.
    pub name: String,
    /// What it does wrong, in one sentence.
    pub description: String,
}

impl KillMatrix {
    /// Whether this check detects this saboteur.
    #[must_use]
    pub fn detects(&self, check: &str, saboteur: &str) -> bool {
        self.kills.get(saboteur).is_some_and(|checks| checks.contains(check))
    }

    /// The ids of the checks that detect this saboteur.
    #[must_use]
    pub fn detecting(&self, saboteur: &KillSaboteur) -> Vec<&str> {
        self.kills.get(&saboteur.name).into_iter().flatten().map(String::as_str).collect()
    }

    /// Checks that detect no saboteur; empty unless every saboteur was run.
    #[must_use]
    pub fn idle_checks(&self) -> Vec<&KillCheck> {
        if !self.whole {
            return Vec::new();
        }
        self.checks.iter().filter(|c| !self.kills.values().any(|k| k.contains(&c.id))).collect()
    }

    /// Benign variants that a MUST check fails.
    #[must_use]
    pub fn alarming(&self) -> Vec<&KillSaboteur> {
        let fails = |variant: &&KillSaboteur| {
            self.false_alarms.get(&variant.name).is_some_and(|checks| !checks.is_empty())
        };
        self.benign.iter().filter(fails).collect()
    }

    /// Saboteurs that no check detects.
    #[must_use]
    pub fn unnoticed(&self) -> Vec<&KillSaboteur> {
        self.saboteurs.iter().filter(|s| self.detecting(s).is_empty()).collect()
    }
}
