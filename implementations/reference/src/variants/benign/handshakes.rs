//! Unusual ClientHellos and sessions.

use std::sync::Arc;

use meshproof_local::tls::provider;
use meshproof_plan::model::UpstreamTls;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;

use crate::hooks::{ProxyHooks, TlsConnectionFacts};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::sessions::{ResumedSessions, Sharing};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "hello-retry-request",
        "Offers first a key share that servers answer with a HelloRetryRequest (RFC 8446 section 4.1.4).",
        VariantBehaviour::Proxy(|_| Arc::new(HelloRetryRequest)),
    ),
    Definition::new(
        "post-quantum-key-share",
        "Offers the hybrid X25519MLKEM768 first (draft-ietf-tls-ecdhe-mlkem).",
        VariantBehaviour::Proxy(|_| Arc::new(PostQuantumKeyShare)),
    ),
    Definition::new(
        "grease-alpn",
        "Offers a reserved ALPN value to external services after the configured ones (RFC 8701 section 3.1).",
        VariantBehaviour::ClientTls(|connection, config| {
            if offers_alpn(connection, config) {
                config.alpn_protocols.push(vec![0x8a, 0x8a]);
            }
        }),
    ),
    Definition::new(
        "grease-alpn-first",
        "Offers a reserved ALPN value to external services before the configured ones (RFC 8701 section 3.1).",
        VariantBehaviour::ClientTls(|connection, config| {
            if offers_alpn(connection, config) {
                config.alpn_protocols.insert(0, vec![0x0a, 0x0a]);
            }
        }),
    ),
    Definition::new(
        "no-alpn-for-http1",
        "Offers no ALPN where the plan offers HTTP/1.1 alone (RFC 7301 section 3.1: the extension is optional).",
        VariantBehaviour::ClientTls(|connection, config| {
            let http1_alone = config.alpn_protocols.iter().all(|name| name == b"http/1.1");
            if matches!(connection.tls, UpstreamTls::Originate(_)) && http1_alone {
                config.alpn_protocols.clear();
            }
        }),
    ),
    Definition::new(
        "other-cipher-order",
        "Offers the cipher suites in the reverse order (RFC 8446 section 4.1.2: the order is the client's preference).",
        VariantBehaviour::Proxy(|_| Arc::new(OtherCipherOrder)),
    ),
    Definition::new(
        "small-tls-records",
        "Splits its handshakes and data into TLS records of 256 bytes (RFC 8446 section 5.1).",
        VariantBehaviour::ClientTls(|_, config| config.max_fragment_size = Some(256)),
    ),
    Definition::new(
        "resume-sessions",
        "Resumes TLS sessions with external services where nothing has changed since (RFC 8446 section 2.2).",
        VariantBehaviour::Proxy(|_| Arc::new(ResumedSessions::new(Sharing::Policy))),
    ),
];

fn offers_alpn(connection: &TlsConnectionFacts<'_>, config: &ClientConfig) -> bool {
    matches!(connection.tls, UpstreamTls::Originate(_)) && !config.alpn_protocols.is_empty()
}

struct HelloRetryRequest;

impl ProxyHooks for HelloRetryRequest {
    fn client_crypto(&self) -> Arc<CryptoProvider> {
        let mut crypto = provider().as_ref().clone();
        // A client offers a key share of its first group only.
        crypto.kx_groups.retain(|group| group.name() != kx_group::SECP384R1.name());
        crypto.kx_groups.insert(0, kx_group::MLKEM768);
        Arc::new(crypto)
    }
}

struct PostQuantumKeyShare;

impl ProxyHooks for PostQuantumKeyShare {
    fn client_crypto(&self) -> Arc<CryptoProvider> {
        let mut crypto = provider().as_ref().clone();
        crypto.kx_groups.retain(|group| group.name() != kx_group::X25519MLKEM768.name());
        crypto.kx_groups.insert(0, kx_group::X25519MLKEM768);
        Arc::new(crypto)
    }
}

struct OtherCipherOrder;

impl ProxyHooks for OtherCipherOrder {
    fn client_crypto(&self) -> Arc<CryptoProvider> {
        let mut crypto = provider().as_ref().clone();
        crypto.cipher_suites.reverse();
        Arc::new(crypto)
    }
}
