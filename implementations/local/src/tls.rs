//! What both ends of the suite's own TLS connections share: reading PEM, and describing what was negotiated.

use std::io;
use std::sync::{Arc, OnceLock};

use meshproof_model::{PeerCertificate, TlsFacts, TlsFailure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    AlertDescription, CommonState, DigitallySignedStruct, HandshakeKind, ProtocolVersion, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use meshproof_harness::certificates::describe;
use meshproof_harness::client_hello::alpn_name;
use meshproof_harness::external::PrivateKeyPem;

/// The cryptographic provider; passed explicitly, so that no process-wide default is needed.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// The certificates of a PEM text.
///
/// # Errors
/// The text is not valid PEM or holds no certificate; the message holds nothing of the text.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "it is not valid PEM".to_owned())?;
    if read.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(read) }
}

/// Reads a private key. The error never holds a part of it.
pub(crate) fn private_key(key: &PrivateKeyPem) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(key.0.as_bytes()).map_err(|_| "not a private key in PEM".to_owned())
}

/// The CA certificates of a PEM text, as a store of roots.
///
/// # Errors
/// As [`certificates`], or a certificate cannot be used as a root.
pub fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(pem)? {
        roots.add(root).map_err(|e| e.to_string())?;
    }
    Ok(roots)
}

/// Trusts every server. The server must still have the key of the certificate that it presents.
#[must_use]
pub fn accept_any_server() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AcceptAnyServer)
}

#[derive(Debug)]
struct AcceptAnyServer;

impl ServerCertVerifier for AcceptAnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Fills in what the handshake has negotiated so far.
pub(crate) fn note_agreement(facts: &mut TlsFacts, connection: &CommonState) {
    facts.version = connection.protocol_version().map(version_name);
    facts.cipher = connection.negotiated_cipher_suite().map(|suite| cipher_name(suite.suite()));
    facts.alpn = connection.alpn_protocol().map(alpn_name);
    facts.peer_certificate = peer_certificate(connection);
    facts.resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
}

fn peer_certificate(connection: &CommonState) -> Option<PeerCertificate> {
    let der = connection.peer_certificates()?.first()?;
    // A certificate that both ends accepted is evidence even if it cannot be read here.
    Some(describe(der).unwrap_or_default())
}

fn version_name(version: ProtocolVersion) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that is not exhaustive")]
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The name in IANA's registry "TLS Cipher Suites"; rustls's own differs for those of TLS 1.3.
fn cipher_name(suite: rustls::CipherSuite) -> String {
    let name = format!("{suite:?}");
    name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

/// Notes that TLS failed, in this end's words and as a type.
pub(crate) fn note_failure(facts: &mut TlsFacts, error: &io::Error) {
    facts.failure = Some(error.to_string());
    facts.failure_kind = Some(failure_of(error));
}

/// How TLS failed, by the error that it ended in.
pub(crate) fn failure_of(error: &io::Error) -> TlsFailure {
    let name = |alert: AlertDescription| TlsFailure::alert_name(alert.into());
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "foreign enums of many kinds, of which a few are distinguished"
    )]
    match inside(error) {
        Some(rustls::Error::AlertReceived(alert)) => TlsFailure::AlertReceived { alert: name(*alert) },
        // rustls has sent the alert that goes with the error (rustls, `send_cert_verify_error_alert`).
        Some(rustls::Error::InvalidCertificate(why)) => {
            TlsFailure::AlertSent { alert: name(why.clone().into()) }
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            TlsFailure::AlertSent { alert: name(AlertDescription::CertificateRequired) }
        }
        Some(_) => TlsFailure::Other,
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => TlsFailure::PeerVanished,
            _ => TlsFailure::Other,
        },
    }
}

/// The TLS library's error inside an I/O error, if that is what it is.
pub(crate) fn inside(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
