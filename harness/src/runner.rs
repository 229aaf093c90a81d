//! Runs scenarios concurrently and creates the report.

mod blame;
mod error;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use futures_util::FutureExt;
use meshproof_model::{
    CheckResult, Document, Event, Implementation, Report, Run, SCHEMA, ScenarioResult, SuiteFault, Timing,
    Verdict,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::blame::{blame, panic_words, skipped};
pub use self::error::RunError;
use crate::certificates::Authority;
use crate::external::ExternalChoice;
use crate::feature;
use crate::mesh::{Events, Finished, Mesh, Setting, Stop, Unreached, micros};
use crate::scenario::Scenario;
use crate::store::Store;
use crate::target::{Seat, Target, TargetError};
use crate::timeouts::{Timeout, Timeouts};
use crate::trace::Trace;
use crate::traffic::Traffic;
use crate::turn::Turn;

/// One scenario configuration to run.
#[derive(Clone)]
pub struct Selected {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// One of its configurations.
    pub configuration: &'static str,
    /// The checks to judge, by name; absent: all.
    pub checks: Option<Vec<String>>,
}

/// How to run.
pub struct Options {
    /// How the implementation is reached.
    pub target: Arc<dyn Target>,
    /// What runs, in the order of the report.
    pub selection: Vec<Selected>,
    /// Which kind of external service to use.
    pub external: ExternalChoice,
    /// The number of scenarios that run concurrently, unless they must run one after another ([`Target::one_at_a_time`]). None: as
    /// many as suit the target ([`Target::side_by_side`]).
    pub jobs: Option<usize>,
    /// Stop at the first check that fails the run.
    pub fail_fast: bool,
    /// Keep the run's folder.
    pub keep: bool,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// Where the run's folder is created.
    pub work: PathBuf,
    /// Manifests that replace the built-in ones of the same name.
    pub fixtures: Option<PathBuf>,
    /// The authority of servers outside the mesh; absent: one is generated for the run.
    pub public: Option<Arc<Authority>>,
    /// Where each configuration gets a folder with its trace; absent: none is written.
    pub trace: Option<PathBuf>,
    /// Takes events as they happen.
    pub events: Events,
    /// Becomes the reason when the run must stop.
    pub interrupt: watch::Receiver<Option<String>>,
    /// The command that repeats the run.
    pub command: String,
    /// The command that repeats a check, to which its selector is added.
    pub repeat: String,
    /// What the report calls the implementation; absent: as it calls itself.
    pub name: Option<String>,
    /// How much traffic scenarios generate, and from which seed.
    pub traffic: Traffic,
}

impl Options {
    /// The whole selection runs concurrently, with the built-in manifests and timeouts, without events and without
    /// interruption.
    #[must_use]
    pub fn new(target: Arc<dyn Target>, selection: Vec<Selected>) -> Self {
        // The sender is dropped, so no reason ever arrives.
        let (_nobody, interrupt) = watch::channel(None);
        Self {
            target,
            jobs: None,
            selection,
            external: ExternalChoice::default(),
            fail_fast: false,
            keep: false,
            timeouts: Timeouts::default(),
            work: std::env::temp_dir(),
            fixtures: None,
            public: None,
            trace: None,
            events: Arc::new(|_| {}),
            interrupt,
            command: String::new(),
            repeat: String::new(),
            name: None,
            traffic: Traffic::default(),
        }
    }
}

/// The seat of targets that have only one. It belongs to the process and not to the run, because tests run scenarios
/// concurrently, each as a run of its own.
static ONE_AT_A_TIME: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// Runs the selection and returns the report.
///
/// # Errors
/// The run could not begin: nothing was judged.
pub async fn run(options: Options) -> Result<Report, RunError> {
    let begun = Instant::now();
    let started = jiff::Timestamp::now();
    let id = crate::run_folder::new_run_id();
    let mut implementation = options.target.identify().await.map_err(|e| match e {
        TargetError::Gone(words) => RunError::Implementation(words),
        TargetError::Refused(_)
        | TargetError::Unsupported(_)
        | TargetError::Unable(_)
        | TargetError::TimedOut { .. }
        | TargetError::Environment(_) => RunError::Target(e.to_string()),
    })?;
    if let Some(name) = &options.name {
        implementation.name.clone_from(name);
    }
    let implementation = Arc::new(implementation);
    let before = options.target.before(&id).await.map_err(|e| RunError::Target(e.to_string()))?;
    let folder = crate::run_folder::create(&options.work, &id)
        .map_err(|source| RunError::Folder { path: options.work.clone(), source })?;
    let public = match &options.public {
        Some(kept) => Arc::clone(kept),
        None => Arc::new(Authority::public().map_err(|e| RunError::Certificates(e.to_string()))?),
    };
    (options.events)(Event::RunStarted {
        implementation: format!("{} {}", implementation.name, implementation.version),
        scenarios: options.selection.len(),
        checks: options.selection.iter().map(|s| selected_checks(s).count()).sum(),
    });
    let all = options.selection.len();
    let jobs = options.jobs.or_else(|| options.target.side_by_side()).unwrap_or(all).min(all).max(1);
    let seats = match options.target.one_at_a_time() {
        None => Arc::new(Semaphore::new(jobs)),
        Some(reason) => {
            if jobs > 1 {
                (options.events)(Event::OneAtATime { reason });
            }
            Arc::clone(&ONE_AT_A_TIME)
        }
    };
    let failed = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(Shared { options, id: id.clone(), implementation, public, folder, failed, seats });
    let mut running = JoinSet::new();
    let mut places = HashMap::new();
    // A scenario that rests meanwhile costs the least time at the beginning.
    let mut order: Vec<(usize, Selected)> = shared.options.selection.iter().cloned().enumerate().collect();
    order.sort_by_key(|(_, selected)| !selected.scenario.rests);
    for (place, selected) in order {
        // Only one that has not begun waits at a time, so one that has rested goes on before most others begin.
        let turn = tokio::select! {
            biased;
            reason = interrupted(shared.options.interrupt.clone()) => Err(reason),
            turn = Turn::wait(&shared.seats, shared.options.target.one_at_a_time().is_none()) => Ok(turn),
        };
        let shared = Arc::clone(&shared);
        let task = running.spawn(async move {
            let result = match turn {
                Ok(turn) => one(&shared, selected, turn).await,
                Err(reason) => unreached(&shared, &selected, &cut_short(&reason)),
            };
            (shared.options.events)(Event::ScenarioFinished { result: Box::new(result.clone()) });
            result
        });
        places.insert(task.id(), place);
    }
    let mut finished = BTreeMap::new();
    while let Some(joined) = running.join_next_with_id().await {
        let (task, result) = match joined {
            Ok((task, result)) => (task, Ok(result)),
            Err(e) => (e.id(), Err(e)),
        };
        let Some(place) = places.get(&task).copied() else { continue };
        let result = result.unwrap_or_else(|e| {
            // `one` catches a scenario's panics. This is a panic of the suite, which must not lose the other results.
            let reason = format!("the suite panicked: {e}");
            unreached(
                &shared,
                &shared.options.selection[place],
                &Unreached {
                    verdict: Verdict::Error,
                    reason: reason.clone(),
                    fault: Some(reason),
                    feature: None,
                    deviations: Vec::new(),
                },
            )
        });
        finished.insert(place, result);
    }
    let mut scenarios: Vec<ScenarioResult> = finished.into_values().collect();
    let mut implementation = Implementation::clone(&shared.implementation);
    implementation.details.extend(before);
    if shared.options.external == ExternalChoice::Live {
        implementation.details.insert("hosts".to_owned(), "the documents' own (--live)".to_owned());
    }
    implementation.details.extend(look_after(&shared, &mut scenarios).await);
    // Only now: until then the target may still need what is in it, for example to find what an interrupted instance left.
    if shared.options.keep {
        (shared.options.events)(Event::FolderKept { folder: shared.folder.display().to_string() });
    } else {
        crate::run_folder::remove(&shared.folder);
    }
    let interrupted = shared.options.interrupt.borrow().clone();
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        run: Run {
            id,
            meshproof: env!("CARGO_PKG_VERSION").to_owned(),
            started: format!("{started:.0}"),
            duration_us: micros(begun.elapsed()),
            partial: interrupted.is_some(),
            partial_reason: interrupted,
            shard: None,
            command: shared.options.command.clone(),
        },
        implementation,
        scenarios,
        causes: Vec::new(),
        diagnosis: None,
    };
    report.derive_causes();
    Ok(report)
}

