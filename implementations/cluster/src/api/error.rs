//! What may go wrong between the suite and a cluster, who is to blame, and what to do.

use meshproof_harness::timeouts::Timeout;
use std::time::Duration;

use kube::core::Status;
use meshproof_harness::target::TargetError;

/// The longest message of the API server that is shown, in bytes.
const MAX_WORDS: usize = 2 * 1024;

/// Why the cluster did not do what was asked. Every message names the fix.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The suite's account lacks a permission. The API server's words name it.
    #[error(
        "the suite's account lacks a permission: {0}; apply fixtures/cluster/rbac.yaml and run under its \
         service account, or see \
         `meshproof doctor --target cluster`"
    )]
    Forbidden(String),
    /// The cluster does not serve this kind.
    #[error(
        "the cluster does not serve {0}: install the custom resources of the mesh (`istioctl install`, or \
         the chart istio/base)"
    )]
    NotServed(String),
    /// A webhook or validation refused it.
    #[error("{what} was rejected: {words}")]
    Rejected {
        /// What was applied: `Gateway default/cnn`.
        what: String,
        /// Whether the implementation refused it (its webhook, or the validation of its custom resources),
        /// and not another policy of the cluster.
        implementation: bool,
        /// The words of the refusal, and what to do where the cluster is to blame.
        words: String,
    },
    /// A webhook, which the API server asks before it stores an object, did not answer.
    #[error(
        "{what} was not stored, because the webhook {webhook} did not answer the API server: {words}; {}",
        after_silence(webhook)
    )]
    Webhook {
        /// What was applied: `Gateway default/cnn`.
        what: String,
        /// The webhook's name: `rev.validation.istio.io`.
        webhook: String,
        /// The API server's words.
        words: String,
    },
    /// Another client kept changing the object.
    #[error(
        "{0} was changed by another client each time it was applied: see which one manages it \
         (`kubectl get -o yaml --show-managed-fields`)"
    )]
    Conflict(String),
    /// The object does not exist.
    #[error(
        "the cluster has no {0}: it was never created, or something deleted it during the run; run again, \
         and see what deletes it"
    )]
    NotFound(String),
    /// The API server asks to slow down.
    #[error(
        "the API server kept asking to slow down ({0}): run again when the cluster is less busy, or with \
         --jobs 1"
    )]
    TooMany(String),
    /// The API server cannot be reached or cannot answer.
    #[error(
        "the API server cannot be used: {0}; check `kubectl get --raw /readyz` with the same kubeconfig and \
         context"
    )]
    Unavailable(String),
    /// A condition did not come true in time.
    #[error(
        "timed out after {limit:?} waiting until {what} (timeout `{timeout}`); last seen: {last}; if it only \
         needed more time, \
         raise the limit with --timeout {timeout}=DURATION"
    )]
    TimedOut {
        /// The timeout's name.
        timeout: Timeout,
        /// How long it is.
        limit: Duration,
        /// The condition, as a clause: `pod sleep in mp-1 is ready`.
        what: String,
        /// The last state that was seen.
        last: String,
    },
    /// A program could not be run in a container, or how it ended is unknown.
    #[error("{0}")]
    Exec(String),
    /// The kubeconfig, the context or the credentials.
    #[error("{0}")]
    Config(String),
}

impl ApiError {
    /// Whose fault it is: a rejection by the implementation is its refusal; everything else is the
    /// environment's.
    #[must_use]
    pub fn blame(self) -> TargetError {
        match self {
            Self::Rejected { implementation: true, what, words } => {
                TargetError::Refused(format!("{what}: {words}"))
            }
            Self::Rejected { implementation: false, .. }
            | Self::Forbidden(_)
            | Self::NotServed(_)
            | Self::Conflict(_)
            | Self::NotFound(_)
            | Self::TooMany(_)
            | Self::Unavailable(_)
            | Self::Webhook { .. }
            | Self::TimedOut { .. }
            | Self::Exec(_)
            | Self::Config(_) => TargetError::Environment(self.to_string()),
        }
    }
}

/// Why the transport took no answer from the API server.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// Nothing came in time.
    #[error("no answer within the timeout `cluster-answer` ({0:?})")]
    NoAnswer(Duration),
    /// The answer is longer than the suite reads.
    #[error("the answer has more than {0} bytes")]
    AnswerTooLong(usize),
    /// An event of a watch is longer than the suite reads.
    #[error("an event of the watch has more than {0} bytes")]
    EventTooLong(usize),
}

/// What to do where a policy of the cluster refuses an object.
const BY_POLICY: &str = "; a policy of the cluster refuses this, and its administrator can allow it";
/// What to do where Kubernetes finds an object invalid, which the suite made.
const BY_VALIDATION: &str = "; this is a defect of meshproof, or this version of Kubernetes is not supported: please \
                             report it with the version";

/// What a request is about, for its errors.
pub(super) struct Subject {
    /// For people: `Gateway default/cnn`.
    pub(super) what: String,
    /// Whether a rejection by validation is the implementation's, as for its own custom resources.
    pub(super) of_implementation: bool,
}

