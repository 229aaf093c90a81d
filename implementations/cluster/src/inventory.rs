//! The objects in a cluster that have the suite's labels.

use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use meshproof_model::ResourceId;

use crate::api::kinds::KINDS;
use crate::api::{ApiError, ClusterClient, ObjectKind};
use crate::owned::{RUN, SCENARIO};
use crate::permissions;

/// How many lists are requested concurrently.
const AT_ONCE: usize = 8;

/// One object that the suite created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Kind, namespace and name.
    pub id: ResourceId,
    /// The run that created it.
    pub run: String,
    /// The seat that it was created for.
    pub scenario: String,
    /// When it was created, by the API server's clock.
    pub created: Option<Timestamp>,
}

impl Owned {
    fn read(kind: &ObjectKind, metadata: ObjectMeta) -> Option<Self> {
        let labels = metadata.labels.unwrap_or_default();
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        Some(Self {
            id: ResourceId {
                kind: kind.kind.to_owned(),
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name?,
            },
            run: label(RUN),
            scenario: label(SCENARIO),
            created: metadata.creation_timestamp.map(|time| time.0),
        })
    }

    /// Whether it is a namespace.
    #[must_use]
    pub fn is_namespace(&self) -> bool {
        self.id.kind == "Namespace"
    }

    /// How old it is; zero where the clocks disagree.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        self.created.and_then(|c| Duration::try_from(now.duration_since(c)).ok()).unwrap_or_default()
    }

    /// `Namespace mp-1-x-default` or `Secret istio-system/client`.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.id.namespace.is_empty() {
            format!("{} {}", self.id.kind, self.id.name)
        } else {
            self.id.to_string()
        }
    }
}

/// Every object that the label selector matches, by kind, namespace and name; of the suite's own namespaces
/// only the namespace itself, because its content is deleted with it.
///
/// # Errors
/// The cluster's.
pub async fn owned(api: &ClusterClient, selector: &str) -> Result<Vec<Owned>, ApiError> {
    let served = api.served().await?;
    let lists: Vec<_> = KINDS
        .iter()
        // The suite creates nothing that it may not delete.
        .filter(|k| permissions::has(k.group, k.plural, "delete") && served.api_version(k.kind).is_some())
        .map(|kind| of_kind(api, kind, selector))
        .collect();
    let found: Vec<Vec<Owned>> = stream::iter(lists).buffered(AT_ONCE).try_collect().await?;
    let found: Vec<Owned> = found.into_iter().flatten().collect();
    let namespaces: Vec<String> =
        found.iter().filter(|o| o.is_namespace()).map(|o| o.id.name.clone()).collect();
    let mut found: Vec<Owned> = found.into_iter().filter(|o| !namespaces.contains(&o.id.namespace)).collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

async fn of_kind(
    api: &ClusterClient,
    kind: &'static ObjectKind,
    selector: &str,
) -> Result<Vec<Owned>, ApiError> {
    let objects = match api.list_metadata(kind.kind, None, Some(selector)).await {
        // A run creates none without this permission.
        Err(ApiError::Forbidden(_)) if kind.optional => Vec::new(),
        listed => listed?,
    };
    Ok(objects.into_iter().filter_map(|metadata| Owned::read(kind, metadata)).collect())
}
