//! One data plane: applying configurations, waiting for its log, stopping.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use meshproof_harness::certificates::credential_status;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, Update};
use meshproof_model::CredentialStatus;
use meshproof_plan::model::{ClientCertificate, Plan, Trust, UpstreamTls};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::config::{ActiveConfig, CompileContext};
use crate::connections::DownstreamConnection;
use crate::hooks::{PlaneHooks, ProxyFacts, WantedConfig};
use crate::listen::ListeningSocket;
use crate::proxy::ProxyHandle;
use crate::shared::PlaneShared;
use crate::tasks::PlaneTasks;
use crate::tls::inputs::TrustedRoots;
use crate::upstream::ActiveCluster;

/// How long settling waits for a connection whose client has closed one direction while the other stays open.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a change waits for earlier requests to reach the last proxy on their way.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a change waits for idle connections to close that have no place in the new configuration.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A running reference data plane.
pub(crate) struct ReferencePlane {
    shared: Arc<PlaneShared>,
    hooks: Box<dyn PlaneHooks>,
    /// Locked by each change, so that there is one at a time.
    control: Mutex<ControlState>,
}

#[derive(Default)]
struct ControlState {
    listening: HashMap<SocketAddr, ListeningSocket>,
    /// Every proxy that a plan has named so far.
    handles: HashMap<String, Arc<ProxyHandle>>,
}

impl ReferencePlane {
    pub(crate) fn new(boot: Boot, hooks: Box<dyn PlaneHooks>) -> Self {
        let shared = PlaneShared {
            boot,
            config: ArcSwap::default(),
            tasks: PlaneTasks::default(),
            connections: Arc::default(),
        };
        Self { shared: Arc::new(shared), hooks, control: Mutex::default() }
    }

    fn check_running(&self) -> Result<(), DataPlaneError> {
        if self.shared.tasks.is_stopped() {
            return Err(DataPlaneError::Gone("the data plane was stopped".to_owned()));
        }
        Ok(())
    }

    fn add_handles(&self, plan: &Plan, handles: &mut HashMap<String, Arc<ProxyHandle>>) {
        let boot = &self.shared.boot;
        for proxy in &plan.proxies {
            if handles.contains_key(&proxy.name) {
                continue;
            }
            let facts = ProxyFacts {
                role: proxy.role,
                identity: boot.identities.get(&proxy.name),
                system_roots: &boot.system_roots,
            };
            let handle = ProxyHandle {
                name: proxy.name.clone(),
                hooks: self.hooks.proxy(&facts),
                logs: Arc::clone(&boot.logs),
            };
            handles.insert(proxy.name.clone(), Arc::new(handle));
        }
    }
}

impl Drop for ReferencePlane {
    fn drop(&mut self) {
        // A data plane that is dropped without `stop` leaves no task running either.
        self.shared.tasks.cancel();
    }
}

