//! What every server inside this process needs: a task for each connection, an orderly end, and a barrier that proves
//! that everything that has arrived is dealt with.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use meshproof_harness::backoff::Backoff;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::coop::unconstrained;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many connections one service holds at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;
/// The first and the longest delay before accepting again when the system cannot accept: it is out of file descriptors.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// No system's queue of connections that are not yet accepted is longer (Linux: `net.core.somaxconn`).
const LONGEST_QUEUE: usize = 4096;

/// Asks a task to answer when it has processed everything that has arrived.
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
    ports: Mutex<Vec<mpsc::UnboundedSender<Ping>>>,
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

fn answer(ping: Ping) {
    let _waiting_given_up = ping.send(());
}

/// Asks all of them at once.
fn asked(tasks: Vec<mpsc::UnboundedSender<Ping>>) -> Vec<oneshot::Receiver<()>> {
    let ask = |task: mpsc::UnboundedSender<Ping>| {
        let (ping, answered) = oneshot::channel();
        let _has_ended = task.send(ping);
        answered
    };
    tasks.into_iter().map(ask).collect()
}

/// Returns when the runtime knows of everything that had happened on its sockets before.
///
/// The system reports events in the order in which they happened (Linux: the ready list of `epoll`), so an event of our own is
/// the last of them.
async fn events_delivered() -> io::Result<()> {
    let (mut near, mut far) = UnixStream::pair()?;
    near.write_all(&[0]).await?;
    far.read_exact(&mut [0]).await.map(drop)
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
            ports: Mutex::default(),
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
        let (pings, mut asked) = mpsc::unbounded_channel::<Ping>();
        lock(&self.ports).push(pings);
        self.spawn(async move {
            let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
            // Who waits for an answer, and how many connections can have been in the queue when the question came.
            let mut waiting: Vec<Ping> = Vec::new();
            let mut queued = 0;
            loop {
                let Ok(place) = Arc::clone(&accepting.places).acquire_owned().await else { return };
                let accepted = if queued > 0 {
                    // The scheduler's budget must not make a full queue look empty.
                    unconstrained(listener.next()).now_or_never()
                } else {
                    waiting.drain(..).for_each(answer);
                    tokio::select! {
                        biased;
                        Some(ping) = asked.recv() => {
                            waiting.push(ping);
                            queued = LONGEST_QUEUE;
                            continue;
                        }
                        accepted = listener.next() => Some(accepted),
                    }
                };
                queued = if accepted.is_some() { queued.saturating_sub(1) } else { 0 };
                match accepted {
                    Some(Ok((stream, peer))) => {
                        backoff.reset();
                        accepting.enter(place, |number| enter(stream, peer, number));
                    }
                    Some(Err(e)) if concerns_one_connection(&e) => {}
                    // The connection stays in the system's queue, so the next try would fail at once, too.
                    Some(Err(_)) => backoff.wait().await,
                    None => {}
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
                            answer(done);
                        }
                    }
                }
            }
            lock(&accepting.open).remove(&number);
        });
    }

    /// Returns when everything that had arrived at the ports of this service is processed.
    ///
    /// # Errors
    /// The system is out of file descriptors, or the service no longer accepts connections.
    pub(super) async fn barrier(&self) -> io::Result<()> {
        // What the runtime does not know of yet looks as if it had not arrived: first the connections, then their data.
        events_delivered().await?;
        let ports: Vec<_> = lock(&self.ports).clone();
        for answered in asked(ports) {
            answered.await.map_err(|_| io::Error::other("the accepting task has ended"))?;
        }
        events_delivered().await?;
        let open: Vec<_> = lock(&self.open).values().cloned().collect();
        for answered in asked(open) {
            // An error means that it has ended, and its evidence is in the store.
            let _ended = answered.await;
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
