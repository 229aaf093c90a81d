//! `meshproof sabotage`: computes the kill matrix. It runs the scenarios on the reference with one known defect after the
//! other. A check that then does not pass has noticed the defect.

use std::collections::BTreeSet;
use std::io::{Write, stderr};
use std::sync::OnceLock;

use futures_util::StreamExt;
use futures_util::stream;
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options, Selected};
use meshproof_harness::traffic::{Budget, Traffic};
use meshproof_model::{Level, Report, Verdict};
use meshproof_reference::{Variant, VariantKind};
use meshproof_render::text::plural;
use meshproof_targets::Settings;
use tokio::sync::watch;

use crate::args;
use crate::exit::{self, Refusal};
use crate::kill_matrix::KillMatrix;
use crate::output::{answer, complain, write_file};
use crate::runtime::runtime;
use crate::signals::watch_signals;
use crate::suite::Suite;
use crate::target::{target, unknown_saboteur};
/// Set to a reason when the runs must stop.
pub type Interrupt = watch::Receiver<Option<String>>;

/// Which scenarios run with each saboteur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Everything,
    /// The scenarios in which a check notices it by the matrix that is kept: first the configurations of the smallest one, one by one,
    /// until one of them notices it. Takes a fraction of the time.
    Representative,
}

/// The scenarios that stand for all where each benign variant is run: a sidecar and an egress gateway, redirects, passed-through and
/// originated TLS, the access log of both, and changes of the configuration.
const REPRESENTATIVE: &[&str] = &["sidecar-origination", "egress-gateway-simple"];

/// What runs with this defect or without one, in groups: a group runs only if the ones before it noticed nothing. A defect of the proxies
/// at one placement shows only where there is such a proxy.
fn groups(suite: Suite, variant: Option<Variant>, scope: Scope) -> Result<Vec<Vec<Selected>>, Refusal> {
    let mut selection = suite.select(&[], false)?;
    if let Some(placement) = variant.and_then(Variant::placement) {
        selection.retain(|s| placement.is_in(s.scenario.topology_of(s.configuration)));
    }
    let Some(variant) = variant.filter(|_| scope == Scope::Representative) else {
        return Ok(vec![selection]);
    };
    if variant.kind() == VariantKind::Benign {
        selection.retain(|s| REPRESENTATIVE.contains(&s.scenario.id()));
        return Ok(vec![selection]);
    }
    let kills = KillMatrix::kept()?.kills.get(variant.name());
    let notices = |id: &str| kills.into_iter().flatten().any(|check| check.split('/').next() == Some(id));
    let noticing = selection.iter().filter(|s| notices(s.scenario.id()));
    let smallest = noticing.min_by_key(|s| s.scenario.catalogue.configurations.len());
    let Some(id) = smallest.map(|s| s.scenario.id()) else { return Ok(vec![selection]) };
    let noticing = |check: &&String| kills.into_iter().flatten().any(|kill| kill == *check);
    let (its_own, others): (Vec<Selected>, Vec<Selected>) = selection
        .into_iter()
        .filter(|s| notices(s.scenario.id()))
        .map(|s| {
            let all = s.scenario.catalogue.checks_in(s.configuration);
            let name = |id: String| id.split_once('/').map(|(_, name)| name.to_owned()).unwrap_or_default();
            let ids = all.map(|c| s.scenario.catalogue.check_id(c)).collect::<Vec<_>>();
            let checks = ids.iter().filter(noticing).cloned().map(name).collect();
            Selected { checks: Some(checks), ..s }
        })
        .partition(|s| s.scenario.id() == id);
    Ok(its_own.into_iter().map(|s| vec![s]).chain([others]).filter(|group| !group.is_empty()).collect())
}

