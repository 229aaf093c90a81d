//! A client that sends requests.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;
use meshproof_model::{EvidenceId, Exchange, ExchangeError, ExchangeErrorKind, Fact, HopResult, Side};
use tokio::time::{MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Mesh, Origin, Stop, micros};
use crate::claim::{Load, Reply};
use crate::conversation::Conversation;
use crate::digest::sample;
use crate::grpc::{self, Call};
use crate::holding::{self, HELD_BODY};
use crate::target::{EndedExchange, Probe};
use crate::timeouts::Timeout;
use crate::workload::{Delivery, HttpChoice, Method, RequestSpec};

/// The number of requests of one call that are in flight at the same time.
const SIDE_BY_SIDE: usize = 32;
/// The number of requests in flight during a change.
const HELD: usize = 4;
/// The number of clients that send one request after another around a change.
const STEADY: usize = 3;
/// The length of the body that they request, in bytes.
const STEADY_BODY: usize = 1000;
/// The interval between the requests of each of these clients.
const RATE: Duration = Duration::from_millis(5);
/// After this many requests, each client slows down, so that a change of many seconds does not flood the evidence.
const MANY: usize = 200;
/// The interval from then on.
const SLOW_RATE: Duration = Duration::from_millis(250);

/// A client that sends requests. A workload's client follows redirects, as the documents' `curl -L` does.
#[derive(Clone)]
#[must_use]
pub struct Client<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) from: Origin,
    pub(super) request: RequestSpec,
}

impl Client<'_> {
    /// Presents a client certificate.
    pub fn identity(mut self, issued: &crate::certificates::Issued) -> Self {
        self.request.identity = Some(issued.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends this Host instead of the URL's.
    pub fn host(mut self, host: &str) -> Self {
        self.request.host_header = Some(host.to_owned());
        self
    }

    /// Sets the server name (SNI); the default is the URL's host.
    pub fn server_name(mut self, name: &str) -> Self {
        self.request.server_name = Some(name.to_owned());
        self
    }

    /// Sets the method; the default is GET.
    pub fn method(mut self, method: Method) -> Self {
        self.request.method = method;
        self
    }

    /// Sets the body and how it is sent.
    pub fn body(mut self, body: &Bytes, delivery: Delivery) -> Self {
        self.request.body = body.clone();
        self.request.delivery = delivery;
        self
    }

    /// Uses HTTP/2, in plain text with prior knowledge.
    pub fn http2(mut self) -> Self {
        self.request.http = HttpChoice::Http2;
        self
    }

    /// Sends a WebSocket handshake, and then this message.
    pub fn web_socket(mut self, message: &str) -> Self {
        self.request.websocket = Some(vec![message.to_owned()]);
        self
    }

    /// Makes a gRPC call with these messages, over HTTP/2.
    pub fn calling(mut self, call: Call) -> Self {
        self.request.method = Method::POST;
        self.request.http = HttpChoice::Http2;
        self.request.headers.push(("content-type".to_owned(), grpc::CONTENT_TYPE.to_owned()));
        self.request.headers.push(("te".to_owned(), "trailers".to_owned()));
        self.request.grpc = Some(call);
        self
    }

    /// Says this over TCP instead of sending a request, for URLs `tcp://HOST:PORT` and, inside TLS of its own, `tls://HOST:PORT`.
    pub fn saying(mut self, conversation: Conversation) -> Self {
        self.request.conversation = Some(conversation);
        self
    }

    /// Sends what comes first in segments of so many bytes, a ClientHello as well as the head of a request.
    pub fn in_segments(mut self, bytes: usize) -> Self {
        self.request.segment = Some(bytes);
        self
    }

    /// Sends the request this many times, one after another, over one connection.
    pub fn times(mut self, times: usize) -> Self {
        self.request.times = times;
        self
    }

    /// Sends the request, with GET unless another method was set.
    ///
    /// # Errors
    /// The request could not be sent at all, or its evidence could not be collected.
    pub async fn get(&self, url: &str) -> Result<Reply, Stop> {
        let [reply] = self.get_each([url]).await?;
        Ok(reply)
    }

    /// Sends one request to each URL concurrently, and collects their evidence once. A claim about the window of one of them
    /// (`during`) covers what any of them caused. Send a request alone if a claim must distinguish its window from others, or
    /// if the next claim says that nothing reached the server: a proxy may open one connection for each of several requests,
    /// serve all over the first that is ready, and the other connections arrive late.
    ///
    /// # Errors
    /// As for [`Client::get`]. Every request has ended when this returns.
    pub async fn get_each<const N: usize>(&self, urls: [&str; N]) -> Result<[Reply; N], Stop> {
        let replies = self.get_all(&urls).await?;
        replies.try_into().map_err(|_| Stop::Suite("a request has no reply".to_owned()))
    }

    /// As [`Client::get_each`], for any number of URLs, of which a limited number are requested at the same time. The replies
    /// have their order.
    ///
    /// # Errors
    /// As for [`Client::get`]. Every request has ended when this returns.
    pub async fn get_all<U: AsRef<str>>(&self, urls: &[U]) -> Result<Vec<Reply>, Stop> {
        let Self { mesh, from, request } = self;
        let mark = mesh.mark();
        let begun = Instant::now();
        let asking: Vec<_> = urls
            .iter()
            .map(|url| mesh.ask(from, RequestSpec { url: url.as_ref().to_owned(), ..request.clone() }))
            .collect();
        let asked: Vec<_> = stream::iter(asking).buffered(SIDE_BY_SIDE).collect().await;
        let asked = asked.into_iter().collect::<Result<Vec<_>, _>>()?;
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed());
        Ok(asked.into_iter().map(|a| mesh.reply(from, a, mark)).collect())
    }

    /// Makes a change while requests to `origin` (`http://api.example.com`) continue. Some are in flight when the change is
    /// made: they have arrived at the server, which holds back half of each response until the change is in force. Others
    /// request a small page, one after another, from before the change until after it. The server must be the embedded one.
    ///
    /// # Errors
    /// Those of the change, or as for [`Client::get`].
    pub async fn under_load(
        &self,
        origin: &str,
        change: impl Future<Output = Result<(), Stop>>,
    ) -> Result<Load, Stop> {
        let Self { mesh, from, request } = self;
        let key = mesh.tokens.next();
        let at = |path: &str| RequestSpec { url: format!("{origin}{path}"), ..request.clone() };
        let (hold, steady) = (at(&holding::hold(&key)), at(&holding::bytes(STEADY_BODY)));
        let mark = mesh.mark();
        let begun = Instant::now();
        let lost = CancellationToken::new();
        let holding = join_all((0..HELD).map(|_| async {
            let asked = mesh.ask(from, hold.clone()).await;
            lost.cancel();
            asked
        }));
        let door = Door { mesh, origin, key: &key, lost: &lost };
        // The requests in flight must not time out during a long change.
        let release_at = Instant::now() + mesh.setting.seat.timeouts.get(Timeout::Request) / 2;
        let around = async {
            let result = around(&door, from, &steady, release_at, change).await;
            // Also after a failure, so that no request keeps waiting.
            door.ask(holding::release(&key)).await?;
            result
        };
        let (held, around) = join(holding, around).await;
        let (steady, changing) = around?;
        let held = held.into_iter().collect::<Result<Vec<_>, _>>()?;
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed().saturating_sub(changing));
        let replies = |asked: Vec<Asked>| asked.into_iter().map(|a| mesh.reply(from, a, mark)).collect();
        let (held, steady) = (replies(held), replies(steady));
        Ok(Load { held, steady, held_body: sample(HELD_BODY), steady_body: sample(STEADY_BODY) })
    }
}

