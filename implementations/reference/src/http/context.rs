//! Where a request came from.

use std::sync::Arc;

use meshproof_plan::model::Direction;

use crate::config::{ActiveConfig, ActiveListener};
use crate::connections::DownstreamConnection;
use crate::hooks::ProxyHooks;
use crate::shared::PlaneShared;

/// Where a request came from, and the configuration that serves it.
pub(super) struct RequestContext {
    pub(super) shared: Arc<PlaneShared>,
    pub(super) config: Arc<ActiveConfig>,
    pub(super) listener: Arc<ActiveListener>,
    pub(super) connection: Arc<DownstreamConnection>,
    /// The proxy terminated TLS on the connection.
    pub(super) secure: bool,
}

impl RequestContext {
    pub(super) fn hooks(&self) -> &dyn ProxyHooks {
        self.connection.proxy.hooks.as_ref()
    }

    pub(super) fn is_gateway(&self) -> bool {
        match self.listener.direction {
            Direction::Gateway => true,
            Direction::Outbound | Direction::Inbound => false,
        }
    }
}