/// Everything that the run left is the suite's fault, and is reported at the scenario that made it.
async fn look_after(shared: &Shared, scenarios: &mut [ScenarioResult]) -> BTreeMap<String, String> {
    let mut fault = |seat: &str, message: String| {
        let made_by =
            scenarios.iter().position(|s| seat_name(&s.id, &s.configuration) == seat).unwrap_or_default();
        if let Some(scenario) = scenarios.get_mut(made_by) {
            scenario.faults.push(SuiteFault { message, step: None });
        }
    };
    match shared.options.target.after(&shared.id, shared.options.keep).await {
        Ok(aftermath) => {
            for left in aftermath.left {
                fault(&left.seat, format!("left behind: {}", left.what));
            }
            aftermath.notes
        }
        Err(e) => {
            fault("", format!("the suite could not find out what the run left behind: {e}"));
            BTreeMap::new()
        }
    }
}

fn seat_name(scenario: &str, configuration: &str) -> String {
    format!("{scenario}-{configuration}")
}

struct Shared {
    options: Options,
    id: String,
    implementation: Arc<Implementation>,
    public: Arc<Authority>,
    folder: PathBuf,
    failed: Arc<AtomicBool>,
    seats: Arc<Semaphore>,
}

fn selected_checks(selected: &Selected) -> impl Iterator<Item = &'static crate::catalogue::Check> {
    let only = selected.checks.clone();
    let checks = selected.scenario.catalogue.checks_in(selected.configuration);
    checks.filter(move |c| only.as_ref().is_none_or(|only| only.contains(&c.id)))
}

