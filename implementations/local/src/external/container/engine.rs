//! The container engine: Docker, or another program that serves Docker's API on a socket (Podman).
//!
//! testcontainers starts, watches and removes the containers. What it has no functions for (is an image on this machine, is
//! the engine rootless, which containers carry a label) goes to the engine through the client that testcontainers made.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerRequest, GenericImage};

use crate::external::service::ExternalError;
use meshproof_harness::run_folder;
use meshproof_harness::store::bounded;
use meshproof_harness::timeouts::{Timeout, Timeouts};

/// nginx's stable release, as published by the nginx project.
pub const DEFAULT_IMAGE: &str = "docker.io/library/nginx:1.28.0";
/// The environment variable that chooses another image.
pub const IMAGE_VARIABLE: &str = "MESHPROOF_NGINX_IMAGE";

/// The label that holds the id of the run that a container belongs to.
pub(super) const RUN_LABEL: &str = "meshproof.run";
/// The label that holds the folder that a container works in. The run's folder, which names the run's process, is above it.
pub(super) const FOLDER_LABEL: &str = "meshproof.folder";
/// The label that no two containers share.
pub(super) const UNIQUE_LABEL: &str = "meshproof.container";

/// How much of an error's text is kept.
const MAX_ERROR: usize = 2000;

const ENGINE_FIX: &str = "Start it (Docker: `systemctl start docker`, or Docker Desktop; Podman: `systemctl --user start \
                          podman.socket`), set DOCKER_HOST if its socket is elsewhere (unix:///PATH), or run without \
                          containers: --external nginx or --external embedded";

/// An image that is on this machine.
#[derive(Clone)]
pub(super) struct LocalImage {
    /// `sha256:...`.
    pub(super) id: String,
    /// The name by which its registry knows this content; the id if the image came from no registry.
    pub(super) digest: String,
}

impl LocalImage {
    /// The same image for testcontainers, which puts the name together again from two parts. An id can only mean this image,
    /// so nothing is ever fetched for it.
    pub(super) fn generic(&self) -> GenericImage {
        generic(&self.id)
    }
}

fn generic(name: &str) -> GenericImage {
    let (name, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    GenericImage::new(name, tag)
}

/// The image to use: the given one, else the one in [`IMAGE_VARIABLE`], else [`DEFAULT_IMAGE`].
pub(super) fn image_name(given: Option<&str>) -> String {
    let variable = || std::env::var(IMAGE_VARIABLE).ok().filter(|name| !name.is_empty());
    given.map(str::to_owned).or_else(variable).unwrap_or_else(|| DEFAULT_IMAGE.to_owned())
}

fn unreachable_engine(reason: String) -> ExternalError {
    ExternalError::Engine { reason, fix: ENGINE_FIX.to_owned() }
}

/// The engine's client. The engine has answered it.
pub(super) async fn connect(timeouts: &Timeouts) -> Result<Docker, ExternalError> {
    let engine = docker_client_instance().await.map_err(|e| unreachable_engine(error_text(&e)))?;
    let limit = timeouts.get(Timeout::ExternalServiceReady);
    match tokio::time::timeout(limit, engine.ping()).await {
        Ok(Ok(_)) => Ok(engine),
        Ok(Err(e)) => Err(unreachable_engine(error_text(&e))),
        Err(_) => Err(unreachable_engine(format!("external-service-ready: no answer within {limit:?}"))),
    }
}

/// An error and its causes, which the libraries' own texts leave out.
pub(super) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    bounded(&text, MAX_ERROR)
}

fn is_absent(error: &EngineError) -> bool {
    matches!(error, EngineError::DockerResponseServerError { status_code: 404, .. })
}

pub(super) fn image_failed(name: &str, reason: &str) -> ExternalError {
    ExternalError::Start {
        service: format!("nginx from the image {name}"),
        reason: bounded(reason, MAX_ERROR),
    }
}

/// The image of this name, if it is on this machine.
async fn find_image(engine: &Docker, name: &str) -> Result<Option<LocalImage>, ExternalError> {
    match engine.inspect_image(name).await {
        Ok(found) => {
            let id = found.id.ok_or_else(|| image_failed(name, "the engine does not report its id"))?;
            let digest = found.repo_digests.unwrap_or_default().into_iter().next();
            Ok(Some(LocalImage { digest: digest.unwrap_or_else(|| id.clone()), id }))
        }
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(image_failed(name, &error_text(&e))),
    }
}

/// The image of this name.
///
/// # Errors
/// It is not on this machine: nothing is fetched.
pub(super) async fn image(engine: &Docker, name: &str) -> Result<LocalImage, ExternalError> {
    find_image(engine, name).await?.ok_or_else(|| ExternalError::Image {
        name: name.to_owned(),
        fix: format!("Fetch it (`docker pull {name}`), or choose another with {IMAGE_VARIABLE}"),
    })
}