#[async_trait]
impl DataPlane for ReferencePlane {
    async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError> {
        let mut control = self.control.lock().await;
        self.check_running()?;
        let shared = &self.shared;
        let mut wanted = WantedConfig { plan: update.plan.clone(), credentials: update.credentials.clone() };
        self.hooks.configuration(&mut wanted, &update, &shared.boot);
        self.add_handles(&wanted.plan, &mut control.handles);
        let context = CompileContext {
            boot: &shared.boot,
            endpoints: update.endpoints,
            tasks: &shared.tasks,
            connections: &shared.connections,
            handles: &control.handles,
        };
        let config = Arc::new(ActiveConfig::compile(&wanted, &context, &shared.config.load())?);

        // Everything that can fail comes before anything changes.
        let mut sockets = Vec::new();
        for bind in config.listeners.keys().filter(|b| !control.listening.contains_key(*b)) {
            let socket = TcpListener::bind(bind).await.map_err(|e| cannot_listen(*bind, &e))?;
            sockets.push((*bind, socket));
        }
        let before = shared.config.load_full();
        if let Some(waiting) = self.hooks.before_change(&config.rotating(&before)) {
            waiting.await;
        }
        config.begin_change(before);
        for (bind, socket) in sockets {
            control.listening.insert(bind, ListeningSocket::start(shared, bind, socket));
        }
        let before = shared.config.swap(Arc::clone(&config));
        for (name, handle) in &control.handles {
            // A proxy that was removed has no clusters any more.
            let clusters = config.proxies.get(name).into_iter().flat_map(|p| p.clusters.values());
            handle.hooks.in_force(&mut clusters.map(|c| &c.plan), &shared.tasks);
        }
        let dropped = |c: &DownstreamConnection| !c.proxy.hooks.keeps_connections_on_change();
        shared.connections.snapshot().iter().filter(|c| dropped(c)).for_each(|c| c.abort.cancel());
        // Each request holds its configuration until it has its response's head. Besides requests, only this
        // function and the new configuration hold the old one.
        shared.connections.activity.wait(HANDOVER_TIMEOUT, || Arc::strong_count(&before) <= 2).await;
        config.end_change();
        drop(before);
        let gone: Vec<SocketAddr> =
            control.listening.keys().filter(|b| !config.listeners.contains_key(*b)).copied().collect();
        for bind in gone {
            if let Some(listening) = control.listening.remove(&bind) {
                listening.close().await;
            }
        }
        let displaced: Vec<Arc<DownstreamConnection>> =
            shared.connections.snapshot().into_iter().filter(|c| !config.has_place(c)).collect();
        shared.connections.drain(displaced, DRAIN_TIMEOUT).await;
        Ok(())
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        self.check_running()?;
        let config = self.shared.config.load_full();
        let Some(proxy) = config.proxies.get(proxy) else { return Ok(Vec::new()) };
        let mut found = BTreeMap::new();
        for cluster in proxy.clusters.values() {
            collect_credentials(cluster, &mut found);
        }
        let status = |(name, held): (String, Option<&str>)| {
            let mut status = credential_status(&name, held);
            proxy.handle.hooks.credential_status(&mut status);
            status
        };
        Ok(found.into_iter().map(status).collect())
    }

    async fn settle(&self) -> Result<(), DataPlaneError> {
        self.check_running()?;
        self.shared.connections.settle(SETTLE_TIMEOUT).await;
        Ok(())
    }

    async fn stop(&self) -> Result<(), DataPlaneError> {
        let mut control = self.control.lock().await;
        self.shared.tasks.stop().await;
        control.listening.clear();
        // The idle upstream connections ended with their tasks; the configuration still holds the rest.
        self.shared.config.store(Arc::default());
        Ok(())
    }
}

/// Adds the credentials that a cluster uses, by the names that Envoy's secrets have under Istio
/// (`pilot/pkg/security/authn/utils`, `kubernetes://NAME` and `kubernetes://NAME-cacert`): `None` while
/// missing, else the serial number.
fn collect_credentials<'c>(cluster: &'c ActiveCluster, found: &mut BTreeMap<String, Option<&'c str>>) {
    let (Some(UpstreamTls::Originate(o)), Some(inputs)) = (&cluster.plan.tls, &cluster.inputs) else {
        return;
    };
    if let Some(ClientCertificate::Credential(name)) = &o.client_certificate {
        let held = match &inputs.client {
            Ok(pair) => pair.as_ref().map(|p| p.certificate.as_str()),
            Err(_) => None,
        };
        found.insert(format!("kubernetes://{name}"), held);
    }
    if let Trust::Credential(name) = &o.trust {
        let held = match &inputs.roots {
            Ok(TrustedRoots::Pem(pem)) => Some(pem.as_str()),
            Ok(TrustedRoots::Any) | Err(_) => None,
        };
        let bare = name.strip_suffix("-cacert").unwrap_or(name);
        found.insert(format!("kubernetes://{bare}-cacert"), held);
    }
}

fn cannot_listen(bind: SocketAddr, error: &io::Error) -> DataPlaneError {
    let fix = if error.kind() == io::ErrorKind::AddrInUse {
        "Another process listens there. Stop it, or run again and let the suite choose other ports."
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "Ports below 1024 require a privilege on this system. Choose higher ports."
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "This machine does not have that address. Use one of its loopback addresses."
    } else {
        "Check whether a program can listen on that address."
    };
    DataPlaneError::Environment(format!("cannot listen on {bind}: {error}. {fix}"))
}
