//! The configuration in force, compiled: every request and connection looks things up in it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use meshproof_local::data_plane::{Boot, DataPlaneError};
use meshproof_plan::model::{
    Action, Cluster, Direction, Discovery, DownstreamTls, Listener, OriginalDestination, ProxyPlan,
    Transport, WeightedCluster,
};
use rustls::ServerConfig;

use crate::connections::{DownstreamConnection, OpenConnections};
use crate::hooks::WantedConfig;
use crate::proxy::ProxyHandle;
use crate::routes::CompiledRoutes;
use crate::sniff::FirstBytes;
use crate::tasks::PlaneTasks;
use crate::termination;
use crate::tls::inputs::{TlsInputs, TlsSources};
use crate::upstream::ActiveCluster;
use crate::weights::WeightedTurns;

/// A compiled configuration.
#[derive(Default)]
pub(crate) struct ActiveConfig {
    pub(crate) proxies: HashMap<String, ActiveProxy>,
    pub(crate) listeners: HashMap<SocketAddr, Arc<ActiveListener>>,
    /// Where host names lead on this machine.
    pub(crate) endpoints: Vec<OriginalDestination>,
    /// During a change: the configuration that was in force before. A request that one proxy forwarded under
    /// the old configuration is still served by the next proxy.
    previous: ArcSwapOption<Self>,
}

/// One proxy in force. Clones share its clusters.
#[derive(Clone)]
pub(crate) struct ActiveProxy {
    pub(crate) handle: Arc<ProxyHandle>,
    pub(crate) clusters: Arc<HashMap<String, Arc<ActiveCluster>>>,
}

/// One listener in force.
pub(crate) struct ActiveListener {
    pub(crate) proxy: ActiveProxy,
    pub(crate) port: u16,
    pub(crate) direction: Direction,
    /// Whether the chain depends on the connection's first bytes.
    pub(crate) sniffs: bool,
    /// Whether it matters if they are HTTP in plain text.
    pub(crate) sniffs_http: bool,
    chains: Vec<ActiveChain>,
}

/// One filter chain in force.
pub(crate) struct ActiveChain {
    transport: Transport,
    server_names: Vec<String>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) action: ChainAction,
}

/// What a chain does with its connections.
pub(crate) enum ChainAction {
    Http(Arc<CompiledRoutes>),
    /// Passes bytes to one of these clusters.
    Tcp(WeightedTurns),
}

impl ActiveListener {
    /// The first chain that takes a connection with these first bytes.
    pub(crate) fn chain(&self, first: &FirstBytes) -> Option<&ActiveChain> {
        self.chains.iter().find(|c| c.takes(first))
    }
}

impl ActiveChain {
    fn takes(&self, first: &FirstBytes) -> bool {
        let transport = match self.transport {
            Transport::Any => true,
            Transport::Tls => first.tls,
            Transport::Plain => !first.tls,
            Transport::PlainHttp => first.http,
        };
        let name = first.server_name.as_deref();
        transport
            && (self.server_names.is_empty()
                || self.server_names.iter().any(|want| match (want.strip_prefix('*'), name) {
                    (_, None) => false,
                    (Some(suffix), Some(name)) => name.len() > suffix.len() && name.ends_with(suffix),
                    (None, Some(name)) => want.eq_ignore_ascii_case(name),
                }))
    }
}

/// What the compiler needs besides the configuration itself.
pub(crate) struct CompileContext<'a> {
    pub(crate) boot: &'a Boot,
    pub(crate) endpoints: &'a [OriginalDestination],
    pub(crate) tasks: &'a PlaneTasks,
    pub(crate) connections: &'a Arc<OpenConnections>,
    /// Holds every proxy of the plan.
    pub(crate) handles: &'a HashMap<String, Arc<ProxyHandle>>,
}

impl ActiveConfig {
    /// Begins a change: until [`ActiveConfig::end_change`], what this configuration does not hold is looked
    /// up in `old`.
    pub(crate) fn begin_change(&self, old: Arc<Self>) {
        self.previous.store(Some(old));
    }

