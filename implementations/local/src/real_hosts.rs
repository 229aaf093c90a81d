//! The documents' own hosts on the internet, for runs with `--live`: how this machine finds and trusts them, and whether they
//! answer as their documents say.
//!
//! A real host is asked with a client library, because only its answer counts. The workload's client
//! ([`crate::workload`]) uses hyper directly, because there every byte must be seen.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, USER_AGENT};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::token;
use meshproof_harness::workload::{MAX_BODY_KEPT, MAX_HOPS, RequestSpec};
use meshproof_model::{
    Exchange, ExchangeError, ExchangeErrorKind, ExternalService, Hop, HopResult, Response,
};
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use url::Url;

use crate::external::{ExternalError, RunningService};
use crate::http_facts;
use crate::workload::{failure, redirect, trust};

/// The documents' ports.
const PORTS: [u16; 2] = [80, 443];
/// How many characters a line of PEM has (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// Finds the addresses of a host.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The addresses, in the order in which they are to be tried.
    ///
    /// # Errors
    /// The host is unknown, or cannot be looked up.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The resolver of the operating system.
struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// How real hosts are found, and whom they must be certified by.
#[derive(Clone)]
pub struct RealHosts {
    resolver: Arc<dyn Resolver>,
    /// PEM; none: the roots that this machine trusts.
    roots: Option<Arc<str>>,
}

impl Default for RealHosts {
    /// By the operating system's resolver and the roots that this machine trusts.
    fn default() -> Self {
        Self { resolver: Arc::new(SystemResolver), roots: None }
    }
}

impl fmt::Debug for RealHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealHosts").field("own_roots", &self.roots.is_some()).finish_non_exhaustive()
    }
}

