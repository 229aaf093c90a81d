//! What the embedded service can do besides serving pages: the forms of body and connection that a mesh has to pass on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::header::{HeaderName, HeaderValue, SERVER, TRAILER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use meshproof_model::{EvidenceId, Fact};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::Shared;
use super::content::Answer;
use super::serve::SERVER_NAME;
use meshproof_harness::digest::{MAX_SAMPLE, sample, sha256};
use meshproof_harness::holding::HELD_BODY;

/// How large the pieces of a body without a length are.
const PIECE: usize = 16 * 1024;
/// How large a WebSocket message may be.
const MAX_MESSAGE: usize = 64 * 1024;
/// How many keys requests are held under.
const MAX_HOLDS: usize = 64;
/// How long a key may be.
const MAX_KEY: usize = 200;
/// The trailer of `/trailers`: the digest of the body before it.
const CHECKSUM: HeaderName = HeaderName::from_static("x-body-sha256");

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
#[derive(Default)]
pub(crate) enum Framing {
    /// In one piece, with its length.
    #[default]
    Length,
    /// In pieces, without a length.
    Pieces,
    /// Likewise, and [`CHECKSUM`] after it.
    PiecesWithChecksum,
    /// With its length, the first half at once and the second one when it is released.
    Withheld(Withheld),
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
            Self::Withheld(withheld) => withheld.body(whole),
        }
    }

    /// Whether the body's length is said beforehand.
    pub(super) fn has_length(&self) -> bool {
        match self {
            Self::Length | Self::Withheld(_) => true,
            Self::Pieces | Self::PiecesWithChecksum => false,
        }
    }

    /// HTTP/1.1 says beforehand which trailers there will be (RFC 9110, section 6.6.2).
    pub(super) fn announce(&self, headers: &mut HeaderMap) {
        match self {
            Self::Length | Self::Pieces | Self::Withheld(_) => {}
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
    BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames)))
}

/// The path on which connections switch over to WebSocket.
pub(super) const WEB_SOCKET: &str = "/websocket";

/// Switches over as RFC 6455, section 4.2.2, has it, and sends every message back; what is no WebSocket handshake gets 426.
pub(super) fn web_socket(head: Parts, upgrade: OnUpgrade, shared: &Arc<Shared>) -> Response<AnswerBody> {
    let refused = |status| {
        let mut response = Response::new(nothing());
        *response.status_mut() = status;
        response.headers_mut().insert(SERVER, SERVER_NAME);
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    };
    let Ok(switched) = create_response(&Request::from_parts(head, ())) else {
        return refused(StatusCode::UPGRADE_REQUIRED);
    };
    let Some(place) = shared.accepting.place() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    shared.accepting.spawn(async move {
        let _place = place;
        let Ok(stream) = upgrade.await else { return };
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config)).await;
        while let Some(Ok(message)) = socket.next().await {
            let told = message.is_text() || message.is_binary();
            // A close is answered by the library itself, and then there is nothing more to come.
            if told && socket.send(message).await.is_err() {
                return;
            }
        }
        // TLS's farewell; the other end may be gone.
        let _farewell = socket.get_mut().shutdown().await;
    });
    let (mut parts, ()) = switched.into_parts();
    parts.headers.insert(SERVER, SERVER_NAME);
    Response::from_parts(parts, nothing())
}

fn nothing() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Requests whose answers are withheld, by a key that somebody chose.
#[derive(Default)]
pub(super) struct Holds(Mutex<BTreeMap<String, watch::Sender<Held>>>);

#[derive(Default)]
pub(crate) struct Held {
    requests: usize,
    released: bool,
}

/// One of them, counted for as long as it is held.
pub(crate) struct Withheld(watch::Sender<Held>);

impl Withheld {
    fn new(held: watch::Sender<Held>) -> Self {
        held.send_modify(|h| h.requests += 1);
        Self(held)
    }

    fn body(self, whole: Bytes) -> AnswerBody {
        let middle = whole.len() / 2;
        let (first, second) = (whole.slice(..middle), whole.slice(middle..));
        let rest = async move {
            // Whoever waits gives up, or the service stops: this wait ends with the connection.
            let _released = self.0.subscribe().wait_for(|h| h.released).await.is_ok();
            Ok::<_, Trouble>(Frame::data(second))
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

impl Holds {
    /// `/hold/KEY` is answered in full after `/release/KEY` was asked for; `/held/KEY/N` when N are held.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Option<Answer> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (verb, key, number) = match parts.as_slice() {
            ["hold", key] => ("hold", *key, 0),
            ["release", key] => ("release", *key, 0),
            ["held", key, number] => ("held", *key, number.parse::<usize>().ok()?),
            _ => return None,
        };
        if method != Method::GET {
            return Some(Answer::method_not_allowed());
        }
        let Some(held) = self.of(key) else {
            return Some(Answer::nginx_page(StatusCode::SERVICE_UNAVAILABLE, None));
        };
        match verb {
            "hold" => {
                let framing = Framing::Withheld(Withheld::new(held));
                let answer = Answer::new(StatusCode::OK, "text/plain", sample(HELD_BODY));
                return Some(Answer { framing, ..answer });
            }
            "held" => {
                let _enough = held.subscribe().wait_for(|h| h.requests >= number).await.is_ok();
            }
            _ => held.send_modify(|h| h.released = true),
        }
        Some(Answer::new(StatusCode::OK, "text/plain", "done\n"))
    }

    fn of(&self, key: &str) -> Option<watch::Sender<Held>> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds.contains_key(key) && (holds.len() >= MAX_HOLDS || key.len() > MAX_KEY) {
            return None;
        }
        Some(holds.entry(key.to_owned()).or_insert_with(|| watch::Sender::new(Held::default())).clone())
    }
}

/// The store's entry of a request.
pub(super) struct Entry {
    pub(super) shared: Arc<Shared>,
    pub(super) id: EvidenceId,
}

impl Entry {
    pub(super) fn amend(&self, change: impl FnOnce(&mut meshproof_model::ServerRequest)) {
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
