//! The target `cluster`: whatever speaks Istio's API in a Kubernetes cluster, reached through the cluster's own API.

pub mod api;
pub mod discovery;
pub mod owned;
pub mod settings;

pub use settings::{Gateways, IMAGES, Settings};
