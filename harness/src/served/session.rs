//! The suite's end of the protocol.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meshproof_model::{Evidence, EvidenceId, Exchange, ExternalService};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Answer, Ask, Listen, MAX_LINE, PROTOCOL, Question, Said, Sender, Towards};
use crate::delivery::Delivery;
use crate::external::ExternalSpec;
use crate::lines::BoundedLines;
use crate::store::{Store, bounded};
use crate::target::EndedExchange;
use crate::timeouts::{Timeout, Timeouts};
use crate::workload::RequestSpec;

/// How much of an answer that cannot be read is quoted.
const QUOTED: usize = 200;
/// What an answer may take beyond the work that was asked for: the way there and back.
const OVERHEAD: Duration = Duration::from_secs(20);
/// An idle stream says something this often, so that nothing between the suite and a cluster takes it for dead.
const ALIVE: Duration = Duration::from_secs(20);
/// The reason of everything that is asked of a process that is gone.
const ENDED: &str = "it has ended";
/// A token that no request has.
const NO_TOKEN: &str = "";

/// What went wrong with `meshproof serve`. It is always the fault of the environment or of the suite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("meshproof serve ({who}): {reason}")]
pub struct ServedError {
    /// Which process: `external-1`.
    pub who: String,
    /// What went wrong.
    pub reason: String,
}

/// What a process learns first.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Which process, for messages.
    pub who: String,
    /// The client to send with; absent: nothing is sent.
    pub client: Option<Sender>,
    /// The run's.
    pub timeouts: &'a Timeouts,
}

/// A process that serves and sends for the suite. When it is dropped, the stream closes, and the process ends.
pub struct Served {
    who: String,
    timeouts: Timeouts,
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

struct Inner {
    store: Store,
    lines: mpsc::UnboundedSender<Vec<u8>>,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Why the stream has ended.
    ended: Option<String>,
    /// What has to be added to a time of the process, in microseconds. Unknown until it has said hello.
    offset_us: i128,
    /// The evidence of the process, by its ids.
    known: HashMap<EvidenceId, EvidenceId>,
    watching: HashMap<String, JoinHandle<()>>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, question: &Question) {
        if let Ok(mut line) = serde_json::to_vec(question) {
            line.push(b'\n');
            // A stream that has ended is reported to those who wait.
            let _ended = self.lines.send(line);
        }
    }

    fn on_suite_clock(&self, us: u64) -> u64 {
        u64::try_from((i128::from(us) + self.lock().offset_us).max(0)).unwrap_or(u64::MAX)
    }

    fn heard(self: &Arc<Self>, line: &[u8]) -> Result<(), String> {
        let said: Said = serde_json::from_slice(line).map_err(|e| {
            let quoted = bounded(&String::from_utf8_lossy(line), QUOTED);
            format!("what it says cannot be read ({e}): {quoted}")
        })?;
        match said {
            Said::Answer { id, answer } => {
                if let Answer::Hello { now_us, .. } = &answer {
                    // Evidence then has the time at which it would have arrived at once, so that the order of what two processes
                    // report stays that of their reports.
                    self.lock().offset_us = i128::from(self.store.now_us()) - i128::from(*now_us);
                }
                let waiting = self.lock().waiting.remove(&id);
                // Who does not wait any more has given the reason.
                let _given_up = waiting.map(|waiting| waiting.send(answer));
            }
            Said::Evidence(piece) => self.keep(*piece),
            Said::Watches { token } => self.watch(token),
            Said::Watched { token } => {
                let watching = self.lock().watching.remove(&token);
                watching.iter().for_each(JoinHandle::abort);
            }
            Said::Arrived { token, bytes } => self.store.deliveries().arrived(&token, bytes),
        }
        Ok(())
    }

    fn keep(&self, piece: Evidence) {
        let known = self.lock().known.get(&piece.id).cloned();
        if let Some(id) = known {
            return self.store.amend(&id, |fact| *fact = piece.fact);
        }
        let at_us = self.on_suite_clock(piece.at_us);
        let id = self.store.record_at(at_us, piece.side, piece.token, piece.fact);
        self.lock().known.insert(piece.id, id);
    }

