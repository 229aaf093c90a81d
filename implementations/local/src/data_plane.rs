//! The contract between the local target and a data plane: the in-process form of the adapter contract.

use meshproof_harness::feature::Feature;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::target::TargetError;
use meshproof_harness::trace::Trace;
use meshproof_model::Resource;
use meshproof_model::{CredentialStatus, Implementation};

use meshproof_plan::model::{Credential, OriginalDestination, Plan};

/// Creates data planes, one per scenario configuration. Several exist side by side.
#[async_trait]
pub trait DataPlaneFactory: Send + Sync {
    /// Name, version and features. Asked once per run.
    ///
    /// # Errors
    /// The implementation cannot be used on this machine; the message says how to fix it.
    async fn identify(&self) -> Result<Implementation, DataPlaneError>;

    /// May change the resources before a plan is made from them. Only a saboteur that misreads Istio's resources does; other
    /// implementations keep this default.
    fn misread(&self, _resources: &mut Vec<Resource>) {}

    /// May change an external service before it is deployed. Only a saboteur of the external services does, to prove that the
    /// controls can fail; other implementations keep this default.
    fn spoil_external(&self, _spec: &mut ExternalSpec) {}

    /// The number of data planes that run concurrently where the run does not say; see [`meshproof_harness::target::Target::side_by_side`]. They compute more
    /// than they wait: many at a time on few processors take longer together, and each of their requests takes much longer.
    fn side_by_side(&self) -> Option<usize> {
        Some((2 * std::thread::available_parallelism().map_or(1, usize::from)).max(4))
    }

    /// Starts a data plane without any configuration.
    ///
    /// # Errors
    /// It did not start.
    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError>;
}

/// What a data plane gets once, when it starts.
pub struct Boot {
    /// A folder of its own, removed by the suite at the end (unless `--keep`).
    pub folder: PathBuf,
    /// The mesh certificate of each proxy that the scenario may run, by the proxy's name.
    pub identities: BTreeMap<String, MeshCertificate>,
    /// PEM: the mesh's root, by which proxies trust each other.
    pub mesh_roots: String,
    /// PEM: the roots that take the place of the system's roots.
    pub system_roots: String,
    /// Receives access-log lines.
    pub logs: Arc<dyn LogSink>,
    /// Takes what passes between the suite and the data plane. Its files need no copy: the suite makes one.
    pub trace: Trace,
}

/// A proxy's certificate in the mesh.
#[derive(Clone)]
pub struct MeshCertificate {
    /// PEM; one URI SAN, the SPIFFE identity.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

/// Receives access-log lines from a data plane, in the order in which they were written.
pub trait LogSink: Send + Sync {
    /// One line, without its line end.
    fn line(&self, proxy: &str, line: &str);

    /// Any other text that is useful as evidence, such as the stderr of a process. The caller bounds it.
    fn note(&self, _text: &str) {}
}

/// One state of the configuration: all of it, not the difference to the state before.
pub struct Update<'a> {
    /// Grows by one with each update.
    pub revision: u64,
    /// The resources themselves, for a data plane that interprets them on its own.
    pub resources: &'a [Resource],
    /// The plan that follows from them.
    pub plan: &'a Plan,
    /// The credentials behind each proxy's `credentialName`s, by the proxy's name. A name in the plan that is absent here has no
    /// Secret yet.
    pub credentials: &'a BTreeMap<String, Vec<Credential>>,
    /// Where host names lead on this machine.
    pub endpoints: &'a [OriginalDestination],
}

/// A running data plane.
#[async_trait]
pub trait DataPlane: Send + Sync {
    /// Whether the implementation declares that it lacks this feature. Its plans then avoid the feature unless Istio's resources
    /// demand it.
    fn lacks(&self, _feature: Feature) -> bool {
        false
    }

    /// Applies a state, and returns when it applies to every new connection and request. Requests in flight end as they began.
    /// Nothing is restarted and no request is lost.
    ///
    /// # Errors
    /// [`DataPlaneError::Refused`] with the implementation's message, or it is gone.
    async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError>;

    /// What the proxy reports about its credentials. Only asked with the feature `credential-status`.
    ///
    /// # Errors
    /// It is gone.
    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, DataPlaneError>;

    /// Returns when the [`LogSink`] has the access log of every request and connection that has ended. A request has ended when its
    /// client has the answer.
    ///
    /// # Errors
    /// It is gone.
    async fn settle(&self) -> Result<(), DataPlaneError>;

    /// Ends everything that the data plane started; nothing listens and nothing runs when it returns.
    ///
    /// # Errors
    /// Something could not be ended; the message names it.
    async fn stop(&self) -> Result<(), DataPlaneError>;
}

/// Why a data plane did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// It rejects this configuration. This is a finding about the implementation.
    #[error("refused by the implementation: {0}")]
    Refused(String),
    /// It does not support this feature; checks are skipped with this reason.
    #[error("unsupported by the implementation: {0}")]
    Unsupported(Feature),
    /// It has no way to do this, for which there is no feature; checks are skipped with this reason.
    #[error("unsupported by the implementation: {0}")]
    Unable(String),
    /// It broke its contract or exited. This is a finding about the implementation.
    #[error("the implementation failed: {0}")]
    Gone(String),
    /// A fault of this machine: a port is in use, a program is missing. The message says how to fix it.
    #[error("{0}")]
    Environment(String),
}

impl fmt::Debug for MeshCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshCertificate").field("key", &"(withheld)").finish_non_exhaustive()
    }
}

impl From<DataPlaneError> for TargetError {
    fn from(e: DataPlaneError) -> Self {
        match e {
            DataPlaneError::Refused(words) => Self::Refused(words),
            DataPlaneError::Unsupported(feature) => Self::Unsupported(feature),
            DataPlaneError::Unable(words) => Self::Unable(words),
            DataPlaneError::Gone(words) => Self::Gone(words),
            DataPlaneError::Environment(words) => Self::Environment(words),
        }
    }
}

/// An error of the environment with this message.
pub(crate) fn environment(e: impl std::fmt::Display) -> TargetError {
    TargetError::Environment(e.to_string())
}
