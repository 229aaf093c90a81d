//! One data plane: applying states, waiting for its log, stopping.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use meshproof_model::{CredentialState, CredentialStatus};
use meshproof_plan::data_plane::{Boot, DataPlane, DataPlaneError, Update};
use meshproof_plan::model::{ClientCertificate, Trust, UpstreamTls};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::http::has_place;
use crate::listen::Listening;
use crate::registry::{Connection, Registry};
use crate::saboteurs::outage::Outage;
use crate::saboteurs::{Memory, Saboteur};
use crate::state::{State, Upstream, World};
use crate::tasks::Tasks;
use crate::tls;

/// How long settling waits for a connection whose client has closed one direction while the other goes on.
const SETTLED: Duration = Duration::from_secs(2);
/// How long a change waits for requests that began before it to be with the last proxy on their way.
const HANDED_ON: Duration = Duration::from_millis(500);
/// How long a change waits for idle connections to close that it has no use for.
const DRAINED: Duration = Duration::from_secs(2);

/// What all tasks of a data plane share.
pub(crate) struct Shared {
    pub(crate) boot: Boot,
    pub(crate) saboteur: Option<Saboteur>,
    pub(crate) state: ArcSwap<State>,
    pub(crate) tasks: Tasks,
    pub(crate) registry: Arc<Registry>,
    pub(crate) outage: Outage,
}

/// A running reference data plane.
pub(crate) struct Plane {
    shared: Arc<Shared>,
    /// One change at a time.
    control: Mutex<Control>,
}

#[derive(Default)]
struct Control {
    listening: HashMap<SocketAddr, Listening>,
    memory: Memory,
}

impl Plane {
    pub(crate) fn new(boot: Boot, saboteur: Option<Saboteur>) -> Self {
        let shared = Shared {
            boot,
            saboteur,
            state: ArcSwap::default(),
            tasks: Tasks::default(),
            registry: Arc::default(),
            outage: Outage::default(),
        };
        Self { shared: Arc::new(shared), control: Mutex::default() }
    }

    fn alive(&self) -> Result<(), DataPlaneError> {
        if self.shared.tasks.is_stopped() {
            return Err(DataPlaneError::Gone("the data plane was stopped".to_owned()));
        }
        Ok(())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Whoever forgets to stop it leaves nothing running all the same.
        self.shared.tasks.cancel();
    }
}

#[async_trait]
impl DataPlane for Plane {
    async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError> {
        let mut control = self.control.lock().await;
        self.alive()?;
        let shared = &self.shared;
        let wanted = control.memory.twist(shared.saboteur, &shared.boot, &update);
        let world = World {
            boot: &shared.boot,
            credentials: &wanted.credentials,
            endpoints: update.endpoints,
            tasks: &shared.tasks,
            registry: &shared.registry,
            saboteur: shared.saboteur,
        };
        let state = Arc::new(State::compile(&wanted.plan, &world, &shared.state.load())?);

        // Everything that can fail comes before anything changes.
        let mut sockets = Vec::new();
        for bind in state.listeners.keys().filter(|b| !control.listening.contains_key(*b)) {
            let socket = TcpListener::bind(bind).await.map_err(|e| cannot_listen(*bind, &e))?;
            sockets.push((*bind, socket));
        }
        let before = shared.state.load_full();
        shared.outage.pass(shared.saboteur, &before, &state, &shared.registry).await;
        state.succeed(before);
        for (bind, socket) in sockets {
            control.listening.insert(bind, Listening::start(shared, bind, socket));
        }
        let before = shared.state.swap(Arc::clone(&state));
        if shared.saboteur == Some(Saboteur::DropInFlightOnChange) {
            shared.registry.connections().iter().for_each(|c| c.abort.cancel());
        }
        // Each request holds the state that it began with until it has its response's head; besides them only this
        // function and the new state do.
        shared.registry.wait(HANDED_ON, || Arc::strong_count(&before) <= 2).await;
        state.settle_in();
        drop(before);
        let gone: Vec<SocketAddr> =
            control.listening.keys().filter(|b| !state.listeners.contains_key(*b)).copied().collect();
        for bind in gone {
            if let Some(listening) = control.listening.remove(&bind) {
                listening.close().await;
            }
        }
        let displaced: Vec<Arc<Connection>> =
            shared.registry.connections().into_iter().filter(|c| !has_place(&state, c)).collect();
        shared.registry.drain(displaced, DRAINED).await;
        Ok(())
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        self.alive()?;
        let state = self.shared.state.load_full();
        let mut found = BTreeMap::new();
        for upstream in state.proxies.get(proxy).into_iter().flat_map(|p| p.clusters.values()) {
            statuses(upstream, &mut found);
        }
        let always = self.shared.saboteur == Some(Saboteur::DefaultNamespaceCredentialStatus);
        Ok(found
            .into_iter()
            .map(|(name, held)| CredentialStatus {
                name,
                state: if held.is_some() || always {
                    CredentialState::Active
                } else {
                    CredentialState::Warming
                },
                serial: held.flatten(),
            })
            .collect())
    }

    async fn settle(&self) -> Result<(), DataPlaneError> {
        self.alive()?;
        self.shared.registry.settle(SETTLED).await;
        Ok(())
    }

    async fn stop(&self) -> Result<(), DataPlaneError> {
        let mut control = self.control.lock().await;
        self.shared.tasks.stop().await;
        control.listening.clear();
        // Idle upstream connections went with their tasks; what is left of the configuration goes here.
        self.shared.state.store(Arc::default());
        Ok(())
    }
}

/// The credentials that a cluster uses, by the names that Envoy's secrets have under Istio
/// (`pilot/pkg/security/authn/utils`, `kubernetes://NAME` and `kubernetes://NAME-cacert`): none while missing, else the
/// serial.
fn statuses(upstream: &Upstream, found: &mut BTreeMap<String, Option<Option<String>>>) {
    let (Some(UpstreamTls::Originate(o)), Some(inputs)) = (&upstream.plan.tls, &upstream.inputs) else {
        return;
    };
    if let Some(ClientCertificate::Credential(name)) = &o.client_certificate {
        let held = match &inputs.client {
            Ok(pair) => pair.as_ref().map(|p| tls::serial(&p.certificate)),
            Err(_) => None,
        };
        found.insert(format!("kubernetes://{name}"), held);
    }
    if let Trust::Credential(name) = &o.trust {
        let held = match &inputs.roots {
            Ok(tls::inputs::Roots::Pem(pem)) => Some(tls::serial(pem)),
            Ok(tls::inputs::Roots::Anybody) | Err(_) => None,
        };
        let bare = name.strip_suffix("-cacert").unwrap_or(name);
        found.insert(format!("kubernetes://{bare}-cacert"), held);
    }
}

fn cannot_listen(bind: SocketAddr, error: &io::Error) -> DataPlaneError {
    let mend = if error.kind() == io::ErrorKind::AddrInUse {
        "another process listens there; end it, or run again and let the suite choose other ports"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "ports below 1024 need a privilege here; choose higher ones"
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "this machine has no such address; use one of its loopback addresses"
    } else {
        "see whether the address can be listened on at all"
    };
    DataPlaneError::Environment(format!("cannot listen on {bind}: {error}: {mend}"))
}
