//! Serves one connection of the embedded service, and records its evidence.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, SERVER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming as Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use meshproof_harness::client_hello::ClientHello;
use meshproof_harness::digest::{Sum, sha256};
use meshproof_harness::external::HttpVersions;
use meshproof_harness::ledger::ANSWERS;
use meshproof_harness::store::bounded;
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::token::token_of;
use meshproof_model::{Fact, Header, ServerAnswer, ServerRequest, TlsFacts};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use super::answer::{Answer, Incoming, SERVER_NAME};
use super::ending::{IDLE, Interjecting, Wishes};
use super::framing::{AnswerBody, BodyError, DELIVERED_WITHIN, Framing, Watched};
use super::grpc;
use super::port::{Port, Shared};
use super::record::{Clear, ClearBytes, ConnectionRecord, RequestRecord};
use super::settings::{Clients, TlsSettings};
use super::site::Site;
use super::tcp;
use super::weak_offers::weak_offers;
use super::web_socket::web_socket;
use crate::http_facts;
use crate::tap::{FirstTlsError, Tap};
use crate::tls;

/// How much of a request's head is read.
const MAX_HEAD: usize = 64 * 1024;
/// How much of a request's body is read; beyond it the answer is 413.
const MAX_BODY: u64 = 64 * 1024 * 1024;
/// How much of a request's target is kept.
const MAX_TARGET: usize = 4096;

/// The first byte of a TLS handshake record (RFC 8446, section 5.1), or of an SSLv2 one. nginx distinguishes TLS from plain HTTP
/// in the same way (`ngx_http_ssl_handshake`).
fn looks_like_tls(first: u8) -> bool {
    first == 0x16 || first & 0x80 != 0
}

/// Serves a connection to its end. Errors go into the record and not to the caller.
pub(super) async fn connection(
    stream: TcpStream,
    port: &Arc<Port>,
    record: &Arc<ConnectionRecord>,
    shared: &Arc<Shared>,
    wishes: &Arc<Wishes>,
) {
    let site = Site { port, record, shared, wishes, refusal: None, tls: None };
    // Small answers are sent at once.
    let _only_slower = stream.set_nodelay(true);
    let Some(settings) = &port.tls else {
        let watch = ClearBytes::new(record, Clear::Show);
        if let Some(protocol) = port.protocol {
            return tcp::converse(Tap::new(stream, watch), protocol, &site).await.unwrap_or_default();
        }
        return http1(Tap::new(stream, watch), site).await.unwrap_or_default();
    };
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1..)) {
        return;
    }
    if looks_like_tls(first[0]) {
        return over_tls(stream, settings, site).await;
    }
    let watch = ClearBytes::new(record, Clear::Show);
    if let Some(protocol) = port.protocol {
        return tcp::refuse(Tap::new(stream, watch), protocol).await;
    }
    let refusal = Some("The plain HTTP request was sent to HTTPS port");
    http1(Tap::new(stream, watch), Site { refusal, ..site }).await.unwrap_or_default();
}

