//! How the suite reaches an implementation. A target makes instances; an instance is one implementation's mesh
//! for the length of one scenario.

use crate::feature::Feature;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meshproof_model::{CredentialStatus, Exchange, ExternalService, Implementation};

use crate::certificates::Authority;
use crate::external::{Documented, ExternalChoice, ExternalSpec};
use crate::forecast::Forecast;
pub use crate::probe::Probe;
use crate::store::Store;
use crate::timeouts::{Timeout, Timeouts};
use crate::topology::Topology;
use crate::workload::RequestSpec;
use meshproof_model::{Resource, ResourceId};

/// One way to reach an implementation: the reference in this process, Envoy processes, an adapter, a cluster.
#[async_trait]
pub trait Target: Send + Sync {
    /// What is judged: name, version, features. Asked once, before anything else.
    ///
    /// # Errors
    /// It cannot be used here; the message names the fix.
    async fn identify(&self) -> Result<Implementation, TargetError>;

    /// Examines the place of the run before anything is created in it. The result goes into the report's details of the
    /// implementation.
    ///
    /// # Errors
    /// The environment's: the run does not begin.
    async fn before(&self, _run: &str) -> Result<BTreeMap<String, String>, TargetError> {
        Ok(BTreeMap::new())
    }

    /// Why instances of this target must run one after another: they share something that exists only once, so concurrent
    /// instances would change each other's results. The run then ignores the number of jobs and says so. None: instances are
    /// independent.
    fn one_at_a_time(&self) -> Option<String> {
        None
    }

    /// The number of instances that run concurrently where the run does not say: as many as an ordinary machine has room for.
    /// Asked after [`Target::identify`]. None: all.
    fn side_by_side(&self) -> Option<usize> {
        None
    }

    /// Why a configuration with these needs cannot be judged, if that is known before anything is started for it: it is then
    /// skipped with this reason.
    fn unfit_for(&self, _needs: Needs) -> Option<String> {
        None
    }

    /// The time limit of [`Target::start`]; exceeding it is the implementation's fault. None: the target has its own limit and
    /// decides whose fault it is.
    fn starts_within(&self, timeouts: &Timeouts) -> Option<Duration> {
        Some(timeouts.get(Timeout::ImplementationReady))
    }

    /// Puts the topology in place, with none of the document's resources applied.
    ///
    /// # Errors
    /// It did not start.
    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError>;

    /// Examines the place of the run after the teardown and removes what is left: an instance that was interrupted while it
    /// started was not stopped. With `keep`, nothing is removed.
    ///
    /// # Errors
    /// The environment's: it cannot be found out what is left.
    async fn after(&self, _run: &str, _keep: bool) -> Result<Aftermath, TargetError> {
        Ok(Aftermath::default())
    }
}

/// What a configuration of a scenario needs of the place of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Every check needs the embedded external service ([`Documented::Embedded`]).
    pub embedded: bool,
    /// Gateways verify servers by the authorities of their system.
    pub system_roots_at_gateways: bool,
}

/// What a run leaves behind.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// For the report's details of the implementation.
    pub notes: BTreeMap<String, String>,
    /// What should have been removed before; each is a fault of the suite.
    pub left: Vec<Left>,
}

/// One thing that is left.
#[derive(Clone, Debug)]
pub struct Left {
    /// The [`Seat::name`] that it was made for; empty where it is not known.
    pub seat: String,
    /// What it is, and whether it is removed now.
    pub what: String,
}

/// What an instance gets: its scenario's place in the run.
#[derive(Clone)]
pub struct Seat {
    /// The run's id; everything that the instance creates carries it.
    pub run: String,
    /// `sidecar-origination-port-rewrite`: unique in the run, fit for names.
    pub name: String,
    /// A folder of its own.
    pub folder: PathBuf,
    /// What must be in place.
    pub topology: Topology,
    /// Where evidence goes.
    pub store: Store,
    /// The run's timeouts.
    pub timeouts: Timeouts,
    /// Which kind of external service to use.
    pub external: ExternalChoice,
    /// Whether everything is kept for inspection.
    pub keep: bool,
    /// PEM: the suite's public CA. It stands for the system's roots, at the workloads and at the proxies.
    pub public_roots: Arc<str>,
}

/// A change to the configuration, brought into force as one.
#[derive(Clone, Debug, Default)]
pub struct ConfigChange {
    /// Created, or replaced where one of the same id is in force.
    pub apply: Vec<Resource>,
    /// Deleted; absent ones are not an error.
    pub delete: Vec<ResourceId>,
}

/// An exchange, and when it ended: others over the same connection end later.
#[derive(Clone, Debug)]
pub struct EndedExchange {
    /// What happened.
    pub exchange: Exchange,
    /// When its answer had arrived, or failed to.
    pub ended: Instant,
}

impl EndedExchange {
    /// It has just ended.
    #[must_use]
    pub fn now(exchange: Exchange) -> Self {
        Self { exchange, ended: Instant::now() }
    }
}

