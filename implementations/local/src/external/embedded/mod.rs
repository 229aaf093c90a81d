//! The embedded external service: hyper on rustls, on ephemeral ports of loopback. It answers as nginx would and
//! records what it sees at the moment that it sees it.

mod answer;
mod behaviour;
mod content;
mod ending;
mod framing;
mod grpc;
mod port;
mod record;
mod serve;
mod settings;
mod site;
mod tcp;
mod weak_offers;
mod web_socket;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshproof_model::{ExternalService, Side};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

pub(crate) use answer::{Answer, Content, Incoming};
use content::{Pages, RedirectToHttps};
pub(crate) use port::Port;
use port::Shared;
use settings::TlsSettings;

use super::accepting::{Accepting, Connection};
use super::service::{ExternalError, RunningService};
use meshproof_harness::external::{ExternalSpec, PlainPort};
use meshproof_harness::served::Listen;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::{Timeout, Timeouts};

/// The port of plain HTTP, as the documents name it.
const PLAIN: u16 = 80;
/// The port of HTTPS, as the documents name it.
const HTTPS: u16 = 443;
/// How many connections wait until they are accepted; as many as tokio's own listeners have.
const BACKLOG: i32 = 1024;

/// Starts the embedded kind of external service. The store gets a connection when it is accepted and a request before
/// it is answered, on the side `Service`.
///
/// Besides the pages there is `/echo` on every port that serves pages: it answers 200 with a JSON object of what
/// arrived (`method`, `target`, `authority`, `version`, `headers`, `body_bytes`, `body_sha256`). The other paths show the forms
/// that a body and a connection can have, with N bytes of [`meshproof_harness::digest::sample`]:
///
/// | path | answer |
/// | --- | --- |
/// | `/bytes/N` | with their length |
/// | `/chunked/N` | in pieces, without a length |
/// | `/trailers/N` | likewise, and the trailer `x-body-sha256` |
/// | `/no-content` | 204 |
/// | `/hold/KEY` | with their length (N is 4096), the second half withheld until a request for `/release/KEY` |
/// | `/held/KEY/N` | 200, as soon as N answers are withheld under KEY |
/// | `/websocket` | 101; then every message is sent back |
///
/// # Errors
/// A certificate, a key or a CA cannot be read, or no port is free.
pub async fn start_embedded(
    spec: ExternalSpec,
    store: Store,
    timeouts: &Timeouts,
) -> Result<Box<dyn RunningService>, ExternalError> {
    Ok(Box::new(embedded(spec, store, timeouts, Listen::Loopback).await?))
}

/// The same, listening there.
pub(crate) async fn embedded(
    spec: ExternalSpec,
    store: Store,
    timeouts: &Timeouts,
    listen: Listen,
) -> Result<Embedded, ExternalError> {
    let pages: Arc<dyn Content> = Arc::new(Pages::new(spec.pages));
    let plain: Option<Arc<dyn Content>> = match spec.plain {
        PlainPort::Closed => None,
        PlainPort::RedirectToHttps => Some(Arc::new(RedirectToHttps)),
        PlainPort::Serve => Some(pages.clone()),
    };
    let mut ports = Vec::new();
    if let Some(content) = plain {
        ports.push(Port { keep_alive: spec.keep_alive, ..Port::plain(PLAIN, content) });
    }
    let unfit = |reason| ExternalError::Start { service: label(&spec.host), reason };
    if let Some(tls) = &spec.tls {
        let settings = TlsSettings::new(tls, store.trace()).map_err(unfit)?;
        let port = Port::plain(HTTPS, Arc::clone(&pages));
        ports.push(Port { tls: Some(settings), keep_alive: spec.keep_alive, ..port });
    }
    for tcp in &spec.tcp {
        let settings = tcp
            .tls
            .as_ref()
            .map(|tls| TlsSettings::without_http(tls, store.trace()))
            .transpose()
            .map_err(unfit)?;
        let port = Port::plain(tcp.number, Arc::clone(&pages));
        ports.push(Port { tls: settings, protocol: Some(tcp.protocol), ..port });
    }
    if spec.ipv6 {
        ports.iter_mut().for_each(|port| port.ip = Ipv6Addr::LOCALHOST.into());
    }
    Embedded::start_at(&spec.host, ports, store, timeouts, listen).await
}

