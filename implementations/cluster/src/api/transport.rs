//! The transport below kube's client: it bounds every answer in size and time, and repeats a request where a
//! second one cannot do a thing twice.
//!
//! kube's own retry policy serves controllers, which may wait for ever: it repeats neither after 500 and 502
//! nor after a reset connection, waits as long as `Retry-After` says, and reads answers of any size. A test
//! run must end, so the suite brings its own (the client is built with `default_retry` off).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::header::{CONTENT_LENGTH, RETRY_AFTER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use kube::core::Status;
use kube::core::response::StatusDetails;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use tokio::time::{Instant, timeout_at};
use tower::BoxError;

use super::error::{TransportError, chain, is_rejection, is_transient};

/// The longest answer that is read, in bytes. A page of a list has a bounded number of objects.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// The longest refusal that is read, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;
/// The longest event of a watch, in bytes. An object in etcd has at most 1.5 MiB; its managed fields and
/// escapes come on top.
const MAX_EVENT: usize = 8 * 1024 * 1024;
/// Retries after the first attempt.
const RETRIES: usize = 6;
/// Retries as long as the API server has never answered: there may be none at that address.
const RETRIES_BEFORE_FIRST_ANSWER: usize = 2;
/// The backoff between attempts: each is twice the last, up to [`MAX_BACKOFF`], and jittered.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// How one attempt failed.
enum Failure {
    /// The API server refused.
    Refused { code: StatusCode, status: Box<Status>, retry_after: Option<Duration> },
    /// No answer came; another attempt may succeed.
    Unreached(BoxError),
    /// The answer is too long; it will be so again.
    TooLong,
}

/// What a request asks for, by which its answer is bounded and the request repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    /// A whole answer, within the timeout `cluster-answer`.
    Answer,
    /// Events without end, one per line. The caller resumes.
    Events,
    /// A log without end. The caller resumes.
    Log,
    /// An upgraded connection, such as for exec: it may have run, so that it is repeated only where it was
    /// turned away (429).
    Upgrade,
}

impl Expects {
    fn of(request: &Request<Body>) -> Self {
        let watches = |query: &str| query.split('&').any(|pair| pair == "watch=true");
        if request.uri().query().is_some_and(watches) {
            Self::Events
        } else if request.headers().contains_key(UPGRADE) {
            Self::Upgrade
        } else if request.uri().path().ends_with("/log") {
            Self::Log
        } else {
            Self::Answer
        }
    }
}

/// Puts the transport below a client.
pub(super) fn bounded(client: kube::Client, timeouts: &Timeouts) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    let limit = timeouts.get(Timeout::ClusterAnswer);
    let answered = Arc::new(AtomicBool::new(false));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        async move { ask(&client, request, limit, &answered).await }
    });
    kube::Client::new(service, namespace)
}

