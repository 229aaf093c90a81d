//! From a kubeconfig to a client.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::client::ClusterClient;
use super::error::{ApiError, chain};
use crate::settings::Settings;

const FIX: &str = "name a kubeconfig with --kubeconfig FILE (or MESHPROOF_KUBECONFIG, or KUBECONFIG), and \
    one of its contexts with \
                   --context NAME; `kubectl config get-contexts` lists them";

impl ClusterClient {
    /// Reads the kubeconfig and connects.
    ///
    /// # Errors
    /// [`ApiError::Config`]: there is no usable kubeconfig, or no such context in it.
    pub async fn connect(settings: &Settings) -> Result<Self, ApiError> {
        let mut config = config(settings).await?;
        // The suite's own transport repeats requests: see there.
        config.default_retry = false;
        // Credentials may come from a program (`exec` in a kubeconfig), which kube runs here and waits for.
        let made = tokio::task::spawn_blocking(move || Client::try_from(config)).await;
        let made =
            made.map_err(|e| ApiError::Config(format!("the kubeconfig cannot be used: {e}; {FIX}")))?;
        let client = made.map_err(|e| {
            ApiError::Config(format!(
                "the kubeconfig cannot be used: {}; \
            {FIX}",
                chain(&e)
            ))
        })?;
        Ok(Self::with_client(client, settings.timeouts.clone()))
    }
}

async fn config(settings: &Settings) -> Result<Config, ApiError> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let unusable = |what: &str, e: &(dyn std::error::Error + 'static)| {
        ApiError::Config(format!("{what} cannot be used: {}; {FIX}", chain(e)))
    };
    if let Some(file) = &settings.kubeconfig {
        let shown = file.display().to_string();
        let kubeconfig = Kubeconfig::read_from(file).map_err(|e| unusable(&shown, &e))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| unusable(&shown, &e));
    }
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok(config),
        // Where a context was asked for, the cluster that the suite happens to run in is not a substitute.
        Err(e) if settings.context.is_some() => Err(unusable("the kubeconfig", &e)),
        Err(e) => Config::incluster().map_err(|_| unusable("no kubeconfig was named, and the usual one", &e)),
    }
}
