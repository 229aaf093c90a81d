//! Terminates TLS: with a proxy's own mesh certificate, or with certificates that a Gateway names.

use std::sync::Arc;

use meshproof_local::data_plane::MeshCertificate;
use meshproof_local::tls::{provider, roots};
use meshproof_plan::model::{Direction, ServerTls, TlsVersion};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;

use crate::hooks::{ClientAuthentication, ProxyHooks};
use crate::tls::certified_key;
use crate::tls::inputs::TlsSources;
use crate::tls::verify::{RequiredNames, TrustedChains, UpstreamVerifier};

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

/// The TLS parameters of a gateway with certificates of its own. Without a Secret that it needs, it completes no handshake.
///
/// # Errors
/// A certificate or key cannot be used; the message names it.
pub(crate) fn own(tls: &ServerTls, sources: &TlsSources<'_>) -> Result<ServerConfig, String> {
    let mut keys = Vec::new();
    for pair in tls.certificates.iter().filter_map(|of| sources.pair(of).ok()) {
        keys.push(certified_key(&pair.certificate, &pair.key).map_err(|e| format!("the gateway's {e}"))?);
    }
    let builder = ServerConfig::builder_with_provider(with_suites(&tls.cipher_suites))
        .with_protocol_versions(&versions(tls.min_version, tls.max_version))
        .map_err(|e| e.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(trust) => match sources.roots(trust) {
            Ok(roots) => {
                let crl = trust.credential().and_then(|name| sources.crl(name));
                let chains = Arc::new(TrustedChains::new(&roots, crl.as_deref())?);
                let names = match tls.client_names.as_slice() {
                    [] => RequiredNames::Unchecked,
                    names => RequiredNames::OneOf(names.to_vec()),
                };
                let verifier = UpstreamVerifier { chains, names };
                let required = tls.require_client_certificate;
                builder.with_client_cert_verifier(Arc::new(GatewayClients { verifier, required }))
            }
            Err(_) => {
                keys.clear();
                builder.with_no_client_auth()
            }
        },
    };
    let mut config = builder.with_cert_resolver(Arc::new(KeyByType(keys)));
    config.alpn_protocols = tls.alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    // No resumption: each connection shows its client's certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn versions(min: Option<TlsVersion>, max: Option<TlsVersion>) -> Vec<&'static SupportedProtocolVersion> {
    let (min, max) = (min.unwrap_or(TlsVersion::Tls12), max.unwrap_or(TlsVersion::Tls13));
    let all = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    all.into_iter().filter(|(version, _)| (min..=max).contains(version)).map(|(_, v)| v).collect()
}

/// The cipher suites of TLS 1.2 with these OpenSSL names, if there are any; those of TLS 1.3 cannot be chosen (Envoy,
/// `TlsParameters.cipher_suites`).
fn with_suites(named: &[String]) -> Arc<CryptoProvider> {
    let provider = provider();
    if named.is_empty() {
        return provider;
    }
    let mut chosen = CryptoProvider::clone(&provider);
    chosen.cipher_suites.retain(|suite| {
        let name = suite.suite().as_str().unwrap_or_default();
        name.starts_with("TLS13_") || named.iter().any(|openssl| iana(openssl) == name)
    });
    Arc::new(chosen)
}

/// `ECDHE-RSA-AES128-GCM-SHA256` as `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`.
fn iana(openssl: &str) -> String {
    let parts = openssl.replace("AES", "AES-").replace("CHACHA20-POLY1305", "CHACHA20-POLY1305-SHA256");
    let parts: Vec<&str> = parts.split('-').collect();
    match parts.as_slice() {
        [exchange, signature, cipher @ ..] => format!("TLS_{exchange}_{signature}_WITH_{}", cipher.join("_")),
        _ => String::new(),
    }
}

/// Certificates of several key types: the first that the client's signature schemes allow.
#[derive(Debug)]
struct KeyByType(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for KeyByType {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(usable).cloned()
    }
}

/// The clients of a gateway, verified by what its Gateway names.
#[derive(Debug)]
struct GatewayClients {
    verifier: UpstreamVerifier,
    required: bool,
}

impl ClientCertVerifier for GatewayClients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verifier.verify_chain(end_entity, intermediates, now, KeyUsage::client_auth())?;
        self.verifier.verify_names(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_names_of_cipher_suites_are_found() {
        assert_eq!(iana("ECDHE-RSA-AES128-GCM-SHA256"), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(iana("ECDHE-ECDSA-CHACHA20-POLY1305"), "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
        assert_eq!(iana("nonsense"), "");
        let one = with_suites(&["ECDHE-RSA-AES256-GCM-SHA384".to_owned()]);
        let of_tls12 = |p: &CryptoProvider| p.cipher_suites.iter().filter(|s| s.tls13().is_none()).count();
        assert_eq!(of_tls12(&one), 1);
        assert!(of_tls12(&with_suites(&[])) > 1);
    }

    #[test]
    fn versions_are_those_between_the_two_ends() {
        assert_eq!(versions(None, None).len(), 2);
        assert_eq!(versions(Some(TlsVersion::Tls13), None), [&TLS13]);
        assert_eq!(versions(None, Some(TlsVersion::Tls12)), [&TLS12]);
    }
}
