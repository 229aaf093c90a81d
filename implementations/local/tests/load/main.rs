//! Requests that go on while something changes: what is held is held, nothing waits for ever, and what is lost is seen.
//! The implementation here is no proxy at all: the workload's client talks to the embedded service itself.

#![allow(clippy::unwrap_used, reason = "a test's helpers report by panicking, as tests do")]

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec, PlainPort};
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::runner::{Options, Selected, run};
use meshproof_harness::scenario::Scenario;
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, Target, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::topology::Topology;
use meshproof_harness::workload::RequestSpec;
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{
    CredentialStatus, Exchange, ExternalService, Fact, Implementation, Report, Side, Verdict,
};
use tokio::sync::watch;

const HOST: &str = "api.example.com";

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing that can be noticed.
    Nothing,
    /// Takes longer than requests in flight may be held: it waits until those that are held have ended.
    TakesLong,
    /// Breaks every connection.
    BreaksConnections,
    /// Is refused.
    IsRefused,
}

#[derive(Clone)]
struct Direct {
    change: Change,
    /// Requests with this in their URL never arrive at the server.
    lost: &'static str,
    /// What the server is asked for in their place.
    instead: &'static str,
}

#[async_trait]
impl Target for Direct {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        Ok(Implementation {
            name: "direct".into(),
            version: "1".into(),
            target: "direct".into(),
            features: Vec::new(),
            details: Default::default(),
        })
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        let (ended, _) = watch::channel(0);
        Ok(Box::new(DirectInstance { direct: self.clone(), seat, service: Mutex::default(), ended }))
    }
}

struct DirectInstance {
    direct: Direct,
    seat: Seat,
    service: Mutex<Option<Arc<dyn RunningService>>>,
    /// How many held requests have ended.
    ended: watch::Sender<usize>,
}

impl DirectInstance {
    fn service(&self) -> Arc<dyn RunningService> {
        Arc::clone(self.service.lock().unwrap().as_ref().unwrap())
    }

    async fn exchange(&self, request: &RequestSpec) -> Exchange {
        let Some(address) = self.service().address(80) else { panic!("the plain port is open") };
        let route = Route::direct(HOST, 80, address);
        let client =
            WorkloadClient::new("sleep", route, &self.seat.public_roots, &self.seat.timeouts).unwrap();
        client.exchange(request).await
    }
}

#[async_trait]
impl Instance for DirectInstance {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        let mut described = Vec::new();
        for (spec, _) in specs {
            let service: Arc<dyn RunningService> =
                start_embedded(spec, self.seat.store.clone(), &self.seat.timeouts).await.unwrap().into();
            described.push(service.describe());
            *self.service.lock().unwrap() = Some(service);
        }
        Ok(described)
    }

    async fn change(&self, _: &ConfigChange) -> Result<(), TargetError> {
        match self.direct.change {
            Change::Nothing => Ok(()),
            Change::TakesLong => {
                self.ended.subscribe().wait_for(|ended| *ended >= 4).await.unwrap();
                Ok(())
            }
            Change::BreaksConnections => {
                self.service().stop().await.unwrap();
                let spec = ExternalSpec { plain: PlainPort::Serve, ..spec() };
                self.deploy_externals(vec![(spec, Documented::Embedded)]).await.map(|_| ())
            }
            Change::IsRefused => Err(TargetError::Refused("no".into())),
        }
    }

    async fn set_running(&self, _: &str, _: bool) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_variable(&self, _: &str, _: &str, _: &str) -> Result<(), TargetError> {
        Ok(())
    }

    async fn send(&self, _: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        let lost = self.direct.lost;
        let exchange = if !lost.is_empty() && request.url.contains(lost) {
            let instead = self.direct.instead;
            let elsewhere = RequestSpec { url: format!("http://{HOST}{instead}"), ..request.clone() };
            self.exchange(&elsewhere).await
        } else {
            self.exchange(request).await
        };
        if request.url.contains("/hold/") {
            self.ended.send_modify(|ended| *ended += 1);
        }
        Ok(exchange)
    }

    async fn probe(&self, _: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        Ok(self.exchange(request).await)
    }

    async fn settle(&self) -> Result<(), TargetError> {
        Ok(())
    }

    async fn credentials(&self, _: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        Ok(Vec::new())
    }

    fn upstream_address(&self, _: &str, _: u16) -> Option<String> {
        None
    }

    async fn stop(&self) -> Result<(), TargetError> {
        self.service().stop().await.unwrap();
        Ok(())
    }
}

fn spec() -> ExternalSpec {
    ExternalSpec {
        aliases: Vec::new(),
        host: HOST.to_owned(),
        plain: PlainPort::Serve,
        tls: None,
        ipv6: false,
        tcp: Vec::new(),
        pages: Vec::new(),
        keep_alive: true,
    }
}

