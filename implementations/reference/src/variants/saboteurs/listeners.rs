//! Saboteurs of the listeners: which clients they accept, and what they do with TLS that is not theirs.

use std::sync::Arc;

use meshproof_local::data_plane::{Boot, MeshCertificate, Update};
use meshproof_local::tls::provider;
use meshproof_plan::model::Direction;
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;

use super::plan::wrap_passthrough;
use crate::hooks::{ClientAuthentication, PlaneHooks, ProxyFacts, ProxyHooks, WantedConfig};
use crate::tls::certified_key;
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "gateway-accepts-anonymous",
        "The gateway does not require a client certificate.",
        VariantBehaviour::Proxy(|_| Arc::new(GatewayAcceptsAnonymous)),
    ),
    Definition::new(
        "inbound-accepts-any-client",
        "Where mesh mutual TLS is STRICT, the sidecar does not look at the client's certificate.",
        VariantBehaviour::Proxy(|_| Arc::new(InboundAcceptsAnyClient)),
    ),
    Definition::new(
        "terminate-application-tls",
        "Terminates the application's own HTTPS and encrypts it again.",
        VariantBehaviour::Plane(|| Box::new(TerminateApplicationTls)),
    ),
];

struct GatewayAcceptsAnonymous;

impl ProxyHooks for GatewayAcceptsAnonymous {
    fn client_authentication(&self, direction: Direction) -> ClientAuthentication {
        if direction == Direction::Gateway {
            ClientAuthentication::Optional
        } else {
            ClientAuthentication::Required
        }
    }
}

struct InboundAcceptsAnyClient;

impl ProxyHooks for InboundAcceptsAnyClient {
    fn client_authentication(&self, direction: Direction) -> ClientAuthentication {
        if direction == Direction::Inbound {
            ClientAuthentication::None
        } else {
            ClientAuthentication::Required
        }
    }

    fn server_tls(&self, direction: Direction, config: &mut ServerConfig) {
        if direction == Direction::Inbound {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
    }
}

struct TerminateApplicationTls;

impl PlaneHooks for TerminateApplicationTls {
    fn configuration(&self, wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {
        wrap_passthrough(&mut wanted.plan);
    }

    fn proxy(&self, proxy: &ProxyFacts<'_>) -> Arc<dyn ProxyHooks> {
        Arc::new(Terminating(proxy.identity.and_then(for_every_client)))
    }
}

struct Terminating(Option<Arc<ServerConfig>>);

impl ProxyHooks for Terminating {
    fn terminate_passthrough(&self) -> Option<Arc<ServerConfig>> {
        self.0.clone()
    }
}

fn for_every_client(identity: &MeshCertificate) -> Option<Arc<ServerConfig>> {
    let key = certified_key(&identity.certificate, &identity.key).ok()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}
