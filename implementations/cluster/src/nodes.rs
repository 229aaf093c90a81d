//! What the nodes of a cluster say about it.

use serde_json::Value;

use crate::pod::{is_ready, label};

/// The kind of cluster, from the API server's version and the nodes.
pub(crate) fn flavour(git_version: &str, nodes: &[Value], on_openshift: bool) -> &'static str {
    let provider = nodes.first().and_then(|n| n.pointer("/spec/providerID")).and_then(Value::as_str);
    let provider = provider.unwrap_or_default();
    let labelled = |key: &str| nodes.iter().any(|n| label(n, key).is_some());
    if on_openshift {
        return "OpenShift";
    }
    let by_version =
        [("+k3s", "k3s"), ("+rke2", "RKE2"), ("-gke.", "GKE"), ("-eks-", "EKS"), ("+k0s", "k0s")];
    if let Some((_, name)) = by_version.iter().find(|(part, _)| git_version.contains(part)) {
        return name;
    }
    if labelled("minikube.k8s.io/name") {
        return "minikube";
    }
    let by_provider =
        [("kind://", "kind"), ("azure://", "AKS"), ("aws://", "EKS"), ("gce://", "GCE"), ("k3s://", "k3s")];
    by_provider.iter().find(|(part, _)| provider.starts_with(part)).map_or("Kubernetes", |(_, name)| *name)
}

/// The processors that ready nodes have for pods, rounded down, at least 1 if any node says how many it has. A quantity is
/// in processors, or with the suffix `m` in thousandths (Kubernetes, "Resource Management for Pods and Containers").
pub(crate) fn processors(nodes: &[Value]) -> usize {
    let of_node = |node: &Value| -> Option<f64> {
        let text = node.pointer("/status/allocatable/cpu")?.as_str()?;
        match text.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<f64>().ok().map(|n| n / 1000.0),
            None => text.parse().ok(),
        }
    };
    let known: Vec<f64> = nodes.iter().filter(|node| is_ready(node)).filter_map(of_node).collect();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of processors is small"
    )]
    let whole = known.iter().sum::<f64>().max(0.0) as usize;
    if known.is_empty() { 0 } else { whole.max(1) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn processors_are_those_of_ready_nodes_in_whole_numbers() {
        let node = |cpu: &str, ready: &str| {
            json!({ "status": { "allocatable": { "cpu": cpu },
                                "conditions": [{ "type": "Ready", "status": ready }] } })
        };
        assert_eq!(processors(&[node("2", "True"), node("1930m", "True"), node("64", "False")]), 3);
        assert_eq!(processors(&[node("500m", "True")]), 1);
        assert_eq!(processors(&[json!({})]), 0);
    }

    #[test]
    fn the_kind_of_cluster_is_recognized() {
        let node = |provider: &str| json!({"spec": {"providerID": provider}});
        let of = |version: &str, provider: &str| flavour(version, &[node(provider)], false);
        assert_eq!(of("v1.34.0", "kind://docker/kind/kind-control-plane"), "kind");
        assert_eq!(of("v1.34.1+k3s1", "k3s://node"), "k3s");
        assert_eq!(of("v1.34.1-gke.100", "gce://p/z/n"), "GKE");
        assert_eq!(of("v1.34.1", ""), "Kubernetes");
        assert_eq!(flavour("v1.34.1", &[], true), "OpenShift");
    }
}
