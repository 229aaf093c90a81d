//! The container engine: Docker, or whatever speaks its API on a socket (Podman).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::Mutex;

use crate::external::ExternalError;
use crate::external::nginx::read_version;
use meshproof_harness::run_folder;
use meshproof_harness::store::bounded;
use meshproof_harness::timeouts::Timeouts;
use meshproof_nginx::config::Version;

/// nginx's stable release, as its makers publish it.
pub const DEFAULT_IMAGE: &str = "docker.io/library/nginx:1.28.0";
/// Chooses another image.
pub const IMAGE_VARIABLE: &str = "MESHPROOF_NGINX_IMAGE";

/// The run that a container belongs to.
const RUN: &str = "meshproof.run";
/// The folder that the container works in; the run's folder, which names the run's process, is above it.
const FOLDER: &str = "meshproof.folder";

/// How much of a program's own words goes into an error.
const MAX_WORDS: usize = 2000;

const MEND: &str = "start it (Docker: systemctl start docker, or Docker Desktop; Podman: systemctl --user start \
                    podman.socket), set DOCKER_HOST where its socket is elsewhere (unix:///PATH), or do without it: \
                    --external nginx or --external embedded";

/// What a container is given, beside its image and labels.
pub(super) struct Wanted {
    pub(super) image: String,
    pub(super) run: String,
    pub(super) folder: PathBuf,
    pub(super) body: ContainerCreateBody,
}

/// An image that is here.
#[derive(Clone)]
pub(super) struct Image {
    /// `sha256:...`.
    pub(super) id: String,
    /// As its registry names it by its content; an image that comes from none has its id only.
    pub(super) digest: String,
}

/// The image to use: as asked for, else as [`IMAGE_VARIABLE`] says, else [`DEFAULT_IMAGE`].
pub(super) fn image_name(asked: Option<&str>) -> String {
    let set = || std::env::var(IMAGE_VARIABLE).ok().filter(|name| !name.is_empty());
    asked.map(str::to_owned).or_else(set).unwrap_or_else(|| DEFAULT_IMAGE.to_owned())
}

pub(super) async fn connect() -> Result<Docker, ExternalError> {
    let failed = |e: Error| ExternalError::Engine { reason: words(&e), mend: MEND.to_owned() };
    let engine = Docker::connect_with_defaults().map_err(failed)?;
    // Its answer to the first question: which version of the API it speaks.
    let limit = Timeouts::default().get("external-service-ready");
    match tokio::time::timeout(limit, engine.negotiate_version()).await {
        Ok(engine) => engine.map_err(failed),
        Err(_) => Err(ExternalError::Engine {
            reason: format!("it does not answer within {limit:?}"),
            mend: MEND.to_owned(),
        }),
    }
}

/// An error with all that caused it: the library's own text leaves the cause out.
pub(super) fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    bounded(&text, MAX_WORDS)
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

fn image_failed(name: &str, reason: &str) -> ExternalError {
    ExternalError::Start { service: format!("nginx of the image {name}"), reason: bounded(reason, MAX_WORDS) }
}

/// The image of this name; none where it is not here.
async fn find_image(engine: &Docker, name: &str) -> Result<Option<Image>, ExternalError> {
    match engine.inspect_image(name).await {
        Ok(found) => {
            let id = found.id.ok_or_else(|| image_failed(name, "the engine does not say its id"))?;
            let digest = found.repo_digests.unwrap_or_default().into_iter().next();
            Ok(Some(Image { digest: digest.unwrap_or_else(|| id.clone()), id }))
        }
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(image_failed(name, &words(&e))),
    }
}

/// The image of this name.
///
/// # Errors
/// It is not here: nothing is fetched.
pub(super) async fn image(engine: &Docker, name: &str) -> Result<Image, ExternalError> {
    find_image(engine, name).await?.ok_or_else(|| ExternalError::Image {
        name: name.to_owned(),
        mend: format!("fetch it (docker pull {name}), or name another with {IMAGE_VARIABLE}"),
    })
}

/// Whether containers can be started: an engine answers, and the image is here. Nothing is fetched. `image`: as for
/// [`super::start_nginx_container`].
///
/// # Errors
/// What is missing. The message names the mend.
pub async fn check_container(image: Option<&str>) -> Result<(), ExternalError> {
    self::image(&connect().await?, &image_name(image)).await.map(|_| ())
}

/// Makes sure that containers can be started: an engine answers, and the image is here. Fetches it where it is not.
///
/// # Errors
/// No engine answers, or the image cannot be had. The message names the mend.
pub async fn prepare_container(image: Option<&str>, timeouts: &Timeouts) -> Result<(), ExternalError> {
    let name = image_name(image);
    let engine = connect().await?;
    if find_image(&engine, &name).await?.is_some() {
        return Ok(());
    }
    let missing = |reason: &str| ExternalError::Image {
        name: name.clone(),
        mend: format!(
            "it cannot be fetched ({}); name one that is with {IMAGE_VARIABLE}, or do without it: --external nginx or \
             --external embedded",
            bounded(reason, MAX_WORDS)
        ),
    };
    let limit = timeouts.get("image-fetched");
    let options = CreateImageOptionsBuilder::default().from_image(&name).build();
    let fetching = engine.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) });
    match tokio::time::timeout(limit, fetching).await {
        Ok(fetched) => fetched.map_err(|e| missing(&words(&e))),
        Err(_) => Err(missing(&format!("image-fetched: not within {limit:?}"))),
    }
}

