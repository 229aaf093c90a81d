//! The secrets in Envoy's config dump: what `istioctl proxy-config secret` shows.

use std::collections::BTreeMap;

use meshproof_harness::certificates::credential_status;
use meshproof_model::{CredentialState, CredentialStatus};
use serde_json::Value;

/// The admin interface's path for the secrets in use.
pub(crate) const ACTIVE: &str = "/config_dump?resource=dynamic_active_secrets";
/// The admin interface's path for the secrets that Envoy waits for.
pub(crate) const WARMING: &str = "/config_dump?resource=dynamic_warming_secrets";

/// How Istio's names of credentials begin.
const CREDENTIAL: &str = "kubernetes://";

fn secrets(dump: &str) -> Vec<Value> {
    let dump: Value = serde_json::from_str(dump).unwrap_or_default();
    dump["configs"].as_array().cloned().unwrap_or_default()
}

/// The names of the secrets in a dump.
pub(crate) fn names(dump: &str) -> Vec<String> {
    secrets(dump).iter().filter_map(|s| s["name"].as_str().map(str::to_owned)).collect()
}

/// The credentials of both dumps. A credential that is `absent` counts as warming, even if a cluster that
/// Envoy is just removing still holds an earlier one.
pub(crate) fn statuses(active: &str, warming: &str, absent: impl Fn(&str) -> bool) -> Vec<CredentialStatus> {
    let mut found: BTreeMap<String, CredentialStatus> = BTreeMap::new();
    let both = [(CredentialState::Warming, warming), (CredentialState::Active, active)];
    for (state, dump) in both {
        for secret in secrets(dump) {
            let Some(name) = secret["name"].as_str().filter(|n| n.starts_with(CREDENTIAL)) else { continue };
            if state == CredentialState::Active && absent(name) {
                continue;
            }
            let held = match state {
                CredentialState::Active => Some(certificates(&secret["secret"])),
                CredentialState::Warming => None,
            };
            found.insert(name.to_owned(), credential_status(name, held));
        }
    }
    found.into_values().collect()
}

fn certificates(secret: &Value) -> &str {
    let own = &secret["tls_certificate"]["certificate_chain"]["inline_string"];
    let roots = &secret["validation_context"]["trusted_ca"]["inline_string"];
    own.as_str().or_else(|| roots.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(names: &[&str]) -> String {
        let configs: Vec<Value> =
            names.iter().map(|n| serde_json::json!({"name": n, "secret": {"name": n}})).collect();
        serde_json::json!({"configs": configs}).to_string()
    }

    fn states(active: &[&str], warming: &[&str], absent: &str) -> Vec<(String, CredentialState)> {
        let all = statuses(&dump(active), &dump(warming), |n| n == absent);
        all.into_iter().map(|s| (s.name, s.state)).collect()
    }

    #[test]
    fn other_secrets_are_left_out_and_active_differs_from_warming() {
        let found = states(&["kubernetes://a", "file-root:x"], &["kubernetes://b"], "");
        let wanted = [
            ("kubernetes://a".to_owned(), CredentialState::Active),
            ("kubernetes://b".to_owned(), CredentialState::Warming),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_deleted_credential_that_a_removed_cluster_still_holds_is_not_active() {
        let found = states(&["kubernetes://a"], &["kubernetes://a"], "kubernetes://a");
        assert_eq!(found, [("kubernetes://a".to_owned(), CredentialState::Warming)]);
    }

    #[test]
    fn text_that_is_not_a_dump_contains_no_credentials() {
        assert!(statuses("", "[]", |_| false).is_empty());
    }
}
