//! What the harness asks of an instance.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use meshproof_harness::certificates::Authority;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec};
use meshproof_harness::forecast::Forecast;
use meshproof_harness::target::{ConfigChange, EndedExchange, Instance, Probe, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{CredentialStatus, Exchange, ExternalService};

use super::{LocalInstance, all_or_none};
use crate::data_plane::{DataPlaneError, environment};
use crate::external::RunningService;

#[async_trait]
impl Instance for LocalInstance {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        let mut state = self.configuration.lock().await;
        let (mut chains, mut aliases) = (BTreeMap::new(), BTreeMap::new());
        let starting = specs.into_iter().map(|(mut spec, documented)| {
            self.factory.spoil_external(&mut spec);
            let host = spec.host.clone();
            aliases.extend(spec.aliases.iter().map(|alias| (alias.clone(), host.clone())));
            // A server with several certificates has no chain that holds for every request.
            if let Some(tls) = spec.tls.as_ref().filter(|tls| tls.by_name.is_empty()) {
                chains.insert(host.clone(), tls.certificate.clone());
            }
            async move { Ok((host, Arc::from(self.start_external(spec, documented).await?))) }
        });
        let started = all_or_none(starting, |(_, service)| service).await?;
        let described = started.iter().map(|(_, service)| service.describe()).collect();
        let replaced: Vec<Arc<dyn RunningService>> = {
            let mut table = self.deployed.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            table.chains.append(&mut chains);
            table.aliases.append(&mut aliases);
            started.into_iter().filter_map(|(host, service)| table.services.insert(host, service)).collect()
        };
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let taken_up = tokio::time::timeout(limit, self.bring_into_force(&mut state)).await;
        let stopped = join_all(replaced.iter().map(|service| service.stop())).await;
        taken_up.map_err(|_| {
            let what = "the implementation to use the addresses of new external services".to_owned();
            TargetError::TimedOut { timeout: Timeout::Applied, limit, what, last: None }
        })??;
        stopped.into_iter().collect::<Result<(), _>>().map_err(environment)?;
        Ok(described)
    }

    async fn change(&self, change: &ConfigChange) -> Result<(), TargetError> {
        let mut state = self.configuration.lock().await;
        let before = state.resources.clone();
        for resource in &change.apply {
            let id = resource.id();
            // A replaced resource keeps its position: Istio orders resources by their creation.
            match state.resources.iter_mut().find(|r| r.id() == id) {
                Some(known) => known.clone_from(resource),
                None => state.resources.push(resource.clone()),
            }
        }
        state.resources.retain(|r| !change.delete.contains(&r.id()));
        let result = self.bring_into_force(&mut state).await;
        if result.is_err() {
            state.resources = before;
        }
        result
    }

    async fn set_running(&self, proxy: &str, running: bool) -> Result<(), TargetError> {
        let mut state = self.configuration.lock().await;
        if running {
            state.stopped.remove(proxy);
        } else {
            state.stopped.insert(proxy.to_owned());
        }
        self.bring_into_force(&mut state).await
    }

    async fn set_variable(&self, workload: &str, name: &str, value: &str) -> Result<(), TargetError> {
        let app = self.applications.get(workload).filter(|app| app.reads(name));
        let app = app.ok_or_else(|| {
            environment(format!("the workload {workload} has no application that reads the variable {name}"))
        })?;
        app.send_plain(value == "true");
        Ok(())
    }

    async fn send(&self, workload: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        let client = self.workloads.get(workload);
        let client = client.ok_or_else(|| environment(format!("the scenario has no workload {workload}")))?;
        client.exchange(request, None).await
    }

    async fn send_in_line(
        &self,
        workload: &str,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let client = self.workloads.get(workload);
        let client = client.ok_or_else(|| environment(format!("the scenario has no workload {workload}")))?;
        client.in_line(requests, None).await
    }

    async fn probe(&self, probe: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        if let (Probe::External, ExternalChoice::Live) = (probe, self.seat.external) {
            return Ok(self.servers.real_hosts.ask(request, &self.seat.timeouts).await);
        }
        let route = self.probing(probe, [request])?;
        self.prober.exchange(request, Some(route)).await
    }

    async fn probe_in_line(
        &self,
        probe: &Probe,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let route = self.probing(probe, requests)?;
        self.prober.in_line(requests, Some(route)).await
    }

    async fn settle(&self) -> Result<(), TargetError> {
        // Bounded separately from the external services: a slow implementation is its own fault, a slow server is the suite's.
        let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
        tokio::time::timeout(limit, self.data_plane.settle()).await.map_err(|_| {
            let what = "the implementation to write its access logs".to_owned();
            TargetError::TimedOut { timeout: Timeout::EvidenceSettled, limit, what, last: None }
        })??;
        let services = self.running_services();
        let settled = join_all(services.iter().map(|service| service.settle())).await;
        settled.into_iter().collect::<Result<(), _>>().map_err(environment)
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        Ok(self.data_plane.credentials(proxy).await?)
    }

    fn file_folder(&self) -> Option<PathBuf> {
        Some(self.seat.folder.join("files"))
    }

    fn mesh_authority(&self) -> Option<&Authority> {
        Some(&self.mesh_ca)
    }

    fn upstream_address(&self, host: &str, port: u16) -> Option<String> {
        let address = self.external_address(host, port).or_else(|| {
            let services = self.addresses.services(|_| true);
            let ports = services.iter().find(|s| s.host == host)?.ports.clone();
            ports.iter().find(|p| p.number == port)?.endpoints.first().map(|e| e.address)
        })?;
        Some(address.to_string())
    }

    fn forecast(&self) -> Option<Arc<dyn Forecast>> {
        // What a real host receives is not observed.
        if self.seat.external == ExternalChoice::Live {
            return None;
        }
        let table = self.deployed.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.forecast.clone().map(|forecast| forecast as Arc<dyn Forecast>)
    }

    async fn stop(&self) -> Result<(), TargetError> {
        let mut left = Vec::new();
        let mut gone = None;
        match self.data_plane.stop().await {
            Ok(()) => {}
            Err(DataPlaneError::Gone(words)) => gone = Some(words),
            Err(e) => left.push(e.to_string()),
        }
        // Before the servers are stopped, which removes their logs.
        left.extend(self.trace_files("end").await.err().map(|e| e.to_string()));
        let services = self.running_services();
        let stopped = join_all(services.iter().map(|service| service.stop())).await;
        left.extend(stopped.into_iter().filter_map(Result::err).map(|e| e.to_string()));
        match (left.is_empty(), gone) {
            (true, None) => Ok(()),
            (true, Some(words)) => Err(TargetError::Gone(words)),
            (false, _) => Err(TargetError::Environment(left.join("; "))),
        }
    }
}
