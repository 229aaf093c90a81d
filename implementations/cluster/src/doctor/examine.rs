//! Looks at a cluster; changes nothing in it.

use futures_util::stream::{self, StreamExt};
use serde_json::Value;

use super::Finding;
use crate::api::{Api, ApiError};
use crate::identify::{Installation, flavour, installation, installed_gateways};
use crate::inventory::owned;
use crate::owned::RUN;
use crate::permissions::{PERMISSIONS, Permission};
use crate::settings::{Gateways, IMAGES, Settings};

/// Since then exec tells a program the end of its input over WebSocket (KEP-4006).
const OLDEST: (u64, u64) = (1, 30);
/// Reviews asked for at once.
const AT_ONCE: usize = 16;
/// How many things of a kind are named.
const NAMED: usize = 6;

/// Everything that a run needs, in the order in which it is needed.
pub async fn examine(api: &Api, settings: &Settings) -> Vec<Finding> {
    let mut findings = match api_server(api).await {
        Ok(findings) => findings,
        // Nobody is there who could be asked anything else.
        Err(e) => {
            return vec![Finding::lacking(
                "API server",
                e.to_string(),
                "start the cluster, or name another with --kubeconfig FILE or --context NAME",
            )];
        }
    };
    findings.extend(permissions(api).await);
    findings.extend(custom_resources(api).await);
    let found = match installation(api).await {
        Ok(found) => found,
        Err(e) => {
            findings.push(Finding::lacking(
                "mesh",
                format!("it cannot be looked for: {e}"),
                "kubectl apply -f fixtures/cluster/rbac.yaml",
            ));
            return findings;
        }
    };
    findings.extend(mesh(found.as_ref()));
    findings.extend(gateways(api, settings).await);
    findings.extend(images(api, settings).await);
    findings.extend(pull_secrets(api, settings).await);
    findings.extend(leftovers(api).await);
    findings
}

async fn api_server(api: &Api) -> Result<Vec<Finding>, ApiError> {
    let version = api.server_version().await?;
    let git_version = version["gitVersion"].as_str().unwrap_or("of an unknown version");
    // The minor of some providers ends in a plus.
    let number = |field: &str| {
        let digits = version[field].as_str().unwrap_or_default().trim_end_matches('+');
        digits.parse::<u64>().unwrap_or(0)
    };
    let mut findings = Vec::new();
    if (number("major"), number("minor")) < OLDEST {
        findings.push(Finding::lacking(
            "API server",
            format!("{git_version}, which cannot tell a program in a pod the end of its input"),
            "upgrade the cluster to Kubernetes 1.30 or newer",
        ));
    } else {
        findings.push(Finding::good("API server", git_version));
    }
    match api.list("Node", None, None).await {
        Ok(nodes) => {
            let groups = api.served().await;
            let flavour = flavour(git_version, &nodes, |g| groups.as_ref().is_ok_and(|s| s.has_group(g)));
            let mut kubelets: Vec<&str> =
                nodes.iter().filter_map(|n| n.pointer("/status/nodeInfo/kubeletVersion")?.as_str()).collect();
            kubelets.sort_unstable();
            kubelets.dedup();
            let ready = nodes.iter().filter(|n| crate::pod::is_ready(n)).count();
            let says =
                format!("{flavour}, {ready} of {} ready, kubelet {}", nodes.len(), kubelets.join(" and "));
            findings.push(if ready > 0 {
                Finding::good("nodes", says)
            } else {
                Finding::lacking("nodes", says, "kubectl describe nodes")
            });
        }
        // That the account may not list them is told with its permissions.
        Err(ApiError::Forbidden { .. }) => {}
        Err(e) => return Err(e),
    }
    Ok(findings)
}

