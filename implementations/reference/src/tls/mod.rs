//! TLS material and verification. Certificates and keys are read and parsed when a configuration is applied,
//! never per request.

pub(crate) mod inputs;
pub(crate) mod verify;

use std::sync::Arc;

use meshproof_local::tls::{certificates, provider};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// A chain and its key, ready to sign with. The error message holds nothing of either text.
pub(crate) fn certified_key(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificates(certificate).map_err(|e| format!("certificate: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| "key: it is not a PEM private key".to_owned())?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| "key: its type is not supported".to_owned())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Some certificates (X.509 version 1) cannot be parsed well enough to compare them with the key; the
        // peer decides whether it accepts them.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err("the certificate and the key do not match".to_owned()),
        Err(_) => Ok(Arc::new(certified)),
    }
}
