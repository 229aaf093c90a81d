//! Passing bytes on without looking at them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::io::{Counted, Counts, Stream};
use crate::log::Record;
use crate::plane::Shared;
use crate::pool::dial;
use crate::registry::Connection;
use crate::saboteurs::Saboteur;
use crate::sniff::Facts;
use crate::state::{Bound, Found, Upstream};
use crate::tls::client::Wish;

/// Until TCP and TLS are up; istiod's default `connectTimeout`.
const CONNECTED: Duration = Duration::from_secs(10);
/// No byte either way for so long: a drained connection has come to rest.
const AT_REST: Duration = Duration::from_millis(200);
/// A drained connection that does not come to rest is closed after this.
const DRAINED: Duration = Duration::from_secs(5);

/// Passes a connection on to a cluster, and logs it when it has ended.
pub(crate) async fn pass(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    bound: &Bound,
    cluster: &str,
    facts: &Facts,
    stream: impl Stream,
) {
    let mut record = Record::new(Arc::clone(&shared.boot.logs), &connection.proxy, shared.saboteur);
    let fields = &mut record.fields;
    fields.downstream_local = Some(connection.local);
    fields.downstream_remote = Some(connection.peer);
    fields.server_name.clone_from(&facts.server_name);
    fields.cluster = Some(cluster.to_owned());
    let Some(upstream) = bound.proxy.clusters.get(cluster) else {
        fields.flag = Some("NC");
        return;
    };
    let address = match upstream.address(facts.server_name.as_deref(), bound.port) {
        Found::At(address) => address,
        Found::Nobody => {
            fields.flag = Some("UH");
            return;
        }
        Found::Unresolved => {
            fields.flag = Some("UF");
            fields.failure = Some("DNS resolution failed".to_owned());
            return;
        }
    };
    fields.upstream_host = Some(address);
    let drain = &connection.drain;
    let connecting = async {
        let tcp = dial(address).await?;
        let local = tcp.0.local_addr().ok();
        Ok::<_, String>((secure(upstream, tcp, facts).await?, local))
    };
    let connected =
        timeout(CONNECTED, connecting).await.unwrap_or_else(|_| Err("connection timeout".to_owned()));
    let (up, local) = match connected {
        Ok(connected) => connected,
        Err(reason) => {
            fields.flag = Some("UF");
            fields.failure = Some(reason);
            return;
        }
    };
    fields.upstream_local = local;
    let counts = Arc::new(Counts::default());
    if let Some(acceptor) = intruder(bound, facts) {
        // The application's own TLS ends here, and another begins.
        let Ok(Ok(down)) = timeout(CONNECTED, acceptor.accept(stream)).await else { return };
        run(Counted::new(down, Arc::clone(&counts)), up, &counts, drain).await;
    } else {
        run(Counted::new(stream, Arc::clone(&counts)), up, &counts, drain).await;
    }
    let (read, written) = counts.both();
    record.fields.received.store(read, Ordering::Relaxed);
    record.fields.sent = written;
}

async fn run(mut down: impl Stream, mut up: Box<dyn Stream>, counts: &Counts, drain: &CancellationToken) {
    let drained = async {
        drain.cancelled().await;
        let last = Instant::now() + DRAINED;
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
        // How it ended is told by the bytes.
        _ = copy_bidirectional(&mut down, &mut up) => {}
        () = drained => {}
    }
}

async fn secure(
    upstream: &Upstream,
    tcp: crate::io::Socket,
    facts: &Facts,
) -> Result<Box<dyn Stream>, String> {
    match &upstream.tls {
        None => Ok(Box::new(tcp)),
        Some(Err(reason)) => Err(reason.clone()),
        Some(Ok(client)) => {
            let host = facts.server_name.as_deref();
            let stream = client.connect(tcp, client.server_name(host), host, Wish::Any).await?;
            Ok(Box::new(stream))
        }
    }
}

fn intruder(bound: &Bound, facts: &Facts) -> Option<TlsAcceptor> {
    bound
        .proxy
        .intruder
        .clone()
        .filter(|_| bound.proxy.saboteur == Some(Saboteur::TerminateApplicationTls) && facts.tls)
        .map(TlsAcceptor::from)
}
