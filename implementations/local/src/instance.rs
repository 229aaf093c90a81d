//! One scenario's mesh on this machine.

mod interface;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::apps::{self, LookupApplication};
use crate::external::{
    RunningService, ServeProgram, find_nginx, start_embedded, start_nginx, start_nginx_container,
    start_served,
};
use crate::ports;
use crate::real_hosts::RealHosts;
use crate::workload::{Route, WorkloadClient};
use futures_util::future::join_all;
use meshproof_harness::access_log;
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec};
use meshproof_harness::run_folder;
use meshproof_harness::served::Setup;
use meshproof_harness::store::Store;
use meshproof_harness::target::{Instance as _, Probe, Seat, TargetError};
use meshproof_harness::topology::service_host;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{Fact, Side};
use tokio::sync::Mutex;

use crate::client::Client;
use crate::data_plane::{Boot, DataPlane, DataPlaneFactory, LogSink, MeshCertificate, Update, environment};
use crate::forecast::{KnownServer, LocalForecast, Verified};
use crate::seat::{Addresses, in_cluster, plain_service};
use meshproof_harness::feature::Feature;
use meshproof_model::Resource;
use meshproof_plan::model::OriginalDestination;
use meshproof_plan::resolve::{Input, MeshConfig, Service, resolve};

/// Where external services come from.
#[derive(Clone, Default)]
pub(crate) struct Servers {
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) image: Option<String>,
    /// What runs the suite's own servers and clients; absent: this process.
    pub(crate) program: Option<ServeProgram>,
    pub(crate) real_hosts: RealHosts,
}

pub(crate) struct LocalInstance {
    seat: Seat,
    factory: Arc<dyn DataPlaneFactory>,
    servers: Servers,
    /// PEM: the roots that workloads and proxies trust outside the mesh.
    roots: Arc<str>,
    addresses: Addresses,
    mesh_ca: Authority,
    data_plane: Box<dyn DataPlane>,
    workloads: BTreeMap<String, Client>,
    /// Sends what does not come from a workload.
    prober: Client,
    applications: BTreeMap<String, Arc<LookupApplication>>,
    plain: Vec<(Service, Arc<dyn RunningService>)>,
    /// Locked during a change: changes are applied one after another.
    configuration: Mutex<Configuration>,
    deployed: std::sync::RwLock<Deployed>,
}

/// The configuration in force.
#[derive(Default)]
struct Configuration {
    revision: u64,
    resources: Vec<Resource>,
    stopped: BTreeSet<String>,
    /// What was said about the resources so far.
    noted: BTreeSet<String>,
}

/// The external services, by host.
#[derive(Default)]
struct Deployed {
    services: BTreeMap<String, Arc<dyn RunningService>>,
    /// By host: the service that answers for it under its own host.
    aliases: BTreeMap<String, String>,
    /// PEM, by host: the chains that they present.
    chains: BTreeMap<String, String>,
    /// What the configuration in force promises.
    forecast: Option<Arc<LocalForecast>>,
}

/// Records the lines of a data plane as evidence.
struct EvidenceSink {
    store: Store,
}

