//! The harness's `Target` over a cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_harness::target::{Aftermath, Instance, Left, Needs, Seat, Target, TargetError};
use meshproof_harness::timeouts::Timeouts;
use meshproof_model::Implementation;
use tokio::sync::OnceCell;

use crate::api::{ApiError, ClusterClient};
use crate::cleanup::remove;
use crate::doctor::{DoctorFinding, examine, examine_reading, refusal};
use crate::identify::{self, Installation};
use crate::in_force::{InForce, in_force};
use crate::inventory::owned;
use crate::nodes::processors;
use crate::noted::RunNotes;
use crate::owned::{RUN, of_run};
use crate::settings::{Gateways, Settings};

/// Scenario configurations at the same time per processor. Six on two processors, which also ran the control planes, ended
/// without a timeout; all at once did not.
const PER_PROCESSOR: usize = 3;

/// A target whose implementation is the mesh of a cluster.
pub struct ClusterTarget {
    settings: Settings,
    api: OnceCell<ClusterClient>,
    installation: OnceCell<Installation>,
    /// Of the nodes that are ready; 0 before they are known.
    processors: AtomicUsize,
    noted: RunNotes,
}

impl ClusterTarget {
    /// On the cluster that the settings name, without contacting it yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            api: OnceCell::new(),
            installation: OnceCell::new(),
            processors: AtomicUsize::new(0),
            noted: RunNotes::default(),
        }
    }

    /// On an existing connection, such as a test's.
    #[must_use]
    pub fn on(api: ClusterClient, settings: Settings) -> Self {
        Self { api: OnceCell::new_with(Some(api)), ..Self::new(settings) }
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connection, made once.
    ///
    /// # Errors
    /// [`TargetError::Environment`]: there is no usable kubeconfig.
    pub async fn api(&self) -> Result<&ClusterClient, TargetError> {
        self.api.get_or_try_init(|| ClusterClient::connect(&self.settings)).await.map_err(ApiError::blame)
    }

    /// The mesh, determined once, and only in a cluster on which a run is possible.
    ///
    /// # Errors
    /// [`TargetError::Environment`] with the doctor's words.
    pub async fn installation(&self) -> Result<&Installation, TargetError> {
        let api = self.api().await?;
        self.installation
            .get_or_try_init(|| async {
                if let Some(words) = refusal(&examine(api, &self.settings).await) {
                    return Err(TargetError::Environment(words));
                }
                let found = identify::installation(api, self.settings.revision.as_deref())
                    .await
                    .map_err(ApiError::blame)?;
                found.ok_or_else(|| {
                    TargetError::Environment(
                        "the mesh was removed while it was examined: run again".to_owned(),
                    )
                })
            })
            .await
    }
}

/// What the doctor finds, outside of a run.
///
/// # Errors
/// There is no usable kubeconfig.
pub async fn doctor(settings: &Settings) -> Result<Vec<DoctorFinding>, ApiError> {
    let api = ClusterClient::connect(settings).await?;
    Ok(examine(&api, settings).await)
}

/// What the doctor finds about reading a namespace for `verify`.
///
/// # Errors
/// There is no usable kubeconfig.
pub async fn doctor_of_reading(settings: &Settings, namespace: &str) -> Result<Vec<DoctorFinding>, ApiError> {
    let api = ClusterClient::connect(settings).await?;
    Ok(examine_reading(&api, settings.revision.as_deref(), namespace).await)
}

/// What is in force in the cluster for a namespace.
///
/// # Errors
/// There is no usable kubeconfig, or the cluster's.
pub async fn read_in_force(settings: &Settings, namespace: &str) -> Result<InForce, ApiError> {
    let api = ClusterClient::connect(settings).await?;
    in_force(&api, settings.revision.as_deref(), namespace).await
}

