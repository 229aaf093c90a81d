//! What is retried, how often, and when.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use meshproof_cluster::api::ApiError;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_model::{Resource, ResourceId};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::service::{ApiAnswer, FakeApi};

/// Gives this answer the first times, and then succeeds.
fn at_first(times: usize, answer: impl Fn() -> ApiAnswer + Send + 'static) -> FakeApi {
    let mut asked = 0;
    FakeApi::answering(move |_| {
        asked += 1;
        if asked <= times { answer() } else { ApiAnswer::json(&json!({ "metadata": { "name": "a" } })) }
    })
}

#[tokio::test(start_paused = true)]
async fn transient_failures_are_retried() {
    for code in [429, 500, 502, 503, 504] {
        let cluster = at_first(2, move || ApiAnswer::status(code, "", "busy"));
        assert!(cluster.api.get("Pod", "default", "a").await.unwrap().is_some(), "{code}");
        assert_eq!(cluster.asked().len(), 3);
    }
    let cluster = at_first(2, || ApiAnswer::Reset);
    assert!(cluster.api.get("Pod", "default", "a").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_persists_is_given_up_as_the_environments_fault() {
    let cluster = at_first(usize::MAX, || ApiAnswer::status(503, "ServiceUnavailable", "etcd has no leader"));
    let error = cluster.api.get("Pod", "default", "a").await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
    assert_eq!(cluster.asked().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_never_answered_is_given_up_sooner_than_one_that_did() {
    let cluster = at_first(usize::MAX, || ApiAnswer::Reset);
    assert!(cluster.api.get("Pod", "default", "a").await.is_err());
    assert_eq!(cluster.asked().len(), 3);
    let mut asked = 0;
    let cluster = FakeApi::answering(move |_| {
        asked += 1;
        if asked == 1 { ApiAnswer::json(&json!({})) } else { ApiAnswer::Reset }
    });
    cluster.api.get("Pod", "default", "a").await.unwrap();
    assert!(cluster.api.get("Pod", "default", "a").await.is_err());
    assert_eq!(cluster.asked().len(), 1 + 7);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_does_not_answer_is_given_up_within_the_timeout() {
    let begun = Instant::now();
    let cluster = at_first(usize::MAX, || ApiAnswer::Silence);
    let error = cluster.api.get("Pod", "default", "a").await.unwrap_err();
    assert!(error.to_string().contains("`cluster-answer`"), "{error}");
    assert!(begun.elapsed() <= Timeouts::default().get(Timeout::ClusterAnswer) + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed() {
    let begun = Instant::now();
    let cluster =
        at_first(1, || ApiAnswer::status(429, "TooManyRequests", "slow down").with("Retry-After", "7"));
    cluster.api.get("Pod", "default", "a").await.unwrap();
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(7) && waited < Duration::from_secs(9), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_the_timeout_is_given_up_at_once() {
    let begun = Instant::now();
    let cluster =
        at_first(usize::MAX, || ApiAnswer::status(429, "", "slow down").with("Retry-After", "3600"));
    let error = cluster.api.get("Pod", "default", "a").await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(cluster.asked().len(), 1);
}

fn service_entry() -> Resource {
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": { "name": "a",
            "namespace": "b" },
    }))
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_retried_and_a_lasting_one_is_reported() {
    let conflict = || ApiAnswer::status(409, "Conflict", "the object has been modified");
    let cluster = at_first(2, conflict);
    cluster.api.apply(&service_entry()).await.unwrap();
    assert_eq!(cluster.asked().len(), 3);
    let cluster = at_first(usize::MAX, conflict);
    let error = cluster.api.apply(&service_entry()).await.unwrap_err();
    assert!(matches!(error, ApiError::Conflict(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_role_binding_whose_role_the_server_does_not_know_yet_is_retried() {
    let unknown =
        || ApiAnswer::status(404, "NotFound", "rolebindings.rbac.authorization.k8s.io \"a\" not found");
    let cluster = at_first(2, unknown);
    let binding = |kind: &str| {
        Resource(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": { "name": "a",
                "namespace": "b" },
        }))
    };
    cluster.api.apply(&binding("RoleBinding")).await.unwrap();
    assert_eq!(cluster.asked().len(), 3);
    let cluster = at_first(usize::MAX, unknown);
    assert!(cluster.api.apply(&binding("Role")).await.is_err());
    assert_eq!(cluster.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_anything_but_an_apply_is_reported_at_once() {
    let cluster = at_first(usize::MAX, || ApiAnswer::status(409, "Conflict", "no"));
    let id = ResourceId { kind: "Secret".into(), namespace: "a".into(), name: "b".into() };
    assert!(matches!(cluster.api.delete(&id).await, Err(ApiError::Conflict(_))));
    assert_eq!(cluster.asked().len(), 1);
}

fn page(items: usize, after: &str) -> ApiAnswer {
    let items: Vec<Value> = (0..items).map(|n| json!({ "metadata": { "name": n.to_string() } })).collect();
    ApiAnswer::json(&json!({ "metadata": { "continue": after, "resourceVersion": "7" }, "items": items }))
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_begun_again_when_its_continuation_is_too_old() {
    let mut expired = false;
    let cluster = FakeApi::answering(move |asked| match asked.parameter("continue").as_deref() {
        None => page(2, "second"),
        Some("second") if !expired => {
            expired = true;
            ApiAnswer::status(410, "Expired", "the provided continue parameter is too old")
        }
        Some("second") => page(1, ""),
        Some(other) => panic!("{other}"),
    });
    assert_eq!(cluster.api.list("Pod", None, Some("a=b")).await.unwrap().len(), 3);
    let asked = cluster.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|a| a.parameter("labelSelector").as_deref() == Some("a=b")));
    assert!(asked.iter().all(|a| a.parameter("limit").is_some()));
}

#[tokio::test]
async fn an_endless_list_is_given_up() {
    let cluster = FakeApi::answering(|_| page(5_000, "more"));
    let error = cluster.api.list("Pod", None, None).await.unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
    assert!(cluster.asked().len() < 10);
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let cluster = FakeApi::answering(|_| {
        ApiAnswer::Pieces(stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; 64 * 1024]))).boxed())
    });
    let error = cluster.api.get("Pod", "default", "a").await.unwrap_err();
    assert!(error.to_string().contains("bytes"), "{error}");
}
