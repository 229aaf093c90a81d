//! Waiting for objects: a list, then a watch from where it ended, taken up again as often as it breaks off.

use meshproof_harness::timeouts::Timeout;
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::lines::Lines;
use super::question::{Fault, Question, chain};
use super::{Api, ApiError, Kind, MOST_OBJECTS, Selector, query, summary};

/// The longest event, in bytes. An object in etcd has at most 1.5 MiB; its managed fields and its escapes come on top.
const MAX_EVENT: usize = 8 * 1024 * 1024;
/// After so long without a word, the list is asked anew: a connection may be dead without having ended.
const SILENCE: Duration = Duration::from_secs(30);
/// The API server ends a watch after so many seconds at the latest.
const LONGEST_WATCH: u64 = 290;
/// The wait after a watch that broke off, doubled each time up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is awaited, of which objects, and for how long.
pub(super) struct Awaited<'a> {
    pub(super) kind: &'static Kind,
    pub(super) namespace: Option<&'a str>,
    pub(super) selector: Selector,
    pub(super) timeout: Timeout,
    pub(super) limit: Duration,
    pub(super) what: &'a str,
}

/// Why a watch is over.
enum Over<T> {
    Found(T),
    /// It ended, broke off or fell silent; it goes on from the last version seen.
    Paused(Option<Fault>),
    /// What it would go on from is no longer kept: the list is asked again.
    Expired,
    Failed(ApiError),
}

/// The objects as last seen, and from which version on they may be watched.
struct State {
    objects: Vec<Value>,
    version: String,
}

impl Api {
    pub(super) async fn watch_for<T: Send>(
        &self,
        awaited: &Awaited<'_>,
        mut seen: impl FnMut(&[Value]) -> Option<T> + Send,
    ) -> Result<T, ApiError> {
        let deadline = Instant::now() + awaited.limit;
        let mut state = State { objects: Vec::new(), version: String::new() };
        let mut trouble = None;
        let watching = self.keep_watching(awaited, deadline, &mut state, &mut trouble, &mut seen);
        match timeout_at(deadline, watching).await {
            Ok(result) => result,
            Err(_) => {
                let mut last = summary::of_all(&state.objects);
                if let Some(trouble) = trouble {
                    last = format!("{last} (and the watch broke off: {trouble})");
                }
                Err(ApiError::TimedOut {
                    timeout: awaited.timeout,
                    limit: awaited.limit,
                    what: awaited.what.to_owned(),
                    last,
                })
            }
        }
    }

    async fn keep_watching<T: Send>(
        &self,
        awaited: &Awaited<'_>,
        deadline: Instant,
        state: &mut State,
        trouble: &mut Option<String>,
        seen: &mut (impl FnMut(&[Value]) -> Option<T> + Send),
    ) -> Result<T, ApiError> {
        let mut pause = PAUSE;
        loop {
            if state.version.is_empty() {
                let listed =
                    self.list_from(awaited.kind, awaited.namespace, &awaited.selector, super::WHOLE).await?;
                (state.objects, state.version) = listed;
                if let Some(found) = seen(&state.objects) {
                    return Ok(found);
                }
            }
            let before = state.version.clone();
            match self.watch_once(awaited, deadline, state, seen).await {
                Over::Found(found) => return Ok(found),
                Over::Failed(e) => return Err(e),
                Over::Expired => state.version.clear(),
                Over::Paused(fault) => *trouble = fault.map(|fault| words(&fault)),
            }
            // A watch that brought something may be resumed at once; one that did not, not in a hurry.
            pause = if before == state.version { (pause * 2).min(LONGEST_PAUSE) } else { PAUSE };
            sleep(pause).await;
        }
    }

