//! Verification of a server's certificate: the chain by webpki, the names by the plan.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder,
};
use x509_parser::extensions::GeneralName;

use super::inputs::Roots;
use super::{certificates, provider};
use crate::saboteurs::Saboteur;

/// Which chains are believed. Parsed once a configuration.
#[derive(Debug)]
pub(crate) enum Chain {
    /// Every one.
    Anybody,
    /// Those that end in one of the anchors and that no revocation list names.
    Anchored(Anchored),
}

/// See [`Chain::Anchored`].
#[derive(Debug)]
pub(crate) struct Anchored {
    anchors: Vec<TrustAnchor<'static>>,
    roots: Vec<CertificateDer<'static>>,
    crls: Vec<CertRevocationList<'static>>,
    saboteur: Option<Saboteur>,
}

impl Chain {
    /// The error is for people: which input cannot be used.
    pub(crate) fn new(roots: &Roots, crl: Option<&str>, saboteur: Option<Saboteur>) -> Result<Self, String> {
        let pem = match roots {
            Roots::Anybody => return Ok(Self::Anybody),
            Roots::Pem(pem) => pem,
        };
        let roots = certificates(pem).map_err(|e| format!("TLS error: trusted CA: {e}"))?;
        let anchors = roots
            .iter()
            .map(|r| webpki::anchor_from_trusted_cert(r).map(|a| a.to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("TLS error: trusted CA: {e}"))?;
        let mut crls = Vec::new();
        for der in CertificateRevocationListDer::pem_slice_iter(crl.unwrap_or_default().as_bytes()) {
            let der = der.map_err(|_| "TLS error: revocation list: not PEM".to_owned())?;
            let list = OwnedCertRevocationList::from_der(&der)
                .map_err(|e| format!("TLS error: revocation list: {e}"))?;
            crls.push(CertRevocationList::from(list));
        }
        Ok(Self::Anchored(Anchored { anchors, roots, crls, saboteur }))
    }
}

impl Anchored {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = provider().signature_verification_algorithms;
        let now = match self.saboteur {
            Some(Saboteur::AcceptExpired) => start_of_validity(end_entity).unwrap_or(now),
            Some(_) | None => now,
        };
        let certificate = EndEntityCert::try_from(end_entity).map_err(refused)?;
        let verify = |usage: KeyUsage| {
            let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
            // As Envoy's default: the whole chain is looked up, an unknown status and a list past its time refuse.
            let revocation = RevocationOptionsBuilder::new(&lists)
                .ok()
                .map(|b| b.with_expiration_policy(ExpirationPolicy::Enforce).build());
            certificate
                .verify_for_usage(algorithms.all, &self.anchors, intermediates, now, usage, revocation, None)
                .map(|_| ())
        };
        let error = match verify(KeyUsage::server_auth()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if self.saboteur == Some(Saboteur::IgnoreKeyUsage) && verify(KeyUsage::client_auth()).is_ok() {
            return Ok(());
        }
        if self.is_trusted_itself(end_entity, now) {
            return Ok(());
        }
        Err(refused(error))
    }

    /// webpki wants a CA above every server. BoringSSL, and so Envoy, also believes a self-signed certificate that is
    /// itself among the roots.
    fn is_trusted_itself(&self, end_entity: &CertificateDer<'_>, now: UnixTime) -> bool {
        let believed = self.roots.iter().any(|r| r.as_ref() == end_entity.as_ref())
            || self.saboteur == Some(Saboteur::AcceptSelfSigned);
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(end_entity) else { return false };
        let validity = parsed.validity();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let in_time = validity.not_before.timestamp() <= seconds && seconds <= validity.not_after.timestamp();
        let for_servers = match parsed.extended_key_usage() {
            Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
            Ok(None) => true,
            Err(_) => false,
        };
        believed && in_time && for_servers && parsed.subject() == parsed.issuer()
    }
}

fn start_of_validity(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let start = u64::try_from(parsed.validity().not_before.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(start)))
}

/// Which names the certificate must hold.
#[derive(Clone, Debug)]
pub(crate) enum Names {
    /// None.
    Unchecked,
    /// One of these, as DNS name, IP address or URI.
    OneOf(Vec<String>),
    /// A SPIFFE identity: one of these, or any where there are none.
    Identity(Vec<String>),
}

/// rustls's hook for both.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) chain: Arc<Chain>,
    pub(crate) names: Names,
}

impl Verifier {
    fn algorithms() -> WebPkiSupportedAlgorithms {
        provider().signature_verification_algorithms
    }

    fn verify_names(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match &self.names {
            Names::Unchecked => Ok(()),
            Names::OneOf(names) => {
                let parsed = EndEntityCert::try_from(certificate).map_err(refused)?;
                let uris = uris(certificate);
                let holds = names.iter().any(|name| {
                    uris.iter().any(|u| u == name)
                        || ServerName::try_from(name.as_str())
                            .is_ok_and(|n| parsed.verify_is_valid_for_subject_name(&n).is_ok())
                });
                if holds { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::NotValidForName)) }
            }
            Names::Identity(identities) => {
                let uris = uris(certificate);
                let holds = uris
                    .iter()
                    .any(|u| u.starts_with("spiffe://") && (identities.is_empty() || identities.contains(u)));
                if holds { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::NotValidForName)) }
            }
        }
    }
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

/// The alert that rustls sends depends on the error's kind.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "webpki's errors are open-ended; the rest keep their own words"
)]
fn refused(error: webpki::Error) -> Error {
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

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chain.as_ref() {
            // Envoy's ACCEPT_UNTRUSTED looks at nothing else either.
            Chain::Anybody => {}
            Chain::Anchored(chain) => {
                chain.verify(end_entity, intermediates, now)?;
                self.verify_names(end_entity)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &Self::algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &Self::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::algorithms().supported_schemes()
    }
}
