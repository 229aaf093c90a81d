//! The suite's public CA, and how it is kept for later runs.

use std::sync::Arc;

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Authority, CertificateError, KeyAlgorithm, describe};
use crate::external::PrivateKeyPem;

const COMMON_NAME: &str = "meshproof public CA";
const ORGANIZATION: &str = "meshproof";
const KEY: &str = "-----BEGIN PRIVATE KEY-----";

impl Authority {
    /// The suite's public CA, whose certificates servers outside the mesh have.
    ///
    /// # Errors
    /// The key or the certificate could not be created.
    pub fn public() -> Result<Self, CertificateError> {
        Self::named(COMMON_NAME, ORGANIZATION, KeyAlgorithm::EcdsaP256)
    }

    /// Its certificate and its key in PEM, for [`Authority::kept`]. The key is in it.
    #[must_use]
    pub fn to_keep(&self) -> PrivateKeyPem {
        PrivateKeyPem(format!("{}{}", self.pem, self.key.serialize_pem()))
    }

    /// The suite's public CA as [`Authority::to_keep`] wrote it.
    ///
    /// # Errors
    /// The text is not one that this function wrote, or the certificate has expired; in words.
    pub fn kept(text: &PrivateKeyPem) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(text.0.as_bytes())
            .map_err(|e| format!("it has no certificate in PEM ({e})"))?;
        let at = text.0.find(KEY).ok_or("it has no private key in PEM (PKCS #8)")?;
        let (pem, key) = text.0.split_at(at);
        let key = KeyPair::from_pem(key).map_err(|e| format!("its private key cannot be read ({e})"))?;
        let made = Self::public().map_err(|e| e.to_string())?;
        let facts = describe(&certificate).ok_or("its certificate cannot be read")?;
        if facts.subject != made.facts.subject {
            return Err(format!(
                "its certificate is of {}, not of meshproof: delete the file, and meshproof creates one",
                facts.subject
            ));
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|e| e.to_string())?;
        if !parsed.validity().is_valid() {
            return Err(
                "its certificate has expired: delete the file, and meshproof creates a new one".to_owned()
            );
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("its private key is not that of its certificate".to_owned());
        }
        Ok(Self { key: Arc::new(key), pem: pem.trim_end().to_owned() + "\n", facts, ..made })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_was_kept_issues_certificates_that_those_who_trust_it_accept() {
        let first = Authority::public().unwrap();
        let again = Authority::kept(&first.to_keep()).unwrap();
        assert_eq!(again.certificate_pem(), first.certificate_pem());
        let issued = again.server("edition.cnn.com").issue().unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate_pem().as_bytes()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let root = CertificateDer::from_pem_slice(first.certificate_pem().as_bytes()).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
        assert_eq!(certificate.issuer().as_raw(), root.subject().as_raw());
    }

    #[test]
    fn a_file_that_is_not_the_suites_is_refused_and_its_key_is_not_shown() {
        let refused = |text: String| Authority::kept(&PrivateKeyPem(text)).unwrap_err();
        let of = |authority: &Authority| authority.to_keep().0;
        let (one, two) = (Authority::public().unwrap(), Authority::public().unwrap());
        let another = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
        assert!(refused(of(&another)).contains("not of meshproof"));
        let key = of(&two).split_off(of(&two).find(KEY).unwrap());
        let mixed = refused(format!("{}{key}", one.certificate_pem()));
        assert!(mixed.contains("not that of its certificate") && !mixed.contains("MI"), "{mixed}");
        assert!(refused(one.certificate_pem().to_owned()).contains("no private key"));
        assert!(refused("text".to_owned()).contains("no certificate"));
    }
}
