//! The suite's own door to an nginx: by its answers the suite knows what nginx has dealt with.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::POLL;
use crate::workload::raw;

/// How long a request that is answered may still be held open by what its client sends: `lingering_time` in the
/// template, and a little.
const LINGERING: Duration = Duration::from_millis(1200);
/// How many turns a connection takes from being accepted to being logged.
const TURNS: usize = 3;

pub(in crate::external) struct Door {
    address: SocketAddr,
    nonce: String,
}

impl Door {
    pub(in crate::external) fn new(address: SocketAddr, nonce: String) -> Self {
        Self { address, nonce }
    }

    /// Asks; the answer is the number of requests in progress, this one included. None: no answer, or another's.
    pub(in crate::external) async fn fence(&self, limit: Duration) -> Option<u64> {
        let reply = raw(self.address, b"GET /fence HTTP/1.0\r\n\r\n", limit).await;
        let text = String::from_utf8_lossy(&reply.received);
        let mut words = text.split_once("\r\n\r\n")?.1.split_whitespace();
        let ours = words.next() == Some("fence") && words.next() == Some(&self.nonce);
        if !ours {
            return None;
        }
        // A request that could not be read counts as being read for as long as its connection lingers.
        let (reading, writing): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(reading + writing)
    }

    /// Returns when everything that happened before is in the logs. None: no answer.
    ///
    /// nginx works through its events in the order in which they came, and writes a line of a log before it turns to
    /// the next event. So an answer to a request that was sent later proves the lines written. More than
    /// once, because a connection that is opened, used and closed at once takes some turns: it is accepted, read from, and
    /// found closed. The exception are answered requests whose connection lingers: they count as in progress until they
    /// are logged.
    pub(in crate::external) async fn barrier(&self, limit: Duration) -> Option<()> {
        for _ in 1..TURNS {
            self.fence(limit).await?;
        }
        let lingering_ends = Instant::now() + LINGERING;
        while self.fence(limit).await? > 1 {
            if Instant::now() > lingering_ends {
                // What is still in progress has no answer.
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Some(())
    }
}
