//! Terminating TLS: a proxy's own certificate in the mesh, and a client certificate of the mesh's CA required.

use std::sync::Arc;

use meshproof_local::data_plane::MeshCertificate;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

use super::{certificates, certified_key, provider};

/// ALPN that a proxy accepts from another: HTTP, and behind it the mesh-internal values, so that a client that
/// offers those alone is not turned away (BoringSSL goes on without ALPN, rustls would refuse).
const ALPN: [&str; 5] = ["h2", "http/1.1", "istio-h2", "istio-http/1.1", "istio"];

/// For a listener's mesh mutual TLS; `anonymous`: a client without a certificate is let in. The error names what cannot be used.
pub(crate) fn mesh_mutual(
    identity: &MeshCertificate,
    mesh_roots: &str,
    anonymous: bool,
) -> Result<Arc<ServerConfig>, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(mesh_roots).map_err(|e| format!("the mesh's roots: {e}"))? {
        roots.add(root).map_err(|e| format!("the mesh's roots: {e}"))?;
    }
    let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if anonymous {
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier.build().map_err(|e| format!("the mesh's roots: {e}"))?;
    let key = certified_key(&identity.certificate, &identity.key)
        .map_err(|e| format!("the proxy's identity: {e}"))?;
    let mut config = builder()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = ALPN.iter().map(|a| a.as_bytes().to_vec()).collect();
    // No resumption: each connection shows its client's certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For the saboteurs `terminate-application-tls` and `inbound-accepts-any-client`: the proxy's certificate, for anybody.
pub(crate) fn intruder(identity: &MeshCertificate) -> Result<Arc<ServerConfig>, String> {
    let key = certified_key(&identity.certificate, &identity.key)?;
    let mut config =
        builder()?.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, String> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())
}
