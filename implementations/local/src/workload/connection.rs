//! One request over one connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use http::StatusCode;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshproof_harness::client_hello::ClientHello;
use meshproof_harness::delivery::Deliveries;
use meshproof_harness::digest::Sum;
use meshproof_harness::store::MAX_TEXT;
use meshproof_harness::trace::ConnectionTrace;
use meshproof_harness::workload::{MAX_BODY_KEPT, MAX_BODY_READ, MAX_HEAD};
use meshproof_model::{ExchangeError, ExchangeErrorKind, Response, TlsFacts};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::body::Interim;
use super::failure::sorted;
use super::prepared::{Answered, CLOSING, Sender, Target, Unanswered, request};
use super::segments::Segments;
use super::{grpc, websocket};
use crate::http_facts;
use crate::tap::{FirstTlsError, Tap, Watch};
use crate::tls;

/// The number of bytes that are shown of something that is no plain HTTP/1.1 request.
const MAX_OPAQUE: usize = 256;
/// The number of headers that a response may have.
pub(super) const MAX_HEADERS: usize = 256;

/// What was seen of a connection, even of one that failed.
#[derive(Default)]
pub(super) struct Observed {
    wire: Arc<Wire>,
    tls: Mutex<Option<TlsFacts>>,
    earlier: Mutex<Vec<Response>>,
}

/// What a client wrote outside TLS.
#[derive(Default)]
pub(super) struct Wire {
    first: Mutex<Vec<u8>>,
    total: AtomicU64,
}

