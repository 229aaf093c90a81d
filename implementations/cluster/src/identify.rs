//! Which implementation a cluster runs, and which cluster it is.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_harness::feature::{Feature, undeclared};
use meshproof_model::Implementation;
use serde_json::Value;

use crate::access_logs::access_logs;
use crate::api::{ApiError, ClusterClient};
use crate::discovery::discovery_labels;
use crate::manifests::Injection;
use crate::nodes::flavour;
use crate::pod::{is_leaving, is_ready, label};
use crate::settings::{Gateways, Settings};
use crate::version::version_of;
use crate::whole_mesh::{allows_only_some, configuration, has_destination_rules, root_namespace};

/// The mesh of a cluster, as its own objects show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installation {
    /// What the namespaces of a run must have.
    pub injection: Injection,
    /// Why no label makes the control plane discover a namespace of a run, if that is so.
    pub undiscoverable: Option<String>,
    /// `default`, where none is named.
    pub revision: String,
    /// Where istiod and its configuration live.
    pub namespace: String,
    /// `1.30.1`; `unknown` where nothing shows it.
    pub version: String,
    /// The proxy's image in the injector's values.
    pub proxy: Option<String>,
    /// Whether ztunnel is installed too.
    pub ambient: bool,
    /// The mesh configuration; null where there is none.
    pub configuration: Value,
    /// The namespace whose resources apply to the whole mesh.
    pub root: String,
    /// istiod's pods, and how many are ready.
    pub control_plane: (usize, usize),
}

/// The revisions and tags whose injectors are active, in alphabetical order.
///
/// # Errors
/// The cluster's.
pub async fn revisions(api: &ClusterClient) -> Result<Vec<String>, ApiError> {
    let webhooks = api.list("MutatingWebhookConfiguration", None, None).await?;
    let found = injectors(&webhooks).into_iter().filter(|i| i.label.0 == REVISION).map(|i| i.label.1);
    Ok(found.collect::<BTreeSet<_>>().into_iter().collect())
}

/// Finds the mesh of this revision or tag, or the default one; none where no webhook injects for it.
///
/// # Errors
/// The cluster's.
pub async fn installation(
    api: &ClusterClient,
    revision: Option<&str>,
) -> Result<Option<Installation>, ApiError> {
    let webhooks = api.list("MutatingWebhookConfiguration", None, None).await?;
    let Some(injector) = injector(&webhooks, revision) else { return Ok(None) };
    let pods = api.list("Pod", Some(&injector.namespace), Some("app=istiod")).await?;
    let of_revision = |pod: &&Value| label(pod, "istio.io/rev") == Some(&injector.actual);
    // During a rollout, a pod that is being deleted may still be ready, and answers no more.
    let pods: Vec<&Value> = pods.iter().filter(of_revision).filter(|pod| !is_leaving(pod)).collect();
    let ready: Vec<&Value> = pods.iter().copied().filter(|p| is_ready(p)).collect();
    let version = match ready.first().or(pods.first()) {
        Some(pod) => Some(version_of(api, &injector.namespace, pod).await),
        None => None,
    };
    let suffix = if injector.actual == "default" { String::new() } else { format!("-{}", injector.actual) };
    let values =
        api.get("ConfigMap", &injector.namespace, &format!("istio-sidecar-injector{suffix}")).await?;
    let ztunnel = api.list_metadata("DaemonSet", None, Some("app=ztunnel")).await?;
    let mesh = api.get("ConfigMap", &injector.namespace, &format!("istio{suffix}")).await?;
    let (discovery, undiscoverable) =
        match mesh.as_ref().map_or_else(|| Ok(BTreeMap::new()), discovery_labels) {
            Ok(labels) => (labels, None),
            Err(words) => (BTreeMap::new(), Some(words)),
        };
    let root = root_namespace(mesh.as_ref(), &injector.namespace);
    let proxy = values.as_ref().and_then(proxy_image);
    let pull_policy = pull_policy(values.as_ref(), proxy.as_deref());
    let (label, value) = injector.label;
    Ok(Some(Installation {
        injection: Injection {
            label,
            value,
            discovery,
            pull_policy,
            allows_only_some: allows_only_some(api, &root).await?,
            destination_rules: has_destination_rules(api, &root).await?,
            access_logs: access_logs(mesh.as_ref()),
        },
        undiscoverable,
        revision: injector.actual,
        namespace: injector.namespace,
        version: version.unwrap_or_else(|| "unknown".to_owned()),
        proxy,
        ambient: !ztunnel.is_empty(),
        configuration: configuration(mesh.as_ref()),
        root,
        control_plane: (pods.len(), ready.len()),
    }))
}

