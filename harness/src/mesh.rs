//! The mesh that a scenario function uses, as a reader of the document knows it. Every operation goes to the target;
//! every observation goes into the evidence.

mod changes;
mod client;
mod finish;
mod generated;
mod handles;
mod live;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshproof_model::{
    CheckResult, Event, ExternalService, Fact, Implementation, Side, Step, SuiteFault, Timing,
};

use crate::catalogue::{Catalogue, Check};
use crate::certificates::{Authority, CertificateError};
use crate::claim::{Claim, Finding, Server, ServerPlace, Upstream, View, deviation};
use crate::feature::{self, Feature};
use crate::fixtures::Fixtures;
use crate::ledger::{Ledger, Period};
use crate::manifest::ManifestError;
use crate::target::{Instance, Probe, Seat, TargetError};
use crate::timeouts::Timeout;
use crate::token::Tokens;
use crate::traffic::Traffic;
use crate::turn::Turn;
use crate::workload::RequestSpec;

pub use client::Client;
pub use finish::RUNS_UNTIL_STOPPED;
pub(crate) use finish::{Finished, Unreached};
pub use generated::Generated;
pub use handles::{External, Proxy};

/// Why a scenario ends before its last step. The variant decides the verdict of the checks that were not reached.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The target reported an error.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The suite itself could not continue, because of a broken fixture or a certificate that could not be created.
    #[error("{0}")]
    Suite(String),
    /// A check failed and the run was asked to stop at the first.
    #[error("an earlier check failed, and --fail-fast is set")]
    FailFast,
}

impl From<ManifestError> for Stop {
    fn from(e: ManifestError) -> Self {
        Self::Suite(e.to_string())
    }
}

impl From<CertificateError> for Stop {
    fn from(e: CertificateError) -> Self {
        Self::Suite(format!("a certificate could not be created: {e}"))
    }
}

/// Takes events as they happen.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// What the runner passes to a mesh.
pub(crate) struct Setting {
    pub(crate) catalogue: &'static Catalogue,
    pub(crate) manifests: &'static Fixtures,
    pub(crate) configuration: &'static str,
    pub(crate) seat: Seat,
    pub(crate) implementation: Arc<Implementation>,
    pub(crate) public: Arc<Authority>,
    /// A folder of fixture folders. A manifest in the scenario's folder there replaces the scenario's own of the same name.
    pub(crate) replacements: Option<PathBuf>,
    pub(crate) only_checks: Option<Vec<String>>,
    pub(crate) fail_fast: bool,
    pub(crate) events: Events,
    pub(crate) repeat: String,
    pub(crate) traffic: Traffic,
    pub(crate) turn: Arc<Turn>,
}

/// The mesh of one scenario.
pub struct Mesh {
    setting: Setting,
    instance: Box<dyn Instance>,
    tokens: Tokens,
    state: Mutex<State>,
}

/// A check that the story has judged.
#[derive(Clone)]
struct JudgedCheck {
    check: &'static Check,
    claim: Claim,
    /// Whether all evidence until then was kept.
    complete: bool,
}

#[derive(Default)]
struct State {
    judged: Vec<JudgedCheck>,
    marks: Vec<usize>,
    changes: Vec<usize>,
    steps: Vec<Step>,
    timing: Timing,
    externals: Vec<ExternalService>,
    /// The real hosts among them: what they receive cannot be observed.
    unobserved: Vec<String>,
    faults: Vec<SuiteFault>,
    ledger: Ledger,
}

impl Mesh {
    pub(crate) fn new(setting: Setting, instance: Box<dyn Instance>) -> Self {
        let tokens = Tokens::new(format!("{}-{}", setting.seat.run, setting.seat.name));
        let ledger = Ledger {
            features: setting.implementation.features.clone(),
            mesh_services: setting.seat.topology.served_hosts().collect(),
            // Used only where a target works out what the configuration promises, and such a target runs on this machine.
            started: Some(setting.seat.store.started_at()),
            ..Ledger::default()
        };
        let state = Mutex::new(State { ledger, ..State::default() });
        let mesh = Self { setting, instance, tokens, state };
        mesh.configured(0, 0);
        mesh
    }

    /// Notes what the configuration promises since a change to it.
    fn configured(&self, begun_us: u64, settled_us: u64) {
        let forecast = self.instance.forecast();
        self.state().ledger.periods.push(Period { begun_us, settled_us, forecast });
    }