#[async_trait]
impl Target for ClusterTarget {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        let installation = self.installation().await?;
        let api = self.api().await?;
        let nodes = api.list("Node", None, None).await.map_err(ApiError::blame)?;
        self.processors.store(processors(&nodes), Ordering::Relaxed);
        identify::implementation(api, &self.settings, installation, &nodes).await.map_err(ApiError::blame)
    }

    /// Pods that are started all at once starve each other and, on a small cluster, its API server.
    fn side_by_side(&self) -> Option<usize> {
        match self.processors.load(Ordering::Relaxed) {
            0 => None,
            processors => Some(PER_PROCESSOR * processors),
        }
    }

    async fn before(&self, _run: &str) -> Result<BTreeMap<String, String>, TargetError> {
        let api = self.api().await?;
        let found = owned(api, RUN).await.map_err(ApiError::blame)?;
        let mut runs: Vec<&str> = found.iter().map(|o| o.run.as_str()).collect();
        runs.sort_unstable();
        runs.dedup();
        let says = if found.is_empty() {
            "no objects of meshproof".to_owned()
        } else {
            format!("{} of other runs ({})", objects(found.len()), runs.join(", "))
        };
        Ok(BTreeMap::from([("inventory before".to_owned(), says)]))
    }

    fn one_at_a_time(&self) -> Option<String> {
        match &self.settings.gateways {
            Gateways::Own => None,
            Gateways::Installed { namespace } => {
                Some(format!("the gateways installed in {namespace} are shared by all scenarios"))
            }
        }
    }

    fn unfit_for(&self, needs: Needs) -> Option<String> {
        if needs.embedded && self.settings.suite_image().is_none() {
            return Some(crate::instance::ONLY_NGINX.to_owned());
        }
        match &self.settings.gateways {
            Gateways::Installed { namespace }
                if needs.system_roots_at_gateways && !self.settings.fixed_ca =>
            {
                Some(format!(
                    "the gateways in {namespace} verify servers by the authorities of their image, which do not include an \
                     authority that is generated for the run; mount one that stays the same and name it with --ca FILE, or \
                     run with gateways of the scenario's own (without --gateways installed)"
                ))
            }
            Gateways::Own | Gateways::Installed { .. } => None,
        }
    }

    fn starts_within(&self, _timeouts: &Timeouts) -> Option<Duration> {
        // Its waits have timeouts of their own, which say who is to blame.
        None
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        let injection = self.installation().await?.injection.clone();
        let api = self.api().await?.clone();
        crate::instance::start(api, &self.settings, injection, self.noted.clone(), seat).await
    }

    async fn after(&self, run: &str, keep: bool) -> Result<Aftermath, TargetError> {
        let api = self.api().await?;
        let found = owned(api, &of_run(run)).await.map_err(ApiError::blame)?;
        let says = match (found.len(), keep) {
            (0, _) => "no objects of this run".to_owned(),
            (count, false) => format!("{} of this run", objects(count)),
            (count, true) => {
                format!(
                    "{} of this run, kept: `meshproof cleanup --target cluster --run {run}`",
                    objects(count)
                )
            }
        };
        let left = Mutex::new(Vec::new());
        if !keep {
            remove(api, &found, |object, result| {
                let became = match result {
                    Ok(()) => "removed only after its scenario had ended".to_owned(),
                    Err(e) => format!("{e}; `meshproof cleanup --target cluster --run {run}` tries again"),
                };
                let what = format!("{}: {became}", object.shown());
                lock(&left).push(Left { seat: object.scenario.clone(), what });
            })
            .await;
        }
        let left = std::mem::take(&mut *lock(&left));
        let mut notes = self.noted.details();
        notes.insert("inventory after".to_owned(), says);
        Ok(Aftermath { notes, left })
    }
}

fn lock(left: &Mutex<Vec<Left>>) -> MutexGuard<'_, Vec<Left>> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

fn objects(count: usize) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_gateways_originate_by_system_roots_only_with_an_authority_that_they_trust() {
        let needs = Needs { system_roots_at_gateways: true, ..Needs::default() };
        let unfit = |gateways, fixed_ca| {
            ClusterTarget::new(Settings { gateways, fixed_ca, ..Settings::default() }).unfit_for(needs)
        };
        let installed = || Gateways::Installed { namespace: "istio-system".to_owned() };
        assert!(unfit(installed(), false).unwrap().contains("--ca FILE"));
        assert_eq!(unfit(installed(), true), None);
        assert_eq!(unfit(Gateways::Own, false), None);
    }

    #[test]
    fn scenarios_that_share_installed_gateways_run_one_after_another() {
        let reason =
            |gateways| ClusterTarget::new(Settings { gateways, ..Settings::default() }).one_at_a_time();
        assert_eq!(reason(Gateways::Own), None);
        let installed = reason(Gateways::Installed { namespace: "istio-system".to_owned() });
        assert!(installed.unwrap().contains("istio-system"));
    }
}
