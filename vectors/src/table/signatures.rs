//! Signatures and the algorithms that they are made with.

use meshproof_harness::certificates::der::{element, oid, sequence};
use meshproof_harness::certificates::{CertificateError, Certified, KeyAlgorithm};

use super::{accept, may_accept, may_refuse, refuse};
use crate::pki::{Pki, shown};
use crate::rsa::{Hash, WeakKey};
use crate::vector::Group;

const VERIFY: &str = "RFC 5280, section 6.1.3 (a) (1)";
const FIELDS: &str = "RFC 5280, section 4.1.1.2";
const ALGORITHMS: &str = "CA/Browser Forum Baseline Requirements, section 7.1.3.2";
const KEYS: &str = "CA/Browser Forum Baseline Requirements, section 6.1.5";

/// A CA with an RSA key of 2048 bits, and the numbers of its key.
fn rsa_ca(p: &Pki, name: &str) -> Result<(Certified, WeakKey), CertificateError> {
    let key = p.key_of(KeyAlgorithm::Rsa2048)?;
    let numbers = WeakKey::of(&key).ok_or_else(|| {
        CertificateError::Interrupted("the numbers of an RSA key cannot be read".to_owned())
    })?;
    Ok((p.ca(name)?.for_key(key).issued_by(&p.root)?, numbers))
}

