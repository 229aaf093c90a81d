//! Certificates of any shape, correct or not: for what the documents' shapes ([`super::builder`]) leave out, and for what no
//! library would write.

use std::sync::Arc;

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::ParsedExtension;

use super::der::{self, bits, element, integer, joined, octets, oid, sequence};
pub use super::extension::*;
use super::{Authority, CertificateError, Issued, KeyAlgorithm, KeyPool, describe};
use crate::digest;

/// Whether a certificate gets a key identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identifier {
    Absent,
    Made,
}

/// A certificate to be made. Every field may be wrong; nothing is corrected.
#[derive(Clone)]
pub struct Blueprint {
    /// `Version`: 0 is X.509 v1 and goes without extensions, 2 is v3.
    pub version: u8,
    /// The content bytes of the serial number.
    pub serial: Vec<u8>,
    /// The subject's name in DER.
    pub subject: Vec<u8>,
    /// The issuer's name in DER, if it is not that of the certificate that signs.
    pub issuer: Option<Vec<u8>>,
    /// Its period of validity.
    pub validity: (OffsetDateTime, OffsetDateTime),
    /// The extensions, without key identifiers.
    pub extensions: Vec<Extension>,
    /// The algorithm that the signed part names, in DER, if it is not the one of the signature.
    pub inner_algorithm: Option<Vec<u8>>,
    /// `Validity` in DER, instead of the period above.
    pub raw_validity: Option<Vec<u8>>,
    /// The extensions are written although X.509 v1 has none.
    pub extensions_in_version_one: bool,
    /// Whether the signature is spoiled.
    pub broken_signature: bool,
    /// `SubjectPublicKeyInfo` in DER, instead of that of the key.
    public_key: Option<Vec<u8>>,
    key: Arc<KeyPair>,
    authority_key: Identifier,
    subject_key: Identifier,
}

impl Blueprint {
    fn new(subject: Vec<u8>, key: Arc<KeyPair>, extensions: Vec<Extension>) -> Self {
        let serial = digest::sha256(&joined(&[subject.as_slice(), key.der_bytes()]));
        let serial = serial.as_bytes().chunks(2).take(8);
        let serial = serial.filter_map(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        Self {
            version: 2,
            serial: std::iter::once(0x40).chain(serial).collect(),
            subject,
            issuer: None,
            validity: super::validity(),
            extensions,
            inner_algorithm: None,
            raw_validity: None,
            extensions_in_version_one: false,
            broken_signature: false,
            public_key: None,
            key,
            authority_key: Identifier::Made,
            subject_key: Identifier::Made,
        }
    }

    /// The certificate of a CA with this common name.
    #[must_use]
    pub fn authority(common_name: &str, key: Arc<KeyPair>) -> Self {
        let usage = Extension::key_usage(&[usage::CERTIFICATES, usage::LISTS]);
        Self::new(der::name(common_name), key, vec![Extension::authority(None), usage])
    }

    /// The certificate of a server with this host as its alternative name, and another text as its common name: the common
    /// name does not count (RFC 9525, section 2).
    #[must_use]
    pub fn server(host: &str, key: Arc<KeyPair>) -> Self {
        let usage = Extension::key_usage(&[usage::SIGNATURE]);
        let purposes = Extension::purposes(&[SERVER_AUTH]);
        let names = Extension::names(&[Name::dns(host)]);
        Self::new(der::name("a server"), key, vec![usage, purposes, names])
    }

    /// The certificate of a client.
    #[must_use]
    pub fn client(common_name: &str, key: Arc<KeyPair>) -> Self {
        let usage = Extension::key_usage(&[usage::SIGNATURE]);
        Self::new(der::name(common_name), key, vec![usage, Extension::purposes(&[CLIENT_AUTH])])
    }

    /// With this extension instead of the one of its type, if it has one.
    #[must_use]
    pub fn with(mut self, extension: Extension) -> Self {
        self = self.without(extension.oid);
        self.extensions.push(extension);
        self
    }

    /// With this extension besides all others.
    #[must_use]
    pub fn besides(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Without the extension of this type.
    #[must_use]
    pub fn without(mut self, oid: &[u64]) -> Self {
        self.extensions.retain(|e| e.oid != oid);
        if oid == AUTHORITY_KEY {
            self.authority_key = Identifier::Absent;
        } else if oid == SUBJECT_KEY {
            self.subject_key = Identifier::Absent;
        }
        self
    }

    /// With these alternative names.
    #[must_use]
    pub fn names(self, names: &[Name]) -> Self {
        self.with(Extension::names(names))
    }

    /// With this key instead of its own.
    #[must_use]
    pub fn for_key(mut self, key: Arc<KeyPair>) -> Self {
        self.key = key;
        self
    }

    /// With this `SubjectPublicKeyInfo` in DER: for a key that this library cannot hold.
    #[must_use]
    pub fn for_public_key(mut self, info: Vec<u8>) -> Self {
        self.public_key = Some(info);
        self
    }

    /// With this common name.
    #[must_use]
    pub fn common_name(mut self, text: &str) -> Self {
        self.subject = der::name(text);
        self
    }

    /// Valid between these times, which count from now.
    #[must_use]
    pub fn valid(mut self, from: Duration, until: Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        self.validity = (now + from, now + until);
        self
    }

    /// X.509 v1, as `openssl x509 -req` writes it: without extensions.
    #[must_use]
    pub fn version_one(mut self) -> Self {
        self.version = 0;
        self
    }

    /// Signs it with its own key.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn self_signed(self) -> Result<Certified, CertificateError> {
        let issuer = Certified::new(Vec::new(), self.subject.clone(), self.key.clone());
        self.issued_by(&issuer)
    }

    /// Signs it with the key of another certificate.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn issued_by(self, issuer: &Certified) -> Result<Certified, CertificateError> {
        let algorithm = algorithm_of(&issuer.key);
        let broken = self.broken_signature;
        self.signed_with(issuer, &algorithm, |part| {
            let mut signature = sign(&issuer.key, part)?;
            if broken && let Some(last) = signature.last_mut() {
                *last ^= 1;
            }
            Ok(signature)
        })
    }

