//! The Kubernetes API as the target uses it: few verbs, all of them bounded in size and time, tried again where a second try
//! cannot do a thing twice, and with errors that say who is to blame and how to mend it.

mod connect;
mod error;
mod exec;
mod forward;
pub mod kinds;
mod lines;
mod logs;
pub(crate) mod question;
pub(crate) mod summary;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::Method;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_model::{Resource, ResourceId};
use serde_json::Value;
use tokio::sync::OnceCell;
use url::form_urlencoded::Serializer;

pub use error::ApiError;
pub use exec::{ExecLimits, ExecOutput};
pub use kinds::Kind;
pub use logs::{LogEnd, LogFollower};

use crate::discovery::{Served, discover};
use crate::owned::MANAGER;
use question::{Fault, Question};

/// Objects on one page of a list.
pub(crate) const PAGE: usize = 500;
/// The most objects of a kind that are read.
pub(crate) const MOST_OBJECTS: usize = 20_000;
/// Whole objects, or their metadata alone.
const WHOLE: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
/// How often a list is begun again because its continuation was too old (410).
const BEGINNINGS: usize = 3;

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Where it runs.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
}

/// Which objects of a kind are meant.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// A label selector, as `kubectl -l` takes it.
    pub labels: Option<String>,
    /// The one of this name.
    pub name: Option<String>,
}

impl Selector {
    /// All that carry these labels.
    #[must_use]
    pub fn labels(labels: impl Into<String>) -> Self {
        Self { labels: Some(labels.into()), name: None }
    }

    /// The one of this name.
    #[must_use]
    pub fn name(name: impl Into<String>) -> Self {
        Self { labels: None, name: Some(name.into()) }
    }
}

/// A connection to a cluster. Clones share it.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    timeouts: Timeouts,
    served: OnceCell<Served>,
    /// Whether the API server has answered anything yet.
    answered: AtomicBool,
}

