//! Takes the place of nginx in a container if the suite was built without the feature `container`: every function says how
//! to build the suite with it.

use std::path::Path;

use super::service::{ExternalError, RunningService};
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;

/// A container whose run is over. Without the feature there is none.
#[derive(Debug)]
pub enum LeftContainer {}

impl LeftContainer {
    /// Which container this is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match *self {}
    }

    /// Stops and removes it.
    ///
    /// # Errors
    /// Never called.
    pub async fn remove(&self) -> std::io::Result<()> {
        match *self {}
    }
}

/// Always empty: this build starts no containers, and cannot ask the engine for those of another build.
///
/// # Errors
/// Never.
pub async fn left_containers(_timeouts: &Timeouts) -> std::io::Result<Vec<LeftContainer>> {
    Ok(Vec::new())
}

/// Checks that containers can be started.
///
/// # Errors
/// Always: [`ExternalError::NotBuilt`].
pub async fn check_container(_image: Option<&str>, _timeouts: &Timeouts) -> Result<(), ExternalError> {
    Err(ExternalError::NotBuilt)
}

/// Makes sure that containers can be started.
///
/// # Errors
/// Always: [`ExternalError::NotBuilt`].
pub async fn prepare_container(_image: Option<&str>, _timeouts: &Timeouts) -> Result<(), ExternalError> {
    Err(ExternalError::NotBuilt)
}

/// Waits until every container that was dropped is removed. Without the feature there is none.
///
/// # Errors
/// Never.
pub async fn removals_done(_timeouts: &Timeouts) -> Result<(), ExternalError> {
    Ok(())
}

/// Starts nginx in a container.
///
/// # Errors
/// Always: [`ExternalError::NotBuilt`].
pub async fn start_nginx_container(
    _spec: ExternalSpec,
    _store: Store,
    _timeouts: &Timeouts,
    _folder: &Path,
    _run: &str,
    _image: Option<&str>,
) -> Result<Box<dyn RunningService>, ExternalError> {
    Err(ExternalError::NotBuilt)
}