/// Runs this selection on the reference, with this defect or without one.
async fn run_one(
    suite: Suite,
    variant: Option<Variant>,
    interrupt: Interrupt,
    selection: Vec<Selected>,
) -> Result<Report, Refusal> {
    let name = variant.map_or_else(|| "reference".to_owned(), |s| format!("reference:{s}"));
    let command = format!("{} run --target {name} --external embedded", suite.program);
    let options = Options {
        // The same server everywhere: the matrix must not depend on what is installed.
        external: ExternalChoice::Embedded,
        interrupt,
        command: command.clone(),
        repeat: command,
        // Only the verdicts count here, and a fault of this kind shows in every few exchanges.
        traffic: Traffic { shrink: false, budget: Budget::Exchanges(96), ..Traffic::default() },
        ..Options::new(target(&name, &Settings::default())?, selection)
    };
    let report = runner::run(options).await.map_err(|e| Refusal::Environment(e.to_string()))?;
    match report.run.partial_reason {
        Some(reason) => Err(interrupted(&reason)),
        None => Ok(report),
    }
}

fn interrupted(reason: &str) -> Refusal {
    Refusal::Environment(format!("The kill matrix was not computed: the runs were interrupted ({reason})"))
}

/// Computes the matrix for these saboteurs and benign variants.
///
/// # Errors
/// The reference without a defect does not pass every check, a run had a fault of the suite, or the runs were interrupted.
/// In each case the matrix would not be valid.
pub async fn compute(
    suite: Suite,
    saboteurs: &[Variant],
    interrupt: Interrupt,
    scope: Scope,
    mut progress: impl FnMut(&str, &BTreeSet<String>),
) -> Result<KillMatrix, Refusal> {
    let every = groups(suite, None, scope)?.concat();
    let sound = run_one(suite, None, interrupt.clone(), every).await?;
    let missed = not_passed(&sound);
    if !missed.is_empty() {
        let missed: Vec<String> = missed.into_iter().collect();
        return Err(Refusal::Environment(format!(
            "The kill matrix was not computed: the reference without a defect does not pass {}. `{} run --external embedded` \
             shows why",
            missed.join(", "),
            suite.program
        )));
    }
    let mut matrix =
        KillMatrix { checks: sound.checks().map(|c| c.id.clone()).collect(), ..KillMatrix::default() };
    let refused = OnceLock::new();
    let mut runs = stream::iter(saboteurs.iter().copied())
        .take_while(|_| std::future::ready(refused.get().is_none() && interrupt.borrow().is_none()))
        .map(|saboteur| {
            let interrupt = interrupt.clone();
            async move {
                let first = judged(suite, saboteur, interrupt.clone(), scope).await;
                // One fault of a busy machine among hundreds of runs must not lose the others.
                let again = first.is_err() && interrupt.borrow().is_none();
                let result = if again { judged(suite, saboteur, interrupt, scope).await } else { first };
                (saboteur, result)
            }
        })
        .buffer_unordered(2);
    // A run that is dropped leaves its folder behind. So when one run is refused, the other one is awaited.
    while let Some((saboteur, result)) = runs.next().await {
        match result {
            Ok((noticed, causes)) => {
                if saboteur.kind() == VariantKind::Saboteur {
                    matrix.causes.insert(saboteur.name().to_owned(), causes);
                }
                progress(saboteur.name(), &noticed);
                let of_its_kind = match saboteur.kind() {
                    VariantKind::Saboteur => &mut matrix.kills,
                    VariantKind::Benign => &mut matrix.benign,
                };
                of_its_kind.insert(saboteur.name().to_owned(), noticed);
            }
            Err(refusal) => {
                let _first_one_counts = refused.set(refusal);
            }
        }
    }
    drop(runs);
    let stopped = interrupt.borrow().as_deref().map(interrupted);
    refused.into_inner().or(stopped).map_or(Ok(matrix), Err)
}

