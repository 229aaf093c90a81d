//! The conversation with one adapter process: one question at a time, one answer each, log lines at any time,
//! and an ending with a reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshproof_harness::timeouts::Timeout;
use meshproof_harness::trace::Trace;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::{Mutex, mpsc, watch};

use crate::message::{FromAdapter, ToAdapter};
use crate::process::{self, ProcessTree};
use crate::stderr_tail::StderrTail;
use crate::supervisor::{AdapterEnding, LogTarget, Supervisor, transcript};
use crate::timeouts::AdapterTimeouts;

/// A conversation. Dropping it ends the adapter's processes.
pub(crate) struct AdapterSession {
    pipes: Mutex<Pipes>,
    abort: mpsc::Sender<AdapterEnding>,
    /// Whether the process has exited, or is being ended.
    exited: watch::Receiver<bool>,
    ending: watch::Receiver<Option<AdapterEnding>>,
    stopping: Arc<AtomicBool>,
    /// Whether the caller knows how the adapter ended.
    reported: AtomicBool,
    tree: ProcessTree,
    stderr: StderrTail,
    timeouts: AdapterTimeouts,
    trace: Trace,
}

struct Pipes {
    stdin: Option<ChildStdin>,
    answers: mpsc::Receiver<FromAdapter>,
}

/// Why the program did not start: an error of the environment.
fn cannot_start(words: &[String], error: &std::io::Error) -> String {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let kind = error.kind();
    let fix = if kind == std::io::ErrorKind::NotFound {
        "Name a program on PATH, or its path from the current folder"
    } else if kind == std::io::ErrorKind::PermissionDenied {
        "Make it executable (chmod +x)"
    } else {
        "Check that it runs from a shell"
    };
    format!("the adapter {program:?} cannot be run: {error}. {fix}")
}

impl AdapterSession {
    /// Starts the program. No message has been sent yet.
    ///
    /// # Errors
    /// The program does not exist or cannot be executed.
    pub(crate) fn start(words: &[String], timeouts: AdapterTimeouts, log: LogTarget) -> Result<Self, String> {
        let (mut child, tree) = process::start(words).map_err(|e| cannot_start(words, &e))?;
        let stdin = child.stdin().take();
        let stderr = StderrTail::default();
        let trace = log.trace.clone();
        let (answer, answers) = mpsc::channel(4);
        let (abort, aborted) = mpsc::channel(1);
        let (exit, exited) = watch::channel(false);
        let (report, ending) = watch::channel(None);
        let stopping = Arc::new(AtomicBool::new(false));
        let supervisor =
            Supervisor::new(answer, aborted, exit, Arc::clone(&stopping), tree.clone(), timeouts, log);
        tokio::spawn(supervisor.run(child, stderr.clone(), report));
        let pipes = Mutex::new(Pipes { stdin, answers });
        let reported = AtomicBool::new(false);
        Ok(Self { pipes, abort, exited, ending, stopping, reported, tree, stderr, timeouts, trace })
    }

    /// The end of what the adapter has written to its stderr.
    pub(crate) fn stderr(&self) -> Option<String> {
        self.stderr.text()
    }

    /// Asks and returns the answer.
    ///
    /// # Errors
    /// How the adapter ended: it exited, did not answer in time, or broke the contract. It is ended in each
    /// case.
    pub(crate) async fn ask(&self, message: &ToAdapter<'_>) -> Result<FromAdapter, AdapterEnding> {
        let (name, timeout) = match message {
            ToAdapter::Hello { .. } => (Timeout::AdapterHello, self.timeouts.hello),
            ToAdapter::Apply(_) | ToAdapter::Credentials { .. } | ToAdapter::Settle => {
                (Timeout::AdapterAnswer, self.timeouts.answer)
            }
            ToAdapter::Stop => (Timeout::AdapterStop, self.timeouts.stop),
        };
        match serde_json::to_vec(message) {
            Ok(line) => self.ask_line(message.kind(), line, name, timeout).await,
            Err(e) => Err(self.breach(format!("the suite cannot write `{}`: {e}", message.kind())).await),
        }
    }

    /// Asks with a line that was not made from a message.
    async fn ask_line(
        &self,
        kind: &'static str,
        line: Vec<u8>,
        name: Timeout,
        timeout: Duration,
    ) -> Result<FromAdapter, AdapterEnding> {
        let mut pipes = self.pipes.lock().await;
        if let Ok(early) = pipes.answers.try_recv() {
            return Err(self.breach(format!("it sent `{}` without being asked", early.kind())).await);
        }
        // After a cancelled question, its late answer would be taken for the answer to the next one.
        let pending = PendingQuestion { abort: Some(&self.abort), kind };
        transcript(&self.trace, "to-adapter", &line);
        let answer = tokio::time::timeout(timeout, pipes.exchange(line)).await;
        pending.answered();
        match answer {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(match self.ended().await {
                AdapterEnding::Clean => AdapterEnding::Broken(format!(
                    "it exited without answering `{kind}`{}",
                    self.stderr.quoted()
                )),
                ending @ (AdapterEnding::Silent(_) | AdapterEnding::Broken(_)) => ending,
            }),
            Err(_) => {
                let words = format!(
                    "it did not answer `{kind}` within {timeout:?} (set another timeout with --timeout \
                     {name}=DURATION)"
                );
                Err(self.end(AdapterEnding::Silent(words)).await)
            }
        }
    }

