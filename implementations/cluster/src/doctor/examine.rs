//! Examines a cluster, without changing it.

use futures_util::stream::{self, StreamExt};
use meshproof_harness::names::did_you_mean;
use meshproof_harness::topology::Topology;
use serde_json::Value;

use super::DoctorFinding;
use crate::api::{ApiError, ClusterClient, ServedVersions};
use crate::identify::{Installation, installation, installed_gateways, revisions};
use crate::inventory::owned;
use crate::manifests::ManifestContext;
use crate::nodes::flavour;
use crate::owned::RUN;
use crate::permissions::{PERMISSIONS, Permission};
use crate::places::Places;
use crate::settings::{Gateways, IMAGES, Settings};

/// The first version whose exec over WebSocket can close a program's standard input (KEP-4006).
const OLDEST: (u64, u64) = (1, 30);
/// How many reviews are requested concurrently.
const AT_ONCE: usize = 16;
/// How many leftovers are listed.
const MAX_LISTED: usize = 6;

/// Everything that a run needs, in the order in which it is needed.
pub async fn examine(api: &ClusterClient, settings: &Settings) -> Vec<DoctorFinding> {
    let mut findings = match api_server(api).await {
        Ok(findings) => findings,
        // Without an answer nothing else can be examined.
        Err(e) => {
            return vec![DoctorFinding::problem(
                "API server",
                e.to_string(),
                "start the cluster, or name another with --kubeconfig FILE or --context NAME",
            )];
        }
    };
    findings.extend(permissions(api).await);
    findings.extend(custom_resources(api).await);
    let found = match installation(api, settings.revision.as_deref()).await {
        Ok(found) => found,
        Err(e) => {
            findings.push(DoctorFinding::problem(
                "mesh",
                format!("it cannot be determined: {e}"),
                "kubectl apply -f fixtures/cluster/rbac.yaml",
            ));
            return findings;
        }
    };
    match (&settings.revision, &found) {
        (Some(revision), None) => findings.push(no_revision(api, revision).await),
        (Some(_) | None, _) => findings.extend(mesh(found.as_ref())),
    }
    findings.extend(other_revisions(api, settings.revision.as_deref()).await);
    if let Some(found) = &found {
        findings.extend(super::configuration::configuration(api, found).await);
    }
    findings.extend(namespaces(api, settings, found.as_ref()).await);
    findings.extend(gateways(api, settings).await);
    findings.extend(images(api, settings).await);
    findings.extend(pull_secrets(api, settings).await);
    findings.extend(leftovers(api).await);
    findings
}

async fn api_server(api: &ClusterClient) -> Result<Vec<DoctorFinding>, ApiError> {
    let version = api.server_version().await?;
    let git_version = version.git_version.as_str();
    // The minor version of some providers ends in a plus sign.
    let number = |text: &str| text.trim_end_matches('+').parse::<u64>().unwrap_or(0);
    let mut findings = Vec::new();
    if (number(&version.major), number(&version.minor)) < OLDEST {
        findings.push(DoctorFinding::problem(
            "API server",
            format!("{git_version}, which cannot close the standard input of a program in a pod"),
            "upgrade the cluster to Kubernetes 1.30 or newer",
        ));
    } else {
        findings.push(DoctorFinding::good("API server", git_version));
    }
    match api.list("Node", None, None).await {
        Ok(nodes) => {
            let on_openshift = api.served().await.is_ok_and(ServedVersions::on_openshift);
            let flavour = flavour(git_version, &nodes, on_openshift);
            let mut kubelets: Vec<&str> =
                nodes.iter().filter_map(|n| n.pointer("/status/nodeInfo/kubeletVersion")?.as_str()).collect();
            kubelets.sort_unstable();
            kubelets.dedup();
            let ready = nodes.iter().filter(|n| crate::pod::is_ready(n)).count();
            let says =
                format!("{flavour}, {ready} of {} ready, kubelet {}", nodes.len(), kubelets.join(" and "));
            findings.push(if ready > 0 {
                DoctorFinding::good("nodes", says)
            } else {
                DoctorFinding::problem("nodes", says, "kubectl describe nodes")
            });
        }
        // The finding about permissions says that the account may not list them.
        Err(ApiError::Forbidden(_)) => {}
        Err(e) => return Err(e),
    }
    Ok(findings)
}

