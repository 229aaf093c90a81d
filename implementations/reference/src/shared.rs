//! What all tasks of a data plane share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use meshproof_local::data_plane::Boot;

use crate::config::ActiveConfig;
use crate::connections::OpenConnections;
use crate::tasks::PlaneTasks;

/// Shared by all tasks of a data plane.
pub(crate) struct PlaneShared {
    pub(crate) boot: Boot,
    pub(crate) config: ArcSwap<ActiveConfig>,
    pub(crate) tasks: PlaneTasks,
    pub(crate) connections: Arc<OpenConnections>,
}
