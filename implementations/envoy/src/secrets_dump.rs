//! What an Envoy's config dump says of its secrets: what `istioctl proxy-config secret` shows.

use std::collections::BTreeMap;

use meshproof_model::{CredentialState, CredentialStatus};
use serde_json::Value;
use x509_parser::pem::parse_x509_pem;

/// Where the admin interface tells of secrets in use.
pub(crate) const ACTIVE: &str = "/config_dump?resource=dynamic_active_secrets";
/// Where it tells of those that are waited for.
pub(crate) const WARMING: &str = "/config_dump?resource=dynamic_warming_secrets";

/// What Istio's names of credentials begin with.
const CREDENTIAL: &str = "kubernetes://";

fn secrets(dump: &str) -> Vec<Value> {
    let dump: Value = serde_json::from_str(dump).unwrap_or_default();
    dump["configs"].as_array().cloned().unwrap_or_default()
}

/// The names that a dump holds.
pub(crate) fn names(dump: &str) -> Vec<String> {
    secrets(dump).iter().filter_map(|s| s["name"].as_str().map(str::to_owned)).collect()
}

/// The credentials of both dumps. One that is known to be `absent` is waited for, whatever an older cluster that is just
/// going away still holds.
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
    fn credentials_are_told_from_other_secrets_and_active_from_warming() {
        let found = states(&["kubernetes://a", "file-root:x"], &["kubernetes://b"], "");
        let wanted = [
            ("kubernetes://a".to_owned(), CredentialState::Active),
            ("kubernetes://b".to_owned(), CredentialState::Warming),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_deleted_credential_that_a_dying_cluster_still_holds_is_not_active() {
        let found = states(&["kubernetes://a"], &["kubernetes://a"], "kubernetes://a");
        assert_eq!(found, [("kubernetes://a".to_owned(), CredentialState::Warming)]);
    }

    #[test]
    fn what_is_no_dump_holds_nothing() {
        assert!(statuses("", "[]", |_| false).is_empty());
    }
}
