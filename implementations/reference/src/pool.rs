//! The connections of one cluster. Kept while they are good, lent to one HTTP/1.1 request at a time or to many HTTP/2
//! requests at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::body::RequestBody;
use crate::failure::{Failure, of_hyper};
use crate::io::{Socket, Stream};
use crate::registry::{Orphan, Registry};
use crate::saboteurs::Saboteur;
use crate::tasks::Tasks;
use crate::tls::client::{Client, Wish, is_http2};

/// Until TCP and TLS are up; istiod's default `connectTimeout`.
const CONNECTED: Duration = Duration::from_secs(10);
/// Until a connection that was used before is ready again, after its last response was read whole.
const READY_AGAIN: Duration = Duration::from_secs(1);
/// Idle HTTP/1.1 connections that are kept for one destination.
const MAX_IDLE: usize = 64;
/// Destinations (address, server name, version) that one cluster keeps connections for.
const MAX_DESTINATIONS: usize = 256;
/// The largest head of a response, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// What must be equal for a connection to be shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) address: SocketAddr,
    pub(crate) server_name: Option<String>,
    /// What the certificate is verified against, where that is the request's host.
    pub(crate) host: Option<String>,
    pub(crate) wish: Wish,
}

/// What is spoken where ALPN does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A connection that is in use.
pub(crate) struct Lease {
    sender: Option<Sender>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: SocketAddr,
    pub(crate) reused: bool,
    destination: Destination,
    alive: Alive,
    home: Option<Pool>,
}

/// Shared between the connection's task and whoever may use it, so that the end of its last use is known.
#[derive(Clone)]
struct Alive {
    registry: Arc<Registry>,
    /// Some while the task still runs though nobody can use the connection any more.
    orphan: Arc<Mutex<Closing>>,
}

enum Closing {
    InUse,
    Orphaned(#[expect(dead_code, reason = "held for its Drop")] Orphan),
    Over,
}

impl Alive {
    fn new(registry: Arc<Registry>) -> Self {
        Self { registry, orphan: Arc::new(Mutex::new(Closing::InUse)) }
    }

    fn abandoned(&self) {
        let mut closing = self.orphan.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*closing, Closing::InUse) {
            *closing = Closing::Orphaned(self.registry.orphan());
        }
    }

    fn over(&self) {
        *self.orphan.lock().unwrap_or_else(PoisonError::into_inner) = Closing::Over;
    }
}

struct Idle {
    sender: Sender,
    local: Option<SocketAddr>,
    alive: Alive,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub(crate) struct Pool {
    idle: Arc<Mutex<HashMap<Destination, Vec<Idle>>>>,
    tasks: Tasks,
    registry: Arc<Registry>,
}

impl Pool {
    pub(crate) fn new(tasks: Tasks, registry: Arc<Registry>) -> Self {
        Self { idle: Arc::default(), tasks, registry }
    }

    fn take(&self, destination: &Destination) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(destination)?;
        list.retain(|i| !i.is_closed());
        match list.last() {
            Some(Idle { sender: Sender::Http2(sender), local, alive }) => {
                Some(Idle { sender: Sender::Http2(sender.clone()), local: *local, alive: alive.clone() })
            }
            Some(Idle { sender: Sender::Http1(_), .. }) => list.pop(),
            None => None,
        }
    }

    fn put(&self, destination: Destination, connection: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_DESTINATIONS && !idle.contains_key(&destination) {
            // Hosts come from requests: whoever invents them must not make this grow.
            idle.clear();
        }
        let list = idle.entry(destination).or_default();
        if list.len() < MAX_IDLE {
            list.push(connection);
        }
    }