/// The version of the image's nginx: it is asked once.
pub(super) async fn version_of(
    engine: &Docker,
    image: &Image,
    run: &str,
    folder: &Path,
) -> Result<Version, ExternalError> {
    static KNOWN: Mutex<BTreeMap<String, Version>> = Mutex::const_new(BTreeMap::new());
    let mut known = KNOWN.lock().await;
    if let Some(version) = known.get(&image.id) {
        return Ok(*version);
    }
    let failed = |reason: &str| image_failed(&image.digest, reason);
    let body = ContainerCreateBody {
        entrypoint: Some(vec!["nginx".to_owned()]),
        cmd: Some(vec!["-v".to_owned()]),
        network_disabled: Some(true),
        ..ContainerCreateBody::default()
    };
    let wanted = Wanted { image: image.id.clone(), run: run.to_owned(), folder: folder.to_owned(), body };
    let container = Container::start(engine, wanted).await.map_err(|e| failed(&e))?;
    // It ends by itself; that it has ended badly, its words tell.
    let limit = Timeouts::default().get("external-service-ready");
    let mut ended = pin!(engine.wait_container(container.id(), None));
    if tokio::time::timeout(limit, ended.next()).await.is_err() {
        return Err(failed("`nginx -v` does not end"));
    }
    let said = container.words().await;
    container.remove().await.map_err(|e| failed(&e))?;
    let version = read_version(&said).ok_or_else(|| failed(&format!("`nginx -v` says {said:?}")))?;
    known.insert(image.id.clone(), version);
    Ok(version)
}

/// Whether the engine's root is this user: then what its root writes is this user's, and nobody else's is.
pub(super) async fn is_rootless(engine: &Docker) -> Result<bool, ExternalError> {
    let info = engine
        .info()
        .await
        .map_err(|e| ExternalError::Engine { reason: words(&e), mend: MEND.to_owned() })?;
    Ok(info.security_options.unwrap_or_default().iter().any(|option| option.contains("rootless")))
}

/// A container. It is removed when this is dropped.
pub(super) struct Container {
    engine: Docker,
    id: Option<String>,
}

impl Container {
    /// Makes and starts one. Also when nobody waits for it any more: then it is removed at once.
    pub(super) async fn start(engine: &Docker, wanted: Wanted) -> Result<Self, String> {
        let engine = engine.clone();
        let starting = tokio::spawn(async move {
            let labels = HashMap::from([
                (RUN.to_owned(), wanted.run.clone()),
                (FOLDER.to_owned(), wanted.folder.display().to_string()),
            ]);
            let body = ContainerCreateBody { image: Some(wanted.image), labels: Some(labels), ..wanted.body };
            let options = CreateContainerOptionsBuilder::default().build();
            let made = engine.create_container(Some(options), body).await.map_err(|e| words(&e))?;
            let container = Self { engine, id: Some(made.id) };
            container.engine.start_container(container.id(), None).await.map_err(|e| words(&e))?;
            Ok(container)
        });
        starting.await.map_err(|e| e.to_string())?
    }

    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    pub(super) async fn inspect(&self) -> Result<ContainerInspectResponse, String> {
        self.engine.inspect_container(self.id(), None).await.map_err(|e| words(&e))
    }

    /// The last of what it wrote to its standard error and output.
    pub(super) async fn words(&self) -> String {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail("20").build();
        let said: Vec<LogOutput> =
            self.engine.logs(self.id(), Some(options)).try_collect().await.unwrap_or_default();
        let said: String = said.iter().map(ToString::to_string).collect();
        bounded(said.trim(), MAX_WORDS)
    }

    /// Ends and removes it.
    pub(super) async fn remove(mut self) -> Result<(), String> {
        let Some(id) = self.id.take() else { return Ok(()) };
        remove(&self.engine, &id).await
    }
}

async fn remove(engine: &Docker, id: &str) -> Result<(), String> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match engine.remove_container(id, Some(options)).await {
        Err(e) if !is_absent(&e) => Err(words(&e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        // The runtime that this was started on may be about to end.
        let last_resort = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // What is left all the same is found by its labels.
            let _left_for_cleanup = runtime.map(|runtime| {
                runtime.block_on(async {
                    let engine = connect().await.map_err(|e| e.to_string())?;
                    remove(&engine, &id).await
                })
            });
        });
        let _nobody_to_tell = last_resort.join();
    }
}

/// A container whose run is over.
#[derive(Debug)]
pub struct LeftContainer {
    id: String,
    run: String,
}

/// The containers of runs whose process is gone. None where no engine answers.
///
/// # Errors
/// The engine does not list its containers.
pub async fn left_containers() -> io::Result<Vec<LeftContainer>> {
    let Ok(engine) = connect().await else { return Ok(Vec::new()) };
    let filters = HashMap::from([("label", vec![RUN])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let all = engine.list_containers(Some(options)).await.map_err(|e| io::Error::other(words(&e)))?;
    let left = |labels: &HashMap<String, String>| {
        labels.get(FOLDER).is_none_or(|folder| !run_folder::is_in_use(Path::new(folder)))
    };
    Ok(all
        .into_iter()
        .filter_map(|container| {
            let labels = container.labels?;
            let run = labels.get(RUN)?.clone();
            left(&labels).then_some(LeftContainer { id: container.id?, run })
        })
        .collect())
}

impl LeftContainer {
    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("container {:.12} of run {}", self.id, self.run)
    }

    /// Ends and removes it.
    ///
    /// # Errors
    /// The engine does not do it.
    pub async fn remove(&self) -> io::Result<()> {
        let engine = connect().await.map_err(io::Error::other)?;
        remove(&engine, &self.id).await.map_err(io::Error::other)
    }
}
