//! Somebody who sends requests.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::Method;
use meshproof_reports::{Exchange, Fact, Side};
use tokio::time::{MissedTickBehavior, interval};

use super::{Mesh, Origin, Stop, micros};
use crate::claim::{Load, Reply};
use crate::digest::sample;
use crate::workload::{Delivery, Hold, HttpChoice, RequestSpec};

/// How many requests are in flight during a change.
const HELD: usize = 4;
/// How large the body is that each of them sends and gets back.
const HELD_BODY: usize = 4096;
/// How many clients ask one request after another around a change.
const STEADY: usize = 3;
/// The rate of each of these.
const RATE: Duration = Duration::from_millis(5);
/// After how many requests of each the rate falls, so that a change of many seconds does not flood the evidence.
const MANY: usize = 200;
/// The rate from then on.
const SLOW_RATE: Duration = Duration::from_millis(250);

/// Somebody who sends requests. Redirects are followed, as with the documents' `curl -L`.
#[must_use]
pub struct Client<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) from: Origin,
    pub(super) request: RequestSpec,
}

impl Client<'_> {
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
    pub async fn get(mut self, url: &str) -> Result<Reply, Stop> {
        url.clone_into(&mut self.request.url);
        let (mesh, from) = (self.mesh, self.from);
        let mark = mesh.mark();
        let begun = Instant::now();
        let asked = mesh.ask(&from, self.request).await?;
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed());
        Ok(mesh.told(&from, asked, mark))
    }

    /// Makes a change while requests go on. Some are in flight when it begins and end after it is in force: they POST to
    /// `held`, which must send back what it gets as it gets it (`/echo-stream` of the embedded service). Others ask
    /// `steady`, one after another, from before the change until after it.
    ///
    /// # Errors
    /// The change's, or as for [`Client::get`].
    pub async fn under_load(
        self,
        steady: &str,
        held: &str,
        change: impl Future<Output = Result<(), Stop>>,
    ) -> Result<Load, Stop> {
        let Self { mesh, from, request } = self;
        let body = sample(HELD_BODY);
        let holds: Vec<Hold> = (0..HELD).map(|_| Hold::default()).collect();
        let holding = holds.iter().map(|hold| {
            let delivery = Delivery::Held(hold.clone());
            let (method, url) = (Method::POST, held.to_owned());
            mesh.ask(&from, RequestSpec { method, url, body: body.clone(), delivery, ..request.clone() })
        });
        let steady = RequestSpec { url: steady.to_owned(), ..request.clone() };
        let mark = mesh.mark();
        let begun = Instant::now();
        let around = async {
            let result = around(mesh, &from, &steady, &holds, change).await;
            holds.iter().for_each(Hold::release);
            result
        };
        let (held, (steady, changing)) = match join(join_all(holding), pin!(around)).await {
            (held, Ok(around)) => (held.into_iter().collect::<Result<Vec<_>, _>>()?, around),
            (_, Err(stop)) => return Err(stop),
        };
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed().saturating_sub(changing));
        let told = |asked: Vec<Asked>| asked.into_iter().map(|a| mesh.told(&from, a, mark)).collect();
        Ok(Load { held: told(held), steady: told(steady), body })
    }
}

/// What goes on beside the requests that are held; also says how long the change took.
async fn around(
    mesh: &Mesh,
    from: &Origin,
    steady: &RequestSpec,
    holds: &[Hold],
    change: impl Future<Output = Result<(), Stop>>,
) -> Result<(Vec<Asked>, Duration), Stop> {
    let first = join_all((0..STEADY).map(|_| mesh.ask(from, steady.clone()))).await;
    let mut asked = first.into_iter().collect::<Result<Vec<_>, _>>()?;
    join_all(holds.iter().map(Hold::in_flight)).await;
    let over = AtomicBool::new(false);
    let changing = async {
        let begun = Instant::now();
        let result = change.await;
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
}

impl Mesh {
    async fn ask(&self, from: &Origin, mut request: RequestSpec) -> Result<Asked, Stop> {
        let token = self.tokens.next();
        request.token.clone_from(&token);
        let exchange = match from {
            Origin::Workload(name) => self.instance.send(name, &request).await,
            Origin::Probe(probe) => self.instance.probe(probe, &request).await,
        }?;
        Ok(Asked { token, exchange })
    }

    async fn settled(&self) -> Result<(), Stop> {
        Ok(self.within("evidence-settled", "deliver its access logs", self.instance.settle()).await?)
    }

    /// Records what came of a request.
    fn told(&self, from: &Origin, asked: Asked, mark: usize) -> Reply {
        let Asked { token, exchange } = asked;
        let (side, place) = match from {
            Origin::Workload(name) => {
                (Side::Workload { name: (*name).to_owned() }, format!("at workload {name}"))
            }
            Origin::Probe(_) => (Side::Suite, "at the suite's own client".to_owned()),
        };
        let fact = Fact::Exchange(exchange.clone());
        let id = self.setting.seat.store.record(side, Some(token.clone()), fact);
        Reply { id, token, exchange, place, mark }
    }
}
