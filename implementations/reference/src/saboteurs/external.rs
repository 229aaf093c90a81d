//! Saboteurs of the external services: what a control says of a server must be able to fail too.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::ExternalSpec;

use super::Saboteur;

/// Deploys another server than the one that was asked for.
pub(crate) fn spoil(saboteur: Saboteur, spec: &mut ExternalSpec) {
    let Some(tls) = spec.tls.as_mut().filter(|tls| tls.client_ca.is_some()) else { return };
    if saboteur == Saboteur::LenientServer {
        tls.client_ca = None;
    } else if saboteur == Saboteur::ServerOfAnotherCa {
        // That it cannot be made leaves the server as it was: the saboteur is then not noticed, and that is noticed.
        if let Ok(other) = Authority::named("another CA", "nobody in particular", KeyAlgorithm::EcdsaP256) {
            tls.client_ca = Some(other.certificate_pem().to_owned());
        }
    }
}
