//! HTTP downstream: a connection's requests, each routed by the configuration of its moment.

mod forward;
mod headers;
mod mischief;
mod upgrade;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use meshproof_plan::model::Direction;

use crate::body::{Ending, Progress, RequestBody, ResponseBody};
use crate::io::Stream;
use crate::log::{Record, RequestFields};
use crate::plane::Shared;
use crate::registry::Connection;
use crate::routes::{Action, Asked, Route, Routes};
use crate::saboteurs::Saboteur;
use crate::sniff::Facts;
use crate::state::{Bound, Served, State};

/// The largest head of a request, in bytes; Envoy's default `max_request_headers_kb` is 60.
const MAX_HEAD: usize = 60 * 1024;
/// The most headers; Envoy's default `max_headers_count`.
const MAX_HEADERS: usize = 100;
/// Until a request's head is whole, from its first byte.
const HEAD_READ: Duration = Duration::from_secs(60);
/// Streams of one HTTP/2 connection at once; Istio leaves Envoy's bound, this one is enough here.
const MAX_STREAMS: u32 = 256;

/// One request, and where it came from.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<State>,
    pub(crate) bound: Arc<Bound>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) secure: bool,
}

impl Context {
    pub(crate) fn saboteur(&self) -> Option<Saboteur> {
        self.bound.proxy.saboteur
    }
}

/// Serves one connection until it ends or is drained. `secure`: TLS was terminated here.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    facts: Facts,
    secure: bool,
    stream: impl Stream,
) {
    connection.set_http();
    let drain = connection.drain.clone();
    let tasks = shared.tasks.clone();
    let service = service_fn(move |request| {
        let (shared, connection, facts) = (Arc::clone(&shared), Arc::clone(&connection), facts.clone());
        async move { Ok::<_, Infallible>(handle(shared, connection, facts, secure, request).await) }
    });
    let mut builder = auto::Builder::new(tasks);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS);
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        // How it ended is in the records of its requests.
        _ = serving.as_mut() => return,
        () = drain.cancelled() => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await;
}

async fn handle(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    facts: Facts,
    secure: bool,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let state = shared.state.load_full();
    let in_flight = connection.begin();
    let saboteur = shared.saboteur;
    let mut record = Record::new(Arc::clone(&shared.boot.logs), &connection.proxy, saboteur);
    let progress = Arc::new(Progress::default());
    record.fields.received = Arc::clone(&progress.bytes);
    record.fields.downstream_local = Some(connection.local);
    record.fields.downstream_remote = Some(connection.peer);
    record.fields.server_name.clone_from(&facts.server_name);
    let authority = headers::authority(&request);
    record.fields.request = Some(RequestFields {
        method: request.method().to_string(),
        path: headers::path_and_query(request.uri()),
        protocol: protocol(request.version()),
        forwarded_for: None,
        user_agent: None,
        request_id: None,
        authority: authority.clone().unwrap_or_default(),
    });
    if let Some(fields) = &mut record.fields.request {
        fields.take_headers(request.headers());
    }
    let mut ending = Ending { record, in_flight, lease: None, progress };

    let bodiless = request.method() == http::Method::HEAD;
    let answer = |status, details, text: String, mut ending: Ending| {
        ending.record.fields.details = Some(details);
        local(status, text, bodiless, ending)
    };
    if shared.outage.refuses() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "outage".into(), String::new(), ending);
    }
    // What Envoy's codec refuses: `source/common/http/conn_manager_impl.cc`, `decodeHeaders`.
    if request.version() < Version::HTTP_11 {
        return answer(StatusCode::UPGRADE_REQUIRED, "low_version".into(), String::new(), ending);
    }
    let Some(authority) = authority else {
        return answer(StatusCode::BAD_REQUEST, "missing_host_header".into(), String::new(), ending);
    };
    let not_found = |mut ending: Ending| {
        ending.record.fields.flag = Some("NR");
        answer(StatusCode::NOT_FOUND, "route_not_found".into(), String::new(), ending)
    };
    let place = place(&state, &connection, &facts, secure, &asked(&request, &authority));
    let Some((bound, routes)) = place else {
        let mut response = not_found(ending);
        // This connection has no place in the configuration any more.
        if request.version() == Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        return response;
    };
    let context = Context { shared, state, bound, connection, secure };
    headers::arrived(&mut request, &context);
    if let Some(fields) = &mut ending.record.fields.request {
        fields.take_headers(request.headers());
    }
    let Some(route) = routes.find(&asked(&request, &authority)) else {
        return not_found(ending);
    };
    ending.record.fields.route = Some(route.name.clone());
    match &route.action {
        Action::DirectResponse { status, body } => answer(
            StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "direct_response".into(),
            body.clone(),
            ending,
        ),
        Action::Redirect { .. } => {
            let location = location(&route.action, &request, &authority, context.secure);
            let status = redirect_status(&route.action);
            let mut response = answer(status, "direct_response".into(), String::new(), ending);
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Action::Forward(forwarding) => {
            forward::forward(&context, route, forwarding, request, authority, ending).await
        }
    }
}

