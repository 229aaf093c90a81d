//! Stands between the clients and a container's published ports.
//!
//! What a container engine puts there (a process of its own, rules of the kernel, a virtual machine) hides from nginx
//! who its client is, and lets a connection be accepted long before nginx hears of it. So the suite listens itself,
//! says in a header of the PROXY protocol (HAProxy, "The PROXY protocol", section 2.1) who each client is, and knows
//! of every connection whether nginx has closed it, which it does after it has logged it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::{TcpListener, TcpStream};

use crate::external::accepting::{Accepting, Connection};

/// Relays until it is stopped or dropped.
pub(super) struct Relay {
    addresses: BTreeMap<u16, SocketAddr>,
    accepting: Arc<Accepting>,
}

impl Relay {
    /// Listens on loopback, once for each of the documents' ports, and relays to the published port beside it.
    pub(super) async fn start(published: BTreeMap<u16, SocketAddr>) -> io::Result<Self> {
        let mut relay = Self { addresses: BTreeMap::new(), accepting: Accepting::new() };
        for (documented, to) in published {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            relay.addresses.insert(documented, listener.local_addr()?);
            relay.accepting.listen(listener, move |client, peer, _| {
                let client_ended = Arc::new(AtomicBool::new(false));
                // Once the client has ended, only nginx's end of the connection proves that it is logged.
                Connection { until_its_end: client_ended.clone(), work: pass(client, peer, to, client_ended) }
            });
        }
        Ok(relay)
    }

    pub(super) fn address(&self, documented: u16) -> Option<SocketAddr> {
        self.addresses.get(&documented).copied()
    }

    /// Returns when all that had arrived was handed on, and nginx has closed every connection whose client had ended.
    pub(super) async fn barrier(&self) -> io::Result<()> {
        let addresses: Vec<_> = self.addresses.values().copied().collect();
        self.accepting.barrier(&addresses).await
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

/// Relays one connection until both ends have ended it.
async fn pass(mut client: TcpStream, peer: SocketAddr, to: SocketAddr, client_ended: Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    for stream in [&client, &server] {
        // Small pieces are not held back for more to come.
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
        // A client that is gone has ended, too.
        let _gone = copy(&mut from_client, &mut to_server).await;
        client_ended.store(true, Ordering::SeqCst);
        let _gone = to_server.shutdown().await;
    };
    let down = async {
        if copy(&mut from_server, &mut to_client).await.is_err() {
            // Nobody wants the rest, but its end is waited for.
            let _gone = copy(&mut from_server, &mut sink()).await;
        }
        let _gone = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}

/// The header's text form. Both ends are IPv4: the relay listens there alone.
fn header(peer: SocketAddr, local: SocketAddr) -> String {
    format!("PROXY TCP4 {} {} {} {}\r\n", peer.ip(), local.ip(), peer.port(), local.port())
}
