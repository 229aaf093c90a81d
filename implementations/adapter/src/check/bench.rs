//! What the check provides to an adapter: a server, a client, and plans.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use meshproof_harness::access_log;
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::{ExternalSpec, Page, PlainPort};
use meshproof_harness::run_folder::{PREFIX, note_owner};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::trace::Trace;
use meshproof_harness::workload::RequestSpec;
use meshproof_local::data_plane::{Boot, LogSink, MeshCertificate};
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::ports;
use meshproof_local::workload::{Route as Dials, WorkloadClient};
use meshproof_model::AccessLog;
use meshproof_plan::model::{
    Action, ChainMatch, Cluster, Direction, Discovery, FilterChain, Forward, HttpRoutes, Listener, Plan,
    ProxyPlan, Role, Route, RouteAction, RouteMatch, UpstreamProtocol, VirtualHost, WeightedCluster,
};

use super::point::Unchecked;
use crate::files::StartFiles;
use crate::supervisor::LogTarget;

/// The host of every request.
pub(super) const HOST: &str = "origin.example";
/// The path of every request, which the server has.
pub(super) const PATH: &str = "/answer";
/// The cluster's name in the plans.
pub(super) const CLUSTER: &str = "outbound|80||origin.example";

pub(super) struct CheckBench {
    pub(super) folder: tempfile::TempDir,
    pub(super) server: Box<dyn RunningService>,
    pub(super) upstream: SocketAddr,
    pub(super) listener: SocketAddr,
    pub(super) lines: Arc<KeptLogLines>,
    identity: MeshCertificate,
    roots: String,
    timeouts: Timeouts,
    requests: Mutex<u32>,
}

/// Keeps the log lines that an adapter sends.
#[derive(Default)]
pub(super) struct KeptLogLines(Mutex<Vec<AccessLog>>);

impl LogSink for KeptLogLines {
    fn line(&self, _proxy: &str, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(access_log::read_line(line.as_bytes()));
    }
}

impl KeptLogLines {
    pub(super) fn take(&self) -> Vec<AccessLog> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn environment(e: impl std::fmt::Display) -> Unchecked {
    Unchecked::Environment(e.to_string())
}

/// A free loopback address.
pub(super) fn free_address() -> Result<SocketAddr, Unchecked> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::take().map_err(environment)?)))
}

