//! The properties of a certificate before it is issued.

use std::fmt;
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::{
    Authority, CLIENT_ORGANIZATION, CertificateError, Issued, KeyAlgorithm, KeyPool, SERVER_ORGANIZATION,
    VALIDITY, validity,
};

/// RFC 5280, section 4.2.1.6: `id-ce-subjectAltName`.
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

/// RFC 5280, section 4.2.1.9: `id-ce-basicConstraints`.
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];

/// When a certificate is valid, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Now,
    Past,
    Future,
}

impl When {
    fn bounds(self) -> (OffsetDateTime, OffsetDateTime) {
        let now = OffsetDateTime::now_utc();
        match self {
            Self::Now => validity(),
            Self::Past => (now - VALIDITY, now - Duration::days(1)),
            Self::Future => (now + Duration::days(1), now + VALIDITY),
        }
    }
}

fn subject(common_name: &str, organization: &str) -> DistinguishedName {
    // The order of the document's -subj.
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, organization);
    name
}

/// The key that the certificate is for.
#[derive(Clone)]
enum Holder {
    /// A new key with this algorithm.
    New(KeyAlgorithm),
    /// An existing key.
    Known(Arc<KeyPair>),
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(algorithm) => f.debug_tuple("New").field(algorithm).finish(),
            Self::Known(_) => f.write_str("Known"),
        }
    }
}

impl Holder {
    fn key(self, keys: &KeyPool) -> Result<Arc<KeyPair>, CertificateError> {
        match self {
            Self::New(algorithm) => keys.take(algorithm),
            Self::Known(key) => Ok(key),
        }
    }
}

/// Builds a server's certificate. Defaults: the extensions of the document's `san.conf` with the host as the only
/// alternative name, serial 0, valid now.
#[derive(Clone, Debug)]
#[must_use = "a builder issues nothing until `issue` is called"]
pub struct ServerCertificateBuilder<'a> {
    authority: &'a Authority,
    holder: Holder,
    shape: ServerShape,
}

#[derive(Clone, Debug)]
struct ServerShape {
    host: String,
    alternative_names: Option<Vec<String>>,
    when: When,
    usages: Vec<ExtendedKeyUsagePurpose>,
    serial: u64,
}

impl ServerShape {
    fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            alternative_names: Some(vec![host.to_owned()]),
            when: When::Now,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            serial: 0,
        }
    }

    fn params(&self) -> Result<CertificateParams, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&self.host, SERVER_ORGANIZATION);
        (params.not_before, params.not_after) = self.when.bounds();
        params.serial_number = Some(SerialNumber::from(self.serial));
        let Some(names) = &self.alternative_names else {
            return Ok(params);
        };
        let names = names
            .iter()
            .map(|name| Ia5String::try_from(name.as_str()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| CertificateError::Issue {
                what: format!("a certificate for {}", self.host),
                source,
            })?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages.clone_from(&self.usages);
        // The library writes two extensions differently: CA:FALSE only together with a subjectKeyIdentifier, and critical
        // alternative names only if the subject is empty. san.conf has the first without and the second critical.
        params.custom_extensions =
            vec![critical(BASIC_CONSTRAINTS, ca_false()), critical(SUBJECT_ALT_NAME, dns_names(&names))];
        Ok(params)
    }
}

impl<'a> ServerCertificateBuilder<'a> {
    pub(super) fn new(authority: &'a Authority, host: &str) -> Self {
        Self { authority, holder: Holder::New(authority.algorithm), shape: ServerShape::new(host) }
    }

    /// Without an alternative name or any other extension, like the document's first `openssl x509`. A client that follows
    /// RFC 6125 finds no server name in it.
    pub fn without_san(mut self) -> Self {
        self.shape.alternative_names = None;
        self
    }

    /// With these DNS names instead of the host.
    pub fn with_san<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.shape.alternative_names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Valid until yesterday.
    pub fn expired(mut self) -> Self {
        self.shape.when = When::Past;
        self
    }

    /// Valid from tomorrow.
    pub fn not_yet_valid(mut self) -> Self {
        self.shape.when = When::Future;
        self
    }

    /// For clients only: `extendedKeyUsage = clientAuth`, which a server may not use (RFC 5280, section 4.2.1.12).
    pub fn client_auth_only(mut self) -> Self {
        self.shape.usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// Another serial number than the document's 0.
    pub fn serial(mut self, serial: u64) -> Self {
        self.shape.serial = serial;
        self
    }

    /// Another key algorithm than the authority's.
    pub fn key_algorithm(mut self, algorithm: KeyAlgorithm) -> Self {
        self.holder = Holder::New(algorithm);
        self
    }

    /// For the key of this certificate: another certificate of the same party, as after a renewal. Only the certificates
    /// differ, and no key needs to be created.
    pub fn key_of(mut self, other: &Issued) -> Self {
        self.holder = Holder::Known(other.pair.clone());
        self
    }

    /// Creates the certificate, and the key if a new one is needed.
    ///
    /// # Errors
    /// The key or the certificate could not be created.
    pub fn issue(self) -> Result<Issued, CertificateError> {
        let key = self.holder.key(&self.authority.keys)?;
        self.authority.issue(&self.shape.host, key, &self.shape.params()?, self.shape.serial)
    }
}

/// Builds a client's certificate. Defaults: no extensions, serial 1, valid now.
#[derive(Clone, Debug)]
#[must_use = "a builder issues nothing until `issue` is called"]
pub struct ClientCertificateBuilder<'a> {
    authority: &'a Authority,
    holder: Holder,
    common_name: String,
    when: When,
    serial: u64,
}

