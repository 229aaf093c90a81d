//! Logs of containers, followed: whole lines, in order, none twice, even where the stream breaks off and is
//! resumed.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures_util::AsyncBufReadExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use meshproof_harness::backoff::Backoff;
use meshproof_harness::lines::BoundedLines;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{ClusterClient, PodRef};
use super::error::{Subject, chain, may_pass, words};
use crate::pod::statuses;

/// The longest line that is handed on, in bytes, with its time.
const MAX_LINE: usize = meshproof_harness::store::MAX_TEXT + 64;
/// How many lines of the last seconds are remembered, to recognize them when the stream is resumed.
const REMEMBERED: usize = 65_536;
/// How often a stream that brings nothing is resumed, with a backoff of [`MIN_BACKOFF`] doubled up to
/// [`MAX_BACKOFF`].
const MAX_ATTEMPTS: u32 = 8;
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// After so long without a line, the stream is opened again: a connection may be dead without having ended.
const MAX_SILENCE: Duration = Duration::from_secs(20);

/// Why a log is no longer followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// [`LogFollower::stop`] was called.
    Stopped,
    /// The container ended or its pod is gone; in words.
    ContainerEnded(String),
    /// The stream broke off and could not be resumed; in words.
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
    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<LogEnd> {
        self.end.borrow().clone()
    }

    /// Returns when the log has ended.
    pub async fn wait(&self) -> LogEnd {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        ended.unwrap_or_else(|| LogEnd::Broken("the follower is gone".to_owned()))
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

impl ClusterClient {
    /// Follows a container's log from `since` on. The sink gets whole lines without their end and without the
    /// container runtime's time, in order, none twice.
    pub fn follow_logs(
        &self,
        pod: &PodRef,
        since: Timestamp,
        sink: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> LogFollower {
        let stop = CancellationToken::new();
        let (ended, end) = watch::channel(None);
        let (client, pod, stopped) = (self.clone(), pod.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let log = FollowedLog { client, pod, sink, memory: LineMemory::new(since), rest: Vec::new() };
            let how = tokio::select! {
                biased;
                () = stopped.cancelled() => LogEnd::Stopped,
                end = log.run() => end,
            };
            // The follower may have been dropped.
            let _dropped = ended.send(Some(how));
        });
        LogFollower { stop, end, task }
    }
}

struct FollowedLog<S> {
    client: ClusterClient,
    pod: PodRef,
    sink: S,
    memory: LineMemory,
    /// What a stream that ended as it should brought after its last whole line.
    rest: Vec<u8>,
}

/// How one stream of a log ended.
enum StreamEnd {
    /// As it should.
    Whole,
    /// It broke off, or fell silent, which may hide that; in words.
    Broken(String),
    /// The API server refused it.
    Refused(kube::Error),
}

impl<S: Fn(&[u8]) + Send + Sync> FollowedLog<S> {
    async fn run(mut self) -> LogEnd {
        let mut attempts = 0;
        let mut backoff = Backoff::new(MIN_BACKOFF, MAX_BACKOFF);
        // A container that ended is read once more: its last lines may not have arrived yet.
        let mut container_end = None;
        loop {
            let before = std::mem::take(&mut self.rest);
            let (brought, end) = self.stream().await;
            if let Some(words) = container_end
                && matches!(end, StreamEnd::Whole)
                && self.rest == before
            {
                self.hand_on_rest();
                return LogEnd::ContainerEnded(words);
            }
            container_end = match self.container_end().await {
                Ok(ended) => ended,
                Err(gone) => return LogEnd::ContainerEnded(gone),
            };
            let why = match end {
                StreamEnd::Whole => "each stream ends as soon as it begins".to_owned(),
                StreamEnd::Broken(words) => words,
                // 400: the container has not begun to run.
                StreamEnd::Refused(e) if may_pass(&e) || is_bad_request(&e) => words(&e),
                StreamEnd::Refused(e) => {
                    let log = Subject::new(format!("the log of {}/{}", self.pod.namespace, self.pod.pod));
                    return LogEnd::Broken(log.error(e).to_string());
                }
            };
            attempts = if brought { 0 } else { attempts + 1 };
            if brought {
                backoff.reset();
            }
            if attempts > MAX_ATTEMPTS {
                return LogEnd::Broken(format!(
                    "the log of {}/{} ({}) broke off and could not be resumed in {MAX_ATTEMPTS} attempts: \
                     {why}; check the API \
                     server's connection to the node and run again",
                    self.pod.namespace, self.pod.pod, self.pod.container
                ));
            }
            backoff.wait().await;
        }
    }

    /// Reads one stream to its end, and says whether it brought a line.
    async fn stream(&mut self) -> (bool, StreamEnd) {
        self.memory.resume();
        let pods: Api<Pod> = Api::namespaced(self.client.kube(), &self.pod.namespace);
        let parameters = LogParams {
            container: Some(self.pod.container.clone()),
            follow: true,
            timestamps: true,
            since_time: Some(self.memory.since()),
            ..LogParams::default()
        };
        let mut stream = match pods.log_stream(&self.pod.pod, &parameters).await {
            Ok(stream) => std::pin::pin!(stream),
            Err(e) => return (false, StreamEnd::Refused(e)),
        };
        let mut lines = BoundedLines::of_at_most(MAX_LINE);
        let mut brought = false;
        loop {
            let arrived = match tokio::time::timeout(MAX_SILENCE, stream.fill_buf()).await {
                Ok(Ok([])) => break,
                Ok(Ok(arrived)) => arrived,
                Ok(Err(e)) => return (brought, StreamEnd::Broken(chain(&e))),
                // Nothing went wrong that could be counted as a failed attempt.
                Err(_) => return (true, StreamEnd::Broken("it fell silent".to_owned())),
            };
            lines.take(arrived, |line| {
                if let Some(text) = self.memory.take(&line.noted()) {
                    brought = true;
                    (self.sink)(text);
                }
            });
            let count = arrived.len();
            stream.consume_unpin(count);
        }
        self.rest = lines.rest().bytes.clone();
        (brought, StreamEnd::Whole)
    }

    /// A program's last line may have no line feed. A line that was cut in transit comes again, whole; so
    /// only what stays the same is the program's own.
    fn hand_on_rest(&mut self) {
        if !self.rest.is_empty()
            && let Some(text) = self.memory.take(&self.rest)
        {
            (self.sink)(text);
        }
    }

    /// How the container ended: none while it may go on; an error where its pod is gone.
    async fn container_end(&self) -> Result<Option<String>, String> {
        let name = format!("{}/{} ({})", self.pod.namespace, self.pod.pod, self.pod.container);
        let pod = match self.client.get("Pod", &self.pod.namespace, &self.pod.pod).await {
            Ok(Some(pod)) => pod,
            Ok(None) => return Err(format!("the pod {name} is gone")),
            // The next attempt asks again.
            Err(_) => return Ok(None),
        };
        let container = statuses(&pod).find(|c| c["name"] == self.pod.container.as_str());
        let terminated = container.and_then(|c| c.pointer("/state/terminated"));
        Ok(terminated.map(|t| {
            format!("{name} ended with {} {}", t["exitCode"], t["reason"].as_str().unwrap_or_default())
        }))
    }
}

fn is_bad_request(e: &kube::Error) -> bool {
    matches!(e, kube::Error::Api(status) if status.code == 400)
}

/// Recognizes lines. The kubelet delivers a log from a whole second on, so resuming it brings lines of that
/// second that have been handed on already; and lines of standard output and error may be slightly out of
/// order.
struct LineMemory {
    from: Timestamp,
    /// Time and digest of the lines handed on in the latest seconds.
    handed_on: VecDeque<(Timestamp, u64)>,
    /// Those that the resumed stream has yet to repeat.
    awaited: VecDeque<(Timestamp, u64)>,
}

impl LineMemory {
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
            // A line without a time was written by the API server or the runtime, and is part of the log.
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
        let mut memory = LineMemory::new(Timestamp::UNIX_EPOCH);
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
    fn lines_that_a_resumed_stream_repeats_are_recognized() {
        let (a, b, c) = ("2026-01-01T00:00:01.1Z a", "2026-01-01T00:00:01.2Z b", "2026-01-01T00:00:01.3Z c");
        assert_eq!(handed_on(&[&[a, b], &[a, b, c]]), ["a", "b", "c"]);
        assert_eq!(handed_on(&[&[a, b], &[b, c], &[c]]), ["a", "b", "c"], "a rotated log begins later");
    }

    #[test]
    fn equal_lines_are_handed_on_as_often_as_they_were_written() {
        let same = "2026-01-01T00:00:01.1Z a";
        assert_eq!(handed_on(&[&[same, same], &[same, same, same]]), ["a", "a", "a"]);
    }

    #[test]
    fn a_line_out_of_order_is_not_lost_when_the_stream_breaks_before_it() {
        let (late, early) = ("2026-01-01T00:00:02.0Z late", "2026-01-01T00:00:01.9Z early");
        assert_eq!(handed_on(&[&[late], &[late, early]]), ["late", "early"]);
    }

    #[test]
    fn a_stream_is_resumed_one_second_before_its_latest_line() {
        let mut memory = LineMemory::new("2026-01-01T00:00:00.7Z".parse().unwrap());
        assert_eq!(memory.since().to_string(), "2026-01-01T00:00:00Z");
        let _line = memory.take(b"2026-01-01T00:00:09.5Z x");
        assert_eq!(memory.since().to_string(), "2026-01-01T00:00:08Z");
    }

    #[test]
    fn a_line_without_a_time_is_handed_on_unchanged() {
        assert_eq!(handed_on(&[&["failed to watch the file"]]), ["failed to watch the file"]);
    }
}
