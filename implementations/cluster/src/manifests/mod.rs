//! The Kubernetes objects of a scenario: pure functions of its topology and of the run's options.

pub mod gateway;
pub mod mesh;
pub mod nginx;
pub mod served;
pub mod workload;

use std::collections::BTreeMap;

use meshproof_model::Resource;
use serde_json::{Map, Value, json};

use crate::access_logs::AccessLogs;
use crate::owned;
use crate::places::Places;
use crate::pull_secrets::PullSecret;
use crate::settings::Settings;

/// The ConfigMap with the suite's public CA, in each namespace, and its one key.
pub const ROOTS: &str = "meshproof-roots";
/// The key in it.
pub const ROOTS_KEY: &str = "ca-certificates.crt";
/// Where it is mounted in the suite's own clients.
pub const ROOTS_FOLDER: &str = "/etc/meshproof-roots";
/// Where Istio's proxy looks for the system's roots first (Istio, pkg/security/security.go,
/// `GetOSRootFilePath`; the image proxyv2 is Debian's or Ubuntu's layout, where this is the file).
pub const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What an installation asks of the namespaces and pods that it is to inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The name of the namespace label that requests sidecars, `istio-injection` or `istio.io/rev` (Istio,
    /// "Installing the Sidecar").
    pub label: String,
    /// Its value.
    pub value: String,
    /// The labels that make the control plane discover a namespace (Istio, `MeshConfig.discoverySelectors`).
    pub discovery: BTreeMap<String, String>,
    /// When proxy images are pulled, unless the run says so.
    pub pull_policy: String,
    /// Whether a policy of the whole mesh allows only some requests, so that the run allows its own.
    pub allows_only_some: bool,
    /// Whether DestinationRules of the whole mesh apply where a client and a service have none, so that the run has rules for its
    /// servers without a sidecar.
    pub destination_rules: bool,
    /// Where proxies write access logs; or why what they write cannot be read.
    pub access_logs: Result<AccessLogs, String>,
}

impl Default for Injection {
    fn default() -> Self {
        Self {
            label: "istio-injection".to_owned(),
            value: "enabled".to_owned(),
            discovery: BTreeMap::new(),
            pull_policy: "IfNotPresent".to_owned(),
            allows_only_some: false,
            destination_rules: false,
            access_logs: Ok(AccessLogs::default()),
        }
    }
}

impl Injection {
    /// By revision.
    #[must_use]
    pub fn revision(revision: &str) -> Self {
        Self { label: "istio.io/rev".to_owned(), value: revision.to_owned(), ..Self::default() }
    }
}

/// Everything that manifests are made from.
#[derive(Clone, Copy, Debug)]
pub struct ManifestContext<'a> {
    /// Images, pull policy and secrets.
    pub settings: &'a Settings,
    /// The scenario's namespaces.
    pub places: &'a Places,
    /// The labels of everything that is created.
    pub labels: &'a BTreeMap<String, String>,
    /// How sidecars are requested.
    pub injection: &'a Injection,
    /// Whether external hosts are the documents' own: then no trusted authorities are replaced, and no host
    /// is pinned.
    pub live: bool,
}

impl ManifestContext<'_> {
    /// The suite's own image, where it serves and sends: not in a live run, in which clients resolve the names of real hosts.
    #[must_use]
    pub fn suite_image(&self) -> Option<&str> {
        self.settings.suite_image().filter(|_| !self.live)
    }

    fn metadata(&self, namespace: &str, name: &str) -> Value {
        json!({ "name": name, "namespace": namespace, "labels": self.labels })
    }

    /// The run's labels and more.
    fn labels_with(&self, more: &[(&str, &str)]) -> Value {
        let mut labels = self.labels.clone();
        labels.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        json!(labels)
    }

    /// What every pod of the suite's own images has in common: nothing that a restricted namespace forbids
    /// (Kubernetes, "Pod Security Standards"), no API token, and a short grace period.
    fn pod_spec(&self, container: Value, volumes: Vec<Value>) -> Map<String, Value> {
        let mut spec = json!({
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 2,
            "containers": [container],
            "volumes": volumes,
        });
        self.pull_secrets(&mut spec);
        spec.as_object_mut().map(std::mem::take).unwrap_or_default()
    }

    fn pull_secrets(&self, spec: &mut Value) {
        if !self.settings.pull_secrets.is_empty() {
            let secrets = self.settings.pull_secrets.iter().map(|secret| json!({ "name": secret.name }));
            spec["imagePullSecrets"] = secrets.collect();
        }
    }

    fn container(&self, name: &str, image: &str) -> Map<String, Value> {
        let mut container = Map::new();
        container.insert("name".to_owned(), name.into());
        container.insert("image".to_owned(), self.settings.image(image).into());
        if let Some(policy) = &self.settings.pull_policy {
            container.insert("imagePullPolicy".to_owned(), policy.as_str().into());
        }
        container.insert(
            "resources".to_owned(),
            json!({ "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "memory": "128Mi" } }),
        );
        container.insert(
            "securityContext".to_owned(),
            json!({
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "runAsNonRoot": true,
                "runAsUser": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            }),
        );
        container
    }
}

/// The copies of a Secret that images are pulled with, one in each namespace of the scenario.
#[must_use]
pub fn pull_secret(context: &ManifestContext<'_>, secret: &PullSecret, original: &Value) -> Vec<Resource> {
    let copy = |namespace| PullSecret::copy(original, context.metadata(namespace, &secret.name));
    context.places.own().into_iter().map(copy).collect()
}

/// The user that the suite's own containers run as. Not 1337, whose traffic Istio's proxy does not capture
/// (Istio, "Application Requirements").
const USER: i64 = 10_101;

/// The namespaces of the scenario, each with the suite's roots unless the run is live. `created` is the time,
/// RFC 3339.
#[must_use]
pub fn namespaces(context: &ManifestContext<'_>, created: &str, roots: &str) -> Vec<Resource> {
    let mut made = Vec::new();
    for name in context.places.own() {
        let outside = name == context.places.outside();
        let mut labels = context.injection.discovery.clone();
        labels.extend(context.settings.namespace_labels.clone());
        labels.extend(context.labels.clone());
        if outside {
            // The cluster's default may be to inject.
            labels.insert("istio-injection".to_owned(), "disabled".to_owned());
        } else {
            labels.insert(context.injection.label.clone(), context.injection.value.clone());
        }
        made.push(Resource(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "namespace": name, "labels": labels, "annotations": { owned::CREATED:
                created } },
        })));
    }
    for name in context.places.own().into_iter().filter(|_| !context.live) {
        made.push(Resource(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": context.metadata(name, ROOTS),
            "data": { ROOTS_KEY: roots },
        })));
    }
    made
}
