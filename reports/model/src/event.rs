//! What happens during a run, as it happens: one model, and as many renderers as there are readers
//! (progress on a terminal, annotations, a log).

use crate::report::{CheckResult, ScenarioResult};

/// One thing that happened. Scenarios run side by side, so events of several interleave.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run begins.
    RunStarted {
        /// The implementation's name and version.
        implementation: String,
        /// How many scenario configurations will run.
        scenarios: usize,
        /// How many checks they hold.
        checks: usize,
    },
    /// Scenarios follow one another, although more might have run side by side.
    OneAtATime {
        /// Why, in the target's words.
        reason: String,
    },
    /// A scenario configuration begins.
    ScenarioStarted {
        /// `scenario:configuration`.
        scenario: String,
    },
    /// A step of the document begins.
    StepStarted {
        /// `scenario:configuration`.
        scenario: String,
        /// The step's title.
        title: String,
    },
    /// A check was judged. A claim that must hold to the scenario's end is judged again there; the scenario's result
    /// is what counts.
    CheckJudged {
        /// `scenario:configuration`.
        scenario: String,
        /// The result so far.
        result: Box<CheckResult>,
    },
    /// A scenario configuration came to its end.
    ScenarioFinished {
        /// As it will stand in the report.
        result: Box<ScenarioResult>,
    },
    /// The run was asked to stop; scenarios are being taken down.
    Interrupted {
        /// Why.
        reason: String,
    },
}
