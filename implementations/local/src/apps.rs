//! The applications inside the mesh that local targets run: the plain service that is called, and the application that asks
//! an external service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use meshproof_model::{ExternalService, Fact, Side};
use serde_json::json;

use crate::external::embedded::{Answer, Content, Embedded, Incoming, Port};
use crate::external::{ExternalError, RunningService};
use crate::workload::WorkloadClient;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::topology::{Application, PlainService, service_host};
use meshproof_harness::workload::RequestSpec;

/// Starts a plain service of the mesh, which answers every request with its body. It records on the side `Service`,
/// under the service's cluster name.
///
/// # Errors
/// No port can be had.
pub async fn start_welcome(
    service: &PlainService,
    store: Store,
    timeouts: &Timeouts,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let host = service_host(&service.name, &service.namespace);
    let port = Port::plain(service.port, Arc::new(Same(Bytes::from(service.body.clone()))));
    Ok(Box::new(Embedded::start(&host, vec![port], store, timeouts).await?))
}

/// The same answer to everything.
struct Same(Bytes);

#[async_trait]
impl Content for Same {
    async fn answer(&self, _: Incoming) -> Answer {
        Answer::new(StatusCode::OK, "text/plain", self.0.clone())
    }
}

/// An application that looks something up at an external service through its own sidecar.
pub struct LookupApplication {
    service: Embedded,
    application: Application,
    plain: Arc<AtomicBool>,
}

impl LookupApplication {
    /// Starts it. `host` is its name in the mesh; `sidecar` leads to its own sidecar and is named after the workload. Until
    /// [`Self::send_plain`] it looks up over HTTPS.
    ///
    /// Its own request carries the correlation token of the request that it answers, and is recorded on the side `Workload`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(
        host: &str,
        application: Application,
        sidecar: WorkloadClient,
        store: Store,
        timeouts: &Timeouts,
    ) -> Result<Self, ExternalError> {
        let plain = Arc::new(AtomicBool::new(false));
        let content =
            Lookup { application: application.clone(), sidecar, store: store.clone(), plain: plain.clone() };
        let port = Port::plain(application.port, Arc::new(content));
        let service = Embedded::start(host, vec![port], store, timeouts).await?;
        Ok(Self { service, application, plain })
    }

    /// Whether it reads this environment variable.
    #[must_use]
    pub fn reads(&self, variable: &str) -> bool {
        self.application.plain_if.as_deref() == Some(variable)
    }

    /// Whether it sends plain HTTP to port 80, for the mesh to encrypt. In force from the next request on.
    pub fn send_plain(&self, plain: bool) {
        self.plain.store(plain, Ordering::SeqCst);
    }
}

#[async_trait]
impl RunningService for LookupApplication {
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
    application: Application,
    sidecar: WorkloadClient,
    store: Store,
    plain: Arc<AtomicBool>,
}

#[async_trait]
impl Content for Lookup {
    async fn answer(&self, incoming: Incoming) -> Answer {
        let Application { path, host, target, failure, .. } = &self.application;
        let Some(id) = incoming.path.strip_prefix(path).filter(|id| is_id(id)) else {
            return json_answer(StatusCode::NOT_FOUND, json!({ "error": "no such page" }).to_string());
        };
        if incoming.method != Method::GET {
            let refusal = json!({ "error": "only GET" }).to_string();
            return json_answer(StatusCode::METHOD_NOT_ALLOWED, refusal);
        }
        let plain = self.plain.load(Ordering::SeqCst);
        let origin = if plain { format!("http://{host}:80") } else { format!("https://{host}") };
        let token = incoming.token.clone().unwrap_or_else(|| "untagged".to_owned());
        let exchange = self.sidecar.exchange(&RequestSpec::get(format!("{origin}{target}{id}"), token)).await;
        let found = exchange.last_response().filter(|r| r.status == 200 && !r.body_truncated);
        let body = found.map_or_else(|| json!({ "error": failure }).to_string(), |r| r.body.clone());
        let side = Side::Workload { name: self.sidecar.name().to_owned() };
        self.store.record(side, incoming.token, Fact::Exchange(exchange));
        json_answer(StatusCode::OK, body)
    }
}

fn is_id(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=Application::MAX_ID).contains(&text.len()) && text.bytes().all(fits)
}

fn json_answer(status: StatusCode, body: String) -> Answer {
    Answer::new(status, "application/json", body)
}
