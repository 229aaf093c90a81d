//! Bodies on their way through, counted, and the moment at which each is at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::log::Record;
use crate::pool::Lease;
use crate::registry::InFlight;
use crate::saboteurs::Saboteur;

/// A request's body on its way upstream.
pub(crate) struct RequestBody {
    inner: Option<Incoming>,
    progress: Arc<Progress>,
}

/// How far a request's body has come.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes so far; the log's `%BYTES_RECEIVED%`.
    pub(crate) bytes: Arc<AtomicU64>,
    ended: AtomicBool,
    /// The client broke off.
    pub(crate) broken: AtomicBool,
}

impl Progress {
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, progress: Arc<Progress>) -> Self {
        if inner.is_end_stream() {
            progress.ended.store(true, Ordering::Release);
            return Self { inner: None, progress };
        }
        Self { inner: Some(inner), progress }
    }

    pub(crate) fn empty() -> Self {
        Self { inner: None, progress: Arc::default() }
    }

    /// No body, of which it is noted that it came to its end.
    pub(crate) fn dropped(progress: Arc<Progress>) -> Self {
        progress.ended.store(true, Ordering::Release);
        Self { inner: None, progress }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
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

/// A response's body on its way to the client. The access-log line is written before its last bytes are handed on: whoever
/// has the answer finds it logged.
pub(crate) struct ResponseBody {
    kind: Kind,
    ending: Option<Ending>,
    saboteur: Option<Saboteur>,
}

enum Kind {
    Text(Full<Bytes>),
    Upstream {
        inner: Incoming,
        /// Of the announced length, what is still to come.
        left: Option<u64>,
        deadline: Option<Pin<Box<Sleep>>>,
    },
}

/// What is to be done when a response is at its end.
pub(crate) struct Ending {
    pub(crate) record: Record,
    #[expect(dead_code, reason = "held until the response has ended")]
    pub(crate) in_flight: InFlight,
    pub(crate) lease: Option<Lease>,
    pub(crate) progress: Arc<Progress>,
}

impl Ending {
    fn whole(mut self) {
        self.record.write();
        // With the request's body still on its way, the connection is not fit for another request.
        if let Some(lease) = self.lease.take().filter(|_| self.progress.has_ended()) {
            lease.give_back();
        }
    }

    fn cut_short(mut self, flag: &'static str, details: &'static str) {
        self.record.ended(flag, details);
        self.record.write();
    }
}

/// What ended a response before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the upstream connection broke: {0}")]
    Upstream(#[from] hyper::Error),
    #[error("the route's timeout ran out")]
    Timeout,
}

impl ResponseBody {
    /// A text of the proxy's own. `bodiless`: the answer to HEAD.
    pub(crate) fn text(text: String, bodiless: bool, mut ending: Ending) -> Self {
        let length = text.len() as u64;
        if !bodiless {
            ending.record.fields.sent = length;
        }
        // In one piece, already at hand: nothing can come between the line and the last byte but the client's leaving.
        ending.whole();
        Self { kind: Kind::Text(Full::new(Bytes::from(text))), ending: None, saboteur: None }
    }

    /// What upstream sends. `bodiless`: nothing follows the head, whatever it announces.
    pub(crate) fn upstream(
        inner: Incoming,
        announced: Option<u64>,
        bodiless: bool,
        deadline: Option<Pin<Box<Sleep>>>,
        ending: Ending,
        saboteur: Option<Saboteur>,
    ) -> Self {
        let mut ending = Some(ending);
        if (bodiless || inner.is_end_stream())
            && let Some(ending) = ending.take()
        {
            ending.whole();
        }
        Self { kind: Kind::Upstream { inner, left: announced, deadline }, ending, saboteur }
    }

    /// Nothing; the ending belongs to somebody else.
    pub(crate) fn none() -> Self {
        Self { kind: Kind::Text(Full::default()), ending: None, saboteur: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        let (inner, left, deadline) = match &mut this.kind {
            Kind::Text(text) => {
                return Pin::new(text).poll_frame(cx).map(|f| f.map(|r| r.map_err(|never| match never {})));
            }
            Kind::Upstream { inner, left, deadline } => (inner, left, deadline),
        };
        if deadline.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready()) {
            if let Some(ending) = this.ending.take() {
                ending.cut_short("UT", "response_timeout");
            }
            return Poll::Ready(Some(Err(Cut::Timeout)));
        }
        match ready!(Pin::new(&mut *inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let Some(ending) = &mut this.ending else { return Poll::Ready(Some(Ok(frame))) };
                if frame.is_trailers() && this.saboteur == Some(Saboteur::DropTrailers) {
                    if let Some(ending) = this.ending.take() {
                        ending.whole();
                    }
                    return Poll::Ready(None);
                }
                let mut last = inner.is_end_stream() || frame.is_trailers();
                if let Some(data) = frame.data_ref() {
                    let length = data.len() as u64;
                    ending.record.fields.sent += length;
                    if let Some(left) = left {
                        *left = left.saturating_sub(length);
                        last |= *left == 0;
                    }
                    if this.saboteur == Some(Saboteur::TruncateLargeBody)
                        && ending.record.fields.sent > 64 * 1024
                    {
                        return Poll::Ready(Some(Err(Cut::Timeout)));
                    }
                }
                let cuts = this.saboteur == Some(Saboteur::CutChunkedBody);
                if cuts && left.is_none() && frame.is_data() && !last {
                    // What is still to come is left on a connection that nobody uses again.
                    if let Some(mut ending) = this.ending.take() {
                        ending.record.write();
                        ending.lease = None;
                    }
                    this.kind = Kind::Text(Full::default());
                    return Poll::Ready(Some(Ok(frame)));
                }
                if last && let Some(ending) = this.ending.take() {
                    ending.whole();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(ending) = this.ending.take() {
                    ending.cut_short("UC", "upstream_reset_after_response_started{connection_termination}");
                }
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                if let Some(ending) = this.ending.take() {
                    ending.whole();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_end_stream(),
            Kind::Upstream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => text.size_hint(),
            Kind::Upstream { inner, .. } => inner.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.cut_short("DC", "downstream_remote_disconnect");
        }
    }
}
