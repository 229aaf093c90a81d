//! The scenario's proxies: found by their pods, and followed.

use std::sync::Mutex as StdMutex;

use meshproof_harness::target::TargetError;
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::topology::service_host;

use super::proof::Proof;
use super::proxy_log::{Sinks, follow_proxy};
use super::readiness::{READY, await_proxy};
use super::ready_pod::PROXY;
use super::state::{ClusterInstance, HostAddress, ProxyPod, ScenarioProxy};
use crate::manifests::workload;

/// What a container of a proxy's pod is for, as [`crate::IMAGES`] names it.
fn purpose(proxy: &ScenarioProxy, container: &str) -> Option<&'static str> {
    match container {
        PROXY if proxy.is_gateway => Some("gateway"),
        PROXY => Some("proxy"),
        workload::CLIENT => Some("workload"),
        workload::APPLICATION if proxy.serves.is_some() => Some("details"),
        workload::APPLICATION => Some("workload"),
        _ => None,
    }
}

impl ClusterInstance {
    pub(super) async fn find_proxy(
        &self,
        name: &str,
        documented: &str,
        app: &str,
        serves: Option<u16>,
        client: Option<&str>,
    ) -> Result<ScenarioProxy, TargetError> {
        let namespace = self.places.of(documented).to_owned();
        let proxy = ScenarioProxy {
            name: name.to_owned(),
            host: service_host(name, &namespace),
            serves,
            is_gateway: client.is_none(),
            virtual_addresses: StdMutex::default(),
            running: StdMutex::new(None),
            namespace,
        };
        self.attach(&proxy, app, client.unwrap_or(PROXY), READY).await?;
        Ok(proxy)
    }

    /// Waits for a proxy's pod and follows its log.
    pub(super) async fn attach(
        &self,
        proxy: &ScenarioProxy,
        app: &str,
        client: &str,
        timeout: Timeout,
    ) -> Result<(), TargetError> {
        let found = await_proxy(&self.api, &proxy.namespace, app, timeout).await?;
        self.noted.ran(&found.ran, |container| purpose(proxy, container));
        let pod = found.container(&proxy.namespace, PROXY);
        let proof = Proof::of(&self.api, &pod).await;
        self.note_proof(proxy, &proof, found.trusts_suite_ca)?;
        let follower = follow_proxy(
            &self.api,
            &pod,
            &proxy.name,
            &Sinks {
                store: &self.seat.store,
                flush_markers: &self.flush_markers,
                rejections: &self.rejections,
            },
            &self.places,
            self.log_format(),
        );
        let host = self.places.documented(&proxy.host);
        if let Some(address) = self.address(&host) {
            self.set_address(&host, Some(HostAddress { pod: found.address.clone(), ..address }));
        }
        let client = found.container(&proxy.namespace, client);
        *proxy.lock() = Some(ProxyPod { pod, address: found.address, client, proof, follower });
        Ok(())
    }
}