    /// Signs it by a function, with an algorithm that this library cannot use or that does not exist.
    ///
    /// # Errors
    /// Those of the function.
    pub fn signed_with(
        self,
        issuer: &Certified,
        algorithm: &[u8],
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, CertificateError>,
    ) -> Result<Certified, CertificateError> {
        let part = self.signed_part(issuer, algorithm);
        let signature = sign(&part)?;
        let der = sequence(&[part, algorithm.to_vec(), bits(&signature)]);
        Ok(Certified::new(der, self.subject, self.key))
    }

    /// `TBSCertificate` (RFC 5280, section 4.1), as `issuer` would sign it with this algorithm.
    fn signed_part(&self, issuer: &Certified, algorithm: &[u8]) -> Vec<u8> {
        let version = match self.version {
            0 => Vec::new(),
            number => element(0xa0, &integer(&[number])),
        };
        let mut extensions: Vec<Vec<u8>> = self.extensions.iter().map(Extension::der).collect();
        if self.subject_key == Identifier::Made {
            extensions.push(Extension::new(SUBJECT_KEY, octets(&identifier(&self.key))).der());
        }
        if self.authority_key == Identifier::Made {
            let content = sequence(&[element(0x80, &issuer.key_identifier)]);
            extensions.push(Extension::new(AUTHORITY_KEY, content).der());
        }
        let extensions = if extensions.is_empty() || (self.version == 0 && !self.extensions_in_version_one) {
            Vec::new()
        } else {
            element(0xa3, &sequence(&extensions))
        };
        let (from, until) = self.validity;
        sequence(&[
            version,
            integer(&self.serial),
            self.inner_algorithm.clone().unwrap_or_else(|| algorithm.to_vec()),
            self.issuer.clone().unwrap_or_else(|| issuer.subject.clone()),
            self.raw_validity.clone().unwrap_or_else(|| sequence(&[der::time(from), der::time(until)])),
            self.subject.clone(),
            self.public_key.clone().unwrap_or_else(|| self.key.subject_public_key_info()),
            extensions,
        ])
    }
}

/// The signature of a certificate's signed part.
///
/// # Errors
/// The key cannot sign.
pub fn sign(key: &KeyPair, part: &[u8]) -> Result<Vec<u8>, CertificateError> {
    key.sign(part).map_err(|source| CertificateError::Issue { what: "a certificate".to_owned(), source })
}

