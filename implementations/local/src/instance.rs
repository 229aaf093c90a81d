//! One scenario's mesh on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::apps::{self, LookupApplication};
use crate::external::{RunningService, find_nginx, start_embedded, start_nginx, start_nginx_container};
use crate::real_hosts::RealHosts;
use crate::workload::{Route, WorkloadClient};
use async_trait::async_trait;
use futures_util::future::join_all;
use meshproof_harness::access_log;
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec};
use meshproof_harness::store::Store;
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, TargetError};
use meshproof_harness::topology::service_host;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{CredentialStatus, Exchange, ExternalService, Fact, Side};
use tokio::sync::Mutex;

use crate::data_plane::{
    Boot, DataPlane, DataPlaneError, DataPlaneFactory, LogSink, MeshCertificate, Update, environment,
};
use crate::seat::{Addresses, in_cluster, plain_service};
use meshproof_harness::feature::Feature;
use meshproof_harness::timeouts::Timeout;
use meshproof_model::Resource;
use meshproof_plan::model::OriginalDestination;
use meshproof_plan::resolve::{Input, MeshConfig, Service, resolve};

/// Where external services come from.
#[derive(Clone, Default)]
pub(crate) struct Servers {
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) image: Option<String>,
    pub(crate) real_hosts: RealHosts,
}

pub(crate) struct LocalInstance {
    seat: Seat,
    factory: Arc<dyn DataPlaneFactory>,
    servers: Servers,
    /// PEM: the roots that workloads and proxies trust outside the mesh.
    roots: Arc<str>,
    addresses: Addresses,
    data_plane: Box<dyn DataPlane>,
    workloads: BTreeMap<String, WorkloadClient>,
    applications: BTreeMap<String, Arc<LookupApplication>>,
    plain: Vec<(Service, Arc<dyn RunningService>)>,
    /// Held for the length of a change: changes come into force one after another.
    state: Mutex<State>,
    table: std::sync::RwLock<Table>,
}

#[derive(Default)]
struct State {
    revision: u64,
    resources: Vec<Resource>,
    stopped: BTreeSet<String>,
}

/// What is deployed outside the mesh.
#[derive(Default)]
struct Table {
    services: BTreeMap<String, Arc<dyn RunningService>>,
}

/// Hands a data plane's lines to the evidence.
struct Lines {
    store: Store,
}

impl LogSink for Lines {
    fn line(&self, proxy: &str, line: &str) {
        let log = access_log::read_line(line.as_bytes());
        let token = log.fields.as_ref().and_then(access_log::token).map(str::to_owned);
        self.store.record(Side::Proxy { name: proxy.to_owned() }, token, Fact::AccessLog(log));
    }

    fn note(&self, text: &str) {
        self.store.record(Side::Suite, None, Fact::Note { text: text.to_owned() });
    }
}

