//! Opens TLS to the servers of one cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meshproof_plan::model::{NameCheck, ServerName as PlannedServerName, TlsVersion, UpstreamTls};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hooks::{ProxyHooks, TlsConnectionFacts};
use crate::io::Socket;
use crate::pool::AlpnChoice;
use crate::tls::certified_key;
use crate::tls::inputs::TlsInputs;
use crate::tls::verify::{RequiredNames, TrustedChains, UpstreamVerifier};

/// Opens the TLS connections of one cluster. Built once per configuration.
pub(crate) struct TlsOriginator {
    tls: UpstreamTls,
    chains: Arc<TrustedChains>,
    names: NameRule,
    sni: PlannedServerName,
    alpn: Vec<String>,
    base: ClientConfig,
    opened: AtomicU64,
}

enum NameRule {
    FromHost,
    /// One of these, and the host.
    OneOfAndHost(Vec<String>),
    Fixed(RequiredNames),
}

impl TlsOriginator {
    /// # Errors
    /// No connection can be made; the message is what the client and the log are given then.
    pub(crate) fn new(
        tls: &UpstreamTls,
        inputs: &TlsInputs,
        crypto: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let roots = inputs.roots.as_ref().map_err(Clone::clone)?;
        let chains = Arc::new(TrustedChains::new(roots, inputs.crl.as_deref())?);
        let key = match inputs.client.as_ref().map_err(Clone::clone)? {
            Some(pair) => Some(
                certified_key(&pair.certificate, &pair.key)
                    .map_err(|e| format!("TLS error: client certificate: {e}"))?,
            ),
            None => None,
        };
        let (names, sni, alpn, floor, ceiling) = match tls {
            UpstreamTls::MeshMutual { sni, peer_identities, alpn } => (
                NameRule::Fixed(RequiredNames::Identity(peer_identities.clone())),
                PlannedServerName::Fixed(sni.clone()),
                alpn.clone(),
                None,
                None,
            ),
            UpstreamTls::Originate(o) => {
                let names = match &o.names {
                    NameCheck::FromHost => NameRule::FromHost,
                    NameCheck::OneOf(list) => NameRule::Fixed(RequiredNames::OneOf(list.clone())),
                    NameCheck::OneOfAndHost(list) => NameRule::OneOfAndHost(list.clone()),
                    NameCheck::ChainOnly => NameRule::Fixed(RequiredNames::Unchecked),
                };
                (names, o.sni.clone(), o.alpn.clone(), o.min_version, o.max_version)
            }
        };
        let base = config(&chains, key, &versions(floor, ceiling), crypto)?;
        Ok(Self { tls: tls.clone(), chains, names, sni, alpn, base, opened: AtomicU64::new(0) })
    }

    /// The server name for a request to `host` (without port, after any rewrite), if one is sent.
    pub(crate) fn server_name<'a>(&'a self, host: Option<&'a str>) -> Option<&'a str> {
        match &self.sni {
            PlannedServerName::Fixed(name) => Some(name),
            PlannedServerName::FromHost => host,
            PlannedServerName::Absent => None,
        }
    }

    /// Opens TLS on a connection. `sni` is what [`TlsOriginator::server_name`] returned, `host` the request's
    /// host.
    pub(crate) async fn connect(
        &self,
        tcp: Socket,
        sni: Option<&str>,
        host: Option<&str>,
        alpn: AlpnChoice,
        hooks: &dyn ProxyHooks,
    ) -> Result<TlsStream<Socket>, String> {
        let facts = TlsConnectionFacts {
            tls: &self.tls,
            server: tcp.0.peer_addr().ok(),
            earlier: self.opened.fetch_add(1, Ordering::Relaxed),
        };
        let mut config = self.base.clone();
        let names = match &self.names {
            NameRule::Fixed(names) => names.clone(),
            NameRule::FromHost => match host {
                Some(host) => RequiredNames::OneOf(vec![host.to_owned()]),
                None => RequiredNames::Unchecked,
            },
            NameRule::OneOfAndHost(names) => match host {
                Some(host) => RequiredNames::OneOfAndHost(names.clone(), host.to_owned()),
                None => RequiredNames::OneOf(names.clone()),
            },
        };
        let honest = Arc::new(UpstreamVerifier { chains: Arc::clone(&self.chains), names });
        config.dangerous().set_certificate_verifier(hooks.verifier(&facts, honest));
        config.alpn_protocols = self.offer(alpn);
        // rustls requires a name, and sends none for an address; the verifier above does not look at it.
        let name = match sni {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| "TLS error: the server name is not a DNS name".to_owned())?,
            None => {
                config.enable_sni = false;
                ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
            }
        };
        hooks.client_tls(&facts, &mut config);
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| reason(&e))
    }

    fn offer(&self, choice: AlpnChoice) -> Vec<Vec<u8>> {
        let all = || self.alpn.iter().map(|a| a.as_bytes().to_vec());
        let some: Vec<Vec<u8>> = match choice {
            AlpnChoice::All => return all().collect(),
            AlpnChoice::Http1 => all().filter(|a| !is_http2_alpn(a)).collect(),
            AlpnChoice::Http2 => all().filter(|a| is_http2_alpn(a)).collect(),
        };
        let fallback: &[u8] = match choice {
            AlpnChoice::Http2 => b"h2",
            AlpnChoice::All | AlpnChoice::Http1 => b"http/1.1",
        };
        // Where the cluster names none, a pool of connections offers its own version
        // (Envoy, source/common/http/conn_pool_base.cc, `wrapTransportSocketOptions`).
        match (some.is_empty(), self.alpn.is_empty()) {
            (false, _) => some,
            (true, false) => all().collect(),
            (true, true) => vec![fallback.to_vec()],
        }
    }
}

fn is_http2_alpn(value: &[u8]) -> bool {
    value == b"h2" || value == b"istio-h2"
}

/// Whether a connection's ALPN is HTTP/2; `None` without ALPN.
pub(crate) fn negotiated_http2(stream: &TlsStream<Socket>) -> Option<bool> {
    stream.get_ref().1.alpn_protocol().map(is_http2_alpn)
}

/// Names BoringSSL's reason, as Envoy's log does.
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
    chains: &Arc<TrustedChains>,
    key: Option<Arc<CertifiedKey>>,
    versions: &[&'static SupportedProtocolVersion],
    crypto: Arc<CryptoProvider>,
) -> Result<ClientConfig, String> {
    let verifier = UpstreamVerifier { chains: Arc::clone(chains), names: RequiredNames::Unchecked };
    let builder = ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(versions)
        .map_err(|e| format!("TLS error: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    // A full handshake shows both certificates; a resumed session would hide a rotation.
    config.resumption = Resumption::disabled();
    Ok(config)
}
