//! Logs of containers, followed: whole lines, in order, none twice, also where the stream breaks off and is taken up again.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::kinds::POD;
use super::lines::Lines;
use super::question::{Fault, Question, chain};
use super::{Api, PodRef, Selector, query};
use crate::pod::statuses;

/// The longest line that is handed on, in bytes, with its time.
const MAX_LINE: usize = meshproof_harness::store::MAX_TEXT + 64;
/// How many lines of the last seconds are remembered, to know them again when the stream is taken up.
const REMEMBERED: usize = 65_536;
/// How often a stream that brings nothing is taken up again, with waits of [`PAUSE`] doubled up to [`LONGEST_PAUSE`].
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// After so long without a line, the stream is taken up anew: a connection may be dead without having ended.
const SILENCE: Duration = Duration::from_secs(20);

/// Why a log is followed no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// [`LogFollower::stop`] was called.
    Stopped,
    /// The container or its pod is gone; in words.
    ContainerEnded(String),
    /// The stream broke off and could not be taken up again; in words.
    Broken(String),
}

/// A log that is being followed. Dropped, it stops.
#[derive(Debug)]
pub struct LogFollower {
    stop: CancellationToken,
    end: watch::Receiver<Option<LogEnd>>,
    task: JoinHandle<()>,
}

impl LogFollower {
    /// The end, when it has come already.
    #[must_use]
    pub fn ended(&self) -> Option<LogEnd> {
        self.end.borrow().clone()
    }

    /// Returns when the log has ended by itself.
    pub async fn wait(&self) -> LogEnd {
        let mut end = self.end.clone();
        let told = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        told.unwrap_or_else(|| LogEnd::Broken("the follower is gone".to_owned()))
    }

    /// Stops and returns how it ended; lines that had arrived have been handed on.
    pub async fn stop(mut self) -> LogEnd {
        self.stop.cancel();
        let _ended = (&mut self.task).await;
        self.ended().unwrap_or(LogEnd::Stopped)
    }
}

impl Drop for LogFollower {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Api {
    /// Follows a container's log from `since` on. The sink gets whole lines without their end and without the container
    /// runtime's time, in order, none twice.
    pub fn follow_logs(
        &self,
        pod: &PodRef,
        since: Timestamp,
        sink: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> LogFollower {
        let stop = CancellationToken::new();
        let (told, end) = watch::channel(None);
        let (api, pod, stopped) = (self.clone(), pod.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let follow = Following { api, pod, sink, memory: Memory::new(since), rest: Vec::new() };
            let how = tokio::select! {
                biased;
                () = stopped.cancelled() => LogEnd::Stopped,
                end = follow.run() => end,
            };
            // Nobody may be left who asks.
            let _unasked = told.send(Some(how));
        });
        LogFollower { stop, end, task }
    }
}

struct Following<S> {
    api: Api,
    pod: PodRef,
    sink: S,
    memory: Memory,
    /// What a stream that ended well brought after its last whole line.
    rest: Vec<u8>,
}

impl<S: Fn(&[u8]) + Send + Sync> Following<S> {
    async fn run(mut self) -> LogEnd {
        let mut tried = 0;
        // A container that ended is read once more: its last lines may have been on their way.
        let mut last_words = None;
        loop {
            let before = std::mem::take(&mut self.rest);
            let question = self.question();
            let (brought, fault) = self.stream(&question).await;
            if let Some(ended) = last_words
                && fault.is_none()
                && self.rest == before
            {
                self.hand_on_rest();
                return LogEnd::ContainerEnded(ended);
            }
            last_words = match self.container_ended().await {
                Ok(ended) => ended,
                Err(gone) => return LogEnd::ContainerEnded(gone),
            };
            // A container that has not begun to run answers 400.
            let fault = match fault {
                Some(fault) if !fault.may_pass() && fault.code() != Some(400) => {
                    return LogEnd::Broken(question.error(fault).to_string());
                }
                fault => fault,
            };
            tried = if brought { 0 } else { tried + 1 };
            if tried > TRIES {
                let why = fault.map_or_else(|| "it ends as soon as it begins".to_owned(), |f| words(&f));
                return LogEnd::Broken(format!(
                    "the log of {}/{} ({}) broke off and could not be taken up in {TRIES} tries: {why}; check the API server's \
                     connection to the node and run again",
                    self.pod.namespace, self.pod.pod, self.pod.container
                ));
            }
            sleep((PAUSE * 2_u32.pow(tried)).min(LONGEST_PAUSE)).await;
        }
    }

