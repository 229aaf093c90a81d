//! How a scenario's mesh comes up.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex as StdMutex, RwLock};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use meshproof_harness::target::{Seat, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::topology::service_host;
use meshproof_model::Resource;
use meshproof_nginx::PodService;
use tokio::sync::{Mutex, OnceCell};

use super::flush_markers::FlushMarkers;
use super::proof::Proof;
use super::readiness::{PULLED, READY, await_pod};
use super::rejections::Rejections;
use super::sessions::Clients;
use super::state::{ClusterInstance, HostAddress, InForce, environment, namespace_ids};
use crate::api::{ApiError, ClusterClient, PodRef};
use crate::dump as read;
use crate::manifests::{Injection, gateway, mesh, namespaces, nginx, pull_secret, workload};
use crate::noted::RunNotes;
use crate::places::Places;
use crate::relocate::NOWHERE;
use crate::settings::Settings;

/// Removes what a start has created when the start fails or is cancelled.
struct UndoStart {
    api: ClusterClient,
    places: Option<Places>,
}

impl Drop for UndoStart {
    fn drop(&mut self) {
        let Some(places) = self.places.take() else { return };
        let api = self.api.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let ids = namespace_ids(&places);
                // `meshproof cleanup` finds what remains.
                let _unreported = join_all(ids.iter().map(|id| api.delete(id))).await;
            });
        }
    }
}

/// How long a start may take in total: its waits, each with a timeout of its own, and the API server's
/// answers between them.
pub(super) fn limit(timeouts: &Timeouts) -> Duration {
    let waits: Duration = [PULLED, READY, Timeout::Applied].into_iter().map(|name| timeouts.get(name)).sum();
    waits + 4 * timeouts.get(Timeout::ClusterAnswer)
}

/// Creates the scenario's mesh within its timeouts.
pub(super) async fn start_in_time(
    api: ClusterClient,
    settings: Settings,
    injection: Injection,
    noted: RunNotes,
    places: Places,
    labels: BTreeMap<String, String>,
    seat: Seat,
) -> Result<ClusterInstance, TargetError> {
    let limit = limit(&seat.timeouts);
    let teardown = seat.timeouts.get(Timeout::Teardown);
    let made = (!seat.keep).then(|| (api.clone(), namespace_ids(&places)));
    let started = start(api, settings, injection, noted, places, labels, seat);
    // Waits for pods and proxies have timeouts of their own, so it is the API server that was slow.
    let started = tokio::time::timeout(limit, started).await.unwrap_or_else(|_| {
        Err(environment(format!(
            "the cluster did not create a scenario's objects within {limit:?}, the sum of the timeouts \
             `{PULLED}`, `{READY}` and `applied` \
             and of four answers: check whether its API server is overloaded, or run fewer scenarios at once \
             with --jobs"
        )))
    });
    // Waited for, so that objects that are being deleted do not count as left behind.
    if let (Err(_), Some((api, made))) = (&started, made) {
        let _reported_after_the_run = join_all(made.iter().map(|id| api.delete_and_wait(id, teardown))).await;
    }
    started
}

async fn start(
    api: ClusterClient,
    settings: Settings,
    injection: Injection,
    noted: RunNotes,
    places: Places,
    labels: BTreeMap<String, String>,
    seat: Seat,
) -> Result<ClusterInstance, TargetError> {
    let kept = seat.keep;
    let mut undo = UndoStart { api: api.clone(), places: Some(places.clone()).filter(|_| !kept) };
    let unknown = PodRef { namespace: String::new(), pod: String::new(), container: String::new() };
    let mut instance = ClusterInstance {
        api,
        settings,
        injection,
        places,
        labels,
        seat,
        proxies: Vec::new(),
        probe: unknown,
        noted,
        canary: OnceCell::new(),
        flush_markers: Arc::new(FlushMarkers::default()),
        rejections: Arc::new(Rejections::default()),
        state: Mutex::new(InForce::default()),
        servers: Mutex::new(Vec::new()),
        served: Mutex::new(Vec::new()),
        clients: Clients::default(),
        addresses: RwLock::default(),
        registered: RwLock::default(),
        next_flush: AtomicU64::new(1),
        elsewhere: StdMutex::default(),
    };
    instance.create().await?;
    instance.find_pods().await?;
    undo.places = None;
    drop(undo);
    Ok(instance)
}

