//! A target that behaves as a test requires.

use meshproof_harness::feature::Feature;
use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec};
use meshproof_harness::mesh::Stop;
use meshproof_harness::runner::{Options, Selected, run};
use meshproof_harness::scenario::Scenario;
use meshproof_harness::target::{Aftermath, ConfigChange, Instance, Left, Probe, Seat, Target, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{
    CredentialStatus, Event, Exchange, ExternalService, Fact, Hop, HopResult, Implementation, Report,
    Response, ServerRequest, Side,
};
use tokio::sync::{Barrier, watch};

/// What the fake does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers 200 and shows one request at the service.
    #[default]
    Good,
    /// The same, and a second request arrives at the last settling before the end.
    LateSecondRequest,
    /// Answers 503 to everything.
    AlwaysFails,
    /// Refuses every change.
    Refuses,
    /// Says that it does not support a change.
    DoesNotSupport,
    /// Never answers a change.
    Stalls,
    /// Cannot start.
    CannotStart,
    /// The environment breaks on the first request.
    EnvironmentBreaks,
    /// Cannot be taken down.
    LeavesSomething,
    /// Something of the second scenario's is there after the run.
    LeavesAnObject,
    /// What is there after the run cannot be listed.
    CannotBeLookedAfter,
    /// The evidence of the scenario's end does not arrive in time.
    SettlesTooLate,
    /// Answers no request before three are waiting.
    AnswersThree,
    /// Writes more evidence than is kept.
    Floods,
    /// Shares something, so that its instances must run one after another.
    Shares,
    /// Has room for one instance of a run at a time.
    HasRoomForOne,
    /// Needs a while to start.
    StartsSlowly,
    /// The same, and bounds its start itself.
    BoundsItsStart,
}

/// The time limit of every start.
pub(crate) const READY: Duration = Duration::from_millis(200);

/// The number of instances now, and the maximum so far.
#[derive(Default)]
pub(crate) struct Alive {
    now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) behaviour: Behaviour,
    pub(crate) stopped: Arc<AtomicUsize>,
    settled: Arc<AtomicUsize>,
    pub(crate) alive: Arc<Alive>,
    /// The run's folder, as the latest instance was given it.
    run_folder: Arc<Mutex<Option<PathBuf>>>,
}

#[async_trait]
impl Target for Fake {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        Ok(Implementation {
            name: "fake".into(),
            version: "1".into(),
            target: "fake".into(),
            features: vec![Feature::Sidecar.into()],
            details: Default::default(),
        })
    }

    async fn before(&self, run: &str) -> Result<BTreeMap<String, String>, TargetError> {
        Ok(BTreeMap::from([("before".into(), run.into())]))
    }

    async fn after(&self, _: &str, keep: bool) -> Result<Aftermath, TargetError> {
        let folder = self.run_folder.lock().unwrap().clone();
        let notes = BTreeMap::from([
            ("after".into(), format!("keep {keep}")),
            ("run folder exists after".into(), folder.is_some_and(|folder| folder.exists()).to_string()),
        ]);
        match self.behaviour {
            Behaviour::LeavesAnObject => {
                let left =
                    Left { seat: "later-only".into(), what: "Namespace mp-1: removed only now".into() };
                Ok(Aftermath { notes, left: vec![left] })
            }
            Behaviour::CannotBeLookedAfter => Err(TargetError::Environment("no route to the cluster".into())),
            _ => Ok(Aftermath { notes, left: Vec::new() }),
        }
    }

    fn one_at_a_time(&self) -> Option<String> {
        (self.behaviour == Behaviour::Shares).then(|| "there is one gateway for all".to_owned())
    }

    fn side_by_side(&self) -> Option<usize> {
        (self.behaviour == Behaviour::HasRoomForOne).then_some(1)
    }

    fn starts_within(&self, timeouts: &Timeouts) -> Option<Duration> {
        (self.behaviour != Behaviour::BoundsItsStart).then(|| timeouts.get(Timeout::ImplementationReady))
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        if self.behaviour == Behaviour::CannotStart {
            return Err(TargetError::Environment("port 80 is taken; end the program that has it".into()));
        }
        if matches!(self.behaviour, Behaviour::StartsSlowly | Behaviour::BoundsItsStart) {
            tokio::time::sleep(5 * READY).await;
        }
        *self.run_folder.lock().unwrap() = seat.folder.parent().map(Into::into);
        let now = self.alive.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.alive.most.fetch_max(now, Ordering::SeqCst);
        // Lets every other task run before this one ends.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        Ok(Box::new(FakeInstance {
            fake: self.clone(),
            seat,
            three: Barrier::new(3),
            last: Mutex::default(),
        }))
    }
}

