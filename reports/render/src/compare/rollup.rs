//! A comparison by scenario: how many of its MUST checks passed in each report, over all configurations.

use super::{Comparison, HowLost, Movement, Row};
use meshproof_model::report::{Level, Verdict};

/// One scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollUp {
    /// Its id, without a configuration.
    pub scenario: String,
    /// One entry per column.
    pub cells: Vec<RollUpCell>,
}

/// One scenario of one implementation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollUpCell {
    /// The number of MUST checks that passed.
    pub passed: usize,
    /// The number of MUST checks that were judged or could not be judged because of an error.
    pub asked: usize,
    /// The number of MUST checks that were skipped, or that the report does not contain.
    pub not_asked: usize,
    /// The number of checks of any level that regressed, lost ones included unless they were allowed to be lost.
    pub regressions: usize,
    /// The features for lack of which checks were skipped.
    pub missing_features: Vec<String>,
}

impl RollUpCell {
    /// `12/13`, and what was not asked: `12/13, 4 not asked`.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.asked, self.not_asked) {
            (0, 0) => "no MUST check".to_owned(),
            (0, n) => format!("{n} not asked"),
            (asked, 0) => format!("{}/{asked}", self.passed),
            (asked, n) => format!("{}/{asked}, {n} not asked", self.passed),
        }
    }

    /// The overall result: failed if a MUST check that was asked did not pass.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        if self.asked == 0 {
            Verdict::Skipped
        } else if self.passed < self.asked {
            Verdict::Failed
        } else {
            Verdict::Passed
        }
    }

    fn add(&mut self, row: &Row, column: usize) {
        let cell = row.cells[column].as_ref();
        let is_lost = row.lost_in(column).is_some_and(|l| !l.allowed);
        let regressed = cell.is_some_and(|c| c.movement == Some(Movement::Regression));
        self.regressions += usize::from(is_lost || regressed);
        if let Some(feature) = cell.and_then(|c| c.missing_feature.as_ref())
            && !self.missing_features.contains(feature)
        {
            self.missing_features.push(feature.clone());
        }
        if row.level != Level::Must {
            return;
        }
        match cell.map(|c| c.verdict) {
            Some(Verdict::Passed) => {
                self.passed += 1;
                self.asked += 1;
            }
            Some(Verdict::Failed | Verdict::Inconclusive | Verdict::Error) => self.asked += 1,
            Some(Verdict::Skipped) | None => self.not_asked += 1,
        }
    }
}

impl Comparison {
    /// One entry per scenario, in the order of the comparison.
    #[must_use]
    pub fn by_scenario(&self) -> Vec<RollUp> {
        let mut scenarios: Vec<RollUp> = Vec::new();
        for (selector, row) in self.rows() {
            let id = selector.split(':').next().unwrap_or(selector);
            let at = scenarios.iter().position(|s| s.scenario == id).unwrap_or_else(|| {
                let cells = vec![RollUpCell::default(); self.columns.len()];
                scenarios.push(RollUp { scenario: id.to_owned(), cells });
                scenarios.len() - 1
            });
            for (column, cell) in scenarios[at].cells.iter_mut().enumerate() {
                cell.add(row, column);
            }
        }
        scenarios
    }

    /// The number of checks that every report contains and that was judged in every one of them.
    #[must_use]
    pub fn judged_in_all(&self) -> usize {
        let is_judged = |row: &Row| {
            row.cells.iter().all(|cell| match cell.as_ref().map(|c| c.verdict) {
                Some(Verdict::Passed | Verdict::Failed | Verdict::Inconclusive) => true,
                Some(Verdict::Skipped | Verdict::Error) | None => false,
            })
        };
        self.rows().filter(|(_, row)| is_judged(row)).count()
    }

    /// The first column that has no check in common with the baseline, or without a baseline with any other column. Such a
    /// comparison says nothing.
    #[must_use]
    pub fn disjoint(&self) -> Option<usize> {
        let is_shared = |column: usize, other: usize| {
            column != other && self.rows().any(|(_, r)| r.cells[column].is_some() && r.cells[other].is_some())
        };
        let all = 0..self.columns.len();
        all.clone().filter(|c| Some(*c) != self.baseline).find(|&column| match self.baseline {
            Some(baseline) => !is_shared(column, baseline),
            None => !all.clone().any(|other| is_shared(column, other)),
        })
    }
}

impl HowLost {
    /// `skipped`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Error => "error",
            Self::Missing => "missing",
        }
    }
}
