//! From a kubeconfig to a client.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::question::chain;
use super::{Api, ApiError};
use crate::settings::Settings;

const MEND: &str = "name a kubeconfig with --kubeconfig FILE (or MESHPROOF_KUBECONFIG, or KUBECONFIG), and one of its contexts with \
                    --context NAME; `kubectl config get-contexts` lists them";

impl Api {
    /// Reads the kubeconfig and connects.
    ///
    /// # Errors
    /// [`ApiError::Config`]: there is no usable kubeconfig, or no such context in it.
    pub async fn connect(settings: &Settings) -> Result<Self, ApiError> {
        let mut config = config(settings).await?;
        // The suite tries again itself: more cases, and within the timeout `cluster-answer`.
        config.default_retry = false;
        let client = Client::try_from(config)
            .map_err(|e| ApiError::Config(format!("the kubeconfig cannot be used: {}; {MEND}", chain(&e))))?;
        Ok(Self::with_client(client, settings.timeouts.clone()))
    }
}

async fn config(settings: &Settings) -> Result<Config, ApiError> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let unusable = |what: &str, e: &(dyn std::error::Error + 'static)| {
        ApiError::Config(format!("{what} cannot be used: {}; {MEND}", chain(e)))
    };
    if let Some(file) = &settings.kubeconfig {
        let shown = file.display().to_string();
        let kubeconfig = Kubeconfig::read_from(file).map_err(|e| unusable(&shown, &e))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| unusable(&shown, &e));
    }
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok(config),
        // A context that was asked for is not to be exchanged for whatever cluster the suite happens to run in.
        Err(e) if settings.context.is_some() => Err(unusable("the kubeconfig", &e)),
        Err(e) => Config::incluster().map_err(|_| unusable("no kubeconfig was named, and the usual one", &e)),
    }
}
