//! Secrets: which ones a plan uses, under their names in Istio, and how they are passed to Envoy.
//!
//! Names: `kubernetes://NAME` and `kubernetes://NAME-cacert` for credentials
//! (`ApplyCustomSDSToClientCommonTLSContext`, pilot/pkg/security/model/authentication.go),
//! `file-cert:CERT~KEY` and `file-root:PATH` for files (`SdsCertificateConfig`, pkg/security/security.go).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use meshproof_plan::model::{ClientCertificate, Credential, DownstreamTls, ProxyPlan, Trust, UpstreamTls};
use serde_json::{Value, json};

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The longest PEM file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// One secret's content, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum SecretContent {
    Pair { certificate: String, key: String },
    Roots { ca: String, crl: Option<String> },
}

impl fmt::Debug for SecretContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pair { .. } => "Pair(withheld)",
            Self::Roots { .. } => "Roots",
        })
    }
}

/// How a cluster refers to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretFile {
    /// The file that Envoy reads it from.
    pub(crate) path: PathBuf,
    /// Changes whenever the content changes; reveals nothing about it.
    pub(crate) version: String,
}

/// Istio's name for a credential's certificate and key.
pub(crate) fn pair_name(credential: &str) -> String {
    format!("kubernetes://{credential}")
}

/// Istio's name for a credential's roots. A credential that is itself called `NAME-cacert` keeps that name.
pub(crate) fn roots_name(credential: &str) -> String {
    format!("kubernetes://{}-cacert", credential.strip_suffix("-cacert").unwrap_or(credential))
}

fn file_pair_name(certificate: &str, key: &str) -> String {
    format!("file-cert:{certificate}~{key}")
}

/// The secret name of a client certificate.
pub(super) fn client_name(client: &ClientCertificate) -> String {
    match client {
        ClientCertificate::Credential(name) => pair_name(name),
        ClientCertificate::Files { certificate, key } => file_pair_name(certificate, key),
    }
}

/// The secret name of the trusted roots; none where the bootstrap has the secret, or none is used.
pub(super) fn trust_name(trust: &Trust) -> Option<String> {
    match trust {
        Trust::Credential(name) => Some(roots_name(name)),
        Trust::File(path) => Some(format!("file-root:{path}")),
        Trust::SystemRoots | Trust::Anybody => None,
    }
}

/// Every secret that a plan's clusters and listeners use, with its present content. Files are looked up in `folder` first,
/// then in the rest of the file system.
pub(crate) fn used(
    plan: &ProxyPlan,
    credentials: &[Credential],
    folder: &Path,
) -> BTreeMap<String, Option<SecretContent>> {
    let mut found = Secrets { credentials, folder, all: BTreeMap::new() };
    for cluster in &plan.clusters {
        if let Some(UpstreamTls::Originate(o)) = &cluster.tls {
            found.add(
                o.client_certificate.as_slice(),
                Some(&o.trust),
                o.crl_file.as_deref(),
                o.credential.as_deref(),
            );
        }
    }
    for chain in plan.listeners.iter().flat_map(|l| &l.chains) {
        if let Some(own) = chain.tls.as_ref().and_then(DownstreamTls::own) {
            let trust = own.client_ca.as_ref();
            found.add(&own.certificates, trust, None, trust.and_then(Trust::credential));
        }
    }
    found.all
}

struct Secrets<'a> {
    credentials: &'a [Credential],
    folder: &'a Path,
    all: BTreeMap<String, Option<SecretContent>>,
}

impl Secrets<'_> {
    fn add(
        &mut self,
        certificates: &[ClientCertificate],
        trust: Option<&Trust>,
        crl_file: Option<&str>,
        crl_of: Option<&str>,
    ) {
        let Self { credentials, folder, all: found } = self;
        let credential = |name: &str| credentials.iter().find(|c| c.name == name);
        // An empty text is not PEM, and Envoy takes empty roots as "do not verify".
        let some = |text: &Option<String>| text.clone().filter(|t| !t.trim().is_empty());
        let crl = || match crl_file {
            Some(path) => read(folder, path),
            None => crl_of.and_then(credential).and_then(|c| some(&c.crl)),
        };
        for client in certificates {
            let content = match client {
                ClientCertificate::Credential(name) => {
                    credential(name).and_then(|c| some(&c.certificate).zip(some(&c.key)))
                }
                ClientCertificate::Files { certificate, key } => {
                    read(folder, certificate).zip(read(folder, key))
                }
            };
            let content = content.map(|(certificate, key)| SecretContent::Pair { certificate, key });
            found.insert(client_name(client), content);
        }
        if let Some((trust, name)) = trust.and_then(|trust| Some((trust, trust_name(trust)?))) {
            let ca = match trust {
                Trust::Credential(name) => credential(name).and_then(|c| some(&c.ca)),
                Trust::File(path) => read(folder, path),
                Trust::SystemRoots | Trust::Anybody => None,
            };
            found.insert(name, ca.map(|ca| SecretContent::Roots { ca, crl: crl() }));
        }
    }
}

/// A file of the proxy's own file system: below its folder if it exists there, else at the path itself. A
/// file that cannot be read counts as a missing Secret; in a cluster the agent then supplies nothing.
fn read(folder: &Path, path: &str) -> Option<String> {
    let own = folder.join(path.trim_start_matches('/'));
    let chosen = if own.is_file() { own } else { PathBuf::from(path) };
    let mut text = String::new();
    File::open(chosen).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

/// The discovery response with a secret, or with none.
pub(crate) fn response(name: &str, version: &str, content: Option<&SecretContent>) -> Value {
    let resources = match content {
        None => Vec::new(),
        Some(content) => vec![resource(name, content)],
    };
    json!({"version_info": version, "resources": resources})
}

/// The secret as Envoy's resource.
pub(crate) fn resource(name: &str, content: &SecretContent) -> Value {
    let mut secret = json!({"@type": SECRET, "name": name});
    match content {
        SecretContent::Pair { certificate, key } => {
            secret["tls_certificate"] = json!({
                "certificate_chain": {"inline_string": certificate},
                "private_key": {"inline_string": key},
            });
        }
        SecretContent::Roots { ca, crl } => {
            let mut context = json!({"trusted_ca": {"inline_string": ca}});
            if let Some(crl) = crl {
                context["crl"] = json!({"inline_string": crl});
            }
            secret["validation_context"] = context;
        }
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_whose_name_ends_in_cacert_keeps_its_name() {
        assert_eq!(roots_name("client-credential"), "kubernetes://client-credential-cacert");
        assert_eq!(roots_name("client-credential-cacert"), "kubernetes://client-credential-cacert");
    }

    #[test]
    fn a_key_is_withheld_from_debug_output() {
        let content = SecretContent::Pair { certificate: "CERT".to_owned(), key: "KEY".to_owned() };
        assert!(!format!("{content:?}").contains("KEY"));
    }

    #[test]
    fn empty_roots_count_as_missing_because_envoy_would_not_verify() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty.pem"), " \n").unwrap();
        std::fs::write(folder.path().join("full.pem"), "PEM").unwrap();
        assert_eq!(read(folder.path(), "/empty.pem"), None);
        assert_eq!(read(folder.path(), "/full.pem").as_deref(), Some("PEM"));
    }
}
