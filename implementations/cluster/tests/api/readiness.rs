//! Who is to blame for a pod that does not become ready, and which timeout bounds it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshproof_cluster::Settings;
use meshproof_cluster::instance::start;
use meshproof_cluster::manifests::Injection;
use meshproof_cluster::noted::RunNotes;
use meshproof_harness::store::Store;
use meshproof_harness::target::{Instance, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use serde_json::{Value, json};

use crate::fake_cluster::{FakeCluster, pretended_within, seat};

const LONG: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_secs(86_400);
const SHORT: Duration = Duration::from_millis(300);

fn pod(proxy: (bool, Value), application: Value) -> Value {
    let (ready, state) = proxy;
    json!({
        "metadata": { "name": "sleep-1", "namespace": "n" },
        "status": { "phase": "Pending", "containerStatuses": [
            { "name": "istio-proxy", "ready": ready, "state": state },
            { "name": "application", "ready": false, "state": application },
        ] },
    })
}

fn running() -> Value {
    json!({ "running": {} })
}

fn waiting(reason: &str) -> Value {
    json!({ "waiting": { "reason": reason, "message": "of the registry" } })
}

/// Starts a scenario's mesh whose workload has this pod, and then calls `then`.
async fn started(
    workload: Value,
    pulled: Duration,
    ready: Duration,
    then: impl AsyncFnOnce(Arc<Mutex<FakeCluster>>),
) -> Result<Box<dyn Instance>, TargetError> {
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::ImagesPulled, pulled);
    timeouts.set(Timeout::ImplementationReady, ready);
    let cluster = FakeCluster { workload: Some(workload), ..FakeCluster::default() };
    let (server, cluster) = pretended_within(timeouts.clone(), cluster).await;
    let mut seat = seat(&Store::new(), LONG);
    timeouts.set(Timeout::Applied, LONG);
    seat.timeouts = timeouts;
    let settings = Settings::default();
    let starting = start(server.api.clone(), &settings, Injection::default(), RunNotes::default(), seat);
    let (started, ()) = tokio::join!(starting, then(cluster));
    if let Ok(instance) = &started {
        instance.stop().await.unwrap();
    }
    started
}

async fn nothing(_: Arc<Mutex<FakeCluster>>) {}

#[tokio::test]
async fn the_latest_warnings_of_the_clusters_events_are_quoted() {
    let event = |kind: &str, pod: &str, second: u8, reason: &str| {
        json!({ "metadata": { "name": format!("{pod}.{second}"), "namespace": "n" }, "type": kind, "reason": reason,
            "message": format!("{reason} in words"), "involvedObject": { "kind": "Pod", "name": pod },
            "lastTimestamp": format!("2026-01-01T00:00:0{second}Z") })
    };
    let workload = pod((true, running()), waiting("ContainerCreating"));
    let tell = async |cluster: Arc<Mutex<FakeCluster>>| {
        cluster.lock().unwrap().events = vec![
            event("Warning", "sleep-1", 1, "First"),
            event("Warning", "sleep-1", 4, "FailedMount"),
            event("Warning", "sleep-1", 3, "Third"),
            event("Warning", "sleep-1", 2, "Second"),
            event("Normal", "sleep-1", 5, "Scheduled"),
            event("Warning", "another-1", 6, "Other"),
        ];
    };
    let Err(TargetError::Environment(words)) = started(workload, SHORT, LONG, tell).await else { panic!() };
    let quoted =
        "; its events: FailedMount: FailedMount in words; Third: Third in words; Second: Second in words";
    assert!(words.ends_with(quoted), "{words}");
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_the_environments_fault_and_has_its_own_timeout() {
    let workload = pod((true, running()), waiting("ImagePullBackOff"));
    let Err(TargetError::Environment(words)) = started(workload, SHORT, LONG, nothing).await else {
        panic!()
    };
    for part in ["`images-pulled`", "application ImagePullBackOff (of the registry)", "--image KEY=IMAGE"] {
        assert!(words.contains(part), "{words}");
    }
}

#[tokio::test]
async fn a_proxy_that_was_started_and_does_not_become_ready_is_to_blame() {
    let workload = pod((false, running()), waiting("ContainerCreating"));
    let Err(error) = started(workload, LONG, SHORT, nothing).await else { panic!() };
    let TargetError::TimedOut { timeout: Timeout::ImplementationReady, what, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(what.contains("whose proxy was started"), "{what}");
}

#[tokio::test]
async fn images_may_take_longer_than_a_pod_to_become_ready() {
    let workload = pod((false, waiting("ContainerCreating")), waiting("ContainerCreating"));
    let pulled = async |cluster: Arc<Mutex<FakeCluster>>| {
        // Longer than the timeout for becoming ready.
        tokio::time::sleep(4 * SHORT).await;
        cluster.lock().unwrap().workload = None;
    };
    started(workload, LONG, 2 * SHORT, pulled).await.unwrap();
}

#[tokio::test]
async fn a_quota_that_prevents_pods_is_named() {
    let Err(TargetError::Environment(words)) = started(Value::Null, SHORT, LONG, nothing).await else {
        panic!()
    };
    assert!(words.contains("exceeded quota: few") && words.contains("kubectl get events"), "{words}");
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_not_waited_for() {
    let workload = pod((true, running()), waiting("InvalidImageName"));
    // A test that waits for this timeout does not end.
    let Err(TargetError::Environment(words)) = started(workload, NEVER, LONG, nothing).await else {
        panic!()
    };
    assert!(words.contains("InvalidImageName"), "{words}");
}
