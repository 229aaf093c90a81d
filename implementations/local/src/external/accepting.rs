//! What every server inside this process needs: a task for each connection, an orderly end, and a barrier that proves
//! that everything that has arrived is dealt with.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use meshproof_harness::backoff::Backoff;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many connections one service holds at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;
/// The first and the longest delay before accepting again when the system cannot accept: it is out of file descriptors.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Asks the task of a connection to answer when it has processed everything that has arrived.
type Ping = oneshot::Sender<()>;

/// How a connection is served.
pub(super) struct Connection<F> {
    /// Runs until the connection has ended. It processes everything that has arrived before it waits for more.
    pub(super) work: F,
    /// If set, everything that has arrived is processed only when `work` ends.
    pub(super) until_its_end: Arc<AtomicBool>,
}

/// The tasks of one service.
pub(super) struct Accepting {
    places: Arc<Semaphore>,
    numbers: AtomicU64,
    /// The suite's own connections, by their local address. They mark a position in the queue and are no evidence.
    markers: Mutex<HashMap<SocketAddr, Ping>>,
    open: Mutex<HashMap<u64, mpsc::UnboundedSender<Ping>>>,
    stopped: CancellationToken,
    tasks: TaskTracker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where connections come from.
pub(super) trait Listener: Send + 'static {
    /// The next connection, and the address of its other end.
    fn next(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.accept().await?;
        // A listener for both families shows IPv4 addresses within IPv6.
        Ok((stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
    }
}

/// Whether the connection that was to be accepted failed, and not accepting itself.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted].contains(&error.kind())
}

impl Accepting {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            numbers: AtomicU64::new(1),
            markers: Mutex::default(),
            open: Mutex::default(),
            stopped: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// A place for one more connection; none if all are taken.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Runs something until it ends or the service stops.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Accepts connections until the service stops. `enter` is given each one with its number, from 1, in the order of
    /// their arrival.
    pub(super) fn listen<F>(
        self: &Arc<Self>,
        listener: impl Listener,
        enter: impl Fn(TcpStream, SocketAddr, u64) -> Connection<F> + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let accepting = Arc::clone(self);
        self.spawn(async move {
            let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
            loop {
                let Ok(place) = Arc::clone(&accepting.places).acquire_owned().await else { return };
                match listener.next().await {
                    Ok((stream, peer)) => {
                        backoff.reset();
                        match accepting.take_marker(&peer) {
                            Some(reached) => {
                                let _waiting_given_up = reached.send(());
                            }
                            None => accepting.enter(place, |number| enter(stream, peer, number)),
                        }
                    }
                    Err(e) if concerns_one_connection(&e) => {}
                    // The connection stays in the system's queue, so the next try would fail at once, too.
                    Err(_) => backoff.wait().await,
                }
            }
        });
    }

    fn enter<F>(self: &Arc<Self>, place: OwnedSemaphorePermit, enter: impl FnOnce(u64) -> Connection<F>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let Connection { work, until_its_end } = enter(number);
        let (pings, mut asked) = mpsc::unbounded_channel::<Ping>();
        lock(&self.open).insert(number, pings);
        let accepting = Arc::clone(self);
        self.spawn(async move {
            let _place = place;
            // Dropping them at the end is an answer, too.
            let mut held = Vec::new();
            tokio::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    () = &mut work => break,
                    Some(done) = asked.recv() => {
                        if until_its_end.load(Ordering::SeqCst) {
                            held.push(done);
                        } else {
                            let _waiting_given_up = done.send(());
                        }
                    }
                }
            }
            lock(&accepting.open).remove(&number);
        });
    }

    fn take_marker(&self, peer: &SocketAddr) -> Option<Ping> {
        lock(&self.markers).remove(peer)
    }

    /// Sends a connection of the suite through the queue of a port. The queue is first in, first out.
    async fn pass_marker(&self, address: SocketAddr) -> io::Result<()> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(address.ip(), 0))?;
        let local = socket.local_addr()?;
        let (reached, wait) = oneshot::channel();
        lock(&self.markers).insert(local, reached);
        let connected = socket.connect(address).await;
        if connected.is_err() {
            self.take_marker(&local);
        }
        let connection = connected?;
        wait.await.map_err(|_| io::Error::other("the accepting task has ended"))?;
        // It ends with a reset. The system remembers connections that end in order for minutes; thousands of them would fill its
        // tables, and a full table (Linux: "nf_conntrack: table full, dropping packet") loses packets of other connections.
        connection.set_zero_linger()
    }

    /// Returns when everything that had arrived at these addresses, on which this service listens, is processed.
    ///
    /// # Errors
    /// The service cannot connect to itself.
    pub(super) async fn barrier(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        // When a marker leaves the queue, every connection before it has left the queue. When a second marker does, the runtime
        // has also seen all data that had arrived on those connections before the first marker.
        for _ in 0..2 {
            let passed = join_all(addresses.iter().map(|at| self.pass_marker(*at))).await;
            passed.into_iter().collect::<io::Result<()>>()?;
        }
        // Then every connection confirms that it has processed what had arrived: its task works before it answers a ping.
        let open: Vec<_> = lock(&self.open).values().cloned().collect();
        let mut waiting = Vec::new();
        for connection in open {
            let (done, wait) = oneshot::channel();
            if connection.send(done).is_ok() {
                waiting.push(wait);
            }
        }
        for wait in waiting {
            // An error means that it has ended, and its evidence is in the store.
            let _ended = wait.await;
        }
        Ok(())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Asks all tasks to end, without waiting for it.
    pub(super) fn cancel(&self) {
        self.stopped.cancel();
    }

    /// Ends all tasks. None is left when it returns.
    pub(super) async fn stop(&self) {
        self.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// The error that a system gives when it has no file descriptors left: EMFILE on Linux, macOS and the BSDs.
    const TOO_MANY_FILES: i32 = 24;

    /// Never accepts.
    struct Exhausted(Arc<AtomicUsize>);

    impl Listener for Exhausted {
        async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
            let attempts = self.0.fetch_add(1, Ordering::SeqCst);
            // If the loop spun, the paused clock would never advance.
            assert!(attempts < 1000, "it spins");
            Err(io::Error::from_raw_os_error(TOO_MANY_FILES))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_pauses_while_the_system_is_out_of_file_descriptors() {
        let attempts = Arc::new(AtomicUsize::new(0));
        let accepting = Accepting::new();
        accepting.listen(Exhausted(Arc::clone(&attempts)), |_, _, _| Connection {
            work: std::future::ready(()),
            until_its_end: Arc::default(),
        });
        tokio::time::sleep(Duration::from_secs(10)).await;
        let attempts = attempts.load(Ordering::SeqCst);
        // 5, 10, 20, ... 320 ms, and then twice a second.
        assert!((20..40).contains(&attempts), "{attempts} attempts within 10 s");
        accepting.stop().await;
    }
}
