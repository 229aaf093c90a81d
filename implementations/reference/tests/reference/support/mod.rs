//! What the tests are written with.

pub mod authority;
pub mod client;
pub mod plans;
pub mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory, LogSink, Update};
use meshproof_model::Resource;
use meshproof_plan::model::{Credential, OriginalDestination, Plan};
use meshproof_reference::Reference;

use authority::Authority;

/// The longest that any condition of a test is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The lines of all proxies.
#[derive(Default)]
pub struct Lines(Mutex<Vec<(String, String)>>);

impl LogSink for Lines {
    fn line(&self, proxy: &str, line: &str) {
        self.0.lock().unwrap().push((proxy.to_owned(), line.to_owned()));
    }
}

/// A data plane, and what it was given.
pub struct Bench {
    pub plane: Box<dyn DataPlane>,
    pub lines: Arc<Lines>,
    pub mesh: Authority,
    pub resources: Vec<Resource>,
    pub credentials: BTreeMap<String, Vec<Credential>>,
    pub endpoints: Vec<OriginalDestination>,
    pub folder: tempfile::TempDir,
    revision: u64,
}

/// The proxies that tests may run.
pub const PROXIES: [&str; 2] = ["sleep", "istio-egressgateway"];

pub fn identity(proxy: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{proxy}")
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(Reference::new(), "").await
    }

    pub async fn with(reference: Reference, system_roots: &str) -> Self {
        let mesh = Authority::new("mesh root");
        let lines = Arc::new(Lines::default());
        let folder = tempfile::tempdir().unwrap();
        let boot = Boot {
            folder: folder.path().to_owned(),
            identities: PROXIES.iter().map(|p| ((*p).to_owned(), mesh.identity(&identity(p)))).collect(),
            mesh_roots: mesh.pem(),
            system_roots: system_roots.to_owned(),
            logs: lines.clone(),
        };
        let plane = reference.start(boot).await.unwrap();
        Self {
            plane,
            lines,
            mesh,
            resources: Vec::new(),
            credentials: BTreeMap::new(),
            endpoints: Vec::new(),
            folder,
            revision: 0,
        }
    }

    pub async fn try_apply(&mut self, plan: &Plan) -> Result<(), DataPlaneError> {
        self.revision += 1;
        let update = Update {
            revision: self.revision,
            resources: &self.resources,
            plan,
            credentials: &self.credentials,
            endpoints: &self.endpoints,
        };
        self.plane.apply(update).await
    }

    #[track_caller]
    pub fn apply(&mut self, plan: &Plan) -> impl Future<Output = ()> {
        let applied = self.try_apply(plan);
        async { applied.await.unwrap() }
    }

    /// The lines of a proxy, once everything that has ended is logged.
    pub async fn lines(&self, proxy: &str) -> Vec<String> {
        self.plane.settle().await.unwrap();
        self.lines_now(proxy)
    }

    pub fn lines_now(&self, proxy: &str) -> Vec<String> {
        let all = self.lines.0.lock().unwrap();
        all.iter().filter(|(p, _)| p == proxy).map(|(_, line)| line.clone()).collect()
    }

    pub async fn only_line(&self, proxy: &str) -> String {
        let lines = self.lines(proxy).await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    }

    pub fn credential(&mut self, proxy: &str, credential: Credential) {
        let list = self.credentials.entry(proxy.to_owned()).or_default();
        list.retain(|c| c.name != credential.name);
        list.push(credential);
    }

    pub fn endpoint(&mut self, host: &str, port: u16, address: SocketAddr) {
        self.endpoints.push(OriginalDestination { host: host.to_owned(), port, address });
    }
}

/// A loopback address where nobody listens.
pub fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, holds: impl Fn() -> bool) -> impl Future<Output = ()> {
    let (what, last) = (what.to_owned(), Instant::now() + PATIENCE);
    async move {
        while !holds() {
            assert!(Instant::now() < last, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