    /// Makes a change to what the implementation does, and notes from when on it is in force.
    async fn changing<T>(&self, work: impl Future<Output = T>) -> T {
        let begun_us = self.setting.seat.store.now_us();
        let done = work.await;
        self.configured(begun_us, self.setting.seat.store.now_us());
        done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selector(&self) -> String {
        format!("{}:{}", self.setting.catalogue.id, self.setting.configuration)
    }

    /// Which of the scenario's configurations this is.
    #[must_use]
    pub fn configuration(&self) -> &'static str {
        self.setting.configuration
    }

    /// Whether the implementation declares this feature.
    #[must_use]
    pub fn has_feature(&self, feature: Feature) -> bool {
        self.setting.implementation.features.contains(&feature.into())
    }

    /// The suite's public CA. Workloads and proxies trust it like one of the system's roots.
    #[must_use]
    pub fn public_authority(&self) -> &Authority {
        &self.setting.public
    }

    /// The mesh's CA, for mesh identities of the suite's own: with the feature `mesh-ca`.
    ///
    /// # Errors
    /// The target does not hold it.
    pub fn mesh_authority(&self) -> Result<&Authority, Stop> {
        self.instance.mesh_authority().ok_or_else(|| {
            TargetError::Unable(
                "it gives the suite no certificate of the mesh's CA for a client of its own".to_owned(),
            )
            .into()
        })
    }

    /// Whether the catalogue declares this check for the configuration.
    #[must_use]
    pub fn declares(&self, check: &str) -> bool {
        self.setting.catalogue.check(check).is_some_and(|c| c.is_in(self.setting.configuration))
    }

    /// Whether the run asks for one of these checks. A story may leave out a part that is long and that no check asks for.
    #[must_use]
    pub fn asks_for(&self, checks: &[&str]) -> bool {
        let asked = |check: &&str| self.setting.catalogue.check(check).is_some_and(|c| self.is_selected(c));
        checks.iter().any(asked)
    }

    /// Does something that takes time and no computing, such as being silent on a connection. Another scenario may have its turn
    /// meanwhile.
    pub async fn resting<T>(&self, work: impl Future<Output = T>) -> T {
        self.setting.turn.resting(work).await
    }

    /// Adds a remark to the evidence.
    pub fn note(&self, text: String) {
        self.setting.seat.store.record(Side::Suite, None, Fact::Note { text });
    }

    /// Begins a step of the document.
    pub fn step(&self, title: &str) {
        let mut state = self.state();
        self.setting.seat.store.set_step(state.steps.len());
        let at_us = self.setting.seat.store.now_us();
        state.steps.push(Step { title: title.to_owned(), at_us });
        drop(state);
        (self.setting.events)(Event::StepStarted { scenario: self.selector(), title: title.to_owned() });
    }

