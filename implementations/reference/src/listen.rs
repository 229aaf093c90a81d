//! Listening sockets, and what happens to the connections that they accept.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::{ActiveListener, ChainAction};
use crate::connections::DownstreamConnection;
use crate::io::{Prefixed, Socket, Stream};
use crate::shared::PlaneShared;
use crate::sniff::{FirstBytes, sniff};
use crate::{http, tcp};

/// How long a downstream TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long accepting pauses when the process has run out of file descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(10);

/// A socket that listens.
pub(crate) struct ListeningSocket {
    stop: CancellationToken,
    closed: oneshot::Receiver<()>,
}

impl ListeningSocket {
    /// Accepts connections in a task of its own.
    pub(crate) fn start(shared: &Arc<PlaneShared>, bind: SocketAddr, socket: TcpListener) -> Self {
        let stop = shared.tasks.child();
        let (closing, closed) = oneshot::channel();
        let (shared, token) = (Arc::clone(shared), stop.clone());
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let _closing = closing;
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = accept(&shared, bind, &socket) => {}
            }
            shut(socket);
        });
        Self { stop, closed }
    }

    /// Closes the socket; returns when it is closed.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        // The sender is dropped after the socket, and never sends.
        let _ = self.closed.await;
    }
}

/// Closes a listening socket: a client that dials it from now on is refused.
///
/// A child process that is being started holds every descriptor of this process until it executes its own
/// program. As long as it does, the system would continue to accept connections that are never served.
/// Shutting the socket down ends that for every holder. Only Linux supports this; elsewhere, dropping the
/// socket is all that can be done.
fn shut(socket: TcpListener) {
    let _not_supported_elsewhere = SockRef::from(&socket).shutdown(std::net::Shutdown::Both);
    drop(socket);
}

async fn accept(shared: &Arc<PlaneShared>, bind: SocketAddr, socket: &TcpListener) {
    loop {
        match socket.accept().await {
            Ok((tcp, peer)) => {
                let shared = Arc::clone(shared);
                let tasks = shared.tasks.clone();
                tasks.spawn(async move { open(&shared, bind, tcp, peer).await });
            }
            Err(e) => {
                if let Some(pause) = pause_after(&e) {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// How long to pause after an error of `accept`. Errors of the connection itself consume it, so that the next
/// attempt meets another one. All others (no file descriptors left, no memory left) come back at once while
/// they last.
fn pause_after(error: &io::Error) -> Option<Duration> {
    let of_the_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    (!of_the_connection).then_some(OUT_OF_DESCRIPTORS)
}

async fn open(shared: &Arc<PlaneShared>, bind: SocketAddr, tcp: TcpStream, peer: SocketAddr) {
    let Some(listener) = shared.config.load().listener(&bind) else { return };
    let socket = Socket::new(tcp);
    let proxy = Arc::clone(&listener.proxy.handle);
    let opened = shared.connections.open(&shared.tasks, bind, proxy, peer, &socket.0);
    let Some(connection) = opened else { return };
    tokio::select! {
        () = connection.abort.cancelled() => {}
        () = serve(shared, &connection, &listener, socket) => {}
    }
}

async fn serve(
    shared: &Arc<PlaneShared>,
    connection: &Arc<DownstreamConnection>,
    listener: &ActiveListener,
    mut socket: Socket,
) {
    let (first, bytes) = if listener.sniffs {
        let sniffed = tokio::select! {
            sniffed = sniff(&mut socket, listener.sniffs_http) => sniffed,
            () = connection.drain.cancelled() => return,
        };
        match sniffed {
            Ok((Some(first), bytes)) => (first, bytes),
            // The connection ended without a byte: Envoy's listener logs nothing either.
            Ok((None, _)) | Err(_) => return,
        }
    } else {
        (FirstBytes::default(), Bytes::new())
    };
    connection.set_first(first.clone());
    // The configuration may have changed while the first bytes were awaited.
    let now = shared.config.load().listener(&connection.bind);
    let Some(listener) = now.filter(|l| l.proxy.handle.name == connection.proxy.name) else { return };
    let Some(chain) = listener.chain(&first) else { return };
    let stream = Prefixed::new(bytes, socket);
    match &chain.tls {
        None => act(shared, connection, &listener, &chain.action, first, false, stream).await,
        Some(config) => {
            let accepting = TlsAcceptor::from(Arc::clone(config)).accept(stream);
            let accepted = tokio::select! {
                accepted = timeout(HANDSHAKE_TIMEOUT, accepting) => accepted,
                () = connection.drain.cancelled() => return,
            };
            // A client without a valid certificate gets no further; Envoy does not log it by default.
            let Ok(Ok(stream)) = accepted else { return };
            let server_name = stream.get_ref().1.server_name().map(str::to_ascii_lowercase);
            let first = FirstBytes::of_tls(server_name);
            connection.set_first(first.clone());
            act(shared, connection, &listener, &chain.action, first, true, stream).await;
        }
    }
}

async fn act(
    shared: &Arc<PlaneShared>,
    connection: &Arc<DownstreamConnection>,
    listener: &Arc<ActiveListener>,
    action: &ChainAction,
    first: FirstBytes,
    secure: bool,
    stream: impl Stream,
) {
    connection.set_secure(secure);
    match action {
        ChainAction::Http(_) => {
            http::serve(Arc::clone(shared), Arc::clone(connection), first, secure, stream).await;
        }
        ChainAction::Tcp(clusters) => {
            let cluster = clusters.next().map_or("", |(_, name)| name);
            tcp::pass(connection, listener, cluster, &first, stream).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn closed_listener_refuses_although_a_starting_process_still_holds_its_descriptor() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let inherited = SockRef::from(&socket).try_clone().unwrap();
        shut(socket);
        let dialled = TcpStream::connect(address).await.map(drop);
        assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let opened_again = TcpListener::bind(address).await;
        assert!(opened_again.is_ok(), "{opened_again:?}");
        drop(inherited);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn accepting_pauses_while_descriptors_or_memory_are_used_up_and_not_for_a_broken_connection() {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        const ENOMEM: i32 = 12;
        const ECONNABORTED: i32 = 103;
        let pause = |code| pause_after(&io::Error::from_raw_os_error(code));
        for code in [EMFILE, ENFILE, ENOMEM] {
            assert_eq!(pause(code), Some(OUT_OF_DESCRIPTORS), "{code}");
        }
        assert_eq!(pause(ECONNABORTED), None);
    }
}
