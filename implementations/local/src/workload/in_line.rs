//! Several requests over one connection in plain text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshproof_harness::workload::HttpChoice;
use meshproof_model::{ExchangeError, ExchangeErrorKind};
use tokio::time::timeout;

use super::connection::{Dialled, Tasks, Wire, ask_once, dial, drive, http1_settings, http2_settings};
use super::failure::sorted;
use super::pipelined;
use super::prepared::{Answered, Sender, Target, Unanswered};
use super::spoken::{Spoken, stays_open, timed_out};

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
