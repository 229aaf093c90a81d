//! The processes of the suite in pods of its image, and the streams that they are reached by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use meshproof_harness::served::Served;
use meshproof_model::ExternalService;
use tokio::sync::OnceCell;

use crate::api::{PodRef, ProgramStream};

/// A process in a pod, with the stream that it is reached by.
pub(super) struct Session {
    pub(super) served: Served,
    _stream: ProgramStream,
}

impl Session {
    pub(super) fn new(served: Served, stream: ProgramStream) -> Self {
        Self { served, _stream: stream }
    }
}

/// The clients' sessions, by pod; each begins with the first request.
#[derive(Default)]
pub(super) struct Clients(StdMutex<HashMap<String, Arc<OnceCell<Session>>>>);

impl Clients {
    pub(super) fn of(&self, pod: &PodRef) -> Arc<OnceCell<Session>> {
        let key = format!("{}/{}/{}", pod.namespace, pod.pod, pod.container);
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// Ends them.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// An external service in a pod.
pub(super) struct ServedPod {
    /// The hosts that it answers for.
    pub(super) hosts: Vec<String>,
    pub(super) number: usize,
    pub(super) address: String,
    pub(super) ports: Vec<u16>,
    pub(super) described: ExternalService,
    pub(super) session: Session,
}
