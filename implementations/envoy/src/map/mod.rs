//! A proxy's plan as Envoy's configuration. Pure: nothing here looks at a process or a clock.
//!
//! It follows what istiod generates (pilot/pkg/networking/core); where the plan differs from a cluster, because nothing
//! redirects packets on one machine, the difference is said at its place.

pub(crate) mod bootstrap;
pub(crate) mod bridge;
mod clusters;
mod listeners;
mod routes;
pub(crate) mod secrets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use meshproof_local::data_plane::DataPlaneError;
use meshproof_plan::model::{Cluster, Direction, Discovery, ProxyPlan};
use serde_json::{Value, json};

use secrets::Held;

/// Everything that one Envoy is told after its start. On the way from one to the next most of it stays as it is, and is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Config {
    /// By name.
    pub(crate) clusters: BTreeMap<String, Leading>,
    /// By name.
    pub(crate) listeners: BTreeMap<String, Listening>,
    /// Route configurations, by name.
    pub(crate) routes: BTreeMap<String, Routing>,
}

/// A cluster. A credential that is rotated comes over SDS and leaves what Envoy is told of the cluster as it is, as in a mesh (Istio,
/// pilot/pkg/security/model/authentication.go, `ConstructSdsSecretConfigForCredential`): connections that are open stay.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leading {
    /// The versions of the credentials that it uses, by their names.
    pub(crate) credentials: BTreeMap<String, String>,
    pub(crate) value: Arc<Value>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listening {
    pub(crate) bind: SocketAddr,
    pub(crate) direction: Direction,
    pub(crate) value: Arc<Value>,
}

/// A route configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Routing {
    pub(crate) direction: Direction,
    pub(crate) value: Arc<Value>,
}

/// What the mapping needs to know beside the plan.
pub(crate) struct Surroundings<'a> {
    /// The proxy's folder, where its dynamic configuration lies.
    pub(crate) folder: &'a Path,
    /// What is held of each secret that the plan uses, by Istio's name for it.
    pub(crate) secrets: &'a BTreeMap<String, Held>,
}

impl Config {
    /// The configuration that carries out a plan.
    ///
    /// # Errors
    /// [`DataPlaneError::Unable`]: Envoy has no word for something in the plan.
    pub(crate) fn of(plan: &ProxyPlan, around: &Surroundings<'_>) -> Result<Self, DataPlaneError> {
        let mut config = Self::default();
        for cluster in &plan.clusters {
            config.clusters.insert(cluster.name.clone(), clusters::cluster(cluster, around));
        }
        for listener in &plan.listeners {
            let (name, value) = listeners::listener(listener, plan, around, &mut config.routes)?;
            let listening =
                Listening { bind: listener.bind, direction: listener.direction, value: Arc::new(value) };
            config.listeners.insert(name, listening);
        }
        Ok(config)
    }
}

/// Where an Envoy finds one kind of configuration: a file that is replaced as a whole.
fn source(path: &Path) -> Value {
    json!({"path_config_source": {"path": path.display().to_string()}, "resource_api_version": "V3"})
}

/// The file of one route configuration. Names hold characters that file names must not.
pub(crate) fn file_name(kind: &str, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
        .collect();
    // Two names that become one are told apart by what they were.
    let sum =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let short: String = plain.chars().take(80).collect();
    format!("{kind}-{short}-{sum:016x}.json")
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

/// The places that a cluster may lead to by what the client asked for; none where it does not depend on that.
fn by_host(cluster: &Cluster, port: u16) -> Option<Vec<(String, SocketAddr)>> {
    match &cluster.discovery {
        Discovery::OriginalDestination(all) => {
            let mut places: Vec<(String, SocketAddr)> = Vec::new();
            for place in all.iter().filter(|d| d.port == port) {
                let host = place.host.to_ascii_lowercase();
                // Of two for one host the first counts.
                if !places.iter().any(|(h, _)| *h == host) {
                    places.push((host, place.address));
                }
            }
            Some(places)
        }
        Discovery::Endpoints(_) | Discovery::Nowhere => None,
    }
}

/// What an endpoint of a cluster by original destination is chosen by (`envoy.lb` subset metadata).
fn destination(at: &str) -> Value {
    json!({"filter_metadata": {"envoy.lb": {"destination": at}}})
}

/// The endpoint for a host that leads nowhere.
const UNRESOLVED: &str = "unresolved";

#[cfg(test)]
mod tests;