impl LocalInstance {
    pub(crate) async fn start(
        factory: Arc<dyn DataPlaneFactory>,
        seat: Seat,
        servers: Servers,
    ) -> Result<Self, TargetError> {
        private_folder(&seat.folder)?;
        let roots = match seat.external {
            ExternalChoice::Live => servers.real_hosts.roots().await.map_err(environment)?,
            ExternalChoice::Auto
            | ExternalChoice::Embedded
            | ExternalChoice::Nginx
            | ExternalChoice::Container => Arc::clone(&seat.public_roots),
        };
        let mut addresses = Addresses::of(&seat.topology)?;
        let mesh_ca = Authority::named("meshproof mesh CA", "cluster.local", KeyAlgorithm::EcdsaP256)
            .map_err(environment)?;
        let mut identities = BTreeMap::new();
        for proxy in &addresses.proxies {
            let issued = mesh_ca.mesh_identity(&proxy.identity).issue().map_err(environment)?;
            let certificate = issued.certificate_pem().to_owned();
            identities.insert(proxy.name.clone(), MeshCertificate { certificate, key: issued.key().0 });
        }
        let mut plain = Vec::new();
        for service in &seat.topology.services {
            let running = apps::start_welcome(service, seat.store.clone(), &seat.timeouts)
                .await
                .map_err(environment)?;
            let address = address_of(running.as_ref(), service.port)?;
            plain.push((
                plain_service(service.name, service.namespace, service.port, "HTTP", address),
                Arc::from(running),
            ));
        }
        let mut workloads = BTreeMap::new();
        let mut applications = BTreeMap::new();
        for proxy in &addresses.proxies {
            let route = Route::capture(proxy.outbound.iter().copied());
            let client =
                WorkloadClient::new(&proxy.name, route, &roots, &seat.timeouts).map_err(environment)?;
            workloads.insert(proxy.name.clone(), client);
        }
        for workload in &seat.topology.workloads {
            let (Some(application), Some(client)) = (workload.serves, workloads.get(workload.name)) else {
                continue;
            };
            let host = service_host(workload.name, workload.namespace);
            let (store, timeouts) = (seat.store.clone(), &seat.timeouts);
            let app = LookupApplication::start(&host, application, client.clone(), store, timeouts);
            let app = app.await.map_err(environment)?;
            addresses.set_application(workload.name, address_of(&app, application.port)?);
            applications.insert(workload.name.to_owned(), Arc::new(app));
        }
        let boot = Boot {
            folder: seat.folder.join("data-plane"),
            identities,
            mesh_roots: mesh_ca.certificate_pem().to_owned(),
            system_roots: roots.to_string(),
            logs: Arc::new(Lines { store: seat.store.clone() }),
        };
        private_folder(&boot.folder)?;
        let data_plane = factory.start(boot).await?;
        let instance = Self {
            seat,
            factory,
            servers,
            roots,
            addresses,
            data_plane,
            workloads,
            applications,
            plain,
            state: Mutex::default(),
            table: std::sync::RwLock::default(),
        };
        // The sidecars are there before anything is applied.
        if let Err(e) = instance.bring_into_force(&mut *instance.state.lock().await).await {
            let _the_first_error_counts = instance.stop().await;
            return Err(e);
        }
        Ok(instance)
    }

    /// Where host names lead on this machine.
    fn endpoints(&self) -> Vec<OriginalDestination> {
        let table = self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lead = |(host, service): (&String, &Arc<dyn RunningService>)| {
            [80, 443]
                .into_iter()
                .filter_map(|port| {
                    let address = service.address(port)?;
                    Some(OriginalDestination { host: host.clone(), port, address })
                })
                .collect::<Vec<_>>()
        };
        table.services.iter().flat_map(lead).collect()
    }

    async fn bring_into_force(&self, state: &mut State) -> Result<(), TargetError> {
        let endpoints = self.endpoints();
        let mut registry = self.addresses.services(|name| !state.stopped.contains(name));
        registry.extend(self.plain.iter().map(|(service, _)| service.clone()));
        for e in &endpoints {
            // A server that the document deploys in the cluster, outside the mesh, is a Kubernetes Service. Its port has no
            // name there, so Istio looks at the bytes.
            if e.port == 443
                && let Some((name, namespace)) = in_cluster(&e.host)
            {
                registry.push(plain_service(name, namespace, e.port, "", e.address));
            }
        }
        let running: Vec<_> =
            self.addresses.proxies.iter().filter(|p| !state.stopped.contains(&p.name)).cloned().collect();
        let mut understood = state.resources.clone();
        self.factory.misread(&mut understood);
        let mesh = MeshConfig {
            mesh_tls: !self.data_plane.lacks(Feature::MeshMtls),
            http2: !self.data_plane.lacks(Feature::Http2),
            ..MeshConfig::default()
        };
        let input = Input {
            resources: &understood,
            registry: &registry,
            workloads: &[],
            proxies: &running,
            endpoints: &endpoints,
            mesh: &mesh,
        };
        let resolution = resolve(&input).map_err(environment)?;
        state.revision += 1;
        let update = Update {
            revision: state.revision,
            resources: &state.resources,
            plan: &resolution.plan,
            credentials: &resolution.credentials,
            endpoints: &endpoints,
        };
        Ok(self.data_plane.apply(update).await?)
    }

