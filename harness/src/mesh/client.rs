//! Somebody who sends requests.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use meshproof_model::{Exchange, ExchangeError, ExchangeErrorKind, Fact, HopResult, Side};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Mesh, Origin, Stop, micros};
use crate::claim::{Load, Reply};
use crate::digest::sample;
use crate::holding::{self, HELD_BODY};
use crate::target::Probe;
use crate::timeouts::Timeout;
use crate::workload::{Delivery, HttpChoice, Method, RequestSpec};

/// How many requests are in flight during a change.
const HELD: usize = 4;
/// How many clients ask one request after another around a change.
const STEADY: usize = 3;
/// The length of what they ask for, in bytes.
const STEADY_BODY: usize = 1000;
/// The rate of each of these.
const RATE: Duration = Duration::from_millis(5);
/// After how many requests of each the rate falls, so that a change of many seconds does not flood the evidence.
const MANY: usize = 200;
/// The rate from then on.
const SLOW_RATE: Duration = Duration::from_millis(250);

/// Somebody who sends requests. Redirects are followed, as with the documents' `curl -L`.
#[derive(Clone)]
#[must_use]
pub struct Client<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) from: Origin,
    pub(super) request: RequestSpec,
}

impl Client<'_> {
    /// With a client certificate to show.
    pub fn identity(mut self, issued: &crate::certificates::Issued) -> Self {
        self.request.identity = Some(issued.into());
        self
    }

    /// With another header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another Host than the URL's.
    pub fn host(mut self, host: &str) -> Self {
        self.request.host_header = Some(host.to_owned());
        self
    }

    /// With another method than GET.
    pub fn method(mut self, method: Method) -> Self {
        self.request.method = method;
        self
    }

    /// With a body, and how it is sent.
    pub fn body(mut self, body: &Bytes, delivery: Delivery) -> Self {
        self.request.body = body.clone();
        self.request.delivery = delivery;
        self
    }

    /// Over HTTP/2: with prior knowledge in plain text.
    pub fn http2(mut self) -> Self {
        self.request.http = HttpChoice::Http2;
        self
    }

    /// As a WebSocket handshake, with this message after it.
    pub fn web_socket(mut self, message: &str) -> Self {
        self.request.websocket = Some(message.to_owned());
        self
    }

    /// So many times, one after the other, over one connection.
    pub fn times(mut self, times: usize) -> Self {
        self.request.times = times;
        self
    }

    /// Sends the request: GET, unless another method was set.
    ///
    /// # Errors
    /// The request could not be sent at all, or its evidence could not be collected.
    pub async fn get(&self, url: &str) -> Result<Reply, Stop> {
        let [reply] = self.get_each([url]).await?;
        Ok(reply)
    }

    /// Sends one request to each URL, all side by side, and collects their evidence once. A claim about the time of one of
    /// them (`during`) sees what any of them caused, so that requests which such a claim must tell apart are sent on their own.
    /// So are requests to one server of which it is claimed next that nothing reached it: a proxy may open a connection for each
    /// of several, serve them over the first that is ready, and the others turn up late.
    ///
    /// # Errors
    /// As for [`Client::get`]; every request has come to its end.
    pub async fn get_each<const N: usize>(&self, urls: [&str; N]) -> Result<[Reply; N], Stop> {
        let Self { mesh, from, request } = self;
        let mark = mesh.mark();
        let begun = Instant::now();
        let asking = urls.map(|url| mesh.ask(from, RequestSpec { url: url.to_owned(), ..request.clone() }));
        let asked = join_all(asking).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed());
        let told: Vec<Reply> = asked.into_iter().map(|a| mesh.told(from, a, mark)).collect();
        told.try_into().map_err(|_| Stop::Suite("a request has no reply".to_owned()))
    }

    /// Makes a change while requests to `origin` (`http://api.example.com`) go on. Some are in flight when it is made: they
    /// have arrived at the server, which withholds half of its answer until the change is in force. Others ask for
    /// a page of its own, one after another, from before the change until after it. The server must be the embedded one.
    ///
    /// # Errors
    /// The change's, or as for [`Client::get`].
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
        let around = async {
            let result = around(&door, from, &steady, change).await;
            // Also after a failure: nobody is left waiting.
            door.ask(holding::release(&key)).await?;
            result
        };
        let (held, around) = join(holding, around).await;
        let (steady, changing) = around?;
        let held = held.into_iter().collect::<Result<Vec<_>, _>>()?;
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed().saturating_sub(changing));
        let told = |asked: Vec<Asked>| asked.into_iter().map(|a| mesh.told(from, a, mark)).collect();
        let (held, steady) = (told(held), told(steady));
        Ok(Load { held, steady, held_body: sample(HELD_BODY), steady_body: sample(STEADY_BODY) })
    }
}