    /// A connection: one from before if there is one, else a new one.
    pub(crate) async fn lease(
        &self,
        destination: &Destination,
        tls: Option<&Client>,
        spoken: Spoken,
        saboteur: Option<Saboteur>,
    ) -> Result<Lease, Failure> {
        let fresh = saboteur == Some(Saboteur::HandshakePerRequest);
        while let Some(mut idle) = if fresh { None } else { self.take(destination) } {
            if timeout(READY_AGAIN, idle.ready()).await == Ok(true) {
                return Ok(self.lend(idle, destination, true));
            }
        }
        let connecting = self.connect(destination, tls, spoken);
        let idle = match timeout(CONNECTED, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Failure::Connect("connection timeout".to_owned())),
        };
        if let Sender::Http2(sender) = &idle.sender {
            let shared =
                Idle { sender: Sender::Http2(sender.clone()), local: idle.local, alive: idle.alive.clone() };
            self.put(destination.clone(), shared);
        }
        Ok(self.lend(idle, destination, false))
    }

    fn lend(&self, idle: Idle, destination: &Destination, reused: bool) -> Lease {
        // Taken apart by hand: dropping an `Idle` means that nobody uses it any more.
        let (sender, local, alive) = idle.into_parts();
        Lease {
            sender: Some(sender),
            local,
            remote: destination.address,
            reused,
            destination: destination.clone(),
            alive,
            home: Some(self.clone()),
        }
    }

    async fn connect(
        &self,
        destination: &Destination,
        tls: Option<&Client>,
        spoken: Spoken,
    ) -> Result<Idle, Failure> {
        let tcp = dial(destination.address).await.map_err(Failure::Connect)?;
        let local = tcp.0.local_addr().ok();
        match tls {
            None => self.handshake(tcp, local, spoken).await,
            Some(client) => {
                let stream = client
                    .connect(
                        tcp,
                        destination.server_name.as_deref(),
                        destination.host.as_deref(),
                        destination.wish,
                    )
                    .await
                    .map_err(Failure::Connect)?;
                let spoken = match is_http2(&stream) {
                    Some(true) => Spoken::Http2,
                    Some(false) => Spoken::Http1,
                    None => spoken,
                };
                self.handshake(stream, local, spoken).await
            }
        }
    }

    async fn handshake(
        &self,
        stream: impl Stream,
        local: Option<SocketAddr>,
        spoken: Spoken,
    ) -> Result<Idle, Failure> {
        let alive = Alive::new(Arc::clone(&self.registry));
        let ended = OnDrop(alive.clone());
        let io = TokioIo::new(stream);
        let sender = match spoken {
            Spoken::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .max_buf_size(MAX_HEAD)
                    .handshake(io)
                    .await
                    .map_err(|e| of_hyper(&e))?;
                self.tasks.spawn(async move {
                    let _ended = ended;
                    let _ = connection.with_upgrades().await;
                });
                Sender::Http1(sender)
            }
            Spoken::Http2 => {
                let (sender, connection) = http2::Builder::new(self.tasks.clone())
                    .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
                    .handshake(io)
                    .await
                    .map_err(|e| of_hyper(&e))?;
                self.tasks.spawn(async move {
                    let _ended = ended;
                    let _ = connection.await;
                });
                Sender::Http2(sender)
            }
        };
        Ok(Idle { sender, local, alive })
    }
}

/// Opens a TCP connection; the error is in Envoy's words for a connection that failed.
pub(crate) async fn dial(address: SocketAddr) -> Result<Socket, String> {
    TcpStream::connect(address).await.map(Socket::new).map_err(|e| {
        // Envoy gives the C library's words; the most frequent ones are the same everywhere.
        if e.kind() == std::io::ErrorKind::ConnectionRefused {
            "delayed connect error: Connection refused".to_owned()
        } else {
            format!("delayed connect error: {}", e.kind())
        }
    })
}

struct OnDrop(Alive);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.over();
    }
}

impl Idle {
    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(s) => s.is_closed(),
            Sender::Http2(s) => s.is_closed(),
        }
    }

    async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(s) => s.ready().await.is_ok(),
            Sender::Http2(s) => s.ready().await.is_ok(),
        }
    }

    fn into_parts(self) -> (Sender, Option<SocketAddr>, Alive) {
        (self.sender, self.local, self.alive)
    }
}

/// What came of sending a request.
pub(crate) enum Sent {
    Response(Box<Response<Incoming>>),
    /// Not a byte of it was written: it may be sent on another connection.
    Unsent(Box<Request<RequestBody>>),
    /// The connection broke.
    Broken(hyper::Error),
}

impl Lease {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Some(Sender::Http2(_)))
    }

    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        let done = match &mut self.sender {
            Some(Sender::Http1(sender)) => sender.try_send_request(request).await,
            Some(Sender::Http2(sender)) => sender.try_send_request(request).await,
            None => return Sent::Unsent(Box::new(request)),
        };
        match done {
            Ok(response) => Sent::Response(Box::new(response)),
            Err(mut error) => match error.take_message() {
                Some(request) => Sent::Unsent(Box::new(request)),
                None => Sent::Broken(error.into_error()),
            },
        }
    }

    /// The response was read to its end: the connection may serve another request.
    pub(crate) fn give_back(mut self) {
        if let (Some(Sender::Http1(sender)), Some(home)) = (self.sender.take(), self.home.take())
            && !sender.is_closed()
        {
            let idle = Idle { sender: Sender::Http1(sender), local: self.local, alive: self.alive.clone() };
            home.put(self.destination.clone(), idle);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // HTTP/2 connections are shared; their pool keeps them.
        if let Some(Sender::Http1(_)) = self.sender {
            self.alive.abandoned();
        }
    }
}