    /// Tells the process what arrives at a client that is elsewhere; first that nothing is missed from now on.
    fn watch(self: &Arc<Self>, token: String) {
        let delivery = self.store.deliveries().watch(&token);
        let inner = Arc::downgrade(self);
        let of = token.clone();
        let tell = async move {
            let mut delivery: Delivery = delivery;
            let mut bytes = Some(0);
            while let (Some(now), Some(inner)) = (bytes, inner.upgrade()) {
                inner.write(&Question { id: 0, ask: Ask::Arrived { token: of.clone(), bytes: now } });
                drop(inner);
                bytes = delivery.next().await;
            }
        };
        let former = self.lock().watching.insert(token, tokio::spawn(tell));
        former.iter().for_each(JoinHandle::abort);
    }

    fn end(&self, reason: String) {
        let mut state = self.lock();
        state.ended.get_or_insert(reason);
        // Their senders are dropped, which those who wait notice.
        state.waiting.clear();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let watching = std::mem::take(&mut self.inner.lock().watching);
        watching.values().for_each(JoinHandle::abort);
    }
}

impl Served {
    /// Says hello over this stream. Evidence goes into the store from then on, and so does what arrives at clients.
    ///
    /// # Errors
    /// The process ends, is of another version, or does not answer within the timeout `external-service-ready`.
    pub async fn begin(
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send + 'static,
        setup: &Setup<'_>,
        store: Store,
    ) -> Result<Self, ServedError> {
        let (lines, written) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner { store, lines, next: AtomicU64::new(1), state: Mutex::default() });
        let tasks = vec![
            tokio::spawn(read(reader, Arc::clone(&inner))),
            tokio::spawn(write(writer, written, Arc::clone(&inner))),
        ];
        let served = Self { who: setup.who.clone(), timeouts: setup.timeouts.clone(), inner, tasks };
        let of_process = [Timeout::Request, Timeout::Continue, Timeout::EvidenceSettled];
        let in_ms = |t: Timeout| u64::try_from(setup.timeouts.get(t).as_millis()).unwrap_or(u64::MAX);
        let hello = Ask::Hello {
            protocol: PROTOCOL,
            client: setup.client.clone(),
            timeouts_ms: of_process.map(|t| (t.name().to_owned(), in_ms(t))).into(),
        };
        let answer = served.ask(hello, setup.timeouts.get(Timeout::ExternalServiceReady)).await?;
        let Answer::Hello { protocol, version, .. } = answer else { return Err(served.unexpected()) };
        if protocol != PROTOCOL {
            return Err(served.error(format!(
                "it is meshproof {version}, and this is meshproof {}, with another protocol between them. Use an image of this \
                 version",
                env!("CARGO_PKG_VERSION")
            )));
        }
        Ok(served)
    }

    /// Starts an external service: its description, and its addresses by the documents' ports.
    ///
    /// # Errors
    /// It did not start.
    pub async fn serve(
        &self,
        spec: ExternalSpec,
        listen: Listen,
    ) -> Result<(ExternalService, BTreeMap<u16, SocketAddr>), ServedError> {
        let limit = self.timeouts.get(Timeout::ExternalServiceReady);
        let answer = self.ask(Ask::Serve { spec: Box::new(spec), listen }, limit).await?;
        let Answer::Serving { service, addresses } = answer else { return Err(self.unexpected()) };
        Ok((service, addresses.into_iter().collect()))
    }

    /// Sends a request. A missing response is part of the exchange.
    ///
    /// # Errors
    /// It could not be sent at all.
    pub async fn send(&self, request: &RequestSpec, to: Vec<Towards>) -> Result<Exchange, ServedError> {
        let mut sent = self.exchanges(vec![request.clone()], false, to).await?;
        sent.pop().map(|ended| ended.exchange).ok_or_else(|| self.error("it sent nothing".to_owned()))
    }

    /// Sends requests over one connection, where that is possible. The result has their order.
    ///
    /// # Errors
    /// They could not be sent at all.
    pub async fn send_in_line(
        &self,
        requests: &[RequestSpec],
        to: Vec<Towards>,
    ) -> Result<Vec<EndedExchange>, ServedError> {
        self.exchanges(requests.to_vec(), true, to).await
    }

    async fn exchanges(
        &self,
        requests: Vec<RequestSpec>,
        in_line: bool,
        to: Vec<Towards>,
    ) -> Result<Vec<EndedExchange>, ServedError> {
        let count = requests.len();
        let limit = self.timeouts.get(Timeout::Request) * u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let answer = self.ask(Ask::Send { requests, in_line, to }, limit).await?;
        let Answer::Sent { exchanges } = answer else { return Err(self.unexpected()) };
        if exchanges.len() != count {
            return Err(self.unexpected());
        }
        let now = (Instant::now(), self.inner.store.now_us());
        let ended = |ended: super::Ended| {
            let ago = now.1.saturating_sub(self.inner.on_suite_clock(ended.ended_us));
            let ended_at = now.0.checked_sub(Duration::from_micros(ago)).unwrap_or(now.0);
            EndedExchange { exchange: ended.exchange, ended: ended_at }
        };
        Ok(exchanges.into_iter().map(ended).collect())
    }

    /// Returns when the evidence of everything that has ended is in the store.
    ///
    /// # Errors
    /// The process is gone, or the timeout `evidence-settled` ran out.
    pub async fn settle(&self) -> Result<(), ServedError> {
        let answer = self.ask(Ask::Settle, self.timeouts.get(Timeout::EvidenceSettled)).await?;
        let Answer::Settled = answer else { return Err(self.unexpected()) };
        Ok(())
    }

    /// Stops every service of the process. A process that is gone has none.
    ///
    /// # Errors
    /// It does not answer within the timeout `teardown`.
    pub async fn stop(&self) -> Result<(), ServedError> {
        if self.inner.lock().ended.is_some() {
            return Ok(());
        }
        let answer = self.ask(Ask::Stop, self.timeouts.get(Timeout::Teardown)).await?;
        let Answer::Stopped = answer else { return Err(self.unexpected()) };
        Ok(())
    }

    async fn ask(&self, ask: Ask, limit: Duration) -> Result<Answer, ServedError> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (answered, answer) = oneshot::channel();
        {
            let mut state = self.inner.lock();
            if let Some(reason) = state.ended.clone() {
                return Err(self.error(reason));
            }
            state.waiting.insert(id, answered);
        }
        self.inner.write(&Question { id, ask });
        let limit = limit + OVERHEAD;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(Answer::Failed { reason })) => Err(self.error(reason)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                let reason = self.inner.lock().ended.clone();
                Err(self.error(reason.unwrap_or_else(|| "its stream has ended".to_owned())))
            }
            Err(_) => {
                self.inner.lock().waiting.remove(&id);
                Err(self.error(format!("it does not answer within {limit:?}")))
            }
        }
    }

    fn error(&self, reason: String) -> ServedError {
        ServedError { who: self.who.clone(), reason }
    }

    fn unexpected(&self) -> ServedError {
        self.error("its answer is that to another question".to_owned())
    }
}

