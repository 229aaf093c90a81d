//! What the command line, or a test's environment, says about the cluster and about what is put into it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meshproof_harness::timeouts::Timeouts;

use crate::pull_secrets::PullSecret;

/// Which gateways carry the documents' traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gateways {
    /// Each scenario makes its own by gateway injection, in namespaces of its own.
    #[default]
    Own,
    /// Those of the installation, as the documents print them. Scenarios then share them.
    Installed {
        /// Where they live.
        namespace: String,
    },
}

/// The images that are put into a cluster: key, default, and what it is for.
pub const IMAGES: &[(&str, &str, &str)] = &[
    ("workload", "curlimages/curl:8.16.0", "the documents' sleep pod and the probe: a stock curl"),
    ("external", "nginx:1.28.0", "external services and services without a sidecar: a stock nginx"),
    ("details", "nginx:1.28.0", "the application that asks a service outside on its own"),
];

/// Everything that a run on a cluster may be told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The kubeconfig; absent: `KUBECONFIG`, else `~/.kube/config`, else the service account of the pod it runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; absent: its current one.
    pub context: Option<String>,
    /// Whose gateways.
    pub gateways: Gateways,
    /// Images that replace those of [`IMAGES`], by key.
    pub images: BTreeMap<String, String>,
    /// `Always`, `IfNotPresent` or `Never`; absent: Kubernetes's own default.
    pub pull_policy: Option<String>,
    /// Secrets that pods pull images with.
    pub pull_secrets: Vec<PullSecret>,
    /// What the report calls the implementation; absent: what it says of itself.
    pub name: Option<String>,
    /// How long each thing may take.
    pub timeouts: Timeouts,
}

impl Settings {
    /// The image for this key.
    ///
    /// # Panics
    /// No image has this key; keys are constants of the suite.
    #[must_use]
    #[track_caller]
    pub fn image(&self, key: &str) -> &str {
        let default = IMAGES.iter().find(|(known, ..)| *known == key);
        let Some((_, default, _)) = default else { panic!("no image is called {key:?}") };
        self.images.get(key).map_or(default, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_one_that_was_asked_for_else_the_default() {
        let images = BTreeMap::from([("workload".to_owned(), "mirror/curl:1".to_owned())]);
        let settings = Settings { images, ..Settings::default() };
        assert_eq!(settings.image("workload"), "mirror/curl:1");
        assert_eq!(settings.image("external"), "nginx:1.28.0");
    }
}
