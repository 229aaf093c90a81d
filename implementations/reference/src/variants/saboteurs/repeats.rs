//! Saboteurs that answer from memory, repeat what must be sent once, or blame the client or the server for a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode, response};
use hyper::body::Frame;

use crate::failure::UpstreamFailure;
use crate::hooks::{
    BodyFilter, BodyPosition, Filtered, ProxyHooks, SendHook, SendResult, UpstreamAccess, UpstreamRefusal,
};
use crate::request_body::{OutgoingRequest, copy_without_body};
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "answer-from-memory",
        "Delivers the content of an earlier answer in place of one of the same type and length.",
        VariantBehaviour::Proxy(|_| Arc::new(AnswerFromMemory::default())),
    ),
    Definition::new(
        "repeat-post",
        "Sends a POST without a body again if it gets no answer.",
        VariantBehaviour::Sending(&RepeatPost),
    ),
    Definition::new(
        "failure-as-404",
        "Answers 404 where a server cannot be reached or is refused.",
        VariantBehaviour::Proxy(|_| Arc::new(FailureAs404)),
    ),
];

/// The first content of each type and length.
type Memory = Arc<Mutex<HashMap<(String, String), Vec<u8>>>>;

#[derive(Default)]
struct AnswerFromMemory(Memory);

impl ProxyHooks for AnswerFromMemory {
    fn response_body(&self, head: &response::Parts) -> Option<Box<dyn BodyFilter>> {
        let text = |headers: &HeaderMap, name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let key = (text(&head.headers, header::CONTENT_TYPE)?, text(&head.headers, header::CONTENT_LENGTH)?);
        let json = key.0.starts_with("application/json");
        json.then(|| Box::new(Remembering { memory: Arc::clone(&self.0), key, seen: Vec::new() }) as Box<_>)
    }
}

struct Remembering {
    memory: Memory,
    key: (String, String),
    seen: Vec<u8>,
}

impl BodyFilter for Remembering {
    fn frame(&mut self, frame: Frame<Bytes>, position: &BodyPosition) -> Filtered {
        let Some(data) = frame.data_ref() else { return Filtered::Pass(frame) };
        let from = self.seen.len();
        self.seen.extend_from_slice(data);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match memory.get(&self.key).and_then(|known| known.get(from..self.seen.len())) {
            Some(known) => Filtered::Pass(Frame::data(Bytes::copy_from_slice(known))),
            None => {
                if position.last {
                    memory.insert(self.key.clone(), std::mem::take(&mut self.seen));
                }
                Filtered::Pass(frame)
            }
        }
    }
}

struct RepeatPost;

#[async_trait]
impl SendHook for RepeatPost {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let has_body = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .iter()
            .any(|name| request.headers().get(name).is_some_and(|value| value.as_bytes() != b"0"));
        let again = (request.method() == Method::POST && !has_body).then(|| copy_without_body(&request));
        match (upstream.send(request).await, again) {
            (Err(_), Some(again)) => upstream.send(again).await,
            (sent, _) => sent,
        }
    }
}

struct FailureAs404;

impl ProxyHooks for FailureAs404 {
    fn refusal(&self, _failure: &UpstreamFailure) -> UpstreamRefusal {
        UpstreamRefusal::Status(StatusCode::NOT_FOUND)
    }
}
