//! A gRPC call.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use meshproof_harness::digest::Sum;
use meshproof_harness::grpc::{self, Call};
use meshproof_harness::load::slowdown;
use meshproof_model::{ExchangeError, ExchangeErrorKind, Header, Response};
use tokio::sync::mpsc;

use super::body::Interim;
use super::failure::sorted;
use super::prepared::{Answered, Sender, Target, Unanswered, request};
use crate::http_facts;

/// How long a message may be on its way to the server and back. Generous: on a busy machine, too, nothing takes so long but a
/// proxy that waits for the end of a stream.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// What came of the call so far.
#[derive(Default)]
struct Heard {
    arrived: BytesMut,
    bytes: u64,
    sum: Sum,
    messages: Vec<String>,
    trailers: Vec<Header>,
    ended: bool,
}

/// Makes the call: each message leaves when the one before was answered.
pub(super) async fn call(sender: &mut Sender, target: Target, call: Call) -> Result<Answered, Unanswered> {
    let (messages, mut queue) = mpsc::unbounded_channel::<Bytes>();
    let mut request = request(target, true, &Interim::default())?;
    // The stream of a call that is cancelled has no end: an end that is sent before the reset would complete the call.
    let endless = call.cancels.then(|| messages.clone());
    let body = stream::poll_fn(move |cx| {
        let _kept_open = &endless;
        queue.poll_recv(cx).map(|next| next.map(|b| Ok(Frame::data(b))))
    });
    *request.body_mut() = BodyExt::boxed_unsync(StreamBody::new(body));
    let mut unsent = call.messages.iter();
    // The server may answer only when it has heard something.
    if let Some(first) = unsent.next() {
        let _the_request_tells = messages.send(grpc::frame(first.as_bytes()));
    }
    // A call with one message is complete with it.
    let mut messages = Some(messages).filter(|_| call.messages.len() > 1 || call.cancels);
    let answer = sender.send(request).await;
    let answer = answer.map_err(|e| Unanswered { unsent: e.is_canceled(), error: sorted(&e) })?;
    let (head, mut body) = answer.into_parts();
    let mut heard = Heard::default();
    let mut awaited = 1;
    loop {
        while heard.messages.len() < awaited && !heard.ended {
            let next = tokio::time::timeout(ANSWERED_WITHIN * slowdown(), heard.next(&mut body)).await;
            next.map_err(|_| late(awaited))??;
        }
        let Some(next) = unsent.next().filter(|_| !heard.ended) else { break };
        awaited += 1;
        let _the_answer_tells = messages.as_ref().map(|m| m.send(grpc::frame(next.as_bytes())));
    }
    if call.cancels && !heard.ended {
        // Dropping both halves resets the stream.
        drop(body);
        let message = grpc::cancelled_after(heard.messages.len());
        return Err(ExchangeError { kind: ExchangeErrorKind::Other, message }.into());
    }
    drop(messages.take());
    while !heard.ended {
        heard.next(&mut body).await?;
    }
    let response = Response {
        version: http_facts::version(head.version),
        status: head.status.as_u16(),
        headers: http_facts::headers(&head.headers),
        body: String::new(),
        body_bytes: heard.bytes,
        body_truncated: heard.bytes > 0,
        body_sha256: (heard.bytes > 0).then(|| heard.sum.finish()),
        trailers: heard.trailers,
        informational: Vec::new(),
        messages: heard.messages,
    };
    Ok(Answered { response, whole: true })
}

fn late(number: usize) -> ExchangeError {
    let message =
        format!("gRPC message {number} was not answered within {ANSWERED_WITHIN:?}, while the call was open");
    ExchangeError { kind: ExchangeErrorKind::Timeout, message }
}

impl Heard {
    /// Takes in the next frame.
    async fn next(&mut self, body: &mut Incoming) -> Result<(), ExchangeError> {
        let Some(frame) = body.frame().await else {
            self.ended = true;
            return Ok(());
        };
        match frame.map_err(|e| sorted(&e))?.into_data() {
            Ok(data) => {
                self.bytes += data.len() as u64;
                self.sum.update(&data);
                self.arrived.extend_from_slice(&data);
            }
            Err(other) => {
                self.trailers.extend(other.trailers_ref().map(http_facts::headers).unwrap_or_default());
            }
        }
        while let Some(message) = grpc::take(&mut self.arrived).map_err(|reason| ExchangeError {
            kind: ExchangeErrorKind::Protocol,
            message: reason.to_owned(),
        })? {
            self.messages.push(String::from_utf8_lossy(&message).into_owned());
        }
        Ok(())
    }
}
