//! Verification of a server's certificate: the chain by webpki, the names by the plan.

use std::sync::Arc;

use meshproof_local::tls::{certificates, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, VerifiedPath,
};
use x509_parser::extensions::GeneralName;

use super::inputs::TrustedRoots;

/// Which certificate chains are trusted. Parsed once per configuration.
#[derive(Debug)]
pub(crate) enum TrustedChains {
    /// Every chain.
    Any,
    /// Those that end in one of the anchors and that no revocation list names.
    Anchored(AnchoredChains),
}

/// See [`TrustedChains::Anchored`].
#[derive(Debug)]
pub(crate) struct AnchoredChains {
    anchors: Vec<TrustAnchor<'static>>,
    roots: Vec<CertificateDer<'static>>,
    crls: Vec<CertRevocationList<'static>>,
}

impl TrustedChains {
    /// # Errors
    /// An input cannot be used; the message names it.
    pub(crate) fn new(roots: &TrustedRoots, crl: Option<&str>) -> Result<Self, String> {
        let pem = match roots {
            TrustedRoots::Any => return Ok(Self::Any),
            TrustedRoots::Pem(pem) => pem,
        };
        let roots = certificates(pem).map_err(|e| format!("TLS error: trusted CA: {e}"))?;
        let anchors = roots
            .iter()
            .map(|r| webpki::anchor_from_trusted_cert(r).map(|a| a.to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("TLS error: trusted CA: {e}"))?;
        let mut crls = Vec::new();
        for der in CertificateRevocationListDer::pem_slice_iter(crl.unwrap_or_default().as_bytes()) {
            let der = der.map_err(|_| "TLS error: revocation list: it is not valid PEM".to_owned())?;
            let list = OwnedCertRevocationList::from_der(&der)
                .map_err(|e| format!("TLS error: revocation list: {e}"))?;
            crls.push(CertRevocationList::from(list));
        }
        Ok(Self::Anchored(AnchoredChains { anchors, roots, crls }))
    }
}

impl AnchoredChains {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let algorithms = provider().signature_verification_algorithms;
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        // Envoy's default: the whole chain is looked up, and an unknown status or an outdated list is a
        // refusal.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|b| b.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let certificate = EndEntityCert::try_from(end_entity).map_err(certificate_error)?;
        let anchors = &self.anchors;
        let verified = certificate.verify_for_usage(
            algorithms.all,
            anchors,
            intermediates,
            now,
            usage,
            revocation,
            Some(&may_sign_certificates),
        );
        match verified {
            Ok(_) => Ok(()),
            Err(_) if self.trusts_directly(end_entity, now) => Ok(()),
            Err(error) => Err(certificate_error(error)),
        }
    }

    /// webpki requires a CA above every server certificate. BoringSSL, and so Envoy, also trusts a
    /// self-signed certificate that is itself among the roots.
    fn trusts_directly(&self, end_entity: &CertificateDer<'_>, now: UnixTime) -> bool {
        self.roots.iter().any(|r| r.as_ref() == end_entity.as_ref()) && is_self_signed_server(end_entity, now)
    }
}

/// RFC 5280, section 6.1.4 (n), which webpki leaves out: with a key usage, the key of a CA must be one that signs certificates.
fn may_sign_certificates(path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
    for ca in path.intermediate_certificates() {
        let der = ca.der();
        let parsed = x509_parser::parse_x509_certificate(&der).map(|(_, parsed)| parsed);
        let signs = parsed.is_ok_and(|parsed| match parsed.key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
            Err(_) => false,
        });
        if !signs {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    Ok(())
}

/// Whether a certificate names itself as its issuer, is within its period of validity and may be used by
/// servers.
pub(crate) fn is_self_signed_server(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let validity = parsed.validity();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let in_time = validity.not_before.timestamp() <= seconds && seconds <= validity.not_after.timestamp();
    let for_servers = match parsed.extended_key_usage() {
        Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
        Ok(None) => true,
        Err(_) => false,
    };
    in_time && for_servers && parsed.subject() == parsed.issuer()
}

/// Which names a certificate must hold.
#[derive(Clone, Debug)]
pub(crate) enum RequiredNames {
    /// None.
    Unchecked,
    /// One of these, as DNS name, IP address or URI.
    OneOf(Vec<String>),
    /// One of these, and this host as well.
    OneOfAndHost(Vec<String>, String),
    /// A SPIFFE identity: one of these, or any if there are none.
    Identity(Vec<String>),
}

/// Verifies the certificate of a server, as rustls asks for it.
#[derive(Debug)]
pub(crate) struct UpstreamVerifier {
    pub(crate) chains: Arc<TrustedChains>,
    pub(crate) names: RequiredNames,
}

impl UpstreamVerifier {
    /// Trusts every server.
    pub(crate) fn trusting_any() -> Self {
        Self { chains: Arc::new(TrustedChains::Any), names: RequiredNames::Unchecked }
    }

    /// Verifies the chain for a usage, as if the time were `now`.
    pub(crate) fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        match self.chains.as_ref() {
            TrustedChains::Any => Ok(()),
            TrustedChains::Anchored(chains) => chains.verify(end_entity, intermediates, now, usage),
        }
    }

    /// Verifies the names alone. Where every chain is trusted, Envoy's ACCEPT_UNTRUSTED does not look at
    /// names either.
    pub(crate) fn verify_names(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if matches!(*self.chains, TrustedChains::Any) {
            return Ok(());
        }
        let holds = match &self.names {
            RequiredNames::Unchecked => true,
            RequiredNames::OneOf(names) => holds_one(certificate, names)?,
            RequiredNames::OneOfAndHost(names, host) => {
                holds_one(certificate, names)? && holds_one(certificate, std::slice::from_ref(host))?
            }
            RequiredNames::Identity(identities) => uris(certificate)
                .iter()
                .any(|u| u.starts_with("spiffe://") && (identities.is_empty() || identities.contains(u))),
        };
        if holds { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::NotValidForName)) }
    }
}

/// Whether a certificate holds one of these names.
fn holds_one(certificate: &CertificateDer<'_>, names: &[String]) -> Result<bool, Error> {
    let parsed = EndEntityCert::try_from(certificate).map_err(certificate_error)?;
    let uris = uris(certificate);
    Ok(names.iter().any(|name| {
        uris.iter().any(|u| u == name)
            || ServerName::try_from(name.as_str())
                .is_ok_and(|n| parsed.verify_is_valid_for_subject_name(&n).is_ok())
    }))
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    names
        .value
        .general_names
        .iter()
        .filter_map(|n| if let GeneralName::URI(uri) = n { Some((*uri).to_owned()) } else { None })
        .collect()
}

/// Keeps the kind of the error, because the alert that rustls sends depends on it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "webpki's error is non-exhaustive; the rest keep their own message"
)]
fn certificate_error(error: webpki::Error) -> Error {
    use webpki::Error as W;
    Error::InvalidCertificate(match error {
        W::BadDer | W::BadDerTime | W::TrailingData(_) => CertificateError::BadEncoding,
        W::CertExpired { .. } => CertificateError::Expired,
        W::CertNotValidYet { .. } => CertificateError::NotValidYet,
        W::CertRevoked => CertificateError::Revoked,
        W::UnknownIssuer => CertificateError::UnknownIssuer,
        W::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        W::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        W::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_chain(end_entity, intermediates, now, KeyUsage::server_auth())?;
        self.verify_names(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