    fn question(&self) -> Question {
        let query = query(
            &Selector::default(),
            &[
                ("container", &self.pod.container),
                ("follow", "true"),
                ("timestamps", "true"),
                ("sinceTime", &self.memory.since().to_string()),
            ],
        );
        let path = POD.path("v1", Some(&self.pod.namespace), Some(&self.pod.pod));
        Question {
            namespace: Some(self.pod.namespace.clone()),
            ..Question::get(
                format!("{path}/log?{query}"),
                "pods/log",
                &format!("the log of {}/{}", self.pod.namespace, self.pod.pod),
            )
        }
    }

    /// Reads one stream to its end: whether it brought a line, and why it broke off if it did.
    async fn stream(&mut self, question: &Question) -> (bool, Option<Fault>) {
        self.memory.resume();
        let mut stream = match self.api.open(question).await {
            Ok(response) => response.into_body().into_data_stream(),
            Err(fault) => return (false, Some(fault)),
        };
        let mut lines = Lines::of_at_most(MAX_LINE);
        let mut brought = false;
        loop {
            let arrived = match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(Ok(arrived))) => arrived,
                Ok(Some(Err(e))) => return (brought, Some(Fault::Transport(chain(&e)))),
                Ok(None) => break,
                // Silence is no failure of the stream, but may hide one.
                Err(_) => return (true, Some(Fault::Transport("it fell silent".to_owned()))),
            };
            lines.take(&arrived, |line| {
                if let Some(text) = self.memory.take(line) {
                    brought = true;
                    (self.sink)(text);
                }
            });
        }
        self.rest = lines.rest().to_vec();
        (brought, None)
    }

    /// A program's last line may have no end. Half a line that was cut by whoever ended the stream comes again, whole; so only
    /// what stays the same is the program's own.
    fn hand_on_rest(&mut self) {
        if !self.rest.is_empty()
            && let Some(text) = self.memory.take(&self.rest)
        {
            (self.sink)(text);
        }
    }

    /// Why there will be no more lines: none while the container may go on; an error where nothing can be read any more.
    async fn container_ended(&self) -> Result<Option<String>, String> {
        let name = format!("{}/{} ({})", self.pod.namespace, self.pod.pod, self.pod.container);
        let pod = match self.api.get("Pod", &self.pod.namespace, &self.pod.pod).await {
            Ok(Some(pod)) => pod,
            Ok(None) => return Err(format!("the pod {name} is gone")),
            // Whether it ended is not known; the next try tells.
            Err(_) => return Ok(None),
        };
        let container = statuses(&pod).find(|c| c["name"] == self.pod.container.as_str());
        let terminated = container.and_then(|c| c.pointer("/state/terminated"));
        Ok(terminated.map(|t| {
            format!("{name} ended with {} {}", t["exitCode"], t["reason"].as_str().unwrap_or_default())
        }))
    }
}

fn words(fault: &Fault) -> String {
    match fault {
        Fault::Status { code, status, .. } => format!("{} ({code})", status.message),
        Fault::Transport(words) => words.clone(),
        Fault::TooLong => "it has no end".to_owned(),
    }
}

/// Knows lines again. The kubelet gives out a log from a whole second on, so taking it up brings lines of that second that have
/// been handed on already; and lines of standard output and error may be a little out of order.
struct Memory {
    from: Timestamp,
    /// Time and digest of the lines handed on in the latest seconds.
    handed_on: VecDeque<(Timestamp, u64)>,
    /// Those that the stream just taken up has yet to bring again.
    awaited: VecDeque<(Timestamp, u64)>,
}

