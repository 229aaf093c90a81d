//! One scenario's mesh in a cluster, as the harness drives it.

mod asking;
mod canary;
mod changing;
mod flush_markers;
mod nginx_pod;
mod proof;
mod proxies;
mod proxy_log;
mod readiness;
mod ready_pod;
mod refused_lines;
mod rejections;
mod served_pods;
mod servers;
mod sessions;
mod starting;
mod state;

use std::time::Duration;

use async_trait::async_trait;
use meshproof_harness::external::{Documented, ExternalSpec};
use meshproof_harness::target::{ConfigChange, EndedExchange, Instance, Probe, Seat, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{CredentialStatus, Exchange, ExternalService};

use crate::api::{ApiError, ClusterClient};
use crate::dump;
use crate::manifests::Injection;
use crate::noted::RunNotes;
use crate::owned;
use crate::places::Places;
use crate::settings::Settings;
use proof::{Proof, unseen};
pub(crate) use servers::ONLY_NGINX;
use state::{ClusterInstance, environment, socket};

/// Puts a scenario's mesh in place. `noted` takes what its pods show of the implementation.
///
/// # Errors
/// The environment's, or the implementation's proxies do not become ready.
pub async fn start(
    api: ClusterClient,
    settings: &Settings,
    injection: Injection,
    noted: RunNotes,
    seat: Seat,
) -> Result<Box<dyn Instance>, TargetError> {
    let places = Places::new(&seat.run, &seat.name, &settings.gateways, &seat.topology);
    let labels = owned::labels(&seat.run, &seat.name);
    let instance =
        starting::start_in_time(api, settings.clone(), injection, noted, places, labels, seat).await?;
    Ok(Box::new(instance))
}

#[async_trait]
impl Instance for ClusterInstance {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        self.deploy(specs).await
    }

    fn deploys_within(&self, timeouts: &Timeouts) -> Duration {
        let all = [Timeout::ImagesPulled, Timeout::ExternalServiceReady, Timeout::Applied];
        all.into_iter().map(|name| timeouts.get(name)).sum()
    }

    async fn change(&self, change: &ConfigChange) -> Result<(), TargetError> {
        let mut state = self.state.lock().await;
        self.bring_into_force(&mut state, change).await
    }

    async fn set_running(&self, proxy: &str, running: bool) -> Result<(), TargetError> {
        let mut state = self.state.lock().await;
        self.set_gateway(&mut state, proxy, running).await
    }

    async fn set_variable(&self, workload: &str, name: &str, value: &str) -> Result<(), TargetError> {
        let mut state = self.state.lock().await;
        self.set_application_variable(&mut state, workload, name, value).await
    }

    async fn send(&self, workload: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        self.send_from(workload, request).await
    }

    async fn send_in_line(
        &self,
        workload: &str,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        self.send_all_from(workload, requests).await
    }

    async fn probe(&self, probe: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        self.ask_directly(probe, request).await
    }

    async fn probe_in_line(
        &self,
        probe: &Probe,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        self.ask_all_directly(probe, requests).await
    }

    async fn settle(&self) -> Result<(), TargetError> {
        self.settle_all().await
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        let found = self.proxy(proxy).and_then(|p| Some((p.pod()?, p.proof()?)));
        let (pod, proof) =
            found.ok_or_else(|| environment(format!("the scenario has no running proxy {proxy}")))?;
        if let Proof::Canary(reason) = &proof {
            return Err(unseen("a credential", proxy, reason));
        }
        Ok(dump::credentials(&proof.dump(&self.api, &pod).await.map_err(ApiError::blame)?))
    }

    fn upstream_address(&self, host: &str, port: u16) -> Option<String> {
        let address = self.address(host).filter(|a| a.ports.contains(&port))?;
        Some(socket(&address.pod, port))
    }

    async fn stop(&self) -> Result<(), TargetError> {
        for proxy in &self.proxies {
            let running = proxy.lock().take();
            if let Some(running) = running {
                let _end = running.follower.stop().await;
            }
        }
        for server in self.servers.lock().await.drain(..) {
            let _end = server.follower.stop().await;
        }
        // Their processes end with their streams.
        self.served.lock().await.clear();
        self.clients.clear();
        if self.seat.keep { Ok(()) } else { self.remove().await }
    }
}
