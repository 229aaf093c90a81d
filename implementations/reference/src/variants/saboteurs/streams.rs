//! Saboteurs of what takes time on a connection: bodies in pieces, several requests at once, conversations, idle connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper_util::server::conn::auto::Http1Builder;
use meshproof_plan::model::UpstreamProtocol;
use tokio::sync::Notify;

use super::accounts::CrossAnswers;
use super::plan::originates;
use crate::failure::UpstreamFailure;
use crate::hooks::{
    BodyFilter, BodyPosition, BoxFuture, Filtered, LocalReply, ProxyHooks, RequestFacts, SendHook,
    SendResult, UpstreamAccess,
};
use crate::io::{Counts, Sieve};
use crate::pool::UpstreamDestination;
use crate::request_body::{OutgoingRequest, RequestBody};
use crate::tasks::PlaneTasks;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "collect-answers",
        "Passes on an answer without announced length only when it has ended.",
        VariantBehaviour::ResponseBody(|| Box::<Collected>::default()),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "hide-breaks",
        "Ends an answer without announced length regularly if its server breaks off.",
        VariantBehaviour::ResponseBody(|| Box::new(HideBreaks)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "cross-streams",
        "Exchanges the answers of two HTTP/2 requests that are in flight together.",
        VariantBehaviour::Proxy(|_| Arc::new(CrossStreams::default())),
    ),
    Definition::new(
        "alter-request-trailers",
        "Changes the values of a request's trailer fields.",
        VariantBehaviour::Proxy(|_| Arc::new(AlterRequestTrailers)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "swallow-resets",
        "Ends a request regularly when its client has reset the stream.",
        VariantBehaviour::Proxy(|_| Arc::new(SwallowResets)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "remove-te",
        "Removes the header te from requests.",
        VariantBehaviour::RequestHead(|head| {
            head.headers.remove(header::TE);
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "shorten-deadlines",
        "Replaces the deadline of gRPC calls with one second.",
        VariantBehaviour::RequestHead(|head| {
            if let Some(timeout) = head.headers.get_mut("grpc-timeout") {
                *timeout = HeaderValue::from_static("1S");
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "hints-as-headers",
        "Adds the fields of an interim answer to the final one.",
        VariantBehaviour::Sending(&HintsAsHeaders),
    ),
    Definition::new(
        "close-quiet-web-sockets",
        "Closes a WebSocket connection on which nothing was said for 2 ms.",
        VariantBehaviour::Proxy(|_| Arc::new(CloseQuietWebSockets)),
    ),
    Definition::new(
        "server-name-of-first-site",
        "Uses the server name of the first host for every host at the same address.",
        VariantBehaviour::Proxy(|_| Arc::new(FirstSite::default())),
    )
    .also_at(&[Placement::EgressGateway, Placement::IngressGateway]),
    Definition::new(
        "end-streams-together",
        "Ends all HTTP/2 requests to a server when the server resets one of them.",
        VariantBehaviour::Proxy(|_| Arc::new(EndStreamsTogether::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "lose-pipelined-requests",
        "Loses what a client sends after a request, before it has the answer.",
        VariantBehaviour::Proxy(|_| Arc::new(LosePipelined)),
    )
    // Between a sidecar and an egress gateway runs HTTP/2.
    .also_at(&[Placement::Sidecar, Placement::IngressGateway]),
    Definition::new(
        "impatient-heads",
        "Closes a connection whose request head takes more than 4 ms.",
        VariantBehaviour::Proxy(|_| Arc::new(ImpatientHeads)),
    ),
    Definition::new(
        "answer-old-clients",
        "Answers HTTP/1.0 requests itself with an empty 200.",
        VariantBehaviour::Arrived(|request| {
            let old = request.version() == Version::HTTP_10;
            old.then_some(LocalReply { status: StatusCode::OK, details: None })
        }),
    ),
];

#[derive(Default)]
struct Collected(BytesMut);

impl BodyFilter for Collected {
    fn frame(&mut self, frame: Frame<Bytes>, position: &BodyPosition) -> Filtered {
        match frame.data_ref() {
            Some(data) if !position.length_known => self.0.extend_from_slice(data),
            Some(_) | None => return Filtered::Pass(frame),
        }
        if position.last { Filtered::Pass(Frame::data(self.0.split().freeze())) } else { Filtered::Held }
    }

    fn holds(&self) -> bool {
        !self.0.is_empty()
    }

    fn end(&mut self) -> Option<Frame<Bytes>> {
        self.holds().then(|| Frame::data(self.0.split().freeze()))
    }
}

struct HideBreaks;

impl BodyFilter for HideBreaks {
    fn frame(&mut self, frame: Frame<Bytes>, _position: &BodyPosition) -> Filtered {
        Filtered::Pass(frame)
    }

    fn hides_breaks(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct CrossStreams(CrossAnswers);

impl ProxyHooks for CrossStreams {
    fn sending(&self) -> Option<&dyn SendHook> {
        Some(self)
    }
}

#[async_trait]
impl SendHook for CrossStreams {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        if request.version() == Version::HTTP_2 {
            self.0.send(upstream, request).await
        } else {
            upstream.send(request).await
        }
    }
}

struct AlterRequestTrailers;

impl ProxyHooks for AlterRequestTrailers {
    fn request_body(&self, _headers: &mut HeaderMap, body: RequestBody) -> RequestBody {
        body.with_trailers(|trailers| {
            for value in trailers.values_mut() {
                *value = HeaderValue::from_static("altered");
            }
        })
    }
}

struct SwallowResets;

impl ProxyHooks for SwallowResets {
    fn request_body(&self, _headers: &mut HeaderMap, body: RequestBody) -> RequestBody {
        body.without_breaks()
    }

    fn abandoned(&self, mut body: Incoming) {
        // It ends with the server's answer, or with the connection.
        drop(tokio::spawn(async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} }));
    }
}

struct HintsAsHeaders;

#[async_trait]
impl SendHook for HintsAsHeaders {
    async fn send(&self, upstream: &dyn UpstreamAccess, mut request: OutgoingRequest) -> SendResult {
        let links = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&links);
        hyper::ext::on_informational(&mut request, move |interim| {
            let found = interim.headers().get_all(header::LINK).iter().cloned();
            seen.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        });
        let mut sent = upstream.send(request).await;
        if let Ok(answered) = &mut sent {
            for link in links.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                answered.response.headers_mut().append(header::LINK, link);
            }
        }
        sent
    }
}

struct CloseQuietWebSockets;

impl ProxyHooks for CloseQuietWebSockets {
    fn upgraded(&self, counts: Arc<Counts>) -> Option<BoxFuture<'static, ()>> {
        /// How long nothing may be said.
        const QUIET: Duration = Duration::from_millis(2);
        Some(Box::pin(async move {
            let mut before = counts.both();
            loop {
                tokio::time::sleep(QUIET).await;
                let now = counts.both();
                // The first message may be on its way.
                if now == before && now.1 > 0 {
                    return;
                }
                before = now;
            }
        }))
    }
}

/// Server name and verified host of a request.
type Names = (Option<String>, Option<String>);

/// By address: those of the first request.
#[derive(Default)]
struct FirstSite(Mutex<HashMap<SocketAddr, Names>>);

impl ProxyHooks for FirstSite {
    fn destination(&self, _request: &RequestFacts<'_>, destination: &mut UpstreamDestination) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = || (destination.server_name.clone(), destination.verified_host.clone());
        let (server_name, verified_host) = first.entry(destination.address).or_insert_with(own).clone();
        (destination.server_name, destination.verified_host) = (server_name, verified_host);
    }
}

struct ImpatientHeads;

impl ProxyHooks for ImpatientHeads {
    fn http1_server(&self, settings: &mut Http1Builder<'_, PlaneTasks>) {
        settings.header_read_timeout(Duration::from_millis(4));
    }
}

/// By cluster: what ends the requests that are in flight.
#[derive(Default)]
struct EndStreamsTogether(Mutex<HashMap<String, Arc<Notify>>>);

impl ProxyHooks for EndStreamsTogether {
    fn sending(&self) -> Option<&dyn SendHook> {
        Some(self)
    }
}

#[async_trait]
impl SendHook for EndStreamsTogether {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let cluster = upstream.facts().cluster;
        if cluster.protocol != UpstreamProtocol::Http2 || !originates(cluster) {
            return upstream.send(request).await;
        }
        let end = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(cluster.name.clone()).or_default())
        };
        let sent = tokio::select! {
            sent = upstream.send(request) => sent,
            () = end.notified() => return Err(UpstreamFailure::Reset(None).into()),
        };
        if matches!(&sent, Err(attempt) if matches!(attempt.failure, UpstreamFailure::Reset(_))) {
            end.notify_waiters();
        }
        sent
    }
}

struct LosePipelined;

impl ProxyHooks for LosePipelined {
    fn arriving(&self) -> Option<Sieve> {
        // The head that arrives; none once there was one with a body.
        let mut head = Some(Vec::new());
        Some(Box::new(move |read| {
            let Some(begun) = &mut head else { return read.len() };
            let before = begun.len();
            begun.extend_from_slice(read);
            let Some(end) = begun.windows(4).position(|w| w == b"\r\n\r\n") else { return read.len() };
            begun.truncate(end + 4);
            let kept = begun.len() - before;
            let whole = String::from_utf8_lossy(begun).to_ascii_lowercase();
            begun.clear();
            let bodiless = ["get /", "head /", "options /"].iter().any(|first| whole.starts_with(first));
            if bodiless && !["\ncontent-length:", "\ntransfer-encoding:"].iter().any(|n| whole.contains(n)) {
                return kept;
            }
            head = None;
            read.len()
        }))
    }
}
