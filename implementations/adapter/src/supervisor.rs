//! Reads what an adapter writes, and makes sure that everything it started ends with it.

use std::collections::BTreeSet;
use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshproof_harness::redact::without_keys;
use meshproof_harness::store::bounded;
use meshproof_harness::trace::Trace;
use meshproof_local::child::ChildWrapper;
use meshproof_local::data_plane::LogSink;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::lines::{LineReader, NoLine};
use crate::message::{FromAdapter, MAX_LINE, MAX_LOG_BYTES, MAX_LOG_LINES};
use crate::process::ProcessTree;
use crate::stderr_tail::StderrTail;
use crate::timeouts::AdapterTimeouts;

/// How many characters of a broken message an error quotes.
const QUOTED: usize = 200;

/// How long reading what is left in the pipes may take after everything was killed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How an adapter ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdapterEnding {
    /// It exited after `stop` or the end of its input, and left nothing running.
    Clean,
    /// It did not answer in time and was killed.
    Silent(String),
    /// It exited unexpectedly, or broke the contract and was killed.
    Broken(String),
}

impl AdapterEnding {
    /// The same with this text at the end.
    pub(crate) fn with(self, text: &str) -> Self {
        match self {
            Self::Clean => Self::Clean,
            Self::Silent(words) => Self::Silent(words + text),
            Self::Broken(words) => Self::Broken(words + text),
        }
    }
}

impl fmt::Display for AdapterEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "it exited",
            Self::Silent(words) | Self::Broken(words) => words,
        })
    }
}

/// What the adapter may log.
pub(crate) struct LogTarget {
    /// Where its lines go.
    pub(crate) sink: Arc<dyn LogSink>,
    /// The proxies whose lines it may send.
    pub(crate) proxies: BTreeSet<String>,
    /// Takes the conversation.
    pub(crate) trace: Trace,
}

/// The file of a trace with the conversation.
const TRANSCRIPT: &str = "adapter.jsonl";

/// Adds a line that was sent or received to the conversation in the trace.
pub(crate) fn transcript(trace: &Trace, direction: &str, line: &[u8]) {
    if trace.started().is_none() {
        return;
    }
    let object = match serde_json::from_slice::<Value>(line) {
        Ok(message) => json!({ "direction": direction, "message": message }),
        Err(_) => json!({ "direction": direction, "text": String::from_utf8_lossy(line) }),
    };
    trace.json(TRANSCRIPT, object);
}

/// Reads an adapter's messages and watches its process.
pub(crate) struct Supervisor {
    answer: mpsc::Sender<FromAdapter>,
    aborted: mpsc::Receiver<AdapterEnding>,
    exit: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
    tree: ProcessTree,
    timeouts: AdapterTimeouts,
    log: LogTarget,
    lines: usize,
    bytes: usize,
}

impl Supervisor {
    /// Answers go to `answer`. A reason that comes from `aborted` ends the adapter. `exit` becomes true when
    /// its process has exited or is being killed. While `stopping` is set, an exit is expected.
    pub(crate) fn new(
        answer: mpsc::Sender<FromAdapter>,
        aborted: mpsc::Receiver<AdapterEnding>,
        exit: watch::Sender<bool>,
        stopping: Arc<AtomicBool>,
        tree: ProcessTree,
        timeouts: AdapterTimeouts,
        log: LogTarget,
    ) -> Self {
        Self { answer, aborted, exit, stopping, tree, timeouts, log, lines: 0, bytes: 0 }
    }

    /// Runs until no process of the adapter does, and reports how it ended.
    pub(crate) async fn run(
        self,
        mut child: Box<dyn ChildWrapper>,
        stderr: StderrTail,
        report: watch::Sender<Option<AdapterEnding>>,
    ) {
        let reading = child.stderr().take().map(|pipe| tokio::spawn(stderr.clone().fill(pipe)));
        let ending = self.supervise(child).await;
        if let Some(mut reading) = reading
            && tokio::time::timeout(DRAIN_TIMEOUT, &mut reading).await.is_err()
        {
            // A process that has escaped still holds the pipe. What was read so far is kept.
            reading.abort();
        }
        let _session_dropped = report.send(Some(ending.with(&stderr.quoted())));
    }

