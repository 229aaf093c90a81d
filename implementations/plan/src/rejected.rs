//! Why a resource cannot be in force, and who says so.

use meshproof_model::ResourceId;

/// What refuses a resource, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The API server, by the schema of Istio's CRD.
    pub schema: Option<String>,
    /// istiod's validating webhook.
    pub webhook: Option<String>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.schema, &self.webhook) {
            (Some(schema), Some(webhook)) => write!(f, "{}; {}", one_line(webhook), one_line(schema)),
            (Some(text), None) | (None, Some(text)) => f.write_str(&one_line(text)),
            (None, None) => Ok(()),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

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
        reason: Refused,
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
