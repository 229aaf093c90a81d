//! TLS on both sides of a proxy, and the credentials that it uses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a proxy terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DownstreamTls {
    /// ISTIO_MUTUAL: the proxy's own mesh certificate; a client certificate of the mesh's CA is required.
    /// ALPN: `h2`, `http/1.1`.
    MeshMutual,
    /// SIMPLE, MUTUAL or OPTIONAL_MUTUAL: certificates of its own.
    Own(ServerTls),
}

impl DownstreamTls {
    /// The gateway's own certificates, where it has some.
    #[must_use]
    pub const fn own(&self) -> Option<&ServerTls> {
        match self {
            Self::Own(tls) => Some(tls),
            Self::MeshMutual => None,
        }
    }
}

/// How a gateway terminates TLS with certificates of its own (`BuildListenerTLSContext`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerTls {
    /// One per key type.
    pub certificates: Vec<ClientCertificate>,
    /// Whom clients are verified by; absent: clients are not verified.
    pub client_ca: Option<Trust>,
    /// Whether a client must present a certificate.
    pub require_client_certificate: bool,
    /// Names that the client's certificate must hold; empty: any.
    pub client_names: Vec<String>,
    /// ALPN to accept.
    pub alpn: Vec<String>,
    /// Absent: the data plane's default (1.2).
    pub min_version: Option<TlsVersion>,
    /// Absent: the data plane's default (1.3).
    pub max_version: Option<TlsVersion>,
    /// OpenSSL names; empty: the data plane's default.
    pub cipher_suites: Vec<String>,
}

/// How a proxy opens TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTls {
    /// ISTIO_MUTUAL: the proxy's own mesh certificate, the mesh's CA.
    MeshMutual {
        /// The ClientHello's server name.
        sni: String,
        /// SPIFFE identities that the server may have; empty: any of the mesh.
        peer_identities: Vec<String>,
        /// ALPN to offer; mesh-internal values are in place here.
        alpn: Vec<String>,
    },
    /// SIMPLE or MUTUAL: TLS to a server outside.
    Originate(Origination),
}

/// TLS to a server outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origination {
    /// The ClientHello's server name.
    pub sni: ServerName,
    /// Which certificates are trusted.
    pub trust: Trust,
    /// Which names the server's certificate must hold.
    pub names: NameCheck,
    /// The client's certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// ALPN to offer, in this order: `h2`, `http/1.1`. Empty: none.
    pub alpn: Vec<String>,
    /// `TLSv1_2` and so on; absent: the data plane's default (1.2).
    pub min_version: Option<TlsVersion>,
    /// Likewise (1.3).
    pub max_version: Option<TlsVersion>,
    /// The revocation list of the credential is used where it has one.
    pub credential: Option<String>,
    /// A revocation list on the proxy's own file system (`caCrl`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_file: Option<String>,
}

/// TLS protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// Where a ClientHello's server name comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerName {
    /// The DestinationRule's `sni`.
    Fixed(String),
    /// The request's Host after any rewrite, without its port (Envoy's auto_sni).
    FromHost,
    /// No server name (a TCP cluster without `sni`).
    Absent,
}

/// Which certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The system's roots, which for a local target are `Boot::system_roots`.
    SystemRoots,
    /// The `ca` of the credential with this name. While it is missing, no connection is made: 503.
    Credential(String),
    /// A PEM file on the proxy's own file system (`caCertificates`).
    File(String),
    /// Any certificate: `insecureSkipVerify: true`.
    Anybody,
}

impl Trust {
    /// The name of the credential with the roots, where one has them.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        match self {
            Self::Credential(name) => Some(name),
            Self::SystemRoots | Self::File(_) | Self::Anybody => None,
        }
    }
}

/// Which names the server's certificate must hold. Only looked at where [`Trust`] is not `Anybody`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NameCheck {
    /// The request's Host after any rewrite (Envoy's auto_san_validation).
    FromHost,
    /// One of these as a DNS name, IP address or URI.
    OneOf(Vec<String>),
    /// One of these, and the request's Host as well (a ServiceEntry's `subjectAltNames` under a rule without).
    OneOfAndHost(Vec<String>),
    /// None: the chain alone is verified.
    ChainOnly,
}

/// The certificate that a proxy shows to a server outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// `certificate` and `key` of the credential with this name. While it is missing, no connection is made: 503.
    Credential(String),
    /// PEM files on the proxy's own file system (`clientCertificate`, `privateKey`).
    Files {
        /// The chain.
        certificate: String,
        /// The key.
        key: String,
    },
}

impl ClientCertificate {
    /// The name of the credential that has it, where one has.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        match self {
            Self::Credential(name) => Some(name),
            Self::Files { .. } => None,
        }
    }
}

/// What a proxy may use of one Secret, by Istio's rules on its keys. PEM throughout.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The `credentialName` that refers to it.
    pub name: String,
    /// The client's chain.
    pub certificate: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// The roots to believe.
    pub ca: Option<String>,
    /// Revocation lists.
    pub crl: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key never gets into a log, a report or an error.
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("certificate", &self.certificate.is_some())
            .field("key", &self.key.as_ref().map(|_| "(withheld)"))
            .field("ca", &self.ca.is_some())
            .field("crl", &self.crl.is_some())
            .finish()
    }
}