/// The checks that noticed the saboteur, and the causes that they name.
async fn judged(
    suite: Suite,
    saboteur: Variant,
    interrupt: Interrupt,
    scope: Scope,
) -> Result<(BTreeSet<String>, BTreeSet<String>), Refusal> {
    let mut result = (BTreeSet::new(), BTreeSet::new());
    for selection in groups(suite, Some(saboteur), scope)? {
        let report = run_one(suite, Some(saboteur), interrupt.clone(), selection).await?;
        result = (noticed(saboteur, &report)?, report.symptoms().causes);
        if !result.0.is_empty() {
            break;
        }
    }
    Ok(result)
}

/// The checks that noticed the saboteur.
fn noticed(saboteur: Variant, report: &Report) -> Result<BTreeSet<String>, Refusal> {
    match report.scenarios.iter().find_map(|s| s.faults.first().map(|f| (s.selector(), f))) {
        Some((scenario, fault)) => Err(Refusal::Environment(format!(
            "The kill matrix was not computed: with {saboteur}, {scenario} had a fault of the suite: {}",
            fault.message
        ))),
        None => Ok(match saboteur.kind() {
            VariantKind::Saboteur => not_passed(report),
            VariantKind::Benign => {
                let must = |id: &String| report.checks().any(|c| c.id == *id && c.level == Level::Must);
                not_passed(report).into_iter().filter(must).collect()
            }
        }),
    }
}

fn not_passed(report: &Report) -> BTreeSet<String> {
    let not_passed = |v: Verdict| match v {
        Verdict::Passed | Verdict::Skipped => false,
        Verdict::Failed | Verdict::Inconclusive | Verdict::Error => true,
    };
    report.checks().filter(|c| not_passed(c.verdict)).map(|c| c.id.clone()).collect()
}

/// Runs the saboteurs of the command line and shows which checks noticed them.
///
/// # Errors
/// There is no such saboteur, or the matrix was not computed.
pub fn command(suite: Suite, args: &args::Sabotage) -> Result<u8, Refusal> {
    if args.list {
        let listed = |v: Variant| format!("{:<36} {}\n", v.name(), v.description());
        let saboteurs: String = Variant::saboteurs().map(listed).collect();
        let benign: String = Variant::benign().map(listed).collect();
        answer(&format!("{saboteurs}\nBenign variants, which must pass every MUST:\n\n{benign}"));
        return Ok(exit::OK);
    }
    let mut saboteurs = Vec::new();
    for name in &args.saboteurs {
        saboteurs.push(name.parse::<Variant>().map_err(|e| unknown_saboteur(&e))?);
    }
    let whole = saboteurs.is_empty();
    if whole {
        saboteurs.extend(Variant::saboteurs().chain(Variant::benign()));
    }
    let matrix = runtime()?.block_on(async {
        let (interrupt, interrupted) = watch::channel(None);
        let watching = tokio::spawn(watch_signals(interrupt, |reason| {
            complain(&format!("stopping after {reason}: taking the running scenarios down"));
        }));
        let matrix = compute(suite, &saboteurs, interrupted, Scope::Everything, |name, noticed| {
            if !args.json {
                let benign = name.parse::<Variant>().is_ok_and(|v| v.kind() == VariantKind::Benign);
                let outcome = if benign { "failed" } else { "noticed" };
                let _unshown = writeln!(stderr(), "{name}: {outcome} by {}", plural(noticed.len(), "check"));
            }
        });
        let matrix = matrix.await;
        watching.abort();
        matrix
    })?;
    let text = if args.json {
        let text = serde_json::to_string_pretty(&matrix);
        text.map_err(|e| Refusal::Environment(format!("the matrix cannot be written as JSON: {e}")))? + "\n"
    } else {
        matrix.as_text(whole)
    };
    answer(&text);
    if let Some(file) = &args.html {
        let page = meshproof_render::html::kill_matrix(&matrix.as_model(suite.scenarios, whole));
        write_file(file, page.as_bytes(), "--html FILE")?;
    }
    let gap = !matrix.unnoticed().is_empty()
        || !matrix.false_alarms().is_empty()
        || (whole && !matrix.idle_checks().is_empty());
    Ok(if gap { exit::FAILED } else { exit::OK })
}
