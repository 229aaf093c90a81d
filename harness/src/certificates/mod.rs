//! Certificates in the shapes of Istio's "Egress Gateways with TLS Origination" (section "Generate client and server
//! certificates and keys"), and the broken ones that a correct client must refuse.
//!
//! There are two deviations from the document's `openssl` commands. A certificate without extensions is X.509 v3, although
//! `openssl x509 -req` writes v1, because rustls refuses v1. The server certificate with a SAN has an RSA key of 2048
//! bits instead of 4096, because no check looks at the length and 4096 bits take a second.

pub mod blueprint;
mod builder;
pub mod der;
mod describe;
mod extension;
mod kept;
mod keys;

use std::fmt;
use std::sync::Arc;

use meshproof_model::PeerCertificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

pub use blueprint::{Blueprint, Certified};
pub use builder::{ClientCertificateBuilder, MeshIdentityBuilder, ServerCertificateBuilder, self_signed};
pub use describe::{credential_status, describe, rfc2253, serial_hex};
pub use keys::{KeyAlgorithm, KeyPool};
pub use rcgen::KeyPair as PrivateKey;
pub use time::Duration;

use crate::external::PrivateKeyPem;

/// The documents' root: `openssl req -x509 -subj '/O=example Inc./CN=example.com'`.
pub const ROOT_ORGANIZATION: &str = "example Inc.";
/// See [`ROOT_ORGANIZATION`].
pub const ROOT_COMMON_NAME: &str = "example.com";
/// The documents' server: `-subj "/CN=HOST/O=some organization"`.
pub const SERVER_ORGANIZATION: &str = "some organization";
/// The documents' client: `-subj "/CN=client.example.com/O=client organization"`.
pub const CLIENT_ORGANIZATION: &str = "client organization";
/// See [`CLIENT_ORGANIZATION`].
pub const CLIENT_COMMON_NAME: &str = "client.example.com";

/// The documents' `-days 365`.
const VALIDITY: Duration = Duration::days(365);
/// Certificates are valid from a little before now: clocks of a cluster's nodes differ.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Why a certificate could not be created. Always a fault of the suite.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A key could not be created.
    #[error("cannot create a key ({algorithm:?}): {source}")]
    Key {
        /// The algorithm of the key.
        algorithm: KeyAlgorithm,
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate or revocation list could not be issued.
    #[error("cannot issue {what}: {source}")]
    Issue {
        /// `a certificate for edition.cnn.com`.
        what: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The creation of a key was interrupted.
    #[error("the creation of a key was interrupted: {0}")]
    Interrupted(String),
}

/// A certificate authority of the suite. It issues certificates.
pub struct Authority {
    key: Arc<KeyPair>,
    algorithm: KeyAlgorithm,
    params: CertificateParams,
    pem: String,
    facts: PeerCertificate,
    keys: KeyPool,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("subject", &self.facts.subject).finish_non_exhaustive()
    }
}

impl Authority {
    /// The documents' root, `O=example Inc., CN=example.com`. Its key and the keys of its certificates are new;
    /// see [`Authority::with_keys`].
    ///
    /// # Errors
    /// The key or the certificate could not be created.
    pub fn new(algorithm: KeyAlgorithm) -> Result<Self, CertificateError> {
        Self::named(ROOT_COMMON_NAME, ROOT_ORGANIZATION, algorithm)
    }

    /// A root with another name.
    ///
    /// # Errors
    /// The key or the certificate could not be created.
    pub fn named(
        common_name: &str,
        organization: &str,
        algorithm: KeyAlgorithm,
    ) -> Result<Self, CertificateError> {
        Self::with_keys(&KeyPool::fresh(), common_name, organization, algorithm)
    }

