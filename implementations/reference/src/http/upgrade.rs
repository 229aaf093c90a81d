//! A connection that changed its protocol (WebSocket): bytes both ways until it ends, then its log line.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::Context;
use crate::body::Ending;
use crate::io::{Counted, Counts};
use crate::pool::Lease;

/// Joins both ends once each has changed over.
pub(super) fn join(
    context: &Context,
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    lease: Lease,
    ending: Ending,
) {
    let drain = context.connection.drain.clone();
    context.shared.tasks.spawn(async move {
        let _lease = lease;
        // Taken whole: the connection counts as busy until this is over.
        let mut ending = ending;
        if let (Ok(down), Ok(up)) = (downstream.await, upstream.await) {
            let counts = Arc::new(Counts::default());
            let mut down = Counted::new(TokioIo::new(down), Arc::clone(&counts));
            let mut up = TokioIo::new(up);
            tokio::select! {
                // How it ended is told by the bytes.
                _ = copy_bidirectional(&mut down, &mut up) => {}
                () = drain.cancelled() => {}
            }
            let (read, written) = counts.both();
            ending.record.fields.received.store(read, Ordering::Relaxed);
            ending.record.fields.sent = written;
        }
        // Before the sockets go: whoever sees the end finds it logged.
        ending.record.write();
    });
}