    async fn supervise(mut self, mut child: Box<dyn ChildWrapper>) -> AdapterEnding {
        let Some(stdout) = child.stdout().take() else {
            return AdapterEnding::Broken(
                "its standard output is not connected; this is a bug of meshproof".to_owned(),
            );
        };
        let mut lines = LineReader::new(BufReader::new(stdout), MAX_LINE);
        let exit = loop {
            tokio::select! {
                biased;
                line = lines.next() => match line {
                    Ok(line) => if let Err(words) = self.take(&line) { break Err(AdapterEnding::Broken(words)) },
                    Err(NoLine::TooLong) => break Err(AdapterEnding::Broken(too_long())),
                    Err(NoLine::End) => break self.after_stdout(child.as_mut()).await,
                },
                Some(reason) = self.aborted.recv() => break Err(reason),
                status = child.wait() => break Ok(status.ok()),
            }
        };
        if exit.is_ok() {
            self.tree.leader_was_reaped();
        }
        let _session_dropped = self.exit.send(true);
        let stopping = self.stopping.load(Ordering::Relaxed);
        let deadline = Instant::now() + self.timeouts.stop;
        let left = match &exit {
            // What it started may take a moment longer than itself.
            Ok(_) if stopping => self.tree.wait_until_gone(deadline).await,
            Ok(_) | Err(_) => Vec::new(),
        };
        let deadline = deadline.max(Instant::now() + DRAIN_TIMEOUT);
        self.tree.end(deadline).await;
        let status = match exit {
            Err(reason) => {
                // Killed above; its status is read so that no zombie is left.
                let _status = tokio::time::timeout_at(deadline, child.wait()).await;
                return reason;
            }
            Ok(status) => status,
        };
        // What it wrote before its exit is still in the pipe.
        let drained = tokio::time::timeout_at(deadline, self.drain(&mut lines)).await;
        let status = status.map(|s| format!(" ({s})")).unwrap_or_default();
        match drained {
            Ok(Err(words)) => AdapterEnding::Broken(words),
            Ok(Ok(())) | Err(_) if !stopping => {
                AdapterEnding::Broken(format!("its process exited unexpectedly{status}"))
            }
            Ok(Ok(())) | Err(_) if !left.is_empty() => {
                let names: Vec<String> = left.iter().map(ToString::to_string).collect();
                AdapterEnding::Broken(format!("it stopped and left running: {}", names.join(", ")))
            }
            Ok(Ok(())) => AdapterEnding::Clean,
            Err(_) => AdapterEnding::Broken(format!(
                "it exited{status} and left a process running that holds its standard output open. That \
                 process has left the \
                 adapter's session and cleared its environment, so meshproof cannot identify and end it"
            )),
        }
    }

    /// A program that closes its stdout is expected to exit: it can give no further answer.
    async fn after_stdout(
        &mut self,
        child: &mut dyn ChildWrapper,
    ) -> Result<Option<ExitStatus>, AdapterEnding> {
        let timeout = self.timeouts.stop;
        tokio::select! {
            biased;
            status = tokio::time::timeout(timeout, child.wait()) => match status {
                Ok(status) => Ok(status.ok()),
                Err(_) => Err(AdapterEnding::Broken(format!(
                    "it closed its standard output and did not exit within the timeout `adapter-stop` \
                     ({timeout:?})"
                ))),
            },
            Some(reason) = self.aborted.recv() => Err(reason),
        }
    }

    async fn drain<R: AsyncRead + Unpin>(
        &mut self,
        lines: &mut LineReader<BufReader<R>>,
    ) -> Result<(), String> {
        loop {
            match lines.next().await {
                Ok(line) => self.take(&line)?,
                Err(NoLine::End) => return Ok(()),
                Err(NoLine::TooLong) => return Err(too_long()),
            }
        }
    }

    /// Takes one line.
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        transcript(&self.log.trace, "from-adapter", line);
        let message: FromAdapter = serde_json::from_slice(line).map_err(|e| {
            let shown = String::from_utf8_lossy(line.get(..4 * QUOTED).unwrap_or(line)).into_owned();
            let shown = bounded(&without_keys(&shown), QUOTED);
            format!("it wrote a line that is not a message of the contract ({e}): {shown:?}")
        })?;
        let FromAdapter::Log { proxy, line } = message else {
            let kind = message.kind();
            return self
                .answer
                .try_send(message)
                .map_err(|_| format!("it sent several answers without being asked, the last one `{kind}`"));
        };
        self.lines += 1;
        self.bytes += line.len();
        if self.lines > MAX_LOG_LINES || self.bytes > MAX_LOG_BYTES {
            return Err(format!(
                "it sent more log lines than the contract allows: {MAX_LOG_LINES} lines and {MAX_LOG_BYTES} \
                 bytes per process"
            ));
        }
        if !self.log.proxies.contains(&proxy) {
            return Err(format!(
                "it sent a log line of {:?}, which is not a proxy of the plan",
                bounded(&proxy, QUOTED)
            ));
        }
        self.log.sink.line(&proxy, &without_keys(&line));
        Ok(())
    }
}

fn too_long() -> String {
    format!("it wrote a line of more than {MAX_LINE} bytes")
}
