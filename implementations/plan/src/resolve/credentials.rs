//! Secrets that `credentialName` leads to (pilot/pkg/credentials/kube/secrets.go, pilot/pkg/xds/sds.go).

use std::collections::BTreeSet;

use base64::Engine as _;
use meshproof_model::Resource;

use crate::model::{ClientCertificate, Cluster, Credential, Trust, UpstreamTls};

/// The suffix by which Istio asks for a credential's CA.
const CA_SUFFIX: &str = "-cacert";

/// Larger values are no certificates; Kubernetes itself keeps Secrets below 1 MiB.
const MAX_VALUE: usize = 1024 * 1024;

/// The credentials that a proxy's clusters mention, as far as Secrets of the proxy's own namespace supply them.
pub(crate) fn of_proxy(clusters: &[Cluster], namespace: &str, secrets: &[&Resource]) -> Vec<Credential> {
    let mut names = BTreeSet::new();
    for cluster in clusters {
        let Some(UpstreamTls::Originate(origination)) = &cluster.tls else { continue };
        if let Trust::Credential(name) = &origination.trust {
            names.insert(name);
        }
        if let Some(ClientCertificate::Credential(name)) = &origination.client_certificate {
            names.insert(name);
        }
    }
    names.into_iter().filter_map(|name| credential(name, namespace, secrets)).collect()
}

/// `ParseResourceName` for Secrets: `NAME`, `kubernetes://NAME`, or with `NAMESPACE/` before the name; a namespace other
/// than the proxy's is not read (`filterAuthorizedResources` in sds.go).
fn credential(reference: &str, namespace: &str, secrets: &[&Resource]) -> Option<Credential> {
    let plain = reference.strip_prefix("kubernetes://").unwrap_or(reference);
    let name = match plain.split_once('/') {
        Some((owner, name)) if owner == namespace => name,
        Some(_) => return None,
        None => plain,
    };
    let named = |name: &str| secrets.iter().find(|s| s.name() == name && s.namespace() == namespace).copied();
    // GetCertInfo. A name with the suffix is always taken for a CA's (isCAOnlySecret in sds.go), so that its key pair is
    // never found.
    let pair = (!name.ends_with(CA_SUFFIX)).then(|| named(name)).flatten().and_then(key_pair);
    // GetCaCert: NAME-cacert; only where there is no such Secret, NAME.
    let root = named(&format!("{name}{CA_SUFFIX}")).or_else(|| named(name)).and_then(root);
    if pair.is_none() && root.is_none() {
        return None;
    }
    let (certificate, key) = pair.unzip();
    let (ca, crl) = root.map_or((None, None), |(ca, crl)| (Some(ca), crl));
    Some(Credential { name: reference.to_owned(), certificate, key, ca, crl })
}

/// `ExtractCertInfo`: `cert` and `key` before `tls.crt` and `tls.key`.
fn key_pair(secret: &Resource) -> Option<(String, String)> {
    let pair = |certificate: &str, key: &str| Some((value(secret, certificate)?, value(secret, key)?));
    pair("cert", "key").or_else(|| pair("tls.crt", "tls.key"))
}

/// `ExtractRoot`: `cacert` with `crl` before `ca.crt` with `ca.crl`.
fn root(secret: &Resource) -> Option<(String, Option<String>)> {
    let with_crl = |ca: &str, crl: &str| Some((value(secret, ca)?, value(secret, crl)));
    with_crl("cacert", "crl").or_else(|| with_crl("ca.crt", "ca.crl"))
}

/// A key's value as text; absent where it is missing, empty, too large or not text. `stringData` overrides `data`, as the
/// Kubernetes API server has it.
fn value(secret: &Resource, key: &str) -> Option<String> {
    let of = |field: &str| secret.0.get(field)?.get(key)?.as_str();
    let text = match of("stringData") {
        Some(text) => text.to_owned(),
        None => {
            let encoded: String =
                of("data").filter(|d| d.len() <= 2 * MAX_VALUE)?.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
            String::from_utf8(bytes).ok()?
        }
    };
    (!text.is_empty() && text.len() <= MAX_VALUE).then_some(text)
}
