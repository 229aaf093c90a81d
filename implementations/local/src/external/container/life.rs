//! The life of one container: testcontainers starts it, reads its output and removes it.
//!
//! testcontainers removes a container when its handle is dropped, and blocks the thread that drops it until the engine has
//! answered. Such a thread would often be one of the async runtime's. So this handle gives the container to a thread of
//! its own when it is dropped, and [`removals_done`] waits for those threads.

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::core::error::{ClientError, WaitContainerError};
use testcontainers::core::logs::WaitLogError;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt, TestcontainersError};
use tokio::io::AsyncReadExt;
use tokio_util::task::TaskTracker;

use super::engine::{FOLDER_LABEL, RUN_LABEL, UNIQUE_LABEL, error_text, remove_unstarted};
use crate::external::service::ExternalError;
use meshproof_harness::store::bounded;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_nginx::config::Folder;

/// How much of a container's output is read for an error.
const MAX_OUTPUT: u64 = 64 * 1024;
/// How much of it goes into the error.
const MAX_QUOTED: usize = 2000;

/// Counts the containers that are being removed after they were dropped.
static REMOVALS: LazyLock<TaskTracker> = LazyLock::new(|| {
    let tracker = TaskTracker::new();
    // A closed tracker still counts; only then can one wait for it.
    tracker.close();
    tracker
});

/// A started container, and the folder that is mounted in it. Both are removed when this is dropped: first the container,
/// then the folder.
pub(super) struct StartedContainer(Option<Owned>);

/// Dropped in this order.
struct Owned {
    container: ContainerAsync<GenericImage>,
    folder: Option<Folder>,
}

impl StartedContainer {
    /// Makes and starts a container, and waits for the request's conditions. If the caller no longer waits, or if a condition
    /// does not come about, the container is removed again.
    pub(super) async fn start(
        request: ContainerRequest<GenericImage>,
        run: &str,
        works_in: &Path,
        folder: Option<Folder>,
    ) -> Result<Self, StartFailure> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let unique = format!("{run}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let request = request
            .with_label(RUN_LABEL, run)
            .with_label(FOLDER_LABEL, works_in.display().to_string())
            .with_label(UNIQUE_LABEL, &unique);
        // In a task of its own: a start that is given up halfway would leave a container that has no handle. On a thread for
        // blocking work: testcontainers drops, and so blocks, when a condition does not come about.
        let runtime = tokio::runtime::Handle::current();
        let starting = tokio::task::spawn_blocking(move || {
            runtime.block_on(async move {
                match request.start().await {
                    Ok(container) => Ok(Self(Some(Owned { container, folder }))),
                    Err(error) => {
                        let failure = StartFailure::new(&error, folder);
                        // If this fails too, its labels still tell `meshproof cleanup` what is left.
                        let _found_by_its_labels = remove_unstarted(&unique).await;
                        Err(failure)
                    }
                }
            })
        });
        starting.await.unwrap_or_else(|e| Err(StartFailure { reason: e.to_string(), folder: None }))
    }

    fn container(&self) -> Result<&ContainerAsync<GenericImage>, String> {
        self.0.as_ref().map(|owned| &owned.container).ok_or_else(|| "it was removed".to_owned())
    }

    /// The port on loopback by which the engine makes this port of the container reachable; none if it publishes none.
    pub(super) async fn published(&self, port: u16) -> Result<Option<u16>, String> {
        let ports = self.container()?.ports().await.map_err(|e| error_text(&e))?;
        Ok(ports.map_to_host_port_ipv4(port))
    }

    /// The exit code, once it has exited.
    pub(super) async fn exit_code(&self) -> Result<Option<i64>, String> {
        self.container()?.exit_code().await.map_err(|e| error_text(&e))
    }

    /// The end of what it wrote to standard error.
    pub(super) async fn error_output(&self) -> String {
        let Ok(container) = self.container() else { return String::new() };
        let mut output = Vec::new();
        let _as_much_as_there_is = container.stderr(false).take(MAX_OUTPUT).read_to_end(&mut output).await;
        quoted(&output)
    }

    /// Stops and removes it, and then its folder.
    pub(super) async fn remove(mut self) -> Result<(), String> {
        let Some(Owned { container, folder }) = self.0.take() else { return Ok(()) };
        // In a task of its own: a removal that is given up halfway would drop the handle.
        let removing = tokio::spawn(container.rm());
        match removing.await.map_err(|e| e.to_string())? {
            Err(e) if !is_absent(&e) => return Err(error_text(&e)),
            Ok(()) | Err(_) => {}
        }
        folder.map_or(Ok(()), |folder| {
            folder.remove().map_err(|e| format!("cannot remove {}: {e}", folder.path().display()))
        })
    }
}

fn is_absent(error: &TestcontainersError) -> bool {
    matches!(
        error,
        TestcontainersError::Client(ClientError::RemoveContainer(EngineError::DockerResponseServerError {
            status_code: 404,
            ..
        }))
    )
}

impl Drop for StartedContainer {
    fn drop(&mut self) {
        let Some(Owned { container, folder }) = self.0.take() else { return };
        let counted = REMOVALS.token();
        // A thread, because the runtime that this was started on may be about to end.
        std::thread::spawn(move || {
            let _counted = counted;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                // What is left nevertheless is found by its labels.
                Ok(runtime) => drop(runtime.block_on(container.rm())),
                // Its own way to remove itself needs a runtime, too.
                Err(_) => std::mem::forget(container),
            }
            drop(folder);
        });
    }
}

/// Waits until every container that was dropped is removed.
///
/// # Errors
/// The timeout `teardown` ran out. `meshproof cleanup` finds what is left.
pub async fn removals_done(timeouts: &Timeouts) -> Result<(), ExternalError> {
    let limit = timeouts.get(Timeout::Teardown);
    tokio::time::timeout(limit, REMOVALS.wait()).await.map_err(|_| ExternalError::Other {
        service: format!("{} containers of nginx", REMOVALS.len()),
        reason: format!(
            "teardown: the container engine has not removed them within {limit:?}; `meshproof cleanup` will"
        ),
    })
}

/// Why a container did not start, and its folder, in which its program's log may say more.
pub(super) struct StartFailure {
    pub(super) reason: String,
    pub(super) folder: Option<Folder>,
}

impl StartFailure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors, in its own words")]
    fn new(error: &TestcontainersError, folder: Option<Folder>) -> Self {
        let reason = match error {
            TestcontainersError::WaitContainer(WaitContainerError::WaitLog(WaitLogError::EndOfStream(
                output,
            ))) => format!("it exited: {}", quoted(&output.concat())),
            TestcontainersError::WaitContainer(WaitContainerError::StartupTimeout) => {
                "external-service-ready: it was not ready in time".to_owned()
            }
            other => error_text(other),
        };
        Self { reason, folder }
    }
}

/// The end of a program's output, for an error.
fn quoted(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let text = text.trim();
    let start = text.len().saturating_sub(MAX_QUOTED);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    bounded(&text[start..], MAX_QUOTED)
}
