//! The logs of an nginx on this machine, read without holding up the async runtime.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use meshproof_harness::external::ExternalSpec;
use meshproof_harness::store::Store;
use meshproof_nginx::config::{Ports, Site};
use meshproof_nginx::log::{self, NginxLogs};

/// The logs of one nginx.
#[derive(Clone)]
pub(in crate::external) struct SharedLogs {
    folder: PathBuf,
    /// Locked only on threads for blocking work.
    reader: Arc<Mutex<NginxLogs>>,
}

impl SharedLogs {
    pub(in crate::external) fn new(
        folder: &Path,
        spec: &ExternalSpec,
        ports: Ports,
        site: Site,
        store: Store,
    ) -> Self {
        let reader = NginxLogs::new(folder, spec, ports, site, store);
        Self { folder: folder.to_owned(), reader: Arc::new(Mutex::new(reader)) }
    }

    /// See [`NginxLogs::collect`].
    pub(in crate::external) async fn collect(&self, mark: Option<String>) -> io::Result<()> {
        let reader = Arc::clone(&self.reader);
        let reading = tokio::task::spawn_blocking(move || {
            reader.lock().unwrap_or_else(PoisonError::into_inner).collect(mark.as_deref())
        });
        reading.await.map_err(io::Error::other)?
    }

    /// The end of what nginx wrote about itself.
    pub(in crate::external) fn output(&self) -> String {
        log::output(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use meshproof_harness::external::PlainPort;

    use super::*;

    fn logs(folder: &Path) -> SharedLogs {
        let spec = ExternalSpec {
            aliases: Vec::new(),
            host: "edition.cnn.com".to_owned(),
            plain: PlainPort::Serve,
            tls: None,
            ipv6: false,
            tcp: Vec::new(),
            pages: Vec::new(),
            keep_alive: true,
        };
        let ports = Ports { plain: 1, tls: 2, control: 3 };
        SharedLogs::new(folder, &spec, ports, Site::Machine, Store::new())
    }

    #[tokio::test]
    async fn other_tasks_of_the_same_thread_go_on_while_a_long_log_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let line = "{\"flush_marker\":\"0\"}\n";
        std::fs::write(folder.path().join("access.log"), line.repeat(200_000)).unwrap();
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        tokio::task::yield_now().await;
        let before = turns.load(Ordering::SeqCst);
        logs(folder.path()).collect(Some("0".to_owned())).await.unwrap();
        assert!(turns.load(Ordering::SeqCst) > before, "it stood still");
        other.abort();
    }

    #[tokio::test]
    async fn a_missing_mark_is_an_error_that_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let failed = logs(folder.path()).collect(Some("0".to_owned())).await.unwrap_err().to_string();
        assert!(failed.contains(&folder.path().display().to_string()), "{failed}");
    }
}