/// Checks that containers can be started: an engine answers, and the image is on this machine. Nothing is fetched. `image`: as
/// for [`super::start_nginx_container`].
///
/// # Errors
/// What is missing, and how to fix it.
pub async fn check_container(image: Option<&str>, timeouts: &Timeouts) -> Result<(), ExternalError> {
    self::image(&connect(timeouts).await?, &image_name(image)).await.map(|_| ())
}

/// Makes sure that containers can be started: an engine answers, and the image is on this machine. A missing image is
/// fetched, with the credentials of Docker's own configuration.
///
/// # Errors
/// No engine answers, or the image cannot be fetched. The message says how to fix it.
pub async fn prepare_container(image: Option<&str>, timeouts: &Timeouts) -> Result<(), ExternalError> {
    let name = image_name(image);
    if find_image(&connect(timeouts).await?, &name).await?.is_some() {
        return Ok(());
    }
    let missing = |reason: &str| ExternalError::Image {
        name: name.clone(),
        fix: format!(
            "It cannot be fetched ({}). Choose an image that can with {IMAGE_VARIABLE}, or run without containers: \
             --external nginx or --external embedded",
            bounded(reason, MAX_ERROR)
        ),
    };
    let limit = timeouts.get(Timeout::ImageFetched);
    let fetching = ContainerRequest::from(generic(&name)).pull_image();
    match tokio::time::timeout(limit, fetching).await {
        Ok(fetched) => fetched.map(|_| ()).map_err(|e| missing(&error_text(&e))),
        Err(_) => Err(missing(&format!("image-fetched: not within {limit:?}"))),
    }
}

/// Whether the engine's root is this user: then files that root writes in a container belong to this user here.
pub(super) async fn is_rootless(engine: &Docker) -> Result<bool, ExternalError> {
    let info = engine.info().await.map_err(|e| unreachable_engine(error_text(&e)))?;
    Ok(info.security_options.unwrap_or_default().iter().any(|option| option.contains("rootless")))
}

/// The id and the labels of every container whose label has this value; with no value, of every container that has the label.
async fn labelled(
    engine: &Docker,
    label: &str,
    value: Option<&str>,
) -> Result<Vec<(String, HashMap<String, String>)>, EngineError> {
    let wanted = value.map_or_else(|| label.to_owned(), |value| format!("{label}={value}"));
    let filters = HashMap::from([("label", vec![wanted])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let found = engine.list_containers(Some(options)).await?;
    Ok(found.into_iter().filter_map(|c| Some((c.id?, c.labels.unwrap_or_default()))).collect())
}

async fn remove(engine: &Docker, id: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match engine.remove_container(id, Some(options)).await {
        Err(e) if !is_absent(&e) => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the container with this [`UNIQUE_LABEL`], if there is one: testcontainers leaves a container behind that it
/// made and could not start.
pub(super) async fn remove_unstarted(unique: &str) -> Result<(), String> {
    let engine = docker_client_instance().await.map_err(|e| error_text(&e))?;
    for (id, _) in labelled(&engine, UNIQUE_LABEL, Some(unique)).await.map_err(|e| error_text(&e))? {
        remove(&engine, &id).await.map_err(|e| error_text(&e))?;
    }
    Ok(())
}

/// A container whose run is over.
#[derive(Debug)]
pub struct LeftContainer {
    id: String,
    run: String,
}

/// The containers of runs whose process no longer exists. Empty if no engine answers.
///
/// # Errors
/// The engine does not list its containers.
pub async fn left_containers(timeouts: &Timeouts) -> io::Result<Vec<LeftContainer>> {
    let Ok(engine) = connect(timeouts).await else { return Ok(Vec::new()) };
    let all = labelled(&engine, RUN_LABEL, None).await.map_err(|e| io::Error::other(error_text(&e)))?;
    let is_left = |labels: &HashMap<String, String>| {
        labels.get(FOLDER_LABEL).is_none_or(|folder| !run_folder::is_in_use(Path::new(folder)))
    };
    Ok(all
        .into_iter()
        .filter(|(_, labels)| is_left(labels))
        .filter_map(|(id, labels)| Some(LeftContainer { id, run: labels.get(RUN_LABEL)?.clone() }))
        .collect())
}

impl LeftContainer {
    /// Which container this is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("container {:.12} of run {}", self.id, self.run)
    }

    /// Stops and removes it.
    ///
    /// # Errors
    /// The engine does not remove it.
    pub async fn remove(&self) -> io::Result<()> {
        let engine = docker_client_instance().await.map_err(io::Error::other)?;
        remove(&engine, &self.id).await.map_err(|e| io::Error::other(error_text(&e)))
    }
}
