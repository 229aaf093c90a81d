//! A real nginx as an external service: a process of its own, without privileges, in a folder of its own, on loopback.

pub(super) mod config;
pub(super) mod door;
pub(super) mod log;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_model::ExternalService;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;

use config::{Folder, Ports, Site, Version};
use door::Door;
use log::Logs;

use super::{ExternalError, ExternalSpec, RunningService};
use crate::store::{Store, bounded};
use crate::timeouts::Timeouts;

/// How often nginx is started anew when somebody else was faster to take a port.
const ATTEMPTS: usize = 8;
/// How often a condition is looked at that nobody announces.
pub(super) const POLL: Duration = Duration::from_millis(5);
/// How much of a program's own words goes into an error.
const MAX_WORDS: usize = 2000;
/// `nginx -e FILE` came with 1.19.5 (nginx, "Command-line parameters").
const EARLY_ERROR_LOG: Version = (1, 19, 5);

/// What tells one nginx of this machine from another, and the name of its folder in `parent`.
pub(super) fn new_folder(parent: &Path) -> Result<(String, Folder), String> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let nonce = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = Folder::create(parent, &format!("nginx-{nonce}"))
        .map_err(|e| format!("cannot make a folder in {}: {e}", parent.display()))?;
    Ok((nonce, folder))
}

/// What nginx is told about the folder of its configuration.
pub(super) fn arguments(folder: &Path, version: Version) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        vec!["-p".into(), folder.into(), "-c".into(), folder.join("nginx.conf").into()];
    if version >= EARLY_ERROR_LOG {
        arguments.extend(["-e".into(), folder.join("error.log").into()]);
    }
    arguments
}

/// The nginx on PATH, and no other: whether a run uses it must not depend on what lies about.
#[must_use]
pub fn find_nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

/// Starts nginx as an external service, in a folder that it makes in `folder` and removes at its end. `program` is the
/// nginx to run; none: see [`find_nginx`]. Evidence arrives on [`RunningService::settle`]. Unlike other services it
/// ends when it is dropped, too.
///
/// # Errors
/// nginx is missing, does not start, or cannot do what the specification asks (HTTP/2 alone).
pub async fn start_nginx(
    spec: ExternalSpec,
    store: Store,
    folder: &Path,
    program: Option<&Path>,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let service = format!("nginx for {}", spec.host);
    let program = program.map(Path::to_owned).or_else(find_nginx).ok_or_else(missing)?;
    let version = version(&program).await?;
    let start = |reason: String| ExternalError::Start { service: service.clone(), reason };
    for _ in 1..ATTEMPTS {
        let ports = Ports::take().map_err(|e| start(e.to_string()))?;
        match Process::start(&program, version, &spec, ports, folder).await {
            Ok(process) => return Ok(Box::new(Nginx::new(process, &spec, ports, version, store))),
            Err(Failure::PortTaken) => {}
            Err(Failure::Other(reason)) => return Err(start(reason)),
        }
    }
    Err(start(format!("{ATTEMPTS} times in a row, somebody else took its ports")))
}

fn missing() -> ExternalError {
    ExternalError::Missing {
        program: "nginx".to_owned(),
        mend:
            "install it (Debian and Ubuntu: apt-get install nginx-light; macOS: brew install nginx), or do \
               without it: --external embedded"
                .to_owned(),
    }
}

/// What `nginx -v` says: `nginx version: nginx/1.22.1`.
async fn version(program: &Path) -> Result<Version, ExternalError> {
    let limit = Timeouts::default().get("external-service-ready");
    let asked = Command::new(program).arg("-v").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(limit, asked).await {
        Ok(Ok(output)) => output,
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
        Ok(Err(e)) => return Err(unusable(program, &e.to_string())),
        Err(_) => return Err(unusable(program, "`nginx -v` does not end")),
    };
    let words = String::from_utf8_lossy(&output.stderr);
    read_version(&words).ok_or_else(|| unusable(program, &format!("`nginx -v` says {words:?}")))
}

fn unusable(program: &Path, reason: &str) -> ExternalError {
    ExternalError::Start { service: program.display().to_string(), reason: bounded(reason, MAX_WORDS) }
}

