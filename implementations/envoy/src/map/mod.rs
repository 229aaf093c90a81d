//! Maps a proxy's plan to Envoy's configuration. Pure: no part of it looks at a process or a clock.
//!
//! The mapping follows what istiod generates (pilot/pkg/networking/core). Where the plan differs from a
//! cluster, because nothing redirects packets on one machine, a comment at that place says so.

pub(crate) mod bootstrap;
pub(crate) mod bridge;
mod clusters;
mod common;
mod config;
mod listeners;
mod routes;
pub(crate) mod secrets;

use std::sync::Arc;

use meshproof_local::data_plane::DataPlaneError;
use meshproof_plan::model::ProxyPlan;

pub(crate) use common::{MappingContext, file_name};
pub(crate) use config::{ListenerConfig, ProxyConfig};

impl ProxyConfig {
    /// The configuration that carries out a plan.
    ///
    /// # Errors
    /// [`DataPlaneError::Unable`]: Envoy has no configuration for something in the plan.
    pub(crate) fn of(plan: &ProxyPlan, context: &MappingContext<'_>) -> Result<Self, DataPlaneError> {
        let mut config = Self::default();
        for cluster in &plan.clusters {
            config.clusters.insert(cluster.name.clone(), clusters::cluster(cluster, context));
        }
        for listener in &plan.listeners {
            let (name, value) = listeners::listener(listener, plan, context, &mut config.routes)?;
            let credentials = listeners::credentials(listener, context);
            let (bind, direction) = (listener.bind, listener.direction);
            let listener = ListenerConfig { credentials, bind, direction, value: Arc::new(value) };
            config.listeners.insert(name, listener);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
