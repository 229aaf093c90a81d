//! The target `cluster`: whatever speaks Istio's API in a Kubernetes cluster, reached through the cluster's own API.

pub mod api;
pub mod curl;
pub mod discovery;
pub mod dump;
pub mod manifests;
pub mod owned;
pub mod places;
pub mod relocate;
pub mod settings;

pub use settings::{Gateways, IMAGES, Settings};
