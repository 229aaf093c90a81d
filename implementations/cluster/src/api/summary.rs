//! The state of objects in few words, for the error of a wait that timed out.

use serde_json::Value;

use crate::pod::{is_leaving, statuses};

/// How many objects are listed.
const MAX_LISTED: usize = 5;

/// The state of these objects.
pub(crate) fn of_all(objects: &[Value]) -> String {
    if objects.is_empty() {
        return "no such object".to_owned();
    }
    let mut states: Vec<String> = objects.iter().take(MAX_LISTED).map(of).collect();
    if objects.len() > MAX_LISTED {
        states.push(format!("and {} more", objects.len() - MAX_LISTED));
    }
    meshproof_harness::store::bounded(&states.join("; "), 2048)
}

fn of(object: &Value) -> String {
    let mut words = Vec::new();
    if let Some(phase) = object.pointer("/status/phase").and_then(Value::as_str) {
        words.push(phase.to_owned());
    }
    if is_leaving(object) {
        let finalizers = ["/metadata/finalizers", "/spec/finalizers"];
        let held: Vec<&str> = finalizers
            .iter()
            .filter_map(|p| object.pointer(p).and_then(Value::as_array))
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let by = if held.is_empty() { String::new() } else { format!(", held by {}", held.join(", ")) };
        words.push(format!("being deleted{by}"));
    }
    words.extend(statuses(object).filter_map(container_trouble));
    words.extend(conditions(object));
    let replicas = |field: &str| object["status"][field].as_u64().unwrap_or(0);
    if object["kind"] == "Deployment" || object.pointer("/status/replicas").is_some() {
        words.push(format!("{} of {} ready", replicas("readyReplicas"), replicas("replicas")));
    }
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("(nameless)");
    if words.is_empty() { name.to_owned() } else { format!("{name}: {}", words.join(", ")) }
}

/// `istio-proxy ImagePullBackOff (...)`; none for a container that runs and is ready.
fn container_trouble(container: &Value) -> Option<String> {
    let name = container["name"].as_str()?;
    let states = ["waiting", "terminated"];
    let (reason, message) = states.iter().find_map(|s| {
        let state = container.pointer(&format!("/state/{s}"))?;
        let reason = state["reason"].as_str().unwrap_or(s);
        // An init container is meant to complete.
        (reason != "Completed").then(|| (reason, state["message"].as_str().unwrap_or_default()))
    })?;
    Some(if message.is_empty() { format!("{name} {reason}") } else { format!("{name} {reason} ({message})") })
}

/// The false conditions of a pod or a Deployment, and the true ones of a namespace, where they are obstacles
/// to its deletion.
fn conditions(object: &Value) -> Vec<String> {
    let is_namespace = object.pointer("/status/phase").and_then(Value::as_str) == Some("Terminating");
    let obstacle = if is_namespace { "True" } else { "False" };
    let list = object.pointer("/status/conditions").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter(|c| c["status"] == obstacle)
        .filter_map(|c| {
            let words = c["message"].as_str().filter(|m| !m.is_empty()).or_else(|| c["reason"].as_str())?;
            Some(format!("{}: {words}", c["type"].as_str()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_whose_image_cannot_be_pulled_is_shown_with_the_reason() {
        let pod = json!({
            "metadata": {"name": "sleep-1"},
            "status": {
                "phase": "Pending",
                "initContainerStatuses": [{"name": "istio-init", "state": {"terminated": {"reason":
                    "Completed"}}}],
                "containerStatuses": [
                    {"name": "sleep", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not \
                        found"}}},
                    {"name": "istio-proxy", "state": {"running": {}}},
                ],
            },
        });
        assert_eq!(of_all(&[pod]), "sleep-1: Pending, sleep ImagePullBackOff (not found)");
    }

    #[test]
    fn a_namespace_that_is_not_deleted_is_shown_with_what_holds_it() {
        let namespace = json!({
            "metadata": {"name": "mp-1", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Terminating", "conditions": [
                {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "example.com/x in 1 \
                    resource"},
                {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "fine"},
            ]},
        });
        assert_eq!(
            of_all(&[namespace]),
            "mp-1: Terminating, being deleted, held by kubernetes, NamespaceFinalizersRemaining: \
             example.com/x in 1 resource"
        );
        assert_eq!(of_all(&[]), "no such object");
    }
}
