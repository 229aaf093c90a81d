//! Pods of the scenario: awaited, followed, looked into.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use meshproof_harness::access_log;
use meshproof_harness::store::Store;
use meshproof_harness::target::TargetError;
use meshproof_harness::timeouts::Timeout;
use meshproof_model::{AccessLog, Fact, Side};
use serde_json::Value;

use super::fences::Fences;
use super::readiness::await_pod;
use crate::api::{Api, ApiError, LogFollower, PodRef, Selector};
use crate::dump;
use crate::manifests::{ROOTS, SYSTEM_ROOTS};
use crate::noted::{self, Ran};
use crate::places::Places;
use crate::pod::{is_leaving, is_ready};

/// The container of a proxy, in sidecars and gateways alike (Istio, pkg/kube/inject, `ProxyContainerName`).
pub(super) const PROXY: &str = "istio-proxy";
/// How many of a proxy's refusals are told.
const MOST_REJECTIONS: usize = 20;
/// How often a condition is looked at that nobody announces.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// A pod that is ready.
#[derive(Clone, Debug)]
pub(super) struct ReadyPod {
    pub(super) name: String,
    pub(super) address: String,
    injected: bool,
    /// Whether the suite's CA is mounted over its proxy's system roots.
    pub(super) believes: bool,
    /// What its containers run.
    pub(super) ran: Vec<Ran>,
}

impl ReadyPod {
    pub(super) fn container(&self, namespace: &str, container: &str) -> PodRef {
        PodRef { namespace: namespace.to_owned(), pod: self.name.clone(), container: container.to_owned() }
    }
}

/// The first that is ready and stays.
pub(super) fn ready_pod(pods: &[Value]) -> Option<ReadyPod> {
    let text = |pod: &Value, pointer: &str| pod.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let stays = |pod: &&Value| is_ready(pod) && !is_leaving(pod);
    let pod = pods.iter().find(stays)?;
    // A native sidecar is an init container that goes on running (Istio 1.29 and later, by default).
    let mut containers = ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .filter_map(|pointer| pod.pointer(pointer).and_then(Value::as_array))
        .flatten();
    let proxy = containers.find(|c| c["name"] == PROXY && c["image"].as_str().is_some_and(|i| i != "auto"));
    let mounts = proxy.and_then(|c| c["volumeMounts"].as_array());
    let believes = mounts
        .into_iter()
        .flatten()
        .any(|mount| mount["name"] == ROOTS && mount["mountPath"] == SYSTEM_ROOTS);
    Some(ReadyPod {
        name: text(pod, "/metadata/name")?,
        address: text(pod, "/status/podIP")?,
        injected: proxy.is_some(),
        believes,
        ran: noted::ran(pod),
    })
}

/// The same as [`await_pod`], with a proxy in it.
pub(super) async fn await_proxy(
    api: &Api,
    namespace: &str,
    app: &str,
    timeout: Timeout,
) -> Result<ReadyPod, TargetError> {
    let pod = await_pod(api, namespace, app, timeout).await?;
    if pod.injected {
        return Ok(pod);
    }
    Err(TargetError::Environment(format!(
        "pod {}/{} has no proxy: the mesh does not inject into this namespace; see `meshproof doctor --target cluster`",
        namespace, pod.name
    )))
}

/// Returns when no pod with this `app` label is left.
pub(super) async fn await_absence(api: &Api, namespace: &str, app: &str) -> Result<(), TargetError> {
    let what = format!("the pods {app} in {namespace} go away");
    let selector = Selector::labels(format!("app={app}"));
    let absent = |pods: &[Value]| pods.is_empty().then_some(());
    api.watch_until("Pod", Some(namespace), selector, Timeout::Applied, &what, absent)
        .await
        .map_err(ApiError::blame)
}

/// Hands a proxy's access log to the evidence, from its pod's beginning on.
pub(super) fn follow_proxy(
    api: &Api,
    pod: &PodRef,
    name: &str,
    store: &Store,
    places: &Places,
    fences: &Arc<Fences>,
) -> LogFollower {
    let (name, store, places, fences) = (name.to_owned(), store.clone(), places.clone(), fences.clone());
    let told: StdMutex<BTreeSet<String>> = StdMutex::default();
    let sink = move |line: &[u8]| match read(line, &places) {
        Line::Log(log) => {
            let token = log.fields.as_ref().and_then(access_log::token).map(str::to_owned);
            store.record(Side::Proxy { name: name.clone() }, token, Fact::AccessLog(*log));
        }
        Line::Fence(token) => fences.saw(&name, &token),
        Line::Rejection(words) => {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            // The same words come once for each subscription.
            if told.len() < MOST_REJECTIONS && told.insert(words.clone()) {
                let text = format!("{name} says that it refused a part of its configuration: {words}");
                store.record(Side::Suite, None, Fact::Note { text });
            }
        }
        Line::Other => {}
    };
    api.follow_logs(pod, Timestamp::UNIX_EPOCH, sink)
}