/// A listener for a port.
fn listener(port: &Port, listen: Listen) -> io::Result<TcpListener> {
    let at = |ip: IpAddr, number: u16| -> io::Result<TcpListener> {
        let socket = Socket::new(if ip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }, Type::STREAM, None)?;
        if ip.is_ipv6() {
            // Every address of a pod, of both families.
            socket.set_only_v6(!ip.is_unspecified())?;
        }
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(ip, number).into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match listen {
        Listen::Loopback => at(port.ip, 0),
        // A system without IPv6 has only the other.
        Listen::Everywhere => at(Ipv6Addr::UNSPECIFIED.into(), port.documented)
            .or_else(|_| at(Ipv4Addr::UNSPECIFIED.into(), port.documented)),
    }
}

/// Where this process reaches a listener.
fn reached_at(listener: &TcpListener) -> io::Result<SocketAddr> {
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(address)
}

fn label(host: &str) -> String {
    format!("the embedded service for {host}")
}

/// A running embedded service. It stops when it is dropped, too, without waiting for its connections to end.
pub(crate) struct Embedded {
    host: String,
    addresses: BTreeMap<u16, SocketAddr>,
    /// The timeout `evidence-settled`.
    settled_within: Duration,
    shared: Arc<Shared>,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.accepting.cancel();
    }
}

impl Embedded {
    /// Listens on one ephemeral loopback port for each of `ports`.
    pub(crate) async fn start(
        host: &str,
        ports: Vec<Port>,
        store: Store,
        timeouts: &Timeouts,
    ) -> Result<Self, ExternalError> {
        Self::start_at(host, ports, store, timeouts, Listen::Loopback).await
    }

    async fn start_at(
        host: &str,
        ports: Vec<Port>,
        store: Store,
        timeouts: &Timeouts,
        listen: Listen,
    ) -> Result<Self, ExternalError> {
        let shared = Arc::new(Shared {
            store,
            side: Side::Service { host: host.to_owned() },
            accepting: Accepting::new(),
            timeouts: timeouts.clone(),
        });
        let mut addresses = BTreeMap::new();
        let mut listeners = Vec::new();
        for port in ports {
            let failed = |e: std::io::Error| ExternalError::Start {
                service: label(host),
                reason: match listen {
                    Listen::Loopback => format!("cannot listen on loopback: {e}"),
                    Listen::Everywhere => format!("cannot listen on port {}: {e}", port.documented),
                },
            };
            let listener = listener(&port, listen).map_err(failed)?;
            addresses.insert(port.documented, reached_at(&listener).map_err(failed)?);
            listeners.push((listener, Arc::new(port)));
        }
        for (listener, port) in listeners {
            let owner = Arc::clone(&shared);
            shared.accepting.listen(listener, move |stream, peer, number| {
                let local = stream.local_addr().ok();
                let record = Arc::new(record::ConnectionRecord::new(&owner, number, &port, local, peer));
                let (port, owner) = (Arc::clone(&port), Arc::clone(&owner));
                let wishes = Arc::<ending::Wishes>::default();
                let until_its_end = Arc::clone(&wishes.until_its_end);
                let work = async move { serve::connection(stream, &port, &record, &owner, &wishes).await };
                Connection { work, until_its_end }
            });
        }
        let settled_within = timeouts.get(Timeout::EvidenceSettled);
        Ok(Self { host: host.to_owned(), addresses, settled_within, shared })
    }
}

#[async_trait]
impl RunningService for Embedded {
    fn describe(&self) -> ExternalService {
        ExternalService {
            host: self.host.clone(),
            kind: "embedded".to_owned(),
            version: concat!("meshproof-embedded/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.addresses.get(&port).copied()
    }

    fn ports(&self) -> Vec<u16> {
        self.addresses.keys().copied().collect()
    }

    async fn settle(&self) -> Result<(), ExternalError> {
        let other = |reason: String| ExternalError::Other { service: label(&self.host), reason };
        if self.shared.accepting.is_stopped() {
            return Ok(());
        }
        let limit = self.settled_within;
        match tokio::time::timeout(limit, self.shared.accepting.barrier()).await {
            Ok(reached) => reached.map_err(|e| other(format!("evidence-settled: {e}"))),
            Err(_) => {
                Err(other(format!("evidence-settled: its connections did not report within {limit:?}")))
            }
        }
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        self.shared.accepting.stop().await;
        Ok(())
    }
}
