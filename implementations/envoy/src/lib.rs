//! The target `envoy`: carries out plans with Envoy processes on this machine, one per proxy, configured as
//! istiod would configure them.
//!
//! A process is started once per scenario and never restarted: clusters, listeners, routes and secrets reach
//! it through its dynamic configuration (CDS, LDS, RDS, SDS over watched files). Envoy's statistics show
//! which configuration is in force. A request to the flush marker, a listener of the suite's own whose log
//! line comes after all others, shows that the log is complete. So neither applying nor settling depends on a
//! fixed delay.

mod backoff;
mod data_plane;
mod files;
mod http_client;
mod map;
mod mutation;
mod output;
mod process;
mod program;
mod proxy;
mod pushed;
mod secret_files;
mod secrets_dump;
mod startup;
mod stats;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::feature::Feature;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory};
use meshproof_model::Implementation;
use tokio::sync::OnceCell;

use program::Program;

pub use mutation::{Mutation, UnknownMutation};
pub use program::{VARIABLE, find};

/// Starts data planes that consist of Envoy processes.
#[derive(Clone, Debug, Default)]
pub struct Envoy {
    path: Option<PathBuf>,
    mutation: Option<Mutation>,
    /// The binary is probed once, however many scenarios run.
    program: Arc<OnceCell<Program>>,
}

impl Envoy {
    /// Uses this binary; without one, that which [`find`] returns.
    #[must_use]
    pub fn new(program: Option<PathBuf>) -> Self {
        Self { path: program, ..Self::default() }
    }

    /// Uses this binary and breaks the configuration in one way.
    #[must_use]
    pub fn mutated(program: Option<PathBuf>, mutation: Mutation) -> Self {
        Self { path: program, mutation: Some(mutation), ..Self::default() }
    }

    async fn program(&self) -> Result<&Program, DataPlaneError> {
        self.program.get_or_try_init(|| async { Program::probe(find(self.path.as_deref())?).await }).await
    }
}

#[async_trait]
impl DataPlaneFactory for Envoy {
    async fn identify(&self) -> Result<Implementation, DataPlaneError> {
        let program = self.program().await?;
        let mut details = self.mutation.map(Mutation::details).unwrap_or_default();
        details.insert("build".to_owned(), program.version.build.clone());
        details.insert("program".to_owned(), program.path.display().to_string());
        Ok(Implementation {
            name: "Envoy".to_owned(),
            version: program.version.number.clone(),
            target: "envoy".to_owned(),
            features: FEATURES.iter().copied().map(Into::into).collect(),
            details,
        })
    }

    /// Each proxy is a process that takes an inotify instance for each of its configuration files, and Linux gives a user 128 by default
    /// (`fs.inotify.max_user_instances`).
    fn side_by_side(&self) -> Option<usize> {
        Some(6)
    }

    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        let program = self.program().await?;
        Ok(Box::new(data_plane::EnvoyDataPlane::start(program, &boot, self.mutation).await?))
    }
}

/// The features that Envoy declares: all of them.
pub const FEATURES: &[Feature] = Feature::ALL;
