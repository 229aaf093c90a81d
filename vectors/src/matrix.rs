//! Everything that is asked.

use meshproof_harness::certificates::{CertificateError, Certified};

use crate::pki::{Pki, Presented};
use crate::table;
use crate::vector::{Expected, Group, Vector};

impl Group {
    /// Every group.
    #[must_use]
    pub fn all() -> &'static [Self] {
        table::GROUPS
    }

    /// Its vectors, with their controls.
    pub fn vectors(&self) -> impl Iterator<Item = Vector> + use<'_> {
        self.vectors.iter().map(|vector| {
            let control = match vector.expected {
                Expected::Accepted => None,
                Expected::Refused => Some(vector.control.unwrap_or(self.control)),
            };
            Vector { control, ..vector.clone() }
        })
    }
}

/// Makes paths. All have one anchor in common, and each is for a host of its own.
pub struct Matrix {
    pki: Pki,
    domain: String,
}

impl Matrix {
    /// For hosts below this domain.
    ///
    /// # Errors
    /// A key or certificate could not be made.
    pub fn new(domain: &str) -> Result<Self, CertificateError> {
        Ok(Self { pki: Pki::new()?, domain: domain.to_owned() })
    }

    /// The host of a vector.
    #[must_use]
    pub fn host(&self, vector: &Vector) -> String {
        format!("{}.{}", vector.id, self.domain)
    }

    /// The anchor of all paths.
    #[must_use]
    pub fn anchor(&self) -> &Certified {
        &self.pki.root
    }

    /// The path of a vector.
    ///
    /// # Errors
    /// A key or certificate could not be made.
    pub fn make(&self, vector: &Vector) -> Result<Presented, CertificateError> {
        (vector.make)(&self.pki, &self.host(vector))
    }
}
