//! Saboteurs that present, or accept, an identity where it has no place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meshproof_local::data_plane::MeshCertificate;
use meshproof_local::tls::{provider, roots};
use meshproof_plan::model::{Direction, Plan, UpstreamTls};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::verification::start_of_validity;
use crate::hooks::ProxyHooks;
use crate::tls::inputs::{PemKeyPair, TlsInputs, TrustedRoots};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "mesh-certificate-for-strangers",
        "Presents its mesh certificate to every external service that asks for a certificate.",
        VariantBehaviour::Proxy(|facts| Arc::new(MeshCertificateForStrangers(facts.identity.cloned()))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "system-roots-beside-credential",
        "Trusts the system's roots beside the CA of a credential.",
        VariantBehaviour::Configuration(|wanted, _, boot| {
            for ca in wanted.credentials.values_mut().flatten().filter_map(|c| c.ca.as_mut()) {
                *ca = format!("{ca}\n{}", boot.system_roots);
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "any-mesh-identity",
        "Uses mesh mutual TLS with every server of the mesh, whatever identity is configured.",
        VariantBehaviour::Plan(any_mesh_identity),
    ),
    Definition::new(
        "system-roots-for-mesh-peers",
        "Trusts the system's roots in mesh mutual TLS with a server.",
        VariantBehaviour::Proxy(|facts| Arc::new(SystemRootsForMeshPeers(facts.system_roots.to_owned()))),
    ),
    Definition::new(
        "gateway-trusts-system-roots",
        "The gateway accepts client certificates of the system's roots.",
        VariantBehaviour::Proxy(|facts| Arc::new(LenientGateway(by_system_roots(facts.system_roots)))),
    ),
    Definition::new(
        "gateway-accepts-expired-identity",
        "The gateway accepts client certificates that have expired.",
        VariantBehaviour::Proxy(|_| Arc::new(LenientGateway(Some(Otherwise::AtItsBeginning)))),
    ),
    Definition::new(
        "gateway-accepts-server-certificates",
        "The gateway accepts client certificates that are for servers alone.",
        VariantBehaviour::Proxy(|_| Arc::new(LenientGateway(Some(Otherwise::ForServers)))),
    ),
    Definition::new(
        "gateway-grows-careless",
        "The gateway requires no client certificate after it has served five clients that had one.",
        VariantBehaviour::Proxy(|_| Arc::new(LenientGateway(Some(Otherwise::AfterFive(Arc::default()))))),
    ),
];

struct MeshCertificateForStrangers(Option<MeshCertificate>);

impl ProxyHooks for MeshCertificateForStrangers {
    fn tls_inputs(&self, tls: &UpstreamTls, inputs: &mut TlsInputs) {
        if let (UpstreamTls::Originate(_), Ok(None), Some(own)) = (tls, &inputs.client, &self.0) {
            let (certificate, key) = (own.certificate.clone(), own.key.clone());
            inputs.client = Ok(Some(PemKeyPair { certificate, key }));
        }
    }
}

fn any_mesh_identity(plan: &mut Plan) {
    for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters) {
        if let Some(UpstreamTls::MeshMutual { peer_identities, .. }) = &mut cluster.tls {
            peer_identities.clear();
        }
    }
}

struct SystemRootsForMeshPeers(String);

impl ProxyHooks for SystemRootsForMeshPeers {
    fn tls_inputs(&self, tls: &UpstreamTls, inputs: &mut TlsInputs) {
        if let (UpstreamTls::MeshMutual { .. }, Ok(TrustedRoots::Pem(pem))) = (tls, &mut inputs.roots) {
            *pem = format!("{pem}\n{}", self.0);
        }
    }
}

/// A gateway that is lenient with its clients; none: it is as strict as the reference.
struct LenientGateway(Option<Otherwise>);

impl ProxyHooks for LenientGateway {
    fn client_verifier(
        &self,
        direction: Direction,
        honest: Arc<dyn ClientCertVerifier>,
    ) -> Arc<dyn ClientCertVerifier> {
        match &self.0 {
            Some(otherwise) if direction == Direction::Gateway => {
                Arc::new(LenientClients { honest, otherwise: otherwise.clone() })
            }
            Some(_) | None => honest,
        }
    }
}

fn by_system_roots(pem: &str) -> Option<Otherwise> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem).ok()?), provider());
    Some(Otherwise::By(verifier.build().ok()?))
}

/// What accepts a client that is refused.
#[derive(Clone, Debug)]
enum Otherwise {
    /// Another verifier.
    By(Arc<dyn ClientCertVerifier>),
    /// The same verifier, as if the certificate had just become valid.
    AtItsBeginning,
    /// The fault is that the certificate is not for clients.
    ForServers,
    /// Nothing, but no certificate is required after this count of verified clients has reached five.
    AfterFive(Arc<AtomicU64>),
}

#[derive(Debug)]
struct LenientClients {
    honest: Arc<dyn ClientCertVerifier>,
    otherwise: Otherwise,
}

impl ClientCertVerifier for LenientClients {
    fn client_auth_mandatory(&self) -> bool {
        let careless = match &self.otherwise {
            Otherwise::AfterFive(verified) => verified.load(Ordering::Relaxed) >= 5,
            Otherwise::By(_) | Otherwise::AtItsBeginning | Otherwise::ForServers => false,
        };
        !careless && self.honest.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: a client then presents what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.honest.verify_client_cert(leaf, others, now);
        if let (Ok(_), Otherwise::AfterFive(count)) = (&verified, &self.otherwise) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        verified.or_else(|error| match &self.otherwise {
            Otherwise::AfterFive(_) => Err(error),
            Otherwise::ForServers => {
                let is_for_servers = matches!(
                    error,
                    Error::InvalidCertificate(
                        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
                    )
                );
                if is_for_servers { Ok(ClientCertVerified::assertion()) } else { Err(error) }
            }
            Otherwise::By(verifier) => verifier.verify_client_cert(leaf, others, now),
            Otherwise::AtItsBeginning => {
                let start = start_of_validity(leaf).ok_or(error)?;
                self.honest.verify_client_cert(leaf, others, start)
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.honest.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.honest.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.honest.supported_verify_schemes()
    }
}
