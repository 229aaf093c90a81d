//! What a pod says of itself (Kubernetes API, `Pod`).

use serde_json::Value;

/// Whether its condition `Ready` holds: of a pod, and of a node likewise.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether it, or any other object, is on its way out.
pub(crate) fn is_leaving(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// The status of each of its containers; those that come first, before the others, and native sidecars are among them.
pub(crate) fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
    lists.into_iter().filter_map(|list| pod.pointer(list).and_then(Value::as_array)).flatten()
}
