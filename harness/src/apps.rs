//! The applications inside the mesh that local targets run: the plain service that is called, and the details
//! service that calls out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::{Method, StatusCode};
use meshproof_model::{Exchange, ExternalService, Fact, Side};
use serde_json::{Value, json};

use crate::external::embedded::{Answer, Content, Embedded, Incoming, Port};
use crate::external::{ExternalError, RunningService};
use crate::store::{Store, bounded};
use crate::topology::{PlainService, service_host};
use crate::workload::{RequestSpec, WorkloadClient};

/// What the details application says when it could not fetch, in the words of Istio's Bookinfo (its product page
/// shows them).
pub const FETCH_ERROR: &str = "Error fetching product details!";

/// How much of a title or publisher is handed on.
const MAX_FIELD: usize = 500;
/// No ISBN is longer (ISBN-13 with its dashes).
const MAX_ISBN: usize = 17;

/// Starts a plain service of the mesh, which answers every request with its body. It records on the side `Service`,
/// under the service's cluster name.
///
/// # Errors
/// No port can be had.
pub async fn start_welcome(
    service: &PlainService,
    store: Store,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let host = service_host(service.name, service.namespace);
    let port = Port::plain(service.port, Arc::new(Same(service.body)));
    Ok(Box::new(Embedded::start(&host, vec![port], store).await?))
}

/// The same answer to everything.
struct Same(&'static str);

#[async_trait]
impl Content for Same {
    async fn answer(&self, _: Incoming) -> Answer {
        Answer::new(StatusCode::OK, "text/plain", self.0)
    }
}

/// The details application of document 002 (Bookinfo's `details` v2): `GET /details/ISBN` looks a book up at
/// `www.googleapis.com` through its own sidecar.
pub struct Details {
    service: Embedded,
    do_not_encrypt: Arc<AtomicBool>,
}

impl Details {
    /// Starts it. `host` is its name in the mesh and `port` its Service's port; `sidecar` leads to its own sidecar,
    /// and its name is the workload's in the evidence. It looks up over HTTPS until told otherwise.
    ///
    /// What it answers is 200 with a JSON object: `title` and `publisher`, or `error` with [`FETCH_ERROR`]. Its own
    /// request carries the correlation token of the one that it answers and is recorded on the side `Workload`.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(
        host: &str,
        port: u16,
        sidecar: WorkloadClient,
        store: Store,
    ) -> Result<Self, ExternalError> {
        let do_not_encrypt = Arc::new(AtomicBool::new(false));
        let content = Lookup { sidecar, store: store.clone(), do_not_encrypt: do_not_encrypt.clone() };
        let service = Embedded::start(host, vec![Port::plain(port, Arc::new(content))], store).await?;
        Ok(Self { service, do_not_encrypt })
    }

    /// The application's `DO_NOT_ENCRYPT`: whether it looks up over plain HTTP on port 80, for the mesh to encrypt.
    /// In force from the next request on.
    pub fn set_do_not_encrypt(&self, value: bool) {
        self.do_not_encrypt.store(value, Ordering::SeqCst);
    }
}

#[async_trait]
impl RunningService for Details {
    fn describe(&self) -> ExternalService {
        self.service.describe()
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.service.address(port)
    }

    async fn settle(&self) -> Result<(), ExternalError> {
        self.service.settle().await
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        self.service.stop().await
    }
}

struct Lookup {
    sidecar: WorkloadClient,
    store: Store,
    do_not_encrypt: Arc<AtomicBool>,
}

#[async_trait]
impl Content for Lookup {
    async fn answer(&self, incoming: Incoming) -> Answer {
        let Some(isbn) = incoming.path.strip_prefix("/details/").filter(|isbn| is_isbn(isbn)) else {
            return json_answer(StatusCode::NOT_FOUND, &json!({ "error": "no such page" }));
        };
        if incoming.method != Method::GET {
            return json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "only GET" }));
        }
        // Ruby's Net::HTTP, which Bookinfo's application uses, names the port in Host (document 002's log sample).
        let origin = if self.do_not_encrypt.load(Ordering::SeqCst) {
            "http://www.googleapis.com:80"
        } else {
            "https://www.googleapis.com"
        };
        let url = format!("{origin}/books/v1/volumes?q=isbn:{isbn}");
        let token = incoming.token.clone().unwrap_or_else(|| "untagged".to_owned());
        let exchange = self.sidecar.exchange(&RequestSpec::get(url, token)).await;
        let answer = book(&exchange).unwrap_or_else(|| json!({ "error": FETCH_ERROR }));
        let side = Side::Workload { name: self.sidecar.name().to_owned() };
        self.store.record(side, incoming.token, Fact::Exchange(exchange));
        json_answer(StatusCode::OK, &answer)
    }
}

fn is_isbn(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=MAX_ISBN).contains(&text.len()) && text.bytes().all(fits)
}

/// The first volume of the reply, if it is one.
fn book(exchange: &Exchange) -> Option<Value> {
    let response = exchange.last_response().filter(|response| response.status == 200)?;
    let reply: Value = serde_json::from_str(&response.body).ok()?;
    let volume = reply.get("items")?.get(0)?.get("volumeInfo")?;
    let field = |name: &str| volume.get(name).and_then(Value::as_str).map(|text| bounded(text, MAX_FIELD));
    Some(json!({ "title": field("title")?, "publisher": field("publisher") }))
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    Answer::new(status, "application/json", value.to_string())
}