/// The namespace of the control plane of this revision or tag, or of the default one, and its own revision.
///
/// # Errors
/// The cluster's.
pub async fn control_plane(
    api: &ClusterClient,
    revision: Option<&str>,
) -> Result<Option<(String, String)>, ApiError> {
    let webhooks = api.list("MutatingWebhookConfiguration", None, None).await?;
    Ok(injector(&webhooks, revision).map(|found| (found.namespace, found.actual)))
}

struct Injector {
    label: (String, String),
    actual: String,
    namespace: String,
}

/// The injector of a revision or tag; without one, the injector that the plain label `istio-injection=enabled` selects,
/// else the first, by name, that a revision or tag selects.
fn injector(webhooks: &[Value], revision: Option<&str>) -> Option<Injector> {
    let mut found = injectors(webhooks);
    if let Some(wanted) = revision {
        return found.into_iter().find(|i| i.label.0 == REVISION && i.label.1 == wanted);
    }
    found.sort_by(|a, b| (a.label.0 == REVISION, &a.label.1).cmp(&(b.label.0 == REVISION, &b.label.1)));
    found.into_iter().next()
}

/// Every active injector, once for each label value that selects it. One that `istioctl tag` has deactivated selects a
/// label that no namespace has.
fn injectors(webhooks: &[Value]) -> Vec<Injector> {
    let mut found: Vec<Injector> = Vec::new();
    for configuration in webhooks {
        let hooks = configuration.get("webhooks").and_then(Value::as_array);
        for hook in hooks.into_iter().flatten() {
            let name = hook["name"].as_str().unwrap_or_default();
            let deactivated = hook.pointer("/namespaceSelector/matchLabels").is_some_and(|labels| {
                labels.as_object().is_some_and(|l| l.keys().any(|k| k == "istio.io/deactivated"))
            });
            if !name.ends_with("sidecar-injector.istio.io") || deactivated {
                continue;
            }
            let namespace = hook.pointer("/clientConfig/service/namespace").and_then(Value::as_str);
            let namespace = namespace.unwrap_or("istio-system").to_owned();
            let actual = label(configuration, "istio.io/rev").unwrap_or("default").to_owned();
            for expression in array(hook.pointer("/namespaceSelector/matchExpressions")) {
                let key = expression["key"].as_str().unwrap_or_default();
                if !matches!(key, PLAIN | REVISION) || expression["operator"] != "In" {
                    continue;
                }
                for value in array(expression.get("values")).filter_map(Value::as_str) {
                    let label = (key.to_owned(), value.to_owned());
                    found.push(Injector { label, actual: actual.clone(), namespace: namespace.clone() });
                }
            }
        }
    }
    found
}

/// The label that selects the default injector, and the one that selects a revision or tag (istio.io/istio,
/// manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml).
const PLAIN: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";

