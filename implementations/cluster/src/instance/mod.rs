//! One scenario's mesh in a cluster.

mod asking;
mod changing;
mod fences;
mod pods;
mod proof;
mod readiness;
mod servers;
mod starting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec};
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{CredentialStatus, Exchange, ExternalService};
use meshproof_model::{Resource, ResourceId};
use tokio::sync::{Mutex, OnceCell};

use crate::api::{Api, ApiError, LogFollower, PodRef};
use crate::dump;
use crate::manifests::{Injection, Plan};
use crate::noted::Noted;
use crate::owned;
use crate::places::Places;
use crate::relocate::NOWHERE;
use crate::settings::Settings;
use fences::Fences;
use proof::Proof;
use servers::Server;

/// A proxy of the scenario.
struct Proxy {
    name: String,
    /// In the cluster.
    namespace: String,
    /// Its Service's host in the cluster.
    host: String,
    /// The port that its application serves.
    serves: Option<u16>,
    is_gateway: bool,
    /// None while it was taken away.
    running: StdMutex<Option<Running>>,
}

/// The pod of a proxy, while it is there.
struct Running {
    pod: PodRef,
    address: String,
    /// The container that has curl; the proxy's own at gateways, which have none.
    client: PodRef,
    proof: Proof,
    follower: LogFollower,
}

impl Proxy {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod(&self) -> Option<PodRef> {
        self.lock().as_ref().map(|running| running.pod.clone())
    }

    /// How it shows what is in force.
    fn proof(&self) -> Option<Proof> {
        self.lock().as_ref().map(|running| running.proof.clone())
    }

    fn client(&self) -> Option<PodRef> {
        self.lock().as_ref().map(|running| running.client.clone())
    }

    fn address(&self) -> Option<String> {
        self.lock().as_ref().map(|running| running.address.clone())
    }
}

/// What is in force. Held for the length of a change: changes come into force one after another.
#[derive(Default)]
struct State {
    /// The beacon's.
    revision: u64,
    /// The Sidecar's.
    sidecar: u64,
    /// The documents' resources.
    documents: Vec<Resource>,
    /// What was applied for each of them.
    applied: BTreeMap<ResourceId, Vec<Resource>>,
    /// Where hosts outside lead.
    pins: BTreeMap<String, String>,
    /// How many external services were deployed.
    deployed: usize,
    /// What sidecars demand of their callers where no document says a word.
    inbound: BTreeMap<String, dump::Inbound>,
    /// How often a variable of an application was set.
    told: u64,
}

struct ClusterInstance {
    api: Api,
    settings: Settings,
    injection: Injection,
    places: Places,
    labels: BTreeMap<String, String>,
    seat: Seat,
    proxies: Vec<Proxy>,
    probe: PodRef,
    noted: Noted,
    /// The address of the server that canaries are sent to, once one was.
    canary: OnceCell<String>,
    fences: Arc<Fences>,
    state: Mutex<State>,
    servers: Mutex<Vec<Server>>,
    /// Where each documented host and port leads; for access logs, and for whoever dials.
    addresses: RwLock<BTreeMap<String, Address>>,
    asked: AtomicU64,
    /// Resources in namespaces that are not the scenario's own.
    elsewhere: StdMutex<BTreeSet<ResourceId>>,
}

/// Where a host leads.
#[derive(Clone, Debug, Default)]
struct Address {
    /// The pod.
    pod: String,
    /// Where a client is sent: the Service's address where there is one, else the pod's.
    dialled: String,
    ports: Vec<u16>,
}

fn environment(words: impl std::fmt::Display) -> TargetError {
    TargetError::Environment(words.to_string())
}