    /// A server, by its host: an external service that was deployed, or a service of the topology.
    #[must_use]
    pub fn external(&self, host: &str) -> External<'_> {
        let is_inside = self.setting.seat.topology.serves(host);
        let place = if is_inside { ServerPlace::Mesh } else { ServerPlace::Outside };
        External { mesh: self, server: Server { host: host.to_owned(), place } }
    }

    /// A service inside the mesh that the suite runs, by its host.
    #[must_use]
    pub fn service(&self, host: &str) -> External<'_> {
        External { mesh: self, server: Server { host: host.to_owned(), place: ServerPlace::Mesh } }
    }

    /// A workload, by its name.
    pub fn workload(&self, name: &'static str) -> Client<'_> {
        let request = RequestSpec { follow_redirects: true, ..RequestSpec::get("", "") };
        Client { mesh: self, from: Origin::Workload(name), request }
    }

    /// A proxy, by its name.
    #[must_use]
    pub fn proxy(&self, name: &'static str) -> Proxy<'_> {
        Proxy { mesh: self, name }
    }

    /// The upstream address that access logs must show for connections to this host and port. For a real host, only name
    /// servers know it.
    #[must_use]
    pub fn upstream(&self, host: &str, port: u16) -> Upstream {
        match self.instance.upstream_address(host, port) {
            Some(address) => Upstream::At(address),
            None if self.state().unobserved.iter().any(|h| h == host) => Upstream::OnPort(port),
            None => Upstream::Nowhere,
        }
    }

    /// Reads the evidence so far.
    pub fn view<T>(&self, read: impl FnOnce(View<'_>) -> T) -> T {
        let (marks, changes, unobserved) = {
            let state = self.state();
            (state.marks.clone(), state.changes.clone(), state.unobserved.clone())
        };
        self.setting.seat.store.with(|evidence| {
            read(View { evidence, marks: &marks, changes: &changes, unobserved: &unobserved })
        })
    }

    /// Judges a check now, for the progress display, and again at the end of the scenario, when late evidence has arrived.
    /// The last finding counts.
    ///
    /// # Errors
    /// The check failed and the run stops at the first failure.
    pub fn check(&self, id: &str, claim: impl Into<Claim>) -> Result<(), Stop> {
        let claim = claim.into();
        let check = self.setting.catalogue.check(id).filter(|c| c.is_in(self.setting.configuration));
        let Some(check) = check else {
            self.fault(format!(
                "the scenario judges {id:?}, which its catalogue does not declare for the configuration {}; declare it in \
                 {}/catalogue.toml",
                self.setting.configuration,
                self.setting.manifests.place()
            ));
            return Ok(());
        };
        if self.state().judged.iter().any(|known| known.check.id == check.id) {
            self.fault(format!("the scenario judges {id:?} twice"));
            return Ok(());
        }
        let finding = self.view(|view| claim.judge(view));
        let complete = self.setting.seat.store.dropped() == 0;
        self.state().judged.push(JudgedCheck { check, claim, complete });
        if !self.is_selected(check) || self.missing_feature(check).is_some() {
            return Ok(());
        }
        let result = self.result(check, &finding);
        let fails = result.fails_run();
        (self.setting.events)(Event::CheckJudged { scenario: self.selector(), result: Box::new(result) });
        if fails && self.setting.fail_fast { Err(Stop::FailFast) } else { Ok(()) }
    }

    fn is_selected(&self, check: &Check) -> bool {
        self.setting.only_checks.as_ref().is_none_or(|only| only.contains(&check.id))
    }

    fn missing_feature(&self, check: &Check) -> Option<Feature> {
        feature::missing(check.features.iter().copied(), &self.setting.implementation.features)
    }

    fn result(&self, check: &Check, finding: &Finding) -> CheckResult {
        let id = self.setting.catalogue.check_id(check);
        CheckResult {
            repeat: format!(
                "{} {}:{}/{}",
                self.setting.repeat, self.setting.catalogue.id, self.setting.configuration, check.id
            ),
            id,
            level: check.level,
            control: check.control,
            verdict: finding.verdict,
            reason: finding.reason(),
            requirement: check.requirement.clone(),
            section: check.section.clone(),
            expected: finding.expected.clone(),
            seen: finding.seen.clone(),
            evidence: finding.evidence.clone(),
            control_evidence: finding.control_evidence.clone(),
            differences: finding.differences.clone(),
            deviations: self.view(|view| deviation::resolved(finding, view, &self.setting.seat.topology)),
            expected_failure: None,
            feature: self.missing_feature(check).or_else(|| check.features.first().copied()).map(Into::into),
        }
    }

    fn fault(&self, message: String) {
        let mut state = self.state();
        let step = state.steps.last().map(|s| s.title.clone());
        state.faults.push(SuiteFault { message, step });
    }

    /// A mark at which the configuration changes.
    fn mark_change(&self) {
        let mark = self.mark();
        self.state().changes.push(mark);
    }

    fn mark(&self) -> usize {
        let mark = self.setting.seat.store.len();
        self.state().marks.push(mark);
        mark
    }

    /// The instance bounds its own waits. This limit is for an instance that does not.
    async fn settle(&self) -> Result<(), TargetError> {
        let limit = 3 * self.setting.seat.timeouts.get(Timeout::EvidenceSettled);
        let settled = tokio::time::timeout(limit, self.instance.settle()).await;
        settled.unwrap_or_else(|_| {
            Err(TargetError::Environment(format!(
                "Timed out after {limit:?} waiting for the target to collect its evidence"
            )))
        })
    }

    async fn within<T>(
        &self,
        timeout: Timeout,
        what: &str,
        work: impl Future<Output = Result<T, TargetError>>,
    ) -> Result<T, TargetError> {
        let limit = self.setting.seat.timeouts.get(timeout);
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                let what = format!("the implementation to {what}");
                Err(TargetError::TimedOut { timeout, limit, what, last: None })
            }
        }
    }
}

pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug)]
enum Origin {
    Workload(&'static str),
    Probe(Probe),
}