impl Wire {
    /// What is written from now on belongs to another request.
    pub(super) fn begin(&self) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.total.store(0, Ordering::Relaxed);
    }

    /// The head of the request as text, and how much was written.
    pub(super) fn shown(&self) -> (String, u64) {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let end = head_end(&first).unwrap_or(first.len().min(MAX_OPAQUE));
        (String::from_utf8_lossy(&first[..end]).into_owned(), self.total.load(Ordering::Relaxed))
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

impl Watch for Arc<Wire> {
    fn sent(&self, bytes: &[u8]) {
        self.total.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_TEXT - first.len();
        first.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl Observed {
    /// What was sent (as text, and its length), and the client's view of TLS.
    pub(super) fn into_parts(self) -> (String, u64, Option<TlsFacts>) {
        let first = self.wire.first.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tls = self.tls.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = &mut tls {
            note_hello(facts, &first);
        }
        let shown = match (head_end(&first), &tls) {
            (Some(end), None) => &first[..end],
            (None | Some(_), None | Some(_)) => &first[..first.len().min(MAX_OPAQUE)],
        };
        (String::from_utf8_lossy(shown).into_owned(), self.wire.total.load(Ordering::Relaxed), tls)
    }

    /// The answers to all but the last of several requests over one connection.
    pub(super) fn take_earlier(&self) -> Vec<Response> {
        std::mem::take(&mut *self.earlier.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, change: impl FnOnce(&mut TlsFacts)) {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        change(tls.get_or_insert_default());
    }
}

/// Reads the server name and the ALPN offer from the ClientHello that was really sent.
pub(super) fn note_hello(facts: &mut TlsFacts, sent: &[u8]) {
    if let Some(hello) = ClientHello::read(sent) {
        facts.server_name = hello.server_name;
        facts.alpn_offered = Some(hello.alpn);
    }
}

/// A connection whose bytes are watched.
pub(super) type Dialled = Tap<Tap<Segments<TcpStream>, ConnectionTrace>, Arc<Wire>>;

pub(super) async fn dial(target: &Target, wire: &Arc<Wire>) -> Result<Dialled, ExchangeError> {
    let stream = TcpStream::connect(target.address).await.map_err(|e| sorted(&e))?;
    // As every HTTP client does. If it fails, requests are only slower.
    let _only_slower = stream.set_nodelay(true);
    let trace = target.traced.connection(&stream);
    Ok(Tap::new(Tap::new(Segments::new(stream, target.segment), trace), Arc::clone(wire)))
}

/// Connects, with TLS if asked, sends the request, and reads the answer up to its bounds.
pub(super) async fn attempt(target: Target, observed: &Observed) -> Result<Response, ExchangeError> {
    let stream = dial(&target, &observed.wire).await?;
    let Some((name, config)) = target.tls.clone() else {
        let http2 = target.is_http2();
        return speak(stream, target, http2, observed).await;
    };
    observed.note(|_| {});
    let stream = match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => stream,
        Err(e) => {
            observed.note(|facts| tls::note_failure(facts, &e));
            return Err(sorted(&e));
        }
    };
    observed.note(|facts| tls::note_agreement(facts, stream.get_ref().1));
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2") || target.is_http2();
    let error = FirstTlsError::default();
    speak(Tap::new(stream, error.clone()), target, http2, observed).await.map_err(|e| {
        // In TLS 1.3 a client learns only after its own handshake that the server refuses it.
        let mut failed = false;
        observed.note(|facts| failed = error.note(facts));
        if failed { ExchangeError { kind: ExchangeErrorKind::Tls, ..e } } else { e }
    })
}

async fn speak<S>(
    stream: S,
    target: Target,
    http2: bool,
    observed: &Observed,
) -> Result<Response, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let read_whole = |answered: &Result<Answered, ExchangeError>| answered.as_ref().is_ok_and(|a| a.whole);
    let (answered, ended) = if http2 {
        let tasks = Tasks::default();
        let (sender, connection) = http2_settings(&tasks).handshake(io).await.map_err(|e| sorted(&e))?;
        let asking = ask(Sender::Http2(sender), target, observed);
        let spoken = drive(connection, asking, read_whole).await;
        tasks.close().await;
        spoken
    } else {
        let (sender, connection) = http1_settings().handshake(io).await.map_err(|e| sorted(&e))?;
        let asking = ask(Sender::Http1(sender), target, observed);
        drive(connection.with_upgrades(), asking, read_whole).await
    };
    match (answered, ended) {
        (Ok(answered), _) => Ok(answered.response),
        // The error of the connection often says more than that of the request: it may be an alert.
        (Err(error), Some(Err(end))) if error.kind == ExchangeErrorKind::ConnectionClosed => {
            Err(sorted(&end))
        }
        (Err(error), Some(_) | None) => Err(error),
    }
}

pub(super) fn http1_settings() -> http1::Builder {
    let mut settings = http1::Builder::new();
    settings.title_case_headers(true).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    settings
}

pub(super) fn http2_settings(tasks: &Tasks) -> http2::Builder<Tasks> {
    let mut settings = http2::Builder::new(tasks.clone());
    settings.max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    settings
}

/// Sends the request as often as asked, one after the other. Returns the last answer.
async fn ask(mut sender: Sender, target: Target, observed: &Observed) -> Result<Answered, ExchangeError> {
    let http2 = matches!(sender, Sender::Http2(_));
    for _ in 1..target.times {
        let answered = ask_once(&mut sender, target.clone(), http2).await;
        let Answered { response, whole } = answered.map_err(|unanswered| unanswered.error)?;
        observed.earlier.lock().unwrap_or_else(PoisonError::into_inner).push(response);
        if !whole {
            let message = "an answer was too long to be read whole, so that none could follow".to_owned();
            return Err(ExchangeError { kind: ExchangeErrorKind::Other, message });
        }
    }
    ask_once(&mut sender, target, http2).await.map_err(|unanswered| unanswered.error)
}

pub(super) async fn ask_once(
    sender: &mut Sender,
    target: Target,
    http2: bool,
) -> Result<Answered, Unanswered> {
    if let (Some(call), true) = (target.grpc.clone(), http2) {
        return grpc::call(sender, target, call).await;
    }
    let interim = Interim::default();
    let messages = target.websocket.clone();
    let arrivals = target.arrivals.clone();
    let silence = target.pause.unwrap_or(websocket::SILENCE);
    let mut request = request(target, http2, &interim)?;
    interim.watch(&mut request);
    let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
    let sent = sender.send(request).await;
    let mut answer = sent.map_err(|e| Unanswered { unsent: e.is_canceled(), error: sorted(&e) })?;
    if let (Some(messages), Some(key), StatusCode::SWITCHING_PROTOCOLS) = (messages, key, answer.status()) {
        let upgrade = hyper::upgrade::on(&mut answer);
        let Answered { mut response, .. } =
            read(answer, &interim, arrivals.as_ref()).await.map_err(|e| sorted(&e))?;
        if response.header(SEC_WEBSOCKET_ACCEPT.as_str()) != Some(&derive_accept_key(key.as_bytes())) {
            let message = "the Sec-WebSocket-Accept does not answer the Sec-WebSocket-Key".to_owned();
            return Err(ExchangeError { kind: ExchangeErrorKind::Protocol, message }.into());
        }
        let stream = upgrade.await.map_err(|e| sorted(&e))?;
        response.messages = websocket::converse(TokioIo::new(stream), messages, silence).await?;
        return Ok(Answered { response, whole: true });
    }
    Ok(read(answer, &interim, arrivals.as_ref()).await.map_err(|e| sorted(&e))?)
}

/// Runs a connection while its requests are answered, and then lets it close in order, unless an answer was not read to its
/// end. Returns the outcome, and how the connection ended if it did before that.
pub(super) async fn drive<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    answering: impl Future<Output = T>,
    read_whole: impl FnOnce(&T) -> bool,
) -> (T, Option<hyper::Result<()>>) {
    // Fused: it is dropped when it has ended. Otherwise a sender that wants to send again would wait forever.
    let mut connection = std::pin::pin!(connection.fuse());
    let mut ended = None;
    let mut answering = std::pin::pin!(answering);
    let answered = loop {
        tokio::select! {
            biased;
            answered = &mut answering => break answered,
            end = &mut connection, if ended.is_none() => ended = Some(end),
        }
    };
    if ended.is_none() && read_whole(&answered) {
        // Sends TLS's close_notify and HTTP/2's GOAWAY. The answer counts even if that fails.
        let _closed = tokio::time::timeout(CLOSING, connection).await;
    }
    (answered, ended)
}

/// Reads an answer up to its bounds.
async fn read(
    response: http::Response<Incoming>,
    interim: &Interim,
    arrivals: Option<&(Deliveries, String)>,
) -> hyper::Result<Answered> {
    let (head, mut body) = response.into_parts();
    let mut kept = Vec::new();
    let mut length = 0u64;
    let mut whole = true;
    let mut sum = Sum::default();
    let mut trailers = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = match frame?.into_data() {
            Ok(data) => data,
            Err(other) => {
                trailers.extend(other.trailers_ref().map(http_facts::headers).unwrap_or_default());
                continue;
            }
        };
        length += data.len() as u64;
        sum.update(&data);
        if let Some((deliveries, token)) = arrivals {
            deliveries.arrived(token, length);
        }
        let room = MAX_BODY_KEPT - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if length >= MAX_BODY_READ {
            whole = false;
            break;
        }
    }
    let valid = match std::str::from_utf8(&kept) {
        Ok(_) => kept.len(),
        // A cut at the bound may be within a character.
        Err(e) if e.error_len().is_none() => e.valid_up_to(),
        // Of a body that is not text, this much is enough for a reader.
        Err(_) => kept.len().min(MAX_OPAQUE),
    };
    kept.truncate(valid);
    let response = Response {
        version: http_facts::version(head.version),
        status: head.status.as_u16(),
        headers: http_facts::headers(&head.headers),
        body: String::from_utf8_lossy(&kept).into_owned(),
        body_bytes: length,
        body_truncated: length > valid as u64,
        body_sha256: (whole && length > 0).then(|| sum.finish()),
        trailers,
        informational: interim.take(),
        messages: Vec::new(),
    };
    Ok(Answered { response, whole })
}

/// Runs the tasks of HTTP/2.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Waits for them to end, and aborts those that do not.
    pub(super) async fn close(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        let _closed = tokio::time::timeout(CLOSING, all).await;
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
    }
}
