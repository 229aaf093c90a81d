//! The material of a cluster's TLS, read when a configuration is applied. Equal values behave alike, so that
//! an unchanged cluster keeps its connections.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use meshproof_local::data_plane::MeshCertificate;
use meshproof_plan::model::{ClientCertificate, Credential, Trust, UpstreamTls};

/// The longest PEM file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Envoy's words while a Secret has not arrived (`source/common/tls/ssl_socket.cc`, `NotReadySslSocket`).
pub(crate) const NO_SECRET: &str = "TLS error: Secret is not supplied by SDS";

/// Where one proxy's TLS material comes from.
pub(crate) struct TlsSources<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) identity: Option<&'a MeshCertificate>,
    pub(crate) mesh_roots: &'a str,
    pub(crate) system_roots: &'a str,
    pub(crate) credentials: &'a [Credential],
}

/// Which certificates are trusted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum TrustedRoots {
    /// Those issued by these CA certificates, in PEM.
    Pem(String),
    /// Every certificate.
    Any,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PemKeyPair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The material of a cluster's TLS.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TlsInputs {
    /// The error says what is missing, for the client and the log.
    pub(crate) roots: Result<TrustedRoots, String>,
    /// Likewise; `None` if no client certificate is presented.
    pub(crate) client: Result<Option<PemKeyPair>, String>,
    pub(crate) crl: Option<String>,
}

impl TlsInputs {
    pub(crate) fn of(tls: &UpstreamTls, sources: &TlsSources<'_>) -> Self {
        match tls {
            UpstreamTls::MeshMutual { .. } => Self {
                roots: Ok(TrustedRoots::Pem(sources.mesh_roots.to_owned())),
                client: match sources.identity {
                    Some(i) => {
                        Ok(Some(PemKeyPair { certificate: i.certificate.clone(), key: i.key.clone() }))
                    }
                    None => Err("TLS error: the proxy has no identity in the mesh".to_owned()),
                },
                crl: None,
            },
            UpstreamTls::Originate(o) => {
                let roots = sources.roots(&o.trust);
                let client = o.client_certificate.as_ref().map(|pair| sources.pair(pair)).transpose();
                let crl = o.credential.as_deref().and_then(|name| sources.crl(name));
                match o.crl_file.as_deref().map(|path| sources.read(path)) {
                    None => Self { roots, client, crl },
                    Some(Ok(list)) => Self { roots, client, crl: Some(list) },
                    // A list that cannot be read lets no certificate through.
                    Some(Err(unreadable)) => Self { roots: roots.and(Err(unreadable)), client, crl },
                }
            }
        }
    }
}

impl TlsSources<'_> {
    fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.iter().find(|c| c.name == name)
    }

    /// Whom to trust. The error says what is missing.
    pub(crate) fn roots(&self, trust: &Trust) -> Result<TrustedRoots, String> {
        match trust {
            Trust::SystemRoots => Ok(TrustedRoots::Pem(self.system_roots.to_owned())),
            Trust::Anybody => Ok(TrustedRoots::Any),
            Trust::Credential(name) => self
                .credential(name)
                .and_then(|c| c.ca.clone())
                .map(TrustedRoots::Pem)
                .ok_or_else(|| NO_SECRET.to_owned()),
            Trust::File(path) => self.read(path).map(TrustedRoots::Pem),
        }
    }

    /// A certificate with its key. The error says what is missing.
    pub(crate) fn pair(&self, of: &ClientCertificate) -> Result<PemKeyPair, String> {
        match of {
            ClientCertificate::Credential(name) => self
                .credential(name)
                .and_then(|c| Some(PemKeyPair { certificate: c.certificate.clone()?, key: c.key.clone()? }))
                .ok_or_else(|| NO_SECRET.to_owned()),
            ClientCertificate::Files { certificate, key } => {
                Ok(PemKeyPair { certificate: self.read(certificate)?, key: self.read(key)? })
            }
        }
    }

    /// The revocation list of a credential.
    pub(crate) fn crl(&self, credential: &str) -> Option<String> {
        self.credential(credential).and_then(|c| c.crl.clone())
    }

    /// A file of the proxy's own file system: below its folder if it exists there, else at the path itself.
    fn read(&self, path: &str) -> Result<String, String> {
        let own = self.folder.join(path.trim_start_matches('/'));
        let chosen: PathBuf = if own.is_file() { own } else { PathBuf::from(path) };
        let unusable = |reason: &dyn std::fmt::Display| format!("TLS error: {}: {reason}", chosen.display());
        // Opening a named pipe would block until a writer comes.
        match std::fs::metadata(&chosen) {
            Ok(found) if !found.is_file() => return Err(unusable(&"is not a regular file")),
            Ok(_) | Err(_) => {}
        }
        let mut text = String::new();
        File::open(&chosen)
            .and_then(|f| f.take(MAX_FILE).read_to_string(&mut text))
            .map(|_| text)
            .map_err(|e| unusable(&e.kind()))
    }
}
