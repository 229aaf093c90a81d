//! The contract between the local target and a data plane: the in-process form of the adapter contract.

use meshproof_harness::feature::Feature;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::target::TargetError;
use meshproof_model::Resource;
use meshproof_model::{CredentialStatus, Implementation};

use meshproof_plan::model::{Credential, OriginalDestination, Plan};

/// Makes data planes, one a scenario configuration; several live side by side.
#[async_trait]
pub trait DataPlaneFactory: Send + Sync {
    /// Name, version, features. Called once per run.
    ///
    /// # Errors
    /// The implementation cannot be used on this machine; the message names the fix.
    async fn identify(&self) -> Result<Implementation, DataPlaneError>;

    /// Sees the resources before a plan is made of them, and may change them. Only a saboteur that misreads Istio's
    /// resources does; other data planes do not implement this.
    fn misread(&self, _resources: &mut Vec<Resource>) {}

    /// Sees the external service that is about to be deployed, and may change it. Only a saboteur of the external
    /// services does, to prove that the controls can fail; other data planes do not implement this.
    fn spoil_external(&self, _spec: &mut ExternalSpec) {}

    /// Starts a data plane with nothing in force yet.
    ///
    /// # Errors
    /// It did not start.
    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError>;
}

/// What a data plane is given once, at its start.
pub struct Boot {
    /// A folder of its own, removed by the suite at the end (unless `--keep`).
    pub folder: PathBuf,
    /// The mesh certificate of each proxy that the scenario may run, by the proxy's name.
    pub identities: BTreeMap<String, MeshCertificate>,
    /// PEM: the mesh's root, in which proxies believe among themselves.
    pub mesh_roots: String,
    /// PEM: what stands for the system's roots.
    pub system_roots: String,
    /// Takes access-log lines.
    pub logs: Arc<dyn LogSink>,
}

/// A proxy's certificate in the mesh.
#[derive(Clone)]
pub struct MeshCertificate {
    /// PEM; one URI SAN, the SPIFFE identity.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

/// Takes access-log lines from a data plane, in the order written.
pub trait LogSink: Send + Sync {
    /// One line, without its line end.
    fn line(&self, proxy: &str, line: &str);

    /// Anything else that is worth keeping as evidence: a process's stderr. Bounded by the caller.
    fn note(&self, _text: &str) {}
}

/// One state of the configuration: whole, not a difference.
pub struct Update<'a> {
    /// Grows by one with each update.
    pub revision: u64,
    /// The resources themselves, for a data plane that interprets them on its own.
    pub resources: &'a [Resource],
    /// What they come to.
    pub plan: &'a Plan,
    /// What each proxy's `credentialName`s lead to now, by the proxy's name. A name that the plan mentions and that is
    /// absent here has no Secret yet.
    pub credentials: &'a BTreeMap<String, Vec<Credential>>,
    /// Where host names lead on this machine.
    pub endpoints: &'a [OriginalDestination],
}

/// A running data plane.
#[async_trait]
pub trait DataPlane: Send + Sync {
    /// Whether the implementation declares that it lacks this feature. Then its plans do without the feature where Istio's
    /// resources do.
    fn lacks(&self, _feature: Feature) -> bool {
        false
    }

    /// Brings a state into force and returns when every new connection and request is handled by it. Requests in
    /// flight end as they began. Nothing is restarted and no request is lost.
    ///
    /// # Errors
    /// [`DataPlaneError::Refused`] with the implementation's words, or it is gone.
    async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError>;

    /// What the proxy says of its credentials. Only asked with the feature `credential-status`.
    ///
    /// # Errors
    /// It is gone.
    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, DataPlaneError>;

    /// Returns when the access log of every request and connection that has ended is with the [`LogSink`], and
    /// requests whose client has its answer count as ended.
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

/// What a data plane may say instead of yes.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// It refuses this configuration; a finding about the implementation.
    #[error("refused by the implementation: {0}")]
    Refused(String),
    /// It does not support this feature; checks are skipped with this reason.
    #[error("unsupported by the implementation: {0}")]
    Unsupported(Feature),
    /// It has no way to do this, for which there is no feature; checks are skipped with this reason.
    #[error("unsupported by the implementation: {0}")]
    Unable(String),
    /// It broke its contract or died; a finding about the implementation.
    #[error("the implementation failed: {0}")]
    Gone(String),
    /// This machine prevented it: a port is taken, a program is missing. The message names the fix.
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

/// An error of the environment in these words.
pub(crate) fn environment(e: impl std::fmt::Display) -> TargetError {
    TargetError::Environment(e.to_string())
}
