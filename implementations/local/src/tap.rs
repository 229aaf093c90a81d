//! A stream that shows what passes through it, and changes nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use meshproof_harness::trace::ConnectionTrace;
use meshproof_model::{TlsFacts, TlsFailure};

use crate::tls;

/// Watches a stream. It is called with each piece after that has passed.
pub(crate) trait Watch: Send + Sync {
    /// These bytes were read from the other end.
    fn received(&self, _bytes: &[u8]) {}
    /// These bytes were written to the other end.
    fn sent(&self, _bytes: &[u8]) {}
    /// Reading or writing failed.
    fn failed(&self, _error: &io::Error) {}
}

impl Watch for ConnectionTrace {
    fn received(&self, bytes: &[u8]) {
        Self::received(self, bytes);
    }

    fn sent(&self, bytes: &[u8]) {
        Self::sent(self, bytes);
    }
}

/// Remembers why TLS failed. The HTTP/2 library passes an I/O error on as text only, so an alert after the handshake (as in TLS
/// 1.3) could not be recognised.
#[derive(Clone, Default)]
pub(crate) struct FirstTlsError(Arc<Mutex<Option<(String, TlsFailure)>>>);

impl FirstTlsError {
    /// Puts the error, if there was one, into `facts`, and says whether there was.
    pub(crate) fn note(&self, facts: &mut TlsFacts) -> bool {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failed = first.is_some();
        if let Some((words, kind)) = first {
            facts.failure = Some(words);
            facts.failure_kind = Some(kind);
        }
        failed
    }
}

impl Watch for FirstTlsError {
    fn failed(&self, error: &io::Error) {
        if let Some(inner) = tls::inside(error) {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| (inner.to_string(), tls::failure_of(error)));
        }
    }
}

/// A watched stream.
pub(crate) struct Tap<S, W> {
    stream: S,
    watch: W,
}

impl<S, W> Tap<S, W> {
    pub(crate) fn new(stream: S, watch: W) -> Self {
        Self { stream, watch }
    }
}

impl<S: AsyncRead + Unpin, W: Watch + Unpin> AsyncRead for Tap<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.received(&buffer.filled()[before..]);
        }
        if let Poll::Ready(Err(e)) = &polled {
            self.watch.failed(e);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin, W: Watch + Unpin> AsyncWrite for Tap<S, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        match &polled {
            Poll::Ready(Ok(count)) => self.watch.sent(&bytes[..*count]),
            Poll::Ready(Err(e)) => self.watch.failed(e),
            Poll::Pending => {}
        }
        polled
    }

    // Passed on as it is: TLS writes an alert together with what must precede it, in one piece.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        match &polled {
            Poll::Ready(Ok(count)) => {
                let mut left = *count;
                for piece in pieces {
                    let passed = piece.len().min(left);
                    if passed > 0 {
                        self.watch.sent(&piece[..passed]);
                    }
                    left -= passed;
                }
            }
            Poll::Ready(Err(e)) => self.watch.failed(e),
            Poll::Pending => {}
        }
        polled
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
