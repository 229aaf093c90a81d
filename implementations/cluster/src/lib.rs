//! The target `cluster`: any mesh in a Kubernetes cluster that speaks the Istio API, reached through the
//! cluster's own API.

pub mod access_logs;
pub mod api;
pub mod cleanup;
pub mod curl;
pub mod discovery;
pub mod doctor;
pub mod dump;
pub mod identify;
pub mod in_force;
pub mod instance;
pub mod inventory;
pub mod manifests;
mod nodes;
pub mod noted;
pub mod owned;
pub mod permissions;
pub mod places;
mod pod;
pub mod pull_secrets;
pub mod relocate;
pub mod settings;
mod target;
mod version;
pub mod whole_mesh;

pub use settings::{Gateways, IMAGES, SUITE, Settings};
pub use target::{ClusterTarget, doctor as examine_cluster, doctor_of_reading, read_in_force};
