//! What a cluster must have before a run can judge its mesh: each finding states what was found and the
//! command that fixes it.

mod configuration;
mod examine;
mod reading;
mod render;

pub use examine::examine;
pub use reading::examine_reading;
pub use render::{as_text, as_text_of_reading, refusal};

/// Whether a finding prevents a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As a run needs it.
    Good,
    /// Worth knowing; a run is possible.
    Note,
    /// A run is impossible.
    Problem,
}

/// The result of one examination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorFinding {
    /// How it bears on a run.
    pub severity: Severity,
    /// What was examined: `permissions`.
    pub about: &'static str,
    /// What was found.
    pub says: String,
    /// The command that fixes it, or what else to do; empty where there is nothing to do.
    pub fix: String,
}

impl DoctorFinding {
    fn good(about: &'static str, says: impl Into<String>) -> Self {
        Self { severity: Severity::Good, about, says: says.into(), fix: String::new() }
    }

    fn note(about: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Note, about, says: says.into(), fix: fix.into() }
    }

    fn problem(about: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, about, says: says.into(), fix: fix.into() }
    }
}
