//! The kill matrix: which checks notice which saboteur. A check that no saboteur makes fail could not fail at all; a saboteur
//! that no check notices is a gap in the suite.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::LazyLock;

use meshproof_harness::scenario::Scenario;
use meshproof_model::{Level, kills};
use meshproof_reference::Variant;
use meshproof_render::text::plural;
use serde::{Deserialize, Serialize};

use crate::exit::Refusal;

/// Which checks notice which saboteur.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillMatrix {
    /// Every check that was executed, by its full id.
    pub checks: BTreeSet<String>,
    /// By saboteur: the checks that did not pass.
    pub kills: BTreeMap<String, BTreeSet<String>>,
    /// By saboteur: the ids of the causes of its report, without consequences of other causes. Absent in a matrix of an earlier
    /// version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<String, BTreeSet<String>>,
    /// By benign variant: the MUST checks that did not pass. There must be none.
    #[serde(default)]
    pub benign: BTreeMap<String, BTreeSet<String>>,
}

/// The matrix of the documents' scenarios, as kept in the repository. A test compares it with a run.
pub const KEPT: &str = include_str!("../kill-matrix.json");

impl KillMatrix {
    /// The kept matrix. It is read once.
    ///
    /// # Errors
    /// The file in the repository is not valid.
    pub fn kept() -> Result<&'static Self, Refusal> {
        static READ: LazyLock<Result<KillMatrix, String>> =
            LazyLock::new(|| serde_json::from_str(KEPT).map_err(|e| format!("cli/kill-matrix.json: {e}")));
        READ.as_ref().map_err(|words| Refusal::Environment(words.clone()))
    }

    /// Checks that noticed no saboteur.
    #[must_use]
    pub fn idle_checks(&self) -> Vec<&str> {
        let noticed = |check: &&String| !self.kills.values().any(|k| k.contains(*check));
        self.checks.iter().filter(noticed).map(String::as_str).collect()
    }

    /// Saboteurs that no check noticed.
    #[must_use]
    pub fn unnoticed(&self) -> Vec<&str> {
        self.kills.iter().filter(|(_, checks)| checks.is_empty()).map(|(s, _)| s.as_str()).collect()
    }

    /// Benign variants that a MUST check fails: the suite is wrong about them.
    #[must_use]
    pub fn false_alarms(&self) -> Vec<&str> {
        self.benign.iter().filter(|(_, checks)| !checks.is_empty()).map(|(v, _)| v.as_str()).collect()
    }

    /// The saboteurs that this check notices; `None` if the check is not in the matrix.
    #[must_use]
    pub fn noticed_by(&self, check: &str) -> Option<Vec<&str>> {
        let noticed = || self.kills.iter().filter(|(_, checks)| checks.contains(check));
        self.checks.contains(check).then(|| noticed().map(|(saboteur, _)| saboteur.as_str()).collect())
    }

    /// With the meaning of its names, for the HTML page. `whole`: every saboteur was run.
    #[must_use]
    pub fn as_model(&self, scenarios: &[Scenario], whole: bool) -> kills::KillMatrix {
        let of = |id: &str| {
            let (scenario, check) = id.split_once('/')?;
            scenarios.iter().find(|s| s.id() == scenario)?.catalogue.check(check)
        };
        kills::KillMatrix {
            checks: self
                .checks
                .iter()
                .map(|id| kills::KillCheck {
                    id: id.clone(),
                    level: of(id).map_or(Level::Must, |c| c.level),
                    requirement: of(id).map(|c| c.requirement.clone()).unwrap_or_default(),
                })
                .collect(),
            saboteurs: self.kills.keys().map(|name| described(name)).collect(),
            whole,
            kills: self.kills.clone(),
            benign: self.benign.keys().map(|name| described(name)).collect(),
            false_alarms: self.benign.clone(),
        }
    }

    /// As text: one row per check, one column per saboteur. `whole`: every saboteur was run.
    #[must_use]
    pub fn as_text(&self, whole: bool) -> String {
        let mut text = String::from(
            "The kill matrix: one row per check, one column per saboteur. # means that the check notices the saboteur.\n\n",
        );
        for (number, (saboteur, kills)) in self.kills.iter().enumerate() {
            let _infallible =
                writeln!(text, "{:>4} {saboteur}: {}", number + 1, plural(kills.len(), "check"));
        }
        let widest = self.checks.iter().map(String::len).max().unwrap_or(0);
        text.push('\n');
        for digit in [10, 1] {
            let _infallible = write!(text, "{:widest$} ", "");
            for number in 1..=self.kills.len() {
                let _infallible = write!(text, "{}", number / digit % 10);
            }
            text.push('\n');
        }
        for check in &self.checks {
            let row: String =
                self.kills.values().map(|k| if k.contains(check) { '#' } else { '.' }).collect();
            let _infallible = writeln!(text, "{check:widest$} {row}");
        }
        if !self.benign.is_empty() {
            text.push_str(
                "\nBenign variants, which are correct but unusual; no MUST check may fail because of them:\n",
            );
        }
        for (variant, failed) in &self.benign {
            let failed = failed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let outcome = if failed.is_empty() { "passes".to_owned() } else { format!("fails {failed}") };
            let _infallible = writeln!(text, "     {variant}: {outcome}");
        }
        let mut gap = |what: &str, names: Vec<&str>| {
            if !names.is_empty() {
                let _infallible = writeln!(text, "\n{what}: {}", names.join(", "));
            }
        };
        gap("Saboteurs that no check notices", self.unnoticed());
        gap("Benign variants that a check fails", self.false_alarms());
        if whole {
            gap("Checks that notice no saboteur", self.idle_checks());
        }
        text
    }
}

fn described(name: &str) -> kills::KillSaboteur {
    let variant = name.parse::<Variant>();
    kills::KillSaboteur {
        name: name.to_owned(),
        description: variant.map(|v| v.description().to_owned()).unwrap_or_default(),
    }
}
