//! The idle upstream connections of one cluster. An HTTP/1.1 connection is lent to one request at a time, an
//! HTTP/2 connection to many at once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};

use crate::activity::{Activity, ClosingUpstream};
use crate::request_body::{OutgoingRequest, RequestBody};

/// The most idle HTTP/1.1 connections for one destination.
const MAX_IDLE: usize = 64;
/// The most destinations (address, server name, version) that one cluster keeps connections for.
const MAX_DESTINATIONS: usize = 256;

/// Where a request is sent. Requests with equal destinations share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamDestination {
    pub(crate) address: SocketAddr,
    /// The server name of the ClientHello.
    pub(crate) server_name: Option<String>,
    /// The name that the certificate is verified for, where that is the request's host.
    pub(crate) verified_host: Option<String>,
    pub(crate) alpn: AlpnChoice,
}

/// Which of the plan's ALPN values are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AlpnChoice {
    /// All, as the plan lists them.
    All,
    /// Those for HTTP/1.1: for an upgrade, or for a downstream HTTP/1.1 request that must stay one.
    Http1,
    /// Those for HTTP/2.
    Http2,
}

pub(crate) enum RequestSender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// The state of one upstream connection, shared by its task and its users, so that the end of its last use is
/// known.
#[derive(Clone)]
pub(crate) struct ConnectionUse {
    activity: Arc<Activity>,
    stage: Arc<Mutex<UseStage>>,
}

enum UseStage {
    InUse,
    /// The connection's task still runs, but no request can use the connection any more.
    Closing(#[expect(dead_code, reason = "counts as long as it is held")] ClosingUpstream),
    Closed,
}

impl ConnectionUse {
    pub(crate) fn new(activity: Arc<Activity>) -> Self {
        Self { activity, stage: Arc::new(Mutex::new(UseStage::InUse)) }
    }

    fn abandon(&self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stage, UseStage::InUse) {
            *stage = UseStage::Closing(self.activity.closing());
        }
    }

    fn closed(&self) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = UseStage::Closed;
    }

    /// Marks the connection as closed when dropped; the connection's task holds it.
    pub(crate) fn closes_on_drop(&self) -> ClosedOnDrop {
        ClosedOnDrop(self.clone())
    }
}

/// See [`ConnectionUse::closes_on_drop`].
pub(crate) struct ClosedOnDrop(ConnectionUse);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// A connection that no request uses, or an HTTP/2 connection that takes further requests.
pub(crate) struct PooledConnection {
    pub(crate) sender: RequestSender,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) usage: ConnectionUse,
}

impl PooledConnection {
    fn is_closed(&self) -> bool {
        match &self.sender {
            RequestSender::Http1(s) => s.is_closed(),
            RequestSender::Http2(s) => s.is_closed(),
        }
    }

    /// Whether the connection takes a request, once its last response was read completely.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            RequestSender::Http1(s) => s.ready().await.is_ok(),
            RequestSender::Http2(s) => s.ready().await.is_ok(),
        }
    }

    /// Another handle of an HTTP/2 connection.
    fn shared(&self) -> Option<Self> {
        match &self.sender {
            RequestSender::Http1(_) => None,
            RequestSender::Http2(sender) => Some(Self {
                sender: RequestSender::Http2(sender.clone()),
                local: self.local,
                usage: self.usage.clone(),
            }),
        }
    }
}

/// The idle connections of one cluster. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct ConnectionPool {
    idle: Arc<Mutex<HashMap<UpstreamDestination, Vec<PooledConnection>>>>,
}

impl ConnectionPool {
    /// A connection that can serve a request to this destination.
    pub(crate) fn take(&self, destination: &UpstreamDestination) -> Option<PooledConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(destination)?;
        list.retain(|c| !c.is_closed());
        list.last()?.shared().or_else(|| list.pop())
    }

    pub(crate) fn put(&self, destination: UpstreamDestination, connection: PooledConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_DESTINATIONS && !idle.contains_key(&destination) {
            // Hosts come from requests: a client that invents hosts must not make this map grow.
            idle.clear();
        }
        let list = idle.entry(destination).or_default();
        if list.len() < MAX_IDLE {
            list.push(connection);
        }
    }

    /// Lends a connection to one request. An HTTP/2 connection stays available to others.
    pub(crate) fn lend(
        &self,
        connection: PooledConnection,
        destination: UpstreamDestination,
        reused: bool,
    ) -> Lease {
        if !reused && let Some(shared) = connection.shared() {
            self.put(destination.clone(), shared);
        }
        Lease {
            local: connection.local,
            remote: destination.address,
            reused,
            destination,
            usage: connection.usage,
            sender: Some(connection.sender),
            home: Some(self.clone()),
        }
    }
}

/// A connection that is lent to one request.
pub(crate) struct Lease {
    sender: Option<RequestSender>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: SocketAddr,
    pub(crate) reused: bool,
    destination: UpstreamDestination,
    usage: ConnectionUse,
    home: Option<ConnectionPool>,
}

/// A response, and the connection that it comes on.
pub(crate) struct UpstreamResponse {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

/// The outcome of sending a request on a connection.
pub(crate) enum SendOutcome {
    Response(Box<Response<Incoming>>),
    /// No byte of the request was written: it may be sent on another connection.
    Unsent(Box<OutgoingRequest>),
    /// The connection broke.
    Broken(hyper::Error),
}

impl Lease {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Some(RequestSender::Http2(_)))
    }

    pub(crate) async fn send(&mut self, request: OutgoingRequest) -> SendOutcome {
        let done = match &mut self.sender {
            Some(RequestSender::Http1(sender)) => sender.try_send_request(request).await,
            Some(RequestSender::Http2(sender)) => sender.try_send_request(request).await,
            None => return SendOutcome::Unsent(Box::new(request)),
        };
        match done {
            Ok(response) => SendOutcome::Response(Box::new(response)),
            Err(mut error) => match error.take_message() {
                Some(request) => SendOutcome::Unsent(Box::new(request)),
                None => SendOutcome::Broken(error.into_error()),
            },
        }
    }

    /// The response was read to its end: the connection may serve another request.
    pub(crate) fn give_back(mut self) {
        if let (Some(RequestSender::Http1(sender)), Some(home)) = (self.sender.take(), self.home.take())
            && !sender.is_closed()
        {
            let sender = RequestSender::Http1(sender);
            let idle = PooledConnection { sender, local: self.local, usage: self.usage.clone() };
            home.put(self.destination.clone(), idle);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // HTTP/2 connections are shared; their pool keeps them.
        if let Some(RequestSender::Http1(_)) = self.sender {
            self.usage.abandon();
        }
    }
}
