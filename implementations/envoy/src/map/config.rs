//! The configuration that one Envoy gets after its start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use meshproof_plan::model::Direction;
use serde_json::Value;

/// Everything that one Envoy gets after its start. Most of it stays the same from one configuration to the
/// next, and is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProxyConfig {
    /// By name.
    pub(crate) clusters: BTreeMap<String, ClusterConfig>,
    /// By name.
    pub(crate) listeners: BTreeMap<String, ListenerConfig>,
    /// By name.
    pub(crate) routes: BTreeMap<String, RouteConfig>,
}

/// A cluster. A rotated credential comes over SDS and leaves the cluster's own configuration unchanged, as in
/// a mesh (Istio, pilot/pkg/security/model/authentication.go, `ConstructSdsSecretConfigForCredential`), so
/// open connections stay.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterConfig {
    /// The versions of the credentials that the cluster uses, by their names.
    pub(crate) credentials: BTreeMap<String, String>,
    pub(crate) value: Arc<Value>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenerConfig {
    /// The versions of the credentials that the listener uses, by their names.
    pub(crate) credentials: BTreeMap<String, String>,
    pub(crate) bind: SocketAddr,
    pub(crate) direction: Direction,
    pub(crate) value: Arc<Value>,
}

/// A route configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteConfig {
    pub(crate) direction: Direction,
    pub(crate) value: Arc<Value>,
}
