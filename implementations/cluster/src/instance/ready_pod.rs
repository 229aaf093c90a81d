//! A pod of the scenario that is ready.

use std::time::Duration;

use serde_json::Value;

use crate::api::PodRef;
use crate::manifests::{ROOTS, SYSTEM_ROOTS};
use crate::noted::{self, ImageRun};
use crate::pod::{is_leaving, is_ready};

/// The container of a proxy, in sidecars and gateways alike (Istio, pkg/kube/inject, `ProxyContainerName`).
pub(super) const PROXY: &str = "istio-proxy";
/// How often a condition is polled that nothing announces.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// A pod that is ready.
#[derive(Clone, Debug)]
pub(super) struct ReadyPod {
    pub(super) name: String,
    pub(super) address: String,
    /// All of its addresses: a dual-stack cluster gives it one of each family.
    pub(super) addresses: Vec<String>,
    pub(super) injected: bool,
    /// Whether the suite's CA is mounted over its proxy's system roots.
    pub(super) trusts_suite_ca: bool,
    /// The images of its containers.
    pub(super) ran: Vec<ImageRun>,
}

impl ReadyPod {
    pub(super) fn container(&self, namespace: &str, container: &str) -> PodRef {
        PodRef { namespace: namespace.to_owned(), pod: self.name.clone(), container: container.to_owned() }
    }
}

/// The first that is ready and is not being deleted.
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
    let trusts_suite_ca = mounts
        .into_iter()
        .flatten()
        .any(|mount| mount["name"] == ROOTS && mount["mountPath"] == SYSTEM_ROOTS);
    Some(ReadyPod {
        name: text(pod, "/metadata/name")?,
        address: text(pod, "/status/podIP")?,
        addresses: pod
            .pointer("/status/podIPs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|address| address["ip"].as_str().map(str::to_owned))
            .chain(text(pod, "/status/podIP"))
            .collect(),
        injected: proxy.is_some(),
        trusts_suite_ca,
        ran: noted::ran(pod),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