fn array(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// When the proxy's image is pulled: as the injector's values say, else as Kubernetes does for this image ("Images":
/// `Always` for the tag `latest` or none).
fn pull_policy(config: Option<&Value>, proxy: Option<&str>) -> String {
    let values = config.and_then(|c| c.pointer("/data/values")?.as_str()).unwrap_or("{}");
    let values: Value = serde_json::from_str(values).unwrap_or_default();
    let configured =
        values.pointer("/global/imagePullPolicy").and_then(Value::as_str).filter(|p| !p.is_empty());
    let latest = proxy.is_some_and(|image| {
        let name = image.rsplit('/').next().unwrap_or(image);
        !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
    });
    configured.unwrap_or(if latest { "Always" } else { "IfNotPresent" }).to_owned()
}

/// From the injector's values: `global.proxy.image`, whole or to be completed by `global.hub` and
/// `global.tag`.
fn proxy_image(config: &Value) -> Option<String> {
    let values: Value = serde_json::from_str(config.pointer("/data/values")?.as_str()?).ok()?;
    let global = values.get("global")?;
    let image = global.pointer("/proxy/image")?.as_str()?;
    if image.contains('/') {
        return Some(image.to_owned());
    }
    // Helm parses a tag like 1.30 as a number.
    let tag = global["tag"].as_str().map_or_else(|| global["tag"].to_string(), str::to_owned);
    Some(format!("{}/{image}:{tag}", global["hub"].as_str()?))
}

/// The features of Istio that the target itself cannot check, each with the reason.
#[must_use]
pub fn unavailable(
    settings: &Settings,
    installed_gateways: &[String],
    injection: &Injection,
) -> BTreeMap<Feature, String> {
    let mut found = BTreeMap::new();
    if let Gateways::Installed { namespace } = &settings.gateways {
        for (feature, kind) in
            [(Feature::EgressGateway, "egressgateway"), (Feature::IngressGateway, "ingressgateway")]
        {
            if !installed_gateways.iter().any(|installed| installed == kind) {
                let why = format!("no pod with the label istio={kind} is ready in the namespace {namespace}");
                found.insert(feature, why);
            }
        }
    }
    found.insert(
        Feature::MeshCa,
        "in a cluster, the mesh's CA belongs to istiod and issues no certificate to the suite".to_owned(),
    );
    if settings.suite_image().is_none() {
        for feature in [Feature::WebSocket, Feature::TcpOrigination, Feature::GatewayTls] {
            found.insert(feature, BEYOND_CURL.to_owned());
        }
    }
    if let Err(why) = &injection.access_logs {
        for feature in [Feature::AccessLog, Feature::UpstreamLocalAddress] {
            found.insert(feature, why.clone());
        }
    }
    found
}

/// What a stock curl lacks: not every build of it supports WebSocket, and none sends bytes of another protocol, or another server
/// name than that of its URL.
const BEYOND_CURL: &str = "without the suite's own image, the client in a cluster is a stock curl, which cannot send what this needs; \
                           give the image with --image suite=IMAGE";

/// The features that the target declares: those of Istio, except those that are not available.
#[must_use]
pub fn features(unavailable: &BTreeMap<Feature, String>) -> Vec<Feature> {
    Feature::ALL.iter().copied().filter(|feature| !unavailable.contains_key(feature)).collect()
}

/// The values of the label `istio` of the pods that are ready in the namespace of installed gateways.
///
/// # Errors
/// The cluster's.
pub async fn installed_gateways(api: &ClusterClient, settings: &Settings) -> Result<Vec<String>, ApiError> {
    let Gateways::Installed { namespace } = &settings.gateways else { return Ok(Vec::new()) };
    let pods = api.list("Pod", Some(namespace), Some("istio")).await?;
    let mut kinds: Vec<String> =
        pods.iter().filter(|p| is_ready(p)).filter_map(|p| label(p, "istio")).map(str::to_owned).collect();
    kinds.sort();
    kinds.dedup();
    Ok(kinds)
}

/// The implementation as the report describes it.
///
/// # Errors
/// The cluster's.
pub async fn implementation(
    api: &ClusterClient,
    settings: &Settings,
    found: &Installation,
    nodes: &[Value],
) -> Result<Implementation, ApiError> {
    let version = api.server_version().await?;
    let git_version = version.git_version.as_str();
    let served = api.served().await?;
    let gateways = installed_gateways(api, settings).await?;
    let mut details = BTreeMap::from([
        ("revision".to_owned(), found.revision.clone()),
        (
            "mode".to_owned(),
            if found.ambient { "sidecar (ambient is installed too)" } else { "sidecar" }.to_owned(),
        ),
        ("injection".to_owned(), format!("{}={}", found.injection.label, found.injection.value)),
        (
            "cluster".to_owned(),
            format!("{} {git_version}", flavour(git_version, nodes, served.on_openshift())),
        ),
        ("nodes".to_owned(), nodes.len().to_string()),
        ("hosts".to_owned(), "pods in the cluster".to_owned()),
        (
            "gateways".to_owned(),
            match &settings.gateways {
                Gateways::Own => "one set per scenario".to_owned(),
                Gateways::Installed { namespace } => format!("those installed in {namespace}"),
            },
        ),
    ]);
    if let Ok(logs) = &found.injection.access_logs {
        details.insert("access log".to_owned(), format!("provider {}", logs.provider));
    }
    let unavailable = unavailable(settings, &gateways, &found.injection);
    details.extend(unavailable.iter().map(|(feature, why)| (undeclared(*feature), why.clone())));
    details.extend(found.proxy.iter().map(|proxy| ("proxy".to_owned(), proxy.clone())));
    details.extend(served.api_version("Gateway").map(|v| ("api".to_owned(), v)));
    Ok(Implementation {
        name: match &settings.revision {
            Some(revision) => format!("Istio {revision}"),
            None => "Istio".to_owned(),
        },
        version: found.version.clone(),
        target: "cluster".to_owned(),
        features: features(&unavailable).into_iter().map(Into::into).collect(),
        details,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hook(rev: &str, key: &str, value: &str) -> Value {
        json!({
            "metadata": {"labels": {"istio.io/rev": rev}},
            "webhooks": [{
                "name": "namespace.sidecar-injector.istio.io",
                "clientConfig": {"service": {"namespace": "mesh-system", "name": "istiod"}},
                "namespaceSelector": {"matchExpressions": [
                    {"key": "other", "operator": "DoesNotExist"},
                    {"key": key, "operator": "In", "values": [value]},
                ]},
            }],
        })
    }

    #[test]
    fn the_plain_label_is_preferred_to_a_revision() {
        let plain = hook("1-30", "istio-injection", "enabled");
        let tagged = hook("1-29", "istio.io/rev", "canary");
        let found = injector(&[tagged.clone(), plain], None).unwrap();
        assert_eq!(found.label, ("istio-injection".to_owned(), "enabled".to_owned()));
        assert_eq!((found.actual.as_str(), found.namespace.as_str()), ("1-30", "mesh-system"));
        let found = injector(&[tagged], None).unwrap();
        assert_eq!(found.label, ("istio.io/rev".to_owned(), "canary".to_owned()));
        assert_eq!(found.actual, "1-29");
    }

    #[test]
    fn a_revision_or_tag_chooses_its_own_injector() {
        let mut plain = hook("1-30", "istio-injection", "enabled");
        plain["webhooks"][0]["namespaceSelector"]["matchExpressions"]
            .as_array_mut()
            .unwrap()
            .push(json!({"key": "istio.io/rev", "operator": "In", "values": ["stable", "prod"]}));
        let canary = hook("1-31", "istio.io/rev", "1-31");
        let all = [plain, canary];
        let of = |name: &str| injector(&all, Some(name)).map(|i| (i.label.1, i.actual));
        assert_eq!(of("1-31"), Some(("1-31".to_owned(), "1-31".to_owned())));
        assert_eq!(of("prod"), Some(("prod".to_owned(), "1-30".to_owned())));
        assert_eq!(of("1-29"), None);
        // The plain label's value is no revision.
        assert_eq!(of("enabled"), None);
    }

    #[test]
    fn proxies_are_pulled_as_the_injector_says_or_else_as_kubernetes_does() {
        let config = |policy: &str| json!({"data": {"values": json!({"global": {"imagePullPolicy": policy}}).to_string()}});
        let image = |config: &Value, image: &str| pull_policy(Some(config), Some(image));
        assert_eq!(image(&config("Never"), "istio/proxyv2:1"), "Never");
        assert_eq!(image(&config(""), "reg.example:5000/istio/proxyv2:1"), "IfNotPresent");
        assert_eq!(image(&config(""), "reg.example:5000/istio/proxyv2"), "Always");
        assert_eq!(image(&config(""), "istio/proxyv2:latest"), "Always");
        assert_eq!(image(&config(""), "istio/proxyv2@sha256:00"), "IfNotPresent");
        assert_eq!(pull_policy(None, None), "IfNotPresent");
    }

    #[test]
    fn a_deactivated_injector_and_other_webhooks_are_not_found() {
        let mut hook = hook("default", "istio-injection", "enabled");
        hook["webhooks"][0]["namespaceSelector"]["matchLabels"] =
            json!({"istio.io/deactivated": "never-match"});
        let other = json!({"webhooks": [{"name": "cert-manager.io"}]});
        assert!(injector(&[hook, other], None).is_none());
    }

    #[test]
    fn the_proxys_image_is_composed_from_the_injectors_values() {
        let config = |image: &str| {
            let values =
                json!({"global": {"hub": "mirror/istio", "tag": "1.30.1", "proxy": {"image": image}}});
            json!({"data": {"values": values.to_string()}})
        };
        assert_eq!(proxy_image(&config("proxyv2")).unwrap(), "mirror/istio/proxyv2:1.30.1");
        assert_eq!(proxy_image(&config("own/proxy:2")).unwrap(), "own/proxy:2");
        assert_eq!(proxy_image(&json!({"data": {"values": "none"}})), None);
    }

    #[test]
    fn features_of_gateways_that_are_not_installed_are_not_declared() {
        let gateways = Gateways::Installed { namespace: "edge".to_owned() };
        let settings = Settings { gateways, ..Settings::default() };
        let by_default = Injection::default();
        let found = unavailable(&settings, &["ingressgateway".to_owned()], &by_default);
        assert!(features(&found).contains(&Feature::IngressGateway));
        assert!(!features(&found).contains(&Feature::EgressGateway));
        let why = &found[&Feature::EgressGateway];
        assert!(why.contains("istio=egressgateway") && why.contains("namespace edge"), "{why}");
        let own = unavailable(&Settings::default(), &[], &by_default);
        assert!(features(&own).contains(&Feature::EgressGateway));
        let unread = Injection { access_logs: Err("it writes to a file".to_owned()), ..by_default };
        let found = unavailable(&Settings::default(), &[], &unread);
        assert_eq!(found[&Feature::AccessLog], "it writes to a file");
        assert!(!features(&found).contains(&Feature::UpstreamLocalAddress));
    }

    #[test]
    fn what_curl_cannot_do_is_declared_with_the_suites_own_image() {
        let images = [("suite".to_owned(), "i".to_owned())].into();
        let with_suite = Settings { images, ..Settings::default() };
        let by_default = Injection::default();
        for feature in [Feature::WebSocket, Feature::TcpOrigination, Feature::GatewayTls] {
            let by_curl = unavailable(&Settings::default(), &[], &by_default);
            assert!(by_curl[&feature].contains("--image suite=IMAGE"), "{feature}");
            assert!(!unavailable(&with_suite, &[], &by_default).contains_key(&feature), "{feature}");
        }
    }
}