impl LogSink for EvidenceSink {
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
                plain_service(&service.name, &service.namespace, service.port, "HTTP", address),
                Arc::from(running),
            ));
        }
        let mut workloads = BTreeMap::new();
        let mut applications = BTreeMap::new();
        for proxy in &addresses.proxies {
            let by_address = proxy
                .addressed
                .iter()
                .fold(Route::default(), |route, (ip, port, bind)| route.and(&ip.to_string(), *port, *bind));
            let route = by_address.or(Route::capture(proxy.outbound.iter().copied()));
            let client =
                WorkloadClient::new(&proxy.name, route, &roots, &seat.timeouts).map_err(environment)?;
            let client = client.reporting_to(seat.store.deliveries().clone());
            let client = client.traced(seat.store.trace().clone());
            workloads.insert(proxy.name.clone(), client);
        }
        let elsewhere = |client| Client::new(client, servers.program.as_ref(), &roots, &seat);
        let prober = WorkloadClient::new("probe", Route::default(), &roots, &seat.timeouts)
            .map_err(environment)?
            .reporting_to(seat.store.deliveries().clone())
            .traced(seat.store.trace().clone());
        let prober = elsewhere(prober).await?;
        for workload in &seat.topology.workloads {
            let (Some(application), Some(client)) = (&workload.serves, workloads.get(&workload.name)) else {
                continue;
            };
            let host = service_host(&workload.name, &workload.namespace);
            let (store, timeouts) = (seat.store.clone(), &seat.timeouts);
            let app = LookupApplication::start(&host, application.clone(), client.clone(), store, timeouts);
            let app = app.await.map_err(environment)?;
            addresses.set_application(&workload.name, address_of(&app, application.port)?);
            applications.insert(workload.name.clone(), Arc::new(app));
        }
        let mut clients = BTreeMap::new();
        for (name, client) in workloads {
            clients.insert(name, elsewhere(client).await?);
        }
        let boot = Boot {
            folder: seat.folder.join("data-plane"),
            identities,
            mesh_roots: mesh_ca.certificate_pem().to_owned(),
            system_roots: roots.to_string(),
            logs: Arc::new(EvidenceSink { store: seat.store.clone() }),
            trace: seat.store.trace().clone(),
        };
        private_folder(&boot.folder)?;
        let data_plane = factory.start(boot).await?;
        let instance = Self {
            seat,
            factory,
            servers,
            roots,
            addresses,
            mesh_ca,
            data_plane,
            workloads: clients,
            prober,
            applications,
            plain,
            configuration: Mutex::default(),
            deployed: std::sync::RwLock::default(),
        };
        // The sidecars run before anything is applied.
        if let Err(e) = instance.bring_into_force(&mut *instance.configuration.lock().await).await {
            let _the_first_error_counts = instance.stop().await;
            return Err(e);
        }
        Ok(instance)
    }

    /// The address on this machine behind each host and port.
    fn endpoints(&self) -> Vec<OriginalDestination> {
        let table = self.deployed.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lead = |(host, service): (&String, &Arc<dyn RunningService>)| {
            service
                .ports()
                .into_iter()
                .filter_map(|port| {
                    let address = service.address(port)?;
                    Some(OriginalDestination { host: host.clone(), port, address })
                })
                .collect::<Vec<_>>()
        };
        let aliases = table.aliases.iter().filter_map(|(host, of)| Some((host, table.services.get(of)?)));
        table.services.iter().chain(aliases).flat_map(lead).collect()
    }

    async fn bring_into_force(&self, state: &mut Configuration) -> Result<(), TargetError> {
        let endpoints = self.endpoints();
        let mut registry = self.addresses.services(|name| !state.stopped.contains(name));
        registry.extend(self.plain.iter().map(|(service, _)| service.clone()));
        for e in &endpoints {
            // A server that the document deploys in the cluster, outside the mesh, is a Kubernetes Service. Its port has no
            // name there, so Istio detects the protocol.
            if e.port == 443
                && let Some((name, namespace)) = in_cluster(&e.host)
                && registry.iter().all(|service| service.host != e.host)
            {
                registry.push(plain_service(name, namespace, e.port, "", e.address));
            }
        }
        // A server under the name of one of the mesh's own services stands in its place.
        for service in &mut registry {
            let stand_in = endpoints.iter().find(|e| e.port == 443 && e.host == service.host);
            for endpoint in service.ports.iter_mut().flat_map(|port| &mut port.endpoints) {
                endpoint.address = stand_in.map_or(endpoint.address, |e| e.address);
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
        let applied = self.data_plane.apply(update).await;
        // Also of a state that was refused: there the files matter most.
        self.trace_files(&format!("revision-{}", state.revision)).await?;
        applied?;
        // A saboteur that misreads the resources must not mislead the forecast as well.
        let meant = if understood == state.resources {
            resolution
        } else {
            resolve(&Input { resources: &state.resources, ..input }).map_err(environment)?
        };
        // What Istio warns of, and what the plan passes over; each once.
        for warning in meant.warnings {
            if state.noted.insert(warning.clone()) {
                self.seat.store.record(Side::Suite, None, Fact::Note { text: warning });
            }
        }
        let forecast = LocalForecast {
            plan: meant.plan,
            credentials: meant.credentials,
            proxies: self.addresses.proxies.clone(),
            servers: self.servers_by_address(&endpoints),
            roots: self.roots.to_string(),
            verified: Verified::default(),
        };
        let mut table = self.deployed.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.forecast = Some(Arc::new(forecast));
        Ok(())
    }

    /// Copies what the implementation and the servers of the suite were given or have written into the trace, if there is one.
    async fn trace_files(&self, label: &str) -> Result<(), TargetError> {
        let trace = self.seat.store.trace().clone();
        if trace.started().is_none() {
            return Ok(());
        }
        let (folder, label) = (self.seat.folder.clone(), label.to_owned());
        tokio::task::spawn_blocking(move || trace.copy_files(&folder, &label)).await.map_err(environment)
    }

    /// Every server of the suite that a request may arrive at.
    fn servers_by_address(&self, endpoints: &[OriginalDestination]) -> BTreeMap<SocketAddr, KnownServer> {
        let table = self.deployed.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own = |e: &&OriginalDestination| !table.aliases.contains_key(&e.host);
        let outside = endpoints.iter().filter(own).map(|e| {
            let chain = table.chains.get(&e.host).filter(|_| e.port != 80).cloned();
            (e.address, KnownServer { host: e.host.clone(), port: e.port, chain })
        });
        let plain = self.plain.iter().flat_map(|(service, _)| {
            let known =
                |address, port| (address, KnownServer { host: service.host.clone(), port, chain: None });
            service
                .ports
                .iter()
                .flat_map(move |p| p.endpoints.iter().map(move |e| known(e.address, p.number)))
        });
        let applications = self.addresses.proxies.iter().flat_map(|proxy| {
            let host = service_host(&proxy.name, &proxy.namespace);
            proxy.inbound.iter().map(move |inbound| {
                (inbound.application, KnownServer { host: host.clone(), port: inbound.port, chain: None })
            })
        });
        outside.chain(plain).chain(applications).collect()
    }

    async fn start_external(
        &self,
        spec: ExternalSpec,
        documented: Documented,
    ) -> Result<Box<dyn RunningService>, TargetError> {
        if spec.ipv6 && !ports::is_free(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))) {
            return Err(TargetError::Unable(
                "IPv6, which this machine does not have: ::1 cannot be bound".to_owned(),
            ));
        }
        let Servers { nginx, image, real_hosts, program } = &self.servers;
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
            ExternalChoice::Auto | ExternalChoice::Embedded => match program {
                None => start_embedded(spec, store, timeouts).await,
                Some(program) => {
                    let who = format!("external service {}", spec.host);
                    let setup = Setup { who, client: None, timeouts };
                    start_served(program, spec, &setup, store).await
                }
            },
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
        let table = self.deployed.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let host = table.aliases.get(host).map_or(host, String::as_str);
        table.services.get(host)?.address(port)
    }

    /// Every server outside the data plane: external services, plain services, applications.
    fn running_services(&self) -> Vec<Arc<dyn RunningService>> {
        let table = self.deployed.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut services: Vec<_> = table.services.values().cloned().collect();
        services.extend(self.plain.iter().map(|(_, service)| Arc::clone(service)));
        services.extend(self.applications.values().map(|app| Arc::clone(app) as _));
        services
    }

    /// Where these requests are sent.
    fn probing<'a>(
        &self,
        probe: &Probe,
        requests: impl IntoIterator<Item = &'a RequestSpec>,
    ) -> Result<Route, TargetError> {
        let mut route = Route::default();
        for request in requests {
            let url: http::Uri = request.url.parse().map_err(environment)?;
            let host = url.host().unwrap_or_default();
            let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
            route = route.and(host, port, self.probe_address(probe, host, port)?);
        }
        Ok(route)
    }

    /// The address that a probe's URL stands for.
    fn probe_address(&self, probe: &Probe, host: &str, port: u16) -> Result<SocketAddr, TargetError> {
        let unknown = |what: String| {
            TargetError::Environment(format!("{what} is not deployed, so it cannot be probed"))
        };
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
    run_folder::create_private(path)
        .map_err(|e| TargetError::Environment(format!("{} cannot be made: {e}", path.display())))
}
