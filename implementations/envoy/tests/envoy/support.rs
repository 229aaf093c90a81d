//! What the tests share: Envoy if it is installed, hand-written plans, a server and a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meshproof_envoy::{Envoy, find};
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::trace::Trace;
use meshproof_local::data_plane::{
    Boot, DataPlane, DataPlaneError, DataPlaneFactory, LogSink, MeshCertificate, Update,
};
use meshproof_plan::model::{
    Action, ChainMatch, Cluster, Credential, Direction, Discovery, FilterChain, Forward, HttpRoutes,
    Listener, Plan, ProxyPlan, Role, Route, RouteAction, RouteMatch, UpstreamProtocol, UpstreamTls,
    VirtualHost, WeightedCluster,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The longest that a response may take.
pub(crate) const ANSWERED: Duration = Duration::from_secs(10);

/// The Envoy to test. None: it is not installed, and the test prints that and returns.
pub(crate) fn installed() -> Option<PathBuf> {
    match find(None) {
        Ok(program) => Some(program),
        Err(why) => {
            let required = std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_some_and(|v| v == "1");
            assert!(!required, "MESHPROOF_REQUIRE_INSTALLED=1 is set, and {why}");
            println!("skipped: {why}");
            None
        }
    }
}

/// Keeps log lines.
#[derive(Default)]
pub(crate) struct KeptLines {
    kept: Mutex<Vec<String>>,
    /// How long the sink is busy with each line.
    busy: Duration,
}

impl KeptLines {
    pub(crate) fn all(&self) -> Vec<String> {
        self.kept.lock().unwrap().clone()
    }
}

impl LogSink for KeptLines {
    fn line(&self, _proxy: &str, line: &str) {
        let begun = Instant::now();
        while begun.elapsed() < self.busy {
            std::hint::spin_loop();
        }
        self.kept.lock().unwrap().push(line.to_owned());
    }
}

/// A data plane with one proxy, `sleep`.
pub(crate) struct StartedEnvoy {
    pub(crate) plane: Box<dyn DataPlane>,
    pub(crate) lines: Arc<KeptLines>,
    pub(crate) folder: TempDir,
    revision: AtomicU64,
}

pub(crate) async fn start(program: PathBuf) -> Result<StartedEnvoy, DataPlaneError> {
    start_with(program, KeptLines::default()).await
}

/// The same with a sink that takes 3 ms for each line.
pub(crate) async fn start_slow(program: PathBuf) -> Result<StartedEnvoy, DataPlaneError> {
    start_with(program, KeptLines { busy: Duration::from_millis(3), ..KeptLines::default() }).await
}

async fn start_with(program: PathBuf, lines: KeptLines) -> Result<StartedEnvoy, DataPlaneError> {
    let folder = tempfile::Builder::new().prefix("meshproof-test-").tempdir().unwrap();
    let lines = Arc::new(lines);
    let mesh = Authority::named("mesh", "cluster.local", KeyAlgorithm::EcdsaP256).unwrap();
    let issued = mesh.mesh_identity("spiffe://cluster.local/ns/default/sa/sleep").issue().unwrap();
    let identity = MeshCertificate { certificate: issued.certificate_pem().to_owned(), key: issued.key().0 };
    let boot = Boot {
        folder: folder.path().to_owned(),
        identities: BTreeMap::from([("sleep".to_owned(), identity)]),
        mesh_roots: mesh.certificate_pem().to_owned(),
        system_roots: mesh.certificate_pem().to_owned(),
        logs: lines.clone(),
        trace: Trace::default(),
    };
    let plane = Envoy::new(Some(program)).start(boot).await?;
    Ok(StartedEnvoy { plane, lines, folder, revision: AtomicU64::default() })
}

impl StartedEnvoy {
    pub(crate) async fn apply(&self, plan: &Plan) -> Result<(), DataPlaneError> {
        self.apply_with(plan, Vec::new()).await
    }

    pub(crate) async fn apply_with(
        &self,
        plan: &Plan,
        secrets: Vec<Credential>,
    ) -> Result<(), DataPlaneError> {
        let credentials = BTreeMap::from([("sleep".to_owned(), secrets)]);
        let revision = self.revision.fetch_add(1, Ordering::Relaxed);
        let update = Update { revision, resources: &[], plan, credentials: &credentials, endpoints: &[] };
        self.plane.apply(update).await
    }

    /// The process's number, from its pid file.
    pub(crate) fn pid(&self) -> u32 {
        let file = find_file(self.folder.path(), "envoy.pid").expect("a pid file exists");
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }
}

pub(crate) fn find_file(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).find_map(|path| {
        if path.is_dir() { find_file(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

pub(crate) fn is_running(pid: u32) -> bool {
    let asked = std::process::Command::new("kill").args(["-0", &pid.to_string()]).output();
    asked.is_ok_and(|o| o.status.success())
}

pub(crate) fn bind() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], meshproof_local::ports::take().unwrap()))
}

pub(crate) fn cluster(name: &str, to: &[SocketAddr], tls: Option<UpstreamTls>) -> Cluster {
    Cluster {
        name: name.to_owned(),
        discovery: Discovery::Endpoints(to.to_vec()),
        protocol: UpstreamProtocol::Http1,
        tls,
    }
}

pub(crate) fn forward(to: &str) -> RouteAction {
    RouteAction::Forward(Forward { clusters: vec![WeightedCluster::new(to, 1)], ..Forward::default() })
}

/// Every request of every host.
pub(crate) fn http(action: RouteAction) -> Action {
    let route = Route { name: "default".to_owned(), matches: RouteMatch::default(), action };
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        require_tls: false,
    };
    Action::Http(HttpRoutes { name: "80".to_owned(), virtual_hosts: vec![host] })
}

