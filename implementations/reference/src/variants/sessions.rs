//! TLS sessions that are resumed, and which connections have them in common.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use meshproof_plan::model::UpstreamTls;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, SignatureScheme};

use crate::hooks::{ProxyHooks, TlsConnectionFacts};
use crate::tls::verify::{TrustedChains, UpstreamVerifier};
use crate::variants::verifier::{Judge, JudgedBy, Presented};

/// How many sessions a proxy keeps.
const KEPT: usize = 256;

/// Which connections to a server may resume each other's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Those with the same policy: the same trust, names and client certificate.
    Policy,
    /// Those with the same client certificate, whatever they verify.
    AnyTrust,
    /// Those with the same names, whatever their client certificate.
    AnyIdentity,
}

/// A proxy that resumes sessions with external services. rustls resumes a session only with the verifier and the client certificate
/// of its beginning, so connections that share sessions get the same objects.
pub(super) struct ResumedSessions {
    sharing: Sharing,
    sessions: Resumption,
    verifiers: Mutex<HashMap<String, Arc<JudgedBy<LatestVerifier>>>>,
    certificates: Mutex<HashMap<String, Arc<LatestCertificate>>>,
}

impl ResumedSessions {
    pub(super) fn new(sharing: Sharing) -> Self {
        Self {
            sharing,
            sessions: Resumption::in_memory_sessions(KEPT),
            verifiers: Mutex::default(),
            certificates: Mutex::default(),
        }
    }
}

impl ProxyHooks for ResumedSessions {
    fn verifier(
        &self,
        connection: &TlsConnectionFacts<'_>,
        honest: Arc<UpstreamVerifier>,
    ) -> Arc<dyn ServerCertVerifier> {
        if matches!(connection.tls, UpstreamTls::MeshMutual { .. }) {
            return honest;
        }
        let (server, names) = (connection.server, &honest.names);
        let key = match self.sharing {
            // The chains live as long as the entry, so no others get their address.
            Sharing::Policy => format!("{:p} {names:?}", Arc::as_ptr(&honest.chains)),
            // A policy without verification compares no names either.
            Sharing::AnyTrust => format!("{server:?}"),
            Sharing::AnyIdentity => {
                let any = matches!(*honest.chains, TrustedChains::Any);
                format!("{server:?} {names:?} {any}")
            }
        };
        let mut all = self.verifiers.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = all
            .entry(key)
            .or_insert_with(|| Arc::new(JudgedBy(LatestVerifier(Mutex::new(Arc::clone(&honest))))));
        *shared.0.0.lock().unwrap_or_else(PoisonError::into_inner) = honest;
        Arc::clone(shared) as Arc<dyn ServerCertVerifier>
    }

    fn client_tls(&self, connection: &TlsConnectionFacts<'_>, config: &mut ClientConfig) {
        if matches!(connection.tls, UpstreamTls::MeshMutual { .. }) {
            return;
        }
        config.resumption = self.sessions.clone();
        let own = Arc::clone(&config.client_auth_cert_resolver);
        let server = connection.server;
        let key = match self.sharing {
            // The certificate of a cluster is one object already.
            Sharing::Policy => return,
            Sharing::AnyTrust => {
                let leaf = own.resolve(&[], &[]).and_then(|pair| pair.cert.first().cloned());
                format!("{server:?} {leaf:?}")
            }
            Sharing::AnyIdentity => format!("{server:?}"),
        };
        let mut all = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let shared =
            all.entry(key).or_insert_with(|| Arc::new(LatestCertificate(Mutex::new(Arc::clone(&own)))));
        *shared.0.lock().unwrap_or_else(PoisonError::into_inner) = own;
        config.client_auth_cert_resolver = Arc::clone(shared) as Arc<dyn ResolvesClientCert>;
    }
}

/// Verifies as the connection that was opened last asks for.
struct LatestVerifier(Mutex<Arc<UpstreamVerifier>>);

impl Judge for LatestVerifier {
    fn honest(&self) -> Arc<UpstreamVerifier> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn judge(&self, server: &Presented<'_>) -> Result<(), Error> {
        server.judged_by(&self.honest())
    }
}

/// Presents what the connection that was opened last presents.
#[derive(Debug)]
struct LatestCertificate(Mutex<Arc<dyn ResolvesClientCert>>);

impl LatestCertificate {
    fn latest(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesClientCert for LatestCertificate {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.latest().resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        self.latest().has_certs()
    }
}