/// Every verb of the table, reviewed by the cluster itself.
async fn permissions(api: &ClusterClient) -> Vec<DoctorFinding> {
    let asked: Vec<_> =
        PERMISSIONS.iter().flat_map(|p| p.verbs.iter().map(move |v| review(api, p, v))).collect();
    let reviews: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut findings: Vec<DoctorFinding> = Vec::new();
    let mut refused: Vec<(&Permission, Vec<&str>)> = Vec::new();
    for (permission, verb, review) in &reviews {
        match review {
            Ok(true) => {}
            Ok(false) => match refused.iter_mut().find(|(known, _)| known == permission) {
                Some((_, verbs)) => verbs.push(verb),
                None => refused.push((permission, vec![verb])),
            },
            Err(e) => {
                return vec![DoctorFinding::problem(
                    "permissions",
                    format!("they cannot be reviewed: {e}"),
                    "kubectl auth can-i --list",
                )];
            }
        }
    }
    for (permission, verbs) in refused {
        const FIX: &str = "kubectl apply -f fixtures/cluster/rbac.yaml, and run under its service account";
        let (resource, verbs) = (permission.shown(), verbs.join(", "));
        let refused = format!("the account may not {verbs} {resource} in the whole cluster");
        findings.push(match permission.lost {
            None => DoctorFinding::problem(
                "permissions",
                format!(
                    "{refused} (needed for: \
                {})",
                    permission.why
                ),
                FIX,
            ),
            Some(lost) => DoctorFinding::note("permissions", format!("{refused}; {lost}"), FIX),
        });
    }
    if findings.is_empty() {
        findings.push(DoctorFinding::good("permissions", format!("all {} that a run uses", reviews.len())));
    }
    findings
}

async fn review(
    api: &ClusterClient,
    permission: &'static Permission,
    verb: &'static str,
) -> (&'static Permission, &'static str, Result<bool, ApiError>) {
    let (resource, sub) = match permission.resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub)),
        None => (permission.resource, None),
    };
    (permission, verb, api.may(verb, permission.group, resource, sub).await)
}

async fn custom_resources(api: &ClusterClient) -> Vec<DoctorFinding> {
    const ABOUT: &str = "API";
    const FIX: &str = "istioctl install --set profile=minimal, or the charts istio/base and istio/istiod";
    let served = match api.served().await {
        Ok(served) => served,
        Err(e) => {
            return vec![DoctorFinding::problem(
                ABOUT,
                format!("the served API versions cannot be determined: {e}"),
                FIX,
            )];
        }
    };
    let missing = served.missing();
    if missing.is_empty() {
        let version = served.api_version("Gateway").unwrap_or_default();
        return vec![DoctorFinding::good(ABOUT, format!("all kinds are served; gateways as {version}"))];
    }
    let names: Vec<String> = missing.iter().map(|k| k.qualified_name()).collect();
    vec![DoctorFinding::problem(ABOUT, format!("not served: {}", names.join(", ")), FIX)]
}

/// No injector selects the revision that the run names.
async fn no_revision(api: &ClusterClient, revision: &str) -> DoctorFinding {
    let known = revisions(api).await.unwrap_or_default();
    let near = did_you_mean(revision, known.iter().map(String::as_str));
    let says = format!("no injector selects the revision or tag {revision}{near}");
    let fix = if known.is_empty() {
        "istioctl install --revision NAME; this cluster has no revisions".to_owned()
    } else {
        format!("--revision with one of: {}", known.join(", "))
    };
    DoctorFinding::problem("injection", says, fix)
}