    pub(crate) fn end_change(&self) {
        self.previous.store(None);
    }

    pub(crate) fn previous(&self) -> Option<Arc<Self>> {
        self.previous.load_full()
    }

    /// The listener of an address, during a change also one that is about to close.
    pub(crate) fn listener(&self, bind: &SocketAddr) -> Option<Arc<ActiveListener>> {
        self.listeners.get(bind).cloned().or_else(|| self.previous()?.listeners.get(bind).cloned())
    }

    /// The routes in force for a connection, if it still has a place in this configuration. `secure`: its TLS
    /// was terminated by the proxy.
    pub(crate) fn routes(
        &self,
        connection: &DownstreamConnection,
        first: &FirstBytes,
        secure: bool,
    ) -> Option<(Arc<ActiveListener>, Arc<CompiledRoutes>)> {
        let listener = self.listeners.get(&connection.bind)?;
        if listener.proxy.handle.name != connection.proxy.name {
            return None;
        }
        let chain = listener.chain(first)?;
        if chain.tls.is_some() != secure {
            return None;
        }
        match &chain.action {
            ChainAction::Http(routes) => Some((Arc::clone(listener), Arc::clone(routes))),
            ChainAction::Tcp(_) => None,
        }
    }

    /// Whether a connection still has a place in this configuration. One whose first bytes are not known yet
    /// has.
    pub(crate) fn has_place(&self, connection: &DownstreamConnection) -> bool {
        match connection.first() {
            Some(first) if connection.is_http() => {
                self.routes(connection, &first, connection.is_secure()).is_some()
            }
            // Passed-through connections continue as they began, as long as there is a listener for them.
            Some(_) | None => self
                .listeners
                .get(&connection.bind)
                .is_some_and(|l| l.proxy.handle.name == connection.proxy.name),
        }
    }

    /// The proxies with a cluster that is the same as in `old` except for what its credentials hold.
    pub(crate) fn rotating<'a>(&'a self, old: &Self) -> Vec<&'a str> {
        let rotates = |now: &ActiveProxy, before: &ActiveProxy| {
            now.clusters.iter().any(|(name, cluster)| {
                let was = before.clusters.get(name);
                was.is_some_and(|was| was.plan == cluster.plan && was.inputs != cluster.inputs)
            })
        };
        self.proxies
            .iter()
            .filter(|(name, now)| old.proxies.get(*name).is_some_and(|before| rotates(now, before)))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Compiles a configuration. Clusters that are the same as in `old` keep their connections.
    ///
    /// # Errors
    /// [`DataPlaneError::Refused`], naming what cannot be carried out.
    pub(crate) fn compile(
        wanted: &WantedConfig,
        context: &CompileContext<'_>,
        old: &Self,
    ) -> Result<Self, DataPlaneError> {
        let mut config = Self { endpoints: context.endpoints.to_vec(), ..Self::default() };
        for planned in &wanted.plan.proxies {
            let refused = |e: String| DataPlaneError::Refused(format!("{}: {e}", planned.name));
            let handle = context
                .handles
                .get(&planned.name)
                .ok_or_else(|| refused("this proxy was never set up".to_owned()))?;
            let sources = TlsSources {
                folder: &context.boot.folder.join(&planned.name),
                identity: context.boot.identities.get(&planned.name),
                mesh_roots: &context.boot.mesh_roots,
                system_roots: &context.boot.system_roots,
                credentials: wanted.credentials.get(&planned.name).map_or(&[], Vec::as_slice),
            };
            let clusters = clusters(planned, handle, &sources, context, old.proxies.get(&planned.name));
            let proxy = ActiveProxy { handle: Arc::clone(handle), clusters: Arc::new(clusters) };
            for listener in &planned.listeners {
                let active = listening(listener, &proxy, &sources)
                    .map_err(|e| refused(format!("listener {}: {e}", listener.name)))?;
                if config.listeners.insert(listener.bind, Arc::new(active)).is_some() {
                    return Err(refused(format!("two listeners on {}", listener.bind)));
                }
            }
            config.proxies.insert(planned.name.clone(), proxy);
        }
        Ok(config)
    }
}

