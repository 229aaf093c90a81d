//! gRPC methods: two that answer each message as it comes, of which one fails in the end, and one that lets the deadline pass.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER};
use http::request::Parts;
use http::{Response, Version};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use meshproof_harness::digest::Sum;
use meshproof_harness::grpc;
use meshproof_model::{Header, ServerAnswer};
use tokio::sync::mpsc;

use super::answer::SERVER_NAME;
use super::framing::{AnswerBody, BodyError};
use super::record::RequestRecord;
use crate::http_facts;

const STATUS: HeaderName = HeaderName::from_static(grpc::STATUS);
const MESSAGE: HeaderName = HeaderName::from_static(grpc::MESSAGE);
const ENCODING: HeaderName = HeaderName::from_static(grpc::ENCODING);

/// The number of messages that are recorded of each side.
const MAX_RECORDED: usize = 64;

/// Whether a request is a call of a method that this server has.
pub(super) fn is_call(head: &Parts, headers: &[Header]) -> bool {
    let is_grpc = |h: &Header| h.name == "content-type" && h.value == grpc::CONTENT_TYPE;
    head.version == Version::HTTP_2
        && headers.iter().any(is_grpc)
        && matches!(head.uri.path(), grpc::ECHO | grpc::FAIL | grpc::LATE)
}

/// Answers a call. The record of its request and answer is completed before the client can know of each step.
pub(super) async fn answer(path: &str, mut body: Incoming, entry: RequestRecord) -> Response<AnswerBody> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    headers.insert(SERVER, SERVER_NAME);
    headers.insert(ENCODING, HeaderValue::from_static(grpc::IDENTITY));
    let late = path == grpc::LATE;
    if late {
        // "Trailers-Only": the head is all there is.
        headers.insert(STATUS, HeaderValue::from_static(grpc::DEADLINE_EXCEEDED));
    }
    entry.amend(|r| {
        r.status = 200;
        r.answer = Some(ServerAnswer {
            status: 200,
            headers: http_facts::headers(&headers),
            body_bytes: 0,
            body_sha256: None,
            trailers: Vec::new(),
            breaks_off: false,
            closes: false,
            held_up_after: None,
            messages: Vec::new(),
            informational: Vec::new(),
            waited_ms: 0,
        });
    });
    let (frames, mut queue) = mpsc::unbounded_channel::<Frame<Bytes>>();
    let accepting = entry.shared.accepting.clone();
    let (heard, said) = (Counted::default(), Counted::default());
    let mut call =
        Call { entry, frames, late, fails: path == grpc::FAIL, arrived: BytesMut::new(), heard, said };
    let body: AnswerBody = if late {
        call.answer(&mut body).await;
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    } else {
        accepting.spawn(async move { call.answer(&mut body).await });
        let frames = stream::poll_fn(move |cx| queue.poll_recv(cx).map(|next| next.map(Ok::<_, BodyError>)));
        BodyExt::boxed_unsync(StreamBody::new(frames))
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// The bytes of one direction.
#[derive(Default)]
struct Counted {
    bytes: u64,
    sum: Sum,
}

impl Counted {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sum.update(bytes);
    }

    fn digest(&self) -> Option<String> {
        (self.bytes > 0).then(|| self.sum.clone().finish())
    }
}

/// A call that goes on.
struct Call {
    entry: RequestRecord,
    frames: mpsc::UnboundedSender<Frame<Bytes>>,
    /// Whether its deadline passes.
    late: bool,
    /// Whether it ends with an error.
    fails: bool,
    arrived: BytesMut,
    heard: Counted,
    said: Counted,
}

impl Call {
    async fn answer(&mut self, body: &mut Incoming) {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return self.cancelled() };
            let Ok(data) = frame.into_data() else { continue };
            self.heard.add(&data);
            self.arrived.extend_from_slice(&data);
            loop {
                match grpc::take(&mut self.arrived) {
                    Ok(Some(message)) => self.heard_message(&message),
                    Ok(None) => break,
                    Err(_) => return self.cancelled(),
                }
            }
        }
        // hyper ends the body of a stream that was reset with CANCEL as if its client had ended it.
        if !body.is_end_stream() {
            return self.cancelled();
        }
        let (bytes, digest, late) = (self.heard.bytes, self.heard.digest(), self.late);
        let trailers = HeaderMap::from_iter(if self.fails {
            vec![
                (STATUS, HeaderValue::from_static(grpc::NOT_FOUND)),
                (MESSAGE, HeaderValue::from_static(grpc::REASON)),
            ]
        } else {
            vec![(STATUS, HeaderValue::from_static(grpc::OK))]
        });
        self.entry.amend(|r| {
            (r.body_bytes, r.body_sha256) = (Some(bytes), digest);
            if let (Some(answer), false) = (&mut r.answer, late) {
                answer.trailers = http_facts::headers(&trailers);
            }
        });
        let _the_client_may_be_gone = self.frames.send(Frame::trailers(trailers));
    }

    fn heard_message(&mut self, message: &Bytes) {
        let late = self.late;
        let framed = grpc::frame(message);
        if !late {
            self.said.add(&framed);
        }
        let (bytes, digest) = (self.said.bytes, self.said.digest());
        let text = String::from_utf8_lossy(message).into_owned();
        self.entry.amend(|r| {
            let Some(answer) = &mut r.answer else { return };
            if r.messages.len() < MAX_RECORDED {
                r.messages.push(text.clone());
            }
            if !late {
                (answer.body_bytes, answer.body_sha256) = (bytes, digest);
                if answer.messages.len() < MAX_RECORDED {
                    answer.messages.push(text);
                }
            }
        });
        if !late {
            let _the_client_may_be_gone = self.frames.send(Frame::data(framed));
        }
    }

    /// The client reset the stream: what a gRPC server learns as the call's outcome.
    fn cancelled(&self) {
        let trailers = vec![Header { name: grpc::STATUS.to_owned(), value: grpc::CANCELLED.to_owned() }];
        self.entry.amend(|r| {
            if let Some(answer) = &mut r.answer {
                answer.breaks_off = true;
                answer.trailers = trailers;
            }
        });
    }
}