/// A result in which no check was reached.
fn unreached(shared: &Shared, selected: &Selected, why: &Unreached) -> ScenarioResult {
    let checks = selected_checks(selected)
        .map(|check| CheckResult {
            id: selected.scenario.catalogue.check_id(check),
            level: check.level,
            control: check.control,
            verdict: why.verdict,
            reason: why.finding(check).reason(),
            requirement: check.requirement.clone(),
            section: check.section.clone(),
            expected: check.requirement.clone(),
            seen: why.reason.clone(),
            evidence: Vec::new(),
            control_evidence: Vec::new(),
            differences: Vec::new(),
            deviations: why.deviations.clone(),
            expected_failure: None,
            feature: why.feature.or_else(|| check.features.first().copied()).map(Into::into),
            repeat: format!(
                "{} {}:{}/{}",
                shared.options.repeat,
                selected.scenario.id(),
                selected.configuration,
                check.id
            ),
        })
        .collect();
    let faults = why.fault.iter().map(|m| SuiteFault { message: m.clone(), step: None }).collect();
    let finished = Finished {
        checks,
        steps: Vec::new(),
        externals: Vec::new(),
        evidence: Vec::new(),
        timing: Timing::default(),
        faults,
    };
    assemble(selected, finished)
}

/// Why no check of the selection can be judged here, if that is known before anything is started.
fn without_a_check(shared: &Shared, selected: &Selected) -> Option<Unreached> {
    let needs = selected.scenario.needs(selected.configuration);
    if let Some(why) = shared.options.target.unfit_for(needs) {
        return Some(blame(Stop::Target(TargetError::Unable(why)), &[]));
    }
    let declared = &shared.implementation.features;
    // The ledger's check is about the requests of the others.
    let others = selected_checks(selected).filter(|check| check.id != crate::ledger::CHECK);
    let missing: Vec<Option<feature::Feature>> =
        others.map(|check| feature::missing(check.features.iter().copied(), declared)).collect();
    let feature = (*missing.first()?)?;
    missing.iter().all(Option::is_some).then(|| {
        let why = skipped(feature::why_skipped(feature, &shared.implementation));
        Unreached { feature: Some(feature), ..why }
    })
}

fn assemble(selected: &Selected, finished: Finished) -> ScenarioResult {
    let catalogue = &selected.scenario.catalogue;
    ScenarioResult {
        id: catalogue.id.clone(),
        configuration: selected.configuration.to_owned(),
        title: catalogue.title.clone(),
        proves: Some(catalogue.proves.clone()).filter(|text| !text.is_empty()),
        source: selected.scenario.source.clone(),
        document: Document { title: catalogue.document.clone(), url: catalogue.url.clone() },
        checks: finished.checks,
        external_services: finished.externals,
        steps: finished.steps,
        evidence: finished.evidence,
        timing: finished.timing,
        faults: finished.faults,
    }
}

/// Resolves when the run is asked to stop, with the reason.
async fn interrupted(mut interrupt: watch::Receiver<Option<String>>) -> String {
    let reason = interrupt.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        // No sender is left that could ask.
        None => std::future::pending().await,
    }
}

fn cut_short(reason: &str) -> Unreached {
    skipped(format!("not judged: the run was interrupted ({reason})"))
}