struct FakeInstance {
    fake: Fake,
    seat: Seat,
    three: Barrier,
    last: Mutex<Option<String>>,
}

pub(crate) const HOST: &str = "service.example";

impl FakeInstance {
    fn show_request(&self, token: &str) {
        let request = ServerRequest {
            connection: 1,
            port: 443,
            over_tls: true,
            peer: "127.0.0.1:1".into(),
            method: "GET".into(),
            target: "/".into(),
            authority: HOST.into(),
            version: "HTTP/1.1".into(),
            headers: Vec::new(),
            status: 200,
            ..blank_request()
        };
        let side = Side::Service { host: HOST.into() };
        self.seat.store.record(side, Some(token.into()), Fact::Request(request));
    }
}

/// A request with nothing in it, so that a new field of the model needs no mention here.
fn blank_request() -> ServerRequest {
    serde_json::from_value(serde_json::json!({
        "connection": 0, "port": 0, "over_tls": false, "peer": "", "method": "", "target": "", "authority": "",
        "version": "", "headers": [], "status": 0,
    }))
    .unwrap()
}

pub(crate) fn exchange(url: &str, status: u16) -> Exchange {
    let response: Response = serde_json::from_value(serde_json::json!({
        "version": "HTTP/1.1", "status": status, "headers": [], "body": "", "body_bytes": 0, "body_truncated": false,
    }))
    .unwrap();
    let hop: Hop = serde_json::from_value(serde_json::json!({
        "method": "GET", "url": url, "sent": "GET / HTTP/1.1\r\n", "sent_bytes": 16,
        "result": serde_json::to_value(HopResult::Response(response)).unwrap(),
    }))
    .unwrap();
    Exchange { url: url.into(), hops: vec![hop], duration_us: 1 }
}

/// The descriptions of external services that do not exist.
pub(crate) fn described(
    specs: Vec<(ExternalSpec, Documented)>,
    kind: &str,
    version: &str,
) -> Vec<ExternalService> {
    let describe = |(spec, _): (ExternalSpec, Documented)| ExternalService {
        host: spec.host,
        kind: kind.into(),
        version: version.into(),
    };
    specs.into_iter().map(describe).collect()
}

#[async_trait]
impl Instance for FakeInstance {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        Ok(described(specs, "fake", "1"))
    }

    async fn change(&self, _: &ConfigChange) -> Result<(), TargetError> {
        match self.fake.behaviour {
            Behaviour::Refuses => Err(TargetError::Refused("unknown field `tls`".into())),
            Behaviour::DoesNotSupport => Err(TargetError::Unsupported(Feature::MutualOrigination)),
            Behaviour::Stalls => pending().await,
            _ => Ok(()),
        }
    }

    async fn set_running(&self, _: &str, _: bool) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_variable(&self, _: &str, _: &str, _: &str) -> Result<(), TargetError> {
        Ok(())
    }

    async fn send(&self, _: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        if self.fake.behaviour == Behaviour::EnvironmentBreaks {
            return Err(TargetError::Environment("no file descriptor is left; raise `ulimit -n`".into()));
        }
        if self.fake.behaviour == Behaviour::AlwaysFails {
            return Ok(exchange(&request.url, 503));
        }
        if self.fake.behaviour == Behaviour::AnswersThree
            && tokio::time::timeout(5 * READY, self.three.wait()).await.is_err()
        {
            return Err(TargetError::Gone("it waits for others".into()));
        }
        self.show_request(&request.token);
        if self.fake.behaviour == Behaviour::Floods {
            for _ in 0..meshproof_harness::store::MAX_EVIDENCE {
                self.seat.store.record(Side::Suite, None, Fact::Note { text: "flood".into() });
            }
        }
        *self.last.lock().unwrap() = Some(request.token.clone());
        Ok(exchange(&request.url, 200))
    }

    async fn probe(&self, _: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        Ok(exchange(&request.url, 403))
    }

    async fn settle(&self) -> Result<(), TargetError> {
        // The first settling belongs to the request; the next is the scenario's end.
        let is_end = self.fake.settled.fetch_add(1, Ordering::SeqCst) == 1;
        if is_end && self.fake.behaviour == Behaviour::LateSecondRequest {
            let token = self.last.lock().unwrap().clone().unwrap();
            self.show_request(&token);
        }
        if is_end && self.fake.behaviour == Behaviour::SettlesTooLate {
            let (timeout, limit) = (Timeout::EvidenceSettled, Duration::from_secs(10));
            let what = "the access logs of sleep".to_owned();
            return Err(TargetError::TimedOut { timeout, limit, what, last: None });
        }
        Ok(())
    }

    async fn credentials(&self, _: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        Ok(Vec::new())
    }

    fn upstream_address(&self, _: &str, _: u16) -> Option<String> {
        None
    }

    async fn stop(&self) -> Result<(), TargetError> {
        self.fake.stopped.fetch_add(1, Ordering::SeqCst);
        self.fake.alive.now.fetch_sub(1, Ordering::SeqCst);
        if self.fake.behaviour == Behaviour::LeavesSomething {
            return Err(TargetError::Environment("process 4711 does not end".into()));
        }
        Ok(())
    }
}

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    pub(crate) events: Vec<Event>,
    pub(crate) stopped: usize,
    /// The number of times that evidence was collected.
    pub(crate) settled: usize,
}

