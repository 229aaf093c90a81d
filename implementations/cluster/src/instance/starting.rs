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

use super::fences::Fences;
use super::pods::{PROXY, await_proxy, follow_proxy};
use super::proof::Proof;
use super::readiness::{PULLED, await_pod};
use super::servers::Server;
use super::{Address, ClusterInstance, Proxy, Running, State, environment, namespace_ids};
use crate::api::{Api, ApiError};
use crate::dump as read;
use crate::manifests::{Injection, gateway, mesh, namespaces, nginx, pull_secret, workload};
use crate::noted::Noted;
use crate::places::Places;
use crate::relocate::NOWHERE;
use crate::settings::Settings;

/// The timeout that bounds how long pods take to become ready.
pub(super) const READY: Timeout = Timeout::ImplementationReady;

/// Removes what was made when nobody is left who would: a start that failed or was given up.
struct Undo {
    api: Api,
    places: Option<Places>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some(places) = self.places.take() else { return };
        let api = self.api.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let ids = namespace_ids(&places);
                // `meshproof cleanup` finds what remains.
                let _nobody_to_tell = join_all(ids.iter().map(|id| api.delete(id))).await;
            });
        }
    }
}

/// How long a start may take in all: its waits, each with a timeout of its own, and what is asked of the API server between them.
pub(super) fn limit(timeouts: &Timeouts) -> Duration {
    let waits: Duration = [PULLED, READY, Timeout::Applied].into_iter().map(|name| timeouts.get(name)).sum();
    waits + 4 * timeouts.get(Timeout::ClusterAnswer)
}

/// Puts the mesh in place, or says what took too long.
pub(super) async fn start_in_time(
    api: Api,
    settings: Settings,
    injection: Injection,
    noted: Noted,
    places: Places,
    labels: BTreeMap<String, String>,
    seat: Seat,
) -> Result<ClusterInstance, TargetError> {
    let limit = limit(&seat.timeouts);
    let teardown = seat.timeouts.get(Timeout::Teardown);
    let made = (!seat.keep).then(|| (api.clone(), namespace_ids(&places)));
    let started = start(api, settings, injection, noted, places, labels, seat);
    // Pods and proxies were waited for with their own timeouts, so that it is the API server that took its time.
    let started = tokio::time::timeout(limit, started).await.unwrap_or_else(|_| {
        Err(environment(format!(
            "the cluster did not make a scenario's objects within {limit:?}, the sum of the timeouts `{PULLED}`, `{READY}` and `applied` \
             and of some answers: see whether its API server is overloaded, or run fewer at once with --jobs"
        )))
    });
    // Awaited, so that what is on its way out is not taken for left behind.
    if let (Err(_), Some((api, made))) = (&started, made) {
        let _what_stays_is_told_after_the_run =
            join_all(made.iter().map(|id| api.delete_and_wait(id, teardown))).await;
    }
    started
}

async fn start(
    api: Api,
    settings: Settings,
    injection: Injection,
    noted: Noted,
    places: Places,
    labels: BTreeMap<String, String>,
    seat: Seat,
) -> Result<ClusterInstance, TargetError> {
    let kept = seat.keep;
    let mut undo = Undo { api: api.clone(), places: Some(places.clone()).filter(|_| !kept) };
    let nobody =
        crate::api::PodRef { namespace: String::new(), pod: String::new(), container: String::new() };
    let mut instance = ClusterInstance {
        api,
        settings,
        injection,
        places,
        labels,
        seat,
        proxies: Vec::new(),
        probe: nobody,
        noted,
        canary: OnceCell::new(),
        fences: Arc::new(Fences::default()),
        state: Mutex::new(State::default()),
        servers: Mutex::new(Vec::new()),
        addresses: RwLock::default(),
        asked: AtomicU64::new(1),
        elsewhere: StdMutex::default(),
    };
    instance.make().await?;
    instance.meet().await?;
    undo.places = None;
    drop(undo);
    Ok(instance)
}

