//! Leftovers of runs: found by labels, kept where a run may still be running, removed and waited for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use meshproof_cluster::cleanup::{CleanupScope, find, remove};
use meshproof_cluster::inventory::Owned;
use meshproof_cluster::{ClusterTarget, Settings};
use meshproof_harness::target::Target;
use serde_json::{Value, json};

use crate::service::{ApiAnswer, ApiRequest, FakeApi, discovery};

const NOW: &str = "2026-01-02T12:00:00Z";

fn made(namespace: &str, name: &str, run: &str, created: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "creationTimestamp": created,
            "labels": { "meshproof.dev/run": run, "meshproof.dev/scenario": "egress-gateway-simple-default" },
        },
    })
}

/// A cluster with the namespaces of two runs, an object in one of them, and a Secret in a namespace that is
/// not the suite's; what is deleted is gone.
fn left() -> FakeApi {
    let mut gone: BTreeSet<String> = BTreeSet::new();
    FakeApi::answering(move |asked| {
        if let Some(answer) = discovery(asked) {
            return answer;
        }
        if asked.method == "DELETE" {
            gone.insert(asked.path.rsplit('/').next().unwrap_or_default().to_owned());
            return ApiAnswer::json(&json!({}));
        }
        let objects = match asked.path.as_str() {
            "/api/v1/namespaces" => vec![
                made("", "mp-new-x-default", "new", "2026-01-02T11:59:00Z"),
                made("", "mp-old-x-default", "old", "2026-01-01T00:00:00Z"),
            ],
            "/api/v1/secrets" | "/api/v1/namespaces/istio-system/secrets" => vec![
                made("istio-system", "client", "old", "2026-01-01T00:00:00Z"),
                made("mp-old-x-default", "inside", "old", "2026-01-01T00:00:00Z"),
            ],
            _ => Vec::new(),
        };
        ApiAnswer::list("1", &objects.into_iter().filter(|o| is_meant(asked, o, &gone)).collect::<Vec<_>>())
    })
}

fn is_meant(asked: &ApiRequest, object: &Value, gone: &BTreeSet<String>) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let run = object["metadata"]["labels"]["meshproof.dev/run"].as_str().unwrap_or_default();
    let selector = asked.parameter("labelSelector");
    let of_run = selector.as_deref().and_then(|s| s.strip_prefix("meshproof.dev/run="));
    let by_name = asked.parameter("fieldSelector");
    let named = by_name.as_deref().and_then(|s| s.strip_prefix("metadata.name="));
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    !gone.contains(name)
        && !gone.contains(namespace)
        && of_run.is_none_or(|r| r == run)
        && named.is_none_or(|n| n == name)
}

fn shown(objects: &[Owned]) -> Vec<String> {
    objects.iter().map(Owned::shown).collect()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

#[tokio::test]
async fn old_objects_are_found_in_every_namespace_and_new_ones_are_kept() {
    let cluster = left();
    let (found, spared) =
        find(&cluster.api, &CleanupScope::OlderThan(Duration::from_secs(3600)), now()).await.unwrap();
    assert_eq!(shown(&found), ["Namespace mp-old-x-default", "Secret istio-system/client"]);
    assert_eq!(shown(&spared), ["Namespace mp-new-x-default"]);
}

#[tokio::test]
async fn objects_of_one_run_or_of_all_are_found_at_any_age() {
    let cluster = left();
    let (found, spared) = find(&cluster.api, &CleanupScope::Run("new".into()), now()).await.unwrap();
    assert_eq!((shown(&found), spared.len()), (vec!["Namespace mp-new-x-default".to_owned()], 0));
    let (found, spared) = find(&cluster.api, &CleanupScope::All, now()).await.unwrap();
    assert_eq!((found.len(), spared.len()), (3, 0));
}

#[tokio::test]
async fn secrets_are_found_without_being_read() {
    let cluster = left();
    find(&cluster.api, &CleanupScope::All, now()).await.unwrap();
    let asked = cluster.asked();
    let accepted: Vec<&str> =
        asked.iter().filter(|a| a.path == "/api/v1/secrets").map(|a| a.accept.as_str()).collect();
    assert_eq!(accepted.len(), 1);
    assert!(accepted.iter().all(|a| a.contains("as=PartialObjectMetadataList")), "{accepted:?}");
}

#[tokio::test]
async fn removed_objects_are_gone_and_those_outside_the_suites_namespaces_go_first() {
    let cluster = left();
    let (found, _) = find(&cluster.api, &CleanupScope::All, now()).await.unwrap();
    let answer = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&answer);
    remove(&cluster.api, &found, move |object, result| {
        result.unwrap();
        keep.lock().unwrap().push(object.shown());
    })
    .await;
    assert_eq!(answer.lock().unwrap()[0], "Secret istio-system/client");
    assert_eq!(answer.lock().unwrap().len(), 3);
    let (found, spared) = find(&cluster.api, &CleanupScope::All, now()).await.unwrap();
    assert!(found.is_empty() && spared.is_empty());
}

#[tokio::test]
async fn what_a_run_left_is_reported_with_its_scenario_and_removed() {
    let cluster = left();
    let target = ClusterTarget::on(cluster.api.clone(), Settings::default());
    let before = target.before("another").await.unwrap();
    assert_eq!(before["inventory before"], "3 objects of other runs (new, old)");
    let kept = target.after("new", true).await.unwrap();
    assert!(kept.left.is_empty());
    assert!(kept.notes["inventory after"].contains("cleanup --target cluster --run new"), "{kept:?}");
    let after = target.after("new", false).await.unwrap();
    assert_eq!(after.notes["inventory after"], "1 object of this run");
    assert_eq!(after.left.len(), 1);
    assert_eq!(after.left[0].seat, "egress-gateway-simple-default");
    assert!(after.left[0].what.contains("mp-new-x-default: removed only after"), "{}", after.left[0].what);
    let after = target.after("new", false).await.unwrap();
    assert!(after.left.is_empty(), "it was removed");
    assert_eq!(after.notes["inventory after"], "no objects of this run");
}
