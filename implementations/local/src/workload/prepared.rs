//! A request that is ready to be sent, and what comes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, Method, Request, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use meshproof_harness::delivery::Deliveries;
use meshproof_harness::grpc::Call;
use meshproof_harness::workload::{Delivery, HttpChoice};
use meshproof_model::{ExchangeError, ExchangeErrorKind, Response};
use rustls_pki_types::ServerName;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::Traced;
use super::body::{self, Interim, Outgoing};

/// How long the end of a connection may take after the answer has arrived. The answer counts even if the end fails.
pub(super) const CLOSING: Duration = Duration::from_millis(200);

/// A request that is ready to be sent.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<(ServerName<'static>, Arc<rustls::ClientConfig>)>,
    pub(super) method: Method,
    pub(super) authority: String,
    pub(super) path_and_query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) delivery: Delivery,
    /// The timeout `continue`.
    pub(super) continue_limit: Duration,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) websocket: Option<Vec<String>>,
    pub(super) grpc: Option<Call>,
    pub(super) segment: Option<usize>,
    pub(super) pause: Option<Duration>,
    pub(super) times: usize,
    pub(super) http: HttpChoice,
    pub(super) traced: Traced,
    /// Learns how much of the answer has arrived, by this token.
    pub(super) arrivals: Option<(Deliveries, String)>,
}

impl Target {
    pub(super) fn is_http2(&self) -> bool {
        self.http == HttpChoice::Http2
    }
}

/// Where requests of one connection are handed over.
pub(super) enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

impl Sender {
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> hyper::Result<http::Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// An answer.
pub(super) struct Answered {
    pub(super) response: Response,
    /// Whether it was read to its end.
    pub(super) whole: bool,
}

/// Why there is no answer.
pub(super) struct Unanswered {
    pub(super) error: ExchangeError,
    /// Whether nothing of the request was written, because the connection had ended before.
    pub(super) unsent: bool,
}

impl From<ExchangeError> for Unanswered {
    fn from(error: ExchangeError) -> Self {
        Self { error, unsent: false }
    }
}

/// The request as hyper sends it.
///
/// # Errors
/// It cannot be written as HTTP.
pub(super) fn request(
    target: Target,
    http2: bool,
    interim: &Interim,
) -> Result<Request<Outgoing>, ExchangeError> {
    let unsendable = |e: http::Error| ExchangeError {
        kind: ExchangeErrorKind::Other,
        message: format!("the request cannot be written: {e}"),
    };
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let Target { delivery, continue_limit, pause, .. } = target;
    let body = body::outgoing(delivery, target.body, &target.trailers, interim, continue_limit, pause);
    let mut request = Request::new(body);
    if target.http == HttpChoice::Http10 {
        *request.version_mut() = Version::HTTP_10;
    }
    *request.method_mut() = target.method;
    *request.headers_mut() = target.headers;
    if target.websocket.is_some() {
        let key = HeaderValue::from_str(&generate_key()).map_err(|e| unsendable(e.into()))?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    let path = if target.path_and_query.is_empty() { "/" } else { &target.path_and_query };
    *request.uri_mut() = if http2 {
        // The authority takes the place of Host (RFC 9113, section 8.3.1).
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
        Uri::builder()
            .scheme(scheme)
            .authority(target.authority)
            .path_and_query(path)
            .build()
            .map_err(unsendable)?
    } else {
        Uri::builder().path_and_query(path).build().map_err(unsendable)?
    };
    Ok(request)
}
