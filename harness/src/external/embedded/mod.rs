//! The embedded external service: hyper on rustls, on ephemeral ports of loopback. It answers as nginx would and
//! records what it sees at the moment that it sees it.

pub(crate) mod behaviour;
mod content;
mod serve;
mod settings;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use meshproof_reports::{ExternalService, Side};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use content::{Answer, Content, Incoming};
use content::{Pages, RedirectToHttps};
use settings::TlsSettings;

use super::{ExternalError, ExternalSpec, PlainPort, RunningService};
use crate::store::Store;
use crate::timeouts::Timeouts;

/// How many connections one service holds at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;

/// The port of plain HTTP, as the documents name it.
const PLAIN: u16 = 80;
/// The port of HTTPS, as the documents name it.
const HTTPS: u16 = 443;

/// Starts the embedded kind of external service. The store gets a connection when it is accepted and a request before
/// it is answered, on the side `Service`.
///
/// Besides the pages there is `/echo` on every port that serves pages: it answers 200 with a JSON object of what
/// arrived (`method`, `target`, `authority`, `version`, `headers`, `body_bytes`, `body_sha256`). And there are the forms
/// that a body and a connection can have, with N bytes of [`crate::digest::sample`]:
///
/// | path | answer |
/// | --- | --- |
/// | `/bytes/N` | with their length |
/// | `/chunked/N` | in pieces, without a length |
/// | `/trailers/N` | likewise, and the trailer `x-body-sha256` |
/// | `/no-content` | 204 |
/// | `/hold/KEY` | with their length (N is 4096), the second half withheld until `/release/KEY` was asked for |
/// | `/held/KEY/N` | 200, when N requests are withheld under KEY |
/// | `/websocket` | 101, then every message is sent back |
///
/// # Errors
/// A certificate, key or CA cannot be read; no port can be had.
pub async fn start_embedded(
    spec: ExternalSpec,
    store: Store,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let pages: Arc<dyn Content> = Arc::new(Pages::new(spec.pages));
    let plain: Option<Arc<dyn Content>> = match spec.plain {
        PlainPort::Closed => None,
        PlainPort::RedirectToHttps => Some(Arc::new(RedirectToHttps)),
        PlainPort::Serve => Some(pages.clone()),
    };
    let mut ports = Vec::new();
    if let Some(content) = plain {
        ports.push(Port { documented: PLAIN, tls: None, content });
    }
    if let Some(tls) = &spec.tls {
        let settings = TlsSettings::new(tls)
            .map_err(|reason| ExternalError::Start { service: label(&spec.host), reason })?;
        ports.push(Port { documented: HTTPS, tls: Some(settings), content: pages });
    }
    let service = Embedded::start(&spec.host, ports, store).await?;
    Ok(Box::new(service))
}

fn label(host: &str) -> String {
    format!("the embedded service for {host}")
}

/// One port of a service to be.
pub(crate) struct Port {
    /// As the documents name it.
    pub(crate) documented: u16,
    /// How TLS is spoken there, if it is.
    tls: Option<TlsSettings>,
    /// What is answered.
    content: Arc<dyn Content>,
}

impl Port {
    /// A port that speaks plain HTTP.
    pub(crate) fn plain(documented: u16, content: Arc<dyn Content>) -> Self {
        Self { documented, tls: None, content }
    }
}

/// A running embedded service.
pub(crate) struct Embedded {
    host: String,
    addresses: BTreeMap<u16, SocketAddr>,
    shared: Arc<Shared>,
}

/// Asks a connection's task to say when it has dealt with all that has arrived.
type Ping = oneshot::Sender<()>;

/// What the tasks of one service share.
struct Shared {
    store: Store,
    side: Side,
    numbers: AtomicU64,
    places: Arc<Semaphore>,
    /// The suite's own connections, by their local address: they mark a place in the queue and are no evidence.
    fences: Mutex<HashMap<SocketAddr, Ping>>,
    open: Mutex<HashMap<u64, mpsc::UnboundedSender<Ping>>>,
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    fn take_fence(&self, peer: &SocketAddr) -> Option<Ping> {
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).remove(peer)
    }

    /// Runs something until it ends or the service stops.
    fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = work => {}
            }
        });
    }
}

