//! nginx in a container as an external service: the same configuration and the same logs as the process, behind ports
//! that the engine publishes on loopback and a relay of the suite's own.

mod engine;
mod relay;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use async_trait::async_trait;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, PortBinding};
use meshproof_model::ExternalService;
use tokio::sync::Mutex;
use tokio::time::Instant;

use engine::{Container, Image, Wanted};
use relay::Relay;

pub use engine::{
    DEFAULT_IMAGE, IMAGE_VARIABLE, LeftContainer, check_container, left_containers, prepare_container,
};

use super::nginx::config::{self, Folder, Ports, Site, Version};
use super::nginx::door::Door;
use super::nginx::log::{self, Logs};
use super::nginx::{POLL, arguments, new_folder};
use super::{ExternalError, ExternalSpec, RunningService};
use crate::store::{Store, bounded};
use crate::timeouts::Timeouts;

/// nginx's ports inside the container, where nobody else listens.
const PORTS: Ports = Ports { plain: 8080, tls: 8443, control: 8081 };
/// More than one nginx without workers needs.
const MAX_PROCESSES: i64 = 32;
/// How much of nginx's own words goes into an error.
const MAX_WORDS: usize = 2000;

/// Starts nginx in a container as an external service, in a folder that it makes in `folder` and removes at its end.
/// The container carries the run's id as a label. `image` is the image to use; none: `MESHPROOF_NGINX_IMAGE`, else
/// [`DEFAULT_IMAGE`]; nothing is fetched here (see [`prepare_container`]). Evidence arrives on
/// [`RunningService::settle`]. It ends when it is dropped, too.
///
/// # Errors
/// No container engine answers, the image is not here, nginx does not start, or cannot do what the specification asks
/// (HTTP/2 alone).
pub async fn start_nginx_container(
    spec: ExternalSpec,
    store: Store,
    folder: &Path,
    run: &str,
    image: Option<&str>,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let engine = engine::connect().await?;
    let image = engine::image(&engine, &engine::image_name(image)).await?;
    let version = engine::version_of(&engine, &image, run, folder).await?;
    let rootless = engine::is_rootless(&engine).await?;
    let start = |reason: String| ExternalError::Start { service: label(&spec.host), reason };
    let (nonce, folder) = new_folder(folder).map_err(start)?;
    let user = if rootless { (0, 0) } else { owner(folder.path()).map_err(start)? };
    let site = Site::Container { root: user.0 == 0 };
    config::write(folder.path(), &spec, PORTS, &nonce, version, site).map_err(start)?;
    let body = body(folder.path(), user, version).map_err(start)?;
    let wanted =
        Wanted { image: image.id.clone(), run: run.to_owned(), folder: folder.path().to_owned(), body };
    let container = Container::start(&engine, wanted).await.map_err(start)?;
    let ports = published(&container).await.map_err(start)?;
    let Some(control) = ports.get(&PORTS.control) else {
        // What has ended has no ports either.
        let ended = ended(&container, folder.path()).await.map_err(start)?;
        let reason = "the engine publishes no ports: its bridge network is switched off; switch it on";
        return Err(start(ended.unwrap_or_else(|| reason.to_owned())));
    };
    let door = Door::new(*control, nonce);
    let relayed = PORTS.of(&spec).filter_map(|(documented, own)| Some((documented, *ports.get(&own)?)));
    let relay = Relay::start(relayed.collect()).await;
    let relay = relay.map_err(|e| start(format!("cannot listen on loopback: {e}")))?;
    let logs = Logs::new(folder.path(), &spec, PORTS, site, store);
    let running = Running { relay, container, folder, door, logs };
    running.ready().await.map_err(start)?;
    let addresses =
        PORTS.of(&spec).filter_map(|(port, _)| Some((port, running.relay.address(port)?))).collect();
    Ok(Box::new(Contained { host: spec.host, version, image, addresses, running: Mutex::new(Some(running)) }))
}

fn label(host: &str) -> String {
    format!("nginx in a container for {host}")
}

/// Whose folder it is: nginx must read the key in it and write the logs.
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

