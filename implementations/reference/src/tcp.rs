//! Passes the bytes of a connection through, unread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access_log::LogRecord;
use crate::config::ActiveListener;
use crate::connect::{CONNECT_TIMEOUT, dial};
use crate::connections::DownstreamConnection;
use crate::hooks::ProxyHooks;
use crate::io::{Counted, Counts, Socket, Stream};
use crate::pool::AlpnChoice;
use crate::sniff::FirstBytes;
use crate::upstream::{ActiveCluster, UpstreamAddress};

/// A drained connection is at rest after this long without a byte in either direction.
const AT_REST: Duration = Duration::from_millis(200);
/// A drained connection that does not come to rest is closed after this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Passes a connection through to a cluster, and logs it when it has ended.
pub(crate) async fn pass(
    connection: &DownstreamConnection,
    listener: &ActiveListener,
    cluster: &str,
    first: &FirstBytes,
    stream: impl Stream,
) {
    let mut record = LogRecord::new(Arc::clone(&connection.proxy));
    let entry = &mut record.entry;
    entry.downstream_local = Some(connection.local);
    entry.downstream_remote = Some(connection.peer);
    entry.server_name.clone_from(&first.server_name);
    entry.cluster = Some(cluster.to_owned());
    let Some(upstream) = listener.proxy.clusters.get(cluster) else {
        entry.flag = Some("NC");
        return;
    };
    let address = match upstream.address(first.server_name.as_deref(), listener.port) {
        UpstreamAddress::At(address) => address,
        UpstreamAddress::NoEndpoint => {
            entry.flag = Some("UH");
            return;
        }
        UpstreamAddress::Unresolved => {
            entry.flag = Some("UF");
            entry.failure = Some("DNS resolution failed".to_owned());
            return;
        }
    };
    entry.upstream_host = Some(address);
    let hooks = connection.proxy.hooks.as_ref();
    let connecting = async {
        let tcp = dial(address, hooks).await?;
        let local = tcp.0.local_addr().ok();
        Ok::<_, String>((originate(upstream, tcp).await?, local))
    };
    let connected =
        timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err("connection timeout".to_owned()));
    let (up, local) = match connected {
        Ok(connected) => connected,
        Err(reason) => {
            entry.flag = Some("UF");
            entry.failure = Some(reason);
            return;
        }
    };
    entry.upstream_local = local;
    let counts = Arc::new(Counts::default());
    let drain = &connection.drain;
    if let Some(config) = hooks.terminate_passthrough().filter(|_| first.tls) {
        let accepting = TlsAcceptor::from(config).accept(stream);
        let Ok(Ok(down)) = timeout(CONNECT_TIMEOUT, accepting).await else { return };
        copy(Counted::new(down, Arc::clone(&counts)), up, &counts, drain, hooks).await;
    } else {
        copy(Counted::new(stream, Arc::clone(&counts)), up, &counts, drain, hooks).await;
    }
    let (read, written) = counts.both();
    record.entry.received.store(read, Ordering::Relaxed);
    record.entry.sent = written;
}

async fn copy(
    mut down: impl Stream,
    mut up: Box<dyn Stream>,
    counts: &Counts,
    drain: &CancellationToken,
    hooks: &dyn ProxyHooks,
) {
    let passing = async {
        match hooks.passing() {
            Some(hook) => hook.pass(&mut down, up.as_mut()).await,
            // An error needs no report: the log shows how many bytes went each way.
            None => drop(copy_bidirectional(&mut down, &mut up).await),
        }
    };
    let drained = async {
        drain.cancelled().await;
        let last = Instant::now() + DRAIN_TIMEOUT;
        let mut before = counts.both();
        while Instant::now() < last {
            tokio::time::sleep(AT_REST).await;
            let now = counts.both();
            if now == before {
                break;
            }
            before = now;
        }
    };
    tokio::select! {
        () = passing => {}
        () = drained => {}
    }
}

async fn originate(upstream: &ActiveCluster, tcp: Socket) -> Result<Box<dyn Stream>, String> {
    match &upstream.tls {
        None => Ok(Box::new(tcp)),
        Some(Err(reason)) => Err(reason.clone()),
        Some(Ok(originator)) => {
            // There is no request whose host could be taken: Envoy's auto_sni and auto_san_validation are its HTTP router's.
            let hooks = upstream.proxy.hooks.as_ref();
            let sni = originator.server_name(None);
            Ok(Box::new(originator.connect(tcp, sni, None, AlpnChoice::All, hooks).await?))
        }
    }
}
