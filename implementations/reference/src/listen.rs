//! Listening sockets, and what becomes of a connection that one accepts.

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

use crate::io::{Prefixed, Socket, Stream};
use crate::plane::Shared;
use crate::registry::Connection;
use crate::sniff::{Facts, sniff};
use crate::state::{Bound, Served};
use crate::{http, tcp};

/// Until a downstream TLS handshake is complete, or the first bytes have come that tell what it is.
const HANDSHAKEN: Duration = Duration::from_secs(15);
/// How long accepting pauses when the process has run out of file descriptors.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(10);

/// A socket that listens.
pub(crate) struct Listening {
    stop: CancellationToken,
    closed: oneshot::Receiver<()>,
}

impl Listening {
    /// Accepts connections in a task of its own.
    pub(crate) fn start(shared: &Arc<Shared>, bind: SocketAddr, socket: TcpListener) -> Self {
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
/// A process that is being started holds every descriptor of this one until it becomes its own program, and while it does,
/// the system would go on taking connections that nobody will ever accept. Shutting the socket down ends that for all who
/// hold it. Where a system knows no such thing (it is Linux's), dropping it is all that can be done.
fn shut(socket: TcpListener) {
    let _unknown_elsewhere = SockRef::from(&socket).shutdown(std::net::Shutdown::Both);
    drop(socket);
}

async fn accept(shared: &Arc<Shared>, bind: SocketAddr, socket: &TcpListener) {
    loop {
        match socket.accept().await {
            Ok((tcp, peer)) => {
                let shared = Arc::clone(shared);
                let tasks = shared.tasks.clone();
                tasks.spawn(async move { open(&shared, bind, tcp, peer).await });
            }
            Err(e) if is_of_the_connection(&e) => {}
            Err(_) => tokio::time::sleep(OUT_OF_DESCRIPTORS).await,
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn open(shared: &Arc<Shared>, bind: SocketAddr, tcp: TcpStream, peer: SocketAddr) {
    let Some(bound) = shared.state.load().listener(&bind) else { return };
    let socket = Socket::new(tcp);
    let opened = shared.registry.open(&shared.tasks, bind, &bound.proxy.name, peer, &socket.0);
    let Some(connection) = opened else { return };
    tokio::select! {
        () = connection.abort.cancelled() => {}
        () = serve(shared, &connection, &bound, socket) => {}
    }
}

async fn serve(shared: &Arc<Shared>, connection: &Arc<Connection>, bound: &Bound, mut socket: Socket) {
    let bind = connection.bind;
    let (facts, first) = if bound.sniffs {
        let sniffed = tokio::select! {
            sniffed = sniff(&mut socket) => sniffed,
            () = connection.drain.cancelled() => return,
        };
        match sniffed {
            Ok((Some(facts), first)) => (facts, first),
            // It ended without a byte: Envoy's listener logs nothing either.
            Ok((None, _)) | Err(_) => return,
        }
    } else {
        (Facts::default(), Bytes::new())
    };
    connection.set_facts(facts.clone());
    // The configuration may have changed while the first bytes were waited for.
    let now = shared.state.load().listener(&bind);
    let Some(bound) = now.filter(|b| b.proxy.name == connection.proxy) else { return };
    let Some(chain) = bound.chain(&facts) else { return };
    let stream = Prefixed::new(first, socket);
    match &chain.tls {
        None => act(shared, connection, &bound, &chain.action, facts, false, stream).await,
        Some(config) => {
            let accepting = TlsAcceptor::from(Arc::clone(config)).accept(stream);
            let accepted = tokio::select! {
                accepted = timeout(HANDSHAKEN, accepting) => accepted,
                () = connection.drain.cancelled() => return,
            };
            // A client that cannot prove who it is gets no further; Envoy logs nothing of it by default.
            let Ok(Ok(stream)) = accepted else { return };
            let server_name = stream.get_ref().1.server_name().map(str::to_ascii_lowercase);
            let facts = Facts { tls: true, server_name };
            connection.set_facts(facts.clone());
            act(shared, connection, &bound, &chain.action, facts, true, stream).await;
        }
    }
}

async fn act(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    bound: &Arc<Bound>,
    action: &Served,
    facts: Facts,
    secure: bool,
    stream: impl Stream,
) {
    connection.set_secure(secure);
    match action {
        Served::Http(_) => {
            http::serve(Arc::clone(shared), Arc::clone(connection), facts, secure, stream).await;
        }
        Served::Tcp(cluster) => tcp::pass(shared, connection, bound, cluster, &facts, stream).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_closed_listener_refuses_although_a_starting_process_holds_its_descriptor() {
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
}
