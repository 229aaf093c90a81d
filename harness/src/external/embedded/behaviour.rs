//! What the embedded service can do besides serving pages: the forms of body and connection that a mesh has to pass on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER, TRAILER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming as Body};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use meshproof_reports::{EvidenceId, Fact};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::content::Answer;
use super::serve::{MAX_BODY, SERVER_NAME};
use super::Shared;
use crate::digest::{MAX_SAMPLE, Sum, sample, sha256};

/// How large the pieces of a body without a length are.
const PIECE: usize = 16 * 1024;
/// How large a WebSocket message may be.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;
/// The trailer of `/trailers`: the digest of the body before it.
pub(crate) const CHECKSUM: HeaderName = HeaderName::from_static("x-body-sha256");

/// What may be wrong while a body is sent.
type Trouble = Box<dyn std::error::Error + Send + Sync>;
/// The body of a response.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, Trouble>;

/// A path with a behaviour, answered once the request's body has arrived.
pub(super) fn answer(method: &Method, path: &str) -> Option<Answer> {
    let (name, size) = match path.strip_prefix('/')?.split_once('/') {
        Some((name, size)) => (name, Some(size.parse::<usize>().ok().filter(|size| *size <= MAX_SAMPLE)?)),
        None => (path.strip_prefix('/')?, None),
    };
    let (body, framing) = match (name, size) {
        ("bytes", Some(size)) => (sample(size), Framing::Length),
        ("chunked", Some(size)) => (sample(size), Framing::Pieces),
        ("trailers", Some(size)) => (sample(size), Framing::PiecesWithChecksum),
        ("no-content", None) => (Bytes::new(), Framing::Length),
        (_, _) => return None,
    };
    if method != Method::GET && method != Method::HEAD {
        return Some(Answer::method_not_allowed());
    }
    let status = if name == "no-content" { StatusCode::NO_CONTENT } else { StatusCode::OK };
    Some(Answer { framing, ..Answer::new(status, "text/plain", body) })
}

/// How a response's body is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In one piece, with its length.
    #[default]
    Length,
    /// In pieces, without a length.
    Pieces,
    /// Likewise, and [`CHECKSUM`] after it.
    PiecesWithChecksum,
}

impl Framing {
    pub(super) fn body(self, whole: Bytes) -> AnswerBody {
        match self {
            Self::Length => http_body_util::Full::new(whole).map_err(|never| match never {}).boxed_unsync(),
            Self::Pieces => pieces(whole, None),
            Self::PiecesWithChecksum => {
                let sum = HeaderValue::from_str(&sha256(&whole)).ok();
                pieces(whole, sum.map(|sum| HeaderMap::from_iter([(CHECKSUM, sum)])))
            }
        }
    }

    /// HTTP/1.1 says beforehand which trailers there will be (RFC 9110, section 6.6.2).
    pub(super) fn announce(self, headers: &mut HeaderMap) {
        match self {
            Self::Length | Self::Pieces => {}
            Self::PiecesWithChecksum => {
                headers.insert(TRAILER, HeaderValue::from_name(CHECKSUM));
            }
        }
    }
}

fn pieces(whole: Bytes, trailers: Option<HeaderMap>) -> AnswerBody {
    let mut frames: Vec<Result<Frame<Bytes>, Trouble>> = (0..whole.len())
        .step_by(PIECE)
        .map(|at| Ok(Frame::data(whole.slice(at..whole.len().min(at + PIECE)))))
        .collect();
    frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(frames)))
}

/// A behaviour that answers before the request has come to its end.
pub(crate) enum Early {
    /// Sends the request's body back, piece by piece, as it comes.
    EchoStream,
    /// Sends WebSocket messages back.
    WebSocket,
}

impl Early {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/echo-stream" => Some(Self::EchoStream),
            "/websocket" => Some(Self::WebSocket),
            _ => None,
        }
    }

    /// The answer. Its status is in the store before it is sent.
    pub(super) fn answer(
        self,
        head: Parts,
        body: Body,
        upgrade: Option<OnUpgrade>,
        entry: Entry,
    ) -> Response<AnswerBody> {
        match self {
            Self::EchoStream => {
                entry.amend(|r| r.status = 200);
                let echo = Echo { inner: body, sum: Some(Sum::default()), bytes: 0, entry };
                let mut response = Response::new(echo.boxed_unsync());
                response.headers_mut().insert(SERVER, SERVER_NAME);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response
            }
            Self::WebSocket => {
                let response = web_socket(head, upgrade, &entry.shared);
                entry.amend(|r| {
                    r.status = response.status().as_u16();
                    r.body_bytes = Some(0);
                });
                response
            }
        }
    }
}

/// Switches over as RFC 6455, section 4.2.2, has it; what is no WebSocket handshake gets 426.
fn web_socket(head: Parts, upgrade: Option<OnUpgrade>, shared: &Arc<Shared>) -> Response<AnswerBody> {
    let refused = |status| {
        let mut response = Response::new(nothing());
        *response.status_mut() = status;
        response.headers_mut().insert(SERVER, SERVER_NAME);
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    };
    let switched = create_response(&Request::from_parts(head, ())).ok();
    let (Some(switched), Some(upgrade)) = (switched, upgrade) else {
        return refused(StatusCode::UPGRADE_REQUIRED);
    };
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    shared.spawn(async move {
        let _place = place;
        let Ok(stream) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config)).await;
        while let Some(Ok(message)) = socket.next().await {
            let told = message.is_text() || message.is_binary();
            // A close is answered by the library itself, and then there is nothing more to come.
            if told && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let (mut parts, ()) = switched.into_parts();
    parts.headers.insert(SERVER, SERVER_NAME);
    Response::from_parts(parts, nothing())
}

fn nothing() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The request's body as the response's.
struct Echo {
    inner: Body,
    sum: Option<Sum>,
    bytes: u64,
    entry: Entry,
}

impl hyper::body::Body for Echo {
    type Data = Bytes;
    type Error = Trouble;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Trouble>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else {
                if let Some(sum) = self.sum.take() {
                    let bytes = self.bytes;
                    self.entry.body_ended(bytes, sum.finish());
                }
                return Poll::Ready(None);
            };
            let Ok(data) = frame?.into_data() else { continue };
            self.bytes += data.len() as u64;
            if self.bytes > MAX_BODY {
                return Poll::Ready(Some(Err("the request's body is longer than the service reads".into())));
            }
            if let Some(sum) = &mut self.sum {
                sum.update(&data);
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }
}

/// The store's entry of a request.
pub(super) struct Entry {
    pub(super) shared: Arc<Shared>,
    pub(super) id: EvidenceId,
}

impl Entry {
    pub(super) fn amend(&self, change: impl FnOnce(&mut meshproof_reports::ServerRequest)) {
        self.shared.store.amend(&self.id, |fact| {
            if let Fact::Request(request) = fact {
                change(request);
            }
        });
    }

    pub(super) fn body_ended(&self, bytes: u64, sha256: String) {
        self.amend(|r| {
            r.body_bytes = Some(bytes);
            r.body_sha256 = (bytes > 0).then_some(sha256);
        });
    }
}
