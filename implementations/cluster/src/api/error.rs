//! What may go wrong between the suite and a cluster, who is to blame, and how to mend it.

use meshproof_harness::timeouts::Timeout;
use std::time::Duration;

use meshproof_harness::target::TargetError;

/// Why the cluster did not do what was asked. Every message names the mend.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The account that the suite runs under may not do this.
    #[error(
        "the cluster's account may not {verb} {resource}{}: apply fixtures/cluster/rbac.yaml and run under its service account, \
         or see `meshproof doctor --target cluster`",
        place(namespace.as_deref())
    )]
    Forbidden {
        /// `list`.
        verb: String,
        /// `pods/exec`, `virtualservices.networking.istio.io`.
        resource: String,
        /// Where; none: cluster-wide.
        namespace: Option<String>,
    },
    /// The cluster does not serve this kind.
    #[error(
        "the cluster serves no {0}: install the custom resources of the mesh (`istioctl install`, or the chart istio/base)"
    )]
    NotServed(String),
    /// A webhook or validation said no, in its words.
    #[error("{what} was rejected: {words}")]
    Rejected {
        /// What was applied: `Gateway default/cnn`.
        what: String,
        /// Whether the implementation said it (its webhook, its custom resources' validation), and not somebody else in the cluster.
        implementation: bool,
        /// Whose words, and how to mend it where the cluster is to blame.
        words: String,
    },
    /// Somebody else kept changing the object.
    #[error(
        "{0} was changed by somebody else each time it was applied: see who else manages it (`kubectl get -o yaml --show-managed-fields`)"
    )]
    Conflict(String),
    /// What is not there.
    #[error(
        "the cluster has no {0}: it was deleted during the run, or never made; run again, and see who deletes it"
    )]
    NotFound(String),
    /// The API server is asked too much.
    #[error(
        "the API server asks to wait and did not relent ({0}): run again when the cluster is less busy, or with --jobs 1"
    )]
    TooMany(String),
    /// The API server cannot be reached or cannot answer.
    #[error(
        "the API server cannot be used: {0}; check `kubectl get --raw /readyz` with the same kubeconfig and context"
    )]
    Unavailable(String),
    /// What was awaited did not happen.
    #[error(
        "waited in vain until {what} (timeout `{timeout}`, {limit:?}); last seen: {last}; if that was on its way, \
         --timeout {timeout}=DURATION gives it longer"
    )]
    TimedOut {
        /// The timeout's name.
        timeout: Timeout,
        /// How long it is.
        limit: Duration,
        /// What was awaited.
        what: String,
        /// The last state that was seen.
        last: String,
    },
    /// A program could not be run in a container, or its end was not told.
    #[error("{0}")]
    Exec(String),
    /// The kubeconfig, the context or the credentials.
    #[error("{0}")]
    Config(String),
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| " in the whole cluster".to_owned(), |n| format!(" in the namespace {n}"))
}

impl ApiError {
    /// Whose fault it is: a rejection by the implementation is its refusal; everything else is the environment's.
    #[must_use]
    pub fn blame(self) -> TargetError {
        match self {
            Self::Rejected { implementation: true, what, words } => {
                TargetError::Refused(format!("{what}: {words}"))
            }
            Self::Rejected { implementation: false, .. }
            | Self::Forbidden { .. }
            | Self::NotServed(_)
            | Self::Conflict(_)
            | Self::NotFound(_)
            | Self::TooMany(_)
            | Self::Unavailable(_)
            | Self::TimedOut { .. }
            | Self::Exec(_)
            | Self::Config(_) => TargetError::Environment(self.to_string()),
        }
    }
}
