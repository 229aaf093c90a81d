//! How the embedded service speaks TLS.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::tls;
use meshproof_harness::external::{HttpVersions, Refusal, TlsPort, TlsVersions};

/// A TLS port's settings, read once.
pub(super) struct TlsSettings {
    pub(super) config: Arc<ServerConfig>,
    pub(super) clients: Clients,
    pub(super) http: HttpVersions,
}

/// What is asked of clients.
pub(super) enum Clients {
    /// Nothing.
    Anybody,
    /// A certificate, verified in the handshake: who has none gets an alert.
    VerifiedInHandshake,
    /// A certificate, verified after the handshake: who has none gets an answer that says so.
    VerifiedAfterwards(Arc<dyn ClientCertVerifier>),
}

impl TlsSettings {
    pub(super) fn new(port: &TlsPort) -> Result<Self, String> {
        let chain = tls::certificates(&port.certificate).map_err(|e| format!("the certificate: {e}"))?;
        let key = tls::private_key(&port.key).map_err(|e| format!("the key: {e}"))?;
        let versions: &[&rustls::SupportedProtocolVersion] = match port.versions {
            TlsVersions::Both => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersions::Tls12 => &[&rustls::version::TLS12],
            TlsVersions::Tls13 => &[&rustls::version::TLS13],
        };
        let (verifier, clients) = Self::verifier(port)?;
        let builder = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(versions)
            .map_err(|e| e.to_string())?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| e.to_string())?;
        config.alpn_protocols = match port.http {
            HttpVersions::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpVersions::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersions::Http2 => vec![b"h2".to_vec()],
        };
        // Every connection makes a handshake of its own, so that each shows its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), clients, http: port.http })
    }

    fn verifier(port: &TlsPort) -> Result<(Option<Arc<dyn ClientCertVerifier>>, Clients), String> {
        let Some(ca) = &port.client_ca else { return Ok((None, Clients::Anybody)) };
        let roots = tls::roots(ca).map_err(|e| format!("the clients' CA: {e}"))?;
        let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
            .build()
            .map_err(|e| format!("the clients' CA: {e}"))?;
        Ok(match port.refusal {
            Refusal::Alert => (Some(strict), Clients::VerifiedInHandshake),
            Refusal::Http400 => {
                let lenient: Arc<dyn ClientCertVerifier> = Arc::new(AskAndAccept(strict.clone()));
                (Some(lenient), Clients::VerifiedAfterwards(strict))
            }
        })
    }
}

impl Clients {
    /// The verdict on the client's certificate in nginx's words (`$ssl_client_verify`); none where none is asked for.
    pub(super) fn verdict(&self, connection: &CommonState) -> Option<String> {
        let presented = connection.peer_certificates().and_then(<[_]>::split_first);
        match (self, presented) {
            (Self::Anybody, _) => None,
            (Self::VerifiedInHandshake | Self::VerifiedAfterwards(_), None) => Some("NONE".to_owned()),
            (Self::VerifiedInHandshake, Some(_)) => Some("SUCCESS".to_owned()),
            (Self::VerifiedAfterwards(verifier), Some((leaf, others))) => {
                Some(match verifier.verify_client_cert(leaf, others, UnixTime::now()) {
                    Ok(_) => "SUCCESS".to_owned(),
                    Err(e) => format!("FAILED:{e}"),
                })
            }
        }
    }
}

/// Asks for a certificate and lets everybody in, as nginx's handshake does; whoever presents a certificate must still
/// hold its key.
#[derive(Debug)]
struct AskAndAccept(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AskAndAccept {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
