//! Sends a request on a pooled or new connection.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderValue, Uri, Version, header};
use meshproof_plan::model::{Cluster, NameCheck, ServerName, UpstreamProtocol, UpstreamTls};

use super::context::RequestContext;
use crate::connect::{WireVersion, lease};
use crate::failure::{FailedAttempt, UpstreamFailure, of_hyper};
use crate::hooks::{RequestFacts, SendResult, UpstreamAccess};
use crate::pool::{AlpnChoice, SendOutcome, UpstreamDestination, UpstreamResponse};
use crate::request_body::{OutgoingRequest, copy_without_body};
use crate::routes::without_port;
use crate::tls::inputs::{TlsInputs, TlsSources};
use crate::upstream::{ActiveCluster, UpstreamAddress, endpoint};

/// How often a request is sent at most, if pooled connections turn out to be closed.
const MAX_TRIES: usize = 4;

/// What sending a request needs to know about it.
pub(super) struct Shipment {
    pub(super) cluster: Arc<ActiveCluster>,
    /// The Host as received.
    pub(super) asked: String,
    /// The Host after any rewrite, with its port if it has one.
    pub(super) authority: String,
    /// The HTTP version of the downstream request.
    pub(super) version: Version,
    pub(super) upgrade: bool,
    pub(super) replayable: bool,
}

impl Shipment {
    fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            asked: &self.asked,
            authority: &self.authority,
            cluster: &self.cluster.plan,
            replayable: self.replayable,
        }
    }
}

/// Sends a request.
pub(super) async fn send(
    context: &RequestContext,
    shipment: &Shipment,
    request: OutgoingRequest,
) -> SendResult {
    match context.hooks().sending() {
        None => ship(context, shipment, request).await,
        Some(hook) => hook.send(&HookedSender { context, shipment }, request).await,
    }
}

/// Gives a [`SendHook`](crate::hooks::SendHook) the ways to send a request.
struct HookedSender<'a> {
    context: &'a RequestContext,
    shipment: &'a Shipment,
}

#[async_trait]
impl UpstreamAccess for HookedSender<'_> {
    fn facts(&self) -> RequestFacts<'_> {
        self.shipment.facts()
    }

    async fn send(&self, request: OutgoingRequest) -> SendResult {
        ship(self.context, self.shipment, request).await
    }

    async fn send_to(&self, cluster: Cluster, authority: &str, request: OutgoingRequest) -> SendResult {
        let shared = &self.context.shared;
        let proxy = Arc::clone(&self.context.connection.proxy);
        let boot = &shared.boot;
        let sources = TlsSources {
            folder: &boot.folder.join(&proxy.name),
            identity: boot.identities.get(&proxy.name),
            mesh_roots: &boot.mesh_roots,
            system_roots: &boot.system_roots,
            credentials: &[],
        };
        let inputs = cluster.tls.as_ref().map(|tls| TlsInputs::of(tls, &sources));
        let activity = Arc::clone(&shared.connections.activity);
        let cluster = ActiveCluster::new(cluster, inputs, proxy, shared.tasks.clone(), activity);
        let shipment = Shipment {
            cluster: Arc::new(cluster),
            asked: authority.to_owned(),
            authority: authority.to_owned(),
            version: Version::HTTP_11,
            upgrade: false,
            replayable: true,
        };
        ship(self.context, &shipment, request).await
    }

    fn endpoint(&self, host: &str, port: u16) -> Option<SocketAddr> {
        endpoint(&self.context.config.endpoints, host, port)
    }
}

