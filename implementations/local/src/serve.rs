//! `meshproof serve`: the embedded external service and the workload client for a suite in another process
//! ([`meshproof_harness::served`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use meshproof_harness::delivery::{Deliveries, Relay};
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::lines::BoundedLines;
use meshproof_harness::served::{
    Answer, Ask, Ended, Listen, MAX_LINE, PROTOCOL, Question, Said, Sender, Towards,
};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::Evidence;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::external::RunningService;
use crate::external::embedded::embedded;
use crate::workload::{Route, WorkloadClient};

/// Serves and sends for the suite at the other end until it says stop or the input ends. Then nothing listens any more.
///
/// # Errors
/// The input is not the suite's, or the output cannot be written. In words.
pub async fn serve(
    mut input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), String> {
    let (said, lines) = mpsc::unbounded_channel();
    let writing = tokio::spawn(write(output, lines));
    let said = Mouth(said);
    let work = TaskTracker::new();
    let mut process: Option<Arc<Process>> = None;
    let mut lines = BoundedLines::of_at_most(MAX_LINE);
    let mut buffer = vec![0; 64 * 1024];
    let outcome = 'read: loop {
        let count = match input.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(count) => count,
            Err(e) => break Err(format!("standard input cannot be read: {e}")),
        };
        let mut arrived = Vec::new();
        lines.take(&buffer[..count], |line| arrived.push(line));
        for line in arrived {
            if line.dropped > 0 {
                break 'read Err("a line of standard input is too long".to_owned());
            }
            let question: Question = match serde_json::from_slice(&line.bytes) {
                Ok(question) => question,
                // The line is not quoted: it may contain a key.
                Err(e) => {
                    break 'read Err(format!(
                        "standard input is not the protocol between the suite and its servers ({:?} error at column {})",
                        e.classify(),
                        e.column()
                    ));
                }
            };
            match (question.ask, &process) {
                (Ask::Hello { protocol: _, client, timeouts_ms }, _) => {
                    let begun = Process::new(client, &timeouts_ms, said.clone());
                    let answer = match begun {
                        Ok(begun) => {
                            let now_us = begun.store.now_us();
                            process = Some(Arc::new(begun));
                            let version = env!("CARGO_PKG_VERSION").to_owned();
                            Answer::Hello { protocol: PROTOCOL, version, now_us }
                        }
                        Err(reason) => Answer::Failed { reason },
                    };
                    said.answer(question.id, answer);
                }
                (Ask::Arrived { token, bytes }, Some(process)) => {
                    process.store.deliveries().heard(&token, bytes);
                }
                (Ask::Stop, Some(process)) => {
                    let answer = process.stop().await;
                    said.answer(question.id, answer);
                    break 'read Ok(());
                }
                (ask, Some(process)) => {
                    let (process, said) = (Arc::clone(process), said.clone());
                    work.spawn(async move {
                        let answer = process.answer(ask).await;
                        said.answer(question.id, answer);
                    });
                }
                (_, None) => break 'read Err("the first question is not hello".to_owned()),
            }
        }
    };
    if let Some(process) = process {
        let _stopped_before = process.stop().await;
    }
    drop(said);
    // The suite does not wait for answers any more; only what was said already still goes out.
    let written = tokio::time::timeout(Duration::from_secs(5), writing).await;
    outcome.and(match written {
        Ok(Ok(Err(e))) => Err(format!("standard output cannot be written: {e}")),
        Ok(Ok(Ok(())) | Err(_)) | Err(_) => Ok(()),
    })
}

async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut lines: mpsc::UnboundedReceiver<Vec<u8>>,
) -> std::io::Result<()> {
    while let Some(line) = lines.recv().await {
        output.write_all(&line).await?;
        if lines.is_empty() {
            output.flush().await?;
        }
    }
    Ok(())
}

/// Where everything is said, in order.
#[derive(Clone)]
struct Mouth(mpsc::UnboundedSender<Vec<u8>>);

impl Mouth {
    fn say(&self, said: &Said) {
        if let Ok(mut line) = serde_json::to_vec(said) {
            line.push(b'\n');
            // When the suite has stopped reading, the input ends, too.
            let _unread = self.0.send(line);
        }
    }

    fn answer(&self, id: u64, answer: Answer) {
        self.say(&Said::Answer { id, answer });
    }
}

