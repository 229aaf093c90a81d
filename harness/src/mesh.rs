//! What a scenario function holds in its hands: the mesh as a reader of the document sees it. Every operation goes
//! to the target; everything seen goes into the evidence.

mod client;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meshproof_reports::{
    Change, CheckResult, Event, Evidence, ExternalService, Fact, Implementation, Side, Step,
    SuiteFault, Timing, Verdict,
};

use crate::certificates::{Authority, CertificateError};
use crate::claim::{
    Claim, ConnectionLine, Credentials, Finding, Logged, Reply, Sighting, View, Window, connections_of, opened_by,
    recorded,
};
use crate::external::{Documented, ExternalSpec};
use crate::feature;
use crate::resource::{ManifestError, Resource, ResourceId};
use crate::scenario::{Check, Scenario};
use crate::target::{ConfigChange, Instance, Probe, Seat, TargetError};
use crate::token::Tokens;
use crate::workload::RequestSpec;

pub use client::Client;

/// Why a scenario ends before its last step. The variant decides who is to blame for the checks that were not reached.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The target said no.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The suite itself could not go on: a broken fixture, a certificate that could not be made.
    #[error("{0}")]
    Suite(String),
    /// A check failed and the run was asked to stop at the first.
    #[error("a check failed before, and --fail-fast is set")]
    FailFast,
}

impl From<ManifestError> for Stop {
    fn from(e: ManifestError) -> Self {
        Self::Suite(e.to_string())
    }
}

impl From<CertificateError> for Stop {
    fn from(e: CertificateError) -> Self {
        Self::Suite(format!("a certificate could not be made: {e}"))
    }
}

/// Takes events as they happen.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// What the runner gives a mesh.
pub(crate) struct Setting {
    pub(crate) scenario: &'static Scenario,
    pub(crate) configuration: &'static str,
    pub(crate) seat: Seat,
    pub(crate) implementation: Arc<Implementation>,
    pub(crate) public: Arc<Authority>,
    pub(crate) fixtures: Option<PathBuf>,
    pub(crate) only_checks: Option<Vec<String>>,
    pub(crate) fail_fast: bool,
    pub(crate) events: Events,
    pub(crate) repeat: String,
}

/// The mesh of one scenario.
pub struct Mesh {
    setting: Setting,
    instance: Box<dyn Instance>,
    tokens: Tokens,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    judged: Vec<(&'static Check, Claim)>,
    marks: Vec<usize>,
    steps: Vec<Step>,
    timing: Timing,
    externals: Vec<ExternalService>,
    faults: Vec<SuiteFault>,
}

impl Mesh {
    pub(crate) fn new(setting: Setting, instance: Box<dyn Instance>) -> Self {
        let tokens = Tokens::new(format!("{}-{}", setting.seat.run, setting.seat.name));
        Self { setting, instance, tokens, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selector(&self) -> String {
        format!("{}:{}", self.setting.scenario.id, self.setting.configuration)
    }

    /// Which of the scenario's configurations this is.
    #[must_use]
    pub fn configuration(&self) -> &'static str {
        self.setting.configuration
    }

    /// Whether the implementation declares this feature.
    #[must_use]
    pub fn has_feature(&self, feature: &str) -> bool {
        self.setting.implementation.features.iter().any(|f| f == feature)
    }

    /// The suite's public CA: what it signs is believed by workloads and proxies as if by the system's roots.
    #[must_use]
    pub fn public_authority(&self) -> &Authority {
        &self.setting.public
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

    /// Reads manifests of the scenario's fixture folder; what names no namespace is put into `namespace`.
    ///
    /// # Errors
    /// No such fixture, or it is not a manifest.
    pub fn fixture(&self, name: &str, namespace: &str) -> Result<Vec<Resource>, Stop> {
        let file = format!("fixtures/{}/{name}.yaml", self.setting.scenario.id);
        if let Some(folder) = &self.setting.fixtures {
            let path = folder.join(self.setting.scenario.id).join(format!("{name}.yaml"));
            if path.exists() {
                let shown = path.display().to_string();
                let yaml = std::fs::read_to_string(&path)
                    .map_err(|e| Stop::Suite(format!("{shown} cannot be read: {e}; check its permissions")))?;
                return Ok(Resource::read_manifest(&shown, &yaml, namespace)?);
            }
        }
        let found = self.setting.scenario.fixtures.iter().find(|(n, _)| *n == name);
        let (_, yaml) = found.ok_or_else(|| Stop::Suite(format!("{file} does not exist")))?;
        Ok(Resource::read_manifest(&file, yaml, namespace)?)
    }

    /// Applies fixtures into the namespace `default` (where they name none), as one change.
    ///
    /// # Errors
    /// The fixture is broken, or the implementation refuses it.
    pub async fn apply(&self, fixtures: &[&str]) -> Result<(), Stop> {
        let mut apply = Vec::new();
        for name in fixtures {
            apply.extend(self.fixture(name, "default")?);
        }
        self.change(ConfigChange { apply, delete: Vec::new() }).await
    }

    /// Deletes what the fixtures hold, as one change.
    ///
    /// # Errors
    /// The fixture is broken, or the implementation refuses the deletion.
    pub async fn delete(&self, fixtures: &[&str]) -> Result<(), Stop> {
        let mut delete = Vec::new();
        for name in fixtures {
            delete.extend(self.fixture(name, "default")?.iter().map(Resource::id));
        }
        self.change(ConfigChange { apply: Vec::new(), delete }).await
    }

    /// Deletes one resource.
    ///
    /// # Errors
    /// The implementation refuses the deletion.
    pub async fn delete_one(&self, kind: &str, namespace: &str, name: &str) -> Result<(), Stop> {
        let id = ResourceId { kind: kind.into(), namespace: namespace.into(), name: name.into() };
        self.change(ConfigChange { apply: Vec::new(), delete: vec![id] }).await
    }

    /// Creates or replaces a generic Secret from PEM texts.
    ///
    /// # Errors
    /// The implementation refuses it.
    pub async fn create_secret(
        &self,
        namespace: &str,
        name: &str,
        entries: &[(&str, &str)],
    ) -> Result<(), Stop> {
        let data: serde_json::Map<String, serde_json::Value> =
            entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let secret = Resource(serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": data,
        }));
        self.change(ConfigChange { apply: vec![secret], delete: Vec::new() }).await
    }

