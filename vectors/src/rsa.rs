//! RSA signatures (RFC 8017, section 8.2) with digests and keys that TLS libraries do not sign with any more. Their private keys
//! live for one run and sign nothing but vectors.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use md5::{Digest as _, Md5};
use meshproof_harness::certificates::PrivateKey;
use meshproof_harness::certificates::der::{element, joined, octets, oid, sequence};
use num_bigint::BigUint;

/// A key of any length. It is as weak as it is asked to be, and its numbers are as random as the suite's other numbers.
pub(crate) struct WeakKey {
    modulus: BigUint,
    exponent: BigUint,
    bytes: usize,
}

const PUBLIC: u32 = 65537;

impl WeakKey {
    /// A key of 1024 bits: the same for all paths of this process, because finding its primes takes a while.
    pub(crate) fn of_1024_bits() -> &'static Self {
        static KEY: LazyLock<WeakKey> = LazyLock::new(|| WeakKey::new(1024));
        &KEY
    }

    /// The numbers of a key that another library made, if it is an RSA key (PKCS #8, RFC 5958; RSAPrivateKey, RFC 8017).
    pub(crate) fn of(key: &PrivateKey) -> Option<Self> {
        let pkcs8 = key.serialize_der();
        let (_, info, _) = parts(&pkcs8)?;
        let [_, _, key] = first(info)?;
        let (_, key, _) = parts(key)?;
        let [_, modulus, _, exponent] = first(key)?;
        let modulus = BigUint::from_bytes_be(modulus);
        let bytes = usize::try_from(modulus.bits()).ok()?.div_ceil(8);
        Some(Self { modulus, exponent: BigUint::from_bytes_be(exponent), bytes })
    }

    fn new(bits: usize) -> Self {
        let one = BigUint::from(1_u8);
        let public = BigUint::from(PUBLIC);
        loop {
            let (p, q) = (prime(bits / 2), prime(bits - bits / 2));
            let order = (&p - &one) * (&q - &one);
            if p != q
                && let Some(exponent) = public.modinv(&order)
            {
                return Self { modulus: p * q, exponent, bytes: bits.div_ceil(8) };
            }
        }
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        let number = |n: &BigUint| {
            let bytes = n.to_bytes_be();
            let zero: &[u8] = if bytes[0] & 0x80 == 0 { &[] } else { &[0] };
            element(0x02, &joined(&[zero, &bytes]))
        };
        let key = sequence(&[number(&self.modulus), number(&BigUint::from(PUBLIC))]);
        let algorithm = sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, 1]), element(0x05, &[])]);
        sequence(&[algorithm, element(0x03, &joined(&[&[0][..], &key]))])
    }

    /// RSASSA-PKCS1-v1_5.
    pub(crate) fn sign(&self, message: &[u8], hash: Hash) -> Vec<u8> {
        let info = sequence(&[sequence(&[oid(hash.arcs()), element(0x05, &[])]), octets(&hash.of(message))]);
        let padding = vec![0xff; self.bytes.saturating_sub(info.len() + 3)];
        let padded = joined(&[&[0, 1][..], &padding, &[0], &info]);
        let signature = BigUint::from_bytes_be(&padded).modpow(&self.exponent, &self.modulus).to_bytes_be();
        let leading = vec![0; self.bytes.saturating_sub(signature.len())];
        joined(&[leading, signature])
    }
}

/// The digest of a signature.
#[derive(Clone, Copy)]
pub(crate) enum Hash {
    /// The TLS libraries' provider has no MD5.
    Md5,
    Sha1,
    Sha256,
}

impl Hash {
    fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(message).to_vec(),
            Self::Sha1 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, message).as_ref().to_vec(),
            Self::Sha256 => digest::digest(&digest::SHA256, message).as_ref().to_vec(),
        }
    }

    fn arcs(self) -> &'static [u64] {
        match self {
            Self::Md5 => &[1, 2, 840, 113_549, 2, 5],
            Self::Sha1 => &[1, 3, 14, 3, 2, 26],
            Self::Sha256 => &[2, 16, 840, 1, 101, 3, 4, 2, 1],
        }
    }

    /// `AlgorithmIdentifier` in DER.
    pub(crate) fn algorithm(self) -> Vec<u8> {
        let last = match self {
            Self::Md5 => 4,
            Self::Sha1 => 5,
            Self::Sha256 => 11,
        };
        sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, last]), element(0x05, &[])])
    }
}

/// The tag and the content of the first element, and what follows it.
fn parts(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The contents of the first elements.
fn first<const N: usize>(mut der: &[u8]) -> Option<[&[u8]; N]> {
    let mut found = [&[][..]; N];
    for place in &mut found {
        let (_, content, rest) = parts(der)?;
        (*place, der) = (content, rest);
    }
    Some(found)
}

/// A number of so many bits that is prime with overwhelming probability. Its two highest bits are set, so that the product of
/// two has its full length.
fn prime(bits: usize) -> BigUint {
    loop {
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(bits / 8).collect();
        bytes[0] |= 0xc0;
        if let Some(last) = bytes.last_mut() {
            *last |= 1;
        }
        let candidate = BigUint::from_bytes_be(&bytes);
        if has_no_small_factor(&candidate) && is_probably_prime(&candidate) {
            return candidate;
        }
    }
}

fn has_no_small_factor(n: &BigUint) -> bool {
    (3_u32..2000).step_by(2).all(|factor| n % factor != BigUint::from(0_u8))
}

/// Fermat's test: its exceptions are so rare that none was ever found by chance.
fn is_probably_prime(n: &BigUint) -> bool {
    let one = BigUint::from(1_u8);
    BigUint::from(2_u8).modpow(&(n - &one), n) == one
}

#[cfg(test)]
mod tests {
    use meshproof_harness::certificates::blueprint::sign;
    use meshproof_harness::certificates::{KeyAlgorithm, KeyPool};

    use super::*;

    #[test]
    fn a_signature_is_one_that_the_public_key_opens() {
        let key = WeakKey::of_1024_bits();
        let signature = key.sign(b"message", Hash::Sha1);
        assert_eq!(signature.len(), 128);
        let opened = BigUint::from_bytes_be(&signature).modpow(&BigUint::from(PUBLIC), &key.modulus);
        let opened = opened.to_bytes_be();
        let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"message");
        assert!(opened.starts_with(&[1, 0xff, 0xff]) && opened.ends_with(sum.as_ref()));
    }

    #[test]
    fn the_numbers_of_another_librarys_key_sign_as_it_does() {
        let key = KeyPool::new().key(KeyAlgorithm::Rsa2048).unwrap();
        let own = WeakKey::of(&key).unwrap().sign(b"message", Hash::Sha256);
        assert_eq!(own, sign(&key, b"message").unwrap());
        let other = KeyPool::new().key(KeyAlgorithm::EcdsaP256).unwrap();
        assert!(WeakKey::of(&other).is_none());
    }
}
