//! The certificates that revocation lists are about.

use std::sync::Arc;

use meshproof_harness::certificates::{
    Blueprint, CertificateError, Certified, KeyAlgorithm, KeyPool, PrivateKey,
};

/// The serial number that the first root's list names.
pub(super) const REVOKED: [u8; 2] = [0x52, 0x01];

/// The certificates that lists are about.
pub(super) struct Listed {
    pub(super) intermediate: Certified,
    pub(super) revoked_intermediate: Certified,
    pub(super) revoked: Certified,
    pub(super) revoked_below: Certified,
}

impl Listed {
    pub(super) fn new(
        keys: &KeyPool,
        key: &Arc<PrivateKey>,
        first: &Certified,
    ) -> Result<Self, CertificateError> {
        let authority =
            |name: &str| Blueprint::authority(name, keys.key(KeyAlgorithm::EcdsaP256)?).issued_by(first);
        let leaf = |label: &str| Blueprint::server(&at(label), key.clone());
        let intermediate = authority("Intermediate with a list")?;
        let mut revoked = leaf("revoked");
        revoked.serial = REVOKED.to_vec();
        let mut revoked_below = leaf("revoked-below");
        revoked_below.serial = vec![0x52, 0x02];
        let revoked_below = revoked_below.issued_by(&intermediate)?;
        Ok(Self {
            revoked_intermediate: authority("Revoked intermediate")?,
            revoked: revoked.issued_by(first)?,
            revoked_below,
            intermediate,
        })
    }
}

/// A host with a certificate that a list is about.
pub(super) fn at(label: &str) -> String {
    format!("{label}.listed.origin.example")
}