    /// Deletes a Secret.
    ///
    /// # Errors
    /// The implementation refuses the deletion.
    pub async fn delete_secret(&self, namespace: &str, name: &str) -> Result<(), Stop> {
        self.delete_one("Secret", namespace, name).await
    }

    /// Brings any change into force and records it.
    ///
    /// # Errors
    /// The implementation refuses it, does not bring it into force within the timeout `applied`, or is gone.
    pub async fn change(&self, change: ConfigChange) -> Result<(), Stop> {
        self.mark();
        let begun = Instant::now();
        let result = self.within("applied", "bring the change into force", self.instance.change(&change)).await;
        let convergence_us = micros(begun.elapsed());
        self.state().timing.convergence_us += convergence_us;
        let fact = Change {
            applied: change.apply.iter().map(Resource::to_yaml).collect(),
            deleted: change.delete.iter().map(ToString::to_string).collect(),
            convergence_us,
            refused: result.as_ref().err().map(ToString::to_string),
        };
        self.setting.seat.store.record(Side::Suite, None, Fact::Change(fact));
        Ok(result?)
    }

    /// Takes a proxy away, or brings it back.
    ///
    /// # Errors
    /// The target cannot, or the implementation is gone.
    pub async fn set_running(&self, proxy: &str, running: bool) -> Result<(), Stop> {
        self.mark();
        let begun = Instant::now();
        let what = if running { "start the proxy" } else { "stop the proxy" };
        let result = self.within("applied", what, self.instance.set_running(proxy, running)).await;
        self.state().timing.convergence_us += micros(begun.elapsed());
        let text = format!("{proxy} was {}", if running { "started" } else { "taken away" });
        self.setting.seat.store.record(Side::Suite, None, Fact::Note { text });
        Ok(result?)
    }

    /// Sets an environment variable of a workload's application.
    ///
    /// # Errors
    /// The environment's.
    pub async fn set_variable(&self, workload: &str, name: &str, value: &str) -> Result<(), Stop> {
        self.mark();
        let text = format!("{workload}: {name}={value}");
        self.setting.seat.store.record(Side::Suite, None, Fact::Note { text });
        Ok(self.instance.set_variable(workload, name, value).await?)
    }

