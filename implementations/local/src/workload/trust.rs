//! Which servers a client trusts, and how it identifies itself.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;

use crate::tls;
use meshproof_harness::workload::ClientIdentity;

/// Trusts the servers that these roots certify.
pub(crate) fn by_roots(roots_pem: &str) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let roots = tls::roots(roots_pem)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .map_err(|e| e.to_string())?;
    Ok(verifier)
}

/// A configuration that offers `h2` and `http/1.1`, as curl does, and resumes no session.
pub(crate) fn config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = tls::certificates(&identity.certificate)
                .map_err(|e| format!("the client's certificate: {e}"))?;
            let key = tls::private_key(&identity.key).map_err(|e| format!("the client's key: {e}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| format!("the client's certificate: {e}"))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
