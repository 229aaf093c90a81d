//! Secrets that `credentialName` leads to (pilot/pkg/credentials/kube/secrets.go, pilot/pkg/xds/sds.go).

use std::collections::BTreeSet;

use base64::Engine as _;
use meshproof_model::Resource;

use crate::mesh::ProxyConfig;
use crate::model::{ClientCertificate, Credential, DownstreamTls, Trust, UpstreamTls};
use crate::resources::Resources;

/// The suffix by which Istio asks for a credential's CA.
const CA_SUFFIX: &str = "-cacert";

/// Larger values are no certificates; Kubernetes itself keeps Secrets below 1 MiB.
const MAX_VALUE: usize = 1024 * 1024;

/// The credentials that a proxy's clusters and chains mention, as far as Secrets and ConfigMaps supply them.
pub(crate) fn of_proxy(config: &ProxyConfig, namespace: &str, resources: &Resources<'_>) -> Vec<Credential> {
    let mut names = BTreeSet::new();
    let mut add = |trust: Option<&Trust>, certificates: &[ClientCertificate]| {
        let certificates = certificates.iter().filter_map(ClientCertificate::credential);
        let named = trust.and_then(Trust::credential).into_iter().chain(certificates);
        names.extend(named.map(str::to_owned));
    };
    for cluster in config.clusters.values() {
        if let Some(UpstreamTls::Originate(origination)) = &cluster.tls {
            add(Some(&origination.trust), origination.client_certificate.as_slice());
        }
    }
    for chain in config.listeners.iter().flat_map(|l| &l.chains) {
        if let Some(tls) = chain.tls.as_ref().and_then(DownstreamTls::own) {
            add(tls.client_ca.as_ref(), &tls.certificates);
        }
    }
    names.into_iter().filter_map(|name| found(&name, namespace, resources)).collect()
}

fn found(reference: &str, namespace: &str, resources: &Resources<'_>) -> Option<Credential> {
    match reference.strip_prefix("configmap://") {
        Some(path) => of_config_map(reference, path, resources),
        None => credential(reference, namespace, &resources.secrets),
    }
}

/// A CA from a ConfigMap, which every proxy may read (`GetConfigMapCaCert` in pilot/pkg/credentials/kube/secrets.go).
fn of_config_map(reference: &str, path: &str, resources: &Resources<'_>) -> Option<Credential> {
    let (owner, name) = path.split_once('/')?;
    // The name that Istio asks for has the suffix, which is taken off again.
    let map = resources.config_maps.iter().find(|m| m.namespace() == owner && m.name() == name)?;
    let text = |key: &str| {
        let text = map.0.get("data")?.get(key)?.as_str()?;
        (!text.is_empty() && text.len() <= MAX_VALUE).then(|| text.to_owned())
    };
    let ca = text("cacert").or_else(|| text("ca.crt"))?;
    let crl = if text("cacert").is_some() { text("crl") } else { text("ca.crl") };
    Some(Credential { name: reference.to_owned(), certificate: None, key: None, ca: Some(ca), crl })
}

/// The namespace and the name of the Secret that a `credentialName` means to a proxy of a namespace: `NAME`, `kubernetes://NAME`, or
/// with `NAMESPACE/` before the name (`ParseResourceName`).
#[must_use]
pub fn secret_of<'a>(reference: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    let plain = reference.strip_prefix("kubernetes://").unwrap_or(reference);
    plain.split_once('/').unwrap_or((namespace, plain))
}

/// A Secret of another namespace than the proxy's is not read (`filterAuthorizedResources` in sds.go).
fn credential(reference: &str, namespace: &str, secrets: &[&Resource]) -> Option<Credential> {
    let (owner, name) = secret_of(reference, namespace);
    if owner != namespace {
        return None;
    }
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