/// The `AlgorithmIdentifier` of a key's signatures (RFC 5758, RFC 8017, RFC 8410).
#[must_use]
pub fn algorithm_of(key: &KeyPair) -> Vec<u8> {
    let named = |arcs: &[u64]| sequence(&[oid(arcs)]);
    if key.is_compatible(&rcgen::PKCS_ECDSA_P384_SHA384) {
        named(&[1, 2, 840, 10045, 4, 3, 3])
    } else if key.is_compatible(&rcgen::PKCS_ED25519) {
        named(&[1, 3, 101, 112])
    } else if key.is_compatible(&rcgen::PKCS_RSA_SHA256) {
        sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, 11]), element(0x05, &[])])
    } else {
        named(&[1, 2, 840, 10045, 4, 3, 2])
    }
}

/// A key identifier: half of a digest of the key is enough to tell keys apart (RFC 7093, section 2).
fn identifier(key: &KeyPair) -> Vec<u8> {
    digest::sha256(key.der_bytes()).into_bytes().into_iter().take(20).collect()
}

/// A certificate that was made, and its key. It can issue others.
#[derive(Clone)]
pub struct Certified {
    der: Vec<u8>,
    subject: Vec<u8>,
    key_identifier: Vec<u8>,
    key: Arc<KeyPair>,
}

impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certified").field("facts", &describe(&self.der)).finish_non_exhaustive()
    }
}

impl Certified {
    fn new(der: Vec<u8>, subject: Vec<u8>, key: Arc<KeyPair>) -> Self {
        Self { der, subject, key_identifier: identifier(&key), key }
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The same certificate with another key: the issuer of certificates whose signatures do not hold.
    #[must_use]
    pub fn with_key(&self, key: Arc<KeyPair>) -> Self {
        Self { key, ..self.clone() }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &Arc<KeyPair> {
        &self.key
    }

    /// Its subject in DER.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// As a party presents it: with these certificates after it.
    #[must_use]
    pub fn with_chain(&self, others: &[&Self]) -> Issued {
        let chain = std::iter::once(self).chain(others.iter().copied());
        Issued {
            pem: chain.map(Self::pem).collect(),
            pair: self.key.clone(),
            serial_number: 0,
            facts: describe(&self.der).unwrap_or_default(),
        }
    }

    /// A revocation list of this CA, in PEM, with the serial numbers of these certificates. It is valid now.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn revocation_list(&self, revoked: &[&Self]) -> Result<String, CertificateError> {
        self.revocation_list_until(revoked, super::VALIDITY)
    }

    /// The same, with the next list due after this time from now.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn revocation_list_until(
        &self,
        revoked: &[&Self],
        next: Duration,
    ) -> Result<String, CertificateError> {
        let now = OffsetDateTime::now_utc();
        let this_update = now.min(now + next) - super::CLOCK_SKEW;
        let algorithm = algorithm_of(&self.key);
        let entries: Vec<Vec<u8>> = revoked
            .iter()
            .filter_map(|c| {
                let (_, parsed) = x509_parser::parse_x509_certificate(&c.der).ok()?;
                Some(sequence(&[integer(parsed.raw_serial()), der::time(this_update)]))
            })
            .collect();
        let entries = if entries.is_empty() { Vec::new() } else { sequence(&entries) };
        let key_identifier = sequence(&[element(0x80, &self.key_identifier)]);
        let extensions = sequence(&[
            Extension::new(AUTHORITY_KEY, key_identifier).der(),
            Extension::new(&[2, 5, 29, 20], integer(&[1])).der(),
        ]);
        // RFC 5280, section 5.1.
        let part = sequence(&[
            integer(&[1]),
            algorithm.clone(),
            self.subject.clone(),
            der::time(this_update),
            der::time(now + next),
            entries,
            element(0xa0, &extensions),
        ]);
        let signature = self
            .key
            .sign(&part)
            .map_err(|source| CertificateError::Issue { what: "a revocation list".to_owned(), source })?;
        Ok(pem("X509 CRL", &sequence(&[part, algorithm, bits(&signature)])))
    }
}

impl KeyPool {
    /// The next key with this algorithm.
    ///
    /// # Errors
    /// It could not be made.
    pub fn key(&self, algorithm: KeyAlgorithm) -> Result<Arc<KeyPair>, CertificateError> {
        self.take(algorithm)
    }
}

