//! Waiting for a pod, and who is to blame where it does not become ready: a proxy that runs and never becomes ready is the
//! implementation's fault, everything else that may keep a pod is the environment's.

use std::time::{Duration, Instant};

use meshproof_harness::target::TargetError;
use meshproof_harness::timeouts::Timeout;
use serde_json::Value;

use super::pods::{PROXY, ReadyPod, ready_pod};
use crate::api::{Api, ApiError, Selector};
use crate::pod::{is_leaving, statuses};

/// The timeout that bounds how long images are on their way.
pub(super) const PULLED: Timeout = Timeout::ImagesPulled;

/// Why a container waits, where nothing but a change to the run helps (Kubernetes, pkg/kubelet/images/types.go).
const HOPELESS: &[&str] = &["InvalidImageName", "ErrImageNeverPull"];
/// Why it waits where an image does not come.
const IMAGE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
];
/// Why it waits where the node cannot make it (pkg/kubelet/kuberuntime/kuberuntime_container.go).
const MAKING: &[&str] =
    &["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"];

/// How far a pod is.
#[derive(Debug)]
enum Stage {
    /// It is not made, has no node, or images and volumes are on their way.
    Preparing,
    /// Its containers run, or fail to.
    Starting,
    Ready(ReadyPod),
    /// Nothing will come of it.
    Hopeless,
}

fn waits_for(status: &Value) -> Option<&str> {
    status.pointer("/state/waiting/reason").and_then(Value::as_str)
}

fn any_waits(pod: &Value, reasons: &[&str]) -> bool {
    statuses(pod).filter_map(waits_for).any(|reason| reasons.contains(&reason))
}

fn runs(status: &Value) -> bool {
    status.pointer("/state/running").is_some()
}

/// Whether the proxy was started and is not ready: it runs, or it ended and is started again and again.
fn proxy_is_at_fault(pod: &Value) -> bool {
    statuses(pod).filter(|s| s["name"] == PROXY && s["ready"] != true).any(|proxy| {
        runs(proxy)
            || proxy.pointer("/state/terminated").is_some()
            || waits_for(proxy) == Some("CrashLoopBackOff")
    })
}

fn stage(pods: &[Value]) -> Stage {
    if let Some(ready) = ready_pod(pods) {
        return Stage::Ready(ready);
    }
    let Some(pod) = pods.iter().find(|p| !is_leaving(p)) else { return Stage::Preparing };
    if any_waits(pod, HOPELESS) {
        return Stage::Hopeless;
    }
    // An application is held until its proxy has started (`holdApplicationUntilProxyStarts`, or a native sidecar's startup probe), and
    // looks as if it were on its way for as long.
    if proxy_is_at_fault(pod) {
        return Stage::Starting;
    }
    let on_its_way =
        any_waits(pod, IMAGE) || any_waits(pod, MAKING) || any_waits(pod, &["ContainerCreating"]);
    let begun = statuses(pod).any(|s| runs(s) || waits_for(s) == Some("CrashLoopBackOff"));
    if on_its_way || !begun { Stage::Preparing } else { Stage::Starting }
}

/// Who is to blame for pods that are not ready when the time is over, and the mend where it is not the implementation.
fn mend(pods: &[Value], namespace: &str) -> Option<String> {
    let events = format!("`kubectl get events --namespace {namespace}`");
    let Some(pod) = pods.iter().find(|p| !is_leaving(p)) else {
        return Some(format!(
            "no pod is made: a quota, or a webhook that refuses or does not answer; {events} says which"
        ));
    };
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let unscheduled =
        conditions.into_iter().flatten().any(|c| c["type"] == "PodScheduled" && c["status"] == "False");
    if unscheduled {
        return Some(format!("no node takes it: make room, or fewer at once with --jobs 1; {events}"));
    }
    if any_waits(pod, HOPELESS) || any_waits(pod, IMAGE) {
        return Some(
            "its image is not to be had: see --image KEY=IMAGE, --pull-secret NAMESPACE/NAME and --pull-policy, or `kind load docker-image`"
                .to_owned(),
        );
    }
    if any_waits(pod, MAKING) {
        return Some(format!("the node cannot make its container; {events}"));
    }
    if proxy_is_at_fault(pod) {
        return None;
    }
    if statuses(pod).any(|s| waits_for(s) == Some("CrashLoopBackOff")) {
        let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        return Some(format!(
            "a container that is not the proxy ends each time it is started: `kubectl logs --namespace {namespace} {name} --all-containers`"
        ));
    }
    Some(format!("it was still on its way; {events}"))
}

/// Returns when a pod with this `app` label is ready. The time until its images are there is bounded by `images-pulled`, the rest by
/// `timeout`; each is counted over all containers, which may take turns.
///
/// # Errors
/// [`TargetError::Gone`]: the proxy was started and did not become ready. [`TargetError::Environment`]: anything else, with the pod's
/// last state and the mend.
pub(super) async fn await_pod(
    api: &Api,
    namespace: &str,
    app: &str,
    timeout: Timeout,
) -> Result<ReadyPod, TargetError> {
    let what = format!("pod {app} in {namespace} becomes ready");
    let whole = |name: Timeout| api.timeouts().get(name);
    let mut left = [whole(PULLED), whole(timeout)];
    let mut preparing = true;
    let mut last: Vec<Value> = Vec::new();
    loop {
        let (at, name) = if preparing { (0, PULLED) } else { (1, timeout) };
        let begun = Instant::now();
        let moved_on = |pods: &[Value]| {
            last = pods.to_vec();
            let stage = stage(pods);
            let stays = matches!((&stage, preparing), (Stage::Preparing, true) | (Stage::Starting, false));
            (!stays).then_some(stage)
        };
        let selector = Selector::labels(format!("app={app}"));
        let awaited = api.watch_within("Pod", Some(namespace), selector, (name, left[at]), &what, moved_on);
        let trouble = match awaited.await {
            Ok(Stage::Ready(pod)) => return Ok(pod),
            Ok(Stage::Preparing | Stage::Starting) => None,
            Ok(Stage::Hopeless) => Some(crate::api::summary::of_all(&last)),
            Err(ApiError::TimedOut { last, .. }) => Some(last),
            Err(e) => return Err(e.blame()),
        };
        if let Some(state) = trouble {
            return Err(fault(api, namespace, app, &last, name, whole(name), &state).await);
        }
        left[at] = left[at].saturating_sub(begun.elapsed());
        preparing = !preparing;
    }
}

