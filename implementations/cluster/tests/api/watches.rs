//! Waiting by watch, where the watch does not go on of itself.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use meshproof_cluster::api::{ApiError, PodRef, Selector};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_model::ResourceId;
use serde_json::{Value, json};

use crate::service::{Answer, Asked, Cluster, event, status};

fn pod(name: &str, version: u32, phase: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "mp-1", "resourceVersion": version.to_string() },
        "status": { "phase": phase },
    })
}

/// Waits until a pod runs, and returns its name.
async fn running(cluster: &Cluster) -> Result<String, ApiError> {
    let seen = |pods: &[Value]| {
        let running = pods.iter().find(|p| p["status"]["phase"] == "Running")?;
        Some(running["metadata"]["name"].as_str()?.to_owned())
    };
    cluster
        .api
        .watch_until(
            "Pod",
            Some("mp-1"),
            Selector::labels("app=sleep"),
            Timeout::Applied,
            "the pod runs",
            seen,
        )
        .await
}

/// An API whose lists and watches are answered one after the other.
fn scripted(mut lists: Vec<Answer>, mut watches: Vec<Answer>) -> Cluster {
    lists.reverse();
    watches.reverse();
    Cluster::answering(move |asked| {
        let script = if asked.watches() { &mut watches } else { &mut lists };
        script.pop().unwrap_or(Answer::Silence)
    })
}

fn watched(cluster: &Cluster) -> Vec<Asked> {
    cluster.asked().into_iter().filter(Asked::watches).collect()
}

