//! Objects of the cluster: read, listed, applied and deleted.

use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, ObjectList};
use meshproof_harness::timeouts::Timeouts;
use meshproof_model::{Resource, ResourceId};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::error::{ApiError, Subject};
use super::kinds::ObjectKind;
use super::served::{ServedVersions, discover};
use super::transport::bounded;
use crate::owned::MANAGER;

/// Objects on one page of a list.
const PAGE: u32 = 500;
/// The most objects of a kind that are read.
pub(super) const MAX_OBJECTS: usize = 20_000;
/// How often a list is begun again because its continuation was too old (410).
const MAX_BEGINNINGS: usize = 3;

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

/// A connection to a cluster. Clones share it.
#[derive(Clone)]
pub struct ClusterClient {
    inner: Arc<Shared>,
}

struct Shared {
    client: kube::Client,
    timeouts: Timeouts,
    served: OnceCell<ServedVersions>,
}

impl ClusterClient {
    /// On an existing client, such as a test's, whose answers are bounded and repeated from here on.
    #[must_use]
    pub fn with_client(client: kube::Client, timeouts: Timeouts) -> Self {
        let client = bounded(client, &timeouts);
        Self { inner: Arc::new(Shared { client, timeouts, served: OnceCell::new() }) }
    }

    /// kube's client below it.
    pub(super) fn kube(&self) -> kube::Client {
        self.inner.client.clone()
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
    pub async fn served(&self) -> Result<&ServedVersions, ApiError> {
        self.inner.served.get_or_try_init(|| discover(&self.inner.client)).await
    }

    /// Server-side apply with the manager [`MANAGER`], forced: the suite's fields win. Labels are the
    /// caller's. A field that the cluster does not know is an error, not left out. Returns the object as the
    /// cluster has it.
    ///
    /// # Errors
    /// [`ApiError::Rejected`] with the words of a webhook or of validation, or the cluster's.
    pub async fn apply(&self, resource: &Resource) -> Result<Value, ApiError> {
        self.applied(resource, PatchParams::apply(MANAGER)).await
    }

    /// Whether the cluster would take this object, by its validation, its webhooks and its policies; nothing is stored (Kubernetes,
    /// "Dry-run").
    ///
    /// # Errors
    /// As for [`ClusterClient::apply`].
    pub async fn try_apply(&self, resource: &Resource) -> Result<(), ApiError> {
        self.applied(resource, PatchParams::apply(MANAGER).dry_run()).await.map(drop)
    }

    async fn applied(&self, resource: &Resource, parameters: PatchParams) -> Result<Value, ApiError> {
        let kind = known(resource.kind())?;
        let version = resource.api_version().rsplit('/').next().unwrap_or_default();
        let id = resource.id();
        let mut body = resource.0.clone();
        if kind.kind == "Secret" {
            encode(&mut body);
        }
        if !kind.namespaced
            && let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("namespace");
        }
        let objects = self.objects_in(kind, version, Some(&id.namespace))?;
        let parameters = parameters.force().validation_strict();
        let applied = objects.patch(checked(&id.name)?, &parameters, &Patch::Apply(&body)).await;
        applied.map_err(|e| about(kind, shown(kind, &id)).error(e)).and_then(value)
    }

