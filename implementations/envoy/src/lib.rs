//! The target `envoy`: plans carried out by Envoy processes on this machine, one a proxy, configured as istiod would
//! configure them.
//!
//! A process is started once for a scenario and never again: clusters, listeners, routes and secrets reach it through its
//! own dynamic configuration (CDS, LDS, RDS, SDS over watched files). What is in force is known from Envoy's statistics,
//! and that a log is complete from a fence, a listener of the suite's own whose line comes after all others; so neither
//! applying nor settling guesses at a time.

mod admin;
mod files;
mod map;
mod mutation;
mod pauses;
mod plane;
mod process;
mod program;
mod proxy;
mod secrets_dump;
mod startup;
mod stats;
mod told;
mod vault;

use meshproof_harness::feature::Feature;
use std::path::PathBuf;

use async_trait::async_trait;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory};
use meshproof_model::Implementation;

pub use mutation::{Mutation, UnknownMutation};
pub use program::{VARIABLE, find};

/// Makes data planes of Envoy processes.
#[derive(Clone, Debug, Default)]
pub struct Envoy {
    program: Option<PathBuf>,
    mutation: Option<Mutation>,
}

impl Envoy {
    /// With this binary; none: see [`find`].
    #[must_use]
    pub const fn new(program: Option<PathBuf>) -> Self {
        Self { program, mutation: None }
    }

    /// The same, told something else than the plan in one way.
    #[must_use]
    pub const fn mutated(program: Option<PathBuf>, mutation: Mutation) -> Self {
        Self { program, mutation: Some(mutation) }
    }
}

#[async_trait]
impl DataPlaneFactory for Envoy {
    async fn identify(&self) -> Result<Implementation, DataPlaneError> {
        let program = find(self.program.as_deref())?;
        let version = program::version(&program).await?;
        let mut details = self.mutation.map(Mutation::details).unwrap_or_default();
        details.insert("build".to_owned(), version.build);
        details.insert("program".to_owned(), program.display().to_string());
        Ok(Implementation {
            name: "Envoy".to_owned(),
            version: version.number,
            target: "envoy".to_owned(),
            features: FEATURES.to_vec(),
            details,
        })
    }

    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        let program = find(self.program.as_deref())?;
        Ok(Box::new(plane::Plane::start(&program, &boot, self.mutation).await?))
    }
}

/// The features that Envoy declares: all that there are.
pub const FEATURES: &[Feature] = Feature::ALL;