fn mesh(found: Option<&Installation>) -> Vec<DoctorFinding> {
    let Some(found) = found else {
        return vec![DoctorFinding::problem(
            "injection",
            "no webhook injects proxies: istiod is not installed, or its injector is deactivated",
            "istioctl install --set profile=minimal; `istioctl tag list` shows revisions",
        )];
    };
    let (pods, ready) = found.control_plane;
    let says = format!(
        "{}, revision {}, {ready} of {pods} pods ready in {}",
        found.version, found.revision, found.namespace
    );
    let control_plane = if ready > 0 {
        DoctorFinding::good("istiod", says)
    } else {
        DoctorFinding::problem(
            "istiod",
            says,
            format!("kubectl describe pods --namespace {} --selector app=istiod", found.namespace),
        )
    };
    let proxy = found.proxy.as_deref().unwrap_or("(image unknown: the injector's values do not have it)");
    let injection = format!(
        "namespaces labelled {}={} get the proxy {proxy}, pulled {}",
        found.injection.label, found.injection.value, found.injection.pull_policy
    );
    let mut findings = vec![control_plane, DoctorFinding::good("injection", injection)];
    if let Some(words) = &found.undiscoverable {
        findings.push(DoctorFinding::problem(
            "discovery",
            format!("istiod would not see the namespaces of a run: {words}"),
            "add a selector to discoverySelectors in the mesh configuration that a label can fulfil, such as \
             matchLabels: {meshproof: enabled}",
        ));
    } else if !found.injection.discovery.is_empty() {
        let labels: Vec<String> = found.injection.discovery.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let says = format!("the run labels its namespaces {} for discoverySelectors", labels.join(", "));
        findings.push(DoctorFinding::good("discovery", says));
    }
    findings
}

/// The revisions and tags that a run can name.
async fn other_revisions(api: &ClusterClient, chosen: Option<&str>) -> Option<DoctorFinding> {
    let known = revisions(api).await.ok().filter(|known| !known.is_empty())?;
    let judged = chosen.map_or_else(|| "the default one".to_owned(), str::to_owned);
    let says = format!("{} (--revision NAME); a run judges {judged}", known.join(", "));
    Some(DoctorFinding::good("revisions", says))
}

/// Whether the cluster's policies admit the run's namespaces: the API server is asked without storing them.
async fn namespaces(
    api: &ClusterClient,
    settings: &Settings,
    found: Option<&Installation>,
) -> Vec<DoctorFinding> {
    const ABOUT: &str = "namespaces";
    let Some(found) = found else { return Vec::new() };
    let places = Places::new("doctor", "examination", &settings.gateways, &Topology::default());
    let labels = crate::owned::labels("doctor", "examination");
    let injection = &found.injection;
    let context = ManifestContext { settings, places: &places, labels: &labels, injection, live: true };
    for namespace in crate::manifests::namespaces(&context, "2026-01-01T00:00:00Z", "") {
        match api.try_apply(&namespace).await {
            Ok(()) => {}
            // The finding about permissions says so.
            Err(ApiError::Forbidden(_)) => return Vec::new(),
            Err(e) => {
                return vec![DoctorFinding::problem(
                    ABOUT,
                    e.to_string(),
                    "--namespace-label KEY=VALUE, or an exception for namespaces with the label meshproof.dev/run",
                )];
            }
        }
    }
    vec![DoctorFinding::good(ABOUT, "the API server and its policies admit those of a run")]
}

async fn gateways(api: &ClusterClient, settings: &Settings) -> Vec<DoctorFinding> {
    const ABOUT: &str = "gateways";
    let Gateways::Installed { namespace } = &settings.gateways else {
        return vec![DoctorFinding::good(ABOUT, "each scenario creates its own by injection")];
    };
    let found = match installed_gateways(api, settings).await {
        Ok(found) => found,
        Err(e) => {
            return vec![DoctorFinding::problem(ABOUT, e.to_string(), "run without --gateways installed")];
        }
    };
    let wanted = [("egressgateway", "egress"), ("ingressgateway", "ingress")];
    wanted
        .iter()
        .map(|(kind, name)| {
            if found.iter().any(|f| f == kind) {
                DoctorFinding::good(ABOUT, format!("an {name} gateway is ready in {namespace}"))
            } else {
                DoctorFinding::note(
                    ABOUT,
                    format!(
                        "no pod with the label istio={kind} is ready in {namespace}: checks that need an \
                        {name} gateway are skipped"
                    ),
                    format!(
                        "helm install istio-{kind} istio/gateway --namespace {namespace}, name another with \
                         --gateway-namespace, or \
                         run without --gateways installed"
                    ),
                )
            }
        })
        .collect()
}

