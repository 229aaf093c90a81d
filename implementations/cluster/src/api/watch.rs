//! Waiting for objects: a list, then a watch from where it ended, resumed whenever it breaks off.
//!
//! The watch is kube's `Api::watch`. `kube::runtime::watcher`, which resumes on its own, does not serve: it
//! starts a watch that the server ends at once again without a pause, keeps a resource version whose watch is
//! answered with 410, and trusts a connection that is silent for as long as five minutes.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::DynamicObject;
use meshproof_harness::backoff::Backoff;
use meshproof_harness::timeouts::Timeout;
use meshproof_model::ResourceId;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::client::{ClusterClient, MAX_OBJECTS, about, known, shown, value};
use super::error::{ApiError, is_too_long, may_pass, words};
use super::kinds::ObjectKind;
use super::summary;

/// After so long without an event, the objects are listed again: a connection may be dead without having
/// ended.
const MAX_SILENCE: Duration = Duration::from_secs(30);
/// The API server ends a watch after so many seconds at the latest.
const MAX_WATCH: u32 = 290;
/// The wait after a watch that broke off, doubled each time up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// A condition of objects, and how long it may take to come true.
#[derive(Clone, Debug)]
pub struct Awaited<'a> {
    /// The kind of the objects.
    pub kind: &'a str,
    /// Their namespace; none: all.
    pub namespace: Option<&'a str>,
    /// Which of them.
    pub selected: ListParams,
    /// The timeout's name, and how much of it is left.
    pub timeout: (Timeout, Duration),
    /// The condition, as a clause: `pod sleep in mp-1 is ready`.
    pub what: &'a str,
}

impl<'a> Awaited<'a> {
    /// A condition of the pods with this `app` label.
    #[must_use]
    pub fn pods(namespace: &'a str, app: &str, timeout: (Timeout, Duration), what: &'a str) -> Self {
        let selected = ListParams::default().labels(&format!("app={app}"));
        Self { kind: "Pod", namespace: Some(namespace), selected, timeout, what }
    }
}

/// Why one watch is over.
enum WatchEnd<T> {
    Found(T),
    /// It ended or broke off, and is resumed from the last version seen.
    Interrupted(Option<String>),
    /// The objects must be listed again: the version is no longer kept, an event could not be read, or no
    /// event came for long.
    Stale,
    Failed(ApiError),
}

/// The objects as last seen, and the version that a watch resumes from; empty: they must be listed.
#[derive(Default)]
struct WatchedObjects {
    objects: Vec<Value>,
    version: String,
}

impl ClusterClient {
    /// Deletes one object and returns when it is gone.
    ///
    /// # Errors
    /// [`ApiError::TimedOut`] with what holds it (finalizers, what is left in a namespace), or the cluster's.
    pub async fn delete_and_wait(&self, id: &ResourceId, limit: Duration) -> Result<(), ApiError> {
        self.delete(id).await?;
        let kind = known(&id.kind)?;
        let awaited = Awaited {
            kind: &id.kind,
            namespace: Some(&id.namespace),
            selected: ListParams::default().fields(&format!("metadata.name={}", id.name)),
            timeout: (Timeout::Teardown, limit),
            what: &format!("{} is gone", shown(kind, id)),
        };
        self.watch_until(&awaited, |objects| objects.is_empty().then_some(())).await
    }

    /// Lists and watches until `seen` finds what it looks for among the objects; it is called after every
    /// change.
    ///
    /// # Errors
    /// [`ApiError::TimedOut`] with the condition and the last state seen, or the cluster's.
    pub async fn watch_until<T: Send>(
        &self,
        awaited: &Awaited<'_>,
        mut seen: impl FnMut(&[Value]) -> Option<T> + Send,
    ) -> Result<T, ApiError> {
        let (timeout, limit) = awaited.timeout;
        let deadline = Instant::now() + limit;
        let mut watched = WatchedObjects::default();
        let mut trouble = None;
        let watching = self.keep_watching(awaited, deadline, &mut watched, &mut trouble, &mut seen);
        if let Ok(outcome) = timeout_at(deadline, watching).await {
            return outcome;
        }
        let mut last = summary::of_all(&watched.objects);
        if let Some(trouble) = trouble {
            last = format!("{last} (and the watch broke off: {trouble})");
        }
        Err(ApiError::TimedOut { timeout, limit, what: awaited.what.to_owned(), last })
    }

