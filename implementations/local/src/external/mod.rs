//! External services: the servers outside the mesh that TLS is originated to. One specification, several kinds of
//! server that carry it out: the embedded one on rustls, and a real nginx, as a process or in a container. All record
//! the same facts.

mod accepting;
#[cfg(feature = "container")]
mod container;
#[cfg(not(feature = "container"))]
#[path = "no_container.rs"]
mod container;
pub mod embedded;
mod nginx;

use std::net::SocketAddr;

use meshproof_model::ExternalService;

#[cfg(feature = "container")]
pub use container::{DEFAULT_IMAGE, IMAGE_VARIABLE};
pub use container::{
    LeftContainer, check_container, left_containers, prepare_container, start_nginx_container,
};
pub use embedded::start_embedded;
pub use nginx::{find_nginx, start_nginx};

/// Whether this build has nginx in a container (the feature `container`).
pub const CONTAINERS: bool = cfg!(feature = "container");

/// An external service that runs. Dropping it does not stop it; `stop` does.
#[async_trait::async_trait]
pub trait RunningService: Send + Sync {
    /// Kind and version, for the report.
    fn describe(&self) -> ExternalService;

    /// Where the documents' port (80, 443) leads on this machine; none where nobody listens.
    fn address(&self, port: u16) -> Option<SocketAddr>;

    /// Returns when every request that has been answered, and every connection that has been accepted and has ended, is in the
    /// store.
    ///
    /// # Errors
    /// The service died.
    async fn settle(&self) -> Result<(), ExternalError>;

    /// Stops listening and ends what is open. Nothing is left when it returns.
    ///
    /// # Errors
    /// Something could not be ended.
    async fn stop(&self) -> Result<(), ExternalError>;
}

/// What may go wrong with an external service. Always the environment's or the suite's fault.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// A program is missing.
    #[error("{program} is not installed or not on PATH: {mend}")]
    Missing {
        /// `nginx`.
        program: String,
        /// What to do about it.
        mend: String,
    },
    /// This build has no containers.
    #[error(
        "this meshproof was built without containers: build it with them (cargo run --release --features container -- run \
         --external container), or do without: --external nginx or --external embedded"
    )]
    NotBuilt,
    /// No container engine answers.
    #[error("no container engine (Docker or Podman) answers ({reason}): {mend}")]
    Engine {
        /// In the client library's words.
        reason: String,
        /// What to do about it.
        mend: String,
    },
    /// An image is missing.
    #[error("the container image {name} is not on this machine: {mend}")]
    Image {
        /// As it was asked for.
        name: String,
        /// What to do about it.
        mend: String,
    },
    /// It did not start.
    #[error("{service} did not start: {reason}")]
    Start {
        /// `nginx for my-nginx.mesh-external.svc.cluster.local`.
        service: String,
        /// With the program's own words.
        reason: String,
    },
    /// It ended on its own.
    #[error("{service} died: {reason}")]
    Died {
        /// Which.
        service: String,
        /// With the program's own words.
        reason: String,
    },
    /// Anything else.
    #[error("{service}: {reason}")]
    Other {
        /// Which.
        service: String,
        /// Why.
        reason: String,
    },
}
