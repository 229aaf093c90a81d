//! The harness's `Target` over a cluster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_harness::target::{Aftermath, Instance, Left, Seat, Target, TargetError};
use meshproof_harness::timeouts::Timeouts;
use meshproof_model::Implementation;
use tokio::sync::OnceCell;

use crate::api::{Api, ApiError};
use crate::cleanup::remove;
use crate::doctor::{Finding, examine, refusal};
use crate::identify::{self, Installation};
use crate::inventory::owned;
use crate::manifests::Injection;
use crate::noted::Noted;
use crate::owned::{RUN, of_run};
use crate::settings::{Gateways, Settings};

/// A target whose implementation is the mesh of a cluster.
pub struct ClusterTarget {
    settings: Settings,
    api: OnceCell<Api>,
    installation: OnceCell<Installation>,
    noted: Noted,
}

impl ClusterTarget {
    /// On the cluster that the settings name. Nothing is asked of it yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, api: OnceCell::new(), installation: OnceCell::new(), noted: Noted::default() }
    }

    /// On a connection that is there, such as a test's.
    #[must_use]
    pub fn on(api: Api, settings: Settings) -> Self {
        Self {
            settings,
            api: OnceCell::new_with(Some(api)),
            installation: OnceCell::new(),
            noted: Noted::default(),
        }
    }

    /// What it was told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connection, made once.
    ///
    /// # Errors
    /// [`TargetError::Environment`]: there is no usable kubeconfig.
    pub async fn api(&self) -> Result<&Api, TargetError> {
        self.api.get_or_try_init(|| Api::connect(&self.settings)).await.map_err(ApiError::blame)
    }

    /// The mesh, looked for once, and only in a cluster that a run can work on.
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
                let found = identify::installation(api).await.map_err(ApiError::blame)?;
                found.ok_or_else(|| {
                    TargetError::Environment(
                        "the mesh went away while it was looked at: run again".to_owned(),
                    )
                })
            })
            .await
    }
}

/// What the doctor finds, without a run.
///
/// # Errors
/// There is no cluster to look at.
pub async fn doctor(settings: &Settings) -> Result<Vec<Finding>, ApiError> {
    let api = Api::connect(settings).await?;
    Ok(examine(&api, settings).await)
}

#[async_trait]
impl Target for ClusterTarget {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        let installation = self.installation().await?;
        identify::implementation(self.api().await?, &self.settings, installation)
            .await
            .map_err(ApiError::blame)
    }

    async fn before(&self, _run: &str) -> Result<BTreeMap<String, String>, TargetError> {
        let api = self.api().await?;
        let found = owned(api, RUN).await.map_err(ApiError::blame)?;
        let mut runs: Vec<&str> = found.iter().map(|o| o.run.as_str()).collect();
        runs.sort_unstable();
        runs.dedup();
        let says = if found.is_empty() {
            "nothing of meshproof's".to_owned()
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

    fn starts_within(&self, _timeouts: &Timeouts) -> Option<Duration> {
        // Its waits have timeouts of their own, and tell who is to blame.
        None
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        let (label, value) = self.installation().await?.injection.clone();
        let api = self.api().await?.clone();
        crate::instance::start(api, &self.settings, Injection { label, value }, self.noted.clone(), seat)
            .await
    }

    async fn after(&self, run: &str, keep: bool) -> Result<Aftermath, TargetError> {
        let api = self.api().await?;
        let found = owned(api, &of_run(run)).await.map_err(ApiError::blame)?;
        let says = match (found.len(), keep) {
            (0, _) => "nothing of this run".to_owned(),
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
                    Ok(()) => "removed only now, after its scenario had ended".to_owned(),
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
    fn scenarios_follow_one_another_where_they_share_the_gateways_of_an_installation() {
        let told =
            |gateways| ClusterTarget::new(Settings { gateways, ..Settings::default() }).one_at_a_time();
        assert_eq!(told(Gateways::Own), None);
        let installed = told(Gateways::Installed { namespace: "istio-system".to_owned() });
        assert!(installed.unwrap().contains("istio-system"));
    }
}
