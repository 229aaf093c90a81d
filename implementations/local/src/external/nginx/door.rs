//! The suite's own port of an nginx. Its answers prove what nginx has processed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::workload::raw;

/// How often a condition is checked that cannot be waited for.
pub(in crate::external) const POLL: Duration = Duration::from_millis(5);
/// How long a client can keep an answered request open by sending more: `lingering_time` in the template, and a little more.
const LINGERING: Duration = Duration::from_millis(1200);
/// The number of turns of the event loop between accepting a connection and logging it.
const TURNS: usize = 3;

pub(crate) struct Door {
    address: SocketAddr,
    nonce: String,
    /// The number of barriers so far.
    barriers: AtomicU64,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, nonce: String) -> Self {
        Self { address, nonce, barriers: AtomicU64::default() }
    }

    /// Sends a flush marker. Returns the number of requests in progress, this one included. None: no answer, or that of another program.
    pub(crate) async fn flush(&self, limit: Duration) -> Option<u64> {
        self.marked_flush("", limit).await
    }

    /// Sends a marker request whose line in the log holds the mark.
    async fn marked_flush(&self, mark: &str, limit: Duration) -> Option<u64> {
        let request = format!("GET /flush-marker?token={mark} HTTP/1.0\r\n\r\n");
        let reply = raw(self.address, request.as_bytes(), limit).await;
        let text = String::from_utf8_lossy(&reply.received);
        let mut words = text.split_once("\r\n\r\n")?.1.split_whitespace();
        let ours = words.next() == Some("flush-marker") && words.next() == Some(&self.nonce);
        if !ours {
            return None;
        }
        // A request that could not be read counts as being read for as long as its connection lingers.
        let (reading, writing): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(reading + writing)
    }

    /// Returns when everything that happened before is in the logs, with the mark of a line that must be there, too: where it
    /// is not, nginx cannot write its log. None: no answer.
    ///
    /// nginx works through its events in the order in which they came, and writes a line of a log before it turns to
    /// the next event. So an answer to a request that was sent later proves the lines written. More than
    /// once, because a connection that is opened, used and closed at once takes some turns: it is accepted, read from, and
    /// found closed. The exception are answered requests whose connection lingers: they count as in progress until they
    /// are logged.
    pub(crate) async fn barrier(&self, limit: Duration) -> Option<String> {
        // It is logged after its answer; the answers to the next ones prove that it is.
        let mark = self.barriers.fetch_add(1, Ordering::Relaxed).to_string();
        self.marked_flush(&mark, limit).await?;
        for _ in 2..TURNS {
            self.flush(limit).await?;
        }
        let lingering_ends = Instant::now() + LINGERING;
        while self.flush(limit).await? > 1 {
            if Instant::now() > lingering_ends {
                // What is still in progress has no answer.
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Some(mark)
    }
}
