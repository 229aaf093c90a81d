//! Saboteurs that no single promise of a document is about: what they lose, copy, exchange or misreport shows only when every
//! request and answer is accounted for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::oneshot;

use super::sending::detour;
use crate::failure::UpstreamFailure;
use crate::hooks::{ProxyHooks, SendHook, SendResult, UpstreamAccess};
use crate::request_body::{OutgoingRequest, copy_without_body};
use crate::variants::definition::{Definition, VariantBehaviour};

/// The egress gateway of Istio's documents.
const GATEWAY: &str = "istio-egressgateway";

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "drop-authorization",
        "Drops the request header Authorization.",
        VariantBehaviour::RequestHead(|head| drop(head.headers.remove(header::AUTHORIZATION))),
    ),
    Definition::new(
        "drop-cookie",
        "Drops the request header Cookie.",
        VariantBehaviour::RequestHead(|head| drop(head.headers.remove(header::COOKIE))),
    ),
    Definition::new(
        "drop-empty-headers",
        "Drops request headers with an empty value.",
        VariantBehaviour::RequestHead(|head| {
            retain(head.headers, |_, value| !value.is_empty());
        }),
    ),
    Definition::new(
        "drop-underscore-headers",
        "Drops request headers with an underscore in their name.",
        VariantBehaviour::RequestHead(|head| retain(head.headers, |name, _| !name.as_str().contains('_'))),
    ),
    Definition::new(
        "drop-conditions",
        "Drops the conditions and ranges of requests.",
        VariantBehaviour::RequestHead(|head| {
            for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::RANGE] {
                head.headers.remove(name);
            }
        }),
    ),
    Definition::new(
        "pass-connection-fields",
        "Forwards the fields that the request's Connection field names.",
        VariantBehaviour::Arrived(|request| {
            if !request.headers().contains_key(header::UPGRADE) {
                request.headers_mut().remove(header::CONNECTION);
            }
            None
        }),
    ),
    Definition::new(
        "decode-slashes",
        "Decodes %2F in the path of a request.",
        VariantBehaviour::RequestHead(|head| *head.target = head.target.replace("%2F", "/")),
    ),
    Definition::new(
        "merge-slashes",
        "Makes one slash of several in the path of a request.",
        VariantBehaviour::RequestHead(|head| *head.target = merged(head.target)),
    ),
    Definition::new(
        "drop-empty-query",
        "Drops a question mark with nothing after it.",
        VariantBehaviour::RequestHead(|head| {
            if head.target.ends_with('?') {
                head.target.pop();
            }
        }),
    ),
    Definition::new(
        "unknown-method-to-post",
        "Forwards methods that it does not know as POST.",
        VariantBehaviour::RequestHead(|head| {
            let known =
                [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
            if !known.contains(head.method) {
                *head.method = Method::POST;
            }
        }),
    ),
    Definition::new(
        "merge-set-cookie",
        "Joins several Set-Cookie fields of an answer to one.",
        VariantBehaviour::ResponseHead(|head| merge(&mut head.headers, &header::SET_COOKIE)),
    ),
    Definition::new(
        "drop-etag",
        "Drops the response header ETag.",
        VariantBehaviour::ResponseHead(|head| drop(head.headers.remove(header::ETAG))),
    ),
    Definition::new(
        "location-to-http",
        "Makes http of https in the response header Location.",
        VariantBehaviour::ResponseHead(|head| {
            let plain = head.headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
            let plain = plain.map(|location| location.replacen("https:", "http:", 1));
            if let Some(plain) = plain.and_then(|text| HeaderValue::try_from(text).ok()) {
                head.headers.insert(header::LOCATION, plain);
            }
        }),
    ),
    Definition::new(
        "hide-authentication",
        "Drops WWW-Authenticate and answers 403 for 401.",
        VariantBehaviour::ResponseHead(|head| {
            head.headers.remove(header::WWW_AUTHENTICATE);
            if head.status == StatusCode::UNAUTHORIZED {
                head.status = StatusCode::FORBIDDEN;
            }
        }),
    ),
    Definition::new(
        "server-errors-as-502",
        "Answers 502 for every status of a server from 500 on.",
        VariantBehaviour::ResponseHead(|head| {
            if head.status.is_server_error() {
                head.status = StatusCode::BAD_GATEWAY;
            }
        }),
    ),
    Definition::new(
        "cross-answers",
        "Exchanges the answers of two requests that are in flight together.",
        VariantBehaviour::Proxy(|_| Arc::new(CrossAnswers::default())),
    ),
    Definition::new(
        "copy-in-plain-text",
        "Sends a copy of each request without a body to the host's plain port after the answer.",
        VariantBehaviour::Sending(&CopyInPlainText),
    ),
    Definition::new(
        "post-twice",
        "Sends each POST request twice, the first time without its body.",
        VariantBehaviour::Sending(&PostTwice),
    ),
    Definition::new(
        "log-wrong-status",
        "Logs 200 for every answer of a server.",
        VariantBehaviour::LogEntry(|entry| {
            if entry.upstream_host.is_some() {
                entry.status = 200;
            }
        }),
    ),
    Definition::new(
        "log-wrong-method",
        "Logs every method as GET.",
        VariantBehaviour::LogEntry(|entry| {
            if let Some(request) = &mut entry.request {
                request.method = "GET".into();
            }
        }),
    ),
    Definition::new(
        "log-head-bytes",
        "Counts 200 bytes of head among the bytes sent.",
        VariantBehaviour::LogEntry(|entry| entry.sent += 200),
    ),
    Definition::new(
        "log-wrong-source",
        "Logs an address of its own that the server does not see.",
        VariantBehaviour::LogEntry(|entry| {
            if let Some(address) = &mut entry.upstream_local {
                address.set_port(1);
            }
        }),
    ),
    Definition::new(
        "log-for-gateway",
        "Writes each line to the access log of the egress gateway, too.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            logs.line(proxy, &line);
            if proxy != GATEWAY {
                logs.line(GATEWAY, &line);
            }
        }),
    ),
];

fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    let dropped: Vec<HeaderName> =
        headers.iter().filter(|(name, value)| !keep(name, value)).map(|(name, _)| name.clone()).collect();
    for name in dropped {
        headers.remove(name);
    }
}

fn merged(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut path = path.to_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

fn merge(headers: &mut HeaderMap, name: &HeaderName) {
    let all: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    if let (2.., Ok(one)) = (all.len(), HeaderValue::try_from(all.join(", "))) {
        headers.insert(name, one);
    }
}

/// The one that waits for the answer of another request.
type Waiting = oneshot::Sender<(SendResult, oneshot::Sender<SendResult>)>;

#[derive(Default)]
pub(super) struct CrossAnswers {
    waiting: Mutex<Option<Waiting>>,
}

impl CrossAnswers {
    fn take(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ProxyHooks for CrossAnswers {
    fn sending(&self) -> Option<&dyn SendHook> {
        Some(self)
    }
}

#[async_trait]
impl SendHook for CrossAnswers {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        /// How long a request waits for another one.
        const TOGETHER: Duration = Duration::from_millis(5);
        let own = upstream.send(request).await;
        if let Some(other) = self.take() {
            let (back, answer) = oneshot::channel();
            return match other.send((own, back)) {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(UpstreamFailure::Reset(None).into())),
                Err((own, _)) => own,
            };
        }
        let (wait, mut partner) = oneshot::channel();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(wait);
        match tokio::time::timeout(TOGETHER, &mut partner).await {
            Ok(Ok((theirs, back))) => {
                // A partner that is gone does not need it.
                let _gone = back.send(own);
                theirs
            }
            Ok(Err(_)) => own,
            Err(_) => {
                drop(self.take());
                match partner.try_recv() {
                    Ok((theirs, back)) => {
                        let _gone = back.send(own);
                        theirs
                    }
                    Err(_) => own,
                }
            }
        }
    }
}

struct CopyInPlainText;

#[async_trait]
impl SendHook for CopyInPlainText {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let facts = upstream.facts();
        let copy = facts.replayable.then(|| copy_without_body(&request));
        let authority = facts.authority.to_owned();
        let sent = upstream.send(request).await;
        if let Some(copy) = copy
            && upstream.endpoint(crate::routes::without_port(&authority), 80).is_some()
        {
            drop(detour(upstream, &authority, 80, copy, Err(UpstreamFailure::Reset(None).into())).await);
        }
        sent
    }
}

struct PostTwice;

#[async_trait]
impl SendHook for PostTwice {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        if request.method() == Method::POST {
            let mut copy = copy_without_body(&request);
            copy.headers_mut().remove(header::CONTENT_LENGTH);
            copy.headers_mut().remove(header::TRANSFER_ENCODING);
            drop(upstream.send(copy).await);
        }
        upstream.send(request).await
    }
}