/// What a container beside a proxy is for, as [`crate::IMAGES`] calls it.
fn purpose(proxy: &Proxy, container: &str) -> Option<&'static str> {
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
    /// Applies what the topology consists of.
    async fn make(&self) -> Result<(), TargetError> {
        let plan = self.plan();
        let made = namespaces(&plan, &Timestamp::now().to_string(), &self.seat.public_roots);
        let (first, then): (Vec<Resource>, Vec<Resource>) =
            made.into_iter().partition(|r| r.kind() == "Namespace");
        self.apply_all(&first).await?;
        self.apply_all(&then).await?;
        for secret in &self.settings.pull_secrets {
            let original = secret.original(&self.api).await.map_err(environment)?;
            if let Some(original) = original {
                self.apply_all(&pull_secret(&plan, secret, &original)).await?;
            }
        }
        let topology = &self.seat.topology;
        let mut all = mesh::access_logs(&plan, &topology.gateways);
        all.extend([mesh::sidecar_beacon(&plan, NOWHERE), mesh::sidecar(&plan, 0), workload::probe(&plan)]);
        all.extend(topology.workloads.iter().flat_map(|w| workload::workload(&plan, w)));
        if !self.places.gateways_installed() {
            all.extend(topology.gateways.iter().flat_map(|g| gateway::gateway(&plan, g)));
        }
        for service in &topology.services {
            let host = service_host(service.name, service.namespace);
            let pod = PodService::same(&host, service.port, service.body);
            let made = nginx::plain(&plan, service.namespace, service.name, service.port, &pod);
            all.extend(made.map_err(environment)?);
        }
        // Accounts before the pods that run under them: a pod without its account is tried again only after a while. And roles
        // before who is bound to them: the API server looks whether the binding's maker has all that the role gives.
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

    /// A Service's address, as the cluster gave it.
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
        self.set_address(&host, Some(Address { pod: String::new(), dialled: address.to_owned(), ports }));
    }

    /// Waits for the pods, follows their logs, and sees the first revision in force.
    async fn meet(&mut self) -> Result<(), TargetError> {
        let topology = self.seat.topology.clone();
        let sidecars = topology.workloads.iter().map(|w| {
            let client = workload::client_of(w);
            self.meet_proxy(w.name, w.namespace, w.name, w.serves.map(|a| a.port), Some(client))
        });
        let gateways = topology.gateways.iter().map(|g| {
            self.meet_proxy(
                g.name,
                g.namespace,
                g.labels.get("app").map_or(g.name, String::as_str),
                None,
                None,
            )
        });
        let proxies = join_all(
            sidecars
                .map(futures_util::future::Either::Left)
                .chain(gateways.map(futures_util::future::Either::Right)),
        );
        let outside = self.places.outside();
        let probe = await_pod(&self.api, outside, workload::PROBE, READY);
        let plain = try_join_all(topology.services.iter().map(|service| async {
            let host = service_host(service.name, service.namespace);
            let namespace = self.places.of(service.namespace);
            let pod = await_pod(&self.api, namespace, service.name, READY).await?;
            self.note_nginx(&pod);
            let address = self.address(&host).unwrap_or_default();
            self.set_address(&host, Some(Address { pod: pod.address.clone(), ..address }));
            let service = PodService::same(&host, service.port, service.body);
            Ok::<_, TargetError>(Server::follow(self, &service, &pod, namespace, 0))
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

    async fn meet_proxy(
        &self,
        name: &str,
        documented: &str,
        app: &str,
        serves: Option<u16>,
        client: Option<&str>,
    ) -> Result<Proxy, TargetError> {
        let namespace = self.places.of(documented).to_owned();
        let proxy = Proxy {
            name: name.to_owned(),
            host: service_host(name, &namespace),
            serves,
            is_gateway: client.is_none(),
            running: StdMutex::new(None),
            namespace,
        };
        self.attach(&proxy, app, client.unwrap_or(PROXY), READY).await?;
        Ok(proxy)
    }

    /// Finds a proxy's pod and follows its log.
    pub(super) async fn attach(
        &self,
        proxy: &Proxy,
        app: &str,
        client: &str,
        timeout: Timeout,
    ) -> Result<(), TargetError> {
        let found = await_proxy(&self.api, &proxy.namespace, app, timeout).await?;
        self.noted.ran(&found.ran, |container| purpose(proxy, container));
        let pod = found.container(&proxy.namespace, PROXY);
        let proof = Proof::of(&self.api, &pod).await;
        self.note_proof(proxy, &proof, found.believes)?;
        let follower =
            follow_proxy(&self.api, &pod, &proxy.name, &self.seat.store, &self.places, &self.fences);
        let host = self.places.documented(&proxy.host);
        if let Some(address) = self.address(&host) {
            self.set_address(&host, Some(Address { pod: found.address.clone(), ..address }));
        }
        let client = found.container(&proxy.namespace, client);
        *proxy.lock() = Some(Running { pod, address: found.address, client, proof, follower });
        Ok(())
    }
}
