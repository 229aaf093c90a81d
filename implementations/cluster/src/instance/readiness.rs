//! Waiting for a pod, and who is to blame where it does not become ready: a proxy that runs and never becomes
//! ready is the implementation's fault; anything else that keeps a pod from becoming ready is the
//! environment's.

use std::time::{Duration, Instant};

use meshproof_harness::store::bounded;
use meshproof_harness::target::TargetError;
use meshproof_harness::timeouts::Timeout;
use serde_json::Value;

use super::ready_pod::{PROXY, ReadyPod, ready_pod};
use crate::api::{ApiError, Awaited, ClusterClient};
use crate::pod::{is_leaving, statuses};

/// The timeout for pulling images.
pub(super) const PULLED: Timeout = Timeout::ImagesPulled;
/// The timeout for pods to become ready after that.
pub(super) const READY: Timeout = Timeout::ImplementationReady;

/// Reasons of waiting that only a change of the run's options resolves (Kubernetes,
/// pkg/kubelet/images/types.go).
const HOPELESS: &[&str] = &["InvalidImageName", "ErrImageNeverPull"];
/// Reasons of waiting for an image that cannot be pulled.
const IMAGE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
];
/// Reasons of waiting for a container that the node cannot create
/// (pkg/kubelet/kuberuntime/kuberuntime_container.go).
const CREATION: &[&str] =
    &["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"];

