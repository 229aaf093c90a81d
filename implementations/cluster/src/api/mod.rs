//! The Kubernetes API as the target uses it: kube's own `Api`, discovery, exec, port forwarding and logs,
//! over a transport that bounds every answer in size and time and repeats what may be repeated, and with
//! errors that say who is to blame and what to do.

mod client;
mod connect;
mod error;
mod exec;
mod forward;
pub mod kinds;
mod logs;
pub mod served;
mod stream;
pub(crate) mod summary;
mod transport;
mod watch;

pub use client::{ClusterClient, PodRef};
pub use error::ApiError;
pub use exec::{ExecLimits, ExecOutput};
pub use kinds::ObjectKind;
pub use logs::{LogEnd, LogFollower};
pub use served::ServedVersions;
pub use stream::ProgramStream;
pub use watch::Awaited;
