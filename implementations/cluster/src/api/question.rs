//! One question to the API server: sent, bounded, tried again where a second try cannot do a thing twice, and its failure
//! put into words.

use meshproof_harness::timeouts::Timeout;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::core::Status;
use tokio::time::Instant;

use super::{Api, ApiError};

/// The longest answer that is read, in bytes. A page of a list has at most so many objects as [`super::PAGE`].
const MAX_ANSWER: usize = 32 * 1024 * 1024;
/// The longest message of the API server's that is shown, in bytes.
const MAX_WORDS: usize = 2 * 1024;
/// Tries after the first.
const TRIES: usize = 6;
/// The same where nobody has answered yet: there may be no API server at that address.
const TRIES_AT_FIRST: usize = 2;
/// The first wait between tries; each is twice the last, up to [`LONGEST_WAIT`], and jittered.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is asked, and how it is spoken of.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) accept: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    /// As permissions name it: `list`.
    pub(crate) verb: &'static str,
    /// As permissions name it: `pods/log`.
    pub(crate) resource: String,
    pub(crate) namespace: Option<String>,
    /// For people: `Gateway default/cnn`.
    pub(crate) what: String,
    /// Whether a rejection by validation is the implementation's, as for its own custom resources.
    pub(crate) implementation: bool,
}

impl Question {
    /// A question that changes nothing.
    pub(crate) fn get(path: String, resource: &str, what: &str) -> Self {
        Self {
            method: Method::GET,
            path,
            accept: "application/json",
            content_type: "application/json",
            body: Vec::new(),
            verb: "get",
            resource: resource.to_owned(),
            namespace: None,
            what: what.to_owned(),
            implementation: false,
        }
    }

    fn request(&self) -> Result<Request<Body>, Fault> {
        Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(ACCEPT, self.accept)
            .header(CONTENT_TYPE, self.content_type)
            .body(Body::from(self.body.clone()))
            .map_err(|e| Fault::Transport(e.to_string()))
    }

    /// Whether the server is behind with what it has been told. A conflict is applied again: the server reads anew what somebody
    /// changed meanwhile. A RoleBinding of somebody who is no administrator is answered with 404 while the server's own cache lacks
    /// the Role that it names (Kubernetes, pkg/registry/rbac/rolebinding/policybased/storage.go: `GetRoleReferenceRules`).
    fn is_early(&self, fault: &Fault) -> bool {
        self.verb == "patch"
            && match fault.code() {
                Some(409) => true,
                Some(404) => self.resource.starts_with("rolebindings"),
                Some(_) | None => false,
            }
    }

    /// The failure as the suite speaks of it.
    pub(crate) fn error(&self, fault: Fault) -> ApiError {
        let (code, status, retry_after) = match fault {
            Fault::Transport(words) => {
                return ApiError::Unavailable(format!("{} {}: {words}", self.verb, self.what));
            }
            Fault::TooLong => {
                return ApiError::Unavailable(format!(
                    "the answer to {} {} has more than {MAX_ANSWER} bytes",
                    self.verb, self.what
                ));
            }
            Fault::Status { code, status, retry_after } => (code, status, retry_after),
        };
        let words =
            if status.message.is_empty() { format!("status {code}") } else { bounded(&status.message) };
        let rejected = |implementation: bool| ApiError::Rejected {
            what: self.what.clone(),
            implementation,
            words: if implementation {
                words.clone()
            } else {
                format!("{words}; what the cluster's own policies refuse, its administrator can allow")
            },
        };
        match code.as_u16() {
            401 => ApiError::Config(format!(
                "the API server does not know who asks ({words}): renew the credentials in the kubeconfig, or name another \
                 with --kubeconfig or --context"
            )),
            // The authorizer says "User X cannot VERB resource R"; quotas, terminating namespaces and pod security say it in other ways.
            403 if !words.contains(" cannot ") && !words.is_empty() && !status.message.is_empty() => {
                rejected(false)
            }
            403 => ApiError::Forbidden {
                verb: self.verb.to_owned(),
                resource: self.resource.clone(),
                namespace: self.namespace.clone(),
            },
            // Only an object that is not there is told by name.
            404 if status.details.as_ref().is_some_and(|d| !d.name.is_empty()) => {
                ApiError::NotFound(format!("{} ({words})", self.what))
            }
            404 | 405 => ApiError::NotServed(self.resource.clone()),
            409 => ApiError::Conflict(format!("{} ({words})", self.what)),
            429 => ApiError::TooMany(match retry_after {
                Some(wait) => {
                    format!("{} {}: {words}, Retry-After {}s", self.verb, self.what, wait.as_secs())
                }
                None => format!("{} {}: {words}", self.verb, self.what),
            }),
            _ if is_rejection(code, &words) => {
                rejected(denier(&words).map_or(self.implementation, |name| name.ends_with("istio.io")))
            }
            _ => ApiError::Unavailable(format!("{} {}: {words} ({code})", self.verb, self.what)),
        }
    }
}