impl<'a> ClientCertificateBuilder<'a> {
    pub(super) fn new(authority: &'a Authority, common_name: &str) -> Self {
        Self {
            authority,
            holder: Holder::New(authority.algorithm),
            common_name: common_name.to_owned(),
            when: When::Now,
            serial: 1,
        }
    }

    /// Another serial number than the document's 1.
    pub fn serial(mut self, serial: u64) -> Self {
        self.serial = serial;
        self
    }

    /// Valid until yesterday.
    pub fn expired(mut self) -> Self {
        self.when = When::Past;
        self
    }

    /// Another key algorithm than the authority's.
    pub fn key_algorithm(mut self, algorithm: KeyAlgorithm) -> Self {
        self.holder = Holder::New(algorithm);
        self
    }

    /// For the key of this certificate: another certificate of the same party, as after a renewal. Only the certificates
    /// differ, and no key needs to be created.
    pub fn key_of(mut self, other: &Issued) -> Self {
        self.holder = Holder::Known(other.pair.clone());
        self
    }

    /// Creates the certificate, and the key if a new one is needed.
    ///
    /// # Errors
    /// The key or the certificate could not be created.
    pub fn issue(self) -> Result<Issued, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&self.common_name, CLIENT_ORGANIZATION);
        (params.not_before, params.not_after) = self.when.bounds();
        params.serial_number = Some(SerialNumber::from(self.serial));
        let key = self.holder.key(&self.authority.keys)?;
        self.authority.issue(&self.common_name, key, &params, self.serial)
    }
}

/// Builds a proxy's certificate of the mesh.
#[derive(Clone, Debug)]
#[must_use = "a builder issues nothing until `issue` is called"]
pub struct MeshIdentityBuilder<'a> {
    authority: &'a Authority,
    spiffe: String,
    when: When,
    serial: u64,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

impl<'a> MeshIdentityBuilder<'a> {
    pub(super) fn new(authority: &'a Authority, spiffe: &str) -> Self {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { authority, spiffe: spiffe.to_owned(), when: When::Now, serial: 2, usages }
    }

    /// Another serial number than 2.
    pub fn serial(mut self, serial: u64) -> Self {
        self.serial = serial;
        self
    }

    /// Valid until yesterday.
    pub fn expired(mut self) -> Self {
        self.when = When::Past;
        self
    }

    /// For servers only: `extendedKeyUsage = serverAuth`, which a client may not use (RFC 5280, section 4.2.1.12).
    pub fn server_auth_only(mut self) -> Self {
        self.usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// Creates the key and the certificate.
    ///
    /// # Errors
    /// The key or the certificate could not be created; the identity is not ASCII.
    pub fn issue(self) -> Result<Issued, CertificateError> {
        let uri = self
            .spiffe
            .as_str()
            .try_into()
            .map_err(|source| CertificateError::Issue { what: self.spiffe.clone(), source })?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) = self.when.bounds();
        params.serial_number = Some(SerialNumber::from(self.serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = self.usages;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.use_authority_key_identifier_extension = true;
        let key = self.authority.keys.take(KeyAlgorithm::EcdsaP256)?;
        self.authority.issue(&self.spiffe, key, &params, self.serial)
    }
}

/// A self-signed server certificate, otherwise like that of [`Authority::server`].
///
/// # Errors
/// The key or the certificate could not be created.
pub fn self_signed(keys: &KeyPool, host: &str, algorithm: KeyAlgorithm) -> Result<Issued, CertificateError> {
    let key = keys.take(algorithm)?;
    let shape = ServerShape::new(host);
    let certificate = shape.params()?.self_signed(&*key).map_err(|source| CertificateError::Issue {
        what: format!("a self-signed certificate for {host}"),
        source,
    })?;
    Ok(Issued::new(&certificate, key, shape.serial))
}

fn critical(oid: &[u64], content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(true);
    extension
}

/// `BasicConstraints` in DER; `cA` is FALSE by default, and defaults are not written (RFC 5280, section 4.2.1.9).
fn ca_false() -> Vec<u8> {
    yasna::construct_der(|writer| writer.write_sequence(|_| {}))
}

/// `GeneralNames` of `dNSName`s in DER (RFC 5280, section 4.2.1.6).
fn dns_names(names: &[Ia5String]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for name in names {
                writer.next().write_tagged_implicit(yasna::Tag::context(2), |writer| {
                    writer.write_ia5_string(name.as_str())
                });
            }
        });
    })
}
