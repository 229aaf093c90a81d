//! The secrets in Envoy's config dump: what `istioctl proxy-config secret` shows.

use std::collections::BTreeMap;

use meshproof_model::{CredentialState, CredentialStatus};
use serde_json::Value;
use x509_parser::pem::parse_x509_pem;

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
            let serial = match state {
                CredentialState::Active => serial(&secret["secret"]),
                CredentialState::Warming => None,
            };
            let status = CredentialStatus { name: name.to_owned(), state, serial };
            found.insert(name.to_owned(), status);
        }
    }
    found.into_values().collect()
}

fn serial(secret: &Value) -> Option<String> {
    let own = &secret["tls_certificate"]["certificate_chain"]["inline_string"];
    let roots = &secret["validation_context"]["trusted_ca"]["inline_string"];
    let pem = own.as_str().or_else(|| roots.as_str())?;
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(meshproof_harness::certificates::serial_hex(certificate.raw_serial()))
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
