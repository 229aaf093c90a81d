//! The points at which the data plane can be changed from outside. The honest reference runs with
//! [`NoHooks`]: every method has a default that does nothing, allocates nothing and returns what the data
//! plane would do anyway.
//!
//! [`PlaneHooks`] sees whole configurations of one data plane; [`ProxyHooks`] sees the traffic of one proxy,
//! in the order in which a request passes: listener, request, upstream connection, response, access log.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, StatusCode, response};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::server::conn::auto::Http1Builder;
use meshproof_harness::external::ExternalSpec;
use meshproof_local::data_plane::{Boot, LogSink, MeshCertificate, Update};
use meshproof_local::tls::provider;
use meshproof_model::CredentialStatus;
use meshproof_model::Resource;
use meshproof_plan::model::{Cluster, Credential, Direction, Plan, Role, UpstreamTls};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpSocket;

use crate::failure::{FailedAttempt, UpstreamFailure};
use crate::io::{Counts, Sieve, Stream};
use crate::log_entry::LogEntry;
use crate::pool::{UpstreamDestination, UpstreamResponse};
use crate::request_body::{OutgoingRequest, RequestBody};
use crate::tasks::PlaneTasks;
use crate::tls::inputs::TlsInputs;
use crate::tls::verify::UpstreamVerifier;

/// Changes what one data plane does with its configurations.
pub(crate) trait PlaneHooks: Send + Sync {
    /// The resources, before the plan is made of them.
    fn resources(&self, _resources: &mut Vec<Resource>) {}

    /// An external service, before it is deployed.
    fn external_service(&self, _spec: &mut ExternalSpec) {}

    /// A configuration, before it is compiled. It starts as what the update holds.
    fn configuration(&self, _wanted: &mut WantedConfig, _update: &Update<'_>, _boot: &Boot) {}

    /// The hooks of a proxy. Called once per proxy, when a plan names it for the first time.
    fn proxy(&self, _proxy: &ProxyFacts<'_>) -> Arc<dyn ProxyHooks> {
        Arc::new(NoHooks)
    }

    /// A compiled configuration that is about to take force. `rotating` names the proxies for which a
    /// credential is replaced while the plan stays the same. The change waits for the returned future.
    fn before_change(&self, _rotating: &[&str]) -> Option<BoxFuture<'_, ()>> {
        None
    }
}

/// A configuration to carry out.
pub(crate) struct WantedConfig {
    pub(crate) plan: Plan,
    /// By proxy.
    pub(crate) credentials: BTreeMap<String, Vec<Credential>>,
}

/// What is known about a proxy when its hooks are made.
pub(crate) struct ProxyFacts<'a> {
    /// What it is in the mesh.
    pub(crate) role: Role,
    /// Its certificate in the mesh, if it has one.
    pub(crate) identity: Option<&'a MeshCertificate>,
    /// PEM: what it trusts outside the mesh.
    pub(crate) system_roots: &'a str,
}

/// A boxed future; only hooks that do something allocate one.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Changes what one proxy does with its traffic.
pub(crate) trait ProxyHooks: Send + Sync {
    // Configuration

    /// The certificates and keys of a cluster, before they are parsed.
    fn tls_inputs(&self, _tls: &UpstreamTls, _inputs: &mut TlsInputs) {}

    /// The reported state of a credential.
    fn credential_status(&self, _status: &mut CredentialStatus) {}

    /// Whether connections that have a place in the new configuration survive a change.
    fn keeps_connections_on_change(&self) -> bool {
        true
    }

    /// A configuration took force. `clusters` are those of the proxy, none if it was removed; `tasks` runs
    /// background work until the data plane stops.
    fn in_force(&self, _clusters: &mut dyn Iterator<Item = &Cluster>, _tasks: &PlaneTasks) {}

    // Listener

    /// Whether a listener with mesh mutual TLS requires a client certificate.
    fn client_authentication(&self, _direction: Direction) -> ClientAuthentication {
        ClientAuthentication::Required
    }

    /// Verifies the client certificates of a listener with mesh mutual TLS.
    fn client_verifier(
        &self,
        _direction: Direction,
        honest: Arc<dyn ClientCertVerifier>,
    ) -> Arc<dyn ClientCertVerifier> {
        honest
    }

