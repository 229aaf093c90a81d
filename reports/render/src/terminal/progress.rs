//! Progress during a run.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::escape::{cut, line, no_command};
use super::style::OutputStyle;
use crate::text::{Micros, plural};
use meshproof_model::event::Event;
use meshproof_model::report::{ScenarioResult, Tally, Verdict};

/// How much progress is shown. The summary is always complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// A few lines: the first scenarios that do not pass, and how far the run is.
    #[default]
    Normal,
    /// One line per scenario.
    Scenarios,
    /// One line per scenario and one line per check.
    Verbose,
}

/// How many scenarios that do not pass have a line of their own with [`Verbosity::Normal`].
const LISTED: usize = 3;

/// After this time without an event, output that cannot be redrawn says what the run waits for, and again after each further such
/// time.
const SILENCE: Duration = Duration::from_secs(30);

/// From this time on, the progress line says how long a step has taken.
const SLOW: Duration = Duration::from_secs(3);

/// Shows the events of a run.
///
/// Each finished scenario is one permanent line; with [`Verbosity::Normal`] only the first few that do not pass. On a terminal, a last line shows what is running and is
/// redrawn in place. Checks (with [`Verbosity::Verbose`]) are shown when their scenario finishes, because
/// some verdicts are final only then, and because the lines of concurrent scenarios would otherwise be mixed.
#[derive(Debug)]
pub struct Progress<W> {
    out: W,
    style: OutputStyle,
    verbosity: Verbosity,
    scenarios: usize,
    finished: usize,
    /// How many scenarios that did not pass have a line.
    listed: usize,
    running: Vec<RunningScenario>,
    shown: bool,
    /// When the last event came, or the last line was written instead.
    last: Instant,
    now: Instant,
}

#[derive(Debug)]
struct RunningScenario {
    scenario: String,
    /// Empty before the document's first step.
    step: String,
    /// Since when it is in this step.
    since: Instant,
}

impl RunningScenario {
    /// What the scenario does, and how long it has done it already if that is long.
    fn text(&self, now: Instant) -> String {
        let took = now.saturating_duration_since(self.since);
        let doing = if self.step.is_empty() { "starting its proxies and services" } else { &self.step };
        match took {
            took if took >= SLOW => format!("{}: {doing} (for {} s)", self.scenario, took.as_secs()),
            _ if self.step.is_empty() => self.scenario.clone(),
            _ => format!("{}: {doing}", self.scenario),
        }
    }
}

impl<W: Write> Progress<W> {
    /// Nothing is written before the first event.
    pub fn new(out: W, style: OutputStyle, verbosity: Verbosity) -> Self {
        let now = Instant::now();
        Self {
            out,
            style,
            verbosity,
            scenarios: 0,
            finished: 0,
            listed: 0,
            running: Vec::new(),
            shown: false,
            last: now,
            now,
        }
    }

    /// Says what the run waits for, and since when, if that takes long. To be called about once per second.
    ///
    /// # Errors
    /// Writing to the output fails.
    pub fn tick(&mut self, now: Instant) -> io::Result<()> {
        self.now = now;
        if self.verbosity == Verbosity::Quiet || self.running.is_empty() {
            return Ok(());
        }
        if self.style.live {
            self.wipe()?;
            self.draw()?;
        } else if now.saturating_duration_since(self.last) >= SILENCE {
            self.last = now;
            let longest = self.running.iter().min_by_key(|r| r.since);
            let text = longest.map(|r| line(&r.text(now))).unwrap_or_default();
            let others = match self.running.len() - 1 {
                0 => String::new(),
                n => format!("; {} running beside it", plural(n, "configuration")),
            };
            writeln!(self.out, "waiting for {}{others}", no_command(&text))?;
        }
        self.out.flush()
    }

