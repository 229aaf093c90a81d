//! The parties of the paths.

use std::sync::Arc;

use meshproof_harness::certificates::{
    Blueprint, CertificateError, Certified, Issued, KeyAlgorithm, KeyPool, PrivateKey,
};

/// What a server presents, and the anchors that a client must have for the path.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The chain as it is sent, and the leaf's key.
    pub chain: Issued,
    /// The anchors besides the common one.
    pub anchors: Vec<Certified>,
}

pub(crate) struct Pki {
    keys: KeyPool,
    /// The key of every leaf: no rule is about it.
    leaf_key: Arc<PrivateKey>,
    pub(crate) root: Certified,
    /// A CA without a fault, below the root.
    pub(crate) middle: Certified,
}

impl Pki {
    pub(crate) fn new() -> Result<Self, CertificateError> {
        let keys = KeyPool::new();
        let key = || keys.key(KeyAlgorithm::EcdsaP256);
        let root = Blueprint::authority("Root of paths", key()?).self_signed()?;
        let middle = Blueprint::authority("Intermediate", key()?).issued_by(&root)?;
        Ok(Self { leaf_key: key()?, root, middle, keys })
    }

    pub(crate) fn key(&self) -> Result<Arc<PrivateKey>, CertificateError> {
        self.keys.key(KeyAlgorithm::EcdsaP256)
    }

    pub(crate) fn key_of(&self, algorithm: KeyAlgorithm) -> Result<Arc<PrivateKey>, CertificateError> {
        self.keys.key(algorithm)
    }

    /// A CA with a key of its own.
    pub(crate) fn ca(&self, name: &str) -> Result<Blueprint, CertificateError> {
        Ok(Blueprint::authority(name, self.key()?))
    }

    /// A server's certificate.
    pub(crate) fn leaf(&self, host: &str) -> Blueprint {
        Blueprint::server(host, self.leaf_key.clone())
    }

    /// Root, CA, leaf: with this CA.
    pub(crate) fn below(&self, host: &str, ca: Blueprint) -> Result<Presented, CertificateError> {
        self.below_two(host, ca, None)
    }

    /// Root, CA, CA, leaf: with these CAs.
    pub(crate) fn below_two(
        &self,
        host: &str,
        upper: Blueprint,
        lower: Option<Blueprint>,
    ) -> Result<Presented, CertificateError> {
        let mut chain = vec![upper.issued_by(&self.root)?];
        if let Some(ca) = lower {
            chain.insert(0, ca.issued_by(&chain[0])?);
        }
        let leaf = self.leaf(host).issued_by(&chain[0])?;
        shown(&leaf, &chain.iter().collect::<Vec<_>>())
    }

    /// Root, CA, leaf: with this leaf.
    pub(crate) fn leaf_of(&self, leaf: Blueprint) -> Result<Presented, CertificateError> {
        shown(&leaf.issued_by(&self.middle)?, &[&self.middle])
    }

    /// So many CAs below each other and the root, the lowest one first.
    pub(crate) fn tower(&self, height: usize) -> Result<Vec<Certified>, CertificateError> {
        let mut chain: Vec<Certified> = Vec::new();
        for level in 0..height {
            let above = chain.first().unwrap_or(&self.root);
            let ca = self.ca(&format!("Level {level}"))?.issued_by(above)?;
            chain.insert(0, ca);
        }
        Ok(chain)
    }

    /// Two CAs, each of which issued the other's certificate.
    pub(crate) fn loop_of_two(&self) -> Result<[Certified; 2], CertificateError> {
        let (first_key, second_key) = (self.key()?, self.key()?);
        let named = |name: &str, key: &Arc<PrivateKey>| Ok(self.ca(name)?.for_key(key.clone()));
        let second_as_issuer = named("Second of two", &second_key)?.self_signed()?;
        let first = named("First of two", &first_key)?.issued_by(&second_as_issuer)?;
        let second = named("Second of two", &second_key)?.issued_by(&first)?;
        Ok([first, second])
    }

    /// An anchor of its own, CA, leaf: with this anchor.
    pub(crate) fn anchored(&self, host: &str, root: Blueprint) -> Result<Presented, CertificateError> {
        let root = root.self_signed()?;
        let middle = self.ca("Intermediate of another root")?.issued_by(&root)?;
        let leaf = self.leaf(host).issued_by(&middle)?;
        Ok(Presented { chain: leaf.with_chain(&[&middle]), anchors: vec![root] })
    }
}

/// A leaf and what is sent with it.
pub(crate) fn shown(leaf: &Certified, others: &[&Certified]) -> Result<Presented, CertificateError> {
    Ok(Presented { chain: leaf.with_chain(others), anchors: Vec::new() })
}