async fn over_tls(stream: TcpStream, settings: &TlsSettings, mut site: Site<'_>) {
    let record = site.record;
    let watch = ClearBytes::new(record, Clear::Hold);
    let mut facts = TlsFacts::default();
    let hello =
        LazyConfigAcceptor::new(rustls::server::Acceptor::default(), Tap::new(stream, watch.clone())).await;
    facts.weak_offers = weak_offers(&watch.kept());
    let start = match hello {
        Ok(start) => start,
        Err(e) => {
            watch.turn(Clear::Show);
            tls::note_failure(&mut facts, &e);
            return record.set_tls(&facts);
        }
    };
    watch.turn(Clear::Ignore);
    let client_hello = ClientHello::from(&start.client_hello());
    facts.server_name = client_hello.server_name;
    facts.alpn_offered = Some(client_hello.alpn);
    record.set_tls(&facts);
    let (config, presented) = settings.for_connection();
    let stream = match start.into_stream(config).await {
        Ok(stream) => stream,
        Err(e) => {
            tls::note_failure(&mut facts, &e);
            presented.note(&mut facts);
            return record.set_tls(&facts);
        }
    };
    let connection = stream.get_ref().1;
    tls::note_agreement(&mut facts, connection);
    facts.peer_verification = settings.clients.verdict(connection);
    record.set_tls(&facts);
    if matches!(settings.clients, Clients::VerifiedAfterwards(_)) {
        site.refusal = match facts.peer_verification.as_deref() {
            Some("SUCCESS") | None => None,
            Some("NONE") => Some("No required SSL certificate was sent"),
            Some(_) => Some("The SSL certificate error"),
        };
    }
    let speaks_h2 = facts.alpn.as_deref() == Some("h2") || settings.http == HttpVersions::Http2;
    site.tls = Some(facts.clone());
    let error = FirstTlsError::default();
    let stream = Tap::new(stream, error.clone());
    let failed = match site.port.protocol {
        Some(protocol) => tcp::converse(stream, protocol, &site).await.is_err(),
        None if speaks_h2 => http2(stream, site).await.is_err(),
        None => http1(stream, site).await.is_err(),
    };
    if failed {
        // An alert that arrives after the server has finished its side of the handshake appears here.
        error.note(&mut facts);
        record.set_tls(&facts);
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    site: Site<'_>,
) -> hyper::Result<()> {
    let stream = Interjecting::new(stream, site.wishes);
    let serving = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .keep_alive(site.port.keep_alive)
        .serve_connection(TokioIo::new(stream), service_fn(|request| answer(request, &site)))
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let idle = async {
        site.wishes.closing().await;
        tokio::time::sleep(IDLE).await;
    };
    tokio::select! {
        biased;
        served = serving.as_mut() => return served,
        () = idle => {}
    }
    serving.as_mut().graceful_shutdown();
    serving.await
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin, site: Site<'_>) -> hyper::Result<()> {
    hyper::server::conn::http2::Builder::new(OnService(site.shared.clone()))
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(stream), service_fn(|request| answer(request, &site)))
        .await
}

