//! What an answer does to its connection besides being sent over it: an interim answer before it, and the end after it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// How long a connection may be idle when the server closes it.
pub(super) const IDLE: Duration = Duration::from_millis(5);

/// 103 (RFC 8297) as HTTP/1.1 writes it. hyper has no interim answers.
const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\n\r\n";

/// What is asked of a connection while it is served.
#[derive(Default)]
pub(super) struct Wishes {
    /// What is written before the next answer.
    before: Mutex<Vec<u8>>,
    closing: Notify,
    /// Set once the connection is about to end: what it leaves behind is known only then.
    pub(super) until_its_end: Arc<AtomicBool>,
}

impl Wishes {
    /// Sends 103 before the answer that comes next.
    pub(super) fn hint(&self) {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(EARLY_HINTS);
    }

    /// Closes the connection once it has been idle for [`IDLE`].
    pub(super) fn close(&self) {
        self.until_its_end.store(true, Ordering::SeqCst);
        self.closing.notify_one();
    }

    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }
}

/// A stream into which interim answers are written.
pub(super) struct Interjecting<S> {
    stream: S,
    wishes: Arc<Wishes>,
}

impl<S> Interjecting<S> {
    pub(super) fn new(stream: S, wishes: &Arc<Wishes>) -> Self {
        Self { stream, wishes: Arc::clone(wishes) }
    }
}

impl<S: AsyncWrite + Unpin> Interjecting<S> {
    fn poll_interject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, wishes } = self;
        let mut before = wishes.before.lock().unwrap_or_else(PoisonError::into_inner);
        while !before.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &before))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            before.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Interjecting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Interjecting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interject(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interject(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
