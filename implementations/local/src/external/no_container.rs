//! In place of nginx in a container where the suite was built without the feature `container`: whoever asks for one is told
//! how to get it.

use std::path::Path;

use super::{ExternalError, RunningService};
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;

/// There is none in this build.
#[derive(Debug)]
pub enum LeftContainer {}

impl LeftContainer {
    /// Which it is.
    #[must_use]
    pub fn describe(&self) -> String {
        match *self {}
    }

    /// Removes it.
    ///
    /// # Errors
    /// Never called.
    pub async fn remove(&self) -> std::io::Result<()> {
        match *self {}
    }
}

/// None: this build starts no container, and cannot ask for those of another.
///
/// # Errors
/// Never.
pub async fn left_containers() -> std::io::Result<Vec<LeftContainer>> {
    Ok(Vec::new())
}

/// Whether containers can be started.
///
/// # Errors
/// Always: [`ExternalError::NotBuilt`].
pub async fn check_container(_image: Option<&str>) -> Result<(), ExternalError> {
    Err(ExternalError::NotBuilt)
}

/// Makes sure that containers can be started.
///
/// # Errors
/// Always: [`ExternalError::NotBuilt`].
pub async fn prepare_container(_image: Option<&str>, _timeouts: &Timeouts) -> Result<(), ExternalError> {
    Err(ExternalError::NotBuilt)
}

/// Starts nginx in a container.
///
/// # Errors
/// Always: [`ExternalError::NotBuilt`].
pub async fn start_nginx_container(
    _spec: ExternalSpec,
    _store: Store,
    _folder: &Path,
    _run: &str,
    _image: Option<&str>,
) -> Result<Box<dyn RunningService>, ExternalError> {
    Err(ExternalError::NotBuilt)
}
