//! One scenario's mesh in a cluster: what it consists of, and where its parts are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError, RwLock};

use futures_util::future::join_all;
use meshproof_harness::access_log::LogFormat;
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::target::{Seat, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_model::{Resource, ResourceId};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use super::flush_markers::FlushMarkers;
use super::nginx_pod::NginxPod;
use super::proof::Proof;
use super::ready_pod::ReadyPod;
use super::rejections::Rejections;
use super::sessions::{Clients, ServedPod};
use crate::api::{ApiError, ClusterClient, LogFollower, PodRef};
use crate::dump;
use crate::manifests::{Injection, ManifestContext, nginx};
use crate::noted::RunNotes;
use crate::places::Places;
use crate::relocate::NOWHERE;
use crate::settings::Settings;

/// A proxy of the scenario.
pub(super) struct ScenarioProxy {
    pub(super) name: String,
    /// In the cluster.
    pub(super) namespace: String,
    /// Its Service's host in the cluster.
    pub(super) host: String,
    /// The port that its application serves.
    pub(super) serves: Option<u16>,
    pub(super) is_gateway: bool,
    /// Where its workload dials a host, if the proxy answers its DNS queries; by host.
    pub(super) virtual_addresses: StdMutex<BTreeMap<String, String>>,
    /// None while the gateway is removed.
    pub(super) running: StdMutex<Option<ProxyPod>>,
}

/// The pod of a proxy, while it exists.
pub(super) struct ProxyPod {
    pub(super) pod: PodRef,
    pub(super) address: String,
    /// The container that has curl. Gateways have none; for them this is the proxy's own.
    pub(super) client: PodRef,
    pub(super) proof: Proof,
    pub(super) follower: LogFollower,
}

impl ScenarioProxy {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<ProxyPod>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pod(&self) -> Option<PodRef> {
        self.lock().as_ref().map(|running| running.pod.clone())
    }

    /// How it shows which configuration is in force.
    pub(super) fn proof(&self) -> Option<Proof> {
        self.lock().as_ref().map(|running| running.proof.clone())
    }

    pub(super) fn client(&self) -> Option<PodRef> {
        self.lock().as_ref().map(|running| running.client.clone())
    }

    pub(super) fn address(&self) -> Option<String> {
        self.lock().as_ref().map(|running| running.address.clone())
    }
}

/// The configuration in force. Locked for the length of a change: changes come into force one after another.
#[derive(Default)]
pub(super) struct InForce {
    /// The marker's revision.
    pub(super) revision: u64,
    /// The Sidecar's revision.
    pub(super) sidecar: u64,
    /// The documents' resources.
    pub(super) documents: Vec<Resource>,
    /// The resources that were applied for each of them.
    pub(super) applied: BTreeMap<ResourceId, Vec<Resource>>,
    /// The addresses that external hosts are pinned to.
    pub(super) pins: BTreeMap<String, String>,
    /// How many external services were deployed.
    pub(super) deployed: usize,
    /// What sidecars require of their callers where no document says so.
    pub(super) inbound: BTreeMap<String, dump::InboundTls>,
    /// How often a variable of an application was set.
    pub(super) application_revision: u64,
    /// The applications that were configured, by workload.
    pub(super) applications: BTreeMap<String, Configured>,
}

/// How an application is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configured {
    /// The variable, and its value.
    pub(super) variable: (String, String),
    /// Where it dials its external service.
    pub(super) address: Option<String>,
}

pub(super) struct ClusterInstance {
    pub(super) api: ClusterClient,
    pub(super) settings: Settings,
    pub(super) injection: Injection,
    pub(super) places: Places,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) seat: Seat,
    pub(super) proxies: Vec<ScenarioProxy>,
    pub(super) probe: PodRef,
    pub(super) noted: RunNotes,
    /// The address of the server that canary requests lead to, once there is one.
    pub(super) canary: OnceCell<String>,
    pub(super) flush_markers: Arc<FlushMarkers>,
    pub(super) rejections: Arc<Rejections>,
    pub(super) state: Mutex<InForce>,
    pub(super) servers: Mutex<Vec<NginxPod>>,
    /// The external services of the suite's own image.
    pub(super) served: Mutex<Vec<ServedPod>>,
    pub(super) clients: Clients,
    /// Where each documented host is; for access logs and for clients.
    pub(super) addresses: RwLock<BTreeMap<String, HostAddress>>,
    /// The addresses that documents give to hosts (`ServiceEntry.addresses`), which applications dial without a name.
    pub(super) registered: RwLock<BTreeSet<IpAddr>>,
    pub(super) next_flush: AtomicU64,
    /// Resources that were applied in namespaces other than the scenario's own.
    pub(super) elsewhere: StdMutex<BTreeSet<ResourceId>>,
}

/// Where a host is.
#[derive(Clone, Debug, Default)]
pub(super) struct HostAddress {
    /// The pod's address.
    pub(super) pod: String,
    /// Where clients connect to: the Service's address where there is one, else the pod's.
    pub(super) dialled: String,
    pub(super) ports: Vec<u16>,
}