impl RealHosts {
    /// By another resolver and other roots (PEM): for servers that stand in for the real hosts.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, roots: &str) -> Self {
        Self { resolver, roots: Some(roots.into()) }
    }

    /// PEM: the roots by which real hosts are certified.
    ///
    /// # Errors
    /// This machine has none that can be used.
    pub(crate) async fn roots(&self) -> Result<Arc<str>, ExternalError> {
        static OF_THIS_MACHINE: OnceCell<Arc<str>> = OnceCell::const_new();
        if let Some(roots) = &self.roots {
            return Ok(Arc::clone(roots));
        }
        let read = || async {
            let read = tokio::task::spawn_blocking(machine_roots).await;
            read.unwrap_or_else(|e| Err(e.to_string()))
        };
        OF_THIS_MACHINE.get_or_try_init(read).await.cloned().map_err(|reason| ExternalError::Other {
            service: "this machine trusts no certificate authority".to_owned(),
            reason: format!(
                "{reason}. Install the public ones (Debian and Ubuntu: apt-get install ca-certificates), name a file of \
                 them with SSL_CERT_FILE, or run without --live"
            ),
        })
    }

    /// Finds a host: on each of the documents' ports the first of its addresses that accepts connections.
    ///
    /// # Errors
    /// The host is unknown, or accepts no connection.
    pub(crate) async fn find(&self, host: &str, timeouts: &Timeouts) -> Result<RealHost, ExternalError> {
        let limit = timeouts.get(Timeout::ExternalServiceReady);
        let failed = |reason: String| ExternalError::Other {
            service: format!("the real host {host} cannot be reached from this machine"),
            reason: format!(
                "{reason}. Check this machine's name servers and its connection to the internet, or run without --live"
            ),
        };
        let found = async {
            let mut addresses = BTreeMap::new();
            let mut refused = String::new();
            for port in PORTS {
                let known = self.resolver.resolve(host, port).await;
                for address in known.map_err(|e| failed(format!("its name cannot be resolved ({e})")))? {
                    match TcpStream::connect(address).await {
                        Ok(_) => {
                            addresses.insert(port, address);
                            break;
                        }
                        Err(e) => refused = format!(" ({address}: {e})"),
                    }
                }
            }
            if addresses.is_empty() {
                return Err(failed(format!("none of its addresses accepts connections{refused}")));
            }
            Ok(RealHost { host: host.to_owned(), addresses })
        };
        match tokio::time::timeout(limit, found).await {
            Ok(found) => found,
            Err(_) => Err(failed(format!("external-service-ready: no connection within {limit:?}"))),
        }
    }

    /// Asks a question, and follows redirects if the request wants that. Never fails: a failure is what happened.
    pub(crate) async fn ask(&self, request: &RequestSpec, timeouts: &Timeouts) -> Exchange {
        let started = Instant::now();
        let limit = timeouts.get(Timeout::Request);
        let mut hops = Vec::new();
        let mut url = request.url.clone();
        while hops.len() < MAX_HOPS {
            let left = limit.saturating_sub(started.elapsed());
            let result = match tokio::time::timeout(left, self.hop(request, &url)).await {
                Ok(Ok(response)) => HopResult::Response(response),
                Ok(Err(error)) => HopResult::Error(error),
                Err(_) => HopResult::Error(ExchangeError {
                    kind: ExchangeErrorKind::Timeout,
                    message: format!("request: no whole answer within {limit:?}"),
                }),
            };
            let hop = Hop {
                method: request.method.to_string(),
                url: url.clone(),
                sent: String::new(),
                sent_bytes: 0,
                headers: Vec::new(),
                body_bytes: None,
                body_sha256: None,
                trailers: Vec::new(),
                messages: Vec::new(),
                tls: None,
                result,
            };
            let target = Url::parse(&url).ok().and_then(|url| redirect(&hop, &url));
            hops.push(hop);
            match target.filter(|_| request.follow_redirects) {
                Some((_, next)) => url = next.to_string(),
                None => break,
            }
        }
        let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Exchange { url: request.url.clone(), hops, duration_us }
    }

    async fn hop(&self, request: &RequestSpec, url: &str) -> Result<Response, ExchangeError> {
        let other = |message: String| ExchangeError { kind: ExchangeErrorKind::Other, message };
        let target = Url::parse(url).map_err(|e| other(format!("not a URL: {e}")))?;
        let (Some(host), Some(port)) = (target.host_str(), target.port_or_known_default()) else {
            return Err(other("a URL without a host or a port".to_owned()));
        };
        let addresses = self.resolver.resolve(host, port).await.map_err(|e| other(e.to_string()))?;
        let roots = self.roots().await.map_err(|e| other(e.to_string()))?;
        let tls =
            trust::by_roots(&roots).and_then(|verifier| trust::config(verifier, None)).map_err(other)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .resolve_to_addrs(host, &addresses)
            // Proxies between a mesh and the internet are not asked either.
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .map_err(|e| failure::sorted(&e))?;
        let asked = client
            .request(request.method.clone(), target)
            .header(USER_AGENT, token::user_agent(&request.token))
            .header(ACCEPT, "*/*")
            .send();
        let mut answer = asked.await.map_err(|e| failure::sorted(&e))?;
        let (mut kept, mut truncated) = (Vec::new(), false);
        while let Some(piece) = answer.chunk().await.map_err(|e| failure::sorted(&e))? {
            let room = MAX_BODY_KEPT - kept.len();
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
            truncated = piece.len() > room;
            if truncated {
                break;
            }
        }
        Ok(Response {
            version: http_facts::version(answer.version()),
            status: answer.status().as_u16(),
            headers: http_facts::headers(answer.headers()),
            body: String::from_utf8_lossy(&kept).into_owned(),
            body_bytes: kept.len() as u64,
            body_truncated: truncated,
            body_sha256: None,
            trailers: Vec::new(),
            informational: Vec::new(),
            messages: Vec::new(),
        })
    }
}

/// A host on the internet in the place of an external service. It shows nothing of what it saw.
pub(crate) struct RealHost {
    host: String,
    addresses: BTreeMap<u16, SocketAddr>,
}

#[async_trait]
impl RunningService for RealHost {
    fn describe(&self) -> ExternalService {
        ExternalService {
            host: self.host.clone(),
            kind: ExternalService::LIVE.to_owned(),
            version: "the document's own host".to_owned(),
        }
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.addresses.get(&port).copied()
    }

    async fn settle(&self) -> Result<(), ExternalError> {
        Ok(())
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        Ok(())
    }
}

/// PEM: the roots that this machine trusts, as far as they can be used.
fn machine_roots() -> Result<Arc<str>, String> {
    let found = rustls_native_certs::load_native_certs();
    // Machines have roots that no TLS library takes any more; the others count.
    let usable = |root: &CertificateDer<'_>| RootCertStore::empty().add(root.clone()).is_ok();
    let pem: String = found.certs.iter().filter(|root| usable(root)).map(|root| pem(root)).collect();
    if pem.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(if errors.is_empty() { "none is installed".to_owned() } else { errors.join("; ") });
    }
    Ok(pem.into())
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls;

    #[test]
    fn certificates_of_any_length_become_pem() {
        for length in [1, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let pem = pem(&der);
            assert!(pem.lines().all(|line| line.len() <= PEM_LINE), "{pem}");
            let [read] = tls::certificates(&pem).unwrap().try_into().unwrap();
            assert_eq!(&*read, der, "{pem}");
        }
    }
}