pub(super) fn read_version(words: &str) -> Option<Version> {
    let (_, rest) = words.split_once('/')?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Why a process did not start.
enum Failure {
    PortTaken,
    Other(String),
}

/// A process and its folder. Both go when it is dropped: first the process, then the folder.
struct Process {
    child: Child,
    folder: Folder,
    door: Door,
}

impl Process {
    async fn start(
        program: &Path,
        version: Version,
        spec: &ExternalSpec,
        ports: Ports,
        parent: &Path,
    ) -> Result<Self, Failure> {
        let other = Failure::Other;
        let (nonce, folder) = new_folder(parent).map_err(other)?;
        config::write(folder.path(), spec, ports, &nonce, version, Site::Machine).map_err(other)?;
        let stderr = std::fs::File::create(folder.path().join("stderr.log"))
            .map_err(|e| other(format!("cannot write into its folder: {e}")))?;
        let mut command = Command::new(program);
        command.args(arguments(folder.path(), version));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).kill_on_drop(true);
        let child = command.spawn().map_err(|e| other(format!("cannot run {}: {e}", program.display())))?;
        let door = Door::new((Ipv4Addr::LOCALHOST, ports.control).into(), nonce);
        let mut process = Self { child, folder, door };
        process.ready().await?;
        Ok(process)
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        let limit = Timeouts::default().get("external-service-ready");
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.door.fence(limit).await.is_some() {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(|e| Failure::Other(e.to_string()))?;
            let words = self.words();
            // nginx itself would try the same port for some seconds more.
            if words.contains("bind() to") {
                return if words.contains("in use") {
                    Err(Failure::PortTaken)
                } else {
                    Err(Failure::Other(words))
                };
            }
            if let Some(status) = ended {
                return Err(Failure::Other(format!("it ended with {status}: {words}")));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Failure::Other(format!("external-service-ready: no answer within {limit:?}: {}", self.words())))
    }

    fn words(&self) -> String {
        log::words(self.folder.path())
    }
}

struct Nginx {
    host: String,
    version: Version,
    addresses: BTreeMap<u16, SocketAddr>,
    /// None once it was stopped.
    running: Mutex<Option<Running>>,
}

struct Running {
    process: Process,
    logs: Logs,
}

impl Nginx {
    fn new(process: Process, spec: &ExternalSpec, ports: Ports, version: Version, store: Store) -> Self {
        let addresses =
            ports.of(spec).map(|(documented, own)| (documented, (Ipv4Addr::LOCALHOST, own).into())).collect();
        let logs = Logs::new(process.folder.path(), spec, ports, Site::Machine, store);
        let running = Running { logs, process };
        Self { host: spec.host.clone(), version, addresses, running: Mutex::new(Some(running)) }
    }

    fn label(&self) -> String {
        format!("nginx for {}", self.host)
    }
}

#[async_trait]
impl RunningService for Nginx {
    fn describe(&self) -> ExternalService {
        ExternalService {
            host: self.host.clone(),
            kind: "nginx".to_owned(),
            version: config::version_text(self.version),
        }
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.addresses.get(&port).copied()
    }

    async fn settle(&self) -> Result<(), ExternalError> {
        let limit = Timeouts::default().get("evidence-settled");
        let mut running = self.running.lock().await;
        let Some(running) = running.as_mut() else { return Ok(()) };
        let reached = running.process.door.barrier(limit).await;
        // What is in the logs is evidence also of one that died.
        let collected = running.logs.collect(reached.as_deref());
        if reached.is_none() {
            let reason = match running.process.child.try_wait() {
                Ok(Some(status)) => format!("it ended with {status}: {}", running.process.words()),
                Ok(None) | Err(_) => format!("no answer at its own door: {}", running.process.words()),
            };
            return Err(ExternalError::Died { service: self.label(), reason });
        }
        collected
            .map_err(|e| ExternalError::Other { service: self.label(), reason: format!("its logs: {e}") })
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        let Some(mut running) = self.running.lock().await.take() else { return Ok(()) };
        let failed = |reason: String| ExternalError::Other { service: self.label(), reason };
        // It has nothing that an orderly end would save.
        running.process.child.kill().await.map_err(|e| failed(format!("cannot be ended: {e}")))?;
        let folder = &running.process.folder;
        folder.remove().map_err(|e| failed(format!("cannot remove {}: {e}", folder.path().display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_nginx_says() {
        assert_eq!(read_version("nginx version: nginx/1.22.1\n"), Some((1, 22, 1)));
        assert_eq!(read_version("nginx version: nginx/1.29.0 (Ubuntu)"), Some((1, 29, 0)));
        assert_eq!(read_version("nginx version: freenginx"), None);
    }
}