impl CheckBench {
    pub(super) async fn new(timeouts: &Timeouts) -> Result<Self, Unchecked> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().map_err(environment)?;
        note_owner(folder.path()).map_err(environment)?;
        let spec = ExternalSpec {
            aliases: Vec::new(),
            host: HOST.to_owned(),
            plain: PlainPort::Serve,
            tls: None,
            ipv6: false,
            tcp: Vec::new(),
            pages: vec![Page {
                path: PATH.to_owned(),
                content_type: "text/plain".into(),
                body: "answered\n".to_owned(),
            }],
            keep_alive: true,
        };
        let server = start_embedded(spec, Store::new(), timeouts).await.map_err(environment)?;
        let upstream = server.address(80).ok_or_else(|| {
            environment("the suite's own server has no plain-text port; this is a bug of meshproof")
        })?;
        let ca = Authority::named("meshproof check CA", "cluster.local", KeyAlgorithm::EcdsaP256)
            .map_err(environment)?;
        let issued =
            ca.mesh_identity("spiffe://cluster.local/ns/default/sa/sleep").issue().map_err(environment)?;
        Ok(Self {
            folder,
            server,
            upstream,
            listener: free_address()?,
            lines: Arc::default(),
            identity: MeshCertificate {
                certificate: issued.certificate_pem().to_owned(),
                key: issued.key().0,
            },
            roots: ca.certificate_pem().to_owned(),
            timeouts: timeouts.clone(),
            requests: Mutex::new(0),
        })
    }

    /// Creates a private folder for one adapter process, with the files that it gets.
    pub(super) fn folder_for(&self, name: &str, proxy: &str) -> Result<(String, StartFiles), Unchecked> {
        let folder = self.folder.path().join(name);
        crate::files::private_folder(&folder).map_err(environment)?;
        let boot = Boot {
            folder: folder.clone(),
            identities: BTreeMap::from([(proxy.to_owned(), self.identity.clone())]),
            mesh_roots: self.roots.clone(),
            system_roots: self.roots.clone(),
            logs: Arc::clone(&self.lines) as Arc<dyn LogSink>,
            trace: Trace::default(),
        };
        let start_files = StartFiles::write(Path::new(&folder), &boot).map_err(environment)?;
        Ok((crate::files::text(&folder).map_err(environment)?, start_files))
    }

    pub(super) fn log(&self, proxies: &[&str]) -> LogTarget {
        let proxies: BTreeSet<String> = proxies.iter().map(|p| (*p).to_owned()).collect();
        LogTarget { sink: Arc::clone(&self.lines) as Arc<dyn LogSink>, proxies, trace: Trace::default() }
    }

    /// Sends one request to the listener. Returns the status, or the failure in words, and the request's
    /// token.
    pub(super) async fn request(&self) -> (Result<u16, String>, String) {
        let number = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            *requests += 1;
            *requests
        };
        let token = format!("check.{number:05}");
        let route = Dials::capture([(80, self.listener)]);
        let client = match WorkloadClient::new("check", route, &self.roots, &self.timeouts) {
            Ok(client) => client,
            Err(e) => return (Err(e.to_string()), token),
        };
        let spec = RequestSpec::get(format!("http://{HOST}{PATH}?n={number}"), token.clone());
        let exchange = client.exchange(&spec).await;
        let answer = match exchange.last_response() {
            Some(response) => Ok(response.status),
            None => Err(match exchange.hops.last().map(|h| &h.result) {
                Some(meshproof_model::HopResult::Error(e)) => e.message.clone(),
                Some(meshproof_model::HopResult::Response(_)) | None => "no answer".to_owned(),
            }),
        };
        (answer, token)
    }
}

/// What answers a request.
#[derive(Clone, Copy)]
pub(super) enum AnsweredBy {
    /// The server behind the cluster.
    Cluster,
    /// The proxy itself, with this status.
    Status(u16),
}

impl CheckBench {
    /// A plan with one proxy that listens on these addresses.
    pub(super) fn plan(
        &self,
        proxy: &str,
        direction: Direction,
        binds: &[SocketAddr],
        by: AnsweredBy,
    ) -> Plan {
        let action = match by {
            AnsweredBy::Status(status) => RouteAction::DirectResponse { status, body: String::new() },
            AnsweredBy::Cluster => RouteAction::Forward(Forward {
                clusters: vec![WeightedCluster::new(CLUSTER, 1)],
                ..Forward::default()
            }),
        };
        let listener = |(number, bind): (usize, &SocketAddr)| Listener {
            name: format!("0.0.0.0_{}", 80 + number),
            port: 80,
            bind: *bind,
            direction,
            chains: vec![FilterChain {
                name: "plain".to_owned(),
                matches: ChainMatch::default(),
                tls: None,
                action: Action::Http(HttpRoutes {
                    name: "80".to_owned(),
                    virtual_hosts: vec![VirtualHost {
                        name: format!("{HOST}:80"),
                        domains: vec![HOST.to_owned(), format!("{HOST}:80")],
                        routes: vec![Route {
                            name: "default".to_owned(),
                            matches: RouteMatch::default(),
                            action: action.clone(),
                        }],
                        require_tls: false,
                    }],
                }),
            }],
        };
        let proxy = ProxyPlan {
            name: proxy.to_owned(),
            namespace: "default".to_owned(),
            role: match direction {
                Direction::Outbound | Direction::Inbound => Role::Sidecar,
                Direction::Gateway => Role::EgressGateway,
            },
            identity: "spiffe://cluster.local/ns/default/sa/sleep".to_owned(),
            listeners: binds.iter().enumerate().map(listener).collect(),
            clusters: vec![Cluster {
                name: CLUSTER.to_owned(),
                discovery: Discovery::Endpoints(vec![self.upstream]),
                protocol: UpstreamProtocol::Http1,
                tls: None,
            }],
        };
        Plan { proxies: vec![proxy] }
    }
}
