//! Opens connections to upstreams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::failure::{UpstreamFailure, of_hyper};
use crate::hooks::ProxyHooks;
use crate::io::{Socket, Stream};
use crate::origination::negotiated_http2;
use crate::pool::{ConnectionUse, Lease, PooledConnection, RequestSender, UpstreamDestination};
use crate::upstream::ActiveCluster;

/// How long connecting may take, TLS included; istiod's default `connectTimeout`.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a pooled connection may take to become ready after its last response was read completely.
const READY_AGAIN: Duration = Duration::from_secs(1);
/// The largest head of a response, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The HTTP version on a connection whose ALPN does not decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireVersion {
    Http1,
    Http2,
}

/// A connection for one request: an idle one if there is one, else a new one.
pub(crate) async fn lease(
    cluster: &Arc<ActiveCluster>,
    destination: &UpstreamDestination,
    version: WireVersion,
) -> Result<Lease, UpstreamFailure> {
    let hooks = cluster.proxy.hooks.as_ref();
    if hooks.reuses_connections() {
        while let Some(mut idle) = cluster.pool.take(destination) {
            let ready = timeout(READY_AGAIN, idle.ready()).await == Ok(true);
            if ready {
                return Ok(cluster.pool.lend(idle, destination.clone(), true));
            }
        }
    }
    let connection = open(cluster, destination, version).await?;
    for _ in 0..hooks.spare_connections() {
        let (cluster, destination) = (Arc::clone(cluster), destination.clone());
        let tasks = cluster.tasks.clone();
        tasks.spawn(async move {
            // The server decides whether it takes further connections; the request has one already.
            if let Ok(spare) = open(&cluster, &destination, version).await {
                cluster.pool.put(destination, spare);
            }
        });
    }
    Ok(cluster.pool.lend(connection, destination.clone(), false))
}

async fn open(
    cluster: &ActiveCluster,
    destination: &UpstreamDestination,
    version: WireVersion,
) -> Result<PooledConnection, UpstreamFailure> {
    let originator = match &cluster.tls {
        None => None,
        Some(Ok(originator)) => Some(originator),
        // Without its certificates and keys, a cluster does not even connect.
        Some(Err(reason)) => return Err(UpstreamFailure::Connect(reason.clone())),
    };
    let connecting = async {
        let hooks = cluster.proxy.hooks.as_ref();
        let tcp = dial(destination.address, hooks).await.map_err(UpstreamFailure::Connect)?;
        let local = tcp.0.local_addr().ok();
        let Some(originator) = originator else {
            return handshake(cluster, tcp, local, version).await;
        };
        let (sni, host) = (destination.server_name.as_deref(), destination.verified_host.as_deref());
        let stream = originator
            .connect(tcp, sni, host, destination.alpn, hooks)
            .await
            .map_err(UpstreamFailure::Connect)?;
        let version = match negotiated_http2(&stream) {
            Some(true) => WireVersion::Http2,
            Some(false) => WireVersion::Http1,
            None => version,
        };
        handshake(cluster, stream, local, version).await
    };
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(UpstreamFailure::Connect("connection timeout".to_owned())),
    }
}

async fn handshake(
    cluster: &ActiveCluster,
    stream: impl Stream,
    local: Option<SocketAddr>,
    version: WireVersion,
) -> Result<PooledConnection, UpstreamFailure> {
    let usage = ConnectionUse::new(Arc::clone(&cluster.activity));
    let closed = usage.closes_on_drop();
    let io = TokioIo::new(stream);
    let sender = match version {
        WireVersion::Http1 => {
            let mut settings = http1::Builder::new();
            settings.max_buf_size(MAX_HEAD);
            cluster.proxy.hooks.http1_client(&mut settings);
            let (sender, connection) = settings.handshake(io).await.map_err(|e| of_hyper(&e))?;
            cluster.tasks.spawn(async move {
                let _closed = closed;
                let _ = connection.with_upgrades().await;
            });
            RequestSender::Http1(sender)
        }
        WireVersion::Http2 => {
            let (sender, connection) = http2::Builder::new(cluster.tasks.clone())
                .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
                .handshake(io)
                .await
                .map_err(|e| of_hyper(&e))?;
            cluster.tasks.spawn(async move {
                let _closed = closed;
                let _ = connection.await;
            });
            RequestSender::Http2(sender)
        }
    };
    Ok(PooledConnection { sender, local, usage })
}

/// Opens a TCP connection; the error is in Envoy's words for a connection that failed.
pub(crate) async fn dial(address: SocketAddr, hooks: &dyn ProxyHooks) -> Result<Socket, String> {
    let connecting = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        hooks.upstream_socket(&socket, address)?;
        socket.connect(address).await
    };
    connecting.await.map(Socket::new).map_err(|e| {
        // Envoy logs the C library's message; the most frequent one is the same on every system.
        if e.kind() == io::ErrorKind::ConnectionRefused {
            "delayed connect error: Connection refused".to_owned()
        } else {
            format!("delayed connect error: {}", e.kind())
        }
    })
}