/// The routes that a request is looked up in: those in force, or while a change is under way those of before where only
/// they take it.
fn place(
    state: &State,
    connection: &Connection,
    facts: &Facts,
    secure: bool,
    asked: &Asked<'_>,
) -> Option<(Arc<Bound>, Arc<Routes>)> {
    let now = current(state, connection, facts, secure);
    let Some(previous) = state.previous() else { return now };
    if now.as_ref().is_some_and(|(_, routes)| routes.find(asked).is_some()) {
        return now;
    }
    let before = current(&previous, connection, facts, secure);
    before.filter(|(_, routes)| routes.find(asked).is_some()).or(now)
}

/// The routes in force for a connection, if it still has a place in the configuration.
fn current(
    state: &State,
    connection: &Connection,
    facts: &Facts,
    secure: bool,
) -> Option<(Arc<Bound>, Arc<Routes>)> {
    let bound = state.listeners.get(&connection.bind)?;
    if bound.proxy.name != connection.proxy {
        return None;
    }
    let chain = bound.chain(facts)?;
    if chain.tls.is_some() != secure {
        return None;
    }
    match &chain.action {
        Served::Http(routes) => Some((Arc::clone(bound), Arc::clone(routes))),
        Served::Tcp(_) => None,
    }
}

/// Whether a connection still has a place in a configuration; one whose first bytes are not known yet has.
pub(crate) fn has_place(state: &State, connection: &Connection) -> bool {
    match connection.facts() {
        Some(facts) if connection.is_http() => {
            current(state, connection, &facts, connection.is_secure()).is_some()
        }
        // Bytes that pass through go on as they began, as long as there is a listener for them.
        Some(_) | None => {
            state.listeners.get(&connection.bind).is_some_and(|b| b.proxy.name == connection.proxy)
        }
    }
}

fn asked<'a>(request: &'a Request<Incoming>, authority: &'a str) -> Asked<'a> {
    Asked {
        authority,
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }
}

/// An answer of the proxy's own.
pub(crate) fn local(
    status: StatusCode,
    text: String,
    bodiless: bool,
    mut ending: Ending,
) -> Response<ResponseBody> {
    ending.record.fields.status = status.as_u16();
    let has_text = !text.is_empty();
    let length = text.len();
    let mut response = Response::new(ResponseBody::text(text, bodiless, ending));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_text {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if bodiless || has_text {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(header::SERVER, headers::SERVER_NAME);
    response
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

fn redirect_status(action: &Action) -> StatusCode {
    let status = match action {
        Action::Redirect { status, .. } => *status,
        Action::Forward(_) | Action::DirectResponse { .. } => 301,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY)
}

/// As Envoy builds it (`RouteEntryImplBase::newUri`): a part that is not replaced stays, a port that is implied is left
/// out, the query stays where the path does.
fn location(action: &Action, request: &Request<Incoming>, asked: &str, secure: bool) -> String {
    let (scheme, authority, path, port) = match action {
        Action::Redirect { scheme, authority, path, port, .. } => (scheme, authority, path, port),
        Action::Forward(_) | Action::DirectResponse { .. } => return String::new(),
    };
    let scheme = scheme.as_deref().unwrap_or(if secure { "https" } else { "http" });
    let host = match (authority, port) {
        (Some(authority), None) => authority.clone(),
        (authority, Some(port)) => {
            let host = crate::routes::without_port(authority.as_deref().unwrap_or(asked));
            let implied = matches!((scheme, port), ("http", 80) | ("https", 443));
            if implied { host.to_owned() } else { format!("{host}:{port}") }
        }
        (None, None) => asked.to_owned(),
    };
    let path = path.clone().unwrap_or_else(|| headers::path_and_query(request.uri()));
    format!("{scheme}://{host}{path}")
}

/// Where a request comes in from; what a proxy may believe about its sender depends on it.
fn is_gateway(context: &Context) -> bool {
    match context.bound.direction {
        Direction::Gateway => true,
        Direction::Outbound | Direction::Inbound => false,
    }
}

/// A request that is to be sent upstream.
type Outgoing = Request<RequestBody>;

fn prefix_route_rewrite(route: &Route, forwarding: &crate::routes::Forwarding, path: &str) -> Option<String> {
    forwarding.plan.path_rewrite.as_deref().map(|with| route.rewritten(path, with))
}
