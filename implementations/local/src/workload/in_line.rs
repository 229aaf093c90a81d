//! Several requests over one connection in plain text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Version;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshproof_harness::workload::HttpChoice;
use meshproof_model::{ExchangeError, ExchangeErrorKind, Response};
use tokio::time::timeout;

use super::connection::{
    Answered, Dialled, Sender, Target, Tasks, Unanswered, Wire, ask_once, dial, drive, http1_settings,
    http2_settings,
};
use super::failure::sorted;
use super::pipelined;

/// One request that was sent, and its outcome.
pub(super) struct Spoken {
    pub(super) result: Result<Response, ExchangeError>,
    /// What was written for it, and how much.
    pub(super) sent: (String, u64),
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Spoken {
    pub(super) fn now(result: Result<Response, ExchangeError>, wire: &Wire, began: Instant) -> Self {
        Self { result, sent: wire.shown(), began, ended: Instant::now() }
    }
}

/// Sends requests to one address: over HTTP/2 at once, otherwise one after the other, or in a pipeline if they ask for it. A connection that the other end closes
/// is replaced, as clients do (RFC 9112, section 9.3); the order stays.
pub(super) async fn in_line(targets: Vec<Target>, limit: Duration) -> Vec<Spoken> {
    if targets.first().is_some_and(Target::is_http2) {
        return at_once(targets, limit).await;
    }
    let mut targets = VecDeque::from(targets);
    let mut spoken = Vec::with_capacity(targets.len());
    let at_once = |target: &Target| target.http == HttpChoice::Pipelined && pipelined::fits(target);
    if targets.len() > 1 && targets.iter().all(at_once) {
        pipelined::pipelined(&mut targets, &mut spoken, limit).await;
    }
    while let Some(first) = targets.front() {
        let (wire, began) = (Arc::<Wire>::default(), Instant::now());
        match timed(limit, opened(first, &wire)).await {
            Ok(connection) => one_after_the_other(connection, &wire, &mut targets, &mut spoken, limit).await,
            Err(error) => {
                targets.pop_front();
                spoken.push(Spoken::now(Err(error), &wire, began));
            }
        }
    }
    spoken
}

type Http1 =
    (http1::SendRequest<super::body::Outgoing>, http1::Connection<TokioIo<Dialled>, super::body::Outgoing>);

async fn opened(target: &Target, wire: &Arc<Wire>) -> Result<Http1, ExchangeError> {
    let stream = dial(target, wire).await?;
    http1_settings().handshake(TokioIo::new(stream)).await.map_err(|e| sorted(&e))
}

async fn timed<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(limit)))
}

pub(super) fn timed_out(limit: Duration) -> ExchangeError {
    let message = format!("request: no whole answer within {limit:?}");
    ExchangeError { kind: ExchangeErrorKind::Timeout, message }
}

/// Sends requests over one HTTP/1.1 connection for as long as it takes them. At least one is sent.
async fn one_after_the_other(
    (sender, connection): Http1,
    wire: &Wire,
    targets: &mut VecDeque<Target>,
    spoken: &mut Vec<Spoken>,
    limit: Duration,
) {
    let before = spoken.len();
    let answering = async {
        let mut sender = Sender::Http1(sender);
        while let Some(target) = targets.front().cloned() {
            wire.begin();
            let began = Instant::now();
            let asked = timeout(limit, ask_once(&mut sender, target, false)).await;
            let result = match asked {
                Ok(Ok(Answered { response, whole })) => Ok((response, whole)),
                // The other end has closed the connection after the answer before.
                Ok(Err(Unanswered { unsent: true, .. })) if spoken.len() > before => return true,
                Ok(Err(Unanswered { error, .. })) => Err(error),
                Err(_) => Err(timed_out(limit)),
            };
            targets.pop_front();
            let goes_on = result.as_ref().is_ok_and(|(response, whole)| *whole && stays_open(response));
            let whole = result.as_ref().is_ok_and(|(_, whole)| *whole);
            let result = result.map(|(response, _)| response);
            spoken.push(Spoken::now(result, wire, began));
            if !goes_on {
                return whole;
            }
        }
        true
    };
    let (_, ended) = drive(connection.with_upgrades(), answering, |whole| *whole).await;
    let last = spoken.last_mut().filter(|_| ended.is_some());
    // The error of the connection often says more than that of the request.
    if let (Some(Spoken { result: Err(error), .. }), Some(Err(end))) = (last, ended)
        && error.kind == ExchangeErrorKind::ConnectionClosed
    {
        *error = sorted(&end);
    }
}

/// Whether another request may follow this answer on its connection (RFC 9112, section 9.3).
pub(super) fn stays_open(response: &Response) -> bool {
    let connection = response.headers.iter().filter(|h| h.name == "connection");
    let closes = connection.flat_map(|h| h.value.split(',')).any(|o| o.trim().eq_ignore_ascii_case("close"));
    response.status != 101 && response.version == crate::http_facts::version(Version::HTTP_11) && !closes
}

/// Sends requests over one HTTP/2 connection, all at once.
async fn at_once(targets: Vec<Target>, limit: Duration) -> Vec<Spoken> {
    let wire = Arc::<Wire>::default();
    let began = Instant::now();
    let tasks = Tasks::default();
    let opening = async {
        let first = targets.first();
        let stream = match first {
            Some(target) => dial(target, &wire).await?,
            None => return Err(timed_out(limit)),
        };
        http2_settings(&tasks)
            .handshake::<_, super::body::Outgoing>(TokioIo::new(stream))
            .await
            .map_err(|e| sorted(&e))
    };
    let (sender, connection): (http2::SendRequest<_>, _) = match timed(limit, opening).await {
        Ok(opened) => opened,
        Err(error) => {
            let failed = |_| Spoken::now(Err(error.clone()), &wire, began);
            return targets.into_iter().map(failed).collect();
        }
    };
    let answering = join_all(targets.into_iter().map(|target| {
        let mut sender = Sender::Http2(sender.clone());
        async move {
            let asked = timeout(limit, ask_once(&mut sender, target, true)).await;
            let result = match asked {
                Ok(Ok(Answered { response, .. })) => Ok(response),
                Ok(Err(Unanswered { error, .. })) => Err(error),
                Err(_) => Err(timed_out(limit)),
            };
            (result, Instant::now())
        }
    }));
    drop(sender);
    let (answered, _) = drive(connection, answering, |_| true).await;
    tasks.close().await;
    let spoken = |(result, ended)| Spoken { result, sent: wire.shown(), began, ended };
    answered.into_iter().map(spoken).collect()
}