/// One implementation's mesh, for one scenario.
#[async_trait]
pub trait Instance: Send + Sync {
    /// Deploys external services, makes their host names resolve to them, and describes each, in their order. The
    /// implementation takes up several addresses in one update.
    ///
    /// # Errors
    /// The environment's: one of them did not start.
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError>;

    /// The time limit of [`Instance::deploy_externals`] per service. It includes the time in which the implementation takes up
    /// the address.
    fn deploys_within(&self, timeouts: &Timeouts) -> Duration {
        timeouts.get(Timeout::ExternalServiceReady) + timeouts.get(Timeout::Applied)
    }

    /// Applies a change; returns when it is in force.
    ///
    /// # Errors
    /// [`TargetError::Refused`] with the implementation's words, [`TargetError::Unsupported`] with the feature, or it is
    /// gone, or the environment's.
    async fn change(&self, change: &ConfigChange) -> Result<(), TargetError>;

    /// Stops a proxy, or starts it again.
    ///
    /// # Errors
    /// As for [`Instance::change`].
    async fn set_running(&self, proxy: &str, running: bool) -> Result<(), TargetError>;

    /// Sets an environment variable of a workload's application.
    ///
    /// # Errors
    /// The environment's.
    async fn set_variable(&self, workload: &str, name: &str, value: &str) -> Result<(), TargetError>;

    /// Sends a request from a workload, through its sidecar. A missing response is part of the exchange, not an error.
    ///
    /// # Errors
    /// The environment's: the request could not be sent at all.
    async fn send(&self, workload: &str, request: &RequestSpec) -> Result<Exchange, TargetError>;

    /// Sends requests from a workload over one connection, where the target can: over HTTP/2 at once, otherwise one after the
    /// other. The result has their order.
    ///
    /// # Errors
    /// As for [`Instance::send`].
    async fn send_in_line(
        &self,
        workload: &str,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let mut exchanges = Vec::new();
        for request in requests {
            exchanges.push(EndedExchange::now(self.send(workload, request).await?));
        }
        Ok(exchanges)
    }

    /// Sends a request directly to a server or proxy, through no other proxy.
    ///
    /// # Errors
    /// The environment's.
    async fn probe(&self, probe: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError>;

    /// Sends requests directly, as [`Instance::send_in_line`] does.
    ///
    /// # Errors
    /// As for [`Instance::probe`].
    async fn probe_in_line(
        &self,
        probe: &Probe,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let mut exchanges = Vec::new();
        for request in requests {
            exchanges.push(EndedExchange::now(self.probe(probe, request).await?));
        }
        Ok(exchanges)
    }

    /// Returns when the evidence of every exchange that has ended is in the store.
    ///
    /// # Errors
    /// The implementation or an external service is gone, or the timeout `evidence-settled` ran out.
    async fn settle(&self) -> Result<(), TargetError>;

    /// The credentials that a proxy reports. Only called with the feature `credential-status`.
    ///
    /// # Errors
    /// The implementation is gone.
    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, TargetError>;

    /// The `address:port` that access logs must show for a connection to this host and port; none if the host has no
    /// address.
    fn upstream_address(&self, host: &str, port: u16) -> Option<String>;

    /// A folder of this machine in which the proxies read files, for certificates that the configuration names by their paths.
    /// None: files cannot be put where the proxies are.
    fn file_folder(&self) -> Option<PathBuf> {
        None
    }

    /// The mesh's CA, where the suite holds it: then a scenario has mesh identities of its own.
    fn mesh_authority(&self) -> Option<&Authority> {
        None
    }

    /// What the configuration in force now promises for requests; absent where the target does not work it out.
    fn forecast(&self) -> Option<Arc<dyn Forecast>> {
        None
    }

    /// Takes everything down. Called once, also after a failure.
    ///
    /// # Errors
    /// Something is left; the message names it.
    async fn stop(&self) -> Result<(), TargetError>;
}

/// Why a target did not do something. The variant decides whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The implementation refuses a documented configuration: its fault.
    #[error("the implementation refused the configuration: {0}")]
    Refused(String),
    /// The implementation does not support this feature: what needs it is skipped.
    #[error("the implementation does not support {0}")]
    Unsupported(Feature),
    /// The implementation, or the target that reaches it, has no way to do this, for which there is no feature: what needs it
    /// is skipped.
    #[error("not possible with this target: {0}")]
    Unable(String),
    /// The implementation exited or broke the target's contract: its fault. The text says what happened.
    #[error("the implementation failed: {0}")]
    Gone(String),
    /// The implementation did not do something within its timeout. What it was asked for is not fulfilled, but it may still run.
    #[error(
        "Timed out after {limit:?} waiting for {what}; --timeout {timeout}=DURATION sets another limit{}",
        last.as_ref().map(|last| format!("; last seen: {last}")).unwrap_or_default()
    )]
    TimedOut {
        /// The timeout.
        timeout: Timeout,
        /// How long it is.
        limit: Duration,
        /// Who should have done what: `the sidecar sleep to apply the change`.
        what: String,
        /// The last state that was seen, where it is known.
        last: Option<String>,
    },
    /// The environment's or the suite's fault; the message names the fix.
    #[error("{0}")]
    Environment(String),
}