    /// The TLS parameters of a listener with mesh mutual TLS.
    fn server_tls(&self, _direction: Direction, _config: &mut ServerConfig) {}

    /// Parameters with which to terminate TLS that should be passed through.
    fn terminate_passthrough(&self) -> Option<Arc<ServerConfig>> {
        None
    }

    /// What is lost of the bytes that arrive on a downstream connection of HTTP.
    fn arriving(&self) -> Option<Sieve> {
        None
    }

    /// The HTTP/1.1 settings of a downstream connection.
    fn http1_server(&self, _settings: &mut Http1Builder<'_, PlaneTasks>) {}

    // Request

    /// A request as it arrived, before it is routed. A returned reply ends it.
    fn arrived(&self, _request: &mut Request<Incoming>) -> Option<LocalReply> {
        None
    }

    /// The head of a request after every change that its route asks for, before its upstream is chosen.
    fn request_head(&self, _head: &mut OutgoingHead<'_>) {}

    /// The body of a request; `headers` are those that go with it.
    fn request_body(&self, _headers: &mut HeaderMap, body: RequestBody) -> RequestBody {
        body
    }

    /// The destination that was chosen for a request.
    fn destination(&self, _request: &RequestFacts<'_>, _destination: &mut UpstreamDestination) {}

    /// Replaces the step that sends a request.
    fn sending(&self) -> Option<&dyn SendHook> {
        None
    }

    // Upstream connection

    /// Whether an idle connection may be used for a request.
    fn reuses_connections(&self) -> bool {
        true
    }

    /// How many further connections are opened, and kept idle, whenever a request needs a new one.
    fn spare_connections(&self) -> usize {
        0
    }

    /// A TCP socket before it connects; it may be bound.
    fn upstream_socket(&self, _socket: &TcpSocket, _to: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    /// The HTTP/1.1 settings of an upstream connection.
    fn http1_client(&self, _settings: &mut http1::Builder) {}

    /// The cryptography for a cluster's TLS connections: cipher suites and key exchange.
    fn client_crypto(&self) -> Arc<CryptoProvider> {
        provider()
    }

    /// The TLS parameters of one connection. Server name, ALPN, client certificate and verifier are set.
    fn client_tls(&self, _connection: &TlsConnectionFacts<'_>, _config: &mut ClientConfig) {}

    /// Verifies the server's certificate of one connection.
    fn verifier(
        &self,
        _connection: &TlsConnectionFacts<'_>,
        honest: Arc<UpstreamVerifier>,
    ) -> Arc<dyn ServerCertVerifier> {
        honest
    }

    /// Replaces the step that passes on the bytes of a connection that is not HTTP.
    fn passing(&self) -> Option<&dyn PassHook> {
        None
    }

    // Response

    /// How the client learns that its request got no response from the upstream.
    fn refusal(&self, failure: &UpstreamFailure) -> UpstreamRefusal {
        UpstreamRefusal::Status(failure.status())
    }

    /// The head of a response after every change that its route asks for.
    fn response_head(&self, _head: &mut response::Parts) {}

    /// Filters the body of a response.
    fn response_body(&self, _head: &response::Parts) -> Option<Box<dyn BodyFilter>> {
        None
    }

    /// A response whose client is gone. Dropping it resets its stream.
    fn abandoned(&self, _body: Incoming) {}

    /// Ends a connection that changed its protocol when the returned future does; `counts` are the bytes that passed.
    fn upgraded(&self, _counts: Arc<Counts>) -> Option<BoxFuture<'static, ()>> {
        None
    }

    // Access log

    /// What a line is going to say.
    fn log_entry(&self, _entry: &mut LogEntry) {}

    /// Writes a line.
    fn log_line(&self, proxy: &str, line: String, logs: &Arc<dyn LogSink>) {
        logs.line(proxy, &line);
    }
}

/// Changes nothing.
pub(crate) struct NoHooks;

impl PlaneHooks for NoHooks {}
impl ProxyHooks for NoHooks {}

/// Which clients a listener with mesh mutual TLS accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuthentication {
    /// Those with a certificate of the mesh's CA.
    Required,
    /// Those too that present no certificate.
    Optional,
    /// Every client; no certificate is requested.
    None,
}

/// An answer of the proxy's own, with an empty body.
pub(crate) struct LocalReply {
    pub(crate) status: StatusCode,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: Option<&'static str>,
}

/// The head of a request on its way upstream.
pub(crate) struct OutgoingHead<'a> {
    pub(crate) method: &'a mut Method,
    pub(crate) headers: &'a mut HeaderMap,
    /// Path and query.
    pub(crate) target: &'a mut String,
    /// The port that the client dialled.
    pub(crate) listener_port: u16,
}

/// What is known about a request when its destination is chosen.
#[derive(Clone, Copy)]
pub(crate) struct RequestFacts<'a> {
    /// The Host as the client sent it.
    pub(crate) asked: &'a str,
    /// The Host after any rewrite.
    pub(crate) authority: &'a str,
    pub(crate) cluster: &'a Cluster,
    /// Whether the request may be sent more than once: idempotent, and without a body.
    pub(crate) replayable: bool,
}

/// What is known about a TLS connection before its handshake.
pub(crate) struct TlsConnectionFacts<'a> {
    pub(crate) tls: &'a UpstreamTls,
    /// The server's address, if the connection is still open.
    pub(crate) server: Option<SocketAddr>,
    /// How many TLS connections this version of the cluster opened before; a changed cluster starts at zero.
    pub(crate) earlier: u64,
}

