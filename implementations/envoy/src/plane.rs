//! One data plane: an Envoy for each proxy that the scenario may run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, Update};
use meshproof_model::CredentialStatus;
use meshproof_plan::model::ProxyPlan;
use tokio::sync::Mutex;

use crate::mutation::Mutation;
use crate::proxy::Proxy;

/// A running data plane.
pub(crate) struct Plane {
    proxies: BTreeMap<String, Proxy>,
    mutation: Option<Mutation>,
    /// One change at a time; whether it was stopped.
    stopped: Mutex<bool>,
}

impl Plane {
    /// Starts every proxy, side by side.
    ///
    /// # Errors
    /// One of them did not start; the others are ended.
    pub(crate) async fn start(
        program: &Path,
        boot: &Boot,
        mutation: Option<Mutation>,
    ) -> Result<Self, DataPlaneError> {
        let logs = (mutation != Some(Mutation::NoLog)).then(|| Arc::clone(&boot.logs));
        let starting = boot.identities.iter().map(|(name, identity)| {
            let logs = logs.clone();
            async move { (name.clone(), Proxy::start(program, name, identity, boot, logs).await) }
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
        join_all(self.proxies.values().map(Proxy::stop)).await;
    }

    fn proxy(&self, name: &str) -> Result<&Proxy, DataPlaneError> {
        self.proxies.get(name).ok_or_else(|| {
            DataPlaneError::Environment(format!(
                "the plan has a proxy {name} that the scenario has no identity for"
            ))
        })
    }
}

#[async_trait]
impl DataPlane for Plane {
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
            // A proxy that was taken away serves nothing; its process stays for its return.
            let planned = planned.unwrap_or_else(|| nothing(name));
            let credentials = update.credentials.get(name).map(Vec::as_slice).unwrap_or_default();
            async move { proxy.prepare(&planned, credentials).await }
        });
        all(preparing).await?;
        all(self.proxies.values().map(Proxy::move_over)).await?;
        all(self.proxies.values().map(Proxy::finish)).await
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        self.proxy(proxy)?.credentials().await
    }

    async fn settle(&self) -> Result<(), DataPlaneError> {
        try_join_all(self.proxies.values().map(Proxy::settle)).await?;
        Ok(())
    }

    async fn stop(&self) -> Result<(), DataPlaneError> {
        let mut stopped = self.stopped.lock().await;
        *stopped = true;
        self.end().await;
        Ok(())
    }
}

/// Lets all of them come to their end, and tells the first error: none is left half way.
async fn all(
    work: impl Iterator<Item = impl Future<Output = Result<(), DataPlaneError>>>,
) -> Result<(), DataPlaneError> {
    join_all(work).await.into_iter().collect()
}

fn nothing(name: &str) -> ProxyPlan {
    ProxyPlan {
        name: name.to_owned(),
        namespace: String::new(),
        identity: String::new(),
        listeners: Vec::new(),
        clusters: Vec::new(),
    }
}
