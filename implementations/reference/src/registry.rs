//! The open connections of a data plane: what is needed to wait until the end of each has been logged, and to close
//! those that a new configuration has no use for.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sniff::Facts;
use crate::tasks::Tasks;

/// How many downstream connections are kept at once; further ones are closed.
const MAX_CONNECTIONS: usize = 4096;

/// A downstream connection. It lives until the connection has ended and everything on it has been logged.
pub(crate) struct Connection {
    id: u64,
    registry: Arc<Registry>,
    pub(crate) bind: SocketAddr,
    pub(crate) proxy: String,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    socket: Weak<TcpStream>,
    facts: Mutex<Option<Facts>>,
    http: AtomicBool,
    secure: AtomicBool,
    in_flight: AtomicUsize,
    /// Asks the connection to end at the next quiet moment.
    pub(crate) drain: CancellationToken,
    /// Ends the connection at once.
    pub(crate) abort: CancellationToken,
}

impl Connection {
    /// What the connection began with, once that is known.
    pub(crate) fn facts(&self) -> Option<Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_facts(&self, facts: Facts) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
    }

    pub(crate) fn set_secure(&self, secure: bool) {
        self.secure.store(secure, Ordering::Relaxed);
    }

    /// Whether TLS was terminated here.
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

    fn peer_state(&self) -> Peer {
        let Some(socket) = self.socket.upgrade() else { return Peer::Closed };
        let mut one = [MaybeUninit::uninit()];
        match SockRef::from(socket.as_ref()).peek(&mut one) {
            Ok(0) => Peer::Closed,
            Ok(_) => Peer::Unread,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Peer::Quiet,
            Err(_) => Peer::Closed,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
        self.registry.changed.notify_waiters();
    }
}

/// A request that has not ended.
pub(crate) struct InFlight(Arc<Connection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.registry.changed.notify_waiters();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It will send no more.
    Closed,
    /// It sent something that was not read yet; behind it may be the end.
    Unread,
    /// Open, and nothing to read.
    Quiet,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Registry {
    open: Mutex<HashMap<u64, Weak<Connection>>>,
    next: AtomicU64,
    orphans: AtomicUsize,
    changed: Notify,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection; none where there are too many.
    pub(crate) fn open(
        self: &Arc<Self>,
        tasks: &Tasks,
        bind: SocketAddr,
        proxy: &str,
        peer: SocketAddr,
        socket: &Arc<TcpStream>,
    ) -> Option<Arc<Connection>> {
        let mut open = self.lock();
        if open.len() >= MAX_CONNECTIONS {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            id,
            registry: Arc::clone(self),
            bind,
            proxy: proxy.to_owned(),
            local: socket.local_addr().unwrap_or(bind),
            peer,
            socket: Arc::downgrade(socket),
            facts: Mutex::new(None),
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
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// An upstream connection lost its last user and is about to close.
    pub(crate) fn orphan(self: &Arc<Self>) -> Orphan {
        self.orphans.fetch_add(1, Ordering::SeqCst);
        Orphan(Arc::clone(self))
    }

    /// Returns when every connection whose client has closed it has ended, or `bound` has passed: a peer that closed
    /// one direction may keep the other open for as long as it likes.
    pub(crate) async fn settle(&self, bound: Duration) {
        self.wait(bound, || {
            self.orphans.load(Ordering::SeqCst) == 0
                && self.connections().iter().all(|c| c.peer_state() == Peer::Quiet)
        })
        .await;
    }

    /// Asks connections to end; returns when each of them has ended or is busy with a request that began before, or
    /// `bound` has passed.
    pub(crate) async fn drain(&self, these: Vec<Arc<Connection>>, bound: Duration) {
        let waiting: Vec<Weak<Connection>> = these
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
        self.wait(bound, done).await;
    }

    /// Returns when a condition holds or `bound` has passed. It is looked at whenever something ends, and otherwise from
    /// time to time: that a socket was read from is nobody's event.
    pub(crate) async fn wait(&self, bound: Duration, holds: impl Fn() -> bool) {
        const LOOK_AGAIN: Duration = Duration::from_millis(1);
        let last = Instant::now() + bound;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() || Instant::now() >= last {
                return;
            }
            let _ = tokio::time::timeout_at(Instant::now() + LOOK_AGAIN, changed).await;
        }
    }
}

/// See [`Registry::orphan`].
pub(crate) struct Orphan(Arc<Registry>);

impl Drop for Orphan {
    fn drop(&mut self) {
        self.0.orphans.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}