async fn fault(
    api: &Api,
    namespace: &str,
    app: &str,
    pods: &[Value],
    timeout: Timeout,
    limit: Duration,
    state: &str,
) -> TargetError {
    let words = format!("pod {app} in {namespace} did not become ready (timeout `{timeout}`, {limit:?})");
    // The mend before the state, which may be long.
    let Some(mend) = mend(pods, namespace) else {
        return TargetError::Gone(format!(
            "{words}: its proxy was started and is not ready; last seen: {state}"
        ));
    };
    let refused = if pods.is_empty() { why_none(api, namespace, app).await } else { None };
    let state = refused.unwrap_or_else(|| state.to_owned());
    TargetError::Environment(format!(
        "{words}: {mend}; if it was on its way, --timeout {timeout}=DURATION gives it longer; last seen: {state}"
    ))
}

/// Why a Deployment has no pods, in the words of who refused them.
async fn why_none(api: &Api, namespace: &str, app: &str) -> Option<String> {
    let deployment = api.get("Deployment", namespace, app).await.ok()??;
    let conditions = deployment.pointer("/status/conditions")?.as_array()?;
    let failed = conditions.iter().find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    Some(meshproof_harness::store::bounded(failed["message"].as_str()?, 500))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(name: &str, ready: bool, state: Value) -> Value {
        json!({ "name": name, "ready": ready, "state": state })
    }

    fn waiting(name: &str, reason: &str) -> Value {
        container(name, false, json!({ "waiting": { "reason": reason } }))
    }

    fn running(name: &str, ready: bool) -> Value {
        container(name, ready, json!({ "running": {} }))
    }

    fn pod(init: Value, containers: Value) -> Value {
        json!({ "metadata": { "name": "sleep-1" }, "status": { "initContainerStatuses": init, "containerStatuses": containers } })
    }

    /// Whether it still prepares, and whether the implementation is to blame if it stays so.
    #[track_caller]
    fn is(pod: Value, prepares: bool, blamed: bool) {
        let pods = [pod];
        let stage = stage(&pods);
        assert_eq!(matches!(stage, Stage::Preparing), prepares, "{stage:?}");
        assert_eq!(mend(&pods, "ns").is_none(), blamed, "{:?}", mend(&pods, "ns"));
    }

    #[test]
    fn a_proxy_that_runs_and_is_not_ready_is_to_blame_whatever_waits_for_it() {
        is(
            pod(json!([]), json!([running(PROXY, false), waiting("application", "ContainerCreating")])),
            false,
            true,
        );
        is(
            pod(json!([running(PROXY, false)]), json!([waiting("application", "PodInitializing")])),
            false,
            true,
        );
        is(
            pod(json!([]), json!([waiting(PROXY, "CrashLoopBackOff"), running("application", true)])),
            false,
            true,
        );
    }

    #[test]
    fn images_on_their_way_are_not_the_proxys_fault_and_have_their_own_time() {
        is(
            pod(
                json!([]),
                json!([waiting(PROXY, "ContainerCreating"), waiting("application", "ContainerCreating")]),
            ),
            true,
            false,
        );
        is(
            pod(
                json!([waiting("istio-init", "PodInitializing")]),
                json!([waiting("application", "PodInitializing")]),
            ),
            true,
            false,
        );
        is(
            pod(json!([running(PROXY, true)]), json!([waiting("application", "ImagePullBackOff")])),
            true,
            false,
        );
        is(
            pod(json!([]), json!([running("application", true), waiting(PROXY, "ErrImagePull")])),
            true,
            false,
        );
        is(json!({ "metadata": { "name": "new" } }), true, false);
    }

    #[test]
    fn what_the_cluster_refuses_is_its_own() {
        is(pod(json!([]), json!([waiting(PROXY, "CreateContainerConfigError")])), true, false);
        is(
            pod(json!([]), json!([running(PROXY, true), waiting("application", "CrashLoopBackOff")])),
            false,
            false,
        );
        is(
            pod(
                json!([waiting("istio-init", "CrashLoopBackOff")]),
                json!([waiting(PROXY, "PodInitializing")]),
            ),
            false,
            false,
        );
        assert!(mend(&[], "ns").unwrap().contains("quota"));
    }

    #[test]
    fn an_image_that_will_never_come_is_not_waited_for() {
        for reason in HOPELESS {
            let pods = [pod(json!([]), json!([running(PROXY, true), waiting("application", reason)]))];
            assert!(matches!(stage(&pods), Stage::Hopeless));
            assert!(mend(&pods, "ns").unwrap().contains("--image"));
        }
    }
}