impl Memory {
    fn new(since: Timestamp) -> Self {
        Self { from: since, handed_on: VecDeque::new(), awaited: VecDeque::new() }
    }

    /// Where the next stream begins: a second before the latest line, in whole seconds.
    fn since(&self) -> Timestamp {
        Timestamp::from_second(self.from.as_second()).unwrap_or(self.from)
    }

    fn resume(&mut self) {
        self.awaited = self.handed_on.clone();
    }

    /// The text of a line that is new.
    fn take<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (time, text) = stamped(line);
        let Some(time) = time else {
            // Without a time it is the API server's or the runtime's own word, and part of what is seen.
            return Some(text);
        };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let key = (time, hasher.finish());
        if let Some(known) = self.awaited.iter().position(|k| *k == key) {
            self.awaited.remove(known);
            return None;
        }
        self.handed_on.push_back(key);
        let from = time.checked_sub(SignedDuration::from_secs(1)).unwrap_or(time);
        self.from = self.from.max(from);
        let since = self.since();
        while self.handed_on.len() > REMEMBERED || self.handed_on.front().is_some_and(|(t, _)| *t < since) {
            self.handed_on.pop_front();
        }
        Some(text)
    }
}

/// `2026-01-02T03:04:05.678901234Z text`.
fn stamped(line: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let Some(space) = line.iter().take(40).position(|b| *b == b' ') else { return (None, line) };
    let time = std::str::from_utf8(&line[..space]).ok().and_then(|t| t.parse().ok());
    if time.is_some() { (time, &line[space + 1..]) } else { (None, line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_on(streams: &[&[&str]]) -> Vec<String> {
        let mut memory = Memory::new(Timestamp::UNIX_EPOCH);
        let mut seen = Vec::new();
        for stream in streams {
            memory.resume();
            for line in *stream {
                seen.extend(memory.take(line.as_bytes()).map(|t| String::from_utf8_lossy(t).into_owned()));
            }
        }
        seen
    }

    #[test]
    fn lines_that_a_resumed_stream_brings_again_are_known() {
        let (a, b, c) = ("2026-01-01T00:00:01.1Z a", "2026-01-01T00:00:01.2Z b", "2026-01-01T00:00:01.3Z c");
        assert_eq!(handed_on(&[&[a, b], &[a, b, c]]), ["a", "b", "c"]);
        assert_eq!(handed_on(&[&[a, b], &[b, c], &[c]]), ["a", "b", "c"], "a rotated log begins later");
    }

    #[test]
    fn lines_that_are_the_same_are_not_one() {
        let same = "2026-01-01T00:00:01.1Z a";
        assert_eq!(handed_on(&[&[same, same], &[same, same, same]]), ["a", "a", "a"]);
    }

    #[test]
    fn a_line_out_of_order_is_not_lost_where_the_stream_breaks_before_it() {
        let (late, early) = ("2026-01-01T00:00:02.0Z late", "2026-01-01T00:00:01.9Z early");
        assert_eq!(handed_on(&[&[late], &[late, early]]), ["late", "early"]);
    }

    #[test]
    fn a_stream_is_taken_up_a_second_before_its_latest_line() {
        let mut memory = Memory::new("2026-01-01T00:00:00.7Z".parse().unwrap());
        assert_eq!(memory.since().to_string(), "2026-01-01T00:00:00Z");
        let _line = memory.take(b"2026-01-01T00:00:09.5Z x");
        assert_eq!(memory.since().to_string(), "2026-01-01T00:00:08Z");
    }

    #[test]
    fn a_line_without_a_time_is_handed_on_as_it_is() {
        assert_eq!(handed_on(&[&["failed to watch the file"]]), ["failed to watch the file"]);
    }
}
