//! One Envoy process: started, listened to, ended.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshproof_local::data_plane::{DataPlaneError, LogSink};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::map::bootstrap::mark;

/// The longest line that is kept; what exceeds it is cut off.
const MAX_LINE: usize = 64 * 1024;
/// How many of its last words are kept.
const MAX_WORDS: usize = 40;
/// How long one of them may be, in characters.
const MAX_WORD: usize = 1500;

/// What Envoy's words on a refused file begin with.
const REFUSED: &str = "config update rejected: ";

/// A running Envoy.
pub(crate) struct Process {
    said: Arc<Said>,
    ended: watch::Receiver<Option<String>>,
    kill: Mutex<Option<oneshot::Sender<()>>>,
    tasks: Vec<JoinHandle<()>>,
    pid_file: std::path::PathBuf,
}

/// What it said and logged.
#[derive(Default)]
pub(crate) struct Said {
    words: Mutex<VecDeque<String>>,
    refusals: Mutex<VecDeque<String>>,
    fences: Mutex<HashMap<String, oneshot::Sender<()>>>,
    connections: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Said {
    /// The last words on standard error, oldest first.
    pub(crate) fn words(&self) -> Vec<String> {
        locked(&self.words).iter().cloned().collect()
    }

    /// Why it refused a configuration, where it has since [`Said::forget_refusals`].
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

    /// Becomes ready when the fence has logged this path.
    pub(crate) fn await_fence(&self, path: &str) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        locked(&self.fences).insert(path.to_owned(), tell);
        told
    }

    fn line(&self, line: &str, proxy: &str, logs: Option<&dyn LogSink>) {
        if let Some(line) = line.strip_prefix(mark::REQUEST) {
            deliver(logs, proxy, line);
        } else if let Some(line) = line.strip_prefix(mark::CONNECTION) {
            deliver(logs, proxy, line);
            self.connections.fetch_add(1, Ordering::Release);
        } else if let Some(path) = line.strip_prefix(mark::FENCE)
            && let Some(waiting) = locked(&self.fences).remove(path)
        {
            // Whoever no longer waits has given up.
            let _gone = waiting.send(());
        }
    }

    fn word(&self, line: &str) {
        if line.contains("PRIVATE KEY") {
            return;
        }
        let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_WORD).collect();
        // FilesystemSubscriptionImpl::configRejected. An empty secret is refused too, and meant to be.
        if let Some((_, why)) = line.split_once(REFUSED)
            && !why.starts_with("Missing SDS resources")
        {
            keep(&mut locked(&self.refusals), why.to_owned());
        }
        keep(&mut locked(&self.words), line);
    }
}

fn keep(words: &mut VecDeque<String>, word: String) {
    if words.len() == MAX_WORDS {
        words.pop_front();
    }
    words.push_back(word);
}

fn deliver(logs: Option<&dyn LogSink>, proxy: &str, line: &str) {
    if let Some(logs) = logs {
        logs.line(proxy, line);
    }
}

