//! Secrets: which of their keys counts (Istio, pilot/pkg/credentials/kube/secrets.go: `cert` and `key` before `tls.crt` and
//! `tls.key`, `cacert` before `ca.crt`, the Secret NAME-cacert before NAME).

use meshproof_harness::certificates::CertificateError;
use meshproof_harness::secret::Secret;

use super::pki::Pki;
use crate::presented::Cases;

/// A leaf of the second root is accepted, and one of the first is refused.
const SECOND_ROOT: [(&str, &str); 3] = [
    ("secret-key-precedence", "keys"),
    ("separate-ca-secret-counts", "separate"),
    ("tls-type-secret", "tls-type"),
];

pub(super) fn add(cases: &mut Cases, pki: &Pki) -> Result<(), CertificateError> {
    let [first, second, _] = &pki.roots;
    for (check, domain) in SECOND_ROOT {
        let at = |label: &str| format!("{label}.{domain}.origin.example");
        let (accepted, refused) = (at("second-root"), at("first-root"));
        cases.accepts(check, &accepted, &pki.leaf(&accepted).issued_by(second)?.with_chain(&[]));
        cases.refuses(check, &refused, &pki.leaf(&refused).issued_by(first)?.with_chain(&[]), &accepted);
    }
    let old = "old.version-one.origin.example";
    let leaf = pki.leaf(old).common_name(old).version_one().issued_by(first)?;
    cases.records("version-one-certificate", old, &leaf.with_chain(&[]));
    Ok(())
}

pub(super) fn all(pki: &Pki, namespace: &str) -> Result<Vec<Secret>, CertificateError> {
    let [first, second, _] = &pki.roots;
    let named = |name: &str| Secret::new(namespace, name);
    let with_client = |name: &str| match &pki.client {
        Some(client) => named(name).key_pair(client),
        None => named(name),
    };
    let both_spellings = match &pki.client {
        Some(client) => named("keys").key_pair(&pki.other_client()?).generic_key_pair(client),
        // Istio passes over a key whose partner is missing.
        None => named("keys"),
    };
    Ok(vec![
        with_client("roots").ca_bundle(&pki.roots),
        both_spellings.generic_ca_bundle([second]).ca_bundle([first]),
        with_client("separate").ca_bundle([first]),
        named("separate-cacert").ca_bundle([second]),
        // The type demands both keys, even where the Secret is only about a CA.
        match &pki.client {
            Some(client) => named("tls-type").key_pair(client),
            None => named("tls-type").key_pair(&pki.other_client()?),
        }
        .of_tls_type()
        .ca_bundle([second]),
    ])
}