    async fn watch_once<T: Send>(
        &self,
        awaited: &Awaited<'_>,
        deadline: Instant,
        state: &mut State,
        seen: &mut (impl FnMut(&[Value]) -> Option<T> + Send),
    ) -> Over<T> {
        let question = match self.watch_question(awaited, deadline, &state.version).await {
            Ok(question) => question,
            Err(e) => return Over::Failed(e),
        };
        let mut stream = match self.open(&question).await {
            Ok(response) => response.into_body().into_data_stream(),
            Err(fault) if fault.code() == Some(410) => return Over::Expired,
            Err(fault) if fault.may_pass() => return Over::Paused(Some(fault)),
            Err(fault) => return Over::Failed(question.error(fault)),
        };
        let mut lines = Lines::of_at_most(MAX_EVENT);
        loop {
            let arrived = match next(&mut stream).await {
                Arrived::Bytes(bytes) => bytes,
                Arrived::End => return Over::Paused(None),
                Arrived::Silence => return Over::Expired,
                Arrived::Broken(fault) => return Over::Paused(Some(fault)),
            };
            let mut events = Vec::new();
            lines.take(&arrived, |line| events.push(serde_json::from_slice::<Value>(line)));
            for event in events {
                match state.take(event) {
                    Taken::Changed => {}
                    Taken::Nothing => continue,
                    Taken::Expired => return Over::Expired,
                    Taken::Fault(fault) if fault.may_pass() => return Over::Paused(Some(fault)),
                    Taken::Fault(fault) => return Over::Failed(question.error(fault)),
                }
                if let Some(found) = seen(&state.objects) {
                    return Over::Found(found);
                }
            }
        }
    }

    async fn watch_question(
        &self,
        awaited: &Awaited<'_>,
        deadline: Instant,
        version: &str,
    ) -> Result<Question, ApiError> {
        let left = deadline.saturating_duration_since(Instant::now()).as_secs() + 1;
        let left = left.min(LONGEST_WATCH).to_string();
        let query = query(
            &awaited.selector,
            &[
                ("watch", "true"),
                ("allowWatchBookmarks", "true"),
                ("resourceVersion", version),
                ("timeoutSeconds", &left),
            ],
        );
        let path = awaited.kind.path(&self.version(awaited.kind).await?, awaited.namespace, None);
        Ok(Question {
            path: format!("{path}?{query}"),
            verb: "watch",
            what: format!("{}s", awaited.kind.kind),
            ..self.about(awaited.kind, awaited.namespace)
        })
    }
}

enum Arrived {
    Bytes(bytes::Bytes),
    End,
    Silence,
    Broken(Fault),
}

async fn next(stream: &mut http_body_util::BodyDataStream<Body>) -> Arrived {
    match tokio::time::timeout(SILENCE, stream.next()).await {
        Err(_) => Arrived::Silence,
        Ok(None) => Arrived::End,
        Ok(Some(Ok(bytes))) => Arrived::Bytes(bytes),
        Ok(Some(Err(e))) => Arrived::Broken(Fault::Transport(chain(&e))),
    }
}

fn words(fault: &Fault) -> String {
    match fault {
        Fault::Status { code, status, .. } => format!("{code} {}", status.message),
        Fault::Transport(words) => words.clone(),
        Fault::TooLong => "an event has no end".to_owned(),
    }
}

enum Taken {
    Changed,
    Nothing,
    Expired,
    Fault(Fault),
}

impl State {
    fn take(&mut self, event: serde_json::Result<Value>) -> Taken {
        // What cannot be read may have been a change: the list tells.
        let Ok(mut event) = event else { return Taken::Expired };
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        match event["type"].as_str() {
            Some("ERROR") => {
                let code = object["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
                if code == 410 {
                    return Taken::Expired;
                }
                let code =
                    http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
                let status = serde_json::from_value(object).unwrap_or_default();
                return Taken::Fault(Fault::Status { code, status: Box::new(status), retry_after: None });
            }
            Some("BOOKMARK") => {
                self.version = version.unwrap_or(&self.version).to_owned();
                return Taken::Nothing;
            }
            Some("ADDED" | "MODIFIED") => {
                self.version = version.unwrap_or(&self.version).to_owned();
                match self.objects.iter().position(|o| is_same(o, &object)) {
                    Some(known) => self.objects[known] = object,
                    None if self.objects.len() < MOST_OBJECTS => self.objects.push(object),
                    None => return Taken::Expired,
                }
            }
            Some("DELETED") => {
                self.version = version.unwrap_or(&self.version).to_owned();
                self.objects.retain(|o| !is_same(o, &object));
            }
            Some(_) | None => return Taken::Nothing,
        }
        Taken::Changed
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    ["/metadata/namespace", "/metadata/name"].iter().all(|p| one.pointer(p) == other.pointer(p))
}
