//! A response's body on its way to the client, counted, and what happens at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::access_log::LogRecord;
use crate::connections::InFlight;
use crate::hooks::{BodyFilter, BodyPosition, Filtered};
use crate::pool::Lease;
use crate::request_body::RequestProgress;

/// A response's body on its way to the client. The access-log line is written before the last bytes are
/// passed on: a client that has the whole answer finds it logged.
pub(crate) struct ResponseBody {
    source: BodySource,
    end: Option<ResponseEnd>,
}

enum BodySource {
    Text(Full<Bytes>),
    Upstream(UpstreamBody),
}

/// What an upstream sends.
pub(crate) struct UpstreamBody {
    pub(crate) inner: Incoming,
    /// How much of the announced length is still to come; `None` if no length was announced.
    pub(crate) left: Option<u64>,
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
    pub(crate) filter: Option<Box<dyn BodyFilter>>,
}

/// What is done when a response has ended.
pub(crate) struct ResponseEnd {
    pub(crate) record: LogRecord,
    #[expect(dead_code, reason = "held until the response has ended")]
    pub(crate) in_flight: InFlight,
    pub(crate) lease: Option<Lease>,
    pub(crate) progress: Arc<RequestProgress>,
}

impl ResponseEnd {
    fn complete(mut self) {
        self.record.write();
        // While the request's body is still on its way, the connection cannot serve another request.
        if let Some(lease) = self.lease.take().filter(|_| self.progress.has_ended()) {
            lease.give_back();
        }
    }

    fn cut_short(mut self, flag: &'static str, details: &'static str) {
        self.record.entry.ended(flag, details);
        self.record.write();
    }
}

/// What ended a response too early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyCut {
    #[error("the upstream connection broke: {0}")]
    Upstream(#[from] hyper::Error),
    #[error("the route's timeout passed")]
    Timeout,
    #[error("the proxy aborted the response")]
    Aborted,
}

impl ResponseBody {
    /// A text of the proxy's own. `bodiless`: the answer to HEAD.
    pub(crate) fn text(text: String, bodiless: bool, mut end: ResponseEnd) -> Self {
        let length = text.len() as u64;
        if !bodiless {
            end.record.entry.sent = length;
        }
        // The text is complete; nothing can come between the log line and the last byte, except that the
        // client leaves.
        end.complete();
        Self { source: BodySource::Text(Full::new(Bytes::from(text))), end: None }
    }

    /// What the upstream sends. `bodiless`: nothing follows the head, whatever length it announces.
    pub(crate) fn upstream(body: UpstreamBody, bodiless: bool, end: ResponseEnd) -> Self {
        let mut end = Some(end);
        if (bodiless || body.inner.is_end_stream())
            && let Some(end) = end.take()
        {
            end.complete();
        }
        Self { source: BodySource::Upstream(body), end }
    }

    /// No body; the caller keeps the [`ResponseEnd`].
    pub(crate) fn none() -> Self {
        Self { source: BodySource::Text(Full::default()), end: None }
    }

    fn complete(&mut self) {
        if let Some(end) = self.end.take() {
            end.complete();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let this = &mut *self;
        let body = match &mut this.source {
            BodySource::Text(text) => {
                return Pin::new(text).poll_frame(cx).map(|f| f.map(|r| r.map_err(|never| match never {})));
            }
            BodySource::Upstream(body) => body,
        };
        if body.deadline.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready()) {
            if let Some(end) = this.end.take() {
                end.cut_short("UT", "response_timeout");
            }
            return Poll::Ready(Some(Err(BodyCut::Timeout)));
        }
        match ready!(Pin::new(&mut body.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let Some(end) = &mut this.end else { return Poll::Ready(Some(Ok(frame))) };
                let mut last = body.inner.is_end_stream() || frame.is_trailers();
                if let Some(data) = frame.data_ref() {
                    let length = data.len() as u64;
                    end.record.entry.sent += length;
                    if let Some(left) = &mut body.left {
                        *left = left.saturating_sub(length);
                        last |= *left == 0;
                    }
                }
                let filtered = match &mut body.filter {
                    None => Filtered::Pass(frame),
                    Some(filter) => {
                        let position = BodyPosition {
                            sent: end.record.entry.sent,
                            length_known: body.left.is_some(),
                            last,
                        };
                        filter.frame(frame, &position)
                    }
                };
                match filtered {
                    Filtered::Pass(frame) => {
                        if last {
                            this.complete();
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Filtered::Held => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Filtered::End => {
                        this.complete();
                        Poll::Ready(None)
                    }
                    Filtered::Last(frame) => {
                        // The rest is left on a connection that is not used again.
                        if let Some(mut end) = this.end.take() {
                            end.record.write();
                            end.lease = None;
                        }
                        this.source = BodySource::Text(Full::default());
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Filtered::Abort => Poll::Ready(Some(Err(BodyCut::Aborted))),
                }
            }
            Some(Err(_)) if body.filter.as_ref().is_some_and(|filter| filter.hides_breaks()) => {
                this.complete();
                this.source = BodySource::Text(Full::default());
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                if let Some(end) = this.end.take() {
                    end.cut_short("UC", "upstream_reset_after_response_started{connection_termination}");
                }
                Poll::Ready(Some(Err(error.into())))
            }
            None => match body.filter.as_mut().and_then(|filter| filter.end()) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => {
                    this.complete();
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            BodySource::Text(text) => text.is_end_stream(),
            BodySource::Upstream(body) => {
                let holds = body.filter.as_ref().is_some_and(|filter| filter.holds());
                body.inner.is_end_stream() && !holds
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Text(text) => text.size_hint(),
            BodySource::Upstream(body) => body.inner.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let hooks = Arc::clone(&end.record.proxy().hooks);
            end.cut_short("DC", "downstream_remote_disconnect");
            if let BodySource::Upstream(body) =
                std::mem::replace(&mut self.source, BodySource::Text(Full::default()))
            {
                hooks.abandoned(body.inner);
            }
        }
    }
}