    async fn start_external(
        &self,
        spec: ExternalSpec,
        documented: Documented,
    ) -> Result<Box<dyn RunningService>, TargetError> {
        let Servers { nginx, image, real_hosts } = &self.servers;
        let kind = match (self.seat.external, documented) {
            (_, Documented::Embedded) | (ExternalChoice::Auto, Documented::Site) => ExternalChoice::Embedded,
            (ExternalChoice::Auto, Documented::Nginx) if nginx.is_some() || find_nginx().is_some() => {
                ExternalChoice::Nginx
            }
            (chosen, Documented::Site | Documented::Nginx) => chosen,
        };
        let Seat { folder, timeouts, run, .. } = &self.seat;
        let store = self.seat.store.clone();
        let started = match kind {
            ExternalChoice::Auto | ExternalChoice::Embedded => start_embedded(spec, store, timeouts).await,
            ExternalChoice::Live => {
                let found = real_hosts.find(&spec.host, timeouts).await;
                found.map(|host| Box::new(host) as Box<dyn RunningService>)
            }
            ExternalChoice::Nginx => start_nginx(spec, store, timeouts, folder, nginx.as_deref()).await,
            ExternalChoice::Container => {
                start_nginx_container(spec, store, timeouts, folder, run, image.as_deref()).await
            }
        };
        started.map_err(environment)
    }

    fn external_address(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let table = self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.services.get(host)?.address(port)
    }

    /// Everything that is not the data plane's: external services, plain ones, applications.
    fn running_services(&self) -> Vec<Arc<dyn RunningService>> {
        let table = self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut services: Vec<_> = table.services.values().cloned().collect();
        services.extend(self.plain.iter().map(|(_, service)| Arc::clone(service)));
        services.extend(self.applications.values().map(|app| Arc::clone(app) as _));
        services
    }

    /// Where a probe's URL leads.
    fn probe_address(&self, probe: &Probe, host: &str, port: u16) -> Result<SocketAddr, TargetError> {
        let unknown =
            |what: String| TargetError::Environment(format!("{what}: nothing is there to be asked"));
        match probe {
            Probe::External => {
                self.external_address(host, port).ok_or_else(|| unknown(format!("{host}:{port}")))
            }
            Probe::Gateway { gateway, port } => self
                .addresses
                .proxy(gateway)
                .and_then(|p| p.servers.iter().find(|(n, _)| n == port))
                .map(|(_, address)| *address)
                .ok_or_else(|| unknown(format!("{gateway} port {port}"))),
            Probe::Workload { workload } => self
                .addresses
                .proxy(workload)
                .and_then(|p| p.inbound.first())
                .map(|inbound| inbound.bind)
                .ok_or_else(|| unknown(workload.clone())),
        }
    }
}

/// Starts servers side by side. If one of them does not start, those that did are stopped.
pub(super) async fn all_or_none<T>(
    starting: impl IntoIterator<Item = impl Future<Output = Result<T, TargetError>>>,
    service: impl Fn(&T) -> &Arc<dyn RunningService>,
) -> Result<Vec<T>, TargetError> {
    let (mut started, mut failed) = (Vec::new(), Vec::new());
    for result in join_all(starting).await {
        match result {
            Ok(one) => started.push(one),
            Err(e) => failed.push(e),
        }
    }
    let Some(first) = failed.into_iter().next() else { return Ok(started) };
    // The first error says what to do; a server that cannot be stopped either ends when it is dropped.
    let _the_first_error_counts = join_all(started.iter().map(|one| service(one).stop())).await;
    Err(first)
}

fn address_of(service: &dyn RunningService, port: u16) -> Result<SocketAddr, TargetError> {
    service
        .address(port)
        .ok_or_else(|| environment(format!("{} does not listen on port {port}", service.describe().host)))
}

fn private_folder(path: &std::path::Path) -> Result<(), TargetError> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .recursive(true)
        .create(path)
        .map_err(|e| TargetError::Environment(format!("{} cannot be made: {e}", path.display())))
}

