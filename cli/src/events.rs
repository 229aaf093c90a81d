//! `run --events FILE`: the events of a run as JSON lines, as they happen.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use meshproof_model::Event;
use serde_json::{Value, json};

use crate::exit::Refusal;

/// A file that takes events, one JSON object per line. Runs of one command write to it one after the other.
pub struct EventLog(Mutex<File>);

impl EventLog {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<(), Refusal> {
        if path == Path::new("-") {
            let words =
                "--events -: the summary goes to standard output. Give a file, for example /dev/stderr";
            return Err(Refusal::Usage(words.to_owned()));
        }
        File::create(path).map(drop).map_err(|e| unwritable(path, &e))
    }

    /// Opens the file to write after what it holds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let file = File::options().append(true).open(path).map_err(|e| unwritable(path, &e))?;
        Ok(Self(Mutex::new(file)))
    }

    /// Writes one event. What cannot be written is lost: the report contains all of it.
    pub fn on(&self, event: &Event) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One call per line, so that a reader does not see half a line.
        let _lost = file.write_all(format!("{}\n", as_json(event)).as_bytes());
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::Environment(format!(
        "{} cannot be written: {error}. Choose another file with --events FILE",
        path.display()
    ))
}

/// The event as JSON. `event` says which one it is.
#[must_use]
pub fn as_json(event: &Event) -> Value {
    match event {
        Event::RunStarted { implementation, scenarios, checks } => json!({
            "event": "run-started", "implementation": implementation, "scenarios": scenarios, "checks": checks,
        }),
        Event::OneAtATime { reason } => json!({ "event": "one-at-a-time", "reason": reason }),
        Event::ScenarioStarted { scenario } => json!({ "event": "scenario-started", "scenario": scenario }),
        Event::StepStarted { scenario, title } => {
            json!({ "event": "step-started", "scenario": scenario, "title": title })
        }
        Event::CheckJudged { scenario, result } => json!({
            "event": "check-judged", "scenario": scenario, "check": result.id, "level": result.level,
            "verdict": result.verdict, "reason": result.reason,
        }),
        Event::ScenarioFinished { result } => json!({
            "event": "scenario-finished", "scenario": result.selector(), "verdict": result.verdict(),
            "duration_us": result.timing.total_us,
            "checks": result.checks.iter().map(|c| json!({ "check": c.id, "verdict": c.verdict })).collect::<Vec<_>>(),
        }),
        Event::FolderKept { folder } => json!({ "event": "folder-kept", "folder": folder }),
        Event::Interrupted { reason } => json!({ "event": "interrupted", "reason": reason }),
    }
}
