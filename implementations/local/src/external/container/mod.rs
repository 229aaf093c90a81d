//! nginx in a container as an external service: the same configuration and the same logs as nginx in a process, behind ports
//! that the engine publishes on loopback and a relay that belongs to the suite.

mod engine;
mod life;
mod relay;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use meshproof_model::ExternalService;
use testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers::core::wait::ExitWaitStrategy;
use testcontainers::core::{IntoContainerPort, Mount, WaitFor};
use testcontainers::{ContainerRequest, GenericImage, ImageExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use engine::{LocalImage, image_failed};
use life::{StartFailure, StartedContainer};
use relay::Relay;

pub use engine::{
    DEFAULT_IMAGE, IMAGE_VARIABLE, LeftContainer, check_container, left_containers, prepare_container,
};
pub use life::removals_done;

use super::nginx::door::{Door, POLL};
use super::nginx::logs::SharedLogs;
use super::nginx::{arguments, new_folder, read_version};
use super::service::{ExternalError, RunningService};
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::store::{Store, bounded};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_nginx::config::{self, Ports, Site, Version};
use meshproof_nginx::log;

/// nginx's ports in the container, which nothing else uses there.
const PORTS: Ports = Ports { plain: 8080, tls: 8443, control: 8081 };
/// More than one nginx without worker processes needs.
const MAX_PROCESSES: i64 = 32;
/// How much of nginx's own output goes into an error.
const MAX_QUOTED: usize = 2000;
/// nginx writes this when it has bound its ports and initialises its event loop (nginx, `src/event/ngx_event.c`).
const LISTENING: &str = "using the \"";

/// Starts nginx in a container as an external service, in a folder that it makes in `folder` and removes at its end.
/// The container carries the run's id as a label. `image` is the image to use; if none is given, the one in
/// `MESHPROOF_NGINX_IMAGE`, else [`DEFAULT_IMAGE`]. Nothing is fetched here (see [`prepare_container`]). Evidence arrives
/// on [`RunningService::settle`]. Dropping the service removes the container, too, in the background (see
/// [`removals_done`]).
///
/// # Errors
/// No container engine answers, the image is not on this machine, nginx does not start, or it cannot do what the
/// specification asks for (HTTP/2 alone).
pub async fn start_nginx_container(
    spec: ExternalSpec,
    store: Store,
    timeouts: &Timeouts,
    folder: &Path,
    run: &str,
    image: Option<&str>,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let engine = engine::connect(timeouts).await?;
    let image = engine::image(&engine, &engine::image_name(image)).await?;
    let version = version_of(&image, timeouts, run, folder).await?;
    let rootless = engine::is_rootless(&engine).await?;
    let failed = |reason: String| ExternalError::Start { service: label(&spec.host), reason };
    let (nonce, own) = new_folder(folder).map_err(failed)?;
    let path = own.path().to_owned();
    let user = if rootless { (0, 0) } else { owner(&path).map_err(failed)? };
    let site = Site::Container { root: user.0 == 0 };
    config::write(&path, &spec, PORTS, &nonce, version, site).map_err(failed)?;
    let request = request(&image, &path, user, version).map_err(failed)?;
    let deadline = Instant::now() + timeouts.get(Timeout::ExternalServiceReady);
    let request = request.with_startup_timeout(timeouts.get(Timeout::ExternalServiceReady));
    let container = StartedContainer::start(request, run, &path, Some(own)).await;
    let container = container.map_err(|StartFailure { reason, folder }| {
        let logged = folder.map(|folder| log::output(folder.path())).unwrap_or_default();
        failed(both(&reason, &logged))
    })?;
    let Some(control) = container.published(PORTS.control).await.map_err(failed)? else {
        let reason = "the engine publishes no ports: its bridge network is switched off. Switch it on";
        return Err(failed(reason.to_owned()));
    };
    let door = Door::new((Ipv4Addr::LOCALHOST, control).into(), nonce);
    let mut relayed = BTreeMap::new();
    for (documented, own) in PORTS.of(&spec) {
        if let Some(port) = container.published(own).await.map_err(failed)? {
            relayed.insert(documented, (Ipv4Addr::LOCALHOST, port).into());
        }
    }
    let relay = Relay::start(relayed).await;
    let relay = relay.map_err(|e| failed(format!("cannot listen on loopback: {e}")))?;
    let logs = SharedLogs::new(&path, &spec, PORTS, site, store);
    let addresses = PORTS.of(&spec).filter_map(|(port, _)| Some((port, relay.address(port)?))).collect();
    let parts = Parts { relay, container, door, logs };
    parts.answers(deadline).await.map_err(failed)?;
    Ok(Box::new(NginxInContainer {
        host: spec.host,
        version,
        image,
        addresses,
        settled_within: timeouts.get(Timeout::EvidenceSettled),
        parts: Mutex::new(Some(parts)),
    }))
}

fn label(host: &str) -> String {
    format!("nginx in a container for {host}")
}

/// The version of the image's nginx. Each image is asked once.
async fn version_of(
    image: &LocalImage,
    timeouts: &Timeouts,
    run: &str,
    folder: &Path,
) -> Result<Version, ExternalError> {
    static KNOWN: Mutex<BTreeMap<String, Version>> = Mutex::const_new(BTreeMap::new());
    let mut known = KNOWN.lock().await;
    if let Some(version) = known.get(&image.id) {
        return Ok(*version);
    }
    let failed = |reason: String| image_failed(&image.digest, &format!("`nginx -v`: {reason}"));
    // A failure shows in its output.
    let exited = WaitFor::exit(ExitWaitStrategy::new().with_poll_interval(POLL));
    let request = image
        .generic()
        .with_entrypoint("nginx")
        .with_wait_for(exited)
        .with_cmd(["-v"])
        .with_startup_timeout(timeouts.get(Timeout::ExternalServiceReady))
        .with_host_config_modifier(|host| {
            host.network_mode = Some("none".to_owned());
            host.publish_all_ports = None;
        });
    let container =
        StartedContainer::start(request, run, folder, None).await.map_err(|f| failed(f.reason))?;
    let output = container.error_output().await;
    container.remove().await.map_err(failed)?;
    let version =
        read_version(&output).ok_or_else(|| failed(format!("no version in its output: {output:?}")))?;
    known.insert(image.id.clone(), version);
    Ok(version)
}

/// The user and the group that own the folder: nginx must read the key in it and write its logs there.
#[cfg(unix)]
fn owner(folder: &Path) -> Result<(u32, u32), String> {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(folder).map_err(|e| e.to_string())?;
    Ok((facts.uid(), facts.gid()))
}

#[cfg(not(unix))]
fn owner(_: &Path) -> Result<(u32, u32), String> {
    Ok((0, 0))
}

fn request(
    image: &LocalImage,
    folder: &Path,
    (user, group): (u32, u32),
    version: Version,
) -> Result<ContainerRequest<GenericImage>, String> {
    let text =
        |path: &std::ffi::OsStr| path.to_str().map(str::to_owned).ok_or("the folder's name is not UTF-8");
    let place = text(folder.as_os_str())?;
    let command: Vec<String> =
        arguments(folder, version).iter().map(|word| text(word)).collect::<Result<_, _>>()?;
    let mut image = image
        .generic()
        .with_entrypoint("nginx")
        // If nginx exits instead, waiting for this ends at once, with all that nginx wrote.
        .with_wait_for(WaitFor::message_on_stderr(LISTENING));
    for port in [PORTS.plain, PORTS.tls, PORTS.control] {
        image = image.with_exposed_port(port.tcp());
    }
    Ok(image
        .with_cmd(command)
        .with_user(format!("{user}:{group}"))
        .with_mount(Mount::bind_mount(place.clone(), place))
        .with_readonly_rootfs(true)
        .with_cap_drop("ALL")
        .with_security_opt("no-new-privileges")
        // SELinux's labels would keep nginx from its folder.
        .with_security_opt("label=disable")
        .with_host_config_modifier(confine))
}

/// What testcontainers has no words for: it publishes ports on all of the machine's addresses, and sets no limits.
fn confine(host: &mut HostConfig) {
    // Any free port of loopback.
    let binding =
        PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: Some(String::new()) };
    let published = [PORTS.plain, PORTS.tls, PORTS.control]
        .map(|port| (format!("{port}/tcp"), Some(vec![binding.clone()])));
    host.port_bindings = Some(published.into());
    host.publish_all_ports = None;
    host.pids_limit = Some(MAX_PROCESSES);
}

