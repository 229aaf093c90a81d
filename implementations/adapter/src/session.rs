//! A conversation with one adapter process: one question at a time, one answer each, log lines at any time, and an
//! end that is told in words.

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meshproof_harness::store::bounded;
use meshproof_harness::timeouts::Timeout;
use meshproof_local::data_plane::LogSink;
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{Mutex, mpsc, watch};

use crate::Limits;
use crate::lines::{Lines, NoLine};
use crate::message::{FromAdapter, MAX_LINE, MAX_LOG_BYTES, MAX_LOG_LINES, ToAdapter};
use crate::process::{self, Family};
use crate::redact::without_keys;
use crate::tail::Tail;

/// How many characters of a broken message an error quotes.
const QUOTED: usize = 200;

/// A conversation. Dropped, it takes the processes with it.
pub(crate) struct Session {
    talk: Mutex<Talk>,
    abort: mpsc::Sender<String>,
    /// Why it ended, once it has.
    end: watch::Receiver<Option<String>>,
    stopping: Arc<AtomicBool>,
    told: AtomicBool,
    family: Family,
    tail: Tail,
    limits: Limits,
}

struct Talk {
    stdin: Option<ChildStdin>,
    answers: mpsc::Receiver<FromAdapter>,
}

/// What the adapter may log.
pub(crate) struct Log {
    /// Where its lines go.
    pub(crate) sink: Arc<dyn LogSink>,
    /// Whose lines it may send.
    pub(crate) proxies: BTreeSet<String>,
}

/// Why a program did not even start: the environment's fault.
pub(crate) fn cannot_start(words: &[String], error: &std::io::Error) -> String {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let kind = error.kind();
    let mend = if kind == std::io::ErrorKind::NotFound {
        "name a program on PATH, or its path from here"
    } else if kind == std::io::ErrorKind::PermissionDenied {
        "make it executable (chmod +x)"
    } else {
        "see whether it runs from a shell"
    };
    format!("the adapter {program:?} cannot be run: {error}; {mend}")
}

impl Session {
    /// Starts the program. Nothing has been said yet.
    ///
    /// # Errors
    /// It does not exist or cannot be executed.
    pub(crate) fn start(words: &[String], limits: Limits, log: Log) -> Result<Self, String> {
        let (mut child, family) = process::start(words).map_err(|e| cannot_start(words, &e))?;
        let tail = Tail::default();
        let reading = child.stderr.take().map(|pipe| tokio::spawn(tail.clone().fill(pipe)));
        let stdin = child.stdin.take();
        let (give, answers) = mpsc::channel(4);
        let (abort, aborted) = mpsc::channel(1);
        let (ended, end) = watch::channel(None);
        let stopping = Arc::new(AtomicBool::new(false));
        let attendant = Attendant {
            give,
            aborted,
            stopping: Arc::clone(&stopping),
            family: family.clone(),
            limits,
            log,
            lines: 0,
            bytes: 0,
        };
        let seen = tail.clone();
        tokio::spawn(async move {
            let words = attendant.attend(child).await;
            if let Some(reading) = reading {
                // Everybody who could write is gone, unless somebody got away.
                let _what_is_there_must_do = tokio::time::timeout(limits.stop, reading).await;
            }
            let words = words.map(|w| format!("{w}{}", seen.quoted()));
            let _nobody_waits = ended.send(Some(words.unwrap_or_default()));
        });
        let talk = Mutex::new(Talk { stdin, answers });
        Ok(Self { talk, abort, end, stopping, told: AtomicBool::new(false), family, tail, limits })
    }

    /// What it wrote to its stderr last.
    pub(crate) fn stderr(&self) -> Option<String> {
        self.tail.text()
    }

    /// Asks and returns the answer.
    ///
    /// # Errors
    /// The adapter is gone, in words: it died, hung beyond the timeout, or broke the contract. Then it is ended.
    pub(crate) async fn ask(&self, message: &ToAdapter<'_>) -> Result<FromAdapter, String> {
        let (name, limit) = match message {
            ToAdapter::Hello { .. } => (Timeout::AdapterHello, self.limits.hello),
            ToAdapter::Apply(_) | ToAdapter::Credentials { .. } | ToAdapter::Settle => {
                (Timeout::AdapterAnswer, self.limits.answer)
            }
            ToAdapter::Stop => (Timeout::AdapterStop, self.limits.stop),
        };
        match serde_json::to_vec(message) {
            Ok(line) => self.ask_line(message.kind(), line, name, limit).await,
            Err(e) => Err(self.breach(format!("the suite cannot write `{}`: {e}", message.kind())).await),
        }
    }

