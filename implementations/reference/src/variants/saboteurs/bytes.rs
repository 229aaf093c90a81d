//! Saboteurs of connections that are not HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshproof_plan::model::{Action, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, split};
use tokio::time::timeout;

use super::plan::originates;
use crate::hooks::{PassHook, ProxyHooks};
use crate::io::Stream;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

const BOTH: &[Placement] = &[Placement::Sidecar, Placement::EgressGateway];

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "wait-for-clients-bytes",
        "Closes a TCP connection whose client does not speak first.",
        VariantBehaviour::Proxy(|_| Arc::new(Passing(Fault::WaitsForClient))),
    )
    .also_at(BOTH),
    Definition::new(
        "end-with-client",
        "Ends a TCP connection as a whole when its client has ended its direction.",
        VariantBehaviour::Proxy(|_| Arc::new(Passing(Fault::EndsWithClient))),
    )
    .also_at(BOTH),
    Definition::new(
        "end-with-server",
        "Ends a TCP connection as a whole when its server has ended its direction.",
        VariantBehaviour::Proxy(|_| Arc::new(Passing(Fault::EndsWithServer))),
    )
    .also_at(BOTH),
    Definition::new(
        "cut-long-streams",
        "Ends a TCP connection after half a mebibyte from its client.",
        VariantBehaviour::Proxy(|_| Arc::new(Passing(Fault::CutsLong))),
    )
    .also_at(BOTH),
    Definition::new(
        "swallow-nul-bytes",
        "Drops NUL bytes that a client sends over TCP.",
        VariantBehaviour::Proxy(|_| Arc::new(Passing(Fault::SwallowsNul))),
    )
    .also_at(BOTH),
    Definition::new(
        "bytes-in-clear",
        "Opens no TLS to PostgreSQL servers.",
        VariantBehaviour::Plan(|plan| {
            // A conversation in which the server speaks first would only wait.
            let clusters = plan.proxies.iter_mut().flat_map(|p| &mut p.clusters);
            for cluster in clusters.filter(|c| originates(c) && port_of(&c.name) == Some("5432")) {
                cluster.tls = None;
            }
        }),
    )
    .also_at(BOTH),
    Definition::new(
        "first-database",
        "Sends all connections to databases on one port to the first of them.",
        VariantBehaviour::Plan(first_database),
    )
    .also_at(BOTH),
    Definition::new(
        "miscount-bytes",
        "Logs one byte less than a TCP connection carried in each direction.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.request.is_none() {
                let received = entry.received.load(std::sync::atomic::Ordering::Relaxed);
                entry.received.store(received.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
                entry.sent = entry.sent.saturating_sub(1);
            }
        }),
    )
    .also_at(BOTH),
];

/// The port in a cluster's name, `outbound|5432||postgres.example`.
fn port_of(cluster: &str) -> Option<&str> {
    cluster.strip_prefix("outbound|")?.split('|').next()
}

fn first_database(plan: &mut Plan) {
    for proxy in &mut plan.proxies {
        let mut first: Vec<(u16, String)> = Vec::new();
        for listener in &mut proxy.listeners {
            for chain in &mut listener.chains {
                let Action::Tcp { cluster } = &mut chain.action else { continue };
                // Servers of one protocol: others would only wait.
                let known = first
                    .iter()
                    .find(|(on, known)| *on == listener.port && port_of(known) == port_of(cluster));
                match known {
                    Some((_, known)) => cluster.clone_from(known),
                    None if port_of(cluster).is_some() => first.push((listener.port, cluster.clone())),
                    None => {}
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Fault {
    WaitsForClient,
    EndsWithClient,
    EndsWithServer,
    CutsLong,
    SwallowsNul,
}

struct Passing(Fault);

impl ProxyHooks for Passing {
    fn passing(&self) -> Option<&dyn PassHook> {
        Some(self)
    }
}

#[async_trait]
impl PassHook for Passing {
    async fn pass(&self, down: &mut dyn Stream, up: &mut dyn Stream) {
        let _the_connection_ends_with_an_error_as_without = match self.0 {
            Fault::WaitsForClient => wait_for_client(down, up).await,
            Fault::EndsWithClient | Fault::EndsWithServer => end_together(down, up, self.0).await,
            Fault::CutsLong => {
                copy_client(down, up, |bytes, total| {
                    bytes.truncate(
                        usize::try_from((512 * 1024_u64).saturating_sub(total)).unwrap_or(usize::MAX),
                    );
                    !bytes.is_empty()
                })
                .await
            }
            Fault::SwallowsNul => {
                copy_client(down, up, |bytes, _| {
                    bytes.retain(|byte| *byte != 0);
                    true
                })
                .await
            }
        };
    }
}

async fn wait_for_client(down: &mut dyn Stream, up: &mut dyn Stream) -> io::Result<()> {
    /// How long a client may say nothing.
    const SILENCE: Duration = Duration::from_millis(50);
    let mut first = [0; 4096];
    let read = timeout(SILENCE, down.read(&mut first)).await.unwrap_or(Ok(0))?;
    if read == 0 {
        return Ok(());
    }
    up.write_all(&first[..read]).await?;
    up.flush().await?;
    let (mut down, mut up) = (down, up);
    copy_bidirectional(&mut down, &mut up).await.map(drop)
}

/// Copies both ways until the one direction ends.
async fn end_together(down: &mut dyn Stream, up: &mut dyn Stream, which: Fault) -> io::Result<()> {
    let ((mut from_down, mut to_down), (mut from_up, mut to_up)) = (split(down), split(up));
    let sending = async {
        tokio::io::copy(&mut from_down, &mut to_up).await?;
        to_up.shutdown().await
    };
    let answering = async {
        tokio::io::copy(&mut from_up, &mut to_down).await?;
        to_down.shutdown().await
    };
    tokio::pin!(sending, answering);
    if matches!(which, Fault::EndsWithClient) {
        tokio::select! {
            done = &mut sending => done,
            done = &mut answering => match done {
                Ok(()) => sending.await,
                failed => failed,
            },
        }
    } else {
        tokio::select! {
            done = &mut answering => done,
            done = &mut sending => match done {
                Ok(()) => answering.await,
                failed => failed,
            },
        }
    }
}

/// Copies both ways, and what the client says only as `change` leaves it, which is given how much has passed and says whether the
/// connection goes on.
async fn copy_client(
    down: &mut dyn Stream,
    up: &mut dyn Stream,
    change: impl Fn(&mut Vec<u8>, u64) -> bool + Send,
) -> io::Result<()> {
    let ((mut from_down, mut to_down), (mut from_up, mut to_up)) = (split(down), split(up));
    let sending = async {
        let (mut total, mut piece) = (0, vec![0; 16 * 1024]);
        loop {
            let read = from_down.read(&mut piece).await?;
            if read == 0 {
                to_up.shutdown().await?;
                return Ok::<bool, io::Error>(true);
            }
            let mut bytes = piece[..read].to_vec();
            if !change(&mut bytes, total) {
                return Ok(false);
            }
            total += bytes.len() as u64;
            to_up.write_all(&bytes).await?;
            to_up.flush().await?;
        }
    };
    let answering = async {
        tokio::io::copy(&mut from_up, &mut to_down).await?;
        to_down.shutdown().await
    };
    tokio::pin!(sending, answering);
    tokio::select! {
        goes_on = &mut sending => if goes_on? { answering.await } else { Ok(()) },
        done = &mut answering => {
            done?;
            sending.await.map(drop)
        }
    }
}
