//! A connection that changed its protocol (WebSocket): bytes in both directions until it ends, then its log
//! line.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::context::RequestContext;
use crate::io::{Counted, Counts};
use crate::pool::Lease;
use crate::response_body::ResponseEnd;

/// Joins the two connections once each has changed its protocol.
pub(super) fn join(
    context: &RequestContext,
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    lease: Lease,
    end: ResponseEnd,
) {
    let drain = context.connection.drain.clone();
    let counts = Arc::new(Counts::default());
    let hooked = context.hooks().upgraded(Arc::clone(&counts));
    let ended = async move {
        match hooked {
            Some(ended) => ended.await,
            None => std::future::pending().await,
        }
    };
    context.shared.tasks.spawn(async move {
        let _lease = lease;
        // Moved as a whole: the connection counts as busy until this task ends.
        let mut end = end;
        if let (Ok(down), Ok(up)) = (downstream.await, upstream.await) {
            let mut down = Counted::new(TokioIo::new(down), Arc::clone(&counts));
            let mut up = TokioIo::new(up);
            tokio::select! {
                // An error needs no report: the log shows how many bytes went each way.
                _ = copy_bidirectional(&mut down, &mut up) => {}
                () = drain.cancelled() => {}
                () = ended => {}
            }
            let (read, written) = counts.both();
            end.record.entry.received.store(read, Ordering::Relaxed);
            end.record.entry.sent = written;
        }
        // Before the sockets close: a client that sees the end finds it logged.
        end.record.write();
    });
}