    /// Deploys an external service and makes its host name lead there.
    ///
    /// # Errors
    /// The environment's: it did not come up. The implementation's, where it cannot take up the new address.
    pub async fn deploy_external(
        &self,
        spec: ExternalSpec,
        documented: Documented,
    ) -> Result<External<'_>, Stop> {
        let host = spec.host.clone();
        // A service that does not come up is the environment's fault; that the implementation refuses to know its address, or
        // dies of it, is not.
        let limit = self.setting.seat.timeouts.get("external-service-ready");
        let deployed = tokio::time::timeout(limit, self.instance.deploy_external(spec, documented)).await;
        let described = deployed.unwrap_or_else(|_| {
            Err(TargetError::Environment(format!(
                "the external service did not start within the timeout `external-service-ready` ({limit:?}); --timeout \
                 external-service-ready=DURATION sets another"
            )))
        })?;
        self.state().externals.push(described);
        Ok(External { mesh: self, host })
    }

    /// A service inside the mesh that the suite runs, to see what reached it.
    #[must_use]
    pub fn service(&self, host: &str) -> External<'_> {
        External { mesh: self, host: host.to_owned() }
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

    /// The `address:port` that access logs must show for this host and port.
    #[must_use]
    pub fn upstream_address(&self, host: &str, port: u16) -> Option<String> {
        self.instance.upstream_address(host, port)
    }

    /// Reads the evidence so far.
    pub fn view<T>(&self, read: impl FnOnce(View<'_>) -> T) -> T {
        let marks = self.state().marks.clone();
        self.setting.seat.store.with(|evidence| read(View { evidence, marks: &marks }))
    }

    /// Judges a check now, and once more at the scenario's end; the worse finding counts.
    ///
    /// # Errors
    /// The check failed and the run stops at the first failure.
    pub fn check(&self, id: &str, claim: impl Into<Claim>) -> Result<(), Stop> {
        let claim = claim.into();
        let Some(check) = self.setting.scenario.check(id).filter(|c| c.is_in(self.setting.configuration)) else {
            self.fault(format!("the scenario judges {id:?}, which its catalogue does not list"));
            return Ok(());
        };
        if self.state().judged.iter().any(|(known, _)| known.id == check.id) {
            self.fault(format!("the scenario judges {id:?} twice"));
            return Ok(());
        }
        let finding = self.view(|view| claim.judge(view));
        self.state().judged.push((check, claim));
        if !self.is_selected(check) || self.missing_feature(check).is_some() {
            return Ok(());
        }
        let result = self.result(check, &finding);
        let fails = result.fails_run();
        (self.setting.events)(Event::CheckJudged { scenario: self.selector(), result: Box::new(result) });
        if fails && self.setting.fail_fast { Err(Stop::FailFast) } else { Ok(()) }
    }

    fn is_selected(&self, check: &Check) -> bool {
        self.setting.only_checks.as_ref().is_none_or(|only| only.iter().any(|id| id == check.id))
    }

    fn missing_feature(&self, check: &Check) -> Option<&'static str> {
        feature::missing(check.needs(), &self.setting.implementation.features)
    }

    fn result(&self, check: &Check, finding: &Finding) -> CheckResult {
        let id = self.setting.scenario.check_id(check);
        CheckResult {
            repeat: format!(
                "{} {}:{}/{}",
                self.setting.repeat, self.setting.scenario.id, self.setting.configuration, check.id
            ),
            id,
            level: check.level,
            control: check.control,
            verdict: finding.verdict,
            reason: finding.reason(),
            requirement: check.requirement.to_owned(),
            section: check.section.to_owned(),
            expected: finding.expected.clone(),
            seen: finding.seen.clone(),
            evidence: finding.evidence.clone(),
            differences: finding.differences.clone(),
            expected_failure: None,
            feature: self.missing_feature(check).or_else(|| check.needs().next()).map(str::to_owned),
        }
    }

    fn fault(&self, message: String) {
        let mut state = self.state();
        let step = state.steps.last().map(|s| s.title.clone());
        state.faults.push(SuiteFault { message, step });
    }

    fn mark(&self) -> usize {
        let mark = self.setting.seat.store.len();
        self.state().marks.push(mark);
        mark
    }

    /// The instance bounds each side that it waits for; this is for one that does not.
    async fn settle(&self) -> Result<(), TargetError> {
        let limit = 3 * self.setting.seat.timeouts.get("evidence-settled");
        let settled = tokio::time::timeout(limit, self.instance.settle()).await;
        settled.unwrap_or_else(|_| {
            Err(TargetError::Environment(format!("the target did not collect its evidence within {limit:?}")))
        })
    }

