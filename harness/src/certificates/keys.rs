//! The keys of the parties.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};

use super::CertificateError;

/// The algorithm of a party's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// RSA with 2048 bits, as in the documents (`openssl req -newkey rsa:2048`).
    Rsa2048,
    /// ECDSA on P-256, as Istio's own certificates.
    EcdsaP256,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits, as the documents' server with a `san.conf`.
    Rsa4096,
    /// ECDSA on P-384.
    EcdsaP384,
    /// Ed25519 (RFC 8410).
    Ed25519,
}

/// How many algorithms there are.
const ALGORITHMS: usize = 6;

impl KeyAlgorithm {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
            Self::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
            Self::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
        }
    }
}

type Slot = Arc<OnceLock<Result<Arc<KeyPair>, rcgen::Error>>>;

/// The keys that the pools of this process share: the n-th key that any pool hands out is the n-th slot.
static KEYS: [Mutex<Vec<Slot>>; ALGORITHMS] = [const { Mutex::new(Vec::new()) }; ALGORITHMS];

fn slot(algorithm: KeyAlgorithm, index: usize) -> Slot {
    let mut slots = KEYS[algorithm as usize].lock().unwrap_or_else(PoisonError::into_inner);
    if slots.len() <= index {
        slots.resize_with(index + 1, Slot::default);
    }
    slots[index].clone()
}

fn shared(algorithm: KeyAlgorithm, index: usize) -> Result<Arc<KeyPair>, CertificateError> {
    slot(algorithm, index)
        .get_or_init(|| algorithm.generate().map(Arc::new))
        .clone()
        .map_err(|source| CertificateError::Key { algorithm, source })
}

/// Hands out keys, never the same one twice. One pool serves all authorities of one scenario, so that no two parties
/// of a scenario ever have the same key. Pools of different scenarios hand out the same keys in the same order,
/// because making an RSA key takes tens of milliseconds and the parties of different scenarios never meet.
/// Clones share their place in the order.
#[derive(Clone, Default)]
pub struct KeyPool {
    taken: Arc<[AtomicUsize; ALGORITHMS]>,
    fresh: bool,
}

impl fmt::Debug for KeyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPool").field("fresh", &self.fresh).finish_non_exhaustive()
    }
}

impl KeyPool {
    /// A pool for one scenario; its keys are shared with the pools of other scenarios in this process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A pool whose keys are made when they are asked for and used nowhere else in this process.
    #[must_use]
    pub fn fresh() -> Self {
        Self { fresh: true, ..Self::default() }
    }

    /// Creates the next `count` keys of an algorithm in advance, concurrently on the blocking threads. Without this call,
    /// they are created one after another when they are taken. Does nothing for a pool of fresh keys.
    ///
    /// # Errors
    /// A key could not be created.
    pub async fn prepare(&self, algorithm: KeyAlgorithm, count: usize) -> Result<(), CertificateError> {
        if self.fresh {
            return Ok(());
        }
        let first = self.taken[algorithm as usize].load(Ordering::Relaxed);
        let making = (first..first + count)
            .map(|index| tokio::task::spawn_blocking(move || shared(algorithm, index)))
            .collect::<Vec<_>>();
        for made in making {
            made.await.map_err(|e| CertificateError::Interrupted(e.to_string()))??;
        }
        Ok(())
    }

    pub(super) fn take(&self, algorithm: KeyAlgorithm) -> Result<Arc<KeyPair>, CertificateError> {
        if self.fresh {
            let made = algorithm.generate().map_err(|source| CertificateError::Key { algorithm, source })?;
            return Ok(Arc::new(made));
        }
        shared(algorithm, self.taken[algorithm as usize].fetch_add(1, Ordering::Relaxed))
    }
}
