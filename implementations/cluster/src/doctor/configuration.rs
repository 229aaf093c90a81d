//! What the mesh's own configuration means for a run.

use serde_json::Value;

use super::DoctorFinding;
use crate::api::{ApiError, ClusterClient};
use crate::identify::Installation;
use crate::whole_mesh::{allows, listed};

/// How many resources of a kind are named.
const MAX_NAMED: usize = 6;

/// The findings about the mesh configuration and about the resources of the root namespace.
pub(super) async fn configuration(api: &ClusterClient, found: &Installation) -> Vec<DoctorFinding> {
    let mut findings = vec![access_logs(found)];
    findings.extend(outbound(&found.configuration));
    findings.extend(dns(&found.configuration));
    findings.extend(root_namespace(api, &found.root).await);
    findings
}

fn access_logs(found: &Installation) -> DoctorFinding {
    const ABOUT: &str = "access logs";
    const FIX: &str = "in the mesh configuration, add to extensionProviders: {name: meshproof, envoyFileAccessLog: \
                       {path: /dev/stdout}}; only the run uses it";
    match &found.injection.access_logs {
        Err(why) => DoctorFinding::note(
            ABOUT,
            format!("none can be read: {why}; checks of access logs are skipped"),
            FIX,
        ),
        Ok(logs) if logs.format.lacks().is_empty() => {
            DoctorFinding::good(ABOUT, format!("the provider {} shows what checks read", logs.provider))
        }
        Ok(logs) => DoctorFinding::note(
            ABOUT,
            format!(
                "the format of the provider {} does not have {}: checks that need these are skipped",
                logs.provider,
                logs.format.lacks().join(", ")
            ),
            FIX,
        ),
    }
}

fn outbound(mesh: &Value) -> Option<DoctorFinding> {
    let mode = mesh.pointer("/outboundTrafficPolicy/mode").and_then(Value::as_str)?;
    (mode != "ALLOW_ANY").then(|| {
        let says = format!(
            "{mode} for the mesh; a Sidecar in the run's namespaces sets what the documents presuppose"
        );
        DoctorFinding::good("outbound", says)
    })
}

fn dns(mesh: &Value) -> Option<DoctorFinding> {
    let capture = mesh.pointer("/defaultConfig/proxyMetadata/ISTIO_META_DNS_CAPTURE")?;
    let on = capture.as_str().map_or(capture == true, |text| text == "true");
    on.then(|| {
        let says = "the proxies answer DNS queries: workloads dial the addresses that these stand for";
        DoctorFinding::good("DNS", says)
    })
}

async fn root_namespace(api: &ClusterClient, root: &str) -> Vec<DoctorFinding> {
    const ABOUT: &str = "whole mesh";
    let mut findings = Vec::new();
    let of = async |kind: &str| listed(api, kind, root).await;
    let kinds = ["AuthorizationPolicy", "EnvoyFilter", "PeerAuthentication", "DestinationRule", "Sidecar"];
    for kind in kinds {
        let found = match of(kind).await {
            Ok(found) => found,
            Err(e) => {
                findings.push(unread(kind, root, &e));
                continue;
            }
        };
        // Those with a selector are for some workloads of the root namespace, or for none of the run's.
        let all: Vec<&Value> = found.iter().filter(|resource| is_for_all(resource)).collect();
        if all.is_empty() {
            continue;
        }
        let names = names(&all);
        findings.push(match kind {
            "AuthorizationPolicy" => policies(&all, root),
            "EnvoyFilter" => DoctorFinding::note(
                ABOUT,
                format!("{root} has EnvoyFilters, which change the run's proxies too: {names}"),
                format!("kubectl get envoyfilters --namespace {root} --output yaml, if a check fails without a reason"),
            ),
            "PeerAuthentication" => {
                let modes: Vec<&str> =
                    all.iter().filter_map(|p| p.pointer("/spec/mtls/mode").and_then(Value::as_str)).collect();
                DoctorFinding::good(ABOUT, format!("peer authentication {} ({names})", modes.join(", ")))
            }
            "DestinationRule" => DoctorFinding::good(
                ABOUT,
                format!(
                    "{root} has DestinationRules, which apply to hosts without a rule of the documents or of the run: {names}"
                ),
            ),
            _ => DoctorFinding::good(
                ABOUT,
                format!("{root} has a Sidecar; that of the run's namespaces takes precedence: {names}"),
            ),
        });
    }
    findings
}

fn policies(all: &[&Value], root: &str) -> DoctorFinding {
    const ABOUT: &str = "whole mesh";
    let (allowing, others): (Vec<&Value>, Vec<&Value>) =
        all.iter().copied().partition(|policy| allows(policy));
    if others.is_empty() {
        let says = format!(
            "{root} allows only some requests ({}): a policy in the run's namespaces allows the run's",
            names(&allowing)
        );
        return DoctorFinding::good(ABOUT, says);
    }
    DoctorFinding::note(
        ABOUT,
        format!(
            "{root} has AuthorizationPolicies that no policy of the run can lift: {}; if one refuses the suite's requests, \
             checks have the verdict `error`",
            names(&others)
        ),
        format!("kubectl get authorizationpolicies --namespace {root} --output yaml"),
    )
}

fn unread(kind: &str, root: &str, error: &ApiError) -> DoctorFinding {
    DoctorFinding::note(
        "whole mesh",
        format!("the {kind}s of {root} cannot be read: {error}"),
        "kubectl apply -f fixtures/cluster/rbac.yaml",
    )
}

fn is_for_all(resource: &Value) -> bool {
    ["/spec/selector", "/spec/workloadSelector", "/spec/targetRef", "/spec/targetRefs"]
        .iter()
        .all(|at| resource.pointer(at).is_none())
}

fn names(resources: &[&Value]) -> String {
    let name = |r: &&Value| r.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?").to_owned();
    let mut named: Vec<String> = resources.iter().take(MAX_NAMED).map(name).collect();
    if resources.len() > MAX_NAMED {
        named.push(format!("{} more", resources.len() - MAX_NAMED));
    }
    named.join(", ")
}
