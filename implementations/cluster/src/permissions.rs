//! Every verb that the suite uses in a cluster, and why. `fixtures/cluster/rbac.yaml` grants exactly these,
//! the doctor reviews exactly these, and the tests fail on a request that needs any other. A run has one table,
//! `verify --target cluster`, which only reads, another.

/// What the suite may do with one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Empty for the core group.
    pub group: &'static str,
    /// `pods`, `pods/exec`.
    pub resource: &'static str,
    /// `get`, `list`, ...
    pub verbs: &'static [&'static str],
    /// Why it is needed.
    pub why: &'static str,
    /// What is lost without it, where a run is still possible.
    pub lost: Option<&'static str>,
}

const fn may(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Permission {
    Permission { group, resource, verbs, why, lost: None }
}

const fn better(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
    lost: &'static str,
) -> Permission {
    Permission { group, resource, verbs, why, lost: Some(lost) }
}

/// Created by server-side apply (which needs `create` for a new object and `patch` for every one), waited
/// for, listed and deleted.
const AWAITED: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
/// The same for objects that are never waited for.
const WRITTEN: &[&str] = &["get", "list", "create", "patch", "delete"];
/// WebSocket's handshake is a GET; newer API servers ask for `create` as well (KEP-4006).
const UPGRADED: &[&str] = &["get", "create"];

const NETWORKING: &str = "networking.istio.io";
const OF_A_DOCUMENT: &str = "the documents' resources, and the suite's own for a scenario's mesh";

/// What a run needs.
pub const PERMISSIONS: &[Permission] = &[
    may(
        "",
        "namespaces",
        AWAITED,
        "every scenario has its own namespaces, and deleting them deletes everything in them",
    ),
    may("", "nodes", &["list"], "which kind of cluster it is, and which images its nodes have"),
    may(
        "",
        "pods",
        &["get", "list", "watch"],
        "the suite waits for the pods of workloads, proxies and servers",
    ),
    better(
        "",
        "events",
        &["list"],
        "why a pod does not become ready",
        "the message about a pod that does not become ready has no events",
    ),
    may("", "pods/log", &["get"], "access logs of proxies and servers"),
    may("", "pods/exec", UPGRADED, "the workload sends its requests"),
    better(
        "",
        "pods/portforward",
        UPGRADED,
        "the proxies' configuration and istiod's version are read",
        "the proxies' configuration is read by pilot-agent in their containers instead, if there is one",
    ),
    may("", "services", WRITTEN, "services for gateways, workloads and servers"),
    may(
        "",
        "configmaps",
        WRITTEN,
        "the configuration of servers and the suite's CA; reading the injector's values",
    ),
    may(
        "",
        "secrets",
        AWAITED,
        "the documents' credentials; only an account that may read secrets can grant that to a proxy (RBAC \
         forbids escalation)",
    ),
    may("", "serviceaccounts", WRITTEN, "every workload and gateway has its own identity"),
    may("apps", "deployments", AWAITED, "workloads, gateways and servers"),
    may("apps", "daemonsets", &["list"], "whether ambient mode is installed too"),
    may("rbac.authorization.k8s.io", "roles", WRITTEN, "a proxy reads the credentials of its own namespace"),
    may("rbac.authorization.k8s.io", "rolebindings", WRITTEN, "the same"),
    may(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        &["list"],
        "which label makes the mesh inject proxies",
    ),
    may(NETWORKING, "destinationrules", AWAITED, OF_A_DOCUMENT),
    may(NETWORKING, "gateways", AWAITED, OF_A_DOCUMENT),
    may(NETWORKING, "serviceentries", AWAITED, OF_A_DOCUMENT),
    may(NETWORKING, "sidecars", AWAITED, OF_A_DOCUMENT),
    may(NETWORKING, "virtualservices", AWAITED, OF_A_DOCUMENT),
    may("security.istio.io", "peerauthentications", AWAITED, OF_A_DOCUMENT),
    better(
        NETWORKING,
        "envoyfilters",
        &["list"],
        "which EnvoyFilters of the whole mesh apply to a run",
        "EnvoyFilters of the whole mesh are not named where one keeps a proxy from answering the suite",
    ),
    better(
        "security.istio.io",
        "authorizationpolicies",
        WRITTEN,
        "where a policy of the whole mesh allows only some requests, a policy of the run's own allows its requests",
        "a run cannot allow its own requests where a policy of the whole mesh allows only some",
    ),
    may("telemetry.istio.io", "telemetries", AWAITED, "access logs in the scenarios' namespaces only"),
];

const DECIDES: &str = "the resources that decide where requests go and who opens TLS";
const LIST: &[&str] = &["list"];
const GET: &[&str] = &["get"];

/// What `verify --target cluster --namespace NS` reads. It writes nothing.
pub const READING: &[Permission] = &[
    may(NETWORKING, "destinationrules", LIST, DECIDES),
    may(NETWORKING, "gateways", LIST, DECIDES),
    may(NETWORKING, "serviceentries", LIST, DECIDES),
    may(NETWORKING, "sidecars", LIST, DECIDES),
    may(NETWORKING, "virtualservices", LIST, DECIDES),
    may(NETWORKING, "workloadentries", LIST, DECIDES),
    may("security.istio.io", "peerauthentications", LIST, DECIDES),
    may("", "services", LIST, "the hosts and ports of the cluster"),
    may("", "pods", LIST, "which workloads have sidecars, and by which labels they are selected"),
    better(
        "",
        "configmaps",
        GET,
        "the mesh's settings, and CA certificates that a credentialName names",
        "Istio's default settings are assumed",
    ),
    better(
        "",
        "secrets",
        GET,
        "whether the Secrets that a credentialName names exist, and which keys they have",
        "the Secrets that a credentialName names are taken to exist",
    ),
    better(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        LIST,
        "the namespace of the control plane",
        "the control plane is looked for in istio-system",
    ),
    better(
        NETWORKING,
        "envoyfilters",
        LIST,
        "naming the EnvoyFilters, which are not examined",
        "EnvoyFilters are not named",
    ),
    better(
        "security.istio.io",
        "authorizationpolicies",
        LIST,
        "naming the AuthorizationPolicies, which are not examined",
        "AuthorizationPolicies are not named",
    ),
];

/// Whether the table of reading has this verb for this resource.
#[must_use]
pub fn reads(group: &str, resource: &str, verb: &str) -> bool {
    READING.iter().any(|p| p.group == group && p.resource == resource && p.verbs.contains(&verb))
}

/// Whether the table of a run has this verb for this resource.
#[must_use]
pub fn has(group: &str, resource: &str, verb: &str) -> bool {
    PERMISSIONS.iter().any(|p| p.group == group && p.resource == resource && p.verbs.contains(&verb))
}

impl Permission {
    /// `virtualservices.networking.istio.io`, `pods/exec`.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshproof_harness::manifest;
    use serde_json::Value;

    use super::*;

    const MANIFEST: &str = include_str!("../../../fixtures/cluster/rbac.yaml");

    fn texts(value: &Value) -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    #[test]
    fn the_manifest_grants_exactly_what_the_tables_have() {
        grants("meshproof", PERMISSIONS);
        grants("meshproof-verify", READING);
    }

    #[test]
    fn the_table_of_reading_changes_nothing() {
        let verbs: BTreeSet<&str> = READING.iter().flat_map(|p| p.verbs).copied().collect();
        assert_eq!(verbs, BTreeSet::from(["get", "list"]));
    }

    fn grants(role: &str, table: &[Permission]) {
        let manifest = manifest::read("fixtures/cluster/rbac.yaml", MANIFEST, "").unwrap();
        let role = manifest.iter().find(|r| r.kind() == "ClusterRole" && r.name() == role).unwrap();
        let mut granted = BTreeSet::new();
        for rule in role.0["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        assert!(
                            granted.insert((group.clone(), resource.clone(), verb)),
                            "{group} {resource} twice"
                        );
                    }
                }
            }
        }
        let used: BTreeSet<_> = table
            .iter()
            .flat_map(|p| {
                p.verbs.iter().map(|v| (p.group.to_owned(), p.resource.to_owned(), (*v).to_owned()))
            })
            .collect();
        assert_eq!(granted.difference(&used).collect::<Vec<_>>(), Vec::<&(String, String, String)>::new());
        assert_eq!(used.difference(&granted).collect::<Vec<_>>(), Vec::<&(String, String, String)>::new());
    }

    #[test]
    fn the_manifest_binds_each_role_to_its_own_account_only() {
        let manifest = manifest::read("fixtures/cluster/rbac.yaml", MANIFEST, "").unwrap();
        for name in ["meshproof", "meshproof-verify"] {
            let named = |kind: &str| manifest.iter().find(|r| r.kind() == kind && r.name() == name).unwrap();
            let (account, binding) = (named("ServiceAccount"), named("ClusterRoleBinding"));
            assert_eq!(binding.0["roleRef"]["name"], named("ClusterRole").name());
            let subjects = binding.0["subjects"].as_array().unwrap();
            assert_eq!(subjects.len(), 1);
            assert_eq!(subjects[0]["name"], account.name());
            assert_eq!(subjects[0]["namespace"], account.namespace());
        }
    }

    #[test]
    fn every_kind_that_the_suite_lists_is_in_the_table() {
        for kind in crate::api::kinds::KINDS {
            let listed = has(kind.group, kind.plural, "list") || reads(kind.group, kind.plural, "list");
            assert!(listed, "{}", kind.kind);
        }
    }
}