impl ClusterInstance {
    /// Applies everything that the topology consists of.
    async fn create(&self) -> Result<(), TargetError> {
        let context = self.context();
        let made = namespaces(&context, &Timestamp::now().to_string(), &self.seat.public_roots);
        let (first, then): (Vec<Resource>, Vec<Resource>) =
            made.into_iter().partition(|r| r.kind() == "Namespace");
        self.apply_all(&first).await?;
        self.apply_all(&then).await?;
        for secret in &self.settings.pull_secrets {
            let original = secret.original(&self.api).await.map_err(environment)?;
            if let Some(original) = original {
                self.apply_all(&pull_secret(&context, secret, &original)).await?;
            }
        }
        let topology = &self.seat.topology;
        let mut all = mesh::access_logs(&context, &topology.gateways);
        all.extend(mesh::allowed(&context));
        all.extend([mesh::sidecar_marker(&context, NOWHERE), workload::probe(&context)]);
        all.extend(self.places.of_sidecars().map(|namespace| mesh::sidecar(&context, namespace, 0)));
        all.extend(topology.workloads.iter().flat_map(|w| workload::workload(&context, w)));
        if !self.places.gateways_installed() {
            all.extend(topology.gateways.iter().flat_map(|g| gateway::gateway(&context, g)));
        }
        for service in &topology.services {
            let host = service_host(&service.name, &service.namespace);
            let pod = PodService::same(&host, service.port, &service.body);
            let made = nginx::plain(&context, &service.namespace, &service.name, service.port, &pod);
            all.extend(made.map_err(environment)?);
            let namespace = self.places.of(&service.namespace);
            all.extend(mesh::plaintext(&context, namespace, &self.places.host(&host)));
        }
        // ServiceAccounts before the pods that run under them: a pod without its account is retried only
        // after a while. And Roles before their RoleBindings: the API server checks that the creator of a
        // binding has all permissions of its role.
        for kinds in [
            |kind: &str| !matches!(kind, "Deployment" | "RoleBinding"),
            |kind: &str| kind == "RoleBinding",
            |kind: &str| kind == "Deployment",
        ] {
            let of_these: Vec<Resource> = all.iter().filter(|r| kinds(r.kind())).cloned().collect();
            for resource in self.apply_all(&of_these).await? {
                self.note_service(&resource);
            }
        }
        Ok(())
    }

    /// Notes the address that the cluster gave to a Service.
    fn note_service(&self, object: &serde_json::Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(serde_json::Value::as_str);
        let (Some("Service"), Some(name), Some(namespace), Some(address)) =
            (text("/kind"), text("/metadata/name"), text("/metadata/namespace"), text("/spec/clusterIP"))
        else {
            return;
        };
        let host = self.places.documented(&service_host(name, namespace));
        let ports = object.pointer("/spec/ports").and_then(serde_json::Value::as_array);
        let number = |port: &serde_json::Value| port["port"].as_u64().and_then(|p| u16::try_from(p).ok());
        let ports = ports.into_iter().flatten().filter_map(number).collect();
        self.set_address(&host, Some(HostAddress { pod: String::new(), dialled: address.to_owned(), ports }));
    }

    /// Waits for the pods, follows their logs, and waits until the first revision is in force.
    async fn find_pods(&mut self) -> Result<(), TargetError> {
        let topology = self.seat.topology.clone();
        let sidecars = topology.workloads.iter().map(|w| {
            let client = workload::client_of(w);
            let port = w.serves.as_ref().map(|a| a.port);
            self.find_proxy(&w.name, &w.namespace, &w.name, port, Some(client))
        });
        let gateways = topology.gateways.iter().map(|g| {
            self.find_proxy(&g.name, &g.namespace, g.labels.get("app").unwrap_or(&g.name), None, None)
        });
        let proxies = join_all(
            sidecars
                .map(futures_util::future::Either::Left)
                .chain(gateways.map(futures_util::future::Either::Right)),
        );
        let outside = self.places.outside();
        let probe = await_pod(&self.api, outside, workload::PROBE, READY);
        let plain = try_join_all(topology.services.iter().map(|service| async {
            let host = service_host(&service.name, &service.namespace);
            let namespace = self.places.of(&service.namespace);
            let pod = await_pod(&self.api, namespace, &service.name, READY).await?;
            self.note_nginx(&pod);
            let address = self.address(&host).unwrap_or_default();
            self.set_address(&host, Some(HostAddress { pod: pod.address.clone(), ..address }));
            let service = PodService::same(&host, service.port, &service.body);
            Ok::<_, TargetError>(self.follow_nginx(&service, &pod, namespace, 0))
        }));
        let (proxies, probe, plain) = tokio::join!(proxies, probe, plain);
        let proxies = proxies.into_iter().collect::<Result<Vec<_>, _>>()?;
        let probe = probe?;
        self.noted.ran(&probe.ran, |container| (container == workload::APPLICATION).then_some("probe"));
        let probe = probe.container(outside, workload::APPLICATION);
        let plain = plain?;
        self.proxies = proxies;
        self.probe = probe;
        self.servers.get_mut().extend(plain);
        let mut state = self.state.lock().await;
        self.advance(&mut state, &[]).await?;
        for proxy in &self.proxies {
            if let (Some(port), Some(pod), Some(proof @ (Proof::Forwarded | Proof::Agent))) =
                (proxy.serves, proxy.pod(), proxy.proof())
            {
                let dumped = proof.dump(&self.api, &pod).await.map_err(ApiError::blame)?;
                if let Some(mode) = read::inbound(&dumped, port) {
                    state.inbound.insert(proxy.name.clone(), mode);
                }
            }
        }
        Ok(())
    }
}
