//! The Kubernetes API as the target uses it: few verbs, all of them bounded in size and time, retried where a second try
//! cannot do a thing twice, and with errors that say who is to blame and how to mend it.

mod error;
mod exec;
mod logs;

use std::time::Duration;

use bytes::Bytes;
use meshproof_harness::resource::{Resource, ResourceId};
use meshproof_harness::timeouts::Timeouts;
use serde_json::Value;

pub use error::ApiError;
pub use exec::{ExecLimits, ExecOutput};
pub use logs::{LogEnd, LogFollower};

use crate::settings::Settings;

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
    client: kube::Client,
    timeouts: Timeouts,
}

impl Api {
    /// Reads the kubeconfig and connects.
    ///
    /// # Errors
    /// [`ApiError::Config`]: there is no usable kubeconfig, or no such context in it.
    pub async fn connect(_settings: &Settings) -> Result<Self, ApiError> {
        unimplemented!("follows")
    }

    /// On a client that is there, such as a test's.
    #[must_use]
    pub fn with_client(client: kube::Client, timeouts: Timeouts) -> Self {
        Self { client, timeouts }
    }

    /// The timeouts that waits are bounded by.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Server-side apply with the manager [`crate::owned::MANAGER`], forced: what the suite says holds. Labels are the caller's.
    /// Returns the object as the cluster has it.
    ///
    /// # Errors
    /// [`ApiError::Rejected`] with the words of a webhook or of validation, or the cluster's.
    pub async fn apply(&self, _resource: &Resource) -> Result<Value, ApiError> {
        unimplemented!("follows")
    }

    /// Deletes one object; that it is absent is fine.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn delete(&self, _id: &ResourceId) -> Result<(), ApiError> {
        unimplemented!("follows")
    }

    /// Deletes one object and returns when it is gone.
    ///
    /// # Errors
    /// [`ApiError::TimedOut`] with what holds it (finalizers, what is left in a namespace), or the cluster's.
    pub async fn delete_and_wait(&self, _id: &ResourceId, _limit: Duration) -> Result<(), ApiError> {
        unimplemented!("follows")
    }

    /// One object, or none. `namespace` is ignored where the kind has none.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn get(&self, _kind: &str, _namespace: &str, _name: &str) -> Result<Option<Value>, ApiError> {
        unimplemented!("follows")
    }

    /// All objects of a kind, in one namespace or in all.
    ///
    /// # Errors
    /// The cluster's, or there are more than the suite reads.
    pub async fn list(
        &self,
        _kind: &str,
        _namespace: Option<&str>,
        _label_selector: Option<&str>,
    ) -> Result<Vec<Value>, ApiError> {
        unimplemented!("follows")
    }

    /// Lists and watches until `seen` finds what it looks for among the objects; it is asked after every change.
    ///
    /// # Errors
    /// [`ApiError::TimedOut`] with `what` was awaited and the last state seen, or the cluster's.
    pub async fn watch_until<T: Send>(
        &self,
        _kind: &str,
        _namespace: Option<&str>,
        _selector: Selector,
        _timeout_name: &str,
        _what: &str,
        _seen: impl FnMut(&[Value]) -> Option<T> + Send,
    ) -> Result<T, ApiError> {
        unimplemented!("follows")
    }

    /// Runs a program in a container. That it fails is no error: the exit code says so.
    ///
    /// # Errors
    /// [`ApiError::Exec`]: it could not be started, or the connection broke before its end was told; it may have run then.
    pub async fn exec(
        &self,
        _pod: &PodRef,
        _argv: &[String],
        _stdin: Bytes,
        _limits: ExecLimits,
    ) -> Result<ExecOutput, ApiError> {
        unimplemented!("follows")
    }

    /// Follows a container's log from `since` on. The sink gets whole lines without their end, in order, none twice.
    pub fn follow_logs(
        &self,
        _pod: &PodRef,
        _since: jiff::Timestamp,
        _sink: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> LogFollower {
        unimplemented!("follows")
    }

    /// GET over a forwarded port, such as of Envoy's admin interface (15000). Only status 200 is an answer.
    ///
    /// # Errors
    /// No answer, another status, or more than `max_bytes`.
    pub async fn pod_get(
        &self,
        _pod: &PodRef,
        _port: u16,
        _path: &str,
        _max_bytes: usize,
    ) -> Result<Bytes, ApiError> {
        unimplemented!("follows")
    }
}
