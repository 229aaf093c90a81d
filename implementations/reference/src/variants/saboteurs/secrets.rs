//! Saboteurs that use Secrets wrongly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use meshproof_local::data_plane::{Boot, Update};
use meshproof_model::Resource;
use meshproof_model::{CredentialState, CredentialStatus};
use meshproof_plan::model::{ClientCertificate, Credential, Trust, UpstreamTls};

use crate::hooks::{PlaneHooks, ProxyHooks, WantedConfig};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "ignore-crl",
        "Accepts certificates that the credential's revocation list names.",
        VariantBehaviour::Configuration(|wanted, _, _| {
            wanted.credentials.values_mut().flatten().for_each(|c| c.crl = None);
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "other-client-certificate",
        "Presents its mesh certificate instead of the configured client certificate.",
        VariantBehaviour::Configuration(mesh_certificate),
    ),
    Definition::new(
        "anonymous-without-secret",
        "Connects without a client certificate and without verification while the Secret is missing.",
        VariantBehaviour::Configuration(without_missing),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "credential-from-any-namespace",
        "Uses a Secret with the right name from any namespace.",
        VariantBehaviour::Configuration(from_any_namespace),
    ),
    Definition::new(
        "stale-credential",
        "Always uses the first version of a credential.",
        VariantBehaviour::Plane(|| Box::new(StaleCredential::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "default-namespace-credential-status",
        "Reports every credential as active, even if it is missing.",
        VariantBehaviour::Proxy(|_| Arc::new(AlwaysActive)),
    ),
    Definition::new(
        "credential-status-of-another-validity",
        "Reports that each credential begins to be valid when it ends.",
        VariantBehaviour::Proxy(|_| Arc::new(OtherValidity)),
    ),
];

/// The first version of each credential, by proxy and name.
#[derive(Default)]
struct StaleCredential(Mutex<BTreeMap<(String, String), Credential>>);

impl PlaneHooks for StaleCredential {
    fn configuration(&self, wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (proxy, credentials) in std::mem::take(&mut wanted.credentials) {
            for credential in credentials {
                first.entry((proxy.clone(), credential.name.clone())).or_insert(credential);
            }
        }
        for ((proxy, _), credential) in first.iter() {
            wanted.credentials.entry(proxy.clone()).or_default().push(credential.clone());
        }
    }
}

struct AlwaysActive;

impl ProxyHooks for AlwaysActive {
    fn credential_status(&self, status: &mut CredentialStatus) {
        status.state = CredentialState::Active;
    }
}

struct OtherValidity;

impl ProxyHooks for OtherValidity {
    fn credential_status(&self, status: &mut CredentialStatus) {
        status.not_before.clone_from(&status.not_after);
    }
}

fn mesh_certificate(wanted: &mut WantedConfig, _update: &Update<'_>, boot: &Boot) {
    for (proxy, credentials) in &mut wanted.credentials {
        let Some(identity) = boot.identities.get(proxy) else { continue };
        for credential in credentials.iter_mut().filter(|c| c.key.is_some()) {
            credential.certificate = Some(identity.certificate.clone());
            credential.key = Some(identity.key.clone());
        }
    }
}

fn from_any_namespace(wanted: &mut WantedConfig, update: &Update<'_>, _boot: &Boot) {
    for proxy in &wanted.plan.proxies {
        let held = wanted.credentials.entry(proxy.name.clone()).or_default();
        for cluster in &proxy.clusters {
            let Some(UpstreamTls::Originate(o)) = &cluster.tls else { continue };
            for name in mentioned(&o.trust, o.client_certificate.as_ref()) {
                if held.iter().any(|c| c.name == name) {
                    continue;
                }
                let secret = update.resources.iter().find(|r| r.kind() == "Secret" && r.name() == name);
                held.extend(secret.map(|s| credential(s, name)));
            }
        }
    }
}

fn mentioned<'a>(trust: &'a Trust, client: Option<&'a ClientCertificate>) -> Vec<&'a str> {
    let mut names = Vec::new();
    if let Trust::Credential(name) = trust {
        names.push(name.as_str());
    }
    if let Some(ClientCertificate::Credential(name)) = client {
        names.push(name.as_str());
    }
    names
}

fn credential(secret: &Resource, name: &str) -> Credential {
    let one = |key: &str| {
        let plain = secret.0.get("stringData").and_then(|d| d.get(key)).and_then(|v| v.as_str());
        let encoded = secret.0.get("data").and_then(|d| d.get(key)).and_then(|v| v.as_str());
        plain.map(str::to_owned).or_else(|| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded?).ok()?;
            String::from_utf8(bytes).ok()
        })
    };
    let value = |first: &str, second: &str| one(first).or_else(|| one(second));
    Credential {
        name: name.to_owned(),
        certificate: value("cert", "tls.crt"),
        key: value("key", "tls.key"),
        ca: value("cacert", "ca.crt"),
        crl: value("crl", "ca.crl"),
    }
}

fn without_missing(wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {
    for proxy in &mut wanted.plan.proxies {
        let held = wanted.credentials.get(&proxy.name).map_or(&[][..], Vec::as_slice);
        for cluster in &mut proxy.clusters {
            let Some(UpstreamTls::Originate(o)) = &mut cluster.tls else { continue };
            if let Some(ClientCertificate::Credential(name)) = &o.client_certificate
                && !held.iter().any(|c| c.name == *name && c.key.is_some())
            {
                o.client_certificate = None;
            }
            if let Trust::Credential(name) = &o.trust
                && !held.iter().any(|c| c.name == *name && c.ca.is_some())
            {
                o.trust = Trust::Anybody;
            }
        }
    }
}
