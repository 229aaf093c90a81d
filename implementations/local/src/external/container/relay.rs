//! Relays connections from the clients to the ports that a container publishes.
//!
//! A container engine publishes ports with a process, with rules of the kernel or with a virtual machine. These hide from nginx
//! who its client is, and accept a connection long before nginx sees it. So the suite listens itself and sends each client's
//! address in a header of the PROXY protocol (HAProxy, "The PROXY protocol", section 2.1). It also knows for every connection
//! whether nginx has closed it, which nginx does after it has logged it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream};

use crate::external::accepting::{Accepting, Connection};

/// Relays connections until it is stopped or dropped.
pub(super) struct Relay {
    addresses: BTreeMap<u16, SocketAddr>,
    accepting: Arc<Accepting>,
}

impl Relay {
    /// Listens on loopback, once for each of the documents' ports, and relays to the corresponding published port.
    pub(super) async fn start(published: BTreeMap<u16, SocketAddr>) -> io::Result<Self> {
        let mut relay = Self { addresses: BTreeMap::new(), accepting: Accepting::new() };
        for (documented, to) in published {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            relay.addresses.insert(documented, listener.local_addr()?);
            relay.accepting.listen(listener, move |client, peer, _| {
                let client_ended = Arc::new(AtomicBool::new(false));
                // After the client has ended its side, only nginx's end of the connection proves that nginx has logged it.
                Connection { until_its_end: client_ended.clone(), work: pass(client, peer, to, client_ended) }
            });
        }
        Ok(relay)
    }

    pub(super) fn address(&self, documented: u16) -> Option<SocketAddr> {
        self.addresses.get(&documented).copied()
    }

    /// Returns when everything that had arrived is relayed, and nginx has closed every connection whose client had ended.
    pub(super) async fn barrier(&self) -> io::Result<()> {
        self.accepting.barrier().await
    }

    pub(super) async fn stop(&self) {
        self.accepting.stop().await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.cancel();
    }
}

/// Relays one connection until both sides have ended it.
async fn pass(mut client: TcpStream, peer: SocketAddr, to: SocketAddr, client_ended: Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    for stream in [&client, &server] {
        // Small pieces are sent at once.
        let _only_slower = stream.set_nodelay(true);
    }
    let header = client.local_addr().map(|local| header(peer, local));
    let Ok(header) = header else { return };
    if server.write_all(header.as_bytes()).await.is_err() {
        return;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        // A client that vanished has also ended its side.
        let _gone = copy(&mut from_client, &mut to_server).await;
        client_ended.store(true, Ordering::SeqCst);
        let _gone = to_server.shutdown().await;
    };
    let down = async {
        if copy(&mut from_server, &mut to_client).await.is_err() {
            // The rest is thrown away, but its end matters.
            let _gone = copy(&mut from_server, &mut sink()).await;
        }
        let _gone = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}

/// The text form of the header. Both addresses are IPv4: the relay listens on no other.
fn header(peer: SocketAddr, local: SocketAddr) -> String {
    format!("PROXY TCP4 {} {} {} {}\r\n", peer.ip(), local.ip(), peer.port(), local.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn in_time<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(LIMIT, work).await.expect("in time")
    }

    async fn relayed() -> (Relay, TcpListener) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let published = BTreeMap::from([(80, server.local_addr().unwrap())]);
        (Relay::start(published).await.unwrap(), server)
    }

    #[tokio::test]
    async fn the_server_learns_the_clients_address_before_the_first_byte() {
        let (relay, server) = relayed().await;
        let at = relay.address(80).unwrap();
        let mut client = TcpStream::connect(at).await.unwrap();
        let own = client.local_addr().unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut accepted, _) = in_time(server.accept()).await.unwrap();
        let mut received = String::new();
        in_time(accepted.read_to_string(&mut received)).await.unwrap();
        let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own.port(), at.port());
        assert_eq!(received, format!("{header}hello"));
        accepted.write_all(b"answer").await.unwrap();
        drop(accepted);
        let mut answer = String::new();
        in_time(client.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "answer");
    }

    #[tokio::test]
    async fn the_barrier_waits_for_the_servers_end_of_a_connection_that_its_client_has_ended() {
        let (relay, server) = relayed().await;
        drop(TcpStream::connect(relay.address(80).unwrap()).await.unwrap());
        let (mut accepted, _) = in_time(server.accept()).await.unwrap();
        let mut received = Vec::new();
        in_time(accepted.read_to_end(&mut received)).await.unwrap();
        let mut barrier = Box::pin(relay.barrier());
        // Enough turns for a barrier that has nothing to wait for.
        let turns = async {
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = &mut barrier => panic!("the server still holds it"),
            () = turns => {}
        }
        drop(accepted);
        in_time(barrier).await.unwrap();
    }

    #[tokio::test]
    async fn the_barrier_does_not_wait_for_a_client_that_stays() {
        let (relay, server) = relayed().await;
        let _client = TcpStream::connect(relay.address(80).unwrap()).await.unwrap();
        let _accepted = in_time(server.accept()).await.unwrap();
        in_time(relay.barrier()).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_resets_its_connection_ends_it_for_the_server_too() {
        let (relay, server) = relayed().await;
        let client = TcpStream::connect(relay.address(80).unwrap()).await.unwrap();
        let (mut accepted, _) = in_time(server.accept()).await.unwrap();
        accepted.write_all(b"never read").await.unwrap();
        in_time(client.readable()).await.unwrap();
        // Closing a socket with unread data resets the connection.
        drop(client);
        let mut received = Vec::new();
        in_time(accepted.read_to_end(&mut received)).await.unwrap();
        drop(accepted);
        in_time(relay.barrier()).await.unwrap();
    }

    #[tokio::test]
    async fn its_ports_are_closed_after_it_was_stopped() {
        let (relay, _server) = relayed().await;
        relay.stop().await;
        assert!(TcpStream::connect(relay.address(80).unwrap()).await.is_err());
    }
}
