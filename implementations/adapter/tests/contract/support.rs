//! What the tests share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meshproof_adapter::Adapter;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::trace::Trace;
use meshproof_local::data_plane::{
    Boot, DataPlane, DataPlaneError, DataPlaneFactory, LogSink, MeshCertificate, Update,
};
use meshproof_plan::model::Plan;
use tempfile::TempDir;

/// The key that must never appear in a report.
pub(crate) const KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n";

/// Whether a program can be run. If not, the test prints that and passes, unless
/// `MESHPROOF_REQUIRE_INSTALLED=1` is set.
pub(crate) fn installed(program: &str, argument: &str) -> bool {
    let runs = Command::new(program).arg(argument).output().is_ok();
    let required = std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_some_and(|v| v == "1");
    assert!(runs || !required, "{program} is not installed, and MESHPROOF_REQUIRE_INSTALLED=1 is set");
    if !runs {
        println!("skipped: {program} is not installed");
    }
    runs
}

/// The command line of an adapter that breaks the contract in this way.
pub(crate) fn hostile(way: &str) -> String {
    format!("python3 '{}/tests/contract/hostile.py' {way}", env!("CARGO_MANIFEST_DIR"))
}

/// The defaults, with a short value for one timeout that a test waits for.
pub(crate) fn timeouts(short: impl Into<Option<Timeout>>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    if let Some(short) = short.into() {
        timeouts.set(short, Duration::from_millis(300));
    }
    timeouts
}

/// Keeps log lines and notes.
#[derive(Default)]
pub(crate) struct KeptLogs {
    pub(crate) lines: Mutex<Vec<(String, String)>>,
    pub(crate) notes: Mutex<Vec<String>>,
}

impl LogSink for KeptLogs {
    fn line(&self, proxy: &str, line: &str) {
        self.lines.lock().unwrap().push((proxy.to_owned(), line.to_owned()));
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

/// A folder and a log sink for one data plane.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) seen: Arc<KeptLogs>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), seen: Arc::default() }
    }

    fn boot(&self) -> Boot {
        let identity = MeshCertificate { certificate: "a certificate\n".to_owned(), key: KEY.to_owned() };
        Boot {
            folder: self.folder.path().to_owned(),
            identities: BTreeMap::from([("sleep".to_owned(), identity)]),
            mesh_roots: "roots\n".to_owned(),
            system_roots: "roots\n".to_owned(),
            logs: Arc::clone(&self.seen) as Arc<dyn LogSink>,
            trace: Trace::default(),
        }
    }

    pub(crate) async fn start(
        &self,
        command: &str,
        timeouts: &Timeouts,
    ) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        Adapter::new(command, timeouts).unwrap().start(self.boot()).await
    }

    /// The number of the process that the adapter wrote to this file.
    pub(crate) fn process(&self, name: &str) -> u32 {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).parse().unwrap()
    }
}

pub(crate) async fn apply(plane: &dyn DataPlane, revision: u64) -> Result<(), DataPlaneError> {
    let (plan, credentials) = (Plan::default(), BTreeMap::new());
    plane
        .apply(Update { revision, resources: &[], plan: &plan, credentials: &credentials, endpoints: &[] })
        .await
}

/// Waits until the process has ended: it does not exist, or it is a zombie.
#[track_caller]
pub(crate) fn assert_ends(process: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while running(process) {
        assert!(Instant::now() < deadline, "process {process} still runs");
        std::thread::yield_now();
    }
}

fn running(process: u32) -> bool {
    if !Path::new("/proc/self").exists() {
        let asked = Command::new("kill").args(["-0", &process.to_string()]).output();
        return asked.is_ok_and(|o| o.status.success());
    }
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|l| l.starts_with("State:") && !l.contains('Z'))
}

#[track_caller]
pub(crate) fn gone<T>(result: Result<T, DataPlaneError>) -> String {
    match result {
        Err(DataPlaneError::Gone(words)) => words,
        Err(other) => panic!("another error: {other:?}"),
        Ok(_) => panic!("no error"),
    }
}
