//! A real nginx as an external service: a process without privileges, in a folder of its own, on loopback.

pub(super) mod door;
pub(super) mod logs;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_model::ExternalService;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use door::{Door, POLL};
use logs::SharedLogs;
use meshproof_nginx::config::{Folder, Ports, Site, Version};

use super::service::{ExternalError, RunningService};
use crate::child::{ChildWrapper, in_own_session, on_path};
use crate::ports;
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::store::{Store, bounded};
use meshproof_harness::timeouts::{Timeout, Timeouts};

/// How often nginx is started again after another program was faster to take one of its ports.
const ATTEMPTS: usize = 8;
/// How much of a program's own output goes into an error.
const MAX_QUOTED: usize = 2000;
/// `nginx -e FILE` came with 1.19.5 (nginx, "Command-line parameters").
const EARLY_ERROR_LOG: Version = (1, 19, 5);

/// A text that no other nginx on this machine has, and a new folder in `parent`.
pub(super) fn new_folder(parent: &Path) -> Result<(String, Folder), String> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let nonce = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = Folder::create(parent, &format!("nginx-{nonce}"))
        .map_err(|e| format!("cannot create a folder in {}: {e}", parent.display()))?;
    Ok((nonce, folder))
}

/// nginx's arguments: where its configuration is.
pub(super) fn arguments(folder: &Path, version: Version) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        vec!["-p".into(), folder.into(), "-c".into(), folder.join("nginx.conf").into()];
    if version >= EARLY_ERROR_LOG {
        arguments.extend(["-e".into(), folder.join("error.log").into()]);
    }
    arguments
}

/// The nginx on PATH, and no other: whether a run uses nginx must not depend on where else one is installed.
#[must_use]
pub fn find_nginx() -> Option<PathBuf> {
    on_path("nginx")
}

/// Starts nginx as an external service, in a folder that it makes in `folder` and removes at its end. `program` is the
/// nginx to run; if none is given, see [`find_nginx`]. Evidence arrives on [`RunningService::settle`].
///
/// # Errors
/// nginx is missing, does not start, or cannot do what the specification asks (HTTP/2 alone).
pub async fn start_nginx(
    spec: ExternalSpec,
    store: Store,
    timeouts: &Timeouts,
    folder: &Path,
    program: Option<&Path>,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let service = format!("nginx for {}", spec.host);
    let program = program.map(Path::to_owned).or_else(find_nginx).ok_or_else(missing)?;
    let version = version(&program, timeouts).await?;
    let start = |reason: String| ExternalError::Start { service: service.clone(), reason };
    for _ in 1..ATTEMPTS {
        let ports = take_ports().map_err(|e| start(e.to_string()))?;
        match NginxProcess::start(&program, version, &spec, ports, folder, timeouts).await {
            Ok(process) => return Ok(Box::new(Nginx::new(process, &spec, ports, version, store, timeouts))),
            Err(StartFailure::PortTaken) => {}
            Err(StartFailure::Other(reason)) => return Err(start(reason)),
        }
    }
    Err(start(format!("another program took its ports, {ATTEMPTS} times in a row")))
}

/// Three ports that are free now.
pub(super) fn take_ports() -> std::io::Result<Ports> {
    Ok(Ports { plain: ports::take()?, tls: ports::take()?, control: ports::take()? })
}

fn missing() -> ExternalError {
    ExternalError::Missing {
        program: "nginx".to_owned(),
        fix:
            "Install it (Debian and Ubuntu: apt-get install nginx-light; macOS: brew install nginx), or run \
               without it: --external embedded"
                .to_owned(),
    }
}

/// The version in the output of `nginx -v`: `nginx version: nginx/1.22.1`.
async fn version(program: &Path, timeouts: &Timeouts) -> Result<Version, ExternalError> {
    let limit = timeouts.get(Timeout::ExternalServiceReady);
    let asked = Command::new(program).arg("-v").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(limit, asked).await {
        Ok(Ok(output)) => output,
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
        Ok(Err(e)) => return Err(unusable(program, &e.to_string())),
        Err(_) => {
            let reason = format!("external-service-ready: `nginx -v` did not exit within {limit:?}");
            return Err(unusable(program, &reason));
        }
    };
    let words = String::from_utf8_lossy(&output.stderr);
    read_version(&words)
        .ok_or_else(|| unusable(program, &format!("no version in the output of `nginx -v`: {words:?}")))
}

fn unusable(program: &Path, reason: &str) -> ExternalError {
    ExternalError::Start { service: program.display().to_string(), reason: bounded(reason, MAX_QUOTED) }
}

