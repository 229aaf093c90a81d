//! Serves downstream connections. Each request is routed by the configuration in force when it arrives.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;

use super::context::RequestContext;
use super::forward::forward;
use super::headers;
use super::local_reply::{HttpAnswer, local_reply};
use super::redirect;
use crate::access_log::LogRecord;
use crate::config::{ActiveConfig, ActiveListener};
use crate::connections::DownstreamConnection;
use crate::io::{Sieved, Stream};
use crate::log_entry::RequestLine;
use crate::request_body::RequestProgress;
use crate::response_body::ResponseEnd;
use crate::routes::{CompiledAction, CompiledRoutes, RoutedRequest, without_port};
use crate::shared::PlaneShared;
use crate::sniff::FirstBytes;

/// The largest head of a request, in bytes; Envoy's default `max_request_headers_kb` is 60.
const MAX_HEAD: usize = 60 * 1024;
/// The most headers; Envoy's default `max_headers_count`.
const MAX_HEADERS: usize = 100;
/// How long a request's head may take, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The most concurrent streams of one HTTP/2 connection. Istio keeps Envoy's limit; this one is sufficient
/// here.
const MAX_STREAMS: u32 = 256;

/// Serves one connection until it ends or is drained. `secure`: the proxy terminated TLS on it.
pub(crate) async fn serve(
    shared: Arc<PlaneShared>,
    connection: Arc<DownstreamConnection>,
    first: FirstBytes,
    secure: bool,
    stream: impl Stream,
) {
    connection.set_http();
    let drain = connection.drain.clone();
    let proxy = Arc::clone(&connection.proxy);
    let mut builder = auto::Builder::new(shared.tasks.clone());
    let service = service_fn(move |request| {
        let (shared, connection, first) = (Arc::clone(&shared), Arc::clone(&connection), first.clone());
        handle(shared, connection, first, secure, request)
    });
    let mut http1 = builder.http1();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .half_close(false);
    proxy.hooks.http1_server(&mut http1);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS);
    let stream = Sieved::new(stream, proxy.hooks.arriving());
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        // An error needs no report: the log lines of the connection's requests show how they ended.
        _ = serving.as_mut() => return,
        () = drain.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}

async fn handle(
    shared: Arc<PlaneShared>,
    connection: Arc<DownstreamConnection>,
    first: FirstBytes,
    secure: bool,
    mut request: Request<Incoming>,
) -> HttpAnswer {
    let config = shared.config.load_full();
    let authority = headers::authority(&request);
    let mut end = begin(&connection, &first, &request, authority.as_deref());
    let bodiless = request.method() == Method::HEAD;
    let answer = |status, details, text: String, mut end: ResponseEnd| {
        end.record.entry.details = Some(details);
        local_reply(status, text, bodiless, end)
    };
    if let Some(reply) = connection.proxy.hooks.arrived(&mut request) {
        end.record.entry.details = reply.details.map(Into::into);
        return Ok(local_reply(reply.status, String::new(), bodiless, end));
    }
    // What Envoy's codec refuses: `source/common/http/conn_manager_impl.cc`, `decodeHeaders`.
    if request.version() < Version::HTTP_11 {
        return Ok(answer(StatusCode::UPGRADE_REQUIRED, "low_version".into(), String::new(), end));
    }
    let Some(authority) = authority else {
        return Ok(answer(StatusCode::BAD_REQUEST, "missing_host_header".into(), String::new(), end));
    };
    let not_found = |mut end: ResponseEnd| {
        end.record.entry.flag = Some("NR");
        answer(StatusCode::NOT_FOUND, "route_not_found".into(), String::new(), end)
    };
    let routing = routing(&config, &connection, &first, secure, &routed(&request, &authority, secure));
    let Some((listener, routes)) = routing else {
        let mut response = not_found(end);
        // This connection has no place in the configuration any more.
        if request.version() == Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        return Ok(response);
    };
    let context = RequestContext { shared, config, listener, connection, secure };
    headers::add_proxy_headers(&mut request, &context);
    end.record.entry.take_headers(request.headers());
    if routes.requires_tls(&authority) && headers::forwarded_protocol(request.headers()) != Some("https") {
        // Envoy's redirect for a virtual host with `require_tls`, without the port.
        let location =
            format!("https://{}{}", without_port(&authority), headers::path_and_query(request.uri()));
        let mut response =
            answer(StatusCode::MOVED_PERMANENTLY, "direct_response".into(), String::new(), end);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        return Ok(response);
    }
    let Some(route) = routes.find(&routed(&request, &authority, secure)) else {
        return Ok(not_found(end));
    };
    end.record.entry.route = Some(route.name.clone());
    match &route.action {
        CompiledAction::DirectResponse { status, body } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Ok(answer(status, "direct_response".into(), body.clone(), end))
        }
        CompiledAction::Redirect(rule) => {
            let location = redirect::location(rule, route, &request, &authority, context.secure);
            let mut response = answer(redirect::status(rule), "direct_response".into(), String::new(), end);
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        CompiledAction::Forward(forwarding) => {
            forward(&context, route, forwarding, request, authority, end).await
        }
    }
}

/// Counts a request as in flight and begins its log entry.
fn begin(
    connection: &Arc<DownstreamConnection>,
    first: &FirstBytes,
    request: &Request<Incoming>,
    authority: Option<&str>,
) -> ResponseEnd {
    let in_flight = connection.begin();
    let mut record = LogRecord::new(Arc::clone(&connection.proxy));
    let progress = Arc::new(RequestProgress::default());
    let entry = &mut record.entry;
    entry.received = Arc::clone(&progress.bytes);
    entry.downstream_local = Some(connection.local);
    entry.downstream_remote = Some(connection.peer);
    entry.server_name.clone_from(&first.server_name);
    entry.request = Some(RequestLine {
        method: request.method().to_string().into(),
        path: headers::path_and_query(request.uri()).into(),
        protocol: protocol(request.version()),
    });
    entry.authority = Some(authority.unwrap_or_default().to_owned());
    entry.take_headers(request.headers());
    ResponseEnd { record, in_flight, lease: None, progress }
}

/// The routes in which a request is looked up: those in force, or during a change the previous ones if only
/// they take it.
fn routing(
    config: &ActiveConfig,
    connection: &DownstreamConnection,
    first: &FirstBytes,
    secure: bool,
    request: &RoutedRequest<'_>,
) -> Option<(Arc<ActiveListener>, Arc<CompiledRoutes>)> {
    let now = config.routes(connection, first, secure);
    let Some(previous) = config.previous() else { return now };
    if now.as_ref().is_some_and(|(_, routes)| routes.find(request).is_some()) {
        return now;
    }
    let before = previous.routes(connection, first, secure);
    before.filter(|(_, routes)| routes.find(request).is_some()).or(now)
}

fn routed<'a>(request: &'a Request<Incoming>, authority: &'a str, secure: bool) -> RoutedRequest<'a> {
    let told = request.uri().scheme_str().or_else(|| headers::forwarded_protocol(request.headers()));
    RoutedRequest {
        authority,
        scheme: told.unwrap_or(if secure { "https" } else { "http" }),
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }
}

fn protocol(version: Version) -> &'static str {
    if version == Version::HTTP_2 {
        "HTTP/2"
    } else if version == Version::HTTP_10 {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    }
}
