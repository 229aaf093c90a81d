//! The harness's `Target` over a cluster.

use std::collections::BTreeMap;

use async_trait::async_trait;
use meshproof_harness::target::{Aftermath, Instance, Left, Seat, Target, TargetError};
use meshproof_reports::Implementation;
use tokio::sync::OnceCell;

use crate::api::{Api, ApiError};
use crate::doctor::{Finding, examine, refusal};
use crate::identify::{self, Installation};
use crate::inventory::owned;
use crate::owned::{RUN, of_run};
use crate::settings::Settings;

/// A target whose implementation is the mesh of a cluster.
pub struct ClusterTarget {
    settings: Settings,
    connected: OnceCell<Connected>,
}

/// A cluster that a run can work on.
#[derive(Clone)]
pub struct Connected {
    /// Its API.
    pub api: Api,
    /// Its mesh.
    pub installation: Installation,
}

impl ClusterTarget {
    /// On the cluster that the settings name. Nothing is asked of it yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, connected: OnceCell::new() }
    }

    /// On a connection that is there, such as a test's.
    #[must_use]
    pub fn on(settings: Settings, connected: Connected) -> Self {
        Self { settings, connected: OnceCell::new_with(Some(connected)) }
    }

    /// What it was told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connection; made once, and only to a cluster that a run can work on.
    ///
    /// # Errors
    /// [`TargetError::Environment`] with the doctor's words.
    pub async fn connected(&self) -> Result<&Connected, TargetError> {
        self.connected
            .get_or_try_init(|| async {
                let api = Api::connect(&self.settings).await.map_err(ApiError::blame)?;
                connect(api, &self.settings).await
            })
            .await
    }
}

async fn connect(api: Api, settings: &Settings) -> Result<Connected, TargetError> {
    if let Some(words) = refusal(&examine(&api, settings).await) {
        return Err(TargetError::Environment(words));
    }
    let found = identify::installation(&api).await.map_err(ApiError::blame)?;
    let installation = found.ok_or_else(|| {
        TargetError::Environment("the mesh went away while it was looked at: run again".to_owned())
    })?;
    Ok(Connected { api, installation })
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
        let Connected { api, installation } = self.connected().await?;
        identify::implementation(api, &self.settings, installation).await.map_err(ApiError::blame)
    }

    async fn before(&self, _run: &str) -> Result<BTreeMap<String, String>, TargetError> {
        let api = &self.connected().await?.api;
        let found = owned(api, RUN).await.map_err(ApiError::blame)?;
        let mut runs: Vec<&str> = found.iter().map(|o| o.run.as_str()).collect();
        runs.sort_unstable();
        runs.dedup();
        let says = if found.is_empty() {
            "nothing of meshproof's".to_owned()
        } else {
            format!("{} objects of other runs ({})", found.len(), runs.join(", "))
        };
        Ok(BTreeMap::from([("inventory before".to_owned(), says)]))
    }

    async fn start(&self, _seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        Err(TargetError::Environment("no instance can be made yet".to_owned()))
    }

    async fn after(&self, run: &str) -> Result<Aftermath, TargetError> {
        let api = &self.connected().await?.api;
        let found = owned(api, &of_run(run)).await.map_err(ApiError::blame)?;
        let says = if found.is_empty() {
            "nothing of this run".to_owned()
        } else {
            format!("{} objects of this run", found.len())
        };
        let left = found
            .iter()
            .map(|o| Left {
                seat: o.scenario.clone(),
                what: format!("{}; `meshproof cleanup --target cluster --run {run}` removes it", o.shown()),
            })
            .collect();
        Ok(Aftermath { notes: BTreeMap::from([("inventory after".to_owned(), says)]), left })
    }
}