impl Subject {
    /// A part of the cluster that the implementation does not validate.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), of_implementation: false }
    }

    /// kube's error as the suite speaks of it.
    pub(super) fn error(&self, e: kube::Error) -> ApiError {
        #[allow(clippy::wildcard_enum_match_arm, reason = "kube's errors grow with its features")]
        match e {
            kube::Error::Api(status) => self.refusal(&status),
            kube::Error::SerdeError(e) => ApiError::Unavailable(format!(
                "the answer about {} is not JSON of the expected form ({e})",
                self.what
            )),
            other => ApiError::Unavailable(format!("{}: {}", self.what, words(&other))),
        }
    }

    fn refusal(&self, status: &Status) -> ApiError {
        let code = status.code;
        let said = status.message.as_str();
        let words = if said.is_empty() { format!("status {code}") } else { bounded(said) };
        let rejected = |implementation: bool, advice: &str| ApiError::Rejected {
            what: self.what.clone(),
            implementation,
            words: format!("{words}{advice}"),
        };
        match code {
            401 => ApiError::Config(format!(
                "the API server does not accept the credentials ({words}): renew the credentials in the \
                 kubeconfig, or name \
                 another with --kubeconfig or --context"
            )),
            // The authorizer says "User X cannot VERB resource R"; quotas, terminating namespaces and pod
            // security say it in other ways.
            403 if !words.contains(" cannot ") && !said.is_empty() => rejected(false, BY_POLICY),
            403 => ApiError::Forbidden(format!("{} ({words})", self.what)),
            // Only the answer about an object that does not exist has its name.
            404 if status.details.as_ref().is_some_and(|d| !d.name.is_empty()) => {
                ApiError::NotFound(format!("{} ({words})", self.what))
            }
            404 | 405 => ApiError::NotServed(self.what.clone()),
            409 => ApiError::Conflict(format!("{} ({words})", self.what)),
            429 => {
                let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                ApiError::TooMany(format!("{}: {words}, Retry-After {wait}s", self.what))
            }
            _ if is_rejection(code, &words) => {
                match denier(&words).map_or(self.of_implementation, |name| name.ends_with("istio.io")) {
                    true => rejected(true, ""),
                    // Kubernetes' own validation of its own kinds (k8s.io/apimachinery, pkg/api/errors, `NewInvalid`).
                    false if code == 422 && status.reason == "Invalid" && denier(&words).is_none() => {
                        rejected(false, BY_VALIDATION)
                    }
                    false => rejected(false, BY_POLICY),
                }
            }
            _ => match silent_webhook(&words) {
                Some(name) => ApiError::Webhook {
                    what: self.what.clone(),
                    webhook: name.to_owned(),
                    words: words.clone(),
                },
                None => ApiError::Unavailable(format!("{}: {words} (status {code})", self.what)),
            },
        }
    }
}

/// Whether the same request may have another answer in a moment.
pub(super) fn may_pass(e: &kube::Error) -> bool {
    #[allow(clippy::wildcard_enum_match_arm, reason = "kube's errors grow with its features")]
    match e {
        kube::Error::Api(status) => is_transient(status.code) && !is_rejection(status.code, &status.message),
        kube::Error::BuildRequest(_) | kube::Error::SerdeError(_) => false,
        e => !is_too_long(e),
    }
}

/// Whether the transport gave the answer up for its length.
pub(super) fn is_too_long(e: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(e), |e| e.source());
    causes.any(|e| {
        let transport = e.downcast_ref();
        matches!(transport, Some(TransportError::AnswerTooLong(_) | TransportError::EventTooLong(_)))
    })
}

/// The status codes of a server that is overloaded, restarting or behind a proxy that cannot reach it.
pub(super) fn is_transient(code: u16) -> bool {
    matches!(code, 429 | 500 | 502 | 503 | 504)
}

/// Validation answers 422, webhooks any code (mostly 400), strict decoding 400, and the typed patch of
/// server-side apply 500 for a field that the schema does not have.
pub(super) fn is_rejection(code: u16, words: &str) -> bool {
    matches!(code, 400 | 413 | 422)
        || words.contains(" denied the request")
        || words.contains("field not declared in schema")
}

/// The admission webhook or policy that denied it, as the API server names them: `admission webhook "NAME"
/// denied`, `ValidatingAdmissionPolicy 'NAME' with binding`.
fn denier(words: &str) -> Option<&str> {
    named(words, "admission webhook \"", '"').or_else(|| named(words, "ValidatingAdmissionPolicy '", '\''))
}

/// The webhook that did not answer, as the API server names it (k8s.io/apiserver,
/// pkg/admission/plugin/webhook/errors/statuserror.go, `ErrCallingWebhook`: `failed calling webhook "NAME"`).
fn silent_webhook(words: &str) -> Option<&str> {
    named(words, "failed calling webhook \"", '"')
}

/// What to do about a webhook that does not answer. Those of Istio are istiod's.
fn after_silence(webhook: &str) -> &'static str {
    if webhook.ends_with("istio.io") {
        "istiod serves it: see `kubectl get pods --all-namespaces --selector app=istiod`, and whether the API server reaches its \
         Service (on private clusters a firewall rule for port 15017)"
    } else {
        "see `kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations`, and whether its Service has ready pods"
    }
}

fn named<'w>(words: &'w str, before: &str, quote: char) -> Option<&'w str> {
    words.split_once(before)?.1.split_once(quote).map(|(name, _)| name)
}

/// kube's error in words, without the layer that it passed through.
pub(super) fn words(e: &kube::Error) -> String {
    #[allow(clippy::wildcard_enum_match_arm, reason = "kube's errors grow with its features")]
    match e {
        kube::Error::Api(status) => bounded(&format!("{} (status {})", status.message, status.code)),
        kube::Error::Service(e) => chain(&**e),
        kube::Error::HyperError(e) => chain(e),
        other => chain(other),
    }
}

/// An error with its causes, each once, on one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let said = e.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        cause = e.source();
    }
    bounded(&words)
}

fn bounded(words: &str) -> String {
    meshproof_harness::store::bounded(&words.replace(['\n', '\r'], " "), MAX_WORDS)
}
