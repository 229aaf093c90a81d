//! External services: the servers outside the mesh that TLS is originated to. Several kinds of server carry out the same
//! specification: the embedded one on rustls, and a real nginx as a process or in a container. All record the same facts.

mod accepting;
#[cfg(feature = "container")]
mod container;
#[cfg(not(feature = "container"))]
#[path = "no_container.rs"]
mod container;
pub mod embedded;
mod nginx;
mod served;
mod service;

#[cfg(feature = "container")]
pub use container::{DEFAULT_IMAGE, IMAGE_VARIABLE};
pub use container::{
    LeftContainer, check_container, left_containers, prepare_container, removals_done, start_nginx_container,
};
pub use embedded::start_embedded;
pub use nginx::{find_nginx, start_nginx};
pub(crate) use served::ServeProcess;
pub use served::{ServeProgram, start_served};
pub use service::{ExternalError, RunningService};

/// Whether this build has nginx in a container (the feature `container`).
pub const CONTAINERS: bool = cfg!(feature = "container");
