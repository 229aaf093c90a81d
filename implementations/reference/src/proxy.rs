//! One proxy for as long as its data plane runs.

use std::sync::Arc;

use meshproof_local::data_plane::LogSink;

use crate::hooks::ProxyHooks;

/// What stays the same about a proxy while configurations come and go.
pub(crate) struct ProxyHandle {
    /// Its name in the plan.
    pub(crate) name: String,
    pub(crate) hooks: Arc<dyn ProxyHooks>,
    /// Takes its access-log lines.
    pub(crate) logs: Arc<dyn LogSink>,
}