    /// The same with a line that is not made from a message.
    pub(crate) async fn ask_line(
        &self,
        kind: &'static str,
        line: Vec<u8>,
        timeout: Timeout,
        limit: Duration,
    ) -> Result<FromAdapter, String> {
        let mut talk = self.talk.lock().await;
        if let Ok(early) = talk.answers.try_recv() {
            return Err(self.breach(format!("it sent `{}`, which nobody asked for", early.kind())).await);
        }
        // Whoever stops waiting leaves an answer on the way that would be taken for the next one's.
        let waiting = Waiting { abort: Some(&self.abort), kind };
        let answer = tokio::time::timeout(limit, talk.exchange(line)).await;
        waiting.over();
        match answer {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.ended().await),
            Err(_) => Err(self
                .breach(format!(
                    "it did not answer `{kind}` within the timeout `{timeout}` ({limit:?}); \
                         --timeout {timeout}=DURATION sets another"
                ))
                .await),
        }
    }

    /// Asks to settle, with a member that no version of the contract has.
    ///
    /// # Errors
    /// As for [`Session::ask`].
    pub(crate) async fn ask_with_unknown_member(&self) -> Result<FromAdapter, String> {
        let line = br#"{"type":"settle","a-member-of-a-later-version":{"of":["any","shape"]}}"#.to_vec();
        self.ask_line("settle", line, Timeout::AdapterAnswer, self.limits.answer).await
    }

    /// Ends the adapter for a breach of the contract and returns the words for it.
    pub(crate) async fn breach(&self, words: String) -> String {
        let _already_ending = self.abort.try_send(words);
        self.ended().await
    }

    async fn ended(&self) -> String {
        self.told.store(true, Ordering::Relaxed);
        let mut end = self.end.clone();
        // The attendant always says why before it goes; its own panic is the only other way.
        match end.wait_for(Option::is_some).await {
            Ok(words) => words.clone().unwrap_or_default(),
            Err(_) => "its end was not seen".to_owned(),
        }
    }

    /// Whether it has ended, however.
    pub(crate) fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Tells it to stop and returns when nothing of it runs.
    ///
    /// # Errors
    /// It had ended before and nobody was told, or it did not stop as the contract says. Nothing of it runs all the same.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        self.stopping.store(true, Ordering::Relaxed);
        if self.is_over() {
            let words = self.ended_words();
            let known = self.told.swap(true, Ordering::Relaxed);
            return if known { Ok(()) } else { Err(words) };
        }
        match self.ask(&ToAdapter::Stop).await {
            Ok(FromAdapter::Stopped) => {}
            Ok(other) => {
                return Err(self.breach(format!("it answered `stop` with `{}`", other.kind())).await);
            }
            Err(words) if words.is_empty() => {
                return Err(format!("it exited without answering `stop`{}", self.tail.quoted()));
            }
            Err(words) => return Err(words),
        }
        self.talk.lock().await.stdin = None;
        let mut end = self.end.clone();
        let limit = self.limits.stop;
        let ended = tokio::time::timeout(limit, end.wait_for(Option::is_some)).await.map(|_| ());
        if ended.is_err() {
            return Err(self
                .breach(format!(
                    "it answered `stopped` and did not exit within the timeout `adapter-stop` ({limit:?})"
                ))
                .await);
        }
        let words = self.ended_words();
        if words.is_empty() { Ok(()) } else { Err(words) }
    }

    /// Closes its stdin without a word, as a suite that was killed would, and returns when nothing of it runs.
    ///
    /// # Errors
    /// It did not exit by itself, or left something running. Nothing of it runs all the same.
    pub(crate) async fn hang_up(&self) -> Result<(), String> {
        self.stopping.store(true, Ordering::Relaxed);
        self.talk.lock().await.stdin = None;
        let mut end = self.end.clone();
        let limit = self.limits.stop;
        let ended = tokio::time::timeout(limit, end.wait_for(Option::is_some)).await.map(|_| ());
        if ended.is_err() {
            let words = format!(
                "it did not exit within the timeout `adapter-stop` ({limit:?}) after its stdin ended"
            );
            return Err(self.breach(words).await);
        }
        let words = self.ended_words();
        if words.is_empty() { Ok(()) } else { Err(words) }
    }

    fn ended_words(&self) -> String {
        self.end.borrow().clone().unwrap_or_default()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_over() {
            self.family.kill();
        }
    }
}

impl Talk {
    /// None where the adapter has ended.
    async fn exchange(&mut self, mut line: Vec<u8>) -> Option<FromAdapter> {
        line.push(b'\n');
        if let Some(stdin) = &mut self.stdin {
            // An adapter that does not listen is found out by its silence.
            let _not_listening = stdin.write_all(&line).await;
            let _not_listening = stdin.flush().await;
        }
        self.answers.recv().await
    }
}