    /// A root whose key comes from a pool, and so do the keys of its certificates.
    ///
    /// # Errors
    /// The key or the certificate could not be created.
    pub fn with_keys(
        keys: &KeyPool,
        common_name: &str,
        organization: &str,
        algorithm: KeyAlgorithm,
    ) -> Result<Self, CertificateError> {
        let key = keys.take(algorithm)?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = validity();
        // The order of the document's -subj, which decides the order of the printed name.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.self_signed(&*key).map_err(|source| CertificateError::Issue {
            what: format!("the root certificate {common_name}"),
            source,
        })?;
        let facts = describe(certificate.der()).unwrap_or_default();
        Ok(Self { key, algorithm, params, pem: certificate.pem(), facts, keys: keys.clone() })
    }

    /// The root certificate in PEM, for the parties that trust it.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The description of the root certificate.
    #[must_use]
    pub fn facts(&self) -> &PeerCertificate {
        &self.facts
    }

    /// A server's certificate: `CN=HOST, O=some organization`, serial 0, with the extensions of the document's
    /// `san.conf`, the host as its alternative name.
    pub fn server(&self, host: &str) -> ServerCertificateBuilder<'_> {
        ServerCertificateBuilder::new(self, host)
    }

    /// A client's certificate: `CN=..., O=client organization`, serial 1, no extensions.
    pub fn client(&self, common_name: &str) -> ClientCertificateBuilder<'_> {
        ClientCertificateBuilder::new(self, common_name)
    }

    /// A proxy's certificate in the mesh, as istiod issues it: no subject, the SPIFFE identity as the one critical
    /// alternative name. The key is always ECDSA.
    pub fn mesh_identity(&self, spiffe: &str) -> MeshIdentityBuilder<'_> {
        MeshIdentityBuilder::new(self, spiffe)
    }

    /// A revocation list, PEM, that names these certificates and is valid now. It may be empty.
    ///
    /// # Errors
    /// The list could not be signed.
    pub fn revocation_list<'a>(
        &self,
        revoked: impl IntoIterator<Item = &'a Issued>,
    ) -> Result<String, CertificateError> {
        let failed =
            |source| CertificateError::Issue { what: "a certificate revocation list".to_owned(), source };
        let (this_update, next_update) = validity();
        let list = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .into_iter()
                .map(|issued| RevokedCertParams {
                    serial_number: SerialNumber::from(issued.serial_number),
                    revocation_time: this_update,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).and_then(|list| list.pem()).map_err(failed)
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &*self.key)
    }

    fn issue(
        &self,
        what: &str,
        key: Arc<KeyPair>,
        params: &CertificateParams,
        serial_number: u64,
    ) -> Result<Issued, CertificateError> {
        let certificate = params.signed_by(&*key, &self.issuer()).map_err(|source| {
            CertificateError::Issue { what: format!("a certificate for {what}"), source }
        })?;
        Ok(Issued::new(&certificate, key, serial_number))
    }
}

/// Whether the suite's servers can sign handshakes with this key, in PEM.
#[must_use]
pub fn can_sign_handshakes(key: &str) -> bool {
    let Ok(key) = PrivateKeyDer::from_pem_slice(key.as_bytes()) else { return false };
    rustls::crypto::aws_lc_rs::default_provider().key_provider.load_private_key(key).is_ok()
}

fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let from = OffsetDateTime::now_utc() - CLOCK_SKEW;
    (from, from + VALIDITY)
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Issued {
    pem: String,
    pair: Arc<KeyPair>,
    serial_number: u64,
    facts: PeerCertificate,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Issued {
    fn new(certificate: &rcgen::Certificate, pair: Arc<KeyPair>, serial_number: u64) -> Self {
        Self {
            pem: certificate.pem(),
            pair,
            serial_number,
            facts: describe(certificate.der()).unwrap_or_default(),
        }
    }

    /// The certificate, PEM, without its issuer.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The key, PEM (PKCS #8).
    #[must_use]
    pub fn key(&self) -> PrivateKeyPem {
        PrivateKeyPem(self.pair.serialize_pem())
    }

    /// The serial number as [`PeerCertificate::serial`] has it: upper-case hex in whole bytes, `00`, `01`.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.facts.serial
    }

    /// The subject as nginx's `$ssl_client_s_dn` prints it (RFC 2253, last attribute first): the document's
    /// `/CN=client.example.com/O=client organization` is `O=client organization,CN=client.example.com`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.facts.subject
    }

    /// SHA-256 of the DER in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.facts.sha256.as_deref().unwrap_or_default()
    }

    /// The description of the certificate, in the form in which a peer's certificate is recorded.
    #[must_use]
    pub fn facts(&self) -> &PeerCertificate {
        &self.facts
    }
}
