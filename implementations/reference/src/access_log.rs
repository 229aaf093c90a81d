//! Writes the access log: one line per request or passed-through connection.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::log_entry::LogEntry;
use crate::proxy::ProxyHandle;

/// The log entry of a request or connection that has not ended. The line is written when the record is
/// dropped, if it was not written before.
pub(crate) struct LogRecord {
    proxy: Arc<ProxyHandle>,
    started: Instant,
    at: Timestamp,
    written: bool,
    pub(crate) entry: LogEntry,
}

impl LogRecord {
    pub(crate) fn new(proxy: Arc<ProxyHandle>) -> Self {
        Self {
            proxy,
            started: Instant::now(),
            at: Timestamp::now(),
            written: false,
            entry: LogEntry::default(),
        }
    }

    /// The proxy whose line it is.
    pub(crate) fn proxy(&self) -> &ProxyHandle {
        &self.proxy
    }

    /// Writes the line; only the first call does.
    pub(crate) fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let proxy = self.proxy.as_ref();
        proxy.hooks.log_entry(&mut self.entry);
        let line = self.entry.line(self.at, self.started.elapsed());
        proxy.hooks.log_line(&proxy.name, line, &proxy.logs);
    }
}

impl Drop for LogRecord {
    fn drop(&mut self) {
        // A request that is dropped without an answer has lost its client.
        if self.entry.request.is_some() && self.entry.status == 0 {
            self.entry.ended("DC", "downstream_remote_disconnect");
        }
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use meshproof_local::data_plane::LogSink;

    use super::*;
    use crate::hooks::NoHooks;
    use crate::log_entry::RequestLine;

    #[derive(Default)]
    struct CollectedLines(Mutex<Vec<String>>);

    impl LogSink for CollectedLines {
        fn line(&self, _proxy: &str, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    fn record() -> (Arc<CollectedLines>, LogRecord) {
        let lines = Arc::new(CollectedLines::default());
        let logs: Arc<dyn LogSink> = lines.clone();
        let proxy = ProxyHandle { name: "sleep".to_owned(), hooks: Arc::new(NoHooks), logs };
        let mut record = LogRecord::new(Arc::new(proxy));
        let request = RequestLine { method: "GET".into(), path: "/".into(), protocol: "HTTP/1.1" };
        record.entry.request = Some(request);
        (lines, record)
    }

    #[test]
    fn record_that_was_written_is_not_written_again_when_it_is_dropped() {
        let (lines, mut record) = record();
        record.entry.status = 200;
        record.write();
        drop(record);
        assert_eq!(lines.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn record_that_is_dropped_without_an_answer_is_logged_as_a_lost_client() {
        let (lines, record) = record();
        drop(record);
        let lines = lines.0.lock().unwrap();
        assert!(lines[0].contains(" 0 DC downstream_remote_disconnect "), "{lines:?}");
    }
}