/// What a line of a proxy's output is.
#[derive(Debug, PartialEq)]
enum Line {
    Log(Box<AccessLog>),
    /// The suite's own question at the beacon.
    Fence(String),
    /// What the proxy refused, in its words.
    Rejection(String),
    /// The agent's or Envoy's own words.
    Other,
}

/// The proxy's output has the access log and, between its lines, what agent and Envoy say. A line of the log begins with a bracket
/// in every text format, and as an object in JSON; the others begin with their time.
fn read(line: &[u8], places: &Places) -> Line {
    let other = || dump::rejected(&String::from_utf8_lossy(line)).map_or(Line::Other, Line::Rejection);
    if !matches!(line.first(), Some(b'[' | b'{')) {
        return other();
    }
    let log = access_log::read_line(places.documented(&String::from_utf8_lossy(line)).as_bytes());
    let Some(fields) = &log.fields else {
        // With JSON the agent's words are objects, too.
        return if line.starts_with(b"[") { Line::Log(Box::new(log)) } else { other() };
    };
    let host = fields.authority.as_deref().unwrap_or_default();
    if host.contains(".beacon.meshproof.internal") {
        return access_log::token(fields).map_or(Line::Other, |token| Line::Fence(token.to_owned()));
    }
    Line::Log(Box::new(log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Gateways;
    use serde_json::json;

    fn pod(ready: &str, containers: Value, inits: Value) -> Value {
        json!({
            "metadata": {"name": "sleep-1"},
            "spec": {"containers": containers, "initContainers": inits},
            "status": {"podIP": "10.1.0.5", "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    #[test]
    fn a_pod_is_ready_by_its_condition_and_unless_it_is_on_its_way_out() {
        let one = json!([{"name": "application", "image": "curl"}]);
        assert!(ready_pod(&[pod("False", one.clone(), json!([]))]).is_none());
        let mut leaving = pod("True", one.clone(), json!([]));
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let stays = pod("True", one, json!([]));
        assert_eq!(ready_pod(&[leaving, stays]).unwrap().address, "10.1.0.5");
    }

    #[test]
    fn a_proxy_is_a_container_or_a_native_sidecar_and_auto_is_none() {
        let proxy = |image: &str| json!([{"name": PROXY, "image": image}]);
        let injected = |containers, inits| ready_pod(&[pod("True", containers, inits)]).unwrap().injected;
        assert!(injected(proxy("proxyv2:1.30"), json!([])));
        assert!(injected(json!([{"name": "application"}]), proxy("proxyv2:1.30")));
        assert!(!injected(proxy("auto"), json!([])));
        assert!(!injected(json!([{"name": "application"}]), json!([])));
    }

    fn line(host: &str) -> String {
        format!(
            "[2026-01-01T00:00:00.000Z] \"GET / HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 1 0 \"-\" \"meshproof/r-s.00007\" \
             \"id\" \"{host}\" \"10.1.0.7:443\" outbound|80||gateway.mp-r1-s-gateways.svc.cluster.local 10.1.0.5:1 1.2.3.4:80 \
             10.1.0.5:2 - default"
        )
    }

    #[test]
    fn the_agents_words_are_no_access_log_and_the_beacons_lines_no_evidence() {
        let places = Places::new("r1", "s", &Gateways::Own);
        let read = |text: &str| read(text.as_bytes(), &places);
        assert_eq!(read("2026-01-01T00:00:00.000000Z\tinfo\tEnvoy proxy is ready"), Line::Other);
        assert_eq!(read(r#"{"level":"info","time":"2026-01-01T00:00:00Z","msg":"ready"}"#), Line::Other);
        let refused = "t\twarning\tgRPC config for type.googleapis.com/a.Secret rejected: no key\tthread=1";
        assert_eq!(read(refused), Line::Rejection("Secret: no key".to_owned()));
        let fence = read(&line("r3.mp-r1-s-default.beacon.meshproof.internal:18999"));
        assert_eq!(fence, Line::Fence("r-s.00007".to_owned()));
        let Line::Log(log) = read(&line("edition.cnn.com")) else { panic!() };
        let fields = log.fields.unwrap();
        assert_eq!(fields.upstream_cluster.unwrap(), "outbound|80||gateway.istio-system.svc.cluster.local");
    }

    #[test]
    fn a_line_of_the_log_that_cannot_be_read_is_evidence_all_the_same() {
        let places = Places::new("r1", "s", &Gateways::Own);
        assert!(matches!(read(b"[something else]", &places), Line::Log(log) if log.fields.is_none()));
    }
}