pub(super) const SIGNATURES: Group = Group {
    id: "signatures",
    title: "Signatures",
    control: "signature-holds",
    vectors: &[
        accept("signature-holds", VERIFY, "A path whose signatures hold is accepted.", |p, host| {
            p.below(host, p.ca("A CA")?)
        }),
        refuse(
            "leaf-signature-broken",
            VERIFY,
            "A leaf whose signature does not hold is refused.",
            |p, host| {
                let mut leaf = p.leaf(host);
                leaf.broken_signature = true;
                p.leaf_of(leaf)
            },
        ),
        refuse(
            "ca-signature-broken",
            VERIFY,
            "A CA whose certificate's signature does not hold is refused.",
            |p, host| {
                let mut ca = p.ca("A CA")?;
                ca.broken_signature = true;
                p.below(host, ca)
            },
        ),
        refuse(
            "leaf-signed-by-another-key",
            VERIFY,
            "The signature must be that of the issuer's key, whatever the issuer's name.",
            |p, host| {
                let impostor = p.middle.with_key(p.key()?);
                shown(&p.leaf(host).issued_by(&impostor)?, &[&p.middle])
            },
        ),
        refuse("signature-empty", VERIFY, "A certificate without a signature is refused.", |p, host| {
            let algorithm = meshproof_harness::certificates::blueprint::algorithm_of(p.middle.key());
            let leaf = p.leaf(host).signed_with(&p.middle, &algorithm, |_| Ok(Vec::new()))?;
            shown(&leaf, &[&p.middle])
        }),
        refuse(
            "signature-algorithm-unknown",
            VERIFY,
            "A signature that cannot be verified does not hold.",
            |p, host| {
                let unknown = sequence(&[oid(&[1, 3, 6, 1, 4, 1, 55555, 2])]);
                let leaf = p.leaf(host).signed_with(&p.middle, &unknown, |_| Ok(vec![0x30, 0]))?;
                shown(&leaf, &[&p.middle])
            },
        ),
        refuse(
            "signature-algorithms-differ",
            FIELDS,
            "The algorithm inside the signed part is that of the signature.",
            |p, host| {
                let mut leaf = p.leaf(host);
                // ecdsa-with-SHA384, where the signature is made with SHA-256.
                leaf.inner_algorithm = Some(sequence(&[oid(&[1, 2, 840, 10045, 4, 3, 3])]));
                p.leaf_of(leaf)
            },
        ),
        may_accept("issuer-with-p384", ALGORITHMS, "ECDSA on P-384 with SHA-384 is allowed.", |p, host| {
            p.below(host, p.ca("CA on P-384")?.for_key(p.key_of(KeyAlgorithm::EcdsaP384)?))
        }),
        may_accept("issuer-with-rsa", ALGORITHMS, "RSA of 2048 bits with SHA-256 is allowed.", |p, host| {
            p.below(host, p.ca("CA with RSA")?.for_key(p.key_of(KeyAlgorithm::Rsa2048)?))
        }),
        may_accept(
            "issuer-with-rsa-3072",
            ALGORITHMS,
            "RSA of 3072 bits with SHA-256 is allowed.",
            |p, host| p.below(host, p.ca("CA with RSA")?.for_key(p.key_of(KeyAlgorithm::Rsa3072)?)),
        ),
        may_accept(
            "issuer-with-rsa-4096",
            ALGORITHMS,
            "RSA of 4096 bits with SHA-256 is allowed.",
            |p, host| p.below(host, p.ca("CA with RSA")?.for_key(p.key_of(KeyAlgorithm::Rsa4096)?)),
        ),
        may_accept("leaf-with-rsa-3072", ALGORITHMS, "A server may have a key of 3072 bits.", |p, host| {
            p.leaf_of(p.leaf(host).for_key(p.key_of(KeyAlgorithm::Rsa3072)?))
        }),
        may_accept("leaf-with-rsa-4096", ALGORITHMS, "A server may have a key of 4096 bits.", |p, host| {
            p.leaf_of(p.leaf(host).for_key(p.key_of(KeyAlgorithm::Rsa4096)?))
        }),
        may_accept(
            "issuer-with-ed25519",
            "RFC 8410",
            "Ed25519 is defined for certificates. The CA/Browser Forum does not allow it.",
            |p, host| p.below(host, p.ca("CA with Ed25519")?.for_key(p.key_of(KeyAlgorithm::Ed25519)?)),
        ),
        may_refuse(
            "issuer-with-sha1",
            "CA/Browser Forum Baseline Requirements, section 7.1.3.2.1; CVE-2005-4900",
            "A signature with SHA-1 is no proof of the issuer, because collisions can be made.",
            |p, host| {
                let (ca, key) = rsa_ca(p, "CA with SHA-1")?;
                let sign = |part: &[u8]| Ok(key.sign(part, Hash::Sha1));
                shown(&p.leaf(host).signed_with(&ca, &Hash::Sha1.algorithm(), sign)?, &[&ca])
            },
        )
        .unlike("issuer-with-sha256"),
        may_refuse(
            "issuer-with-md5",
            "CA/Browser Forum Baseline Requirements, section 7.1.3.2; CVE-2004-2761",
            "A signature with MD5 is no proof of the issuer, because collisions are easily made.",
            |p, host| {
                let (ca, key) = rsa_ca(p, "CA with MD5")?;
                let sign = |part: &[u8]| Ok(key.sign(part, Hash::Md5));
                shown(&p.leaf(host).signed_with(&ca, &Hash::Md5.algorithm(), sign)?, &[&ca])
            },
        )
        .unlike("issuer-with-sha256"),
        may_accept(
            "issuer-with-sha256",
            ALGORITHMS,
            "RSA with SHA-256 is allowed: the control of the vectors with other digests and keys.",
            |p, host| {
                let (ca, key) = rsa_ca(p, "CA with SHA-256")?;
                let sign = |part: &[u8]| Ok(key.sign(part, Hash::Sha256));
                shown(&p.leaf(host).signed_with(&ca, &Hash::Sha256.algorithm(), sign)?, &[&ca])
            },
        ),
        may_refuse("issuer-with-rsa-1024", KEYS, "An RSA key has at least 2048 bits.", |p, host| {
            let key = WeakKey::of_1024_bits();
            let ca = p.ca("CA with a weak key")?.for_public_key(key.public_key()).issued_by(&p.root)?;
            let sign = |part: &[u8]| Ok(key.sign(part, Hash::Sha256));
            shown(&p.leaf(host).signed_with(&ca, &Hash::Sha256.algorithm(), sign)?, &[&ca])
        })
        .unlike("issuer-with-sha256"),
        may_refuse(
            "rsa-parameters-absent",
            "RFC 4055, section 5",
            "The parameters of RSA with SHA-256 are NULL, and are not left out.",
            |p, host| {
                let (ca, key) = rsa_ca(p, "CA without parameters")?;
                let algorithm = sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, 11])]);
                let sign = |part: &[u8]| Ok(key.sign(part, Hash::Sha256));
                shown(&p.leaf(host).signed_with(&ca, &algorithm, sign)?, &[&ca])
            },
        )
        .unlike("issuer-with-sha256"),
        may_refuse(
            "ecdsa-parameters-present",
            "RFC 5758, section 3.2",
            "ECDSA with SHA-256 has no parameters.",
            |p, host| {
                let key = p.middle.key().clone();
                let algorithm = sequence(&[oid(&[1, 2, 840, 10045, 4, 3, 2]), element(0x05, &[])]);
                let sign = |part: &[u8]| meshproof_harness::certificates::blueprint::sign(&key, part);
                shown(&p.leaf(host).signed_with(&p.middle, &algorithm, sign)?, &[&p.middle])
            },
        ),
    ],
};
