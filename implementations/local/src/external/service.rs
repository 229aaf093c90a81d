//! A server that runs, and what can go wrong with it.

use std::net::SocketAddr;

use async_trait::async_trait;
use meshproof_model::ExternalService;

/// A server that runs: an external service, or an application in the mesh. Dropping it ends it, too, but does not wait until
/// it has ended; [`RunningService::stop`] does.
#[async_trait]
pub trait RunningService: Send + Sync {
    /// Kind and version, for the report.
    fn describe(&self) -> ExternalService;

    /// Where the documents' port (80, 443) leads on this machine; none if the server does not listen on it.
    fn address(&self, port: u16) -> Option<SocketAddr>;

    /// The documents' ports on which it may listen.
    fn ports(&self) -> Vec<u16> {
        vec![80, 443]
    }

    /// Returns when every request that was answered, and every accepted connection that has ended, is in the store.
    ///
    /// # Errors
    /// The server exited, or the timeout `evidence-settled` ran out.
    async fn settle(&self) -> Result<(), ExternalError>;

    /// Stops listening and ends open connections. Nothing is left when it returns.
    ///
    /// # Errors
    /// Something could not be ended.
    async fn stop(&self) -> Result<(), ExternalError>;
}

/// What can go wrong with a server of the suite. It is always the fault of the environment or of the suite.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// A program is missing.
    #[error("{program} is not installed or not on PATH. {fix}")]
    Missing {
        /// `nginx`.
        program: String,
        /// How to fix it.
        fix: String,
    },
    /// This build has no containers.
    #[error(
        "meshproof was built without support for containers. Rebuild with `--features container` (cargo run --release \
         --features container -- run --external container), or run without containers: --external nginx or --external \
         embedded"
    )]
    NotBuilt,
    /// No container engine answers.
    #[error("no container engine (Docker or Podman) answers ({reason}). {fix}")]
    Engine {
        /// The client library's error.
        reason: String,
        /// How to fix it.
        fix: String,
    },
    /// An image is missing.
    #[error("the container image {name} is not on this machine. {fix}")]
    Image {
        /// The name that was asked for.
        name: String,
        /// How to fix it.
        fix: String,
    },
    /// It did not start.
    #[error("{service} did not start: {reason}")]
    Start {
        /// `nginx for my-nginx.mesh-external.svc.cluster.local`.
        service: String,
        /// Quotes the program's own output.
        reason: String,
    },
    /// It exited unexpectedly, or no longer answers.
    #[error("{service} failed: {reason}")]
    Died {
        /// Which server.
        service: String,
        /// Quotes the program's own output.
        reason: String,
    },
    /// Anything else.
    #[error("{service}: {reason}")]
    Other {
        /// Which server.
        service: String,
        /// What went wrong.
        reason: String,
    },
}