/// Runs HTTP/2's streams as tasks of the service, which end with it.
#[derive(Clone)]
struct OnService(Arc<Shared>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for OnService {
    fn execute(&self, work: F) {
        self.0.accepting.spawn(work);
    }
}

type Answered = Result<Response<AnswerBody>, BodyError>;

/// Records a request before it awaits anything, and answers it.
fn answer(mut request: Request<Body>, site: &Site<'_>) -> impl Future<Output = Answered> + Send + use<> {
    let switches_over =
        site.refusal.is_none() && site.port.content.switches_over(request.uri().path(), request.headers());
    let upgrade = switches_over.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let http2 = head.version == Version::HTTP_2;
    let authority = match head.uri.authority() {
        Some(authority) if http2 => authority.to_string(),
        Some(_) | None => http_facts::header(&head.headers, HOST).unwrap_or_default(),
    };
    let target = match head.uri.path_and_query() {
        Some(target) if http2 => target.to_string(),
        Some(_) | None => head.uri.to_string(),
    };
    let token = http_facts::header(&head.headers, USER_AGENT)
        .and_then(|agent| token_of(&agent).map(|token| bounded(token, 200)));
    let request = ServerRequest {
        connection: site.record.number,
        port: site.record.port,
        over_tls: site.tls.is_some(),
        peer: site.record.peer.clone(),
        method: head.method.to_string(),
        target: bounded(&target, MAX_TARGET),
        authority: bounded(&authority, MAX_TARGET),
        version: http_facts::version(head.version),
        headers: http_facts::headers(&head.headers),
        // Not answered yet.
        status: 0,
        body_bytes: None,
        body_sha256: None,
        trailers: Vec::new(),
        messages: Vec::new(),
        tls: site.tls.clone(),
        answer: None,
    };
    let incoming = Incoming {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        target,
        authority,
        version: request.version.clone(),
        headers: request.headers.clone(),
        token: token.clone(),
        body_bytes: 0,
        body_sha256: String::new(),
    };
    let id = site.shared.store.record(site.shared.side.clone(), token, Fact::Request(request));
    let entry = RequestRecord { shared: Arc::clone(site.shared), id };
    let (port, refusal, wishes) = (site.port.clone(), site.refusal, Arc::clone(site.wishes));
    let answers = incoming.token.clone();
    let is_call = refusal.is_none() && grpc::is_call(&head, &incoming.headers);
    async move {
        if is_call {
            return Ok(grpc::answer(&incoming.path, body, entry).await);
        }
        if let Some(upgrade) = upgrade {
            return Ok(web_socket(head, upgrade, entry));
        }
        let is_head = incoming.method == Method::HEAD;
        let mut answer = match drain(body).await? {
            None => Answer { close: true, ..Answer::nginx_page(StatusCode::PAYLOAD_TOO_LARGE, None) },
            Some((body_bytes, body_sha256, trailers)) => {
                entry.body_ended(body_bytes, body_sha256.clone(), trailers);
                match refusal {
                    Some(problem) => Answer::nginx_page(StatusCode::BAD_REQUEST, Some(problem)),
                    None => port.content.answer(Incoming { body_bytes, body_sha256, ..incoming }).await,
                }
            }
        };
        if matches!(answer.framing, Framing::NoAnswer) {
            // hyper closes the connection (HTTP/1.1) or resets the stream (HTTP/2). Status 0: it is never answered.
            return Err("the connection is closed without an answer, as it was asked to be".into());
        }
        let delay = answer.delay;
        // HTTP/1.0 has neither interim answers (RFC 9110, section 15.2) nor an end of a body without a length.
        let hinted = head.version == Version::HTTP_11 && answer.early_hints;
        if head.version < Version::HTTP_11 && matches!(answer.framing, Framing::PiecesBreakOff) {
            answer.framing = Framing::Pieces;
        }
        answer.closes_silently &= !http2;
        let closes = answer.closes_silently;
        if let (Framing::OneByOne(one_by_one), Some(token)) = (&mut answer.framing, &answers) {
            let delivery = entry.shared.store.deliveries().watch(token);
            let within = entry.shared.timeouts.get(Timeout::Request) / DELIVERED_WITHIN;
            let record = entry.clone();
            let held_up = Box::new(move |after| {
                record.amend(|r| r.answer.iter_mut().for_each(|answer| answer.held_up_after = Some(after)));
            });
            one_by_one.watched = Some(Watched { delivery, within, held_up });
        }
        let (response, mut sent) = response(answer, is_head, http2, answers.as_deref());
        sent.waited_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        sent.informational.extend(hinted.then_some(103));
        entry.amend(|r| {
            r.status = sent.status;
            r.answer = Some(sent);
        });
        // Recorded before: a proxy that does not wait leaves nothing to record afterwards.
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if hinted {
            wishes.hint();
        }
        if closes {
            wishes.close();
        }
        Ok(response)
    }
}

/// Reads a body to its end: its length, its digest and its trailers. None if it is too long.
async fn drain(mut body: Body) -> Result<Option<(u64, String, Vec<Header>)>, hyper::Error> {
    let mut length = 0u64;
    let mut sum = Sum::default();
    let mut trailers = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                if length > MAX_BODY {
                    return Ok(None);
                }
                sum.update(&data);
            }
            Err(other) => {
                trailers.extend(other.trailers_ref().map(http_facts::headers).unwrap_or_default());
            }
        }
    }
    Ok(Some((length, sum.finish(), trailers)))
}

/// The response, and what is recorded of it. `answers` is the token of the request, which the response repeats.
fn response(
    answer: Answer,
    is_head: bool,
    http2: bool,
    answers: Option<&str>,
) -> (Response<AnswerBody>, ServerAnswer) {
    let length = answer.body.len();
    // A 204 has no length (RFC 9110, section 8.6).
    let has_length = answer.framing.has_length() && answer.status != StatusCode::NO_CONTENT;
    let mut headers = HeaderMap::new();
    answer.framing.announce(&mut headers);
    headers.insert(SERVER, SERVER_NAME);
    let own = answer.headers.into_iter().chain(answers.map(|token| (ANSWERS, token.to_owned())));
    for (name, value) in own {
        // A value that came from a request and is not valid in a header is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    let has_body = !is_head && length > 0;
    let sent = ServerAnswer {
        status: answer.status.as_u16(),
        headers: http_facts::headers(&headers),
        body_bytes: if has_body { length as u64 } else { 0 },
        body_sha256: has_body.then(|| sha256(&answer.body)),
        breaks_off: has_body && answer.framing.breaks_off(),
        trailers: if has_body { answer.framing.trailers(&answer.body) } else { Vec::new() },
        closes: answer.closes_silently,
        held_up_after: None,
        messages: Vec::new(),
        informational: Vec::new(),
        waited_ms: 0,
    };
    if has_length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    // HTTP/2 has no such header (RFC 9113, section 8.2.2).
    if answer.close && !http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let body = if is_head { Framing::Length.body(Bytes::new()) } else { answer.framing.body(answer.body) };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    (response, sent)
}
