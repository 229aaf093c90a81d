//! How the body of an answer is sent.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, TRAILER};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use meshproof_harness::delivery::Delivery;
use meshproof_harness::digest::sha256;
use meshproof_model::Header;
use tokio::sync::watch;

/// The size of the pieces of a body that is sent without a length.
const PIECE: usize = 16 * 1024;
/// The trailer of `/trailers`: the digest of the body before it.
const CHECKSUM: HeaderName = HeaderName::from_static("x-body-sha256");

/// The part of the client's timeout for a request that a piece may be on its way to the client until it counts as held up.
/// Generous: nothing but a proxy that waits for more takes so long. Yet the client still waits when the whole answer follows.
pub(super) const DELIVERED_WITHIN: u32 = 5;

/// What can go wrong while a body is sent.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a response.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, BodyError>;

/// How a response's body is sent.
#[derive(Default)]
pub(crate) enum Framing {
    /// In one piece, with its length.
    #[default]
    Length,
    /// In pieces, without a length.
    Pieces,
    /// In two pieces, without a length, and this pause between them.
    Paused(Duration),
    /// In pieces, without a length, and [`CHECKSUM`] after it.
    PiecesWithChecksum,
    /// With its length: the first half at once, the second half when it is released.
    Withheld(Withheld),
    /// In pieces of this length, without a length of the whole. Each is sent when the client has those before.
    OneByOne(OneByOne),
    /// With its length, and the connection breaks off after the first half.
    BreaksOff,
    /// In pieces, without a length, and the connection breaks off after half of them.
    PiecesBreakOff,
    /// Not at all: the connection is closed.
    NoAnswer,
}

impl Framing {
    pub(super) fn body(self, whole: Bytes) -> AnswerBody {
        match self {
            Self::Length | Self::NoAnswer => {
                http_body_util::Full::new(whole).map_err(|never| match never {}).boxed_unsync()
            }
            Self::Pieces => pieces(whole, None),
            Self::Paused(pause) => {
                let second = whole.slice(whole.len() / 2..);
                let rest = async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, BodyError>(Frame::data(second))
                };
                let first = Frame::data(whole.slice(..whole.len() / 2));
                BodyExt::boxed_unsync(StreamBody::new(stream::iter([Ok(first)]).chain(stream::once(rest))))
            }
            Self::PiecesWithChecksum => {
                let sum = HeaderValue::from_str(&sha256(&whole)).ok();
                pieces(whole, sum.map(|sum| HeaderMap::from_iter([(CHECKSUM, sum)])))
            }
            Self::Withheld(withheld) => withheld.body(whole),
            Self::OneByOne(one_by_one) => one_by_one.body(whole),
            // Whether the length is announced is a matter of the head.
            Self::BreaksOff | Self::PiecesBreakOff => {
                let half = whole.slice(..whole.len() / 2);
                let broken: BodyError = "the answer breaks off here, as it was asked to".into();
                let breaking = async move {
                    // hyper sends the first half when the second is not there yet.
                    tokio::task::yield_now().await;
                    Err::<Frame<Bytes>, _>(broken)
                };
                let pieces = stream::iter([Ok(Frame::data(half))]).chain(stream::once(breaking));
                BodyExt::boxed_unsync(StreamBody::new(pieces))
            }
        }
    }

    /// Whether the body's length is announced.
    pub(super) fn has_length(&self) -> bool {
        match self {
            Self::Length | Self::Withheld(_) | Self::BreaksOff | Self::NoAnswer => true,
            Self::Pieces
            | Self::Paused(_)
            | Self::PiecesWithChecksum
            | Self::OneByOne(_)
            | Self::PiecesBreakOff => false,
        }
    }

    /// Whether the connection breaks off in the middle of the body.
    pub(super) fn breaks_off(&self) -> bool {
        matches!(self, Self::BreaksOff | Self::PiecesBreakOff)
    }

    /// The trailers of this body.
    pub(super) fn trailers(&self, whole: &[u8]) -> Vec<Header> {
        match self {
            Self::Length
            | Self::Pieces
            | Self::Paused(_)
            | Self::Withheld(_)
            | Self::OneByOne(_)
            | Self::BreaksOff
            | Self::PiecesBreakOff
            | Self::NoAnswer => Vec::new(),
            Self::PiecesWithChecksum => {
                vec![Header { name: CHECKSUM.as_str().to_owned(), value: sha256(whole) }]
            }
        }
    }

    /// Announces the trailers, as HTTP/1.1 does (RFC 9110, section 6.6.2).
    pub(super) fn announce(&self, headers: &mut HeaderMap) {
        match self {
            Self::Length
            | Self::Pieces
            | Self::Paused(_)
            | Self::Withheld(_)
            | Self::OneByOne(_)
            | Self::BreaksOff
            | Self::PiecesBreakOff
            | Self::NoAnswer => {}
            Self::PiecesWithChecksum => {
                headers.insert(TRAILER, HeaderValue::from_name(CHECKSUM));
            }
        }
    }
}