/// Two texts of one program, the second only if the first does not already have it.
fn both(first: &str, second: &str) -> String {
    let more = if first.contains(second) { "" } else { second };
    bounded(format!("{first}\n{more}").trim(), MAX_QUOTED)
}

struct NginxInContainer {
    host: String,
    version: Version,
    image: LocalImage,
    addresses: BTreeMap<u16, SocketAddr>,
    /// The timeout `evidence-settled`.
    settled_within: Duration,
    /// None once it was stopped.
    parts: Mutex<Option<Parts>>,
}

/// Dropped in this order: new connections end first, then nginx with its folder.
struct Parts {
    relay: Relay,
    container: StartedContainer,
    door: Door,
    logs: SharedLogs,
}

impl Parts {
    /// Returns when nginx answers through the port that the engine publishes.
    async fn answers(&self, deadline: Instant) -> Result<(), String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.door.flush(left).await.is_some() {
                return Ok(());
            }
            if let Some(exited) = self.exited().await? {
                return Err(exited);
            }
            if left.is_zero() {
                let output = self.output().await;
                return Err(format!("external-service-ready: it listens, but gives no answer: {output}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Its exit and its last output, once it has exited.
    async fn exited(&self) -> Result<Option<String>, String> {
        let Some(code) = self.container.exit_code().await? else { return Ok(None) };
        Ok(Some(format!("it exited with code {code}: {}", self.output().await)))
    }

    async fn output(&self) -> String {
        both(&self.container.error_output().await, &self.logs.output())
    }
}

#[async_trait]
impl RunningService for NginxInContainer {
    fn describe(&self) -> ExternalService {
        ExternalService {
            host: self.host.clone(),
            kind: "container".to_owned(),
            version: format!("{}, image {}", config::version_text(self.version), self.image.digest),
        }
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.addresses.get(&port).copied()
    }

    async fn settle(&self) -> Result<(), ExternalError> {
        let limit = self.settled_within;
        let mut parts = self.parts.lock().await;
        let Some(parts) = parts.as_mut() else { return Ok(()) };
        let relayed = tokio::time::timeout(limit, parts.relay.barrier()).await;
        let reached = parts.door.barrier(limit).await;
        let answered = reached.is_some();
        // The logs are evidence even if nginx has exited.
        let collected = parts.logs.collect(reached).await;
        let other = |reason: String| ExternalError::Other { service: label(&self.host), reason };
        if !answered {
            let reason = match parts.exited().await {
                Ok(Some(exited)) => exited,
                Ok(None) => format!("it runs, but does not answer the suite: {}", parts.output().await),
                Err(reason) => reason,
            };
            return Err(ExternalError::Died { service: label(&self.host), reason });
        }
        match relayed {
            Ok(relayed) => relayed.map_err(|e| other(format!("evidence-settled: {e}")))?,
            Err(_) => {
                let what = "nginx has not closed a connection that its client has closed";
                return Err(other(format!("evidence-settled: {what}, within {limit:?}")));
            }
        }
        collected.map_err(|e| other(format!("its logs: {e}")))
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        let Some(Parts { relay, container, .. }) = self.parts.lock().await.take() else {
            return Ok(());
        };
        relay.stop().await;
        let failed = |reason: String| ExternalError::Other { service: label(&self.host), reason };
        container.remove().await.map_err(|e| failed(format!("its container cannot be removed: {e}")))
    }
}