impl Relay for Mouth {
    fn watches(&self, token: &str) {
        self.say(&Said::Watches { token: token.to_owned() });
    }

    fn watched(&self, token: &str) {
        self.say(&Said::Watched { token: token.to_owned() });
    }

    fn arrived(&self, token: &str, bytes: u64) {
        self.say(&Said::Arrived { token: token.to_owned(), bytes });
    }
}

/// What runs for the suite.
struct Process {
    store: Store,
    timeouts: Timeouts,
    client: Option<WorkloadClient>,
    services: Mutex<Vec<Arc<dyn RunningService>>>,
}

impl Process {
    fn new(client: Option<Sender>, timeouts_ms: &BTreeMap<String, u64>, said: Mouth) -> Result<Self, String> {
        let mut timeouts = Timeouts::default();
        for (name, ms) in timeouts_ms {
            let timeout = name.parse().map_err(|e| format!("{e}"))?;
            timeouts.set(timeout, Duration::from_millis(*ms));
        }
        let deliveries = Deliveries::relayed(Arc::new(said.clone()));
        let client = client.map(|client| {
            WorkloadClient::new(&client.name, Route::default(), &client.roots, &timeouts)
                .map(|client| client.reporting_to(deliveries.clone()))
                .map_err(|e| e.to_string())
        });
        let client = client.transpose()?;
        let show = move |piece: &Evidence| said.say(&Said::Evidence(Box::new(piece.clone())));
        let store = Store::forwarding(deliveries, show);
        Ok(Self { store, timeouts, client, services: Mutex::default() })
    }

    fn services(&self) -> Vec<Arc<dyn RunningService>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(&self, ask: Ask) -> Answer {
        let answered = match ask {
            Ask::Serve { spec, listen } => self.start(*spec, listen).await,
            Ask::Send { requests, in_line, to } => self.send(&requests, in_line, to).await,
            Ask::Settle => {
                let services = self.services();
                let settled = join_all(services.iter().map(|service| service.settle())).await;
                settled
                    .into_iter()
                    .collect::<Result<(), _>>()
                    .map(|()| Answer::Settled)
                    .map_err(|e| e.to_string())
            }
            Ask::Hello { .. } | Ask::Arrived { .. } | Ask::Stop => {
                Err("this is answered elsewhere".to_owned())
            }
        };
        answered.unwrap_or_else(|reason| Answer::Failed { reason })
    }

    async fn start(&self, spec: ExternalSpec, listen: Listen) -> Result<Answer, String> {
        let service =
            embedded(spec, self.store.clone(), &self.timeouts, listen).await.map_err(|e| e.to_string())?;
        let addresses =
            service.ports().into_iter().filter_map(|port| Some((port, service.address(port)?))).collect();
        let described = service.describe();
        self.services.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(service));
        Ok(Answer::Serving { service: described, addresses })
    }

    async fn send(
        &self,
        requests: &[RequestSpec],
        in_line: bool,
        to: Vec<Towards>,
    ) -> Result<Answer, String> {
        let client = self.client.as_ref().ok_or("this process has no client")?;
        let client = client.routed(Route::from(to));
        // Both clocks now, so that a time of one is a time of the other.
        let clocks = (std::time::Instant::now(), self.store.now_us());
        let ended = |at: std::time::Instant| {
            let later = at.saturating_duration_since(clocks.0).as_micros();
            clocks.1.saturating_add(u64::try_from(later).unwrap_or(u64::MAX))
        };
        let exchanges = if in_line {
            let spoken = client.in_line(requests).await;
            spoken.into_iter().map(|e| Ended { ended_us: ended(e.ended), exchange: e.exchange }).collect()
        } else {
            let mut exchanges = Vec::with_capacity(requests.len());
            for request in requests {
                let exchange = client.exchange(request).await;
                exchanges.push(Ended { exchange, ended_us: self.store.now_us() });
            }
            exchanges
        };
        Ok(Answer::Sent { exchanges })
    }

    async fn stop(&self) -> Answer {
        let services = std::mem::take(&mut *self.services.lock().unwrap_or_else(PoisonError::into_inner));
        let stopped = join_all(services.iter().map(|service| service.stop())).await;
        match stopped.into_iter().collect::<Result<(), _>>() {
            Ok(()) => Answer::Stopped,
            Err(e) => Answer::Failed { reason: e.to_string() },
        }
    }
}