async fn ship(context: &RequestContext, shipment: &Shipment, mut request: OutgoingRequest) -> SendResult {
    let cluster = &shipment.cluster;
    let host = without_port(&shipment.authority);
    let address = match cluster.address(Some(host), context.listener.port) {
        UpstreamAddress::At(address) => address,
        UpstreamAddress::NoEndpoint => return Err(UpstreamFailure::NoHealthyUpstream.into()),
        UpstreamAddress::Unresolved => {
            return Err(UpstreamFailure::Connect("DNS resolution failed".to_owned()).into());
        }
    };
    let (version, alpn) = wire_version(shipment);
    let mut destination = destination(cluster, host, address, alpn);
    context.hooks().destination(&shipment.facts(), &mut destination);
    let address = destination.address;
    let at = |failure, local| FailedAttempt { failure, address: Some(address), local };
    for attempt in 1.. {
        let mut lease = lease(cluster, &destination, version).await.map_err(|failure| at(failure, None))?;
        let over_tls = cluster.plan.tls.is_some();
        let prepared = prepare(request, &shipment.authority, over_tls, lease.is_http2())
            .map_err(|failure| at(failure, lease.local))?;
        let again = shipment.replayable.then(|| copy_without_body(&prepared));
        match lease.send(prepared).await {
            SendOutcome::Response(response) => return Ok(UpstreamResponse { response: *response, lease }),
            SendOutcome::Unsent(back) if lease.reused && attempt < MAX_TRIES => {
                request = *back;
            }
            // The server may close a pooled connection at any moment; RFC 9112 section 9.3.1 allows a proxy
            // to repeat idempotent requests.
            SendOutcome::Broken(error) if lease.reused && attempt < MAX_TRIES && is_closing(&error) => {
                match again {
                    Some(again) => request = again,
                    None => return Err(at(of_hyper(&error), lease.local)),
                }
            }
            SendOutcome::Unsent(_) => return Err(at(UpstreamFailure::Reset(None), lease.local)),
            SendOutcome::Broken(error) => return Err(at(of_hyper(&error), lease.local)),
        }
    }
    Err(at(UpstreamFailure::Reset(None), None))
}

fn wire_version(shipment: &Shipment) -> (WireVersion, AlpnChoice) {
    let downstream_http2 = shipment.version == Version::HTTP_2;
    match shipment.cluster.plan.protocol {
        _ if shipment.upgrade => (WireVersion::Http1, AlpnChoice::Http1),
        UpstreamProtocol::Http1 => (WireVersion::Http1, AlpnChoice::All),
        UpstreamProtocol::Http2 => (WireVersion::Http2, AlpnChoice::All),
        UpstreamProtocol::Downstream if downstream_http2 => (WireVersion::Http2, AlpnChoice::Http2),
        UpstreamProtocol::Downstream => (WireVersion::Http1, AlpnChoice::Http1),
    }
}

fn destination(
    cluster: &ActiveCluster,
    host: &str,
    address: SocketAddr,
    alpn: AlpnChoice,
) -> UpstreamDestination {
    let tls = match &cluster.tls {
        Some(Ok(originator)) => Some(originator),
        // `lease` reports why there is none.
        Some(Err(_)) | None => None,
    };
    // An address is not a server name, RFC 6066 section 3; Envoy's router leaves it out too.
    let is_name = host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[');
    UpstreamDestination {
        address,
        server_name: tls.and_then(|t| t.server_name(is_name.then_some(host))).map(str::to_owned),
        verified_host: tls.filter(|_| depends_on_host(cluster)).map(|_| host.to_ascii_lowercase()),
        alpn,
    }
}

fn depends_on_host(cluster: &ActiveCluster) -> bool {
    match &cluster.plan.tls {
        Some(UpstreamTls::Originate(o)) => {
            matches!(o.names, NameCheck::FromHost | NameCheck::OneOfAndHost(_))
                || o.sni == ServerName::FromHost
        }
        Some(UpstreamTls::MeshMutual { .. }) | None => false,
    }
}

fn is_closing(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed()
}

/// Brings a request into the form of its connection's HTTP version.
fn prepare(
    mut request: OutgoingRequest,
    authority: &str,
    over_tls: bool,
    http2: bool,
) -> Result<OutgoingRequest, UpstreamFailure> {
    let path = request.uri().path_and_query().cloned();
    let headers = request.headers_mut();
    if http2 {
        headers.remove(header::HOST);
        let scheme = if over_tls { "https" } else { "http" };
        let mut builder = Uri::builder().scheme(scheme).authority(authority);
        if let Some(path) = path {
            builder = builder.path_and_query(path);
        }
        *request.uri_mut() = builder.build().map_err(|_| UpstreamFailure::Protocol)?;
        *request.version_mut() = Version::HTTP_2;
    } else {
        if !headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(authority).map_err(|_| UpstreamFailure::Protocol)?;
            headers.insert(header::HOST, host);
        }
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = path;
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| UpstreamFailure::Protocol)?;
        *request.version_mut() = Version::HTTP_11;
    }
    Ok(request)
}