impl HostAddress {
    /// A pod that clients connect to directly.
    pub(super) fn of_pod(address: &str, ports: Vec<u16>) -> Self {
        Self { pod: address.to_owned(), dialled: address.to_owned(), ports }
    }
}

pub(super) fn environment(words: impl Display) -> TargetError {
    TargetError::Environment(words.to_string())
}

impl ClusterInstance {
    pub(super) fn context(&self) -> ManifestContext<'_> {
        ManifestContext {
            settings: &self.settings,
            places: &self.places,
            labels: &self.labels,
            injection: &self.injection,
            live: self.is_live(),
        }
    }

    /// The format of the proxies' access logs; none where their lines cannot be read.
    pub(super) fn log_format(&self) -> Option<LogFormat> {
        self.injection.access_logs.as_ref().ok().map(|logs| logs.format.clone())
    }

    pub(super) fn is_live(&self) -> bool {
        self.seat.external == ExternalChoice::Live
    }

    pub(super) fn proxy(&self, name: &str) -> Option<&ScenarioProxy> {
        self.proxies.iter().find(|p| p.name == name)
    }

    pub(super) fn address(&self, host: &str) -> Option<HostAddress> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// The same for a workload: an application dials what the name resolves to, and its own proxy may answer that.
    pub(super) fn dialled_by(&self, workload: &str, host: &str) -> Option<String> {
        let proxy = self.proxy(workload);
        let own = proxy.and_then(|proxy| {
            let addresses = proxy.virtual_addresses.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.get(&self.places.host(host)).cloned()
        });
        own.or_else(|| self.dialled(host))
    }

    /// The address to which a workload sends a request for this host. Its sidecar captures any address. A
    /// request for an unknown host must not leave the cluster; in a live run such a host is real, and name
    /// servers resolve it: none.
    pub(super) fn dialled(&self, host: &str) -> Option<String> {
        match self.address(host) {
            Some(address) => Some(address.dialled),
            None if self.is_live() => None,
            None if self.is_registered(host) => Some(host.trim_matches(['[', ']']).to_owned()),
            None => Some(NOWHERE.to_owned()),
        }
    }

    fn is_registered(&self, host: &str) -> bool {
        let registered = self.registered.read().unwrap_or_else(PoisonError::into_inner);
        host.trim_matches(['[', ']']).parse().is_ok_and(|ip| registered.contains(&ip))
    }

    /// Notes the addresses of the documents in force.
    pub(super) fn register(&self, documents: &[Resource]) {
        let entries = documents.iter().filter(|r| r.kind() == "ServiceEntry");
        let addresses = entries.filter_map(|r| r.spec()["addresses"].as_array()).flatten();
        let addresses = addresses.filter_map(|a| a.as_str()?.parse().ok()).collect();
        *self.registered.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub(super) fn set_address(&self, host: &str, address: Option<HostAddress>) {
        let mut table = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => table.insert(host.to_owned(), address),
            None => table.remove(host),
        };
    }

    /// Applies one resource in the version that the cluster serves, and remembers it if its namespace is not
    /// the scenario's own.
    pub(super) async fn apply(&self, resource: &Resource) -> Result<Value, TargetError> {
        let served = self.api.served().await.map_err(ApiError::blame)?;
        let resource = served.rewritten(resource);
        if resource.kind() != "Namespace" && !self.places.own().contains(&resource.namespace()) {
            self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).insert(resource.id());
        }
        self.api.apply(&resource).await.map_err(ApiError::blame)
    }

    pub(super) async fn apply_all(&self, resources: &[Resource]) -> Result<Vec<Value>, TargetError> {
        join_all(resources.iter().map(|r| self.apply(r))).await.into_iter().collect()
    }

    /// A token that no request of a scenario has.
    pub(super) fn flush_token(&self) -> String {
        let number = self.next_flush.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}{FLUSH}{number:05}", self.seat.run, self.seat.name)
    }

    /// Notes which image an nginx pod runs.
    pub(super) fn note_nginx(&self, pod: &ReadyPod) {
        self.noted.ran(&pod.ran, |container| (container == nginx::NGINX).then_some("external"));
    }

    pub(super) async fn remove(&self) -> Result<(), TargetError> {
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

pub(super) fn namespace_ids(places: &Places) -> Vec<ResourceId> {
    let id = |name: &str| ResourceId {
        kind: "Namespace".to_owned(),
        namespace: name.to_owned(),
        name: name.to_owned(),
    };
    places.own().into_iter().map(id).collect()
}

/// What the tokens of the suite's own requests have in common.
const FLUSH: &str = "-flush.";

/// Whether a token is of a request of the suite itself ([`ClusterInstance::flush_token`]).
pub(super) fn is_flush_token(token: &str) -> bool {
    token.contains(FLUSH)
}

pub(super) fn socket(address: &str, port: u16) -> String {
    match address.parse() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{address}:{port}"),
    }
}