/// Every verb of the table, judged by the cluster itself.
async fn permissions(api: &Api) -> Vec<Finding> {
    let asked: Vec<_> =
        PERMISSIONS.iter().flat_map(|p| p.verbs.iter().map(move |v| review(api, p, v))).collect();
    let reviews: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut findings: Vec<Finding> = Vec::new();
    let mut refused: Vec<(&Permission, Vec<&str>)> = Vec::new();
    for (permission, verb, review) in &reviews {
        match review {
            Ok(true) => {}
            Ok(false) => match refused.iter_mut().find(|(known, _)| known == permission) {
                Some((_, verbs)) => verbs.push(verb),
                None => refused.push((permission, vec![verb])),
            },
            Err(e) => {
                return vec![Finding::lacking(
                    "permissions",
                    format!("they cannot be reviewed: {e}"),
                    "kubectl auth can-i --list",
                )];
            }
        }
    }
    for (permission, verbs) in refused {
        const MEND: &str = "kubectl apply -f fixtures/cluster/rbac.yaml, and run under its service account";
        let (resource, verbs) = (permission.shown(), verbs.join(", "));
        let refused = format!("the account may not {verbs} {resource} in the whole cluster");
        findings.push(match permission.lost {
            None => Finding::lacking("permissions", format!("{refused}: {}", permission.why), MEND),
            Some(lost) => Finding::note("permissions", format!("{refused}: {lost}"), MEND),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::good("permissions", format!("all {} that are used", reviews.len())));
    }
    findings
}

async fn review(
    api: &Api,
    permission: &'static Permission,
    verb: &'static str,
) -> (&'static Permission, &'static str, Result<bool, ApiError>) {
    let (resource, sub) = match permission.resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub)),
        None => (permission.resource, None),
    };
    (permission, verb, api.may(verb, permission.group, resource, sub).await)
}

async fn custom_resources(api: &Api) -> Vec<Finding> {
    const ABOUT: &str = "API";
    const MEND: &str = "istioctl install --set profile=minimal, or the charts istio/base and istio/istiod";
    let served = match api.served().await {
        Ok(served) => served,
        Err(e) => return vec![Finding::lacking(ABOUT, format!("what is served cannot be asked: {e}"), MEND)],
    };
    let missing = served.missing();
    if missing.is_empty() {
        let version = served.api_version("Gateway").unwrap_or_default();
        return vec![Finding::good(ABOUT, format!("all kinds are served; gateways as {version}"))];
    }
    let names: Vec<String> = missing.iter().map(|k| k.resource()).collect();
    vec![Finding::lacking(ABOUT, format!("not served: {}", names.join(", ")), MEND)]
}

fn mesh(found: Option<&Installation>) -> Vec<Finding> {
    let Some(found) = found else {
        return vec![Finding::lacking(
            "injection",
            "no webhook injects proxies: there is no istiod, or its injector is switched off",
            "istioctl install --set profile=minimal; `istioctl tag list` shows revisions",
        )];
    };
    let (pods, ready) = found.control_plane;
    let says = format!(
        "{}, revision {}, {ready} of {pods} pods ready in {}",
        found.version, found.revision, found.namespace
    );
    let control_plane = if ready > 0 {
        Finding::good("istiod", says)
    } else {
        Finding::lacking(
            "istiod",
            says,
            format!("kubectl describe pods --namespace {} --selector app=istiod", found.namespace),
        )
    };
    let proxy = found.proxy.as_deref().unwrap_or("of an image that the injector's values do not tell");
    let injection =
        format!("namespaces labelled {}={} get the proxy {proxy}", found.injection.0, found.injection.1);
    vec![control_plane, Finding::good("injection", injection)]
}

async fn gateways(api: &Api, settings: &Settings) -> Vec<Finding> {
    const ABOUT: &str = "gateways";
    let Gateways::Installed { namespace } = &settings.gateways else {
        return vec![Finding::good(ABOUT, "each scenario makes its own by injection")];
    };
    let found = match installed_gateways(api, settings).await {
        Ok(found) => found,
        Err(e) => return vec![Finding::lacking(ABOUT, e.to_string(), "run without --gateways installed")],
    };
    let wanted = [("egressgateway", "egress"), ("ingressgateway", "ingress")];
    wanted
        .iter()
        .map(|(kind, name)| {
            if found.iter().any(|f| f == kind) {
                Finding::good(ABOUT, format!("an {name} gateway is ready in {namespace}"))
            } else {
                Finding::note(
                    ABOUT,
                    format!("no pod with the label istio={kind} is ready in {namespace}: what needs an {name} gateway is skipped"),
                    format!(
                        "helm install istio-{kind} istio/gateway --namespace {namespace}, name another with --gateway-namespace, or \
                         run without --gateways installed"
                    ),
                )
            }
        })
        .collect()
}