#[async_trait]
impl Instance for LocalInstance {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        let mut state = self.state.lock().await;
        let starting = specs.into_iter().map(|(mut spec, documented)| {
            self.factory.spoil_external(&mut spec);
            let host = spec.host.clone();
            async move { Ok((host, Arc::from(self.start_external(spec, documented).await?))) }
        });
        let started = all_or_none(starting, |(_, service)| service).await?;
        let described = started.iter().map(|(_, service)| service.describe()).collect();
        let replaced: Vec<Arc<dyn RunningService>> = {
            let mut table = self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            started.into_iter().filter_map(|(host, service)| table.services.insert(host, service)).collect()
        };
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let taken_up = tokio::time::timeout(limit, self.bring_into_force(&mut state)).await;
        let stopped = join_all(replaced.iter().map(|service| service.stop())).await;
        taken_up.map_err(|_| {
            TargetError::Gone(format!(
                "timed out after {limit:?} waiting for it to use the addresses of new external services; --timeout \
                 applied=DURATION sets another limit"
            ))
        })??;
        stopped.into_iter().collect::<Result<(), _>>().map_err(environment)?;
        Ok(described)
    }

    async fn change(&self, change: &ConfigChange) -> Result<(), TargetError> {
        let mut state = self.state.lock().await;
        let before = state.resources.clone();
        for resource in &change.apply {
            let id = resource.id();
            // A replaced resource keeps its place: Istio orders by creation.
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
        let mut state = self.state.lock().await;
        if running {
            state.stopped.remove(proxy);
        } else {
            state.stopped.insert(proxy.to_owned());
        }
        self.bring_into_force(&mut state).await
    }

    async fn set_variable(&self, workload: &str, name: &str, value: &str) -> Result<(), TargetError> {
        let app = self.applications.get(workload).filter(|app| app.reads(name));
        let app =
            app.ok_or_else(|| environment(format!("{workload} has no application that reads {name}")))?;
        app.send_plain(value == "true");
        Ok(())
    }

    async fn send(&self, workload: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        let client = self.workloads.get(workload);
        let client = client.ok_or_else(|| environment(format!("the scenario has no workload {workload}")))?;
        Ok(client.exchange(request).await)
    }

    async fn probe(&self, probe: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        if let (Probe::External, ExternalChoice::Live) = (probe, self.seat.external) {
            return Ok(self.servers.real_hosts.ask(request, &self.seat.timeouts).await);
        }
        let url: http::Uri = request.url.parse().map_err(environment)?;
        let host = url.host().unwrap_or_default();
        let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
        let address = self.probe_address(probe, host, port)?;
        let client = WorkloadClient::new(
            "probe",
            Route::direct(host, port, address),
            &self.roots,
            &self.seat.timeouts,
        )
        .map_err(environment)?;
        Ok(client.exchange(request).await)
    }

    async fn settle(&self) -> Result<(), TargetError> {
        // Bounded apart from the external services: who keeps the suite waiting decides who is to blame.
        let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
        tokio::time::timeout(limit, self.data_plane.settle()).await.map_err(|_| {
            TargetError::Gone(format!(
                "timed out after {limit:?} waiting for its access logs; --timeout evidence-settled=DURATION sets another \
                 limit"
            ))
        })??;
        let services = self.running_services();
        let settled = join_all(services.iter().map(|service| service.settle())).await;
        settled.into_iter().collect::<Result<(), _>>().map_err(environment)
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        Ok(self.data_plane.credentials(proxy).await?)
    }

    fn upstream_address(&self, host: &str, port: u16) -> Option<String> {
        let address = self.external_address(host, port).or_else(|| {
            let services = self.addresses.services(|_| true);
            let ports = services.iter().find(|s| s.host == host)?.ports.clone();
            ports.iter().find(|p| p.number == port)?.endpoints.first().map(|e| e.address)
        })?;
        Some(address.to_string())
    }

    async fn stop(&self) -> Result<(), TargetError> {
        let mut left = Vec::new();
        let mut gone = None;
        match self.data_plane.stop().await {
            Ok(()) => {}
            Err(DataPlaneError::Gone(words)) => gone = Some(words),
            Err(e) => left.push(e.to_string()),
        }
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