impl Embedded {
    /// Listens on one ephemeral loopback port for each of `ports`.
    pub(crate) async fn start(host: &str, ports: Vec<Port>, store: Store) -> Result<Self, ExternalError> {
        let shared = Arc::new(Shared {
            store,
            side: Side::Service { host: host.to_owned() },
            numbers: AtomicU64::new(1),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            fences: Mutex::default(),
            open: Mutex::default(),
            stopped: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let mut addresses = BTreeMap::new();
        let mut listeners = Vec::new();
        for port in ports {
            let failed = |e: std::io::Error| ExternalError::Start {
                service: label(host),
                reason: format!("cannot listen on loopback: {e}"),
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
            addresses.insert(port.documented, listener.local_addr().map_err(failed)?);
            listeners.push((listener, Arc::new(port)));
        }
        for (listener, port) in listeners {
            shared.spawn(accept(listener, port, shared.clone()));
        }
        Ok(Self { host: host.to_owned(), addresses, shared })
    }

    /// Sends a connection of our own through the queue of each port; the queue is first in, first out.
    async fn fence(&self) -> std::io::Result<()> {
        for address in self.addresses.values() {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let local = socket.local_addr()?;
            let (reached, wait) = oneshot::channel();
            self.shared.fences.lock().unwrap_or_else(PoisonError::into_inner).insert(local, reached);
            let connected = socket.connect(*address).await;
            if connected.is_err() {
                self.shared.take_fence(&local);
            }
            let _connection = connected?;
            wait.await.map_err(|_| std::io::Error::other("the accepting task has ended"))?;
        }
        Ok(())
    }

    async fn barrier(&self) -> std::io::Result<()> {
        // When a connection of our own comes out of the queue, so has every connection that was there before. When a
        // second one does, the runtime has also heard of all that had arrived on those by the first.
        for _ in 0..2 {
            self.fence().await?;
        }
        // Then every connection says that it has dealt with what had arrived: its task works before it answers a ping.
        let open: Vec<_> =
            self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for connection in open {
            let (done, wait) = oneshot::channel();
            if connection.send(done).is_ok() {
                // An error means that it has ended, with all it had to say in the store.
                let _ended = wait.await;
            }
        }
        Ok(())
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

    async fn settle(&self) -> Result<(), ExternalError> {
        let other = |reason: String| ExternalError::Other { service: label(&self.host), reason };
        if self.shared.stopped.is_cancelled() {
            return Ok(());
        }
        let limit = Timeouts::default().get("evidence-settled");
        match tokio::time::timeout(limit, self.barrier()).await {
            Ok(reached) => reached.map_err(|e| other(format!("cannot reach itself: {e}"))),
            Err(_) => Err(other(format!("evidence-settled: no answer of its own tasks within {limit:?}"))),
        }
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        self.shared.stopped.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        Ok(())
    }
}

async fn accept(listener: TcpListener, port: Arc<Port>, shared: Arc<Shared>) {
    loop {
        let Ok(place) = shared.places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Some(reached) = shared.take_fence(&peer) {
                    let _waiting_given_up = reached.send(());
                    continue;
                }
                enter(stream, peer, &port, &shared, place);
            }
            // The peer has gone again, or the system is out of file descriptors: others may fare better.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn enter(
    stream: TcpStream,
    peer: SocketAddr,
    port: &Arc<Port>,
    shared: &Arc<Shared>,
    place: tokio::sync::OwnedSemaphorePermit,
) {
    let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
    let record = Arc::new(serve::ConnectionRecord::new(shared, number, port, peer));
    let (pings, mut asked) = mpsc::unbounded_channel::<Ping>();
    shared.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, pings);
    let (port, owner) = (port.clone(), shared.clone());
    shared.spawn(async move {
        let _place = place;
        let work = serve::connection(stream, &port, &record, &owner);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = &mut work => break,
                Some(done) = asked.recv() => { let _waiting_given_up = done.send(()); }
            }
        }
        owner.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    });
}
