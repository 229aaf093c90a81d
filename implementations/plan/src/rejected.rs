//! Why a resource cannot be in force, and who says so.

use meshproof_model::ResourceId;

/// A resource that cannot be in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// istiod's validation rejects it.
    #[error("Istio rejects {resource}: {reason}")]
    ByIstio {
        /// Which resource.
        resource: ResourceId,
        /// Why.
        reason: String,
    },
    /// Istio accepts it, and the plan does not carry it out.
    #[error("meshproof does not support `{what}` yet ({resource})")]
    Unsupported {
        /// Which resource.
        resource: ResourceId,
        /// The field, value or kind.
        what: String,
    },
}

impl Rejected {
    /// Which resource it is.
    #[must_use]
    pub fn resource(&self) -> &ResourceId {
        match self {
            Self::ByIstio { resource, .. } | Self::Unsupported { resource, .. } => resource,
        }
    }
}
