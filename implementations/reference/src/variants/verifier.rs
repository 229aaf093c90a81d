//! Verifiers of servers that differ from the honest one in what they say of a certificate, and in nothing else.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::KeyUsage;

use crate::tls::verify::UpstreamVerifier;

/// What a server presents, and when.
pub(super) struct Presented<'a> {
    pub(super) end_entity: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) now: UnixTime,
}

impl Presented<'_> {
    /// What the honest verifier says of the chain.
    pub(super) fn chain_by(&self, honest: &UpstreamVerifier) -> Result<(), Error> {
        honest.verify_chain(self.end_entity, self.intermediates, self.now, KeyUsage::server_auth())
    }

    /// What the honest verifier says of chain and names.
    pub(super) fn judged_by(&self, honest: &UpstreamVerifier) -> Result<(), Error> {
        self.chain_by(honest)?;
        honest.verify_names(self.end_entity)
    }
}

/// Decides about a certificate. Signatures are verified by the honest verifier.
pub(super) trait Judge: Send + Sync {
    fn honest(&self) -> Arc<UpstreamVerifier>;

    fn judge(&self, server: &Presented<'_>) -> Result<(), Error>;

    /// What is left to say once it is known that the version is TLS 1.3.
    fn judge_in_tls13(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The verifier that asks this judge.
pub(super) struct JudgedBy<J>(pub(super) J);

impl<J: Judge> fmt::Debug for JudgedBy<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgedBy").field("honest", &self.0.honest()).finish_non_exhaustive()
    }
}

impl<J: Judge> ServerCertVerifier for JudgedBy<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.judge(&Presented { end_entity, intermediates, now })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.honest().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.judge_in_tls13()?;
        self.0.honest().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.honest().supported_verify_schemes()
    }
}
