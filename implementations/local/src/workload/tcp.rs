//! A conversation over TCP, as a database's client holds one.

use std::sync::Arc;
use std::time::Duration;

use meshproof_harness::conversation::{Conversation, Turn};
use meshproof_harness::digest::Sum;
use meshproof_harness::load::slowdown;
use meshproof_harness::store::{MAX_TEXT, bounded};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{ExchangeError, ExchangeErrorKind, Hop, HopResult, Response, TCP, TlsFacts};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::Url;

use super::failure::sorted;
use super::{Traced, WorkloadClient, unsent};
use crate::tap::{Tap, Watch};
use crate::tls;

/// How much of what was heard is shown.
const MAX_SHOWN: usize = 256;

/// How long the server may say nothing when it has to speak, on an idle machine. Nothing takes so long but a proxy that waits for
/// something.
const SILENCE: Duration = Duration::from_secs(3);

/// All that one side said.
#[derive(Clone, Default)]
pub(crate) struct Spoken {
    pub(crate) bytes: u64,
    sum: Sum,
    first: Vec<u8>,
}

impl Spoken {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sum.update(bytes);
        let room = MAX_SHOWN - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Its beginning, and its digest if there was anything.
    pub(crate) fn finish(self) -> (String, Option<String>) {
        let shown = bounded(&String::from_utf8_lossy(&self.first), MAX_TEXT);
        (shown, (self.bytes > 0).then(|| self.sum.finish()))
    }
}

/// Where a client connects, and how.
struct Way {
    address: std::net::SocketAddr,
    tls: Option<(ServerName<'static>, Arc<rustls::ClientConfig>)>,
    traced: Traced,
}

/// The outcome of a conversation.
#[derive(Default)]
struct Held {
    said: Spoken,
    heard: Spoken,
    tls: Option<TlsFacts>,
}

impl WorkloadClient {
    pub(super) async fn converse(
        &self,
        request: &RequestSpec,
        conversation: Conversation,
        deadline: Instant,
    ) -> Hop {
        let way = match self.way(request) {
            Ok(way) => way,
            Err(reason) => return unsent(request, reason),
        };
        let turns = conversation.turns(&request.token);
        let mut held = Held::default();
        let ended = match tokio::time::timeout_at(deadline, hold(way, &turns, &mut held)).await {
            Ok(ended) => ended,
            Err(_) => Err(ExchangeError {
                kind: ExchangeErrorKind::Timeout,
                message: format!("conversation: not over within {:?}", self.limit),
            }),
        };
        let Held { said, heard, tls } = held;
        let (sent_bytes, heard_bytes) = (said.bytes, heard.bytes);
        let (said, said_sha256) = said.finish();
        let (body, body_sha256) = heard.finish();
        let response = |()| Response {
            version: TCP.to_owned(),
            status: 0,
            headers: Vec::new(),
            body_bytes: heard_bytes,
            body_truncated: heard_bytes > body.len() as u64,
            body,
            body_sha256,
            trailers: Vec::new(),
            informational: Vec::new(),
            messages: Vec::new(),
        };
        Hop {
            method: TCP.to_owned(),
            url: request.url.clone(),
            // Inside TLS nothing of it leaves in clear text.
            sent: if tls.is_none() { said } else { String::new() },
            sent_bytes,
            headers: Vec::new(),
            body_bytes: Some(sent_bytes),
            body_sha256: said_sha256,
            trailers: Vec::new(),
            messages: Vec::new(),
            tls,
            result: ended.map_or_else(HopResult::Error, |()| HopResult::Response(response(()))),
        }
    }

