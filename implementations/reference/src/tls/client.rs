//! Opening TLS to an upstream host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshproof_plan::model::{NameCheck, ServerName as Sni, TlsVersion, UpstreamTls};
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::inputs::{Inputs, Roots};
use super::verify::{Chain, Names, Verifier};
use super::{certified_key, provider};
use crate::io::Socket;
use crate::saboteurs::Saboteur;

/// One cluster's way of opening TLS. Built once a configuration.
pub(crate) struct Client {
    chain: Arc<Chain>,
    names: NameRule,
    sni: Sni,
    alpn: Vec<String>,
    base: ClientConfig,
    saboteur: Option<Saboteur>,
    /// Somebody was verified.
    verified: AtomicBool,
}

enum NameRule {
    FromHost,
    Fixed(Names),
}

/// Which HTTP versions a connection may come to, where the ALPN on offer leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    /// As the plan lists them.
    Any,
    /// HTTP/1.1 alone: an upgrade, or a downstream HTTP/1.1 request that must stay one.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

impl Client {
    /// The error is what the client and the log are told when a connection would be made.
    pub(crate) fn new(
        tls: &UpstreamTls,
        inputs: &Inputs,
        saboteur: Option<Saboteur>,
    ) -> Result<Self, String> {
        let roots = match tls {
            UpstreamTls::MeshMutual { .. } if saboteur == Some(Saboteur::BelieveAnyMeshPeer) => {
                &Roots::Anybody
            }
            UpstreamTls::MeshMutual { .. } | UpstreamTls::Originate(_) => {
                inputs.roots.as_ref().map_err(Clone::clone)?
            }
        };
        let chain = Arc::new(Chain::new(roots, inputs.crl.as_deref(), saboteur)?);
        let key = match inputs.client.as_ref().map_err(Clone::clone)? {
            Some(pair) => Some(
                certified_key(&pair.certificate, &pair.key)
                    .map_err(|e| format!("TLS error: client certificate: {e}"))?,
            ),
            None => None,
        };
        let (names, sni, alpn, floor, ceiling) = match tls {
            UpstreamTls::MeshMutual { sni, peer_identities, alpn } => (
                NameRule::Fixed(Names::Identity(peer_identities.clone())),
                Sni::Fixed(sni.clone()),
                alpn.clone(),
                None,
                None,
            ),
            UpstreamTls::Originate(o) => {
                let names = match &o.names {
                    NameCheck::FromHost => NameRule::FromHost,
                    NameCheck::OneOf(list) => NameRule::Fixed(Names::OneOf(list.clone())),
                    NameCheck::ChainOnly => NameRule::Fixed(Names::Unchecked),
                };
                (names, o.sni.clone(), o.alpn.clone(), o.min_version, o.max_version)
            }
        };
        let base = config(&chain, key, &versions(floor, ceiling))?;
        Ok(Self { chain, names, sni, alpn, base, saboteur, verified: AtomicBool::default() })
    }

    /// The server name for a request to `host` (without port, after any rewrite), if one is sent.
    pub(crate) fn server_name<'a>(&'a self, host: Option<&'a str>) -> Option<&'a str> {
        match &self.sni {
            Sni::Fixed(name) => Some(name),
            Sni::FromHost => host,
            Sni::Absent => None,
        }
    }

    /// Opens TLS on a connection. `sni` is what [`Client::server_name`] gave, `host` the request's host.
    pub(crate) async fn connect(
        &self,
        tcp: Socket,
        sni: Option<&str>,
        host: Option<&str>,
        wish: Wish,
    ) -> Result<TlsStream<Socket>, String> {
        let mut config = self.base.clone();
        let names = match &self.names {
            NameRule::Fixed(names) => names.clone(),
            NameRule::FromHost => Names::OneOf(host.map(str::to_owned).into_iter().collect()),
        };
        let trusting =
            self.saboteur == Some(Saboteur::VerifyOnce) && self.verified.swap(true, Ordering::Relaxed);
        let verifier = match trusting {
            true => Verifier { chain: Arc::new(Chain::Anybody), names: Names::Unchecked },
            false => Verifier { chain: Arc::clone(&self.chain), names },
        };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config.alpn_protocols = self.offer(wish);
        // rustls wants a name and sends none for an address; the verifier above does not look at it.
        let name = match sni {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| "TLS error: the server name is not a DNS name".to_owned())?,
            None => {
                config.enable_sni = false;
                ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
            }
        };
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| reason(&e))
    }

    fn offer(&self, wish: Wish) -> Vec<Vec<u8>> {
        let all = || self.alpn.iter().map(|a| a.as_bytes().to_vec());
        let http2 = |a: &Vec<u8>| a == b"h2" || a == b"istio-h2";
        let some: Vec<Vec<u8>> = match wish {
            Wish::Any => return all().collect(),
            Wish::Http1 => all().filter(|a| !http2(a)).collect(),
            Wish::Http2 => all().filter(http2).collect(),
        };
        if some.is_empty() { all().collect() } else { some }
    }
}

/// In words that name BoringSSL's reason, as Envoy's do.
fn reason(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => {
            format!("TLS error: CERTIFICATE_VERIFY_FAILED: {error}")
        }
        Some(_) | None => format!("TLS error: {error}"),
    }
}

fn versions(
    floor: Option<TlsVersion>,
    ceiling: Option<TlsVersion>,
) -> Vec<&'static SupportedProtocolVersion> {
    let floor = floor.unwrap_or(TlsVersion::Tls12);
    let ceiling = ceiling.unwrap_or(TlsVersion::Tls13);
    [(TlsVersion::Tls13, &rustls::version::TLS13), (TlsVersion::Tls12, &rustls::version::TLS12)]
        .into_iter()
        .filter(|(v, _)| floor <= *v && *v <= ceiling)
        .map(|(_, v)| v)
        .collect()
}

fn config(
    chain: &Arc<Chain>,
    key: Option<Arc<CertifiedKey>>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, String> {
    let verifier = Arc::new(Verifier { chain: Arc::clone(chain), names: Names::Unchecked });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|e| format!("TLS error: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    // Each handshake shows both certificates; a resumed one would hide a rotation.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What a TLS connection came to.
pub(crate) fn is_http2(stream: &TlsStream<Socket>) -> Option<bool> {
    stream.get_ref().1.alpn_protocol().map(|a| a == b"h2" || a == b"istio-h2")
}
