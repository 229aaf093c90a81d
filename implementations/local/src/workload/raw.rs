//! Bytes to a port, and what came back: for probes that no HTTP client would send.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use meshproof_harness::workload::MAX_BODY_KEPT;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    /// What arrived, up to [`MAX_BODY_KEPT`].
    pub received: Vec<u8>,
    /// How it ended.
    pub end: RawEnd,
}

/// How a raw probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawEnd {
    /// The port is closed.
    Refused,
    /// The other end closed the connection in order.
    Closed,
    /// The connection was reset, or could not be written to.
    Reset,
    /// It was still open when the time was over, or when [`MAX_BODY_KEPT`] bytes had come.
    Open,
}

/// Connects, sends these bytes, and reads until the connection ends or the time is over. The sending side stays open
/// while it reads.
pub async fn raw(address: SocketAddr, bytes: &[u8], limit: Duration) -> RawReply {
    let deadline = Instant::now() + limit;
    let mut received = Vec::new();
    let end = match timeout_at(deadline, converse(address, bytes, &mut received)).await {
        Err(_) => RawEnd::Open,
        Ok(Ok(end)) => end,
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => RawEnd::Refused,
        Ok(Err(_)) => RawEnd::Reset,
    };
    RawReply { received, end }
}

async fn converse(address: SocketAddr, bytes: &[u8], received: &mut Vec<u8>) -> io::Result<RawEnd> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut piece = [0; 4096];
    while received.len() < MAX_BODY_KEPT {
        match stream.read(&mut piece).await? {
            0 => return Ok(RawEnd::Closed),
            count => received.extend_from_slice(&piece[..count]),
        }
    }
    Ok(RawEnd::Open)
}
