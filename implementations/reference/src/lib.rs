//! The reference data plane: carries out a plan in this process, on hyper and rustls, so that the suite runs
//! with nothing installed.
//!
//! It is not a proxy for production traffic. Where a plan leaves something open, it does what Envoy does
//! under Istio's configuration, because that is what the documents show.
//!
//! The data plane calls [`hooks`] at named points. [`variants`] implement them: saboteurs break one thing
//! each, to prove that a check can fail; benign variants are correct but unusual.

mod access_log;
mod activity;
mod config;
mod connect;
mod connections;
mod failure;
mod hooks;
mod http;
mod io;
mod listen;
mod log_entry;
mod origination;
mod plane;
mod pool;
mod proxy;
mod request_body;
mod response_body;
mod routes;
mod shared;
mod sniff;
mod tasks;
mod tcp;
mod termination;
mod tls;
mod upstream;
mod variants;
mod weights;

use std::collections::BTreeMap;

use async_trait::async_trait;
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::feature::Feature;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory};
use meshproof_model::Implementation;
use meshproof_model::Resource;

pub use variants::{Placement, UnknownVariant, Variant, VariantKind};

/// Makes reference data planes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference {
    variant: Option<Variant>,
}

impl Reference {
    /// The honest reference.
    #[must_use]
    pub const fn new() -> Self {
        Self { variant: None }
    }

    /// A variant of the reference.
    #[must_use]
    pub const fn varied(variant: Variant) -> Self {
        Self { variant: Some(variant) }
    }
}

#[async_trait]
impl DataPlaneFactory for Reference {
    async fn identify(&self) -> Result<Implementation, DataPlaneError> {
        let detail = |variant: Variant| {
            let kind = match variant.kind() {
                VariantKind::Saboteur => "saboteur",
                VariantKind::Benign => "benign variant",
            };
            BTreeMap::from([(kind.to_owned(), variant.name().to_owned())])
        };
        Ok(Implementation {
            name: "meshproof reference".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: "reference".to_owned(),
            features: FEATURES.iter().copied().map(Into::into).collect(),
            details: self.variant.map(detail).unwrap_or_default(),
        })
    }

    fn misread(&self, resources: &mut Vec<Resource>) {
        variants::hooks(self.variant).resources(resources);
    }

    fn spoil_external(&self, spec: &mut ExternalSpec) {
        variants::hooks(self.variant).external_service(spec);
    }

    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        Ok(Box::new(plane::ReferencePlane::new(boot, variants::hooks(self.variant))))
    }
}

/// The features that the reference declares: all.
pub const FEATURES: &[Feature] = Feature::ALL;
