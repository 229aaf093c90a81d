//! One state of the configuration, compiled: what every request and connection looks things up in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use meshproof_local::data_plane::{Boot, DataPlaneError};
use meshproof_plan::model::{
    Action, Cluster, Credential, Direction, Discovery, DownstreamTls, Listener, OriginalDestination, Plan,
    Transport,
};
use rustls::ServerConfig;

use crate::pool::Pool;
use crate::registry::Registry;
use crate::routes::Routes;
use crate::saboteurs::Saboteur;
use crate::sniff::Facts;
use crate::tasks::Tasks;
use crate::tls::client::Client;
use crate::tls::inputs::{Inputs, Sources};
use crate::tls::server;

/// See the module.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) proxies: HashMap<String, Arc<Proxy>>,
    pub(crate) listeners: HashMap<SocketAddr, Arc<Bound>>,
    /// For saboteurs, which go where they should not.
    pub(crate) endpoints: Vec<OriginalDestination>,
    /// While a change is under way: what was in force before. A request that one proxy sent on under the old state is
    /// still served by the next.
    previous: ArcSwapOption<Self>,
}

/// One proxy.
pub(crate) struct Proxy {
    pub(crate) name: String,
    pub(crate) clusters: HashMap<String, Arc<Upstream>>,
    pub(crate) saboteur: Option<Saboteur>,
    /// For [`Saboteur::TerminateApplicationTls`].
    pub(crate) intruder: Option<Arc<ServerConfig>>,
}

/// One listener of one proxy.
pub(crate) struct Bound {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) port: u16,
    pub(crate) direction: Direction,
    /// Whether a chain can only be chosen by the first bytes.
    pub(crate) sniffs: bool,
    chains: Vec<Chain>,
}

/// One filter chain.
pub(crate) struct Chain {
    transport: Transport,
    server_names: Vec<String>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) action: Served,
}

/// What a chain does.
pub(crate) enum Served {
    Http(Arc<Routes>),
    Tcp(String),
}

/// One cluster, with its connections. It is replaced whenever anything about it changes, so that no pooled connection
/// outlives a change.
pub(crate) struct Upstream {
    pub(crate) plan: Cluster,
    pub(crate) inputs: Option<Inputs>,
    /// Or why no connection can be made.
    pub(crate) tls: Option<Result<Client, String>>,
    pub(crate) pool: Pool,
    turn: AtomicUsize,
}

impl Upstream {
    pub(crate) fn new(plan: Cluster, inputs: Option<Inputs>, world: &World<'_>) -> Self {
        let tls = match (&plan.tls, &inputs) {
            (Some(tls), Some(inputs)) => Some(Client::new(tls, inputs, world.saboteur)),
            (_, _) => None,
        };
        let pool = Pool::new(world.tasks.clone(), Arc::clone(world.registry));
        Self { plan, inputs, tls, pool, turn: AtomicUsize::new(0) }
    }

    /// Where to connect for a host and the port that the application dialled.
    pub(crate) fn address(&self, host: Option<&str>, port: u16) -> Found {
        match &self.plan.discovery {
            Discovery::Nowhere => Found::Nobody,
            Discovery::Endpoints(list) if list.is_empty() => Found::Nobody,
            Discovery::Endpoints(list) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                list.get(turn % list.len()).map_or(Found::Nobody, |a| Found::At(*a))
            }
            Discovery::OriginalDestination(list) => {
                host.and_then(|host| lookup(list, host, port)).map_or(Found::Unresolved, Found::At)
            }
        }
    }
}

/// Where a host and port lead.
pub(crate) fn lookup(list: &[OriginalDestination], host: &str, port: u16) -> Option<SocketAddr> {
    list.iter().find(|d| d.port == port && d.host.eq_ignore_ascii_case(host)).map(|d| d.address)
}

/// Where to connect.
pub(crate) enum Found {
    At(SocketAddr),
    /// There is no endpoint.
    Nobody,
    /// The name leads nowhere.
    Unresolved,
}

impl Bound {
    /// The first chain that takes a connection that began so.
    pub(crate) fn chain(&self, facts: &Facts) -> Option<&Chain> {
        self.chains.iter().find(|c| c.takes(facts))
    }
}

impl Chain {
    fn takes(&self, facts: &Facts) -> bool {
        let transport = match self.transport {
            Transport::Any => true,
            Transport::Tls => facts.tls,
            Transport::Plain => !facts.tls,
        };
        let name = facts.server_name.as_deref();
        transport
            && (self.server_names.is_empty()
                || self.server_names.iter().any(|want| match (want.strip_prefix('*'), name) {
                    (_, None) => false,
                    (Some(suffix), Some(name)) => name.len() > suffix.len() && name.ends_with(suffix),
                    (None, Some(name)) => want.eq_ignore_ascii_case(name),
                }))
    }
}

/// What a state is compiled from, beside the plan.
pub(crate) struct World<'a> {
    pub(crate) boot: &'a Boot,
    pub(crate) credentials: &'a std::collections::BTreeMap<String, Vec<Credential>>,
    pub(crate) endpoints: &'a [OriginalDestination],
    pub(crate) tasks: &'a Tasks,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) saboteur: Option<Saboteur>,
}

impl State {
    /// Begins a change: until [`State::settle_in`], what has no place here is looked for in `old`.
    pub(crate) fn succeed(&self, old: Arc<Self>) {
        self.previous.store(Some(old));
    }

    /// Ends a change.
    pub(crate) fn settle_in(&self) {
        self.previous.store(None);
    }

