//! Events of a run while it executes: one model for every renderer (progress on a terminal, annotations, a
//! log).

use crate::result::{CheckResult, ScenarioResult};

/// One event. Scenarios run concurrently, so events of several scenarios interleave.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run starts.
    RunStarted {
        /// The implementation's name and version.
        implementation: String,
        /// The number of scenario configurations that will run.
        scenarios: usize,
        /// The number of their checks.
        checks: usize,
    },
    /// Scenarios run one after another, although the run allows several at the same time.
    OneAtATime {
        /// The reason that the target gives.
        reason: String,
    },
    /// A scenario configuration starts.
    ScenarioStarted {
        /// `scenario:configuration`.
        scenario: String,
    },
    /// A step of the document starts.
    StepStarted {
        /// `scenario:configuration`.
        scenario: String,
        /// The step's title.
        title: String,
    },
    /// A check was judged. A claim that must hold until the end of the scenario is judged again there, so the
    /// result of the scenario is authoritative.
    CheckJudged {
        /// `scenario:configuration`.
        scenario: String,
        /// The result so far.
        result: Box<CheckResult>,
    },
    /// A scenario configuration finished.
    ScenarioFinished {
        /// The result, as in the report.
        result: Box<ScenarioResult>,
    },
    /// The run ended, and its working folder was kept (`--keep`).
    FolderKept {
        /// Its path.
        folder: String,
    },
    /// The run was asked to stop; scenarios are being cleaned up.
    Interrupted {
        /// The reason.
        reason: String,
    },
}
