//! A request's body on its way upstream, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A request that is sent upstream.
pub(crate) type OutgoingRequest = Request<RequestBody>;

/// A request's body on its way upstream.
pub(crate) struct RequestBody {
    inner: Option<Incoming>,
    progress: Arc<RequestProgress>,
    trailers: Option<fn(&mut HeaderMap)>,
    hides_breaks: bool,
    /// After how many bytes it ends.
    limit: Option<u64>,
}

/// How much of a request's body has passed.
#[derive(Default)]
pub(crate) struct RequestProgress {
    /// Bytes so far; the log's `%BYTES_RECEIVED%`.
    pub(crate) bytes: Arc<AtomicU64>,
    ended: AtomicBool,
    /// The client aborted the body.
    pub(crate) broken: AtomicBool,
}

impl RequestProgress {
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, progress: Arc<RequestProgress>) -> Self {
        if inner.is_end_stream() {
            progress.ended.store(true, Ordering::Release);
            return Self { inner: None, progress, trailers: None, hides_breaks: false, limit: None };
        }
        Self { inner: Some(inner), progress, trailers: None, hides_breaks: false, limit: None }
    }

    fn empty() -> Self {
        Self { inner: None, progress: Arc::default(), trailers: None, hides_breaks: false, limit: None }
    }

    /// The same body with other trailers.
    pub(crate) fn with_trailers(self, change: fn(&mut HeaderMap)) -> Self {
        Self { trailers: Some(change), ..self }
    }

    /// The same body, which ends regularly where its client breaks off.
    pub(crate) fn without_breaks(self) -> Self {
        Self { hides_breaks: true, ..self }
    }

    /// The first bytes of the body, as if no more followed.
    pub(crate) fn cut_after(self, limit: u64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// No body in place of this one, which counts as read to its end.
    pub(crate) fn discarded(self) -> Self {
        self.progress.ended.store(true, Ordering::Release);
        Self { inner: None, ..self }
    }
}

/// A copy of a request that has no body.
pub(crate) fn copy_without_body(request: &OutgoingRequest) -> OutgoingRequest {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.version_mut() = request.version();
    copy
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let mut frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
        if let (Some(change), Some(Ok(frame))) = (self.trailers, &mut frame)
            && let Some(trailers) = frame.trailers_mut()
        {
            change(trailers);
        }
        if let (Some(limit), Some(Ok(frame))) = (self.limit, &mut frame)
            && let Some(data) = frame.data_mut()
        {
            let left = limit.saturating_sub(self.progress.bytes.load(Ordering::Relaxed));
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(frame) };
        let at_end = inner.is_end_stream();
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if at_end || frame.is_trailers() {
                    self.progress.ended.store(true, Ordering::Release);
                }
            }
            Some(Err(_)) if self.hides_breaks => {
                self.progress.ended.store(true, Ordering::Release);
                return Poll::Ready(None);
            }
            Some(Err(_)) => self.progress.broken.store(true, Ordering::Release),
            None => self.progress.ended.store(true, Ordering::Release),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