impl Authority {
    /// The authority as the issuer of certificates of any shape.
    #[must_use]
    pub fn certified(&self) -> Certified {
        let der = pem_contents(&self.pem);
        let mut certified = Certified::new(der, Vec::new(), self.key.clone());
        if let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&certified.der) {
            certified.subject = parsed.subject().as_raw().to_vec();
            // A verifier may look for the issuer by this identifier, which another library chose.
            let mut own = parsed.extensions().iter().filter_map(|e| subject_key(e.parsed_extension()));
            certified.key_identifier = own.next_back().unwrap_or_else(|| identifier(&self.key));
        }
        certified
    }
}

fn subject_key(extension: &ParsedExtension<'_>) -> Option<Vec<u8>> {
    let ParsedExtension::SubjectKeyIdentifier(identifier) = extension else { return None };
    Some(identifier.0.to_vec())
}

/// The content of the first block of a PEM text; empty if there is none.
#[must_use]
pub fn pem_contents(text: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(text.as_bytes()).map(|(_, pem)| pem.contents).unwrap_or_default()
}

/// PEM (RFC 7468).
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Arc<KeyPair> {
        KeyPool::fresh().key(KeyAlgorithm::EcdsaP256).unwrap()
    }

    #[test]
    fn pem_is_read_back_whatever_the_length() {
        for length in 0..200 {
            let der: Vec<u8> = (0..length).map(|n| u8::try_from(n).unwrap()).collect();
            let text = pem("CERTIFICATE", &der);
            assert_eq!(pem_contents(&text), der, "{text}");
        }
    }

    #[test]
    fn a_chain_is_one_that_a_parser_reads_and_whose_signatures_hold() {
        let root = Blueprint::authority("root", key()).self_signed().unwrap();
        let middle = Blueprint::authority("middle", key()).issued_by(&root).unwrap();
        let leaf = Blueprint::server("a.example", key()).issued_by(&middle).unwrap();
        let read = |c: &Certified| {
            let (rest, parsed) = x509_parser::parse_x509_certificate(&c.der).unwrap();
            assert!(rest.is_empty());
            (parsed.subject().to_string(), parsed.issuer().to_string(), parsed.is_ca())
        };
        assert_eq!(read(&middle), ("CN=middle".to_owned(), "CN=root".to_owned(), true));
        assert_eq!(read(&leaf), ("CN=a server".to_owned(), "CN=middle".to_owned(), false));
        let shown = leaf.with_chain(&[&middle]);
        assert_eq!(shown.facts().alternative_names, ["a.example"]);
        assert_eq!(shown.certificate_pem().matches("BEGIN CERTIFICATE").count(), 2);
    }

    #[test]
    fn the_issuers_identifier_is_the_one_in_the_issuers_own_certificate() {
        let authority = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
        let root = authority.certified();
        let leaf = Blueprint::server("a.example", key()).issued_by(&root).unwrap();
        let (_, of_root) = x509_parser::parse_x509_certificate(root.der()).unwrap();
        let (_, of_leaf) = x509_parser::parse_x509_certificate(leaf.der()).unwrap();
        let own = of_root.extensions().iter().find_map(|e| subject_key(e.parsed_extension()));
        let issuer = of_leaf.extensions().iter().find_map(|e| {
            let ParsedExtension::AuthorityKeyIdentifier(issuer) = e.parsed_extension() else { return None };
            Some(issuer.key_identifier.as_ref()?.0.to_vec())
        });
        assert!(own.is_some());
        assert_eq!(issuer, own);
    }

    #[test]
    fn a_certificate_of_version_one_has_no_extensions() {
        let root = Blueprint::authority("root", key()).self_signed().unwrap();
        let leaf = Blueprint::server("a.example", key()).version_one().issued_by(&root).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
        assert_eq!((parsed.version().0, parsed.extensions().len()), (0, 0));
    }

    #[test]
    fn a_revocation_list_names_the_serial_numbers() {
        let root = Blueprint::authority("root", key()).self_signed().unwrap();
        let leaf = Blueprint::server("a.example", key()).issued_by(&root).unwrap();
        let der = pem_contents(&root.revocation_list(&[&leaf]).unwrap());
        let (_, list) = x509_parser::parse_x509_crl(&der).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf.der).unwrap();
        let listed: Vec<&[u8]> = list.iter_revoked_certificates().map(|r| r.raw_serial()).collect();
        assert_eq!(listed, [parsed.raw_serial()]);
    }
}
