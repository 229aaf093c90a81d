//! The local target: one data plane on this machine, given plans. It needs no root, no redirection of packets and no
//! name server: a workload reaches its sidecar through capture addresses on loopback, and host names lead to loopback
//! addresses by a table.

mod instance;
mod seat;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::target::{Instance, Seat, Target, TargetError};
use meshproof_reports::Implementation;

use crate::data_plane::{DataPlaneError, DataPlaneFactory};

/// What a real nginx is started from.
#[derive(Clone, Default)]
struct Servers {
    nginx: Option<PathBuf>,
    image: Option<String>,
}

/// A target whose implementation is a data plane on this machine.
pub struct LocalTarget {
    factory: Arc<dyn DataPlaneFactory>,
    servers: Servers,
}

impl LocalTarget {
    /// A target on this data plane. `nginx` is the program to use for a real nginx; absent: the one on PATH.
    #[must_use]
    pub fn new(factory: Arc<dyn DataPlaneFactory>, nginx: Option<PathBuf>) -> Self {
        Self { factory, servers: Servers { nginx, image: None } }
    }

    /// The same with this image for nginx in a container; absent: `MESHPROOF_NGINX_IMAGE`, else the harness's own choice.
    #[must_use]
    pub fn with_nginx_image(mut self, image: Option<String>) -> Self {
        self.servers.image = image;
        self
    }
}

#[async_trait]
impl Target for LocalTarget {
    fn stand_in(&self) -> Implementation {
        self.factory.stand_in()
    }

    async fn identify(&self) -> Result<Implementation, TargetError> {
        self.factory.identify().await.map_err(Into::into)
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        let instance =
            instance::LocalInstance::start(Arc::clone(&self.factory), seat, self.servers.clone()).await?;
        Ok(Box::new(instance))
    }
}

impl From<DataPlaneError> for TargetError {
    fn from(e: DataPlaneError) -> Self {
        match e {
            DataPlaneError::Refused(words) => Self::Refused(words),
            DataPlaneError::Unsupported(words) => Self::Unsupported(words),
            DataPlaneError::Gone(words) => Self::Gone(words),
            DataPlaneError::Environment(words) => Self::Environment(words),
        }
    }
}

fn environment(e: impl std::fmt::Display) -> TargetError {
    TargetError::Environment(e.to_string())
}