/// Whether the nodes have the images. A node lists fifty at most, so an image that is not listed is only
/// worth a note.
async fn images(api: &ClusterClient, settings: &Settings) -> Vec<DoctorFinding> {
    const ABOUT: &str = "images";
    let Ok(nodes) = api.list("Node", None, None).await else { return Vec::new() };
    if nodes.is_empty() {
        return Vec::new();
    }
    let mut wanted: Vec<&str> = IMAGES.iter().map(|(key, ..)| settings.image(key)).collect();
    wanted.extend(settings.suite_image());
    wanted.sort_unstable();
    wanted.dedup();
    let absent: Vec<&str> = wanted.iter().copied().filter(|i| !nodes.iter().all(|n| holds(n, i))).collect();
    if absent.is_empty() {
        return vec![DoctorFinding::good(ABOUT, format!("every node has {}", wanted.join(" and ")))];
    }
    let words =
        format!("not every node lists {}: pods may have to wait until it is pulled", absent.join(" and "));
    let fix = if settings.pull_policy.as_deref() == Some("Never") {
        let load: Vec<String> = absent.iter().map(|i| format!("kind load docker-image {i}")).collect();
        return vec![DoctorFinding::problem(
            ABOUT,
            format!("{words}, which --pull-policy Never forbids"),
            format!("{}, or run without --pull-policy Never", load.join(" && ")),
        )];
    } else {
        "if the nodes cannot reach a registry: kind load docker-image IMAGE, or --image KEY=IMAGE with \
         --pull-secret"
    };
    vec![DoctorFinding::note(ABOUT, words, fix)]
}

async fn pull_secrets(api: &ClusterClient, settings: &Settings) -> Vec<DoctorFinding> {
    const ABOUT: &str = "pull secrets";
    let mut findings = Vec::new();
    for secret in &settings.pull_secrets {
        findings.push(match (secret.original(api).await, &secret.namespace) {
            (Ok(_), Some(namespace)) => {
                let says = format!("{} of {namespace} is copied into the run's namespaces", secret.name);
                DoctorFinding::good(ABOUT, says)
            }
            (Ok(_), None) => DoctorFinding::note(
                ABOUT,
                format!(
                    "pods look for {} in the run's namespaces, which the run creates: something else \
                    must create it there",
                    secret.name
                ),
                format!("--pull-secret NAMESPACE/{} copies it from where it is", secret.name),
            ),
            (Err(e), _) => DoctorFinding::problem(
                ABOUT,
                e.to_string(),
                "kubectl create secret docker-registry NAME --namespace NAMESPACE, and --pull-secret \
                 NAMESPACE/NAME",
            ),
        });
    }
    findings
}

/// Container runtimes report full names: `docker.io/library/nginx:1.28.0`.
fn holds(node: &Value, image: &str) -> bool {
    let images = node.pointer("/status/images").and_then(Value::as_array);
    let names = images.into_iter().flatten().filter_map(|i| i["names"].as_array()).flatten();
    names.filter_map(Value::as_str).any(|n| {
        let rest = n.strip_suffix(image);
        rest.is_some_and(|r| r.is_empty() || r.ends_with('/'))
    })
}

async fn leftovers(api: &ClusterClient) -> Vec<DoctorFinding> {
    const ABOUT: &str = "leftovers";
    match owned(api, RUN).await {
        Ok(found) if found.is_empty() => vec![DoctorFinding::good(ABOUT, "none from earlier runs")],
        Ok(found) => {
            let mut named: Vec<String> =
                found.iter().take(MAX_LISTED).map(|o| format!("{} of run {}", o.shown(), o.run)).collect();
            if found.len() > MAX_LISTED {
                named.push(format!("{} more", found.len() - MAX_LISTED));
            }
            vec![DoctorFinding::note(ABOUT, named.join(", "), "meshproof cleanup --target cluster")]
        }
        // Other findings say what is not served or may not be listed.
        Err(_) => Vec::new(),
    }
}