    async fn within<T>(
        &self,
        timeout: &str,
        what: &str,
        work: impl Future<Output = Result<T, TargetError>>,
    ) -> Result<T, TargetError> {
        let limit = self.setting.seat.timeouts.get(timeout);
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(TargetError::Gone(format!(
                "it did not {what} within the timeout `{timeout}` ({limit:?}); --timeout {timeout}=DURATION sets another"
            ))),
        }
    }

    /// Ends the scenario: judges every claim once more, takes the instance down, and puts together the checks' results.
    pub(crate) async fn finish(self, stop: Option<Unreached>) -> Finished {
        // Late evidence: whatever the implementation still does for an answered request must be in before the last judgement.
        let settled = self.settle().await;
        let mut gone = None;
        match settled {
            Err(TargetError::Gone(words)) if stop.is_none() => gone = Some(words),
            Err(e) if stop.is_none() => {
                self.fault(format!("the last evidence could not be collected: {e}"));
            }
            Ok(()) | Err(_) => {}
        }
        let mut checks = Vec::new();
        for check in self.setting.scenario.checks {
            if !check.is_in(self.setting.configuration) || !self.is_selected(check) {
                continue;
            }
            let claim = self.state().judged.iter().find(|(c, _)| c.id == check.id).map(|(_, c)| c.clone());
            let finding = match (self.missing_feature(check), claim, &stop) {
                (Some(feature), _, _) => Finding {
                    verdict: Verdict::Skipped,
                    ..Finding::holds(
                        check.requirement,
                        feature::why_skipped(feature),
                        Vec::new(),
                    )
                },
                (None, Some(claim), _) => self.view(|view| claim.judge(view)),
                (None, None, Some(unreached)) => Finding {
                    verdict: unreached.verdict,
                    ..Finding::holds(check.requirement, unreached.reason.clone(), Vec::new())
                },
                (None, None, None) => {
                    self.fault(format!("the scenario ended without judging {:?}", check.id));
                    Finding {
                        verdict: Verdict::Error,
                        ..Finding::holds(check.requirement, "the scenario ended without judging it", Vec::new())
                    }
                }
            };
            checks.push(self.result(check, &finding));
        }
        let begun = Instant::now();
        let limit = self.setting.seat.timeouts.get("teardown");
        match tokio::time::timeout(limit, self.instance.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(TargetError::Gone(words))) => gone = gone.or(Some(words)),
            Ok(Err(e)) => self.fault(format!("not everything was taken down: {e}")),
            Err(_) => self.fault(format!(
                "not everything was taken down within the timeout `teardown` ({limit:?}); --timeout \
                 teardown=DURATION sets another"
            )),
        }
        if let Some(words) = gone {
            let finding = Finding::broken(UNTIL_STOPPED.requirement, words, Vec::new());
            checks.push(self.result(&UNTIL_STOPPED, &finding));
        }
        let teardown_us = micros(begun.elapsed());
        let dropped = self.setting.seat.store.dropped();
        if dropped > 0 {
            self.fault(format!(
                "{dropped} pieces of evidence beyond the first {} were not kept: something floods the suite",
                crate::store::MAX_EVIDENCE
            ));
        }
        let total_us = self.setting.seat.store.now_us();
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut faults = state.faults;
        if let Some(Unreached { fault: Some(message), .. }) = stop {
            let step = state.steps.last().map(|s| s.title.clone());
            faults.insert(0, SuiteFault { message, step });
        }
        Finished {
            checks,
            steps: state.steps,
            externals: state.externals,
            evidence: self.setting.seat.store.take(),
            timing: Timing { teardown_us, total_us, ..state.timing },
            faults,
        }
    }
}

/// In no catalogue, because it is no document's: added to a scenario's checks where it does not hold.
static UNTIL_STOPPED: Check = Check::must(
    "runs-until-stopped",
    "Cleanup",
    "The implementation runs until it is told to stop, and then ends everything that it started.",
)
.why("What dies by itself carries nobody's traffic; what does not end is left behind.")
.observed("The implementation's answer to being told to stop, and its processes.");

/// Why checks were not reached, and what that makes of them.
#[derive(Clone, Debug)]
pub(crate) struct Unreached {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    /// Set where the fault is not the implementation's.
    pub(crate) fault: Option<String>,
    /// The feature whose lack is the reason.
    pub(crate) feature: Option<&'static str>,
}

/// What is left of a mesh for the report.
pub(crate) struct Finished {
    pub(crate) checks: Vec<CheckResult>,
    pub(crate) steps: Vec<Step>,
    pub(crate) externals: Vec<ExternalService>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) timing: Timing,
    pub(crate) faults: Vec<SuiteFault>,
}

pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug)]
enum Origin {
    Workload(&'static str),
    Probe(Probe),
}

/// An external service that a scenario deployed.
#[derive(Clone)]
pub struct External<'a> {
    mesh: &'a Mesh,
    host: String,
}

impl<'a> External<'a> {
    /// What it saw of a request.
    pub fn saw(&self, reply: &Reply) -> Sighting {
        Sighting::new(&self.host, None, reply)
    }

    /// What it saw of a request on one of its ports.
    pub fn saw_on(&self, port: u16, reply: &Reply) -> Sighting {
        Sighting::new(&self.host, Some(port), reply)
    }

    /// What it saw from the moment of a request until the suite's next one.
    pub fn during(&self, reply: &Reply) -> Window {
        Window::new(&self.host, reply)
    }

    /// All of the requests of this reply came, over no more TLS connections than these.
    pub fn saw_all_over(&self, most: usize, reply: &Reply) -> Claim {
        connections_of(&self.host, reply, reply.exchange.hops.len(), most)
    }

    /// Its connection for this request was opened by that proxy.
    pub fn connection_opened_by(&self, proxy: &str, reply: &Reply) -> Claim {
        opened_by(proxy, &self.host, reply)
    }

    /// Asks it directly from outside the mesh, with a client certificate or without.
    pub fn probe(&self, identity: Option<&crate::certificates::Issued>) -> Client<'a> {
        // What the server demands is the question, not whether its certificate pleases the client.
        let request = RequestSpec {
            identity: identity.map(Into::into),
            accept_any_server: true,
            ..RequestSpec::get("", "")
        };
        Client { mesh: self.mesh, from: Origin::Probe(Probe::External), request }
    }
}

/// A proxy of the implementation.
#[derive(Clone, Copy)]
pub struct Proxy<'a> {
    mesh: &'a Mesh,
    name: &'static str,
}

impl<'a> Proxy<'a> {
    /// What it logged of a request: exactly one line.
    pub fn logged(&self, reply: &Reply) -> Logged {
        Logged::new(self.name, reply)
    }

    /// What it logged of a connection that it passed through.
    pub fn passed_through(&self, reply: &Reply, server_name: &str) -> ConnectionLine {
        ConnectionLine::new(self.name, reply, server_name)
    }

    /// Asks the gateway's port directly, as somebody without a mesh identity would.
    pub fn probe(&self, port: u16) -> Client<'a> {
        let probe = Probe::Gateway { gateway: self.name.to_owned(), port };
        let request = RequestSpec { accept_any_server: true, ..RequestSpec::get("", "") };
        Client { mesh: self.mesh, from: Origin::Probe(probe), request }
    }

    /// Asks the workload's served port directly, as somebody without a mesh identity would.
    pub fn probe_inbound(&self) -> Client<'a> {
        let probe = Probe::Workload { workload: self.name.to_owned() };
        Client { mesh: self.mesh, from: Origin::Probe(probe), request: RequestSpec::get("", "") }
    }

    /// The protocol that it logged, whatever it is: for a check that records and never fails.
    pub fn protocol_recorded(&self, reply: &Reply) -> Claim {
        recorded(self.name, reply, "protocol", |log, _| log.fields.as_ref()?.protocol.clone())
    }

    /// How a request failed, in the client's and the proxy's words: for a check that records and never fails.
    pub fn failure_recorded(&self, reply: &Reply) -> Claim {
        recorded(self.name, reply, "failure", |log, reply| {
            let fields = log.fields.as_ref()?;
            let body = reply.exchange.last_response().map(|r| crate::store::bounded(r.body.trim(), 200));
            let flags = fields.response_flags.join(",");
            Some(format!("{}, flags {flags:?}, body {:?}", fields.response_code?, body.unwrap_or_default()))
        })
    }

    /// What it says of its credentials; recorded as evidence. Nothing without the feature `credential-status`.
    ///
    /// # Errors
    /// The implementation is gone.
    pub async fn credentials(&self) -> Result<Credentials, Stop> {
        let mut seen = Vec::new();
        if self.mesh.has_feature("credential-status") {
            for status in self.mesh.instance.credentials(self.name).await? {
                let side = Side::Proxy { name: self.name.to_owned() };
                let id = self.mesh.setting.seat.store.record(side, None, Fact::Credential(status.clone()));
                seen.push((id, status));
            }
        }
        Ok(Credentials::new(self.name, self.mesh.has_feature("credential-status"), seen))
    }
}