    /// Deletes one object; that it does not exist is fine.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn delete(&self, id: &ResourceId) -> Result<(), ApiError> {
        let kind = known(&id.kind)?;
        let objects = self.objects(kind, Some(&id.namespace)).await?;
        // What depends on the object goes after it.
        let deleted = objects.delete(checked(&id.name)?, &DeleteParams::background()).await;
        match deleted.map_err(|e| about(kind, shown(kind, id)).error(e)) {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// One object, or none. `namespace` is ignored where the kind has none.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let kind = known(kind)?;
        let objects = self.objects(kind, Some(namespace)).await?;
        let id = ResourceId { kind: kind.kind.into(), namespace: namespace.into(), name: name.into() };
        match objects.get(checked(name)?).await.map_err(|e| about(kind, shown(kind, &id)).error(e)) {
            Ok(object) => value(object).map(Some),
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
        let selected =
            ListParams { label_selector: label_selector.map(str::to_owned), ..ListParams::default() };
        Ok(self.list_from(known(kind)?, namespace, &selected).await?.0)
    }

    /// The metadata alone of all objects of a kind: a Secret's data stays in the cluster.
    ///
    /// # Errors
    /// As for [`ClusterClient::list`].
    pub async fn list_metadata(
        &self,
        kind: &str,
        namespace: Option<&str>,
        label_selector: Option<&str>,
    ) -> Result<Vec<ObjectMeta>, ApiError> {
        let kind = known(kind)?;
        let selected =
            ListParams { label_selector: label_selector.map(str::to_owned), ..ListParams::default() };
        let objects = self.objects(kind, namespace).await?;
        let page = |page: ListParams| {
            let objects = objects.clone();
            async move { objects.list_metadata(&page).await }
        };
        let (found, _) = pages(kind, &selected, page).await?;
        Ok(found.into_iter().map(|object| object.metadata).collect())
    }

    /// The objects, and the resource version that a watch goes on from.
    pub(super) async fn list_from(
        &self,
        kind: &ObjectKind,
        namespace: Option<&str>,
        selected: &ListParams,
    ) -> Result<(Vec<Value>, String), ApiError> {
        let objects = self.objects(kind, namespace).await?;
        let page = |page: ListParams| {
            let objects = objects.clone();
            async move { objects.list(&page).await }
        };
        let (found, version) = pages(kind, selected, page).await?;
        let found: Result<_, _> = found.into_iter().map(value).collect();
        Ok((found?, version))
    }

    /// The objects of a kind in the version that the cluster serves.
    pub(super) async fn objects(
        &self,
        kind: &ObjectKind,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>, ApiError> {
        if !kind.is_istio() {
            return self.objects_in(kind, kind.versions[0], namespace);
        }
        let version = self.served().await?.version(kind.kind);
        let version = version.ok_or_else(|| ApiError::NotServed(kind.qualified_name()))?;
        self.objects_in(kind, version, namespace)
    }

    fn objects_in(
        &self,
        kind: &ObjectKind,
        version: &str,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>, ApiError> {
        let resource = kind.in_version(version);
        Ok(match namespace.filter(|_| kind.namespaced) {
            Some(namespace) => Api::namespaced_with(self.kube(), checked(namespace)?, &resource),
            None => Api::all_with(self.kube(), &resource),
        })
    }

    /// Whether the account may do this, as the cluster itself decides (`SelfSubjectAccessReview`).
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
        self.may_in(None, verb, group, resource, subresource).await
    }

    /// The same in one namespace; none: in the whole cluster.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn may_in(
        &self,
        namespace: Option<&str>,
        verb: &str,
        group: &str,
        resource: &str,
        subresource: Option<&str>,
    ) -> Result<bool, ApiError> {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let spec =
            SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let subject = Subject::new("SelfSubjectAccessReviews");
        let reviewed = Api::all(self.kube()).create(&PostParams::default(), &review).await;
        let reviewed = reviewed.map_err(|e| subject.error(e))?;
        Ok(reviewed.status.is_some_and(|status| status.allowed))
    }

    /// The API server's own version.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn server_version(&self) -> Result<Info, ApiError> {
        let version = self.inner.client.apiserver_version().await;
        version.map_err(|e| Subject::new("the API server's version").error(e))
    }
}

