//! What the parts of the mapping have in common.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use meshproof_plan::model::{Cluster, Discovery};
use serde_json::{Value, json};

use super::secrets::SecretFile;

/// What the mapping needs to know in addition to the plan.
pub(crate) struct MappingContext<'a> {
    /// The proxy's folder, which holds its dynamic configuration.
    pub(crate) folder: &'a Path,
    /// The file of each secret that the plan uses, by Istio's name for the secret.
    pub(crate) secrets: &'a BTreeMap<String, SecretFile>,
}

/// The configuration source for one kind of resource: a file that is replaced as a whole.
pub(super) fn source(path: &Path) -> Value {
    json!({"path_config_source": {"path": path.display().to_string()}, "resource_api_version": "V3"})
}

/// A file name for a resource, whose own name may contain characters that a file name must not.
pub(crate) fn file_name(kind: &str, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
        .collect();
    // The hash (FNV-1a) separates names that become equal here.
    let sum =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let short: String = plain.chars().take(80).collect();
    format!("{kind}-{short}-{sum:016x}.json")
}

pub(super) fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

/// Where a cluster leads, by the host that the client requested; none where the host does not matter.
pub(super) fn by_host(cluster: &Cluster, port: u16) -> Option<Vec<(String, SocketAddr)>> {
    match &cluster.discovery {
        Discovery::OriginalDestination(all) => {
            let mut places: Vec<(String, SocketAddr)> = Vec::new();
            for place in all.iter().filter(|d| d.port == port) {
                let host = place.host.to_ascii_lowercase();
                // The first entry for a host counts.
                if !places.iter().any(|(h, _)| *h == host) {
                    places.push((host, place.address));
                }
            }
            Some(places)
        }
        Discovery::Endpoints(_) | Discovery::Nowhere => None,
    }
}

/// The metadata that selects an endpoint of a cluster by original destination (`envoy.lb` subset).
pub(super) fn destination(at: &str) -> Value {
    json!({"filter_metadata": {"envoy.lb": {"destination": at}}})
}

/// The endpoint for a host without an address.
pub(super) const UNRESOLVED: &str = "unresolved";