async fn read(mut reader: impl AsyncRead + Unpin, inner: Arc<Inner>) {
    let mut lines = BoundedLines::of_at_most(MAX_LINE);
    let mut buffer = vec![0; 64 * 1024];
    let reason = loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) => break ENDED.to_owned(),
            Ok(count) => count,
            Err(e) => break format!("its output cannot be read: {e}"),
        };
        let mut broken = None;
        lines.take(&buffer[..count], |line| {
            if line.dropped > 0 {
                broken.get_or_insert("it wrote a line that is too long".to_owned());
            } else if let Err(words) = inner.heard(&line.bytes) {
                broken.get_or_insert(words);
            }
        });
        if let Some(words) = broken {
            break words;
        }
    };
    inner.end(reason);
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut lines: mpsc::UnboundedReceiver<Vec<u8>>,
    inner: Arc<Inner>,
) {
    let alive = Question { id: 0, ask: Ask::Arrived { token: NO_TOKEN.to_owned(), bytes: 0 } };
    loop {
        let line = match tokio::time::timeout(ALIVE, lines.recv()).await {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(_) => {
                inner.write(&alive);
                continue;
            }
        };
        let written = async {
            writer.write_all(&line).await?;
            writer.flush().await
        };
        // Who does not read any more has ended; the reader may not have noticed yet.
        if written.await.is_err() {
            return inner.end(ENDED.to_owned());
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