/// Validation answers 422, webhooks what they like (mostly 400), strict decoding 400, and the typed patch of server-side
/// apply 500 for a field that the schema has not.
fn is_rejection(code: StatusCode, words: &str) -> bool {
    matches!(code.as_u16(), 400 | 413 | 422)
        || words.contains(" denied the request")
        || words.contains("field not declared in schema")
}

/// Who denied it, where it was an admission webhook or policy, as the API server names them: `admission webhook "NAME" denied`,
/// `ValidatingAdmissionPolicy 'NAME' with binding`.
fn denier(words: &str) -> Option<&str> {
    let named =
        |before: &str, quote: char| words.split_once(before)?.1.split_once(quote).map(|(name, _)| name);
    named("admission webhook \"", '"').or_else(|| named("ValidatingAdmissionPolicy '", '\''))
}

/// Why one try came to nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The API server said no.
    Status { code: StatusCode, status: Box<Status>, retry_after: Option<Duration> },
    /// No answer came.
    Transport(String),
    /// The answer has no end.
    TooLong,
}

impl Fault {
    /// From an answer that is none.
    async fn read(response: Response<Body>) -> Self {
        let code = response.status();
        let retry_after = retry_after(response.headers());
        let status = match Limited::new(response.into_body(), 64 * 1024).collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                serde_json::from_slice(&body)
                    .unwrap_or_else(|_| Status::failure(String::from_utf8_lossy(&body).trim(), ""))
            }
            Err(e) => Status::failure(&chain(&*e), ""),
        };
        Self::Status { code, status: status.boxed(), retry_after }
    }

    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(code.as_u16()),
            Self::Transport(_) | Self::TooLong => None,
        }
    }

    /// Whether the same question may have another answer in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Status { code, status, .. } => {
                matches!(code.as_u16(), 429 | 500 | 502 | 503 | 504) && !is_rejection(*code, &status.message)
            }
            Self::Transport(_) => true,
            Self::TooLong => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Transport(_) | Self::TooLong => None,
        }
    }
}

impl From<kube::Error> for Fault {
    fn from(e: kube::Error) -> Self {
        #[allow(clippy::wildcard_enum_match_arm, reason = "kube's errors grow with its features")]
        match e {
            kube::Error::Api(status) => Self::Status {
                code: StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                status,
                retry_after: None,
            },
            other => Self::Transport(chain(&other)),
        }
    }
}

/// Seconds, as Kubernetes writes it; the date of RFC 9110 is not used there.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// An error with its causes, each once, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let told = e.to_string();
        if !words.contains(&told) {
            words = format!("{words}: {told}");
        }
        cause = e.source();
    }
    bounded(&words)
}

fn bounded(words: &str) -> String {
    meshproof_harness::store::bounded(&words.replace(['\n', '\r'], " "), MAX_WORDS)
}

impl Api {
    /// Asks once; a stream's body is the caller's to bound.
    pub(super) async fn open(&self, question: &Question) -> Result<Response<Body>, Fault> {
        let response = self.inner.client.send(question.request()?).await?;
        self.inner.answered.store(true, Ordering::Relaxed);
        if response.status().is_success() { Ok(response) } else { Err(Fault::read(response).await) }
    }

    async fn once(&self, question: &Question) -> Result<Bytes, Fault> {
        let body = Limited::new(self.open(question).await?.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|e| match e.downcast_ref::<http_body_util::LengthLimitError>() {
            Some(_) => Fault::TooLong,
            None => Fault::Transport(chain(&*e)),
        })?;
        Ok(body.to_bytes())
    }

    /// Asks, within the timeout `cluster-answer`, until the answer is one that stays.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Bytes, Fault> {
        let limit = self.inner.timeouts.get(Timeout::ClusterAnswer);
        let deadline = Instant::now() + limit;
        let waits = ExponentialBuilder::new()
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_max_times(TRIES)
            .with_jitter();
        let once = || async {
            tokio::time::timeout_at(deadline, self.once(question)).await.unwrap_or_else(|_| {
                Err(Fault::Transport(format!("no answer within the timeout `cluster-answer` ({limit:?})")))
            })
        };
        let mut unanswered = 0;
        once.retry(waits)
            .when(|fault| {
                if matches!(fault, Fault::Transport(_)) && !self.inner.answered.load(Ordering::Relaxed) {
                    unanswered += 1;
                    return unanswered <= TRIES_AT_FIRST;
                }
                fault.may_pass() || question.is_early(fault)
            })
            .adjust(|fault, wait| {
                let wait = wait?.max(fault.retry_after().unwrap_or_default());
                (Instant::now() + wait < deadline).then_some(wait)
            })
            .await
    }
}
