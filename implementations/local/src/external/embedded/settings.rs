//! How the embedded service speaks TLS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use meshproof_model::{PeerCertificate, TlsFacts};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::tls;
use meshproof_harness::certificates::describe;
use meshproof_harness::external::{HttpVersions, Refusal, TlsPort, TlsVersions};
use meshproof_harness::trace::Trace;

/// How many tickets a connection of TLS 1.3 gets. A client that opens several at once resumes one session in each.
const TICKETS: usize = 1;

/// A TLS port's settings, read once.
pub(super) struct TlsSettings {
    config: Arc<ServerConfig>,
    versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) clients: Clients,
    pub(super) http: HttpVersions,
}

/// What the server demands of clients.
pub(super) enum Clients {
    /// Nothing.
    Anyone,
    /// A certificate, verified in the handshake. A client without one gets an alert.
    VerifiedInHandshake(Arc<dyn ClientCertVerifier>),
    /// A certificate, verified after the handshake. A client without one gets an answer that says so.
    VerifiedAfterwards(Arc<dyn ClientCertVerifier>),
    /// A certificate, verified for the record: who has none is served too.
    Recorded(Arc<dyn ClientCertVerifier>),
}

impl TlsSettings {
    pub(super) fn new(port: &TlsPort, trace: &Trace) -> Result<Self, String> {
        let chain = tls::certificates(&port.certificate).map_err(|e| format!("the certificate: {e}"))?;
        let key = tls::private_key(&port.key).map_err(|e| format!("the key: {e}"))?;
        let versions: Vec<&'static SupportedProtocolVersion> = match port.versions {
            TlsVersions::Both => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersions::Tls12 => vec![&rustls::version::TLS12],
            TlsVersions::Tls13 => vec![&rustls::version::TLS13],
        };
        let (verifier, clients) = Self::verifier(port)?;
        let builder = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&versions)
            .map_err(|e| e.to_string())?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| e.to_string())?;
        if !port.by_name.is_empty() {
            config.cert_resolver = Arc::new(ByName::new(port, Arc::clone(&config.cert_resolver))?);
        }
        config.alpn_protocols = match port.http {
            HttpVersions::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpVersions::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersions::Http2 => vec![b"h2".to_vec()],
        };
        // As nginx and most servers do: a session may be resumed in either version, and keeps the certificate that its client
        // presented when it began.
        config.ticketer = Ticketer::new().map_err(|e| e.to_string())?;
        config.send_tls13_tickets = TICKETS;
        config.key_log = Arc::new(trace.clone());
        Ok(Self { config: Arc::new(config), versions, clients, http: port.http })
    }

    /// Of a port that does not speak HTTP: without ALPN.
    pub(super) fn without_http(port: &TlsPort, trace: &Trace) -> Result<Self, String> {
        let mut settings = Self::new(port, trace)?;
        Arc::make_mut(&mut settings.config).alpn_protocols.clear();
        Ok(settings)
    }

    /// The settings of one connection, and what its client presents where it is verified in the handshake: a handshake that
    /// fails leaves nothing to ask for the certificate.
    pub(super) fn for_connection(&self) -> (Arc<ServerConfig>, Arc<Presented>) {
        let presented = Arc::new(Presented::default());
        let Clients::VerifiedInHandshake(strict) = &self.clients else {
            return (Arc::clone(&self.config), presented);
        };
        let verifier = Remembering { verifier: Arc::clone(strict), presented: Arc::clone(&presented) };
        let builder =
            ServerConfig::builder_with_provider(tls::provider()).with_protocol_versions(&self.versions);
        // These versions were accepted when the settings were read.
        let Ok(builder) = builder else { return (Arc::clone(&self.config), presented) };
        let mut config = builder
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&self.config.cert_resolver));
        config.alpn_protocols.clone_from(&self.config.alpn_protocols);
        config.ticketer = Arc::clone(&self.config.ticketer);
        config.send_tls13_tickets = self.config.send_tls13_tickets;
        config.key_log = Arc::clone(&self.config.key_log);
        (Arc::new(config), presented)
    }

    fn verifier(port: &TlsPort) -> Result<(Option<Arc<dyn ClientCertVerifier>>, Clients), String> {
        let Some(ca) = &port.client_ca else { return Ok((None, Clients::Anyone)) };
        let roots = tls::roots(ca).map_err(|e| format!("the clients' CA: {e}"))?;
        let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
            .build()
            .map_err(|e| format!("the clients' CA: {e}"))?;
        Ok(match port.refusal {
            Refusal::Alert => (Some(Arc::clone(&strict)), Clients::VerifiedInHandshake(strict)),
            Refusal::Http400 => {
                let lenient: Arc<dyn ClientCertVerifier> = Arc::new(AskAndAccept(strict.clone()));
                (Some(lenient), Clients::VerifiedAfterwards(strict))
            }
            Refusal::None => {
                let lenient: Arc<dyn ClientCertVerifier> = Arc::new(AskAndAccept(strict.clone()));
                (Some(lenient), Clients::Recorded(strict))
            }
        })
    }
}

