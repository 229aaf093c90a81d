//! `meshproof sabotage`: the kill matrix. The reference is broken in every known way; a check that then does not pass has
//! noticed. A check that notices nothing could not fail; a saboteur that nobody notices is a gap in the suite.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::OnceLock;

use futures_util::StreamExt;
use futures_util::stream;
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options};
use meshproof_model::{Level, Report, Verdict, kills};
use meshproof_reference::{Saboteur, UnknownSaboteur};
use meshproof_render::text::plural;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::signals::watch_signals;
use crate::{Refusal, args, exit, runtime};

/// Which checks notice which saboteur.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillMatrix {
    /// Every check that was asked, by its full id.
    pub checks: BTreeSet<String>,
    /// By saboteur: the checks that did not pass.
    pub kills: BTreeMap<String, BTreeSet<String>>,
}

/// The matrix as last computed and kept in the repository; a test holds it to what a run shows.
pub const KEPT: &str = include_str!("../kill-matrix.json");

impl KillMatrix {
    /// The kept matrix.
    ///
    /// # Errors
    /// The file in the repository is broken.
    pub fn kept() -> Result<Self, Refusal> {
        serde_json::from_str(KEPT).map_err(|e| Refusal::Environment(format!("cli/kill-matrix.json: {e}")))
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
}

/// The saboteurs under which a check does not pass, from the kept matrix.
///
/// # Errors
/// The file in the repository is broken.
pub fn killers_of(check: &str) -> Result<Vec<String>, Refusal> {
    let matrix = KillMatrix::kept()?;
    Ok(matrix.kills.into_iter().filter(|(_, checks)| checks.contains(check)).map(|(s, _)| s).collect())
}

/// Becomes a reason when what runs is to stop.
pub type Interrupt = watch::Receiver<Option<String>>;

/// Runs every scenario on the reference, broken or whole.
///
/// # Errors
/// The run could not begin, or was cut short.
pub async fn run_one(saboteur: Option<Saboteur>, interrupt: Interrupt) -> Result<Report, Refusal> {
    let name = saboteur.map_or_else(|| "reference".to_owned(), |s| format!("reference:{s}"));
    let target = meshproof_targets::by_name(&name, &meshproof_targets::Settings::default())
        .map_err(|e| Refusal::Usage(e.to_string()))?;
    let options = Options {
        // The same server everywhere: the matrix must not depend on what is installed.
        external: ExternalChoice::Embedded,
        interrupt,
        command: format!("meshproof run --target {name} --external embedded"),
        repeat: format!("meshproof run --target {name} --external embedded"),
        ..Options::new(target, crate::run::everything()?)
    };
    let report = runner::run(options).await.map_err(|e| Refusal::Environment(e.to_string()))?;
    match report.run.partial_reason {
        Some(reason) => Err(cut_short(&reason)),
        None => Ok(report),
    }
}

fn cut_short(reason: &str) -> Refusal {
    Refusal::Environment(format!("there is no matrix: the runs were cut short ({reason})"))
}

/// Computes the matrix for these saboteurs.
///
/// # Errors
/// The whole reference does not pass every check, or a run showed a fault of the suite or was cut short: then the matrix
/// would say nothing.
pub async fn compute(
    saboteurs: &[Saboteur],
    interrupt: Interrupt,
    mut progress: impl FnMut(&str, &BTreeSet<String>),
) -> Result<KillMatrix, Refusal> {
    let whole = run_one(None, interrupt.clone()).await?;
    let missed = not_passed(&whole);
    if !missed.is_empty() {
        let missed: Vec<String> = missed.into_iter().collect();
        return Err(Refusal::Environment(format!(
            "the reference itself does not pass {}; `meshproof run --external embedded` shows why",
            missed.join(", ")
        )));
    }
    let mut matrix =
        KillMatrix { checks: whole.checks().map(|c| c.id.clone()).collect(), kills: BTreeMap::new() };
    let refused = OnceLock::new();
    let mut runs = stream::iter(saboteurs.iter().copied())
        .take_while(|_| std::future::ready(refused.get().is_none() && interrupt.borrow().is_none()))
        .map(|saboteur| {
            let run = run_one(Some(saboteur), interrupt.clone());
            async move { (saboteur, run.await) }
        })
        .buffer_unordered(2);
    // A run that was dropped would leave its folder: whatever one shows, the other is seen to its end.
    while let Some((saboteur, report)) = runs.next().await {
        match report.and_then(|report| noticed(saboteur, &report)) {
            Ok(noticed) => {
                progress(saboteur.name(), &noticed);
                matrix.kills.insert(saboteur.name().to_owned(), noticed);
            }
            Err(refusal) => {
                let _first_one_counts = refused.set(refusal);
            }
        }
    }
    drop(runs);
    let interrupted = interrupt.borrow().as_deref().map(cut_short);
    refused.into_inner().or(interrupted).map_or(Ok(matrix), Err)
}

/// The checks that noticed the saboteur.
fn noticed(saboteur: Saboteur, report: &Report) -> Result<BTreeSet<String>, Refusal> {
    match report.scenarios.iter().find_map(|s| s.faults.first().map(|f| (s.selector(), f))) {
        Some((scenario, fault)) => Err(Refusal::Environment(format!(
            "{saboteur}: {scenario}: a fault of the suite: {}",
            fault.message
        ))),
        None => Ok(not_passed(report)),
    }
}

fn not_passed(report: &Report) -> BTreeSet<String> {
    let wrong = |v: Verdict| match v {
        Verdict::Passed | Verdict::Skipped => false,
        Verdict::Failed | Verdict::Inconclusive | Verdict::Error => true,
    };
    report.checks().filter(|c| wrong(c.verdict)).map(|c| c.id.clone()).collect()
}

/// What is said of a saboteur that does not exist.
pub(crate) fn unknown(error: &UnknownSaboteur) -> String {
    format!("{error}\n`meshproof sabotage --list` shows all of them")
}

/// Runs the saboteurs that the command line asks for and shows who noticed.
///
/// # Errors
/// A saboteur is unknown, or the matrix could not be computed.
pub fn command(args: &args::Sabotage) -> Result<u8, Refusal> {
    if args.list {
        let list: String =
            Saboteur::ALL.iter().map(|s| format!("{:<36} {}\n", s.name(), s.description())).collect();
        crate::answer(&list);
        return Ok(exit::OK);
    }
    let mut saboteurs = Vec::new();
    for name in &args.saboteurs {
        saboteurs.push(name.parse::<Saboteur>().map_err(|e| Refusal::Usage(unknown(&e)))?);
    }
    let whole = saboteurs.is_empty();
    if whole {
        saboteurs.extend(Saboteur::ALL);
    }
    let matrix = runtime()?.block_on(async {
        let (interrupt, interrupted) = watch::channel(None);
        let watching = tokio::spawn(watch_signals(interrupt, |reason| {
            crate::complain(&format!("stopping: {reason}; taking down what runs"));
        }));
        let matrix = compute(&saboteurs, interrupted, |name, noticed| {
            if !args.json {
                let _unshown = writeln!(Stderr, "{name}: noticed by {}", plural(noticed.len(), "check"));
            }
        });
        let matrix = matrix.await;
        watching.abort();
        matrix
    })?;
    let text = if args.json {
        let text = serde_json::to_string_pretty(&matrix);
        text.map_err(|e| Refusal::Environment(format!("the matrix cannot be put into JSON: {e}")))? + "\n"
    } else {
        as_text(&matrix, whole)
    };
    crate::answer(&text);
    if let Some(file) = &args.html {
        let page = meshproof_render::html::kill_matrix(&as_model(&matrix, whole));
        crate::output::write_file(file, page.as_bytes(), "another file with --html FILE")?;
    }
    let gap = !matrix.unnoticed().is_empty() || (whole && !matrix.idle_checks().is_empty());
    Ok(if gap { exit::FAILED } else { exit::OK })
}

/// The matrix with what its names mean, as the page takes it.
#[must_use]
pub fn as_model(matrix: &KillMatrix, whole: bool) -> kills::KillMatrix {
    let of = |id: &str| {
        let (scenario, check) = id.split_once('/')?;
        meshproof_scenarios::ALL.iter().find(|s| s.id == scenario)?.check(check)
    };
    kills::KillMatrix {
        checks: matrix
            .checks
            .iter()
            .map(|id| kills::KillCheck {
                id: id.clone(),
                level: of(id).map_or(Level::Must, |c| c.level),
                requirement: of(id).map(|c| c.requirement.to_owned()).unwrap_or_default(),
            })
            .collect(),
        saboteurs: matrix
            .kills
            .keys()
            .map(|name| kills::KillSaboteur {
                name: name.clone(),
                description: name.parse::<Saboteur>().map(|s| s.description().to_owned()).unwrap_or_default(),
            })
            .collect(),
        whole,
        kills: matrix.kills.clone(),
    }
}

/// For people: a row a check, a column a saboteur.
#[must_use]
pub fn as_text(matrix: &KillMatrix, whole: bool) -> String {
    let mut text = String::from(
        "The kill matrix: a row a check, a column a saboteur, # where the check notices it.\n\n",
    );
    for (number, (saboteur, kills)) in matrix.kills.iter().enumerate() {
        let _infallible = writeln!(text, "{:>4} {saboteur}: {} checks", number + 1, kills.len());
    }
    let widest = matrix.checks.iter().map(String::len).max().unwrap_or(0);
    text.push('\n');
    for digit in [10, 1] {
        let _infallible = write!(text, "{:widest$} ", "");
        for number in 1..=matrix.kills.len() {
            let _infallible = write!(text, "{}", number / digit % 10);
        }
        text.push('\n');
    }
    for check in &matrix.checks {
        let row: String = matrix.kills.values().map(|k| if k.contains(check) { '#' } else { '.' }).collect();
        let _infallible = writeln!(text, "{check:widest$} {row}");
    }
    let mut gap = |what: &str, names: Vec<&str>| {
        if !names.is_empty() {
            let _infallible = writeln!(text, "\n{what}: {}", names.join(", "));
        }
    };
    gap("Saboteurs that no check notices", matrix.unnoticed());
    if whole {
        gap("Checks that notice no saboteur", matrix.idle_checks());
    }
    text
}

struct Stderr;

impl std::fmt::Write for Stderr {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        std::io::Write::write_all(&mut std::io::stderr(), s.as_bytes()).map_err(|_| std::fmt::Error)
    }
}
