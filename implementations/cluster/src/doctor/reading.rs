//! Examines whether a namespace can be read for `verify`, without changing anything.

use futures_util::stream::{self, StreamExt};

use super::DoctorFinding;
use crate::api::{ApiError, ClusterClient};
use crate::identify::control_plane;
use crate::permissions::{Permission, READING};

/// How many reviews are requested concurrently.
const AT_ONCE: usize = 16;
const ROLE: &str =
    "kubectl apply -f fixtures/cluster/rbac.yaml, and read under the service account meshproof-verify";

/// Everything that reading takes, in the order in which it is needed.
pub async fn examine_reading(
    api: &ClusterClient,
    revision: Option<&str>,
    namespace: &str,
) -> Vec<DoctorFinding> {
    let version = match api.server_version().await {
        Ok(version) => version.git_version,
        Err(e) => {
            return vec![DoctorFinding::problem(
                "API server",
                e.to_string(),
                "start the cluster, or name another with --kubeconfig FILE or --context NAME",
            )];
        }
    };
    let mut findings = vec![DoctorFinding::good("API server", version)];
    findings.extend(permissions(api, namespace).await);
    match api.served().await {
        Ok(served) if served.api_version("VirtualService").is_some() => {}
        Ok(_) => findings.push(DoctorFinding::problem(
            "API",
            "the cluster does not serve Istio's resources",
            "istioctl install --set profile=minimal, or the chart istio/base",
        )),
        Err(e) => findings.push(DoctorFinding::problem("API", e.to_string(), "kubectl api-resources")),
    }
    match control_plane(api, revision).await {
        Ok(Some((at, actual))) => {
            findings.push(DoctorFinding::good("mesh", format!("revision {actual} in namespace {at}")));
        }
        Ok(None) => findings.push(DoctorFinding::note(
            "mesh",
            "no injector was found; the control plane is looked for in istio-system",
            "--revision NAME, if the mesh has revisions",
        )),
        // The finding about permissions says so.
        Err(ApiError::Forbidden(_)) => {}
        Err(e) => findings.push(DoctorFinding::problem("mesh", e.to_string(), ROLE)),
    }
    findings
}

/// Where the account may do something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Everywhere,
    Namespace,
    Nowhere,
}

async fn permissions(api: &ClusterClient, namespace: &str) -> Vec<DoctorFinding> {
    let asked = READING.iter().map(|p| async move { (p, review(api, p, namespace).await) });
    let reviews: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    let mut findings = Vec::new();
    for (permission, review) in &reviews {
        let (resource, verbs) = (permission.shown(), permission.verbs.join(", "));
        match (review, permission.lost) {
            (Ok(Where::Everywhere), _) => {}
            (Ok(Where::Namespace), _) => findings.push(DoctorFinding::note(
                "permissions",
                format!(
                    "the account may {verbs} {resource} in namespace {namespace} alone; what other namespaces export to it is \
                     not read"
                ),
                ROLE,
            )),
            (Ok(Where::Nowhere), Some(lost)) => findings.push(DoctorFinding::note(
                "permissions",
                format!("the account may not {verbs} {resource}; {lost}"),
                ROLE,
            )),
            (Ok(Where::Nowhere), None) => findings.push(DoctorFinding::problem(
                "permissions",
                format!("the account may not {verbs} {resource} (needed for: {})", permission.why),
                ROLE,
            )),
            (Err(e), _) => {
                return vec![DoctorFinding::problem(
                    "permissions",
                    format!("they cannot be reviewed: {e}"),
                    "kubectl auth can-i --list",
                )];
            }
        }
    }
    if findings.is_empty() {
        findings.push(DoctorFinding::good("permissions", format!("all {} that reading uses", reviews.len())));
    }
    findings
}

async fn review(api: &ClusterClient, permission: &Permission, namespace: &str) -> Result<Where, ApiError> {
    let mut found = Where::Everywhere;
    for verb in permission.verbs {
        if api.may(verb, permission.group, permission.resource, None).await? {
            continue;
        }
        let own = api.may_in(Some(namespace), verb, permission.group, permission.resource, None);
        if !own.await? {
            return Ok(Where::Nowhere);
        }
        found = Where::Namespace;
    }
    Ok(found)
}
