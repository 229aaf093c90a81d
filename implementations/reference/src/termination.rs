//! Terminates TLS with a proxy's own mesh certificate.

use std::sync::Arc;

use meshproof_local::data_plane::MeshCertificate;
use meshproof_local::tls::{provider, roots};
use meshproof_plan::model::Direction;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use crate::hooks::{ClientAuthentication, ProxyHooks};
use crate::tls::certified_key;

/// The ALPN that a proxy accepts from another: HTTP, and after it the mesh-internal values, so that a client
/// that offers only those is not refused (BoringSSL continues without ALPN, rustls would abort the
/// handshake).
const ALPN: [&str; 5] = ["h2", "http/1.1", "istio-h2", "istio-http/1.1", "istio"];

/// The TLS parameters of a listener with mesh mutual TLS.
///
/// # Errors
/// A certificate or key cannot be used; the message names it.
pub(crate) fn mesh_mutual(
    identity: &MeshCertificate,
    mesh_roots: &str,
    direction: Direction,
    hooks: &dyn ProxyHooks,
) -> Result<ServerConfig, String> {
    let key = certified_key(&identity.certificate, &identity.key)
        .map_err(|e| format!("the proxy's identity: {e}"))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let clients = hooks.client_authentication(direction);
    let verified = || {
        let roots = Arc::new(roots(mesh_roots)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        match clients {
            ClientAuthentication::Optional => verifier.allow_unauthenticated(),
            ClientAuthentication::Required | ClientAuthentication::None => verifier,
        }
        .build()
        .map_err(|e| e.to_string())
    };
    let builder = match clients {
        ClientAuthentication::None => builder.with_no_client_auth(),
        ClientAuthentication::Required | ClientAuthentication::Optional => {
            let honest = verified().map_err(|e| format!("the mesh's roots: {e}"))?;
            builder.with_client_cert_verifier(hooks.client_verifier(direction, honest))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = ALPN.iter().map(|a| a.as_bytes().to_vec()).collect();
    // No resumption: each connection shows its client's certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    hooks.server_tls(direction, &mut config);
    Ok(config)
}
