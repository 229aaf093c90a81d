//! What a cluster's TLS is made of, read when a configuration is applied. Two equal values behave alike, so that an
//! unchanged cluster keeps its connections.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use meshproof_local::data_plane::MeshCertificate;
use meshproof_plan::model::{ClientCertificate, Credential, Trust, UpstreamTls};

/// The longest PEM file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Envoy's words while a secret has not arrived (`source/common/tls/ssl_socket.cc`, `NotReadySslSocket`).
pub(crate) const NO_SECRET: &str = "TLS error: Secret is not supplied by SDS";

/// Where one proxy's material comes from.
pub(crate) struct Sources<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) identity: Option<&'a MeshCertificate>,
    pub(crate) mesh_roots: &'a str,
    pub(crate) system_roots: &'a str,
    pub(crate) credentials: &'a [Credential],
}

/// Whose certificates are believed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Of these, in PEM.
    Pem(String),
    /// Anybody's.
    Anybody,
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What a cluster's TLS is made of.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// Or what is missing, in words for the client and the log.
    pub(crate) roots: Result<Roots, String>,
    /// Likewise; none where no certificate is to be shown.
    pub(crate) client: Result<Option<Pair>, String>,
    pub(crate) crl: Option<String>,
}

impl Inputs {
    pub(crate) fn of(tls: &UpstreamTls, sources: &Sources<'_>) -> Self {
        match tls {
            UpstreamTls::MeshMutual { .. } => Self {
                roots: Ok(Roots::Pem(sources.mesh_roots.to_owned())),
                client: match sources.identity {
                    Some(i) => Ok(Some(Pair { certificate: i.certificate.clone(), key: i.key.clone() })),
                    None => Err("TLS error: the proxy has no identity in the mesh".to_owned()),
                },
                crl: None,
            },
            UpstreamTls::Originate(o) => {
                let credential = |name: &str| sources.credentials.iter().find(|c| c.name == name);
                let roots = match &o.trust {
                    Trust::SystemRoots => Ok(Roots::Pem(sources.system_roots.to_owned())),
                    Trust::Anybody => Ok(Roots::Anybody),
                    Trust::Credential(name) => credential(name)
                        .and_then(|c| c.ca.clone())
                        .map(Roots::Pem)
                        .ok_or_else(|| NO_SECRET.to_owned()),
                    Trust::File(path) => sources.read(path).map(Roots::Pem),
                };
                let client = match &o.client_certificate {
                    None => Ok(None),
                    Some(ClientCertificate::Credential(name)) => credential(name)
                        .and_then(|c| Some(Pair { certificate: c.certificate.clone()?, key: c.key.clone()? }))
                        .map(Some)
                        .ok_or_else(|| NO_SECRET.to_owned()),
                    Some(ClientCertificate::Files { certificate, key }) => sources
                        .read(certificate)
                        .and_then(|certificate| Ok(Some(Pair { certificate, key: sources.read(key)? }))),
                };
                let crl = o.credential.as_deref().and_then(credential).and_then(|c| c.crl.clone());
                Self { roots, client, crl }
            }
        }
    }
}

impl Sources<'_> {
    /// A file of the proxy's own file system: below its folder where it is there, else where the path says.
    fn read(&self, path: &str) -> Result<String, String> {
        let own = self.folder.join(path.trim_start_matches('/'));
        let chosen: PathBuf = if own.is_file() { own } else { PathBuf::from(path) };
        let mut text = String::new();
        File::open(&chosen)
            .and_then(|f| f.take(MAX_FILE).read_to_string(&mut text))
            .map(|_| text)
            .map_err(|e| format!("TLS error: {}: {}", chosen.display(), e.kind()))
    }
}
