//! The kill matrix: which checks notice which deliberate fault. A check that notices nothing could not fail; a fault that
//! nobody notices is a gap in the suite.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::Level;

/// Checks, saboteurs, and who noticed whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillMatrix {
    /// The checks, in the order in which they are shown.
    pub checks: Vec<KillCheck>,
    /// The saboteurs, likewise.
    pub saboteurs: Vec<KillSaboteur>,
    /// Whether every known saboteur was set loose: only then does a check that notices nothing tell of a gap.
    pub whole: bool,
    /// By the saboteur's name: the ids of the checks that did not pass.
    pub kills: BTreeMap<String, BTreeSet<String>>,
}

/// A check of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillCheck {
    /// `scenario/check`.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// What it demands.
    pub requirement: String,
}

/// One way of being broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillSaboteur {
    /// Its name.
    pub name: String,
    /// What it does wrong, in one sentence.
    pub description: String,
}

impl KillMatrix {
    /// Whether this check notices this saboteur.
    #[must_use]
    pub fn notices(&self, check: &str, saboteur: &str) -> bool {
        self.kills.get(saboteur).is_some_and(|checks| checks.contains(check))
    }

    /// Checks that notice no saboteur; none unless the matrix is whole.
    #[must_use]
    pub fn idle_checks(&self) -> Vec<&KillCheck> {
        if !self.whole {
            return Vec::new();
        }
        self.checks.iter().filter(|c| !self.kills.values().any(|k| k.contains(&c.id))).collect()
    }

    /// Saboteurs that no check notices.
    #[must_use]
    pub fn unnoticed(&self) -> Vec<&KillSaboteur> {
        self.saboteurs.iter().filter(|s| self.kills.get(&s.name).is_none_or(BTreeSet::is_empty)).collect()
    }
}