    async fn keep_watching<T: Send>(
        &self,
        awaited: &Awaited<'_>,
        deadline: Instant,
        watched: &mut WatchedObjects,
        trouble: &mut Option<String>,
        seen: &mut (impl FnMut(&[Value]) -> Option<T> + Send),
    ) -> Result<T, ApiError> {
        let kind = known(awaited.kind)?;
        let mut backoff = Backoff::new(MIN_BACKOFF, MAX_BACKOFF);
        loop {
            if watched.version.is_empty() {
                let listed = self.list_from(kind, awaited.namespace, &awaited.selected).await?;
                (watched.objects, watched.version) = listed;
                if let Some(found) = seen(&watched.objects) {
                    return Ok(found);
                }
            }
            let before = watched.version.clone();
            match self.watch_once(kind, awaited, deadline, watched, seen).await {
                WatchEnd::Found(found) => return Ok(found),
                WatchEnd::Failed(e) => return Err(e),
                WatchEnd::Stale => watched.version.clear(),
                WatchEnd::Interrupted(words) => *trouble = words,
            }
            // A watch that brought something may be resumed soon; one that did not, later each time.
            if before != watched.version {
                backoff.reset();
            }
            backoff.wait().await;
        }
    }

    async fn watch_once<T: Send>(
        &self,
        kind: &ObjectKind,
        awaited: &Awaited<'_>,
        deadline: Instant,
        watched: &mut WatchedObjects,
        seen: &mut (impl FnMut(&[Value]) -> Option<T> + Send),
    ) -> WatchEnd<T> {
        let objects = match self.objects(kind, awaited.namespace).await {
            Ok(objects) => objects,
            Err(e) => return WatchEnd::Failed(e),
        };
        let left = deadline.saturating_duration_since(Instant::now()).as_secs() + 1;
        let parameters = WatchParams {
            label_selector: awaited.selected.label_selector.clone(),
            field_selector: awaited.selected.field_selector.clone(),
            timeout: Some(u32::try_from(left).unwrap_or(MAX_WATCH).min(MAX_WATCH)),
            bookmarks: true,
            send_initial_events: false,
        };
        let opened = tokio::time::timeout(MAX_SILENCE, objects.watch(&parameters, &watched.version));
        let mut events = match opened.await {
            Ok(Ok(events)) => events.into_stream().boxed(),
            Ok(Err(e)) => return interrupted(kind, e),
            Err(_) => return WatchEnd::Stale,
        };
        loop {
            match tokio::time::timeout(MAX_SILENCE, events.next()).await {
                Err(_) => return WatchEnd::Stale,
                Ok(None) => return WatchEnd::Interrupted(None),
                Ok(Some(Err(e))) => return interrupted(kind, e),
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    return interrupted(kind, kube::Error::Api(status));
                }
                Ok(Some(Ok(event))) => match watched.take(event) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(end) => return end,
                },
            }
            if let Some(found) = seen(&watched.objects) {
                return WatchEnd::Found(found);
            }
        }
    }
}

fn interrupted<T>(kind: &ObjectKind, e: kube::Error) -> WatchEnd<T> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "kube's errors grow with its features")]
    match e {
        // 410: the version is no longer kept. 0: a line that is not an event, which kube takes for a status.
        // It may have been a change.
        kube::Error::Api(status) if matches!(status.code, 0 | 410) => WatchEnd::Stale,
        kube::Error::SerdeError(_) => WatchEnd::Stale,
        e if is_too_long(&e) => WatchEnd::Stale,
        e if may_pass(&e) => WatchEnd::Interrupted(Some(words(&e))),
        e => WatchEnd::Failed(about(kind, kind.qualified_name()).error(e)),
    }
}

impl WatchedObjects {
    /// Whether the event changed the objects.
    fn take<T>(&mut self, event: WatchEvent<DynamicObject>) -> Result<bool, WatchEnd<T>> {
        let (object, deleted) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                return Ok(false);
            }
            WatchEvent::Error(_) => return Ok(false),
        };
        if let Some(version) = &object.metadata.resource_version {
            self.version.clone_from(version);
        }
        let object = value(object).map_err(WatchEnd::Failed)?;
        let known = self.objects.iter().position(|o| is_same(o, &object));
        match (known, deleted) {
            (Some(at), true) => drop(self.objects.remove(at)),
            (None, true) => {}
            (Some(at), false) => self.objects[at] = object,
            (None, false) if self.objects.len() < MAX_OBJECTS => self.objects.push(object),
            (None, false) => return Err(WatchEnd::Stale),
        }
        Ok(true)
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    ["/metadata/namespace", "/metadata/name"].iter().all(|p| one.pointer(p) == other.pointer(p))
}