/// The connection from outside the mesh to the server that holds responses back.
struct Door<'a> {
    mesh: &'a Mesh,
    origin: &'a str,
    key: &'a str,
    /// Cancelled when one of the held requests has ended.
    lost: &'a CancellationToken,
}

impl Door<'_> {
    async fn ask(&self, path: String) -> Result<(), Stop> {
        let url = format!("{}{path}", self.origin);
        let from = Origin::Probe(Probe::External);
        let asked = self.mesh.ask(&from, RequestSpec::get(url.as_str(), "")).await?;
        self.mesh.state().ledger.unrecorded.push(asked.token.clone());
        match asked.exchange.last_response() {
            Some(response) if response.status == 200 => Ok(()),
            Some(_) | None => Err(Stop::Suite(format!(
                "{url} was not answered with 200 by the server that holds responses back: {:?}",
                asked.exchange
            ))),
        }
    }
}

/// The requests around the change while others are held, and the time that the change took. Those that are held end at
/// `release_at` at the latest.
async fn around(
    door: &Door<'_>,
    from: &Origin,
    steady: &RequestSpec,
    release_at: Instant,
    change: impl Future<Output = Result<(), Stop>>,
) -> Result<(Vec<Asked>, Duration), Stop> {
    let mesh = door.mesh;
    let first = join_all((0..STEADY).map(|_| mesh.ask(from, steady.clone()))).await;
    let mut asked = first.into_iter().collect::<Result<Vec<_>, _>>()?;
    tokio::select! {
        arrived = door.ask(holding::held(door.key, HELD)) => arrived?,
        // A held request ended early; its own exchange shows the reason.
        () = door.lost.cancelled() => {}
    }
    let over = AtomicBool::new(false);
    let changing = async {
        let begun = Instant::now();
        let mut change = pin!(change);
        let result = match timeout_at(release_at.into(), &mut change).await {
            Ok(result) => result,
            Err(_) => match door.ask(holding::release(door.key)).await {
                Ok(()) => change.await,
                Err(stop) => Err(stop),
            },
        };
        over.store(true, Ordering::SeqCst);
        result.map(|()| begun.elapsed())
    };
    let asking = join_all((0..STEADY).map(|_| ask_until(mesh, from, steady, &over)));
    let (changed, more) = join(changing, asking).await;
    let changing = changed?;
    for some in more {
        asked.extend(some?);
    }
    Ok((asked, changing))
}

