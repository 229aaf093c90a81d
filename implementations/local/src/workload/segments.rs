//! A stream that leaves in small segments at first.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How many segments are small.
const SMALL: usize = 16;
/// The time between two of them, so that the system does not put them together.
const PAUSE: Duration = Duration::from_millis(1);

/// A stream whose first writes are small. TCP divides a message anywhere (RFC 9293, section 3.7).
pub(super) struct Segments<S> {
    stream: S,
    size: Option<usize>,
    left: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Segments<S> {
    /// `size` bytes per segment; absent: nothing is changed.
    pub(super) fn new(stream: S, size: Option<usize>) -> Self {
        Self { stream, size, left: SMALL, pause: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Segments<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Segments<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(size) = this.size.filter(|_| this.left > 0) else {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        };
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let segment = &bytes[..bytes.len().min(size.max(1))];
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, segment))?;
        this.left -= 1;
        this.pause = Some(Box::pin(sleep(PAUSE)));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.size.is_none() {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        }
        let first = pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| &**piece);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.size.is_none() && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