static SCENARIO: LazyLock<Scenario> = LazyLock::new(|| {
    let check = Check::must("hitless", "A", "No request is lost.");
    Scenario::new(Catalogue::new("load").checks([check]), Fixtures::default(), Topology::default(), story)
});

async fn story(mesh: &Mesh) -> Result<(), Stop> {
    mesh.deploy_external((spec(), Documented::Embedded)).await?;
    let change = mesh.change(ConfigChange::default());
    let load = mesh.workload("sleep").under_load("http://api.example.com", change).await?;
    mesh.check("hitless", load.loses_nothing())
}

async fn judge(change: Change, lost: &'static str, request: Duration) -> Report {
    judge_with(Direct { change, lost, instead: "/elsewhere" }, request).await
}

async fn judge_with(direct: Direct, request: Duration) -> Report {
    let work = tempfile::tempdir().unwrap();
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::Request, request);
    timeouts.set(Timeout::Scenario, Duration::from_secs(120));
    run(Options {
        external: ExternalChoice::Embedded,
        timeouts,
        work: work.path().to_owned(),
        ..Options::new(
            Arc::new(direct),
            vec![Selected { scenario: &SCENARIO, configuration: "only", checks: None }],
        )
    })
    .await
    .unwrap()
}

const PATIENT: Duration = Duration::from_secs(20);

/// Longer than the timeout `scenario`: a run that waits for a request with this timeout ends with an error, not with a verdict.
const LONGER_THAN_THE_SCENARIO: Duration = Duration::from_secs(3600);

fn verdict(report: &Report) -> (Verdict, &str) {
    let check = report.checks().next().unwrap();
    (check.verdict, &check.reason)
}

/// The statuses of the application's exchanges with a path; 0 where there was no response.
fn statuses(report: &Report, path: &str) -> Vec<u16> {
    report.scenarios[0]
        .evidence
        .iter()
        .filter(|e| matches!(&e.side, Side::Workload { .. }))
        .filter_map(|e| if let Fact::Exchange(x) = &e.fact { Some(x) } else { None })
        .filter(|x| x.url.contains(path))
        .map(|x| x.last_response().map_or(0, |r| r.status))
        .collect()
}

#[tokio::test]
async fn a_harmless_change_loses_no_request_and_requests_ran_before_and_after_it() {
    let report = judge(Change::Nothing, "", PATIENT).await;
    assert_eq!(verdict(&report).0, Verdict::Passed, "{}", verdict(&report).1);
    assert_eq!(statuses(&report, "/hold/"), [200; 4]);
    assert!(statuses(&report, "/bytes/1000").len() >= 6);
}

#[tokio::test]
async fn a_change_that_breaks_connections_loses_those_in_flight() {
    let report = judge(Change::BreaksConnections, "", PATIENT).await;
    let (verdict, reason) = verdict(&report);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    assert!(reason.contains("the first in flight when the change was made"), "{reason}");
    assert_eq!(statuses(&report, "/hold/"), [0; 4]);
}

#[tokio::test]
async fn a_change_that_takes_longer_than_requests_may_be_held_lets_them_go_in_time() {
    let report = judge(Change::TakesLong, "", Duration::from_secs(2)).await;
    assert_eq!(verdict(&report).0, Verdict::Passed, "{}", verdict(&report).1);
    assert_eq!(statuses(&report, "/hold/"), [200; 4]);
}

#[tokio::test]
async fn requests_that_never_arrive_are_lost_and_the_load_ends() {
    let report = judge(Change::Nothing, "/hold/", LONGER_THAN_THE_SCENARIO).await;
    assert_eq!(verdict(&report).0, Verdict::Failed, "{}", verdict(&report).1);
}

#[tokio::test]
async fn requests_around_the_change_that_fail_are_seen() {
    let report = judge(Change::Nothing, "/bytes/", PATIENT).await;
    let (verdict, reason) = verdict(&report);
    assert_eq!(verdict, Verdict::Failed);
    assert!(reason.contains("the first around the change") && reason.contains("404"), "{reason}");
}

#[tokio::test]
async fn a_request_around_the_change_that_is_answered_with_another_200_is_lost() {
    let direct = Direct { change: Change::Nothing, lost: "/bytes/", instead: "/bytes/7" };
    let report = judge_with(direct, PATIENT).await;
    let (verdict, reason) = verdict(&report);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    assert!(reason.contains("the first around the change"), "{reason}");
}

#[tokio::test]
async fn a_refused_change_is_reported_and_the_requests_in_flight_are_released() {
    let report = judge(Change::IsRefused, "", LONGER_THAN_THE_SCENARIO).await;
    assert!(verdict(&report).1.contains("refused the configuration: no"), "{}", verdict(&report).1);
}
