//! Saboteurs that get secrets wrong.

use std::collections::BTreeMap;

use base64::Engine as _;
use meshproof_local::data_plane::{Boot, Update};
use meshproof_model::Resource;
use meshproof_plan::model::{ClientCertificate, Credential, Trust, UpstreamTls};

use super::{Saboteur, Wanted};

/// What [`Saboteur::StaleCredential`] has seen first, by proxy and name.
#[derive(Default)]
pub(crate) struct Memory {
    first: BTreeMap<(String, String), Credential>,
}

impl Memory {
    pub(crate) fn twist(
        &mut self,
        saboteur: Saboteur,
        boot: &Boot,
        update: &Update<'_>,
        wanted: &mut Wanted,
    ) {
        if saboteur == Saboteur::StaleCredential {
            self.keep_first(wanted);
        } else if saboteur == Saboteur::OtherClientCertificate {
            for (proxy, credentials) in &mut wanted.credentials {
                let Some(identity) = boot.identities.get(proxy) else { continue };
                for credential in credentials.iter_mut().filter(|c| c.key.is_some()) {
                    credential.certificate = Some(identity.certificate.clone());
                    credential.key = Some(identity.key.clone());
                }
            }
        } else if saboteur == Saboteur::IgnoreCrl {
            wanted.credentials.values_mut().flatten().for_each(|c| c.crl = None);
        } else if saboteur == Saboteur::CredentialFromAnyNamespace {
            from_anywhere(update, wanted);
        } else if saboteur == Saboteur::AnonymousWithoutSecret {
            anonymous(wanted);
        }
    }

    fn keep_first(&mut self, wanted: &mut Wanted) {
        for (proxy, credentials) in &wanted.credentials {
            for c in credentials {
                self.first.entry((proxy.clone(), c.name.clone())).or_insert_with(|| c.clone());
            }
        }
        wanted.credentials.clear();
        for ((proxy, _), credential) in &self.first {
            wanted.credentials.entry(proxy.clone()).or_default().push(credential.clone());
        }
    }
}

fn from_anywhere(update: &Update<'_>, wanted: &mut Wanted) {
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

fn anonymous(wanted: &mut Wanted) {
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
