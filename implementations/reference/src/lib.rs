//! The reference data plane: carries out a plan in this process, on hyper and rustls, so that the suite runs with
//! nothing installed; and its saboteurs, which break it on purpose in one named way each.
//!
//! It is no proxy for anybody's traffic. Where a plan leaves room, it does what Envoy does under Istio's configuration,
//! because that is what the documents show.

mod body;
mod failure;
mod http;
mod io;
mod listen;
mod log;
mod plane;
mod pool;
mod registry;
mod routes;
mod saboteurs;
mod sniff;
mod state;
mod tasks;
mod tcp;
mod tls;

use std::collections::BTreeMap;

use async_trait::async_trait;
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::resource::Resource;
use meshproof_model::Implementation;
use meshproof_plan::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory};

pub use saboteurs::{Saboteur, UnknownSaboteur};

/// Makes reference data planes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference {
    saboteur: Option<Saboteur>,
}

impl Reference {
    /// The reference as it should be.
    #[must_use]
    pub const fn new() -> Self {
        Self { saboteur: None }
    }

    /// The reference, broken in one way.
    #[must_use]
    pub const fn sabotaged(saboteur: Saboteur) -> Self {
        Self { saboteur: Some(saboteur) }
    }
}

#[async_trait]
impl DataPlaneFactory for Reference {
    async fn identify(&self) -> Result<Implementation, DataPlaneError> {
        Ok(Implementation {
            name: "meshproof reference".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: "reference".to_owned(),
            features: FEATURES.iter().map(|&f| f.to_owned()).collect(),
            details: self
                .saboteur
                .map(|s| BTreeMap::from([("saboteur".to_owned(), s.name().to_owned())]))
                .unwrap_or_default(),
        })
    }

    fn misread(&self, resources: &mut Vec<Resource>) {
        if let Some(saboteur) = self.saboteur {
            saboteurs::resources::misread(saboteur, resources);
        }
    }

    fn spoil_external(&self, spec: &mut ExternalSpec) {
        if let Some(saboteur) = self.saboteur {
            saboteurs::external::spoil(saboteur, spec);
        }
    }

    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        Ok(Box::new(plane::Plane::new(boot, self.saboteur)))
    }
}

/// The features that the reference declares: all.
pub const FEATURES: &[&str] = meshproof_harness::feature::NAMES;
