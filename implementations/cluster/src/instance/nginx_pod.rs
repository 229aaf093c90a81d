//! An nginx pod: an external service or a plain service of the mesh, with its log.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use meshproof_harness::store::Store;
use meshproof_nginx::{PodLine, PodService};

use super::flush_markers::FlushMarkers;
use super::ready_pod::ReadyPod;
use crate::api::{ClusterClient, LogFollower};
use crate::manifests::nginx;

/// An nginx pod whose log is followed into the evidence.
pub(super) struct NginxPod {
    pub(super) host: String,
    pub(super) address: String,
    pub(super) follower: LogFollower,
    /// The number of an external service; 0 for a plain service.
    pub(super) number: usize,
    version: Arc<Mutex<Option<String>>>,
}

impl NginxPod {
    pub(super) fn follow(
        client: &ClusterClient,
        store: &Store,
        flush_markers: &Arc<FlushMarkers>,
        service: &PodService,
        pod: &ReadyPod,
        namespace: &str,
        number: usize,
    ) -> Self {
        let log = Mutex::new(service.log(store.clone()));
        let version: Arc<Mutex<Option<String>>> = Arc::default();
        let who = name(service.host(), number);
        let (flush_markers, noted) = (Arc::clone(flush_markers), Arc::clone(&version));
        let sink = move |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            match log.lock().unwrap_or_else(PoisonError::into_inner).line(&line) {
                PodLine::Seen => {}
                PodLine::FlushMarker(token) => flush_markers.saw(&who, &token),
                PodLine::Version(version) => {
                    *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
                }
            }
        };
        let container = pod.container(namespace, nginx::NGINX);
        let follower = client.follow_logs(&container, Timestamp::UNIX_EPOCH, sink);
        Self { host: service.host().to_owned(), address: pod.address.clone(), follower, number, version }
    }

    /// The name under which its flush markers are seen.
    pub(super) fn name(&self) -> String {
        name(&self.host, self.number)
    }

    /// nginx's version, shared with the follower of its log, which sets it.
    pub(super) fn version(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.version)
    }
}

fn name(host: &str, number: usize) -> String {
    format!("nginx {number} for {host}")
}