    pub(crate) fn previous(&self) -> Option<Arc<Self>> {
        self.previous.load_full()
    }

    /// The listener of an address, also one that is about to go.
    pub(crate) fn listener(&self, bind: &SocketAddr) -> Option<Arc<Bound>> {
        self.listeners.get(bind).cloned().or_else(|| self.previous()?.listeners.get(bind).cloned())
    }

    /// Whether a cluster is the same but for what its credentials hold.
    pub(crate) fn rotates(&self, old: &Self) -> bool {
        self.proxies.iter().filter_map(|(name, proxy)| Some((proxy, old.proxies.get(name)?))).any(
            |(now, before)| {
                now.clusters.iter().any(|(name, upstream)| {
                    let was = before.clusters.get(name);
                    was.is_some_and(|was| was.plan == upstream.plan && was.inputs != upstream.inputs)
                })
            },
        )
    }

    /// Compiles a plan. Clusters that are as they were in `old` keep their connections.
    ///
    /// # Errors
    /// [`DataPlaneError::Refused`], naming what cannot be carried out.
    pub(crate) fn compile(plan: &Plan, world: &World<'_>, old: &Self) -> Result<Self, DataPlaneError> {
        let mut state = Self { endpoints: world.endpoints.to_vec(), ..Self::default() };
        for planned in &plan.proxies {
            let sources = Sources {
                folder: &PathBuf::from(&world.boot.folder).join(&planned.name),
                identity: world.boot.identities.get(&planned.name),
                mesh_roots: &world.boot.mesh_roots,
                system_roots: &world.boot.system_roots,
                credentials: world.credentials.get(&planned.name).map_or(&[], Vec::as_slice),
            };
            let before = old.proxies.get(&planned.name);
            let mut clusters = HashMap::new();
            for cluster in &planned.clusters {
                let inputs = cluster.tls.as_ref().map(|tls| Inputs::of(tls, &sources));
                let kept = before
                    .and_then(|p| p.clusters.get(&cluster.name))
                    .filter(|u| u.plan == *cluster && u.inputs == inputs)
                    .filter(|_| world.saboteur != Some(Saboteur::DropInFlightOnChange));
                let upstream = match kept {
                    Some(kept) => Arc::clone(kept),
                    None => Arc::new(Upstream::new(cluster.clone(), inputs, world)),
                };
                clusters.insert(cluster.name.clone(), upstream);
            }
            let refused = |e: String| DataPlaneError::Refused(format!("{}: {e}", planned.name));
            let intruder = match sources.identity {
                Some(identity) if world.saboteur == Some(Saboteur::TerminateApplicationTls) => {
                    Some(server::intruder(identity).map_err(refused)?)
                }
                Some(_) | None => None,
            };
            let proxy =
                Arc::new(Proxy { name: planned.name.clone(), clusters, saboteur: world.saboteur, intruder });
            for listener in &planned.listeners {
                let bound = Self::bound(listener, &proxy, &sources, world).map_err(refused)?;
                if state.listeners.insert(listener.bind, Arc::new(bound)).is_some() {
                    return Err(refused(format!("two listeners on {}", listener.bind)));
                }
            }
            state.proxies.insert(planned.name.clone(), proxy);
        }
        Ok(state)
    }

    fn bound(
        listener: &Listener,
        proxy: &Arc<Proxy>,
        sources: &Sources<'_>,
        world: &World<'_>,
    ) -> Result<Bound, String> {
        let named = |e: String| format!("listener {}: {e}", listener.name);
        let mut chains = Vec::new();
        let mut mesh = None;
        let anonymous = world.saboteur == Some(Saboteur::GatewayAcceptsAnonymous)
            && listener.direction == Direction::Gateway;
        let anybody = world.saboteur == Some(Saboteur::InboundAcceptsAnyClient)
            && listener.direction == Direction::Inbound;
        for chain in &listener.chains {
            let tls = match &chain.tls {
                None => None,
                Some(DownstreamTls::MeshMutual) => {
                    if mesh.is_none() {
                        let identity = sources
                            .identity
                            .ok_or_else(|| named("the proxy has no identity in the mesh".to_owned()))?;
                        let config = if anybody {
                            server::intruder(identity)
                        } else {
                            server::mesh_mutual(identity, sources.mesh_roots, anonymous)
                        };
                        mesh = Some(config.map_err(named)?);
                    }
                    mesh.clone()
                }
            };
            let action = match &chain.action {
                Action::Http(routes) => Served::Http(Arc::new(Routes::new(routes).map_err(named)?)),
                Action::Tcp { cluster } => Served::Tcp(cluster.clone()),
            };
            chains.push(Chain {
                transport: chain.matches.transport,
                server_names: chain.matches.server_names.iter().map(|n| n.to_ascii_lowercase()).collect(),
                tls,
                action,
            });
        }
        let by_name = |c: &Chain| c.transport != Transport::Any || !c.server_names.is_empty();
        // The server name leads to original destinations. Elsewhere nothing is waited for: a server may speak first.
        let by_destination = |c: &Chain| match &c.action {
            Served::Tcp(cluster) => proxy
                .clusters
                .get(cluster)
                .is_some_and(|u| matches!(u.plan.discovery, Discovery::OriginalDestination(_))),
            Served::Http(_) => false,
        };
        let sniffs = chains.iter().any(|c| by_name(c) || by_destination(c));
        Ok(Bound {
            proxy: Arc::clone(proxy),
            port: listener.port,
            direction: listener.direction,
            sniffs,
            chains,
        })
    }
}
