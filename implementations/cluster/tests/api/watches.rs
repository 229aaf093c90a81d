//! Waiting by a watch that is interrupted.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use kube::api::ListParams;
use meshproof_cluster::api::{ApiError, Awaited, PodRef};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_model::ResourceId;
use serde_json::{Value, json};

use crate::service::{ApiAnswer, ApiRequest, FakeApi, event, status};

fn pod(name: &str, version: u32, phase: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "mp-1", "resourceVersion": version.to_string() },
        "status": { "phase": phase },
    })
}

fn bookmark(version: u32) -> Value {
    let metadata = json!({ "resourceVersion": version.to_string() });
    event("BOOKMARK", &json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata }))
}

/// Waits until a pod runs, and returns its name.
async fn running(cluster: &FakeApi) -> Result<String, ApiError> {
    let seen = |pods: &[Value]| {
        let running = pods.iter().find(|p| p["status"]["phase"] == "Running")?;
        Some(running["metadata"]["name"].as_str()?.to_owned())
    };
    let limit = cluster.api.timeouts().get(Timeout::Applied);
    cluster
        .api
        .watch_until(&Awaited::pods("mp-1", "sleep", (Timeout::Applied, limit), "the pod runs"), seen)
        .await
}

/// An API with these answers to lists and watches, in order.
fn scripted(mut lists: Vec<ApiAnswer>, mut watches: Vec<ApiAnswer>) -> FakeApi {
    lists.reverse();
    watches.reverse();
    // Timeouts that are set do not grow with the machine's load.
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::ClusterAnswer, Duration::from_secs(30));
    timeouts.set(Timeout::Applied, Duration::from_secs(60));
    FakeApi::with(timeouts, move |asked| {
        let script = if asked.watches() { &mut watches } else { &mut lists };
        script.pop().unwrap_or(ApiAnswer::Silence)
    })
}

fn watched(cluster: &FakeApi) -> Vec<ApiRequest> {
    cluster.asked().into_iter().filter(ApiRequest::watches).collect()
}

