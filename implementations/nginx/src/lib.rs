//! nginx as an external service, wherever it runs: the configuration that it is given and how its logs become evidence.
//! Local targets start it as a process or in a container, the cluster target in a pod.

pub mod config;
pub mod log;
mod pod;

pub use pod::{POD_CONTROL, POD_FOLDER, PodFiles, PodLine, PodLog, PodService};