/// Sends requests at a steady rate until the change is over, and one more after it.
async fn ask_until(
    mesh: &Mesh,
    from: &Origin,
    request: &RequestSpec,
    over: &AtomicBool,
) -> Result<Vec<Asked>, Stop> {
    let mut asked = Vec::new();
    // A rate, not a wait: the condition to wait for is the change.
    let mut clock = interval(RATE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = over.load(Ordering::SeqCst);
        asked.push(mesh.ask(from, request.clone()).await?);
        if last {
            return Ok(asked);
        }
        if asked.len() == MANY {
            clock = interval(SLOW_RATE);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        clock.tick().await;
    }
}

/// A request that was sent, and its exchange.
pub(super) struct Asked {
    token: String,
    exchange: Exchange,
    ended_us: u64,
}

impl Mesh {
    pub(super) async fn ask(&self, from: &Origin, mut request: RequestSpec) -> Result<Asked, Stop> {
        let token = self.tokens.next();
        request.token.clone_from(&token);
        let exchange = match from {
            Origin::Workload(name) => self.instance.send(name, &request).await,
            Origin::Probe(probe) => self.instance.probe(probe, &request).await,
        }?;
        self.asked(&request, exchange, self.setting.seat.store.now_us())
    }

    /// Sends requests over one connection, where the target can.
    pub(super) async fn ask_in_line(
        &self,
        from: &Origin,
        mut requests: Vec<RequestSpec>,
    ) -> Result<Vec<Asked>, Stop> {
        for request in &mut requests {
            request.token = self.tokens.next();
        }
        let exchanges = match from {
            Origin::Workload(name) => self.instance.send_in_line(name, &requests).await,
            Origin::Probe(probe) => self.instance.probe_in_line(probe, &requests).await,
        }?;
        let (now, now_us) = (Instant::now(), self.setting.seat.store.now_us());
        let asked = requests.iter().zip(exchanges).map(|(request, EndedExchange { exchange, ended })| {
            let ended_us = now_us.saturating_sub(micros(now.saturating_duration_since(ended)));
            self.asked(request, exchange, ended_us)
        });
        asked.collect()
    }

    fn asked(&self, request: &RequestSpec, exchange: Exchange, ended_us: u64) -> Result<Asked, Stop> {
        // A later hop follows the implementation's redirect; a failure there is a finding about the implementation.
        if let Some(HopResult::Error(ExchangeError { kind: ExchangeErrorKind::ClientFailed, message })) =
            exchange.hops.first().map(|hop| &hop.result)
        {
            return Err(Stop::Suite(format!(
                "The suite could not send the request {} {}: {message}.",
                request.method, request.url
            )));
        }
        Ok(Asked { token: request.token.clone(), exchange, ended_us })
    }

    pub(super) async fn settled(&self) -> Result<(), Stop> {
        Ok(self.settle().await?)
    }

    /// Records the exchange of a request.
    pub(super) fn reply(&self, from: &Origin, asked: Asked, mark: usize) -> Reply {
        let client = match from {
            Origin::Workload(name) => format!("workload {name}"),
            Origin::Probe(Probe::External) => "a client outside the mesh".to_owned(),
            Origin::Probe(Probe::Gateway { gateway, port }) => {
                format!("a client of port {port} of gateway {gateway}")
            }
            Origin::Probe(Probe::Workload { workload }) => {
                format!("a client of workload {workload} without a mesh identity")
            }
        };
        let Asked { token, exchange, ended_us } = asked;
        let id = self.keep(from, &token, exchange.clone(), ended_us);
        Reply { id, token, exchange, client, mark }
    }

    /// Records the exchange of a request that no claim is made about, and returns its token.
    pub(super) fn record(&self, from: &Origin, asked: Asked) -> String {
        let Asked { token, exchange, ended_us } = asked;
        self.keep(from, &token, exchange, ended_us);
        token
    }

    fn keep(&self, from: &Origin, token: &str, exchange: Exchange, ended_us: u64) -> EvidenceId {
        let side = match from {
            Origin::Workload(name) => Side::Workload { name: (*name).to_owned() },
            Origin::Probe(probe) => {
                self.state().ledger.probes.insert(token.to_owned(), probe.clone());
                Side::Suite
            }
        };
        self.setting.seat.store.record_at(ended_us, side, Some(token.to_owned()), Fact::Exchange(exchange))
    }
}
