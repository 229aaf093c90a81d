//! The options of the command line, or of a test's environment, for a run in a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meshproof_harness::timeouts::Timeouts;

use crate::pull_secrets::PullSecret;

/// Which gateways the scenarios use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gateways {
    /// Each scenario creates its own by gateway injection, in namespaces of its own.
    #[default]
    Own,
    /// Those of the installation, as in the documents. Scenarios then share them.
    Installed {
        /// Their namespace.
        namespace: String,
    },
}

/// The images of the suite's own pods: key, default, and purpose.
pub const IMAGES: &[(&str, &str, &str)] = &[
    ("workload", "curlimages/curl:8.16.0", "the documents' sleep pod and the probe: a stock curl"),
    ("external", "nginx:1.28.0", "external services and services without a sidecar: a stock nginx"),
    ("details", "nginx:1.28.0", "the application that calls an external service on its own"),
];

/// The key of the suite's own image (the repository's Dockerfile), which has no default. Where it is given, its pods replace the
/// external services and the clients of stock images, so that everything is checked that the suite's own server can show.
pub const SUITE: &str = "suite";

/// The options of a run in a cluster.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The kubeconfig; absent: `KUBECONFIG`, else `~/.kube/config`, else the service account of the pod that
    /// the suite runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; absent: its current one.
    pub context: Option<String>,
    /// The control plane to judge, by its revision or by a tag that points to one; absent: the default one.
    pub revision: Option<String>,
    /// Labels of every namespace of the run, for policies that demand them.
    pub namespace_labels: BTreeMap<String, String>,
    /// Which gateways.
    pub gateways: Gateways,
    /// Whether the suite's public CA is one that the operator keeps (`--ca FILE`), and has mounted in installed gateways.
    pub fixed_ca: bool,
    /// Images that replace those of [`IMAGES`], by key, and the one of [`SUITE`].
    pub images: BTreeMap<String, String>,
    /// `Always`, `IfNotPresent` or `Never`; absent: Kubernetes's own default.
    pub pull_policy: Option<String>,
    /// Secrets that pods pull images with.
    pub pull_secrets: Vec<PullSecret>,
    /// The timeouts.
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
        let known = self.images.get(key).map(String::as_str).or(default.map(|(_, default, _)| *default));
        let Some(image) = known else { panic!("no image is called {key:?}") };
        image
    }

    /// The suite's own image, if one is given.
    #[must_use]
    pub fn suite_image(&self) -> Option<&str> {
        self.images.get(SUITE).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_configured_one_or_else_the_default() {
        let images = BTreeMap::from([("workload".to_owned(), "mirror/curl:1".to_owned())]);
        let settings = Settings { images, ..Settings::default() };
        assert_eq!(settings.image("workload"), "mirror/curl:1");
        assert_eq!(settings.image("external"), "nginx:1.28.0");
    }
}