/// Ends the adapter when the one who asked goes away before the answer.
struct Waiting<'a> {
    abort: Option<&'a mpsc::Sender<String>>,
    kind: &'static str,
}

impl Waiting<'_> {
    fn over(mut self) {
        self.abort = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(abort) = self.abort {
            let words = format!("it had not answered `{}` when the suite stopped waiting", self.kind);
            let _already_ending = abort.try_send(words);
        }
    }
}

/// Reads what an adapter writes and sees to its end.
struct Attendant {
    give: mpsc::Sender<FromAdapter>,
    aborted: mpsc::Receiver<String>,
    stopping: Arc<AtomicBool>,
    family: Family,
    limits: Limits,
    log: Log,
    lines: usize,
    bytes: usize,
}

impl Attendant {
    /// Returns when nothing of the adapter runs: none where it stopped as it was told, else why it is gone.
    async fn attend(mut self, mut child: Child) -> Option<String> {
        let stdout = child.stdout.take()?;
        let mut lines = Lines::new(BufReader::new(stdout), MAX_LINE);
        let ending = loop {
            tokio::select! {
                biased;
                line = lines.next() => match line {
                    Ok(line) => if let Err(words) = self.take(&line) { break Err(words) },
                    Err(NoLine::TooLong) => break Err(too_long()),
                    Err(NoLine::End) => break self.after_stdout(&mut child).await,
                },
                Some(words) = self.aborted.recv() => break Err(words),
                status = child.wait() => break Ok(status.ok()),
            }
        };
        let stopping = self.stopping.load(Ordering::Relaxed);
        let left = match &ending {
            // Its children may take a moment longer than itself.
            Ok(_) if stopping => self.family.gone(self.limits.stop).await,
            Ok(_) | Err(_) => Vec::new(),
        };
        self.family.end(self.limits.stop).await;
        let _killed = tokio::time::timeout(self.limits.stop, child.wait()).await;
        match ending {
            Err(words) => Some(words),
            Ok(status) => {
                // What it wrote before its end is still in the pipe.
                let drained = tokio::time::timeout(self.limits.stop, self.drain(&mut lines)).await;
                match drained {
                    Ok(Err(words)) => Some(words),
                    Ok(Ok(())) | Err(_) if !stopping => {
                        Some(format!("its process ended{}", described(status)))
                    }
                    Ok(Ok(())) | Err(_) if left.is_empty() => None,
                    Ok(Ok(())) | Err(_) => {
                        let names: Vec<String> = left.iter().map(ToString::to_string).collect();
                        Some(format!("it stopped and left running: {}", names.join(", ")))
                    }
                }
            }
        }
    }

    /// A program that closes its stdout is about to exit, or has nothing to say any more, which is no way to go on.
    async fn after_stdout(&mut self, child: &mut Child) -> Result<Option<ExitStatus>, String> {
        let limit = self.limits.stop;
        tokio::select! {
            biased;
            status = tokio::time::timeout(limit, child.wait()) => match status {
                Ok(status) => Ok(status.ok()),
                Err(_) => Err(format!(
                    "it closed its stdout and did not exit within the timeout `adapter-stop` ({limit:?})"
                )),
            },
            Some(words) = self.aborted.recv() => Err(words),
        }
    }

    async fn drain<R: AsyncRead + Unpin>(&mut self, lines: &mut Lines<BufReader<R>>) -> Result<(), String> {
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
        let message: FromAdapter = serde_json::from_slice(line).map_err(|e| {
            let shown = String::from_utf8_lossy(line.get(..4 * QUOTED).unwrap_or(line)).into_owned();
            let shown = bounded(&without_keys(&shown), QUOTED);
            format!("it wrote a line that is no message of the contract ({e}): {shown:?}")
        })?;
        let FromAdapter::Log { proxy, line } = message else {
            let kind = message.kind();
            return self
                .give
                .try_send(message)
                .map_err(|_| format!("it sent `{kind}` and more before it, which nobody asked for"));
        };
        self.lines += 1;
        self.bytes += line.len();
        if self.lines > MAX_LOG_LINES || self.bytes > MAX_LOG_BYTES {
            return Err(format!(
                "it floods the suite: more than {MAX_LOG_LINES} log lines or {MAX_LOG_BYTES} bytes of them"
            ));
        }
        if !self.log.proxies.contains(&proxy) {
            return Err(format!("it logs for {:?}, which is no proxy of the plan", bounded(&proxy, QUOTED)));
        }
        self.log.sink.line(&proxy, &without_keys(&line));
        Ok(())
    }
}

fn too_long() -> String {
    format!("it wrote a line of more than {MAX_LINE} bytes")
}

fn described(status: Option<ExitStatus>) -> String {
    status.map(|s| format!(" ({s})")).unwrap_or_default()
}