/// Whether nodes hold the images already. A node tells of fifty at most, so that one is not told is no more than a note.
async fn images(api: &Api, settings: &Settings) -> Vec<Finding> {
    const ABOUT: &str = "images";
    let Ok(nodes) = api.list("Node", None, None).await else { return Vec::new() };
    let mut wanted: Vec<&str> = IMAGES.iter().map(|(key, ..)| settings.image(key)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let absent: Vec<&str> = wanted.iter().copied().filter(|i| !nodes.iter().all(|n| holds(n, i))).collect();
    if absent.is_empty() {
        return vec![Finding::good(ABOUT, format!("every node holds {}", wanted.join(" and ")))];
    }
    let words = format!(
        "not every node tells that it holds {}: pods may wait for it to be pulled",
        absent.join(" and ")
    );
    let mend = if settings.pull_policy.as_deref() == Some("Never") {
        let load: Vec<String> = absent.iter().map(|i| format!("kind load docker-image {i}")).collect();
        return vec![Finding::lacking(
            ABOUT,
            format!("{words}, and --pull-policy Never forbids that"),
            format!("{}, or run without --pull-policy Never", load.join(" && ")),
        )];
    } else {
        "where the nodes reach no registry: kind load docker-image IMAGE, or --image KEY=IMAGE with --pull-secret"
    };
    vec![Finding::note(ABOUT, words, mend)]
}

async fn pull_secrets(api: &Api, settings: &Settings) -> Vec<Finding> {
    const ABOUT: &str = "pull secrets";
    let mut findings = Vec::new();
    for secret in &settings.pull_secrets {
        findings.push(match (secret.original(api).await, &secret.namespace) {
            (Ok(_), Some(namespace)) => {
                let says = format!("{} of {namespace} is copied into the run's namespaces", secret.name);
                Finding::good(ABOUT, says)
            }
            (Ok(_), None) => Finding::note(
                ABOUT,
                format!("pods look for {} in the run's namespaces, which the run makes: something of yours must put it there", secret.name),
                format!("--pull-secret NAMESPACE/{} copies it from where it is", secret.name),
            ),
            (Err(e), _) => Finding::lacking(
                ABOUT,
                e.to_string(),
                "kubectl create secret docker-registry NAME --namespace NAMESPACE, and --pull-secret NAMESPACE/NAME",
            ),
        });
    }
    findings
}

/// Container runtimes tell names in full: `docker.io/library/nginx:1.28.0`.
fn holds(node: &Value, image: &str) -> bool {
    let images = node.pointer("/status/images").and_then(Value::as_array);
    let names = images.into_iter().flatten().filter_map(|i| i["names"].as_array()).flatten();
    names.filter_map(Value::as_str).any(|n| {
        let rest = n.strip_suffix(image);
        rest.is_some_and(|r| r.is_empty() || r.ends_with('/'))
    })
}

async fn leftovers(api: &Api) -> Vec<Finding> {
    const ABOUT: &str = "leftovers";
    match owned(api, RUN).await {
        Ok(found) if found.is_empty() => vec![Finding::good(ABOUT, "none of earlier runs")],
        Ok(found) => {
            let mut named: Vec<String> =
                found.iter().take(NAMED).map(|o| format!("{} of run {}", o.shown(), o.run)).collect();
            if found.len() > NAMED {
                named.push(format!("{} more", found.len() - NAMED));
            }
            vec![Finding::note(ABOUT, named.join(", "), "meshproof cleanup --target cluster")]
        }
        // What is not served or may not be listed is told above.
        Err(_) => Vec::new(),
    }
}