impl ClusterInstance {
    fn plan(&self) -> Plan<'_> {
        Plan {
            settings: &self.settings,
            places: &self.places,
            labels: &self.labels,
            injection: &self.injection,
            live: self.is_live(),
        }
    }

    fn is_live(&self) -> bool {
        self.seat.external == ExternalChoice::Live
    }

    fn proxy(&self, name: &str) -> Option<&Proxy> {
        self.proxies.iter().find(|p| p.name == name)
    }

    fn address(&self, host: &str) -> Option<Address> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// Where who is captured by a sidecar sends a request for this host. The sidecar captures whatever address it is. Where the host is
    /// nobody's, the request must not leave the cluster; in a live run it is a real one, and name servers know it: none.
    fn dialled(&self, host: &str) -> Option<String> {
        match self.address(host) {
            Some(address) => Some(address.dialled),
            None if self.is_live() => None,
            None => Some(NOWHERE.to_owned()),
        }
    }

    fn set_address(&self, host: &str, address: Option<Address>) {
        let mut table = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => table.insert(host.to_owned(), address),
            None => table.remove(host),
        };
    }

    /// Applies one resource in the version that the cluster serves; what lies in a namespace of somebody else's is remembered.
    async fn apply(&self, resource: &Resource) -> Result<serde_json::Value, TargetError> {
        let served = self.api.served().await.map_err(ApiError::blame)?;
        let resource = served.rewritten(resource);
        if resource.kind() != "Namespace" && !self.places.own().contains(&resource.namespace()) {
            self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).insert(resource.id());
        }
        self.api.apply(&resource).await.map_err(ApiError::blame)
    }

    async fn apply_all(&self, resources: &[Resource]) -> Result<Vec<serde_json::Value>, TargetError> {
        join_all(resources.iter().map(|r| self.apply(r))).await.into_iter().collect()
    }

    /// A token that no request of a scenario has.
    fn fence_token(&self) -> String {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-fence.{number:05}", self.seat.run, self.seat.name)
    }

    async fn remove(&self) -> Result<(), TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Teardown);
        let elsewhere: Vec<ResourceId> =
            self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let loose = join_all(elsewhere.iter().map(|id| self.api.delete(id))).await;
        let own = namespace_ids(&self.places);
        let gone = join_all(own.iter().map(|id| self.api.delete_and_wait(id, limit))).await;
        let left: Vec<String> =
            loose.into_iter().chain(gone).filter_map(Result::err).map(|e| e.to_string()).collect();
        if left.is_empty() { Ok(()) } else { Err(environment(left.join("; "))) }
    }
}

fn namespace_ids(places: &Places) -> Vec<ResourceId> {
    let id = |name: &str| ResourceId {
        kind: "Namespace".to_owned(),
        namespace: name.to_owned(),
        name: name.to_owned(),
    };
    places.own().into_iter().map(id).collect()
}

/// Puts a scenario's mesh in place. `noted` takes what its pods tell.
///
/// # Errors
/// The environment's, or the implementation does not bring its proxies into force.
pub async fn start(
    api: Api,
    settings: &Settings,
    injection: Injection,
    noted: Noted,
    seat: Seat,
) -> Result<Box<dyn Instance>, TargetError> {
    let places = Places::new(&seat.run, &seat.name, &settings.gateways);
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
        self.tell_details(&mut state, workload, name, value).await
    }

    async fn send(&self, workload: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        self.send_from(workload, request).await
    }

    async fn probe(&self, probe: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        self.ask_directly(probe, request).await
    }

    async fn settle(&self) -> Result<(), TargetError> {
        self.settle_all().await
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        let found = self.proxy(proxy).and_then(|p| Some((p.pod()?, p.proof()?)));
        let (pod, proof) = found.ok_or_else(|| environment(format!("{proxy} is not there to be asked")))?;
        if let Proof::Canary(reason) = &proof {
            return Err(proof::unseen("a credential", proxy, reason));
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
                let _how = running.follower.stop().await;
            }
        }
        for server in self.servers.lock().await.drain(..) {
            let _how = server.follower.stop().await;
        }
        if self.seat.keep { Ok(()) } else { self.remove().await }
    }
}

fn socket(address: &str, port: u16) -> String {
    match address.parse() {
        Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{address}:{port}"),
    }
}
