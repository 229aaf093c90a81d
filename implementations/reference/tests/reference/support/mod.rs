//! What the tests share.

pub mod authority;
pub mod client;
pub mod plans;
pub mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meshproof_harness::trace::Trace;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory, LogSink, Update};
use meshproof_model::Resource;
use meshproof_plan::model::{Credential, OriginalDestination, Plan};
use meshproof_reference::{Reference, Variant};

use authority::TestAuthority;

/// How long a test waits for a condition.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The access-log lines of all proxies.
#[derive(Default)]
pub struct CollectedLines(Mutex<Vec<(String, String)>>);

impl LogSink for CollectedLines {
    fn line(&self, proxy: &str, line: &str) {
        self.0.lock().unwrap().push((proxy.to_owned(), line.to_owned()));
    }
}

/// A data plane, and its inputs.
pub struct Bench {
    pub plane: Box<dyn DataPlane>,
    pub lines: Arc<CollectedLines>,
    pub mesh: TestAuthority,
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

/// The reference, or a variant of it.
pub fn reference(variant: Option<&str>) -> Reference {
    variant.map_or_else(Reference::new, |name| Reference::varied(name.parse::<Variant>().unwrap()))
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(Reference::new(), "").await
    }

    pub async fn with(reference: Reference, system_roots: &str) -> Self {
        let mesh = TestAuthority::new("mesh root");
        let lines = Arc::new(CollectedLines::default());
        let folder = tempfile::tempdir().unwrap();
        let boot = Boot {
            folder: folder.path().to_owned(),
            identities: PROXIES.iter().map(|p| ((*p).to_owned(), mesh.identity(&identity(p)))).collect(),
            mesh_roots: mesh.pem(),
            system_roots: system_roots.to_owned(),
            logs: lines.clone(),
            trace: Trace::default(),
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

    /// The lines of a proxy, after everything that has ended is logged.
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

/// A loopback address on which no socket listens.
pub fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, holds: impl Fn() -> bool) -> impl Future<Output = ()> {
    let (what, last) = (what.to_owned(), Instant::now() + PATIENCE);
    async move {
        while !holds() {
            assert!(Instant::now() < last, "timed out after {PATIENCE:?} waiting until {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