/// The way to the server that holds responses back, from outside the mesh.
struct Door<'a> {
    mesh: &'a Mesh,
    origin: &'a str,
    key: &'a str,
    /// One of them has come to its end.
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

/// What goes on beside the requests that are held; also says how long the change took.
async fn around(
    door: &Door<'_>,
    from: &Origin,
    steady: &RequestSpec,
    change: impl Future<Output = Result<(), Stop>>,
) -> Result<(Vec<Asked>, Duration), Stop> {
    let mesh = door.mesh;
    let first = join_all((0..STEADY).map(|_| mesh.ask(from, steady.clone()))).await;
    let mut asked = first.into_iter().collect::<Result<Vec<_>, _>>()?;
    tokio::select! {
        arrived = door.ask(holding::held(door.key, HELD)) => arrived?,
        // It will not arrive any more, and says so itself.
        () = door.lost.cancelled() => {}
    }
    let over = AtomicBool::new(false);
    // Those in flight must not run into their own timeout where a change takes long.
    let patience = mesh.setting.seat.timeouts.get(Timeout::Request) / 2;
    let changing = async {
        let begun = Instant::now();
        let mut change = pin!(change);
        let result = match timeout(patience, &mut change).await {
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

/// Asks at a steady rate until it is over, and once more then.
async fn ask_until(
    mesh: &Mesh,
    from: &Origin,
    request: &RequestSpec,
    over: &AtomicBool,
) -> Result<Vec<Asked>, Stop> {
    let mut asked = Vec::new();
    // A rate, not a wait: what is waited for is the change.
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

/// A request that was sent, with what came of it.
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
        // A later hop is where the implementation's redirect leads, which is a finding about it.
        if let Some(HopResult::Error(ExchangeError { kind: ExchangeErrorKind::ClientFailed, message })) =
            exchange.hops.first().map(|hop| &hop.result)
        {
            return Err(Stop::Suite(format!(
                "The suite could not send the request {} {}: {message}.",
                request.method, request.url
            )));
        }
        Ok(Asked { token, exchange, ended_us: self.setting.seat.store.now_us() })
    }

    pub(super) async fn settled(&self) -> Result<(), Stop> {
        Ok(self.settle().await?)
    }

    /// Records what came of a request.
    pub(super) fn told(&self, from: &Origin, asked: Asked, mark: usize) -> Reply {
        let Asked { token, exchange, ended_us } = asked;
        let (side, place) = match from {
            Origin::Workload(name) => {
                (Side::Workload { name: (*name).to_owned() }, format!("at workload {name}"))
            }
            Origin::Probe(probe) => {
                let to = match probe {
                    Probe::External => "the external service".to_owned(),
                    Probe::Gateway { gateway, port } => format!("port {port} of gateway {gateway}"),
                    Probe::Workload { workload } => format!("workload {workload}"),
                };
                (Side::Suite, format!("on the hop from the suite's own client to {to}"))
            }
        };
        if let Origin::Probe(probe) = from {
            self.state().ledger.probes.insert(token.clone(), probe.clone());
        }
        let fact = Fact::Exchange(exchange.clone());
        let id = self.setting.seat.store.record_at(ended_us, side, Some(token.clone()), fact);
        Reply { id, token, exchange, place, mark }
    }
}