pub(crate) fn chain(matches: ChainMatch, action: Action) -> FilterChain {
    FilterChain { name: "chain".to_owned(), matches, tls: None, action }
}

pub(crate) fn listener(bind: SocketAddr, chains: Vec<FilterChain>) -> Listener {
    Listener { name: "0.0.0.0_80".to_owned(), port: 80, bind, direction: Direction::Outbound, chains }
}

pub(crate) fn plan(listeners: Vec<Listener>, clusters: Vec<Cluster>) -> Plan {
    Plan {
        proxies: vec![ProxyPlan {
            name: "sleep".to_owned(),
            namespace: "default".to_owned(),
            role: Role::Sidecar,
            identity: "spiffe://cluster.local/ns/default/sa/sleep".to_owned(),
            listeners,
            clusters,
        }],
    }
}

/// One listener that sends every request to one address.
pub(crate) fn everything_to(bind: SocketAddr, to: SocketAddr) -> Plan {
    let chain = chain(ChainMatch::default(), http(forward("c")));
    plan(vec![listener(bind, vec![chain])], vec![cluster("c", &[to], None)])
}

/// One listener that answers every request itself.
pub(crate) fn answering(bind: SocketAddr, body: &str) -> Plan {
    let answer = RouteAction::DirectResponse { status: 200, body: body.to_owned() };
    plan(vec![listener(bind, vec![chain(ChainMatch::default(), http(answer))])], Vec::new())
}

/// A server that answers every request with its name, until it is dropped.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn server(name: &'static str) -> Server {
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listening.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listening.accept().await {
            connections.spawn(async move {
                let mut read = Vec::new();
                while stream.read_buf(&mut read).await.is_ok_and(|n| n > 0) {
                    while let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                        read.drain(..end + 4);
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Server { at, task }
}

/// A client with one connection. It reads the raw response and keeps its connection under control, which a
/// client library hides.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> std::io::Result<Self> {
        Ok(Self(TcpStream::connect(to).await?))
    }

    /// Sends a GET and returns the whole response; the connection stays open.
    pub(crate) async fn get(&mut self, path: &str) -> std::io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\nuser-agent: test\r\n\r\n");
        self.0.write_all(request.as_bytes()).await?;
        let mut read = Vec::new();
        let whole = async {
            loop {
                let text = String::from_utf8_lossy(&read).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
                    if body.len() >= length.and_then(|l| l.parse().ok()).unwrap_or(0) {
                        return Ok(text);
                    }
                }
                if self.0.read_buf(&mut read).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        timeout(ANSWERED, whole).await.expect("the whole response came in time")
    }
}

/// One request on a connection of its own.
pub(crate) async fn get(to: SocketAddr, path: &str) -> std::io::Result<String> {
    Client::connect(to).await?.get(path).await
}
