//! Saboteurs of the external services: what a control proves about a server must be able to fail too.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::ExternalSpec;

use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "lenient-server",
        "The external service does not require a client certificate.",
        VariantBehaviour::ExternalService(|spec| replace_client_ca(spec, || None)),
    ),
    Definition::new(
        "server-of-another-ca",
        "The external service requires client certificates of another CA.",
        VariantBehaviour::ExternalService(|spec| replace_client_ca(spec, another_ca)),
    ),
];

fn replace_client_ca(spec: &mut ExternalSpec, with: fn() -> Option<String>) {
    if let Some(tls) = spec.tls.as_mut().filter(|tls| tls.client_ca.is_some()) {
        tls.client_ca = with();
    }
}

/// `None`, as with `lenient-server`, if the CA cannot be made: the saboteur is noticed then too.
fn another_ca() -> Option<String> {
    let other = Authority::named("another CA", "another organisation", KeyAlgorithm::EcdsaP256).ok()?;
    Some(other.certificate_pem().to_owned())
}