    /// Shows one event.
    ///
    /// # Errors
    /// Writing to the output fails.
    pub fn on(&mut self, event: &Event) -> io::Result<()> {
        if let Event::FolderKept { folder } = event {
            // Also in a quiet run: this is what `--keep` is for.
            self.wipe()?;
            writeln!(self.out, "the working folder is kept: {}", line(folder))?;
            return self.out.flush();
        }
        if self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        self.wipe()?;
        self.now = Instant::now();
        self.last = self.now;
        match event {
            Event::RunStarted { implementation, scenarios, checks } => {
                self.scenarios = *scenarios;
                let counts =
                    format!("{} in {}", plural(*checks, "check"), plural(*scenarios, "configuration"));
                // With the colon, which could otherwise complete a command of GitHub's runner.
                let name = format!("{}:", line(implementation));
                writeln!(self.out, "{} {counts}", self.style.bold(&no_command(&name)))?;
            }
            Event::OneAtATime { reason } => {
                writeln!(self.out, "configurations run one after another: {}", line(reason))?;
            }
            Event::ScenarioStarted { scenario } => {
                let (scenario, step) = (scenario.clone(), String::new());
                self.running.push(RunningScenario { scenario, step, since: self.now });
            }
            Event::StepStarted { scenario, title } => {
                if let Some(running) = self.running.iter_mut().find(|r| r.scenario == *scenario) {
                    running.step.clone_from(title);
                    running.since = self.now;
                }
            }
            Event::CheckJudged { .. } | Event::FolderKept { .. } => {}
            Event::ScenarioFinished { result } => {
                self.finished += 1;
                let selector = result.selector();
                self.running.retain(|r| r.scenario != selector);
                self.scenario(result)?;
            }
            Event::Interrupted { reason } => {
                let text = format!("stopping: {}; cleaning up", line(reason));
                writeln!(self.out, "{}", self.style.verdict(Verdict::Error, &text))?;
            }
        }
        self.draw()?;
        self.out.flush()
    }

    /// Removes the progress line, so that other text can be written.
    ///
    /// # Errors
    /// Writing to the output fails.
    pub fn finish(&mut self) -> io::Result<()> {
        self.running.clear();
        self.wipe()?;
        self.out.flush()
    }

    fn scenario(&mut self, result: &ScenarioResult) -> io::Result<()> {
        let verdict = result.verdict();
        if self.verbosity == Verbosity::Normal {
            return self.in_short(result, verdict);
        }
        self.line_of(result, verdict)
    }

    /// The first few scenarios that do not pass. Where the progress line cannot be redrawn, also how far the run is, four times.
    fn in_short(&mut self, result: &ScenarioResult, verdict: Verdict) -> io::Result<()> {
        let is_bad = match verdict {
            Verdict::Failed | Verdict::Inconclusive | Verdict::Error => true,
            Verdict::Passed | Verdict::Skipped => false,
        };
        if is_bad && self.listed < LISTED {
            self.listed += 1;
            self.line_of(result, verdict)?;
            if self.listed == LISTED {
                writeln!(
                    self.out,
                    "{}",
                    self.style.dim("Further failures are in the summary; -v lists every configuration.")
                )?;
            }
        }
        let quarter = |finished: usize| 4 * finished / self.scenarios.max(1);
        if !self.style.live && self.scenarios >= 8 && quarter(self.finished) > quarter(self.finished - 1) {
            writeln!(self.out, "{} of {} configurations finished", self.finished, self.scenarios)?;
        }
        Ok(())
    }

    fn line_of(&mut self, result: &ScenarioResult, verdict: Verdict) -> io::Result<()> {
        let tally = Tally::of(&result.checks, |_| true);
        let counts: Vec<_> = Verdict::ALL
            .iter()
            .filter(|&&v| tally.count(v) > 0)
            .map(|&v| format!("{} {v}", tally.count(v)))
            .collect();
        let counts = if counts.is_empty() { "no checks".to_owned() } else { counts.join(", ") };
        let took = self.style.dim(&format!("({})", Micros(result.timing.total_us)));
        writeln!(
            self.out,
            "{} {}: {counts} {took}",
            self.style.verdict(verdict, &format!("{verdict:12}")),
            line(&result.selector())
        )?;
        if self.verbosity == Verbosity::Verbose {
            for check in &result.checks {
                let reason = self.style.dim(&line(&check.reason));
                let verdict = self.style.verdict(check.verdict, &format!("{:12}", check.verdict));
                writeln!(self.out, "    {verdict} {:6} {}: {reason}", check.level, line(&check.id))?;
            }
        }
        for fault in result.faults.iter().filter(|_| self.verbosity != Verbosity::Normal) {
            let text = self.style.verdict(Verdict::Error, &format!("error: {}", line(&fault.message)));
            writeln!(self.out, "    {text}")?;
        }
        Ok(())
    }

    fn wipe(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.shown) {
            // Carriage return, then "erase in line" (ECMA-48, section 8.3.41).
            write!(self.out, "\r\x1b[2K")?;
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        if !self.style.live || self.running.is_empty() {
            return Ok(());
        }
        let scenarios: Vec<_> = self.running.iter().map(|r| r.text(self.now)).collect();
        let text = format!("[{}/{}] {}", self.finished, self.scenarios, line(&scenarios.join(" | ")));
        // One column stays free, because some terminals wrap after a full line.
        write!(self.out, "{}", self.style.dim(&cut(&text, self.style.width.saturating_sub(1))))?;
        self.shown = true;
        Ok(())
    }
}