async fn one(shared: &Shared, selected: Selected, turn: Turn) -> ScenarioResult {
    let options = &shared.options;
    if options.fail_fast && shared.failed.load(Ordering::Relaxed) {
        return unreached(shared, &selected, &blame(Stop::FailFast, &[]));
    }
    let scenario = selected.scenario;
    if options.external == ExternalChoice::Live && scenario.catalogue.live.is_empty() {
        let words =
            format!("{} uses no host on the internet, so it cannot be run with --live", scenario.id());
        return unreached(shared, &selected, &blame(Stop::Suite(words), &[]));
    }
    let declared = &shared.implementation.features;
    if let Some(feature) = feature::missing(scenario.catalogue.needs(selected.configuration), declared) {
        let why = skipped(feature::why_skipped(feature, &shared.implementation));
        return unreached(shared, &selected, &Unreached { feature: Some(feature), ..why });
    }
    if let Some(why) = without_a_check(shared, &selected) {
        return unreached(shared, &selected, &why);
    }
    let selector = format!("{}:{}", scenario.id(), selected.configuration);
    (options.events)(Event::ScenarioStarted { scenario: selector });
    let name = seat_name(scenario.id(), selected.configuration);
    let trace = match options.trace.as_deref().map(|folder| Trace::create(folder, &name)).transpose() {
        Ok(trace) => trace.unwrap_or_default(),
        Err(e) => {
            let words =
                format!("the folder of the trace cannot be made: {e}. Choose another one with --trace DIR");
            return unreached(shared, &selected, &blame(Stop::Suite(words), &[]));
        }
    };
    let store = Store::traced(trace.clone()).with_room_for(selected_checks(&selected).count());
    let seat = Seat {
        run: shared.id.clone(),
        folder: shared.folder.join(&name),
        name,
        topology: scenario.topology_of(selected.configuration).clone(),
        store: store.clone(),
        timeouts: options.timeouts.clone(),
        external: options.external,
        keep: options.keep,
        public_roots: shared.public.certificate_pem().into(),
    };
    let starting = async {
        let started = options.target.start(seat.clone());
        let Some(limit) = options.target.starts_within(&options.timeouts) else { return started.await };
        tokio::time::timeout(limit, started).await.unwrap_or_else(|_| {
            // A process that exits or breaks its contract is reported as such. A slow start may be the fault of a busy machine.
            Err(TargetError::Environment(format!(
                "Timed out after {limit:?} waiting for the implementation to start. If this machine is busy, run again, \
                 or allow more time with --timeout implementation-ready=DURATION"
            )))
        })
    };
    let started = tokio::select! {
        biased;
        reason = interrupted(options.interrupt.clone()) => return unreached(shared, &selected, &cut_short(&reason)),
        started = starting => started,
    };
    let instance = match started {
        Ok(instance) => instance,
        Err(e) => {
            return unreached(shared, &selected, &blame(Stop::Target(e), &shared.implementation.features));
        }
    };
    let setup_us = store.now_us();
    let mesh = Mesh::new(
        Setting {
            catalogue: &scenario.catalogue,
            manifests: &scenario.fixtures,
            configuration: selected.configuration,
            seat,
            implementation: Arc::clone(&shared.implementation),
            public: Arc::clone(&shared.public),
            replacements: options.fixtures.clone(),
            only_checks: selected.checks.clone(),
            fail_fast: options.fail_fast,
            events: Arc::clone(&options.events),
            repeat: options.repeat.clone(),
            traffic: options.traffic,
            turn: Arc::new(turn),
        },
        instance,
    );
    let limit = options.timeouts.get(Timeout::Scenario);
    let stop = tokio::select! {
        biased;
        reason = interrupted(options.interrupt.clone()) => Some(cut_short(&reason)),
        told = tokio::time::timeout(limit, AssertUnwindSafe(scenario.tell(&mesh)).catch_unwind()) => match told {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(stop))) => Some(blame(stop, &shared.implementation.features)),
            Ok(Err(panic)) => {
                let message = format!("the scenario panicked: {}", panic_words(panic.as_ref()));
                Some(Unreached { verdict: Verdict::Error, reason: message.clone(), fault: Some(message), feature: None, deviations: Vec::new() })
            }
            Err(_) => {
                let message = format!("Timed out after {limit:?} waiting for the scenario to end; --timeout scenario=DURATION sets another limit");
                Some(Unreached { verdict: Verdict::Error, reason: message.clone(), fault: Some(message), feature: None, deviations: Vec::new() })
            }
        },
    };
    let mut finished = mesh.finish(stop).await;
    finished.faults.extend(
        trace.problem().map(|problem| SuiteFault {
            message: format!("the trace is not complete: {problem}"),
            step: None,
        }),
    );
    // The scenario creates certificates and external services in its first step: time that is neither convergence nor
    // requests is setup.
    let t = &mut finished.timing;
    t.setup_us = setup_us.max(
        t.total_us
            .saturating_sub(t.convergence_us)
            .saturating_sub(t.requests_us)
            .saturating_sub(t.teardown_us),
    );
    if finished.checks.iter().any(CheckResult::fails_run) {
        shared.failed.store(true, Ordering::Relaxed);
    }
    assemble(&selected, finished)
}