/// The options of a run.
pub(crate) struct Asked {
    pub(crate) behaviour: Behaviour,
    pub(crate) checks: Option<Vec<&'static str>>,
    pub(crate) fail_fast: bool,
    pub(crate) applied: Duration,
    /// Interrupt when this event's scenario step begins.
    pub(crate) interrupt_at: Option<&'static str>,
    pub(crate) jobs: Option<usize>,
    /// Shared by runs that are counted together.
    pub(crate) alive: Arc<Alive>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            behaviour: Behaviour::Good,
            checks: None,
            fail_fast: false,
            applied: Duration::from_secs(5),
            interrupt_at: None,
            jobs: Some(1),
            alive: Arc::default(),
        }
    }
}

pub(crate) async fn judge(scenarios: &[&'static Scenario], asked: Asked) -> Outcome {
    let alive = Arc::clone(&asked.alive);
    let fake = Fake { behaviour: asked.behaviour, alive, ..Fake::default() };
    let (stopped, settled) = (Arc::clone(&fake.stopped), Arc::clone(&fake.settled));
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::Applied, asked.applied);
    timeouts.set(Timeout::ImplementationReady, READY);
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let (interrupt, interrupted) = watch::channel(None);
    let work = tempfile::tempdir().unwrap();
    let report = run(Options {
        target: Arc::new(fake),
        selection: scenarios
            .iter()
            .map(|scenario| Selected {
                scenario,
                configuration: "only",
                checks: asked.checks.as_ref().map(|c| c.iter().map(|s| (*s).to_owned()).collect()),
            })
            .collect(),
        external: ExternalChoice::Embedded,
        jobs: asked.jobs,
        fail_fast: asked.fail_fast,
        keep: false,
        timeouts,
        traffic: Default::default(),
        work: work.path().to_owned(),
        fixtures: None,
        public: None,
        trace: None,
        events: Arc::new(move |event| {
            if let Event::StepStarted { title, .. } = &event
                && asked.interrupt_at == Some(title)
            {
                interrupt.send(Some("Ctrl-C".to_owned())).unwrap();
            }
            seen.lock().unwrap().push(event);
        }),
        interrupt: interrupted,
        command: "meshproof run".into(),
        repeat: "meshproof run".into(),
        name: None,
    })
    .await
    .unwrap();
    let left: Vec<_> = std::fs::read_dir(work.path()).unwrap().collect();
    assert!(left.is_empty(), "the run's folder is removed: {left:?}");
    let events = std::mem::take(&mut *events.lock().unwrap());
    let [stopped, settled] = [stopped, settled].map(|count| count.load(Ordering::SeqCst));
    Outcome { report, events, stopped, settled }
}

/// The result of a scenario's function.
pub(crate) type StoryResult = Result<(), Stop>;