impl Process {
    /// Starts one with the bootstrap in `folder`, which also takes its pid file. `logs`: none, where lines are to be lost.
    ///
    /// # Errors
    /// [`DataPlaneError::Environment`]: it cannot be started here.
    pub(crate) fn start(
        program: &Path,
        proxy: &str,
        folder: &Path,
        logs: Option<Arc<dyn LogSink>>,
    ) -> Result<Self, DataPlaneError> {
        let environment = |what: &str, e: std::io::Error| {
            DataPlaneError::Environment(format!(
                "{}: {what}: {e}; see whether it runs by itself",
                program.display()
            ))
        };
        let pid_file = folder.join("envoy.pid");
        let mut child = Command::new("/bin/sh")
            // The process notes its own number before it becomes Envoy: were the suite killed between a start and its note,
            // `meshproof cleanup` could not find what is left. It knows the process by the folder in its command line.
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(&pid_file)
            .arg(program)
            .arg("-c")
            .arg(folder.join("bootstrap.json"))
            .arg("--admin-address-path")
            .arg(folder.join("admin"))
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"])
            .args(["--drain-time-s", "2", "--drain-strategy", "immediate"])
            // Every line is written out at once; the timer is for one that missed its moment.
            .args(["--file-flush-min-size-kb", "0", "--file-flush-interval-msec", "10"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| environment("it cannot be started", e))?;
        let said = Arc::new(Said::default());
        let mut tasks = Vec::new();
        if let Some(out) = child.stdout.take() {
            let (said, proxy) = (Arc::clone(&said), proxy.to_owned());
            tasks.push(tokio::spawn(async move {
                read_lines(out, |line| said.line(line, &proxy, logs.as_deref())).await;
            }));
        }
        if let Some(err) = child.stderr.take() {
            let said = Arc::clone(&said);
            tasks.push(tokio::spawn(async move { read_lines(err, |line| said.word(line)).await }));
        }
        let (kill, killed) = oneshot::channel();
        let (tell, ended) = watch::channel(None);
        tasks.push(tokio::spawn(supervise(child, killed, tell)));
        Ok(Self { said, ended, kill: Mutex::new(Some(kill)), tasks, pid_file })
    }

    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Becomes ready when it has ended.
    pub(crate) async fn end(&self) -> String {
        let mut ended = self.ended.clone();
        let how = ended.wait_for(Option::is_some).await;
        how.ok().and_then(|how| how.clone()).unwrap_or_else(|| "it is not watched any more".to_owned())
    }

    /// Ends it, and returns when it has ended and what it said has been read.
    pub(crate) async fn stop(&self) {
        let kill = locked(&self.kill).take();
        if let Some(kill) = kill {
            // It may have ended by itself.
            let _ended = kill.send(());
        }
        self.end().await;
        let _ended_is_what_counts = std::fs::remove_file(&self.pid_file);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The child goes with its task.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn supervise(mut child: Child, killed: oneshot::Receiver<()>, tell: watch::Sender<Option<String>>) {
    let status = tokio::select! {
        status = child.wait() => status,
        _ = killed => {
            // There is nothing to be said where it has ended by itself meanwhile.
            let _ended = child.start_kill();
            child.wait().await
        }
    };
    let how = status.map_or_else(|e| e.to_string(), describe);
    let _nobody_asks = tell.send(Some(how));
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

/// Reads lines, each bounded; returns at the end.
async fn read_lines(from: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(from);
    let mut line: Vec<u8> = Vec::new();
    while let Ok(chunk) = reader.fill_buf().await {
        if chunk.is_empty() {
            break;
        }
        let length = chunk.iter().position(|b| *b == b'\n').map_or(chunk.len(), |at| at + 1);
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(chunk.get(..length.min(room)).unwrap_or_default());
        let whole = chunk.get(length - 1) == Some(&b'\n');
        reader.consume(length);
        if whole {
            take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            line.clear();
        }
    }
    if !line.is_empty() {
        take(&String::from_utf8_lossy(&line));
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
    async fn lines_are_told_apart_and_an_endless_one_is_cut_off() {
        assert_eq!(lines(b"a\nb\r\n\nc").await, ["a", "b", "", "c"]);
        let mut endless = vec![b'x'; MAX_LINE * 3];
        endless.extend(b"\nnext\n");
        let found = lines(&endless).await;
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].len(), MAX_LINE);
        assert_eq!(found[1], "next");
    }

    #[test]
    fn last_words_are_bounded_and_never_hold_a_key() {
        let said = Said::default();
        for n in 0..100 {
            said.word(&format!("{n} {}", "x".repeat(5000)));
        }
        said.word("-----BEGIN PRIVATE KEY-----");
        let words = said.words();
        assert_eq!(words.len(), MAX_WORDS);
        assert!(words.iter().all(|w| w.chars().count() <= MAX_WORD && !w.contains("PRIVATE")));
        assert!(words[MAX_WORDS - 1].starts_with("99 "));
    }

    #[tokio::test]
    async fn a_fence_is_told_only_by_its_own_path_at_the_beginning_of_a_line() {
        let said = Said::default();
        let mut waiting = said.await_fence("/one");
        said.line("R forged F /one", "sleep", None);
        said.line("F /two", "sleep", None);
        assert!(waiting.try_recv().is_err());
        said.line("F /one", "sleep", None);
        assert!(waiting.await.is_ok());
    }
}
