//! The data plane of one scenario: one Envoy per proxy that the scenario may run.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, Update};
use meshproof_model::CredentialStatus;
use meshproof_plan::model::{ProxyPlan, Role};
use tokio::sync::Mutex;

use crate::mutation::Mutation;
use crate::program::Program;
use crate::proxy::EnvoyProxy;

/// A running data plane.
pub(crate) struct EnvoyDataPlane {
    proxies: BTreeMap<String, EnvoyProxy>,
    mutation: Option<Mutation>,
    /// Whether the data plane was stopped; held during a change, so that changes come one after another.
    stopped: Mutex<bool>,
}

impl EnvoyDataPlane {
    /// Starts all proxies at the same time.
    ///
    /// # Errors
    /// A proxy did not start. The others are ended.
    pub(crate) async fn start(
        program: &Program,
        boot: &Boot,
        mutation: Option<Mutation>,
    ) -> Result<Self, DataPlaneError> {
        let logs = (mutation != Some(Mutation::NoLog)).then(|| Arc::clone(&boot.logs));
        let starting = boot.identities.iter().map(|(name, identity)| {
            let logs = logs.clone();
            async move { (name.clone(), EnvoyProxy::start(program, name, identity, boot, logs).await) }
        });
        let mut proxies = BTreeMap::new();
        let mut failed = None;
        for (name, started) in join_all(starting).await {
            match started {
                Ok(proxy) => {
                    proxies.insert(name, proxy);
                }
                Err(e) => failed = Some(e),
            }
        }
        let plane = Self { proxies, mutation, stopped: Mutex::new(false) };
        match failed {
            None => Ok(plane),
            Some(e) => {
                plane.end().await;
                Err(e)
            }
        }
    }

    async fn end(&self) {
        join_all(self.proxies.values().map(EnvoyProxy::stop)).await;
    }

    fn proxy(&self, name: &str) -> Result<&EnvoyProxy, DataPlaneError> {
        self.proxies.get(name).ok_or_else(|| {
            DataPlaneError::Environment(format!(
                "the plan names a proxy {name} for which the scenario has no identity; this is a bug of \
                 meshproof"
            ))
        })
    }
}

#[async_trait]
impl DataPlane for EnvoyDataPlane {
    async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError> {
        let stopped = self.stopped.lock().await;
        if *stopped {
            return Err(DataPlaneError::Gone("the data plane was stopped".to_owned()));
        }
        let mut plan = update.plan.clone();
        if let Some(mutation) = self.mutation {
            mutation.apply(&mut plan, update.endpoints);
        }
        for proxy in &plan.proxies {
            self.proxy(&proxy.name)?;
        }
        let preparing = self.proxies.iter().map(|(name, proxy)| {
            let planned = plan.proxies.iter().find(|p| p.name == *name).cloned();
            // A proxy that is not in the plan serves nothing. Its process stays, because the proxy may
            // return.
            let planned = planned.unwrap_or_else(|| empty_plan(name));
            let credentials = update.credentials.get(name).map(Vec::as_slice).unwrap_or_default();
            async move { proxy.prepare(&planned, credentials).await }
        });
        all(preparing).await?;
        all(self.proxies.values().map(EnvoyProxy::move_over)).await?;
        all(self.proxies.values().map(EnvoyProxy::finish)).await
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        self.proxy(proxy)?.credentials().await
    }

    async fn settle(&self) -> Result<(), DataPlaneError> {
        try_join_all(self.proxies.values().map(EnvoyProxy::settle)).await?;
        Ok(())
    }

    async fn stop(&self) -> Result<(), DataPlaneError> {
        let mut stopped = self.stopped.lock().await;
        *stopped = true;
        self.end().await;
        Ok(())
    }
}

/// Completes all of them, so that none is interrupted half way, and returns the first error.
async fn all(
    work: impl Iterator<Item = impl Future<Output = Result<(), DataPlaneError>>>,
) -> Result<(), DataPlaneError> {
    join_all(work).await.into_iter().collect()
}

fn empty_plan(name: &str) -> ProxyPlan {
    ProxyPlan {
        name: name.to_owned(),
        namespace: String::new(),
        role: Role::default(),
        identity: String::new(),
        listeners: Vec::new(),
        clusters: Vec::new(),
    }
}
