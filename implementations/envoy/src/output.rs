//! What an Envoy process writes: log lines on standard output, messages on standard error.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use meshproof_harness::lines::BoundedLines;
use meshproof_local::data_plane::LogSink;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::oneshot;

use crate::map::bootstrap::mark;

/// The longest line that is kept, in bytes; the rest of a longer one is dropped.
const MAX_LINE: usize = 64 * 1024;
/// How many messages are kept: the latest ones.
const MAX_MESSAGES: usize = 40;
/// The longest message that is kept, in characters.
const MAX_MESSAGE: usize = 1500;

/// How Envoy begins its message about a file that it refuses.
const REFUSED: &str = "config update rejected: ";
/// The limit that Envoy names when it cannot watch one more file. It then ends itself with SIGABRT
/// (`source/common/filesystem/inotify/watcher_impl.cc`).
const INOTIFY_LIMIT: &str = "fs.inotify.max_user_instances";

/// What the process has written so far.
#[derive(Default)]
pub(crate) struct Output {
    messages: Mutex<VecDeque<String>>,
    refusals: Mutex<VecDeque<String>>,
    flush_markers: Mutex<HashMap<String, oneshot::Sender<()>>>,
    connections: AtomicU64,
    out_of_inotify: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Output {
    /// The latest messages on standard error, oldest first.
    pub(crate) fn messages(&self) -> Vec<String> {
        locked(&self.messages).iter().cloned().collect()
    }

    /// The reason of the first configuration that was refused since [`Output::forget_refusals`].
    pub(crate) fn refusal(&self) -> Option<String> {
        locked(&self.refusals).front().cloned()
    }

    pub(crate) fn forget_refusals(&self) {
        locked(&self.refusals).clear();
    }

    /// How many connections have been logged.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    /// Whether Envoy ended because this machine allows no further watch of a file.
    pub(crate) fn ran_out_of_inotify(&self) -> bool {
        self.out_of_inotify.load(Ordering::Acquire)
    }

    /// Completes when the flush marker has logged a request for this path.
    pub(crate) fn await_flush_marker(&self, path: &str) -> oneshot::Receiver<()> {
        let (notify, logged) = oneshot::channel();
        locked(&self.flush_markers).insert(path.to_owned(), notify);
        logged
    }

    /// Takes one line of standard output.
    pub(crate) fn log_line(&self, line: &str, proxy: &str, logs: Option<&dyn LogSink>) {
        if let Some(line) = line.strip_prefix(mark::REQUEST) {
            deliver(logs, proxy, line);
        } else if let Some(line) = line.strip_prefix(mark::CONNECTION) {
            deliver(logs, proxy, line);
            self.connections.fetch_add(1, Ordering::Release);
        } else if let Some(path) = line.strip_prefix(mark::FLUSH)
            && let Some(waiting) = locked(&self.flush_markers).remove(path)
        {
            // The one who waited may have given up.
            let _gave_up = waiting.send(());
        }
    }

    /// Takes one line of standard error.
    pub(crate) fn message(&self, line: &str) {
        if line.contains("PRIVATE KEY") {
            return;
        }
        if line.contains(INOTIFY_LIMIT) {
            self.out_of_inotify.store(true, Ordering::Release);
        }
        let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
        // FilesystemSubscriptionImpl::configRejected. An empty secret is refused too, on purpose.
        if let Some((_, reason)) = line.split_once(REFUSED)
            && !reason.starts_with("Missing SDS resources")
        {
            keep(&mut locked(&self.refusals), reason.to_owned());
        }
        keep(&mut locked(&self.messages), line);
    }
}

fn keep(messages: &mut VecDeque<String>, message: String) {
    if messages.len() == MAX_MESSAGES {
        messages.pop_front();
    }
    messages.push_back(message);
}

fn deliver(logs: Option<&dyn LogSink>, proxy: &str, line: &str) {
    if let Some(logs) = logs {
        logs.line(proxy, line);
    }
}

/// Reads lines of bounded length until the pipe ends.
pub(crate) async fn read_lines(from: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(from);
    let mut lines = BoundedLines::of_at_most(MAX_LINE);
    while let Ok(chunk) = reader.fill_buf().await {
        if chunk.is_empty() {
            break;
        }
        lines.take(chunk, |line| take(&String::from_utf8_lossy(&line.bytes)));
        let length = chunk.len();
        reader.consume(length);
    }
    let last = &lines.rest().bytes;
    if !last.is_empty() {
        take(&String::from_utf8_lossy(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        read_lines(bytes, |line| found.push(line.to_owned())).await;
        found
    }

    #[tokio::test]
    async fn lines_are_separated_and_an_endless_one_is_cut_off() {
        assert_eq!(lines(b"a\nb\r\n\nc").await, ["a", "b", "", "c"]);
        let mut endless = vec![b'x'; MAX_LINE * 3];
        endless.extend(b"\nnext\n");
        let found = lines(&endless).await;
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].len(), MAX_LINE);
        assert_eq!(found[1], "next");
    }

    #[test]
    fn messages_are_bounded_and_never_hold_a_key() {
        let output = Output::default();
        for n in 0..100 {
            output.message(&format!("{n} {}", "x".repeat(5000)));
        }
        output.message("-----BEGIN PRIVATE KEY-----");
        let messages = output.messages();
        assert_eq!(messages.len(), MAX_MESSAGES);
        assert!(messages.iter().all(|m| m.chars().count() <= MAX_MESSAGE && !m.contains("PRIVATE")));
        assert!(messages[MAX_MESSAGES - 1].starts_with("99 "));
    }

    #[test]
    fn the_inotify_limit_is_noticed_also_before_a_long_stack_trace() {
        let output = Output::default();
        output.message(
            "[assert] Details: Consider increasing value of fs.inotify.max_user_instances via sysctl",
        );
        for n in 0..100 {
            output.message(&format!("#{n} UNKNOWN"));
        }
        assert!(output.ran_out_of_inotify());
    }

    #[tokio::test]
    async fn a_flush_marker_counts_only_with_its_own_path_at_the_beginning_of_a_line() {
        let output = Output::default();
        let mut waiting = output.await_flush_marker("/one");
        output.log_line("R forged F /one", "sleep", None);
        output.log_line("F /two", "sleep", None);
        assert!(waiting.try_recv().is_err());
        output.log_line("F /one", "sleep", None);
        assert!(waiting.await.is_ok());
    }
}
