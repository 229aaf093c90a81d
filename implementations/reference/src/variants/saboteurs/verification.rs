//! Saboteurs that verify the server's certificate wrongly.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshproof_plan::model::UpstreamTls;
use rustls::Error;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;

use crate::hooks::ProxyHooks;
use crate::tls::inputs::{TlsInputs, TrustedRoots};
use crate::tls::verify::{UpstreamVerifier, is_self_signed_server};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;
use crate::variants::verifier::{Judge, JudgedBy, Presented};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "accept-expired",
        "Accepts certificates outside their period of validity.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                let start = start_of_validity(server.end_entity).unwrap_or(server.now);
                honest.verify_chain(server.end_entity, server.intermediates, start, KeyUsage::server_auth())
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "accept-self-signed",
        "Accepts self-signed certificates.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                let usage = KeyUsage::server_auth();
                match honest.verify_chain(server.end_entity, server.intermediates, server.now, usage) {
                    Err(_) if is_self_signed_server(server.end_entity, server.now) => Ok(()),
                    verified => verified,
                }
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "ignore-key-usage",
        "Accepts certificates that were not issued for servers.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                let chain =
                    |usage| honest.verify_chain(server.end_entity, server.intermediates, server.now, usage);
                chain(KeyUsage::server_auth())
                    .or_else(|error| chain(KeyUsage::client_auth()).map_err(|_| error))
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "verify-once",
        "Verifies only the first server that a cluster connects to after a change.",
        VariantBehaviour::Verifier(|connection, honest| {
            if connection.earlier == 0 { honest } else { Arc::new(UpstreamVerifier::trusting_any()) }
        }),
    ),
    Definition::new(
        "verify-three-times",
        "Verifies only the first three servers that a cluster connects to after a change.",
        VariantBehaviour::Verifier(|connection, honest| {
            if connection.earlier < 3 { honest } else { Arc::new(UpstreamVerifier::trusting_any()) }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "verify-in-tls13-alone",
        "Verifies no server that speaks TLS 1.2.",
        VariantBehaviour::Verifier(|_, honest| {
            Arc::new(JudgedBy(InTls13Alone { honest, refusal: Mutex::default() }))
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "verify-ipv4-alone",
        "Verifies no server at an IPv6 address.",
        VariantBehaviour::Verifier(|connection, honest| {
            let verified = connection.server.is_none_or(|server| server.is_ipv4());
            if verified { honest } else { Arc::new(UpstreamVerifier::trusting_any()) }
        }),
    )
    .also_at(&[Placement::Sidecar, Placement::EgressGateway]),
    Definition::new(
        "believe-any-mesh-peer",
        "Uses mesh mutual TLS with every server, whatever certificate it presents.",
        VariantBehaviour::Proxy(|_| Arc::new(BelieveAnyMeshPeer)),
    ),
];

struct BelieveAnyMeshPeer;

impl ProxyHooks for BelieveAnyMeshPeer {
    fn tls_inputs(&self, tls: &UpstreamTls, inputs: &mut TlsInputs) {
        if matches!(tls, UpstreamTls::MeshMutual { .. }) {
            inputs.roots = Ok(TrustedRoots::Any);
        }
    }
}

/// Verifies a server's certificate when it knows the version of TLS; for one connection.
struct InTls13Alone {
    honest: Arc<UpstreamVerifier>,
    refusal: Mutex<Option<Error>>,
}

impl Judge for InTls13Alone {
    fn honest(&self) -> Arc<UpstreamVerifier> {
        Arc::clone(&self.honest)
    }

    fn judge(&self, server: &Presented<'_>) -> Result<(), Error> {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = server.judged_by(&self.honest).err();
        Ok(())
    }

    fn judge_in_tls13(&self) -> Result<(), Error> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

pub(super) type ChainCheck = fn(&UpstreamVerifier, &Presented<'_>) -> Result<(), Error>;

/// Replaces the verification of the chain; names and signatures are verified as always.
pub(super) fn lenient(
    honest: Arc<UpstreamVerifier>,
    verify_chain: ChainCheck,
) -> Arc<dyn ServerCertVerifier> {
    let verify_names: ChainCheck = |honest, server| honest.verify_names(server.end_entity);
    Arc::new(JudgedBy(Lenient { honest, verify_chain, verify_names }))
}

/// Replaces the comparison of the names; the chain and signatures are verified as always.
pub(super) fn compared_by(
    honest: Arc<UpstreamVerifier>,
    verify_names: ChainCheck,
) -> Arc<dyn ServerCertVerifier> {
    let verify_chain: ChainCheck = |honest, server| server.chain_by(honest);
    Arc::new(JudgedBy(Lenient { honest, verify_chain, verify_names }))
}

struct Lenient {
    honest: Arc<UpstreamVerifier>,
    verify_chain: ChainCheck,
    verify_names: ChainCheck,
}

impl Judge for Lenient {
    fn honest(&self) -> Arc<UpstreamVerifier> {
        Arc::clone(&self.honest)
    }

    fn judge(&self, server: &Presented<'_>) -> Result<(), Error> {
        (self.verify_chain)(&self.honest, server)?;
        (self.verify_names)(&self.honest, server)
    }
}

pub(super) fn start_of_validity(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let start = u64::try_from(parsed.validity().not_before.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(start)))
}