    /// Asks to settle, with a member that no version of the contract has.
    ///
    /// # Errors
    /// As for [`AdapterSession::ask`].
    pub(crate) async fn ask_with_unknown_member(&self) -> Result<FromAdapter, AdapterEnding> {
        let line = br#"{"type":"settle","a-member-of-a-later-version":{"of":["any","shape"]}}"#.to_vec();
        self.ask_line("settle", line, Timeout::AdapterAnswer, self.timeouts.answer).await
    }

    /// Ends the adapter because it broke the contract, and returns how it ended.
    pub(crate) async fn breach(&self, words: String) -> AdapterEnding {
        self.end(AdapterEnding::Broken(words)).await
    }

    /// Ends the adapter for this reason. Returns an earlier reason if there is one.
    async fn end(&self, reason: AdapterEnding) -> AdapterEnding {
        let _already_ending = self.abort.try_send(reason.clone());
        match self.ended().await {
            // It exited by the rules before the reason reached its supervisor. The reason holds all the same.
            AdapterEnding::Clean => reason.with(&self.stderr.quoted()),
            ending @ (AdapterEnding::Silent(_) | AdapterEnding::Broken(_)) => ending,
        }
    }

    async fn ended(&self) -> AdapterEnding {
        self.reported.store(true, Ordering::Relaxed);
        let mut ending = self.ending.clone();
        // The supervisor reports an ending before it returns; only its panic would leave none.
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or(AdapterEnding::Clean),
            Err(_) => {
                AdapterEnding::Broken("its end was not observed; this is a bug of meshproof".to_owned())
            }
        }
    }

    /// Whether the adapter has ended, for whatever reason.
    pub(crate) fn is_over(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Sends `stop` and returns when no process of the adapter runs.
    ///
    /// # Errors
    /// The adapter had ended before, which the caller did not know, or it did not stop by the contract. No
    /// process of it runs in either case.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        // From here on an exit is expected.
        self.stopping.store(true, Ordering::Relaxed);
        if self.is_over() {
            let known = self.reported.load(Ordering::Relaxed);
            return match self.ended().await {
                _ if known => Ok(()),
                AdapterEnding::Clean => {
                    Err(format!("it exited before it was asked to stop{}", self.stderr.quoted()))
                }
                ending @ (AdapterEnding::Silent(_) | AdapterEnding::Broken(_)) => Err(ending.to_string()),
            };
        }
        match self.ask(&ToAdapter::Stop).await {
            Ok(FromAdapter::Stopped) => self.await_exit("it answered `stopped`").await,
            Ok(other) => {
                Err(self.breach(format!("it answered `stop` with `{}`", other.kind())).await.to_string())
            }
            Err(ending) => Err(ending.to_string()),
        }
    }

    /// Closes the adapter's stdin without `stop`, as the death of the suite would, and returns when no
    /// process of it runs.
    ///
    /// # Errors
    /// The adapter did not exit, or left something running. No process of it runs in either case.
    pub(crate) async fn hang_up(&self) -> Result<(), String> {
        self.stopping.store(true, Ordering::Relaxed);
        self.await_exit("its standard input was closed").await
    }

    /// Closes its stdin and waits for its end.
    async fn await_exit(&self, after: &str) -> Result<(), String> {
        self.pipes.lock().await.stdin = None;
        let timeout = self.timeouts.stop;
        let mut exited = self.exited.clone();
        if tokio::time::timeout(timeout, exited.wait_for(|exited| *exited)).await.is_err() {
            let words =
                format!("{after}, and it did not exit within the timeout `adapter-stop` ({timeout:?})");
            return Err(self.breach(words).await.to_string());
        }
        match self.ended().await {
            AdapterEnding::Clean => Ok(()),
            ending @ (AdapterEnding::Silent(_) | AdapterEnding::Broken(_)) => Err(ending.to_string()),
        }
    }
}

impl Drop for AdapterSession {
    fn drop(&mut self) {
        if !self.is_over() {
            // Blocks for one look at /proc: a destructor cannot await, and after it the runtime may be gone.
            self.tree.kill();
        }
    }
}

impl Pipes {
    /// Sends a line and returns the answer; none if the adapter has ended.
    async fn exchange(&mut self, mut line: Vec<u8>) -> Option<FromAdapter> {
        line.push(b'\n');
        if let Some(stdin) = &mut self.stdin {
            // An adapter that does not read gives no answer either, which is noticed below.
            let _not_read = stdin.write_all(&line).await;
            let _not_read = stdin.flush().await;
        }
        self.answers.recv().await
    }
}

/// Ends the adapter if the question is cancelled before its answer.
struct PendingQuestion<'a> {
    abort: Option<&'a mpsc::Sender<AdapterEnding>>,
    kind: &'static str,
}

impl PendingQuestion<'_> {
    fn answered(mut self) {
        self.abort = None;
    }
}

impl Drop for PendingQuestion<'_> {
    fn drop(&mut self) {
        if let Some(abort) = self.abort {
            let words = format!("it had not answered `{}` when the suite stopped waiting", self.kind);
            let _already_ending = abort.try_send(AdapterEnding::Silent(words));
        }
    }
}