fn clusters(
    planned: &ProxyPlan,
    handle: &Arc<ProxyHandle>,
    sources: &TlsSources<'_>,
    context: &CompileContext<'_>,
    before: Option<&ActiveProxy>,
) -> HashMap<String, Arc<ActiveCluster>> {
    let compile = |cluster: &Cluster| {
        let inputs = cluster.tls.as_ref().map(|tls| {
            let mut inputs = TlsInputs::of(tls, sources);
            handle.hooks.tls_inputs(tls, &mut inputs);
            inputs
        });
        let kept = before
            .and_then(|p| p.clusters.get(&cluster.name))
            .filter(|u| u.plan == *cluster && u.inputs == inputs)
            .filter(|_| handle.hooks.keeps_connections_on_change());
        if let Some(kept) = kept {
            return Arc::clone(kept);
        }
        let (proxy, tasks) = (Arc::clone(handle), context.tasks.clone());
        let activity = Arc::clone(&context.connections.activity);
        Arc::new(ActiveCluster::new(cluster.clone(), inputs, proxy, tasks, activity))
    };
    planned.clusters.iter().map(|c| (c.name.clone(), compile(c))).collect()
}

fn listening(
    planned: &Listener,
    proxy: &ActiveProxy,
    sources: &TlsSources<'_>,
) -> Result<ActiveListener, String> {
    let mut chains = Vec::new();
    let mut mesh = None;
    for chain in &planned.chains {
        let tls = match &chain.tls {
            None => None,
            Some(DownstreamTls::MeshMutual) => {
                if mesh.is_none() {
                    mesh = Some(mesh_mutual(planned.direction, proxy, sources)?);
                }
                mesh.clone()
            }
            Some(DownstreamTls::Own(own)) => Some(Arc::new(termination::own(own, sources)?)),
        };
        let action = match &chain.action {
            Action::Http(routes) => ChainAction::Http(Arc::new(CompiledRoutes::new(routes)?)),
            Action::Tcp { cluster } => {
                ChainAction::Tcp(WeightedTurns::new(&[WeightedCluster::new(cluster.clone(), 1)]))
            }
            Action::TcpWeighted(clusters) => ChainAction::Tcp(WeightedTurns::new(clusters)),
        };
        chains.push(ActiveChain {
            transport: chain.matches.transport,
            server_names: chain.matches.server_names.iter().map(|n| n.to_ascii_lowercase()).collect(),
            tls,
            action,
        });
    }
    let by_name = |c: &ActiveChain| c.transport != Transport::Any || !c.server_names.is_empty();
    // Original destinations are found by server name. Otherwise nothing is waited for, because a server may
    // speak first.
    let by_destination = |c: &ActiveChain| match &c.action {
        ChainAction::Tcp(clusters) => clusters
            .names()
            .filter_map(|name| proxy.clusters.get(name))
            .any(|u| matches!(u.plan.discovery, Discovery::OriginalDestination(_))),
        ChainAction::Http(_) => false,
    };
    let sniffs_http = chains.iter().any(|c| c.transport == Transport::PlainHttp);
    let sniffs = chains.iter().any(|c| by_name(c) || by_destination(c));
    Ok(ActiveListener {
        proxy: proxy.clone(),
        port: planned.port,
        direction: planned.direction,
        sniffs,
        sniffs_http,
        chains,
    })
}

fn mesh_mutual(
    direction: Direction,
    proxy: &ActiveProxy,
    sources: &TlsSources<'_>,
) -> Result<Arc<ServerConfig>, String> {
    let hooks = proxy.handle.hooks.as_ref();
    let identity = sources.identity.ok_or_else(|| "the proxy has no identity in the mesh".to_owned())?;
    Ok(Arc::new(termination::mesh_mutual(identity, sources.mesh_roots, direction, hooks)?))
}