/// How far a pod has come.
#[derive(Debug)]
enum PodStage {
    /// It does not exist yet, has no node, or waits for images or volumes.
    Preparing,
    /// Its containers run, or fail to.
    Starting,
    Ready(ReadyPod),
    /// It cannot become ready.
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

/// Whether the proxy was started and is not ready: it runs, or it exits and is restarted again and again.
fn proxy_is_at_fault(pod: &Value) -> bool {
    statuses(pod).filter(|s| s["name"] == PROXY && s["ready"] != true).any(|proxy| {
        runs(proxy)
            || proxy.pointer("/state/terminated").is_some()
            || waits_for(proxy) == Some("CrashLoopBackOff")
    })
}

fn stage(pods: &[Value]) -> PodStage {
    if let Some(ready) = ready_pod(pods) {
        return PodStage::Ready(ready);
    }
    let Some(pod) = pods.iter().find(|p| !is_leaving(p)) else { return PodStage::Preparing };
    if any_waits(pod, HOPELESS) {
        return PodStage::Hopeless;
    }
    // An application is held until its proxy has started (`holdApplicationUntilProxyStarts`, or a native
    // sidecar's startup probe), and until then looks as if it were still being prepared.
    if proxy_is_at_fault(pod) {
        return PodStage::Starting;
    }
    let is_prepared =
        any_waits(pod, IMAGE) || any_waits(pod, CREATION) || any_waits(pod, &["ContainerCreating"]);
    let begun = statuses(pod).any(|s| runs(s) || waits_for(s) == Some("CrashLoopBackOff"));
    if is_prepared || !begun { PodStage::Preparing } else { PodStage::Starting }
}

/// What to do about pods that are not ready when the time is over; none where the implementation is to blame.
fn fix(pods: &[Value], namespace: &str) -> Option<String> {
    let events = format!("`kubectl get events --namespace {namespace}`");
    let Some(pod) = pods.iter().find(|p| !is_leaving(p)) else {
        return Some(format!(
            "no pod was created, because of a quota or of a webhook that refuses or does not answer; \
             {events} says which"
        ));
    };
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let unscheduled =
        conditions.into_iter().flatten().any(|c| c["type"] == "PodScheduled" && c["status"] == "False");
    if unscheduled {
        return Some(format!(
            "no node has room for it: free resources, or run fewer scenarios at once with --jobs 1; {events}"
        ));
    }
    if any_waits(pod, HOPELESS) || any_waits(pod, IMAGE) {
        return Some(
            "its image cannot be pulled: see --image KEY=IMAGE, --pull-secret NAMESPACE/NAME and \
             --pull-policy, or `kind load docker-image`"
                .to_owned(),
        );
    }
    if any_waits(pod, CREATION) {
        return Some(format!("the node cannot create its container; {events}"));
    }
    if proxy_is_at_fault(pod) {
        return None;
    }
    if statuses(pod).any(|s| waits_for(s) == Some("CrashLoopBackOff")) {
        let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        return Some(format!(
            "a container that is not the proxy exits each time it is started: `kubectl logs --namespace \
             {namespace} {name} --all-containers`"
        ));
    }
    Some(format!("it was still being prepared; {events}"))
}

/// Returns when a pod with this `app` label is ready. `images-pulled` bounds the time until its images are
/// present, `timeout` the rest; each is counted over all containers, which may alternate.
///
/// # Errors
/// [`TargetError::TimedOut`]: the proxy was started and did not become ready. [`TargetError::Environment`]:
/// anything else, with the pod's last state and what to do.
pub(super) async fn await_pod(
    api: &ClusterClient,
    namespace: &str,
    app: &str,
    timeout: Timeout,
) -> Result<ReadyPod, TargetError> {
    let what = format!("pod {app} in {namespace} is ready");
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
            let stays =
                matches!((&stage, preparing), (PodStage::Preparing, true) | (PodStage::Starting, false));
            (!stays).then_some(stage)
        };
        let awaited = Awaited::pods(namespace, app, (name, left[at]), &what);
        let trouble = match api.watch_until(&awaited, moved_on).await {
            Ok(PodStage::Ready(pod)) => return Ok(pod),
            Ok(PodStage::Preparing | PodStage::Starting) => None,
            Ok(PodStage::Hopeless) => Some(crate::api::summary::of_all(&last)),
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

/// As [`await_pod`], for a pod that must have a proxy.
pub(super) async fn await_proxy(
    api: &ClusterClient,
    namespace: &str,
    app: &str,
    timeout: Timeout,
) -> Result<ReadyPod, TargetError> {
    let pod = await_pod(api, namespace, app, timeout).await?;
    if pod.injected {
        return Ok(pod);
    }
    Err(TargetError::Environment(format!(
        "pod {}/{} has no proxy: the mesh did not inject one into this namespace; see `meshproof doctor \
         --target cluster`",
        namespace, pod.name
    )))
}

/// Returns when no pod with this `app` label is left.
pub(super) async fn await_absence(
    api: &ClusterClient,
    namespace: &str,
    app: &str,
) -> Result<(), TargetError> {
    let what = format!("the pods {app} in {namespace} are gone");
    let awaited =
        Awaited::pods(namespace, app, (Timeout::Applied, api.timeouts().get(Timeout::Applied)), &what);
    let absent = |pods: &[Value]| pods.is_empty().then_some(());
    api.watch_until(&awaited, absent).await.map_err(ApiError::blame)
}

async fn fault(
    api: &ClusterClient,
    namespace: &str,
    app: &str,
    pods: &[Value],
    timeout: Timeout,
    limit: Duration,
    state: &str,
) -> TargetError {
    let words = format!("pod {app} in {namespace} did not become ready (timeout `{timeout}`, {limit:?})");
    let state = format!("{state}{}", warnings(api, namespace, pods).await);
    // What to do comes before the state, which may be long.
    let Some(fix) = fix(pods, namespace) else {
        let what = format!("pod {app} in {namespace}, whose proxy was started, to become ready");
        return TargetError::TimedOut { timeout, limit, what, last: Some(state) };
    };
    let refused = if pods.is_empty() { why_no_pods(api, namespace, app).await } else { None };
    let state = refused.unwrap_or(state);
    TargetError::Environment(format!(
        "{words}: {fix}; if it only needed more time, raise the limit with --timeout {timeout}=DURATION; \
         last seen: {state}"
    ))
}

/// How many of a pod's events are quoted.
const MAX_EVENTS: usize = 3;
/// How many bytes of an event's message are quoted.
const MAX_EVENT: usize = 300;

/// The latest warnings about a pod that is not ready, in the words of the cluster, or nothing.
async fn warnings(api: &ClusterClient, namespace: &str, pods: &[Value]) -> String {
    let Some(pod) = pods.iter().find(|pod| !is_leaving(pod)) else { return String::new() };
    // Without the permission, or if they cannot be read: the state says enough to look for them.
    let Ok(events) = api.list("Event", Some(namespace), None).await else { return String::new() };
    let about = |event: &&Value| {
        event["type"] == "Warning" && event["involvedObject"]["name"] == pod["metadata"]["name"]
    };
    let mut found: Vec<&Value> = events.iter().filter(about).collect();
    // Old events have no `eventTime`, and new ones no `lastTimestamp` (Kubernetes, events.k8s.io/v1).
    let at = |event: &Value| {
        ["lastTimestamp", "eventTime"].iter().find_map(|key| event[*key].as_str().map(str::to_owned))
    };
    found.sort_by_key(|event| std::cmp::Reverse(at(event)));
    let text = |event: &&Value| {
        let field = |key: &str| bounded(event[key].as_str().unwrap_or_default(), MAX_EVENT);
        format!("{}: {}", field("reason"), field("message"))
    };
    let quoted: Vec<String> = found.iter().take(MAX_EVENTS).map(text).collect();
    if quoted.is_empty() { String::new() } else { format!("; its events: {}", quoted.join("; ")) }
}

/// Why a Deployment has no pods, in the words of the refusal.
async fn why_no_pods(api: &ClusterClient, namespace: &str, app: &str) -> Option<String> {
    let deployment = api.get("Deployment", namespace, app).await.ok()??;
    let conditions = deployment.pointer("/status/conditions")?.as_array()?;
    let failed = conditions.iter().find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    Some(bounded(failed["message"].as_str()?, 500))
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
        json!({ "metadata": { "name": "sleep-1" }, "status": { "initContainerStatuses": init,
            "containerStatuses": containers } })
    }

    /// Whether it is still being prepared, and whether the implementation is to blame if it stays so.
    #[track_caller]
    fn is(pod: Value, prepares: bool, blamed: bool) {
        let pods = [pod];
        let stage = stage(&pods);
        assert_eq!(matches!(stage, PodStage::Preparing), prepares, "{stage:?}");
        assert_eq!(fix(&pods, "ns").is_none(), blamed, "{:?}", fix(&pods, "ns"));
    }

    #[test]
    fn a_proxy_that_runs_and_is_not_ready_is_to_blame_even_if_other_containers_wait_for_it() {
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
    fn images_being_pulled_are_not_the_proxys_fault_and_have_their_own_timeout() {
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
    fn what_the_cluster_cannot_create_is_the_environments_fault() {
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
        assert!(fix(&[], "ns").unwrap().contains("quota"));
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_not_waited_for() {
        for reason in HOPELESS {
            let pods = [pod(json!([]), json!([running(PROXY, true), waiting("application", reason)]))];
            assert!(matches!(stage(&pods), PodStage::Hopeless));
            assert!(fix(&pods, "ns").unwrap().contains("--image"));
        }
    }
}