/// Fails when an event, which is a line, grows too long.
fn bounded_events(body: Body) -> UnsyncBoxBody<Bytes, BoxError> {
    let mut line = 0_usize;
    let pieces = body.into_data_stream().map_err(BoxError::from).and_then(move |piece| {
        line = match piece.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => piece.len() - end - 1,
            None => line + piece.len(),
        };
        let fits = line <= MAX_EVENT;
        async move {
            if fits { Ok(Frame::data(piece)) } else { Err(TransportError::EventTooLong(MAX_EVENT).into()) }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Asks until the answer is one that stays.
async fn ask(
    client: &kube::Client,
    request: Request<Body>,
    limit: Duration,
    answered: &AtomicBool,
) -> Result<Answer, BoxError> {
    let expects = Expects::of(&request);
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let deadline = Instant::now() + limit;
    let backoff = ExponentialBuilder::new()
        .with_min_delay(MIN_BACKOFF)
        .with_max_delay(MAX_BACKOFF)
        .with_max_times(RETRIES)
        .with_jitter();
    let attempt = || async {
        let attempt = attempt(client, &parts, &body, expects, answered);
        if expects != Expects::Answer {
            return attempt.await;
        }
        let late = |_| Err(Failure::Unreached(TransportError::NoAnswer(limit).into()));
        timeout_at(deadline, attempt).await.unwrap_or_else(late)
    };
    let mut unreached = 0;
    let outcome = attempt
        .retry(backoff)
        .when(|failure| match expects {
            Expects::Events | Expects::Log => false,
            Expects::Upgrade => failure.code() == Some(429),
            Expects::Answer
                if matches!(failure, Failure::Unreached(_)) && !answered.load(Ordering::Relaxed) =>
            {
                unreached += 1;
                unreached <= RETRIES_BEFORE_FIRST_ANSWER
            }
            Expects::Answer => failure.may_pass() || failure.is_early(&parts),
        })
        .adjust(|failure, backoff| {
            let wait = backoff?.max(failure.retry_after().unwrap_or_default());
            (Instant::now() + wait < deadline).then_some(wait)
        })
        .await;
    match outcome {
        Ok(answer) => Ok(answer),
        Err(failure) => failure.into_answer(),
    }
}

async fn attempt(
    client: &kube::Client,
    parts: &Parts,
    body: &Bytes,
    expects: Expects,
    answered: &AtomicBool,
) -> Result<Answer, Failure> {
    let request = Request::from_parts(parts.clone(), Body::from(body.to_vec()));
    let response = client.send(request).await.map_err(|e| Failure::Unreached(e.into()))?;
    answered.store(true, Ordering::Relaxed);
    let code = response.status();
    if code.is_client_error() || code.is_server_error() {
        return Err(read_refusal(response).await);
    }
    let (parts, body) = response.into_parts();
    let body = match expects {
        Expects::Events => bounded_events(body),
        Expects::Log | Expects::Upgrade => body.map_err(BoxError::from).boxed_unsync(),
        Expects::Answer => {
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let too_long = |e: BoxError| {
                if e.is::<LengthLimitError>() { Failure::TooLong } else { Failure::Unreached(e) }
            };
            full(body.map_err(too_long)?.to_bytes())
        }
    };
    Ok(Response::from_parts(parts, body))
}

fn full(bytes: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Reads what the API server says of its refusal.
async fn read_refusal(response: Response<Body>) -> Failure {
    let code = response.status();
    let retry_after = retry_after(response.headers());
    let mut status = match Limited::new(response.into_body(), MAX_REFUSAL).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            serde_json::from_slice(&body)
                .unwrap_or_else(|_| Status::failure(String::from_utf8_lossy(&body).trim(), ""))
        }
        Err(e) => Status::failure(&chain(&*e), ""),
    };
    // kube goes by the code within.
    status.code = code.as_u16();
    Failure::Refused { code, status: status.boxed(), retry_after }
}

/// Seconds, as Kubernetes writes it; the date of RFC 9110 is not used there.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

impl Failure {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(code.as_u16()),
            Self::Unreached(_) | Self::TooLong => None,
        }
    }

    fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code, status, .. } => {
                is_transient(code.as_u16()) && !is_rejection(code.as_u16(), &status.message)
            }
            Self::Unreached(_) => true,
            Self::TooLong => false,
        }
    }

    /// Whether the API server has not yet caught up with what it was asked before. A conflict is applied
    /// again: the server then reads what changed meanwhile. A RoleBinding that is applied by an account
    /// without the role's own permissions is answered with 404 while the server's cache lacks the Role that
    /// it names (Kubernetes, pkg/registry/rbac/rolebinding/policybased/storage.go, `GetRoleReferenceRules`).
    fn is_early(&self, request: &Parts) -> bool {
        request.method == Method::PATCH
            && match self.code() {
                Some(409) => true,
                Some(404) => request.uri.path().contains("/rolebindings/"),
                Some(_) | None => false,
            }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreached(_) | Self::TooLong => None,
        }
    }

    /// A refusal as kube reads it, with the wait that a header asked for among its details; anything else as
    /// an error.
    fn into_answer(self) -> Result<Answer, BoxError> {
        let (code, mut status, retry_after) = match self {
            Self::Refused { code, status, retry_after } => (code, status, retry_after),
            Self::Unreached(e) => return Err(e),
            Self::TooLong => return Err(TransportError::AnswerTooLong(MAX_ANSWER).into()),
        };
        if let Some(wait) = retry_after {
            let details = status.details.get_or_insert_with(no_details);
            details.retry_after_seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        }
        let body = Bytes::from(serde_json::to_vec(&status)?);
        let response = Response::builder().status(code).header(CONTENT_LENGTH, body.len());
        Ok(response.body(full(body))?)
    }
}

fn no_details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}