/// The outcome of sending a request.
pub(crate) type SendResult = Result<UpstreamResponse, FailedAttempt>;

/// Replaces the step that sends a request.
#[async_trait]
pub(crate) trait SendHook: Send + Sync {
    /// Sends a request; `upstream` is the honest way to do so.
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult;
}

/// Replaces the step that passes on the bytes of a connection that is not HTTP.
#[async_trait]
pub(crate) trait PassHook: Send + Sync {
    /// Passes bytes on, both ways, until the connection has ended.
    async fn pass(&self, down: &mut dyn Stream, up: &mut dyn Stream);
}

/// The ways to an upstream that a [`SendHook`] has.
#[async_trait]
pub(crate) trait UpstreamAccess: Send + Sync {
    fn facts(&self) -> RequestFacts<'_>;

    /// Sends a request where it belongs.
    async fn send(&self, request: OutgoingRequest) -> SendResult;

    /// Sends a request to another cluster, on a connection of its own.
    async fn send_to(&self, cluster: Cluster, authority: &str, request: OutgoingRequest) -> SendResult;

    /// The address of a host's port.
    fn endpoint(&self, host: &str, port: u16) -> Option<SocketAddr>;
}

/// How a request that failed upstream ends.
pub(crate) enum UpstreamRefusal {
    /// With this status.
    Status(StatusCode),
    /// The connection is closed without an answer.
    Close,
}

/// Sees each frame of a body.
pub(crate) trait BodyFilter: Send + Sync {
    fn frame(&mut self, frame: Frame<Bytes>, position: &BodyPosition) -> Filtered;

    /// Whether something that it held is still to come.
    fn holds(&self) -> bool {
        false
    }

    /// The body has ended. What is returned is passed on before the end.
    fn end(&mut self) -> Option<Frame<Bytes>> {
        None
    }

    /// Whether a body that breaks off ends regularly for the client.
    fn hides_breaks(&self) -> bool {
        false
    }
}

/// Where in a body a frame stands.
pub(crate) struct BodyPosition {
    /// Bytes up to and including this frame.
    pub(crate) sent: u64,
    /// Whether the body's length was announced.
    pub(crate) length_known: bool,
    /// Whether nothing follows.
    pub(crate) last: bool,
}

/// What happens to a frame.
pub(crate) enum Filtered {
    /// It is passed on.
    Pass(Frame<Bytes>),
    /// It is kept or dropped, and the body goes on.
    Held,
    /// It is dropped, and the body ends regularly.
    End,
    /// It is passed on, and the body ends with it although more follows.
    Last(Frame<Bytes>),
    /// It is dropped, and the response is aborted.
    Abort,
}