/// Chooses the certificate by the server name that a client asks for.
#[derive(Debug)]
struct ByName {
    named: BTreeMap<String, Arc<CertifiedKey>>,
    otherwise: Arc<dyn ResolvesServerCert>,
}

impl ByName {
    fn new(port: &TlsPort, otherwise: Arc<dyn ResolvesServerCert>) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        // Servers with many certificates often have few keys.
        let mut keys: BTreeMap<&str, _> = BTreeMap::new();
        for one in &port.by_name {
            let failed = |e: String| format!("the certificate for {}: {e}", one.server_name);
            let chain = tls::certificates(&one.certificate).map_err(failed)?;
            let key = match keys.get(one.key.0.as_str()) {
                Some(known) => Arc::clone(known),
                None => {
                    let key = tls::private_key(&one.key).map_err(failed)?;
                    let load = tls::provider().key_provider.load_private_key(key);
                    let key = load.map_err(|e| failed(e.to_string()))?;
                    keys.insert(&one.key.0, Arc::clone(&key));
                    key
                }
            };
            // Not compared with the key: the certificate may be one that this library cannot read.
            named.insert(one.server_name.clone(), Arc::new(CertifiedKey::new(chain, key)));
        }
        Ok(Self { named, otherwise })
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = name.and_then(|name| self.named.get(name.trim_end_matches('.')).cloned());
        named.or_else(|| self.otherwise.resolve(hello))
    }
}

impl Clients {
    /// The verdict on the client's certificate as nginx writes it (`$ssl_client_verify`); none if no certificate is demanded.
    pub(super) fn verdict(&self, connection: &CommonState) -> Option<String> {
        let presented = connection.peer_certificates().and_then(<[_]>::split_first);
        match (self, presented) {
            (Self::Anyone, _) => None,
            (Self::VerifiedInHandshake(_) | Self::VerifiedAfterwards(_) | Self::Recorded(_), None) => {
                Some("NONE".to_owned())
            }
            (Self::VerifiedInHandshake(_), Some(_)) => Some("SUCCESS".to_owned()),
            (Self::VerifiedAfterwards(verifier) | Self::Recorded(verifier), Some((leaf, others))) => {
                Some(verdict_words(&verifier.verify_client_cert(leaf, others, UnixTime::now())))
            }
        }
    }
}

/// The certificate that a client presented in its handshake, and the result of its verification as nginx writes it.
#[derive(Debug, Default)]
pub(super) struct Presented(Mutex<Option<(PeerCertificate, String)>>);

impl Presented {
    /// Puts what was presented, if anything was, into `facts`.
    pub(super) fn note(&self, facts: &mut TlsFacts) {
        if let Some((certificate, verification)) =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            facts.peer_certificate = Some(certificate);
            facts.peer_verification = Some(verification);
        }
    }
}

/// Verifies as another verifier does, and records what the client presented.
#[derive(Debug)]
struct Remembering {
    verifier: Arc<dyn ClientCertVerifier>,
    presented: Arc<Presented>,
}

impl ClientCertVerifier for Remembering {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.verifier.verify_client_cert(leaf, others, now);
        let words = verdict_words(&verified);
        let presented = (describe(leaf).unwrap_or_default(), words);
        *self.presented.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented);
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

fn verdict_words(verified: &Result<ClientCertVerified, rustls::Error>) -> String {
    match verified {
        Ok(_) => "SUCCESS".to_owned(),
        Err(e) => format!("FAILED:{e}"),
    }
}

/// Asks for a certificate and accepts every client, as nginx's handshake does. A client with a certificate must still hold its
/// key.
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
