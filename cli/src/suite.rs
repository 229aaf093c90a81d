//! What the commands work on: a list of scenarios, and the name of the program that has them.

use meshproof_harness::mesh::RUNS_UNTIL_STOPPED;
use meshproof_harness::runner::Selected;
use meshproof_harness::scenario::Scenario;
use meshproof_harness::select::{NoMatch, scenario, select, select_live};

use crate::exit::Refusal;

/// A program's scenarios.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// The program's name, for messages that tell the user what to run.
    pub program: &'static str,
    /// How the program was called, quoted for a shell: for commands that the user can copy.
    pub called: &'static str,
    /// The scenarios, in the order of the report.
    pub scenarios: &'static [Scenario],
}

impl Suite {
    /// The suite of the documents' program, `meshproof`, with these scenarios.
    #[must_use]
    pub fn of(scenarios: &'static [Scenario]) -> Self {
        Self { program: "meshproof", called: "meshproof", scenarios }
    }

    /// What these selectors select; without any, every configuration of every scenario. `live` selects only scenarios whose
    /// document names a host on the internet.
    ///
    /// # Errors
    /// A selector matches nothing. The message suggests near names.
    pub fn select(&self, selectors: &[String], live: bool) -> Result<Vec<Selected>, Refusal> {
        let selected = if live {
            select_live(self.scenarios, selectors).map_err(|e| e.to_string())
        } else {
            select(self.scenarios, selectors).map_err(|e| e.to_string())
        };
        selected.map_err(|e| self.refuse(&e))
    }

    /// The scenario with this id.
    ///
    /// # Errors
    /// There is none. The message suggests near names.
    pub fn scenario(&self, id: &str) -> Result<&Scenario, Refusal> {
        scenario(self.scenarios, id).map_err(|e: NoMatch| self.refuse(&e.to_string()))
    }

    /// Every id under which a check can be expected to fail: `scenario/check` and `scenario:configuration/check`.
    #[must_use]
    pub fn check_ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for catalogue in self.scenarios.iter().map(|s| &s.catalogue) {
            for check in
                catalogue.checks.iter().map(|c| c.id.as_str()).chain([RUNS_UNTIL_STOPPED.id.as_str()])
            {
                ids.push(format!("{}/{check}", catalogue.id));
                let configurations = catalogue.configurations.iter();
                ids.extend(configurations.map(|c| format!("{}:{}/{check}", catalogue.id, c.id)));
            }
        }
        ids
    }

    fn refuse(&self, message: &str) -> Refusal {
        Refusal::Usage(format!(
            "{message}\n`{} list` shows all scenarios, configurations and checks",
            self.program
        ))
    }
}
