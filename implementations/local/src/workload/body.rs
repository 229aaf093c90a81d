//! How a request's body leaves the client.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use meshproof_harness::workload::Delivery;
use tokio_util::sync::CancellationToken;

/// The body of a request that is sent.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, Infallible>;

/// The size of the pieces of a body that is sent without a length.
const PIECE: usize = 16 * 1024;
/// The number of interim responses that are kept.
const MAX_INTERIM: usize = 16;

/// The responses before the final one.
#[derive(Clone, Default)]
pub(super) struct Interim {
    statuses: Arc<Mutex<Vec<u16>>>,
    go_on: CancellationToken,
}

impl Interim {
    /// Records the interim responses to this request. Only for HTTP/1.1: hyper shows none for HTTP/2.
    pub(super) fn watch<B>(&self, request: &mut Request<B>) {
        let this = self.clone();
        hyper::ext::on_informational(request, move |response| {
            let status = response.status().as_u16();
            let mut statuses = this.statuses.lock().unwrap_or_else(PoisonError::into_inner);
            if statuses.len() < MAX_INTERIM {
                statuses.push(status);
            }
            if status == 100 {
                this.go_on.cancel();
            }
        });
    }

    pub(super) fn take(&self) -> Vec<u16> {
        std::mem::take(&mut *self.statuses.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The body as it is sent. `continue_limit`: the timeout `continue`.
pub(super) fn outgoing(
    delivery: Delivery,
    whole: Bytes,
    trailers: &[(String, String)],
    interim: &Interim,
    continue_limit: Duration,
    pause: Option<Duration>,
) -> Outgoing {
    match delivery {
        Delivery::Whole => Full::new(whole).boxed_unsync(),
        Delivery::Pieces => {
            let piece = if pause.is_some() { whole.len().div_ceil(2).max(1) } else { PIECE };
            let mut pieces: Vec<_> = (0..whole.len())
                .step_by(piece)
                .map(|at| Ok(Frame::data(whole.slice(at..whole.len().min(at + piece)))))
                .collect();
            let named = |(name, value): &(String, String)| Some((name.parse().ok()?, value.parse().ok()?));
            let trailers: HeaderMap = trailers.iter().filter_map(named).collect();
            if !trailers.is_empty() {
                pieces.push(Ok(Frame::trailers(trailers)));
            }
            let Some(pause) = pause else {
                return BodyExt::boxed_unsync(StreamBody::new(stream::iter(pieces)));
            };
            let halves =
                stream::iter(pieces.into_iter().enumerate()).then(move |(number, piece)| async move {
                    if number == 1 {
                        tokio::time::sleep(pause).await;
                    }
                    piece
                });
            BodyExt::boxed_unsync(StreamBody::new(halves))
        }
        Delivery::Expecting => {
            let go_on = interim.go_on.clone();
            let waiting = async move {
                // The body is sent in both cases. The interim responses show which it was.
                let _either_way = tokio::time::timeout(continue_limit, go_on.cancelled()).await;
                Ok(Frame::data(whole))
            };
            BodyExt::boxed_unsync(StreamBody::new(stream::once(waiting)))
        }
    }
}
