//! The open downstream connections of a data plane: what is needed to wait until the end of each is logged,
//! and to close those that have no place in a new configuration.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::proxy::ProxyHandle;
use crate::sniff::FirstBytes;
use crate::tasks::PlaneTasks;

/// The most downstream connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 4096;

/// A downstream connection. It lives until the connection has ended and everything on it is logged.
pub(crate) struct DownstreamConnection {
    id: u64,
    all: Arc<OpenConnections>,
    /// The address of the listener that accepted it.
    pub(crate) bind: SocketAddr,
    pub(crate) proxy: Arc<ProxyHandle>,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    socket: Weak<TcpStream>,
    first: Mutex<Option<FirstBytes>>,
    http: AtomicBool,
    secure: AtomicBool,
    in_flight: AtomicUsize,
    /// Asks the connection to end once no request is in flight.
    pub(crate) drain: CancellationToken,
    /// Ends the connection at once.
    pub(crate) abort: CancellationToken,
}

impl DownstreamConnection {
    /// What the connection began with, once that is known.
    pub(crate) fn first(&self) -> Option<FirstBytes> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_first(&self, first: FirstBytes) {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
    }

    pub(crate) fn set_secure(&self, secure: bool) {
        self.secure.store(secure, Ordering::Relaxed);
    }

    /// Whether the proxy terminated TLS on it.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure.load(Ordering::Relaxed)
    }

    pub(crate) fn set_http(&self) {
        self.http.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_http(&self) -> bool {
        self.http.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0
    }

    fn peer_state(&self) -> PeerState {
        let Some(socket) = self.socket.upgrade() else { return PeerState::Closed };
        let mut one = [MaybeUninit::uninit()];
        match SockRef::from(socket.as_ref()).peek(&mut one) {
            Ok(0) => PeerState::Closed,
            Ok(_) => PeerState::Unread,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => PeerState::Quiet,
            Err(_) => PeerState::Closed,
        }
    }
}

impl Drop for DownstreamConnection {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
        self.all.activity.notify();
    }
}

/// A request that has not ended.
pub(crate) struct InFlight(Arc<DownstreamConnection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.all.activity.notify();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PeerState {
    /// The peer sends no more.
    Closed,
    /// The peer sent something that was not read yet; its end may follow.
    Unread,
    /// The connection is open, and there is nothing to read.
    Quiet,
}

/// The open downstream connections of one data plane.
#[derive(Default)]
pub(crate) struct OpenConnections {
    open: Mutex<HashMap<u64, Weak<DownstreamConnection>>>,
    next: AtomicU64,
    pub(crate) activity: Arc<Activity>,
}

impl OpenConnections {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<DownstreamConnection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection; `None` if there are too many.
    pub(crate) fn open(
        self: &Arc<Self>,
        tasks: &PlaneTasks,
        bind: SocketAddr,
        proxy: Arc<ProxyHandle>,
        peer: SocketAddr,
        socket: &Arc<TcpStream>,
    ) -> Option<Arc<DownstreamConnection>> {
        let mut open = self.lock();
        if open.len() >= MAX_CONNECTIONS {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(DownstreamConnection {
            id,
            all: Arc::clone(self),
            bind,
            proxy,
            local: socket.local_addr().unwrap_or(bind),
            peer,
            socket: Arc::downgrade(socket),
            first: Mutex::new(None),
            http: AtomicBool::new(false),
            secure: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            drain: tasks.child(),
            abort: tasks.child(),
        });
        open.insert(id, Arc::downgrade(&connection));
        Some(connection)
    }

    /// The connections that are open now.
    pub(crate) fn snapshot(&self) -> Vec<Arc<DownstreamConnection>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Returns when every connection that its client has closed has ended, or `bound` has passed: a peer that
    /// closed one direction may keep the other open for any time.
    pub(crate) async fn settle(&self, bound: Duration) {
        let settled = || {
            !self.activity.is_closing() && self.snapshot().iter().all(|c| c.peer_state() == PeerState::Quiet)
        };
        self.activity.wait(bound, settled).await;
    }

    /// Asks connections to end; returns when each of them has ended or is busy with a request that began
    /// before, or `bound` has passed.
    pub(crate) async fn drain(&self, these: Vec<Arc<DownstreamConnection>>, bound: Duration) {
        let waiting: Vec<Weak<DownstreamConnection>> = these
            .iter()
            .filter(|c| c.is_http())
            .map(|c| {
                c.drain.cancel();
                Arc::downgrade(c)
            })
            .collect();
        these.iter().for_each(|c| c.drain.cancel());
        drop(these);
        let done = || waiting.iter().all(|w| w.upgrade().is_none_or(|c| !c.is_idle()));
        self.activity.wait(bound, done).await;
    }
}
