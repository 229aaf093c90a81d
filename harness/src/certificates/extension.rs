//! The extensions of certificates (RFC 5280, section 4.2), correct or not.

use super::der::{element, integer, joined, named_bits, octets, oid, sequence, yes};

/// RFC 5280, section 4.2.1.1: `id-ce-authorityKeyIdentifier`.
pub const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
/// RFC 5280, section 4.2.1.2: `id-ce-subjectKeyIdentifier`.
pub const SUBJECT_KEY: &[u64] = &[2, 5, 29, 14];
/// RFC 5280, section 4.2.1.3: `id-ce-keyUsage`.
pub const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
/// RFC 5280, section 4.2.1.6: `id-ce-subjectAltName`.
pub const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];
/// RFC 5280, section 4.2.1.9: `id-ce-basicConstraints`.
pub const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
/// RFC 5280, section 4.2.1.10: `id-ce-nameConstraints`.
pub const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
/// RFC 5280, section 4.2.1.12: `id-ce-extKeyUsage`.
pub const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// `id-kp-serverAuth`.
pub const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
/// `id-kp-clientAuth`.
pub const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];

/// The bits of `KeyUsage` by their numbers.
pub mod usage {
    /// `digitalSignature`.
    pub const SIGNATURE: usize = 0;
    /// `keyEncipherment`.
    pub const ENCIPHERMENT: usize = 2;
    /// `keyCertSign`.
    pub const CERTIFICATES: usize = 5;
    /// `cRLSign`.
    pub const LISTS: usize = 6;
}

/// A name that a certificate holds (RFC 5280, section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `dNSName`.
    Dns(String),
    /// `iPAddress`: 4 or 16 bytes; in constraints twice as many.
    Ip(Vec<u8>),
    /// `uniformResourceIdentifier`.
    Uri(String),
    /// `rfc822Name`.
    Email(String),
    /// `directoryName`, in DER.
    Directory(Vec<u8>),
}

impl Name {
    /// A DNS name.
    pub fn dns(name: impl Into<String>) -> Self {
        Self::Dns(name.into())
    }

    /// `GeneralName` in DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => element(0x81, text.as_bytes()),
            Self::Dns(text) => element(0x82, text.as_bytes()),
            Self::Directory(name) => element(0xa4, name),
            Self::Uri(text) => element(0x86, text.as_bytes()),
            Self::Ip(bytes) => element(0x87, bytes),
        }
    }
}

/// An extension of a certificate (RFC 5280, section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its type.
    pub oid: &'static [u64],
    /// Whether a verifier that does not know it must refuse the certificate.
    pub critical: bool,
    /// Its content in DER, inside the OCTET STRING.
    pub content: Vec<u8>,
}

impl Extension {
    /// One that a verifier may pass over.
    #[must_use]
    pub fn new(oid: &'static [u64], content: Vec<u8>) -> Self {
        Self { oid, critical: false, content }
    }

    /// The same, critical.
    #[must_use]
    pub fn critical(self) -> Self {
        Self { critical: true, ..self }
    }

    /// `BasicConstraints` of a CA.
    #[must_use]
    pub fn authority(path_length: Option<u8>) -> Self {
        let length = path_length.map(|n| integer(&[n]));
        Self::new(BASIC_CONSTRAINTS, sequence(&[yes(), length.unwrap_or_default()])).critical()
    }

    /// `KeyUsage` with these bits of [`usage`].
    #[must_use]
    pub fn key_usage(set: &[usize]) -> Self {
        Self::new(KEY_USAGE, named_bits(set)).critical()
    }

    /// `ExtKeyUsageSyntax` with these purposes.
    #[must_use]
    pub fn purposes(purposes: &[&[u64]]) -> Self {
        let purposes: Vec<Vec<u8>> = purposes.iter().map(|p| oid(p)).collect();
        Self::new(EXTENDED_KEY_USAGE, sequence(&purposes))
    }

    /// `SubjectAltName`.
    #[must_use]
    pub fn names(names: &[Name]) -> Self {
        let names: Vec<Vec<u8>> = names.iter().map(Name::der).collect();
        Self::new(ALTERNATIVE_NAMES, sequence(&names))
    }

    /// `NameConstraints`.
    #[must_use]
    pub fn constraints(permitted: &[Name], excluded: &[Name]) -> Self {
        let subtrees = |tag: u8, names: &[Name]| {
            let each: Vec<Vec<u8>> = names.iter().map(|n| sequence(&[n.der()])).collect();
            if each.is_empty() { Vec::new() } else { element(tag, &joined(&each)) }
        };
        Self::new(NAME_CONSTRAINTS, sequence(&[subtrees(0xa0, permitted), subtrees(0xa1, excluded)]))
            .critical()
    }

    pub(super) fn der(&self) -> Vec<u8> {
        let critical = if self.critical { yes() } else { Vec::new() };
        sequence(&[oid(self.oid), critical, octets(&self.content)])
    }
}