#[tokio::test]
async fn a_condition_that_the_list_satisfies_needs_no_watch() {
    let cluster = scripted(vec![ApiAnswer::list("5", &[pod("a", 4, "Running")])], Vec::new());
    assert_eq!(running(&cluster).await.unwrap(), "a");
    assert!(watched(&cluster).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_after_the_list_is_seen_by_watching() {
    let events =
        [event("ADDED", &pod("b", 6, "Pending")), bookmark(7), event("MODIFIED", &pod("a", 8, "Running"))];
    let cluster =
        scripted(vec![ApiAnswer::list("5", &[pod("a", 4, "Pending")])], vec![ApiAnswer::events(&events)]);
    assert_eq!(running(&cluster).await.unwrap(), "a");
    assert_eq!(watched(&cluster)[0].parameter("resourceVersion").as_deref(), Some("5"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_reset_resumes_from_the_last_version() {
    let before = [event("MODIFIED", &pod("a", 8, "Pending")), bookmark(9)];
    let after = [event("MODIFIED", &pod("a", 12, "Running"))];
    let cluster = scripted(
        vec![ApiAnswer::list("5", &[pod("a", 4, "Pending")])],
        vec![ApiAnswer::events_then_reset(&before), ApiAnswer::Reset, ApiAnswer::events(&after)],
    );
    assert_eq!(running(&cluster).await.unwrap(), "a");
    let from: Vec<_> = watched(&cluster).iter().map(|a| a.parameter("resourceVersion").unwrap()).collect();
    assert_eq!(from, ["5", "9", "9"]);
    assert_eq!(cluster.asked().len(), 4, "nothing was listed again");
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_is_listed_again_whether_the_event_or_the_response_says_so() {
    let gone = || status(410, "Expired", "too old resource version");
    let in_the_stream = ApiAnswer::events(&[event("ERROR", &gone())]);
    let at_once = ApiAnswer::Whole(410, Vec::new(), gone().to_string().into());
    for answer in [in_the_stream, at_once] {
        let cluster = scripted(
            vec![
                ApiAnswer::list("5", &[pod("a", 4, "Pending")]),
                ApiAnswer::list("90", &[pod("a", 80, "Running")]),
            ],
            vec![answer],
        );
        assert_eq!(running(&cluster).await.unwrap(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_deleted_unseen_is_gone_after_a_new_list() {
    let cluster = scripted(
        vec![ApiAnswer::list("5", &[pod("a", 4, "Pending")]), ApiAnswer::list("90", &[])],
        vec![ApiAnswer::status(410, "Expired", "too old")],
    );
    let seen = |pods: &[Value]| pods.is_empty().then_some(());
    let awaited = Awaited {
        kind: "Pod",
        namespace: None,
        selected: ListParams::default(),
        timeout: (Timeout::Applied, Duration::from_secs(60)),
        what: "all are gone",
    };
    cluster.api.watch_until(&awaited, seen).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_replaced_by_a_new_list() {
    let cluster = scripted(
        vec![
            ApiAnswer::list("5", &[pod("a", 4, "Pending")]),
            ApiAnswer::list("9", &[pod("a", 9, "Running")]),
        ],
        vec![ApiAnswer::events(&[])],
    );
    assert_eq!(running(&cluster).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn after_an_event_that_cannot_be_read_the_objects_are_listed_again() {
    for line in ["{\"type\":\n", "{\"neither\":1}\n", "not JSON\n"] {
        let running_now = ApiAnswer::list("9", &[pod("a", 9, "Running")]);
        let cluster = scripted(
            vec![ApiAnswer::list("5", &[pod("a", 4, "Pending")]), running_now],
            vec![ApiAnswer::Whole(200, Vec::new(), line.into())],
        );
        assert_eq!(running(&cluster).await.unwrap(), "a", "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_without_end_is_not_read_to_its_end_and_the_objects_are_listed_again() {
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; 1024 * 1024]))).boxed();
    let cluster = scripted(
        vec![
            ApiAnswer::list("5", &[pod("a", 4, "Pending")]),
            ApiAnswer::list("9", &[pod("a", 9, "Running")]),
        ],
        vec![ApiAnswer::Pieces(endless)],
    );
    assert_eq!(running(&cluster).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_ends_the_wait_at_once() {
    let cluster = scripted(
        vec![ApiAnswer::list("5", &[])],
        vec![ApiAnswer::status(403, "Forbidden", "User \"a\" cannot watch resource \"pods\"")],
    );
    let error = running(&cluster).await.unwrap_err();
    assert!(matches!(&error, ApiError::Forbidden(words) if words.contains("cannot watch")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_times_out_names_the_condition_and_the_last_state() {
    let mut waiting = pod("sleep-1", 4, "Pending");
    waiting["status"]["containerStatuses"] = json!([{ "name": "sleep", "state": { "waiting": { "reason":
        "ImagePullBackOff", "message": "not found" } } }]);
    let cluster = scripted(vec![ApiAnswer::list("5", &[waiting])], vec![ApiAnswer::events(&[])]);
    let error = running(&cluster).await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_stuck_in_terminating_is_reported_with_what_holds_it() {
    let hanging = json!({
        "metadata": {
            "name": "mp-1-x-default", "resourceVersion": "9", "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": { "finalizers": ["kubernetes"] },
        "status": {
            "phase": "Terminating",
            "conditions": [{
                "type": "NamespaceFinalizersRemaining", "status": "True",
                "message": "Some content in the namespace has finalizers remaining: example.com/hold in 1 \
                 resource instances",
            }],
        },
    });
    let cluster = FakeApi::answering(move |asked| match asked.method.as_str() {
        "DELETE" => ApiAnswer::json(&hanging),
        _ if asked.watches() => ApiAnswer::events(&[]),
        _ => ApiAnswer::list("9", std::slice::from_ref(&hanging)),
    });
    let id = ResourceId { kind: "Namespace".into(), namespace: String::new(), name: "mp-1-x-default".into() };
    let error = cluster.api.delete_and_wait(&id, Duration::from_secs(30)).await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_over_when_the_object_is_gone() {
    let namespace = json!({ "metadata": { "name": "mp-1", "resourceVersion": "9" } });
    let cluster = FakeApi::answering(move |asked| match asked.method.as_str() {
        "DELETE" => ApiAnswer::json(&namespace),
        _ if asked.watches() => ApiAnswer::events(&[event("DELETED", &namespace)]),
        _ => ApiAnswer::list("9", std::slice::from_ref(&namespace)),
    });
    let id = ResourceId { kind: "Namespace".into(), namespace: String::new(), name: "mp-1".into() };
    cluster.api.delete_and_wait(&id, Timeouts::default().get(Timeout::Teardown)).await.unwrap();
    assert_eq!(watched(&cluster)[0].parameter("fieldSelector").as_deref(), Some("metadata.name=mp-1"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_log_is_opened_again() {
    const A: &str = "2026-01-01T00:00:05.1Z a\n";
    const B: &str = "2026-01-01T00:00:05.2Z b\n";
    let mut streams = 0;
    let cluster = FakeApi::answering(move |asked| {
        if !asked.path.ends_with("/log") {
            return ApiAnswer::json(&json!({ "status": {} }));
        }
        streams += 1;
        let lines = if streams < 3 { A.to_owned() } else { format!("{A}{B}") };
        ApiAnswer::Pieces(stream::iter([Ok(lines.into())]).chain(stream::pending()).boxed())
    });
    let (line, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let pod = PodRef { namespace: "mp-1".into(), pod: "a".into(), container: "c".into() };
    let sink = move |text: &[u8]| line.send(String::from_utf8_lossy(text).into_owned()).unwrap();
    let follower = cluster.api.follow_logs(&pod, jiff::Timestamp::UNIX_EPOCH, sink);
    assert_eq!(lines.recv().await.unwrap(), "a");
    assert_eq!(lines.recv().await.unwrap(), "b");
    follower.stop().await;
}
