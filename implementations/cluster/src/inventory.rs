//! What carries the suite's labels in a cluster.

use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use meshproof_model::ResourceId;
use serde_json::Value;

use crate::api::kinds::KINDS;
use crate::api::{Api, ApiError, Kind};
use crate::owned::{RUN, SCENARIO};
use crate::permissions;

/// Lists asked for at once.
const AT_ONCE: usize = 8;

/// One object of the suite's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// What it is.
    pub id: ResourceId,
    /// Whose.
    pub run: String,
    /// For which seat.
    pub scenario: String,
    /// Since when, by the API server's clock.
    pub created: Option<Timestamp>,
}

impl Owned {
    fn read(kind: &Kind, object: &Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let label = |key: &str| metadata["labels"][key].as_str().unwrap_or_default().to_owned();
        Some(Self {
            id: ResourceId {
                kind: kind.kind.to_owned(),
                namespace: text("namespace"),
                name: metadata["name"].as_str()?.to_owned(),
            },
            run: label(RUN),
            scenario: label(SCENARIO),
            created: text("creationTimestamp").parse().ok(),
        })
    }

    /// Whether it is a namespace.
    #[must_use]
    pub fn is_namespace(&self) -> bool {
        self.id.kind == "Namespace"
    }

    /// How old it is; nothing where the clocks do not agree.
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

/// Everything with a label of the suite's that matches, by kind, namespace and name; of what lies in namespaces of the suite's own only
/// the namespace, because it goes with it.
///
/// # Errors
/// The cluster's.
pub async fn owned(api: &Api, selector: &str) -> Result<Vec<Owned>, ApiError> {
    let served = api.served().await?;
    let lists: Vec<_> = KINDS
        .iter()
        // What the suite may not delete it does not make.
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

async fn of_kind(api: &Api, kind: &'static Kind, selector: &str) -> Result<Vec<Owned>, ApiError> {
    let objects = api.list_metadata(kind.kind, None, Some(selector)).await?;
    Ok(objects.iter().filter_map(|o| Owned::read(kind, o)).collect())
}