impl Api {
    /// On a client that is there, such as a test's.
    #[must_use]
    pub fn with_client(client: kube::Client, timeouts: Timeouts) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                timeouts,
                served: OnceCell::new(),
                answered: AtomicBool::new(false),
            }),
        }
    }

    /// The timeouts that waits are bounded by.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.inner.timeouts
    }

    /// Which versions of the mesh's custom resources are served. Asked once.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn served(&self) -> Result<&Served, ApiError> {
        self.inner.served.get_or_try_init(|| discover(self)).await
    }

    /// Server-side apply with the manager [`MANAGER`], forced: what the suite says holds. Labels are the caller's. A field
    /// that the cluster does not know is an error, not left out.
    /// Returns the object as the cluster has it.
    ///
    /// # Errors
    /// [`ApiError::Rejected`] with the words of a webhook or of validation, or the cluster's.
    pub async fn apply(&self, resource: &Resource) -> Result<Value, ApiError> {
        let kind = known(resource.kind())?;
        let version = resource.api_version().rsplit('/').next().unwrap_or_default();
        let path = kind.path(version, Some(resource.namespace()), Some(resource.name()));
        let mut body = resource.0.clone();
        if !kind.namespaced
            && let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("namespace");
        }
        let question = Question {
            method: Method::PATCH,
            path: format!("{path}?fieldManager={MANAGER}&force=true&fieldValidation=Strict"),
            // Every JSON document is YAML.
            content_type: "application/apply-patch+yaml",
            body: serde_json::to_vec(&body).map_err(|e| ApiError::Config(e.to_string()))?,
            verb: "patch",
            what: shown(kind, &resource.id()),
            implementation: kind.is_istio(),
            ..self.about(kind, Some(resource.namespace()))
        };
        let answer = self.ask(&question).await.map_err(|fault| question.error(fault))?;
        json(&answer, &question.what)
    }

    /// Deletes one object; that it is absent is fine.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn delete(&self, id: &ResourceId) -> Result<(), ApiError> {
        let kind = known(&id.kind)?;
        let path = kind.path(&self.version(kind).await?, Some(&id.namespace), Some(&id.name));
        let question = Question {
            method: Method::DELETE,
            path,
            // What hangs on the object goes with it, and before it.
            body: br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#.to_vec(),
            verb: "delete",
            what: shown(kind, id),
            ..self.about(kind, Some(&id.namespace))
        };
        match self.ask(&question).await.map_err(|fault| question.error(fault)) {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Deletes one object and returns when it is gone.
    ///
    /// # Errors
    /// [`ApiError::TimedOut`] with what holds it (finalizers, what is left in a namespace), or the cluster's.
    pub async fn delete_and_wait(&self, id: &ResourceId, limit: Duration) -> Result<(), ApiError> {
        self.delete(id).await?;
        let kind = known(&id.kind)?;
        let awaited = watch::Awaited {
            kind,
            namespace: Some(&id.namespace),
            selector: Selector::name(&id.name),
            timeout: Timeout::Teardown,
            limit,
            what: &format!("{} is gone", shown(kind, id)),
        };
        self.watch_for(&awaited, |objects| objects.is_empty().then_some(())).await
    }

    /// One object, or none. `namespace` is ignored where the kind has none.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let kind = known(kind)?;
        let question = Question {
            path: kind.path(&self.version(kind).await?, Some(namespace), Some(name)),
            what: shown(
                kind,
                &ResourceId { kind: kind.kind.into(), namespace: namespace.into(), name: name.into() },
            ),
            ..self.about(kind, Some(namespace))
        };
        match self.ask(&question).await.map_err(|fault| question.error(fault)) {
            Ok(answer) => json(&answer, &question.what).map(Some),
            Err(ApiError::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All objects of a kind, in one namespace or in all.
    ///
    /// # Errors
    /// The cluster's, or there are more than the suite reads.
    pub async fn list(
        &self,
        kind: &str,
        namespace: Option<&str>,
        label_selector: Option<&str>,
    ) -> Result<Vec<Value>, ApiError> {
        let selector = Selector { labels: label_selector.map(str::to_owned), name: None };
        let (objects, _) = self.list_from(known(kind)?, namespace, &selector, WHOLE).await?;
        Ok(objects)
    }

    /// The same with nothing but their metadata: a Secret's data stays where it is.
    ///
    /// # Errors
    /// As for [`Api::list`].
    pub async fn list_metadata(
        &self,
        kind: &str,
        namespace: Option<&str>,
        label_selector: Option<&str>,
    ) -> Result<Vec<Value>, ApiError> {
        let selector = Selector { labels: label_selector.map(str::to_owned), name: None };
        let (objects, _) = self.list_from(known(kind)?, namespace, &selector, METADATA).await?;
        Ok(objects)
    }

    /// The objects, and the resource version that a watch goes on from.
    async fn list_from(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        selector: &Selector,
        accept: &'static str,
    ) -> Result<(Vec<Value>, String), ApiError> {
        let path = kind.path(&self.version(kind).await?, namespace, None);
        let about = || Question {
            accept,
            verb: "list",
            what: format!("{}s", kind.kind),
            ..self.about(kind, namespace.filter(|_| kind.namespaced))
        };
        let page_size = PAGE.to_string();
        let mut beginnings = 0;
        'begin: loop {
            beginnings += 1;
            let mut objects = Vec::new();
            let mut after = String::new();
            loop {
                let mut more = vec![("limit", page_size.as_str())];
                if !after.is_empty() {
                    more.push(("continue", &after));
                }
                let question = Question { path: format!("{path}?{}", query(selector, &more)), ..about() };
                let answer = match self.ask(&question).await {
                    Err(fault) if fault.code() == Some(410) && beginnings < BEGINNINGS => continue 'begin,
                    answer => answer.map_err(|fault| question.error(fault))?,
                };
                let mut page = json(&answer, &question.what)?;
                if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                    objects.extend(items);
                }
                if objects.len() > MOST_OBJECTS {
                    return Err(ApiError::Unavailable(format!(
                        "there are more than {MOST_OBJECTS} {}s, which is more than the suite reads",
                        kind.kind
                    )));
                }
                let metadata = |field: &str| page["metadata"][field].as_str().unwrap_or_default().to_owned();
                after = metadata("continue");
                if after.is_empty() {
                    return Ok((objects, metadata("resourceVersion")));
                }
            }
        }
    }

    /// Lists and watches until `seen` finds what it looks for among the objects; it is asked after every change.
    ///
    /// # Errors
    /// [`ApiError::TimedOut`] with `what` was awaited and the last state seen, or the cluster's.
    pub async fn watch_until<T: Send>(
        &self,
        kind: &str,
        namespace: Option<&str>,
        selector: Selector,
        timeout: Timeout,
        what: &str,
        seen: impl FnMut(&[Value]) -> Option<T> + Send,
    ) -> Result<T, ApiError> {
        let timeout = (timeout, self.inner.timeouts.get(timeout));
        self.watch_within(kind, namespace, selector, timeout, what, seen).await
    }

    /// The same for what is left of a timeout, with its name.
    ///
    /// # Errors
    /// As for [`Api::watch_until`].
    pub async fn watch_within<T: Send>(
        &self,
        kind: &str,
        namespace: Option<&str>,
        selector: Selector,
        (timeout, limit): (Timeout, Duration),
        what: &str,
        seen: impl FnMut(&[Value]) -> Option<T> + Send,
    ) -> Result<T, ApiError> {
        let awaited = watch::Awaited { kind: known(kind)?, namespace, selector, timeout, limit, what };
        self.watch_for(&awaited, seen).await
    }

    /// A question about a kind, to be completed.
    fn about(&self, kind: &Kind, namespace: Option<&str>) -> Question {
        Question {
            namespace: namespace.filter(|_| kind.namespaced).map(str::to_owned),
            ..Question::get(String::new(), &kind.resource(), kind.kind)
        }
    }

    /// The version that a kind is asked for in.
    async fn version(&self, kind: &Kind) -> Result<String, ApiError> {
        if !kind.is_istio() {
            return Ok(kind.versions[0].to_owned());
        }
        let served = self.served().await?.api_version(kind.kind);
        let version = served.as_deref().and_then(|v| v.rsplit('/').next()).map(str::to_owned);
        version.ok_or_else(|| ApiError::NotServed(kind.resource()))
    }

    /// Whether the account may do this, by the cluster's own judgement (`SelfSubjectAccessReview`).
    ///
    /// # Errors
    /// The cluster's.
    pub async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
        subresource: Option<&str>,
    ) -> Result<bool, ApiError> {
        let mut attributes = serde_json::json!({ "verb": verb, "group": group, "resource": resource });
        if let Some(subresource) = subresource {
            attributes["subresource"] = Value::from(subresource);
        }
        let review = serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let name = "selfsubjectaccessreviews.authorization.k8s.io";
        let question = Question {
            method: Method::POST,
            body: review.to_string().into_bytes(),
            verb: "create",
            ..Question::get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(), name, name)
        };
        let answer = self.ask(&question).await.map_err(|fault| question.error(fault))?;
        Ok(json(&answer, name)?["status"]["allowed"] == true)
    }

    /// What the API server says of itself: `{"gitVersion": "v1.34.0", ...}`.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn server_version(&self) -> Result<Value, ApiError> {
        let question =
            Question::get("/version".to_owned(), "the API server's version", "the API server's version");
        let answer = self.ask(&question).await.map_err(|fault| question.error(fault))?;
        json(&answer, &question.what)
    }
}

fn known(kind: &str) -> Result<&'static Kind, ApiError> {
    Kind::named(kind)
        .ok_or_else(|| ApiError::Config(format!("the suite has no way to speak of a {kind} in a cluster")))
}

/// `Gateway default/cnn`, `Namespace mp-1`.
fn shown(kind: &Kind, id: &ResourceId) -> String {
    if kind.namespaced { id.to_string() } else { format!("{} {}", id.kind, id.name) }
}

/// A selector and more, as the query of an address.
fn query(selector: &Selector, more: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    if let Some(labels) = &selector.labels {
        query.append_pair("labelSelector", labels);
    }
    if let Some(name) = &selector.name {
        query.append_pair("fieldSelector", &format!("metadata.name={name}"));
    }
    query.extend_pairs(more).finish()
}

fn json(answer: &[u8], what: &str) -> Result<Value, ApiError> {
    serde_json::from_slice(answer)
        .map_err(|e| ApiError::Unavailable(format!("the answer about {what} is not JSON ({e})")))
}

/// The API server's answer to an upgrade, or none.
fn upgrade_error(question: &Question, e: kube::Error) -> ApiError {
    question.error(Fault::from(e))
}