/// Reads a list page by page, which kube leaves to its callers, and no further than [`MAX_OBJECTS`].
async fn pages<K: Clone, F: Future<Output = kube::Result<ObjectList<K>>>>(
    kind: &ObjectKind,
    selected: &ListParams,
    page: impl Fn(ListParams) -> F,
) -> Result<(Vec<K>, String), ApiError> {
    let mut beginnings = 0;
    'begin: loop {
        beginnings += 1;
        let mut objects = Vec::new();
        let mut next = selected.clone().limit(PAGE);
        loop {
            let list = match page(next.clone()).await {
                Err(kube::Error::Api(status)) if status.code == 410 && beginnings < MAX_BEGINNINGS => {
                    continue 'begin;
                }
                list => list.map_err(|e| about(kind, kind.qualified_name()).error(e))?,
            };
            objects.extend(list.items);
            if objects.len() > MAX_OBJECTS {
                return Err(ApiError::Unavailable(format!(
                    "there are more than {MAX_OBJECTS} {}s, which is more than the suite reads",
                    kind.kind
                )));
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => next = next.continue_token(&token),
                None => return Ok((objects, list.metadata.resource_version.unwrap_or_default())),
            }
        }
    }
}

/// What the errors of a request about objects of a kind speak of.
pub(super) fn about(kind: &ObjectKind, what: String) -> Subject {
    Subject { what, of_implementation: kind.is_istio() }
}

pub(super) fn known(kind: &str) -> Result<&'static ObjectKind, ApiError> {
    ObjectKind::named(kind).ok_or_else(|| {
        ApiError::Config(format!("meshproof does not support objects of the kind {kind} in a cluster"))
    })
}

/// `Gateway default/cnn`, `Namespace mp-1`.
pub(super) fn shown(kind: &ObjectKind, id: &ResourceId) -> String {
    if kind.namespaced { id.to_string() } else { format!("{} {}", id.kind, id.name) }
}

/// A name as a segment of a path. kube puts names into paths as they are, so one that could leave its segment
/// is refused here. Kubernetes itself refuses `/` and `%` in every name (apimachinery,
/// pkg/api/validation/path/name.go), and the names of all kinds that the suite uses consist of these
/// characters.
fn checked(name: &str) -> Result<&str, ApiError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if !name.is_empty() && name.bytes().all(fits) && name != "." && name != ".." {
        return Ok(name);
    }
    Err(ApiError::Config(format!("{name:?} is not a name that Kubernetes accepts: rename the object")))
}

/// Writes a Secret's `stringData` as its `data`. With a server-side apply of `stringData`, the API server does not remove a key from
/// `data` when a later apply leaves it out.
fn encode(secret: &mut Value) {
    use base64::Engine as _;
    let Some(fields) = secret.as_object_mut() else { return };
    let Some(Value::Object(plain)) = fields.remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| Value::Object(serde_json::Map::new()));
    let Some(data) = data.as_object_mut() else { return };
    data.extend(plain.into_iter().map(|(key, value)| {
        let text = value.as_str().unwrap_or_default();
        (key, Value::from(base64::engine::general_purpose::STANDARD.encode(text)))
    }));
}

pub(super) fn value(object: DynamicObject) -> Result<Value, ApiError> {
    serde_json::to_value(object).map_err(|e| ApiError::Unavailable(format!("an object cannot be read ({e})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_segment_of_the_path_is_refused() {
        for name in ["", ".", "..", "a/../b", "x?y=z#", "a%2Fb", "a b", "ä"] {
            assert!(checked(name).is_err(), "{name:?}");
        }
        for name in ["istio-sidecar-injector", "a.b", "system:masters", "A_1"] {
            assert_eq!(checked(name).unwrap(), name);
        }
    }

    #[test]
    fn the_content_of_a_secret_is_data_and_no_string_data() {
        let mut secret = serde_json::json!({"data": {"kept": "MQ=="}, "stringData": {"ca.crt": "a CA"}});
        encode(&mut secret);
        assert_eq!(secret, serde_json::json!({"data": {"kept": "MQ==", "ca.crt": "YSBDQQ=="}}));
    }
}