fn body(folder: &Path, (user, group): (u32, u32), version: Version) -> Result<ContainerCreateBody, String> {
    let text =
        |path: &std::ffi::OsStr| path.to_str().map(str::to_owned).ok_or("the folder's name is not UTF-8");
    let place = text(folder.as_os_str())?;
    let command = arguments(folder, version).iter().map(|word| text(word)).collect::<Result<_, _>>()?;
    let own = [PORTS.plain, PORTS.tls, PORTS.control].map(|port| format!("{port}/tcp"));
    // Any free port of loopback.
    let binding =
        PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: Some(String::new()) };
    let bindings: HashMap<_, _> =
        own.iter().map(|port| (port.clone(), Some(vec![binding.clone()]))).collect();
    let mount = Mount {
        target: Some(place.clone()),
        source: Some(place),
        typ: Some(MountType::BIND),
        ..Mount::default()
    };
    let host = HostConfig {
        mounts: Some(vec![mount]),
        port_bindings: Some(bindings),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        // The labels of SELinux would keep nginx from its folder.
        security_opt: Some(vec!["no-new-privileges".to_owned(), "label=disable".to_owned()]),
        pids_limit: Some(MAX_PROCESSES),
        ..HostConfig::default()
    };
    Ok(ContainerCreateBody {
        entrypoint: Some(vec!["nginx".to_owned()]),
        cmd: Some(command),
        user: Some(format!("{user}:{group}")),
        exposed_ports: Some(own.to_vec()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

/// nginx's ports, each with the address that the engine published it on.
async fn published(container: &Container) -> Result<BTreeMap<u16, SocketAddr>, String> {
    let facts = container.inspect().await?;
    let ports = facts.network_settings.and_then(|n| n.ports).unwrap_or_default();
    let one = |(own, bindings): (String, Option<Vec<PortBinding>>)| {
        let own = own.strip_suffix("/tcp")?.parse().ok()?;
        let port: u16 = bindings?.into_iter().find_map(|b| b.host_port?.parse().ok())?;
        Some((own, (Ipv4Addr::LOCALHOST, port).into()))
    };
    Ok(ports.into_iter().filter_map(one).collect())
}

/// How it has ended; none while it runs.
async fn ended(container: &Container, folder: &Path) -> Result<Option<String>, String> {
    let state = container.inspect().await?.state.unwrap_or_default();
    if state.running == Some(true) {
        return Ok(None);
    }
    let code = state.exit_code.unwrap_or_default();
    Ok(Some(format!("it ended with exit code {code}: {}", words(container, folder).await)))
}

/// nginx's last words.
async fn words(container: &Container, folder: &Path) -> String {
    let said = format!("{}\n{}", container.words().await, log::words(folder));
    bounded(said.trim(), MAX_WORDS)
}

struct Contained {
    host: String,
    version: Version,
    image: Image,
    addresses: BTreeMap<u16, SocketAddr>,
    /// None once it was stopped.
    running: Mutex<Option<Running>>,
}

/// Dropped in this order: nobody comes any more, nginx ends, its folder goes.
struct Running {
    relay: Relay,
    container: Container,
    folder: Folder,
    door: Door,
    logs: Logs,
}

impl Running {
    async fn ready(&self) -> Result<(), String> {
        let limit = Timeouts::default().get("external-service-ready");
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.door.fence(limit).await.is_some() {
                return Ok(());
            }
            if let Some(ended) = self.ended().await? {
                return Err(ended);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!("external-service-ready: no answer within {limit:?}: {}", self.words().await))
    }

    async fn ended(&self) -> Result<Option<String>, String> {
        ended(&self.container, self.folder.path()).await
    }

    async fn words(&self) -> String {
        words(&self.container, self.folder.path()).await
    }
}

#[async_trait]
impl RunningService for Contained {
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
        let limit = Timeouts::default().get("evidence-settled");
        let mut running = self.running.lock().await;
        let Some(running) = running.as_mut() else { return Ok(()) };
        let relayed = tokio::time::timeout(limit, running.relay.barrier()).await;
        let reached = running.door.barrier(limit).await;
        // What is in the logs is evidence also of one that died.
        let collected = running.logs.collect(reached.as_deref());
        let other = |reason: String| ExternalError::Other { service: label(&self.host), reason };
        if reached.is_none() {
            let reason = match running.ended().await {
                Ok(Some(ended)) => ended,
                Ok(None) => format!("no answer at its own door: {}", running.words().await),
                Err(reason) => reason,
            };
            return Err(ExternalError::Died { service: label(&self.host), reason });
        }
        match relayed {
            Ok(relayed) => relayed.map_err(|e| other(format!("the relay does not reach itself: {e}")))?,
            Err(_) => {
                let what = "it has not closed a connection that its client has ended";
                return Err(other(format!("evidence-settled: {what}, within {limit:?}")));
            }
        }
        collected.map_err(|e| other(format!("its logs: {e}")))
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        let Some(Running { relay, container, folder, .. }) = self.running.lock().await.take() else {
            return Ok(());
        };
        relay.stop().await;
        let failed = |reason: String| ExternalError::Other { service: label(&self.host), reason };
        container.remove().await.map_err(|e| failed(format!("its container cannot be removed: {e}")))?;
        folder.remove().map_err(|e| failed(format!("cannot remove {}: {e}", folder.path().display())))
    }
}