    fn way(&self, request: &RequestSpec) -> Result<Way, String> {
        let url = Url::parse(&request.url).map_err(|e| format!("not a URL: {e}"))?;
        let host = url.host_str().ok_or("a URL without a host")?.to_ascii_lowercase();
        let port = url.port().ok_or("a URL without a port")?;
        let route = self.route.find(&host, port);
        let address = route.ok_or_else(|| format!("no route to {host} port {port}"))?;
        let tls = match url.scheme() {
            "tcp" => None,
            "tls" => {
                let name = request.server_name.clone().unwrap_or(host);
                let name = ServerName::try_from(name.clone())
                    .map_err(|e| format!("{name:?} is no server name: {e}"))?;
                let mut config = rustls::ClientConfig::clone(self.tls_config(request)?.as_ref());
                config.alpn_protocols.clear();
                Some((name, Arc::new(config)))
            }
            other => return Err(format!("no conversation over {other:?} URLs")),
        };
        let traced = Traced { trace: self.trace.clone(), by: self.name.clone() };
        Ok(Way { address, tls, traced })
    }
}

/// Keeps the ClientHello.
#[derive(Clone, Default)]
struct Hello(Arc<std::sync::Mutex<Vec<u8>>>);

impl Watch for Hello {
    fn sent(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = MAX_TEXT.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

async fn hold(way: Way, turns: &[Turn], held: &mut Held) -> Result<(), ExchangeError> {
    let stream = TcpStream::connect(way.address).await.map_err(|e| sorted(&e))?;
    // As clients of databases do. If it fails, the conversation is only slower.
    let _only_slower = stream.set_nodelay(true);
    let trace = way.traced.connection(&stream);
    let stream = Tap::new(stream, trace);
    let Some((name, config)) = way.tls else { return play(stream, turns, held).await };
    let hello = Hello::default();
    let mut facts = TlsFacts::default();
    let connected = TlsConnector::from(config).connect(name, Tap::new(stream, hello.clone())).await;
    let kept = std::mem::take(&mut *hello.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    super::connection::note_hello(&mut facts, &kept);
    match connected {
        Ok(stream) => {
            tls::note_agreement(&mut facts, stream.get_ref().1);
            held.tls = Some(facts);
            play(stream, turns, held).await
        }
        Err(e) => {
            tls::note_failure(&mut facts, &e);
            held.tls = Some(facts);
            Err(sorted(&e))
        }
    }
}

/// Takes the client's part.
async fn play(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    turns: &[Turn],
    held: &mut Held,
) -> Result<(), ExchangeError> {
    for turn in turns {
        match turn {
            Turn::Client(bytes) => {
                let written = async {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                };
                written.await.map_err(|e| sorted(&e))?;
                held.said.add(bytes);
            }
            Turn::Server(bytes) => hear(&mut stream, bytes, held).await?,
            Turn::ClientEnds => stream.shutdown().await.map_err(|e| sorted(&e))?,
            Turn::ServerEnds => {
                let mut more = [0; 64];
                let read = tokio::time::timeout(SILENCE * slowdown(), stream.read(&mut more)).await;
                let read = read.map_err(|_| silent())?.map_err(|e| sorted(&e))?;
                if read > 0 {
                    return Err(unlike("the server said more than it had to say"));
                }
            }
        }
    }
    Ok(())
}

async fn hear(
    stream: &mut (impl AsyncRead + Unpin),
    expected: &[u8],
    held: &mut Held,
) -> Result<(), ExchangeError> {
    let mut buffer = vec![0; expected.len().min(64 * 1024)];
    let mut left = expected;
    while !left.is_empty() {
        let room = buffer.len().min(left.len());
        let read = tokio::time::timeout(SILENCE * slowdown(), stream.read(&mut buffer[..room])).await;
        let read = read.map_err(|_| silent())?.map_err(|e| sorted(&e))?;
        if read == 0 {
            let message = format!("the connection ended {} bytes before the server had said all", left.len());
            return Err(ExchangeError { kind: ExchangeErrorKind::ConnectionClosed, message });
        }
        held.heard.add(&buffer[..read]);
        let (now, later) = left.split_at(read);
        if now != &buffer[..read] {
            return Err(unlike("the bytes are not those that the server had to say"));
        }
        left = later;
    }
    Ok(())
}

fn silent() -> ExchangeError {
    let most = SILENCE * slowdown();
    let message = format!("the server said nothing for {most:?}, where it had to speak or to end");
    ExchangeError { kind: ExchangeErrorKind::Timeout, message }
}

fn unlike(what: &str) -> ExchangeError {
    ExchangeError { kind: ExchangeErrorKind::Protocol, message: what.to_owned() }
}