#[tokio::test]
async fn what_the_list_shows_needs_no_watch() {
    let cluster = scripted(vec![Answer::list("5", &[pod("a", 4, "Running")])], Vec::new());
    assert_eq!(running(&cluster).await.unwrap(), "a");
    assert!(watched(&cluster).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_by_watching_on_from_the_list() {
    let events = [
        event("ADDED", &pod("b", 6, "Pending")),
        event("BOOKMARK", &pod("", 7, "")),
        event("MODIFIED", &pod("a", 8, "Running")),
    ];
    let cluster = scripted(vec![Answer::list("5", &[pod("a", 4, "Pending")])], vec![Answer::events(&events)]);
    assert_eq!(running(&cluster).await.unwrap(), "a");
    assert_eq!(watched(&cluster)[0].parameter("resourceVersion").as_deref(), Some("5"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_reset_goes_on_where_it_was() {
    let before = [event("MODIFIED", &pod("a", 8, "Pending")), event("BOOKMARK", &pod("", 9, ""))];
    let after = [event("MODIFIED", &pod("a", 12, "Running"))];
    let cluster = scripted(
        vec![Answer::list("5", &[pod("a", 4, "Pending")])],
        vec![Answer::events_then_reset(&before), Answer::Reset, Answer::events(&after)],
    );
    assert_eq!(running(&cluster).await.unwrap(), "a");
    let from: Vec<_> = watched(&cluster).iter().map(|a| a.parameter("resourceVersion").unwrap()).collect();
    assert_eq!(from, ["5", "9", "9"]);
    assert_eq!(cluster.asked().len(), 4, "nothing was listed again");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_no_longer_kept_is_listed_again_however_it_is_told() {
    let gone = || status(410, "Expired", "too old resource version");
    let in_the_stream = Answer::events(&[event("ERROR", &gone())]);
    let at_once = Answer::Whole(410, Vec::new(), gone().to_string().into());
    for told in [in_the_stream, at_once] {
        let cluster = scripted(
            vec![
                Answer::list("5", &[pod("a", 4, "Pending")]),
                Answer::list("90", &[pod("a", 80, "Running")]),
            ],
            vec![told],
        );
        assert_eq!(running(&cluster).await.unwrap(), "a");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_went_away_unseen_is_no_longer_there_after_a_new_list() {
    let cluster = scripted(
        vec![Answer::list("5", &[pod("a", 4, "Pending")]), Answer::list("90", &[])],
        vec![Answer::status(410, "Expired", "too old")],
    );
    let seen = |pods: &[Value]| pods.is_empty().then_some(());
    let selector = Selector::default();
    cluster.api.watch_until("Pod", None, selector, Timeout::Applied, "all are gone", seen).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_not_believed() {
    let cluster = scripted(
        vec![Answer::list("5", &[pod("a", 4, "Pending")]), Answer::list("9", &[pod("a", 9, "Running")])],
        vec![Answer::events(&[])],
    );
    assert_eq!(running(&cluster).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_made_up_for_by_a_list() {
    let cluster = scripted(
        vec![Answer::list("5", &[pod("a", 4, "Pending")]), Answer::list("9", &[pod("a", 9, "Running")])],
        vec![Answer::Whole(200, Vec::new(), "{\"type\":\n".into())],
    );
    assert_eq!(running(&cluster).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_missing_ends_the_wait_at_once() {
    let cluster = scripted(
        vec![Answer::list("5", &[])],
        vec![Answer::status(403, "Forbidden", "User \"a\" cannot watch resource \"pods\"")],
    );
    let error = running(&cluster).await.unwrap_err();
    assert!(matches!(&error, ApiError::Forbidden { verb, .. } if verb == "watch"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_says_for_what_and_what_was_seen_last() {
    let mut waiting = pod("sleep-1", 4, "Pending");
    waiting["status"]["containerStatuses"] = json!([{ "name": "sleep", "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } }]);
    let cluster = scripted(vec![Answer::list("5", &[waiting])], vec![Answer::events(&[])]);
    let error = running(&cluster).await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_hangs_in_terminating_is_told_with_what_holds_it() {
    let hanging = json!({
        "metadata": {
            "name": "mp-1-x-default", "resourceVersion": "9", "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": { "finalizers": ["kubernetes"] },
        "status": {
            "phase": "Terminating",
            "conditions": [{
                "type": "NamespaceFinalizersRemaining", "status": "True",
                "message": "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
            }],
        },
    });
    let cluster = Cluster::answering(move |asked| match asked.method.as_str() {
        "DELETE" => Answer::json(&hanging),
        _ if asked.watches() => Answer::events(&[]),
        _ => Answer::list("9", std::slice::from_ref(&hanging)),
    });
    let id = ResourceId { kind: "Namespace".into(), namespace: String::new(), name: "mp-1-x-default".into() };
    let error = cluster.api.delete_and_wait(&id, Duration::from_secs(30)).await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_over_when_the_object_is_gone() {
    let namespace = json!({ "metadata": { "name": "mp-1", "resourceVersion": "9" } });
    let cluster = Cluster::answering(move |asked| match asked.method.as_str() {
        "DELETE" => Answer::json(&namespace),
        _ if asked.watches() => Answer::events(&[event("DELETED", &namespace)]),
        _ => Answer::list("9", std::slice::from_ref(&namespace)),
    });
    let id = ResourceId { kind: "Namespace".into(), namespace: String::new(), name: "mp-1".into() };
    cluster.api.delete_and_wait(&id, Timeouts::default().get(Timeout::Teardown)).await.unwrap();
    assert_eq!(watched(&cluster)[0].parameter("fieldSelector").as_deref(), Some("metadata.name=mp-1"));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_falls_silent_is_taken_up_anew() {
    const A: &str = "2026-01-01T00:00:05.1Z a\n";
    const B: &str = "2026-01-01T00:00:05.2Z b\n";
    let mut streams = 0;
    let cluster = Cluster::answering(move |asked| {
        if !asked.path.ends_with("/log") {
            return Answer::json(&json!({ "status": {} }));
        }
        streams += 1;
        let lines = if streams < 3 { A.to_owned() } else { format!("{A}{B}") };
        Answer::Pieces(stream::iter([Ok(lines.into())]).chain(stream::pending()).boxed())
    });
    let (line, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let pod = PodRef { namespace: "mp-1".into(), pod: "a".into(), container: "c".into() };
    let sink = move |text: &[u8]| line.send(String::from_utf8_lossy(text).into_owned()).unwrap();
    let follower = cluster.api.follow_logs(&pod, jiff::Timestamp::UNIX_EPOCH, sink);
    assert_eq!(lines.recv().await.unwrap(), "a");
    assert_eq!(lines.recv().await.unwrap(), "b");
    follower.stop().await;
}