pub(super) fn read_version(words: &str) -> Option<Version> {
    let (_, rest) = words.split_once('/')?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Why a process did not start.
enum StartFailure {
    PortTaken,
    Other(String),
}

/// A process and its folder. Dropping it ends the process and then removes the folder.
struct NginxProcess {
    child: Box<dyn ChildWrapper>,
    folder: Folder,
    door: Arc<Door>,
}

impl NginxProcess {
    async fn start(
        program: &Path,
        version: Version,
        spec: &ExternalSpec,
        ports: Ports,
        parent: &Path,
        timeouts: &Timeouts,
    ) -> Result<Self, StartFailure> {
        let other = StartFailure::Other;
        let (nonce, folder) = new_folder(parent).map_err(other)?;
        meshproof_nginx::config::write(folder.path(), spec, ports, &nonce, version, Site::Machine)
            .map_err(other)?;
        let stderr = std::fs::File::create(folder.path().join("stderr.log"))
            .map_err(|e| other(format!("cannot write into its folder: {e}")))?;
        let mut command = Command::new(program);
        command.args(arguments(folder.path(), version));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).kill_on_drop(true);
        let child = in_own_session(command)
            .spawn()
            .map_err(|e| other(format!("cannot run {}: {e}", program.display())))?;
        let door = Arc::new(Door::new((Ipv4Addr::LOCALHOST, ports.control).into(), nonce));
        let mut process = Self { child, folder, door };
        process.ready(timeouts.get(Timeout::ExternalServiceReady)).await?;
        Ok(process)
    }

    async fn ready(&mut self, limit: Duration) -> Result<(), StartFailure> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.door.flush(limit).await.is_some() {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(|e| StartFailure::Other(e.to_string()))?;
            let words = self.output();
            // nginx itself would try the same port for some seconds more.
            if words.contains("bind() to") {
                return if words.contains("in use") {
                    Err(StartFailure::PortTaken)
                } else {
                    Err(StartFailure::Other(words))
                };
            }
            if let Some(status) = ended {
                return Err(StartFailure::Other(format!("it exited ({status}): {words}")));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(StartFailure::Other(format!(
            "external-service-ready: no answer within {limit:?}: {}",
            self.output()
        )))
    }

    fn output(&self) -> String {
        meshproof_nginx::log::output(self.folder.path())
    }
}

struct Nginx {
    host: String,
    version: Version,
    addresses: BTreeMap<u16, SocketAddr>,
    /// The timeout `evidence-settled`.
    settled_within: Duration,
    door: Arc<Door>,
    logs: SharedLogs,
    /// None once it was stopped.
    process: Mutex<Option<NginxProcess>>,
}

impl Nginx {
    fn new(
        process: NginxProcess,
        spec: &ExternalSpec,
        ports: Ports,
        version: Version,
        store: Store,
        timeouts: &Timeouts,
    ) -> Self {
        let addresses =
            ports.of(spec).map(|(documented, own)| (documented, (Ipv4Addr::LOCALHOST, own).into())).collect();
        Self {
            host: spec.host.clone(),
            version,
            addresses,
            settled_within: timeouts.get(Timeout::EvidenceSettled),
            door: Arc::clone(&process.door),
            logs: SharedLogs::new(process.folder.path(), spec, ports, Site::Machine, store),
            process: Mutex::new(Some(process)),
        }
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
            version: meshproof_nginx::config::version_text(self.version),
        }
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.addresses.get(&port).copied()
    }

    async fn settle(&self) -> Result<(), ExternalError> {
        if self.process.lock().await.is_none() {
            return Ok(());
        }
        let reached = self.door.barrier(self.settled_within).await;
        let answered = reached.is_some();
        // The logs are evidence even if nginx has exited.
        let collected = self.logs.collect(reached).await;
        if !answered {
            let mut process = self.process.lock().await;
            let Some(process) = process.as_mut() else { return Ok(()) };
            let reason = match process.child.try_wait().ok().flatten() {
                Some(status) => format!("it exited ({status}): {}", self.logs.output()),
                None => format!("it runs, but does not answer the suite: {}", self.logs.output()),
            };
            return Err(ExternalError::Died { service: self.label(), reason });
        }
        collected
            .map_err(|e| ExternalError::Other { service: self.label(), reason: format!("its logs: {e}") })
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        let Some(mut process) = self.process.lock().await.take() else { return Ok(()) };
        let failed = |reason: String| ExternalError::Other { service: self.label(), reason };
        // It has nothing to save by an orderly exit.
        let killed = match process.child.try_wait() {
            Ok(Some(_exited)) => Ok(()),
            Ok(None) => process.child.start_kill(),
            Err(e) => Err(e),
        };
        killed.map_err(|e| failed(format!("it cannot be killed: {e}")))?;
        process.child.wait().await.map_err(|e| failed(format!("its exit cannot be awaited: {e}")))?;
        let folder = &process.folder;
        folder.remove().map_err(|e| failed(format!("cannot remove {}: {e}", folder.path().display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_output_of_nginx() {
        assert_eq!(read_version("nginx version: nginx/1.22.1\n"), Some((1, 22, 1)));
        assert_eq!(read_version("nginx version: nginx/1.29.0 (Ubuntu)"), Some((1, 29, 0)));
        assert_eq!(read_version("nginx version: freenginx"), None);
    }
}