fn pieces(whole: Bytes, trailers: Option<HeaderMap>) -> AnswerBody {
    let mut frames: Vec<Result<Frame<Bytes>, BodyError>> = (0..whole.len())
        .step_by(PIECE)
        .map(|at| Ok(Frame::data(whole.slice(at..whole.len().min(at + PIECE)))))
        .collect();
    frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames)))
}

/// The requests under one key whose answers are withheld.
#[derive(Default)]
pub(super) struct Held {
    pub(super) requests: usize,
    pub(super) released: bool,
}

/// One of these requests, counted for as long as its answer is withheld.
pub(crate) struct Withheld(watch::Sender<Held>);

impl Withheld {
    pub(super) fn new(held: watch::Sender<Held>) -> Self {
        held.send_modify(|h| h.requests += 1);
        Self(held)
    }

    fn body(self, whole: Bytes) -> AnswerBody {
        let middle = whole.len() / 2;
        let (first, second) = (whole.slice(..middle), whole.slice(middle..));
        let rest = async move {
            // If the client gives up or the service stops, this wait ends with the connection.
            let _released = self.0.subscribe().wait_for(|h| h.released).await.is_ok();
            Ok::<_, BodyError>(Frame::data(second))
        };
        let pieces = stream::iter([Ok(Frame::data(first))]).chain(stream::once(rest));
        BodyExt::boxed_unsync(StreamBody::new(pieces))
    }
}

impl Drop for Withheld {
    fn drop(&mut self) {
        self.0.send_modify(|h| h.requests = h.requests.saturating_sub(1));
    }
}

/// An answer that is sent piece by piece.
pub(crate) struct OneByOne {
    /// The length of one piece.
    pub(super) piece: usize,
    /// Set before the body is sent.
    pub(super) watched: Option<Watched>,
}

/// An answer whose way to the client is watched.
pub(super) struct Watched {
    pub(super) delivery: Delivery,
    /// How long a piece may be on its way.
    pub(super) within: Duration,
    /// Takes after how many bytes a piece was held up.
    pub(super) held_up: Box<dyn Fn(u64) + Send>,
}

impl OneByOne {
    fn body(self, whole: Bytes) -> AnswerBody {
        let Self { piece, watched } = self;
        let next = move |(at, mut watched): (usize, Option<Watched>)| {
            let whole = whole.clone();
            async move {
                if let Some(Watched { delivery, within, held_up }) = watched.as_mut()
                    && !delivery.reaches(at as u64, *within).await
                {
                    // At 0 nothing is held up: the client's process has not begun to report.
                    if at > 0 {
                        held_up(at as u64);
                    }
                    // It is known now; the rest need not wait.
                    watched = None;
                }
                if at >= whole.len() {
                    return None;
                }
                let end = whole.len().min(at + piece.max(1));
                Some((Ok::<_, BodyError>(Frame::data(whole.slice(at..end))), (end, watched)))
            }
        };
        BodyExt::boxed_unsync(StreamBody::new(stream::unfold((0, watched), next)))
    }
}
