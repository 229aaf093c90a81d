//! curl's trace, taken apart into requests and responses. It comes from a pod of the cluster: whatever it is,
//! reading it ends and does not fail.

use meshproof_harness::client_hello::ClientHello;
use meshproof_harness::digest::sha256;
use meshproof_harness::store::{MAX_TEXT, bounded};
use meshproof_harness::workload::MAX_BODY_KEPT;
use meshproof_model::{Header, Response};

/// What separates the trace from the certificates on standard error.
pub(super) const MARK: &str = "== Meshproof";
/// How many header fields of a response are kept.
const MAX_HEADERS: usize = 200;
/// How many bytes that a TLS client sends first are kept: a ClientHello fits into one record (RFC 8446,
/// section 5.1).
const MAX_HELLO: usize = 5 + (1 << 14);

/// The trace, and what follows the mark.
pub(super) fn split(stderr: &[u8]) -> (&[u8], &[u8]) {
    let mark = MARK.as_bytes();
    match stderr.windows(mark.len()).rposition(|w| w == mark) {
        Some(at) => (&stderr[..at], &stderr[at..]),
        None => (stderr, &[]),
    }
}

/// A request that left curl, with what came back.
#[derive(Debug, Default)]
pub(super) struct TracedRequest {
    pub(super) head_sent: Vec<u8>,
    pub(super) data_sent: usize,
    heads_received: Vec<u8>,
    pub(super) tls: TracedTls,
}

/// What the trace shows of a TLS connection.
#[derive(Clone, Debug, Default)]
pub(super) struct TracedTls {
    /// The first bytes sent, which only a curl with OpenSSL or a relative of it traces.
    hello: Vec<u8>,
    pub(super) offered: Option<Vec<String>>,
    pub(super) accepted: Option<String>,
    pub(super) version: Option<String>,
    pub(super) cipher: Option<String>,
}

#[derive(Clone, Copy)]
enum TraceBlock {
    Other,
    SentTls,
    SentHead,
    SentData,
    ReceivedHead,
}

/// The requests, and the TLS of the connection that was opened last.
pub(super) fn read_trace(trace: &[u8]) -> (Vec<TracedRequest>, TracedTls) {
    let mut all: Vec<TracedRequest> = Vec::new();
    let mut session = TracedTls::default();
    let mut block = TraceBlock::Other;
    for line in trace.split(|b| *b == b'\n') {
        if let Some(info) = line.strip_prefix(b"== Info: ") {
            session.learn(&String::from_utf8_lossy(info));
            block = TraceBlock::Other;
        } else if line.starts_with(b"=> ") || line.starts_with(b"<= ") {
            block = if line.starts_with(b"=> Send header") {
                all.push(TracedRequest { tls: session.clone(), ..TracedRequest::default() });
                TraceBlock::SentHead
            } else if line.starts_with(b"=> Send SSL data") {
                TraceBlock::SentTls
            } else if line.starts_with(b"=> Send data") {
                TraceBlock::SentData
            } else if line.starts_with(b"<= Recv header") {
                TraceBlock::ReceivedHead
            } else {
                TraceBlock::Other
            };
        } else if let Some(bytes) = hexadecimal(line) {
            match (block, all.last_mut()) {
                (TraceBlock::SentTls, _) => session.sent(&bytes),
                (TraceBlock::Other, _) | (_, None) => {}
                (TraceBlock::SentHead, Some(request)) => request.head_sent.extend(bytes),
                (TraceBlock::SentData, Some(request)) => request.data_sent += bytes.len(),
                (TraceBlock::ReceivedHead, Some(request)) => request.heads_received.extend(bytes),
            }
        }
    }
    (all, session)
}

/// `0010: 0a 48 6f ... .Host: edition.c`: at most sixteen bytes, each two digits and a blank.
fn hexadecimal(line: &[u8]) -> Option<Vec<u8>> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (offset, rest) = (&line[..colon], line.get(colon + 2..)?);
    if offset.len() < 4 || !offset.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::with_capacity(16);
    for triple in rest.chunks(3).take(16) {
        let [high, low, b' '] = *triple else { break };
        let (Some(high), Some(low)) = (digit(high), digit(low)) else { break };
        bytes.push(high * 16 + low);
    }
    Some(bytes)
}

impl TracedTls {
    fn sent(&mut self, bytes: &[u8]) {
        let room = MAX_HELLO.saturating_sub(self.hello.len()).min(bytes.len());
        self.hello.extend_from_slice(&bytes[..room]);
    }

    /// Server name and ALPN of the ClientHello that was sent; none where the trace does not have it.
    pub(super) fn client_hello(&self) -> Option<ClientHello> {
        ClientHello::read(&self.hello)
    }

    fn learn(&mut self, info: &str) {
        // A new connection begins a new handshake.
        if info.trim_start().starts_with("Trying ") {
            *self = Self::default();
        }
        // `ALPN: offers h2,http/1.1` until 8.0, `ALPN: curl offers h2,http/1.1` since.
        if let Some((before, list)) = info.split_once("offers ")
            && before.starts_with("ALPN")
        {
            self.offered = Some(list.trim().split(',').take(8).map(|p| bounded(p.trim(), 40)).collect());
        }
        if let Some(protocol) = info.strip_prefix("ALPN: server accepted ") {
            self.accepted = Some(bounded(protocol.trim(), 40));
        }
        // `SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384 / X25519 / id-ecPublicKey`
        if let Some(rest) = info.strip_prefix("SSL connection using ") {
            let mut parts = rest.trim().split(" / ").map(|part| bounded(part, 80));
            self.version = parts.next();
            self.cipher = parts.next();
        }
    }
}

impl TracedRequest {
    /// The final response, if its head came whole.
    pub(super) fn response(&self, body: &[u8], truncated: bool) -> Option<Response> {
        let mut informational = Vec::new();
        let mut rest = self.heads_received.as_slice();
        while let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 4..];
            let (version, status, headers) = read_head(&head)?;
            if (100..200).contains(&status) && status != 101 {
                informational.push(status);
                continue;
            }
            let trailers = read_fields(&String::from_utf8_lossy(rest));
            let kept = &body[..body.len().min(MAX_BODY_KEPT)];
            let whole = !truncated && !body.is_empty();
            return Some(Response {
                version,
                status,
                headers,
                body: String::from_utf8_lossy(kept).into_owned(),
                body_bytes: body.len() as u64,
                body_truncated: truncated || body.len() > kept.len(),
                body_sha256: whole.then(|| sha256(body)),
                trailers,
                informational,
                messages: Vec::new(),
            });
        }
        None
    }
}

fn read_head(head: &str) -> Option<(String, u16, Vec<Header>)> {
    let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = line.split(' ');
    let version = words.next().filter(|v| v.starts_with("HTTP/") && v.len() < 10)?;
    let status = words.next()?.parse().ok()?;
    Some((version.to_owned(), status, read_fields(rest)))
}

fn read_fields(text: &str) -> Vec<Header> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let (name, value) = (bounded(name, 200), bounded(value.trim(), MAX_TEXT));
        Some(Header { name: name.to_ascii_lowercase(), value })
    };
    text.split("\r\n").filter_map(field).take(MAX_HEADERS).collect()
}
