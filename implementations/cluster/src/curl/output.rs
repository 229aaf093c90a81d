//! What curl said, read as an exchange. It comes from a pod of the cluster: whatever it is, reading it ends and does not fail.

use std::time::Duration;

use meshproof_harness::certificates::describe;
use meshproof_harness::digest::sha256;
use meshproof_harness::store::{MAX_TEXT, bounded};
use meshproof_harness::workload::{MAX_BODY_KEPT, MAX_HOPS, RequestSpec};
use meshproof_model::{
    Exchange, ExchangeError, ExchangeErrorKind, Header, Hop, HopResult, PeerCertificate, Response, TlsFacts,
    TlsFailure,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;

use super::MARK;
use crate::api::ExecOutput;

/// How many header fields of a response are kept.
const MAX_HEADERS: usize = 200;

/// The exchange that curl tells of. `url` is the one that it was given; hops that it redirects to are named as they were asked for.
#[must_use]
pub fn exchange(request: &RequestSpec, url: &str, output: &ExecOutput, took: Duration) -> Exchange {
    let (trace, certificates) = split(&output.stderr);
    let mut sent = read_trace(trace);
    sent.truncate(MAX_HOPS);
    let code = output.code.unwrap_or(-1);
    let mut hops = Vec::new();
    let mut at = url.to_owned();
    let count = sent.len();
    for (index, raw) in sent.into_iter().enumerate() {
        let last = index + 1 == count;
        let is_tls = at.starts_with("https:");
        let tls = is_tls.then(|| facts(&at, &raw, last.then_some(certificates)));
        let response = raw.response(if last { &output.stdout } else { &[] }, output.truncated);
        let next = response.as_ref().and_then(|r| redirect(&at, r));
        let result = match response {
            Some(response) => HopResult::Response(response),
            None => HopResult::Error(failure(code, &output.stderr)),
        };
        let clear = if is_tls { String::new() } else { String::from_utf8_lossy(&raw.head_sent).into_owned() };
        hops.push(Hop {
            method: request.method.to_string(),
            url: at.clone(),
            sent: bounded(&clear, MAX_TEXT),
            sent_bytes: (raw.head_sent.len() + raw.data_sent) as u64,
            tls,
            result,
        });
        if let Some(next) = next {
            at = next;
        }
    }
    let answered = hops.last().is_some_and(|h| h.response().is_some());
    if code != 0 && answered && !follows(request, hops.last()) {
        // The head came, and the body did not come to its end.
        if let Some(hop) = hops.last_mut() {
            hop.result = HopResult::Error(failure(code, &output.stderr));
        }
    } else if hops.is_empty() || (code != 0 && answered) {
        // It did not come to send anything there.
        let error = failure(code, &output.stderr);
        let tls = (error.kind == ExchangeErrorKind::Tls).then(|| TlsFacts {
            server_name: host(&at),
            failure: Some(error.message.clone()),
            failure_kind: Some(tls_failure(&error.message)),
            ..TlsFacts::default()
        });
        hops.push(Hop {
            method: request.method.to_string(),
            url: at,
            sent: String::new(),
            sent_bytes: 0,
            tls,
            result: HopResult::Error(error),
        });
    }
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Exchange { url: url.to_owned(), hops, duration_us }
}

fn follows(request: &RequestSpec, hop: Option<&Hop>) -> bool {
    let response = hop.and_then(Hop::response);
    request.follow_redirects && response.is_some_and(|r| is_redirect(r.status))
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn redirect(at: &str, response: &Response) -> Option<String> {
    let target = response.header("location").filter(|_| is_redirect(response.status))?;
    Some(Url::parse(at).ok()?.join(target).ok()?.to_string())
}

fn host(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// curl's exit codes (its manual, "EXIT CODES"), as the sorts of failure that every client tells apart.
fn failure(code: i32, stderr: &[u8]) -> ExchangeError {
    let text = String::from_utf8_lossy(stderr);
    let words = text.lines().rev().find(|line| line.starts_with("curl: ")).unwrap_or("curl said nothing");
    let kind = match code {
        // Whoever is cut off while HTTP/2 begins is told of a failed frame; the socket's own words say what happened.
        16 | 92
            if ["Send failure", "Recv failure", "Broken pipe", "reset by peer"]
                .iter()
                .any(|w| words.contains(w)) =>
        {
            ExchangeErrorKind::ConnectionClosed
        }
        7 => ExchangeErrorKind::ConnectionRefused,
        18 | 52 | 55 | 56 => ExchangeErrorKind::ConnectionClosed,
        35 | 51 | 53 | 54 | 58 | 59 | 60 | 64 | 66 | 77 | 80 | 82 | 83 | 90 | 91 | 98 => {
            ExchangeErrorKind::Tls
        }
        28 => ExchangeErrorKind::Timeout,
        1 | 8 | 16 | 47 | 61 | 63 | 92 | 95 | 100 => ExchangeErrorKind::Protocol,
        _ => ExchangeErrorKind::ClientFailed,
    };
    ExchangeError { kind, message: bounded(&format!("{words} (exit code {code})"), 1000) }
}

/// How TLS failed, by what OpenSSL says through curl: `error:0A000418:SSL routines::tlsv1 alert unknown ca`. Which alert curl itself
/// sent, it does not say.
fn tls_failure(message: &str) -> TlsFailure {
    if let Some((_, alert)) = message.split_once(" alert ") {
        let end = alert.find([':', '(', ',']).unwrap_or(alert.len());
        return TlsFailure::AlertReceived { alert: bounded(&alert[..end].trim().replace(' ', "_"), 40) };
    }
    let vanished =
        ["reset by peer", "SSL_ERROR_SYSCALL", "unexpected eof"].iter().any(|w| message.contains(w));
    if vanished { TlsFailure::PeerVanished } else { TlsFailure::Other }
}

/// The trace, and what follows the mark.
fn split(stderr: &[u8]) -> (&[u8], &[u8]) {
    let mark = MARK.as_bytes();
    match stderr.windows(mark.len()).rposition(|w| w == mark) {
        Some(at) => (&stderr[..at], &stderr[at..]),
        None => (stderr, &[]),
    }
}

/// A request that left curl, with what came back.
#[derive(Debug, Default)]
struct Raw {
    head_sent: Vec<u8>,
    data_sent: usize,
    heads_received: Vec<u8>,
    data_received: usize,
    tls: Session,
}

/// What curl tells of its TLS connection.
#[derive(Clone, Debug, Default)]
struct Session {
    offered: Option<Vec<String>>,
    accepted: Option<String>,
    version: Option<String>,
    cipher: Option<String>,
}

#[derive(Clone, Copy)]
enum Block {
    Nothing,
    SentHead,
    SentData,
    ReceivedHead,
    ReceivedData,
}

fn read_trace(trace: &[u8]) -> Vec<Raw> {
    let mut all: Vec<Raw> = Vec::new();
    let mut session = Session::default();
    let mut block = Block::Nothing;
    for line in trace.split(|b| *b == b'\n') {
        if let Some(info) = line.strip_prefix(b"== Info: ") {
            session.learn(&String::from_utf8_lossy(info));
            block = Block::Nothing;
        } else if line.starts_with(b"=> ") || line.starts_with(b"<= ") {
            block = if line.starts_with(b"=> Send header") {
                all.push(Raw { tls: session.clone(), ..Raw::default() });
                Block::SentHead
            } else if line.starts_with(b"=> Send data") {
                Block::SentData
            } else if line.starts_with(b"<= Recv header") {
                Block::ReceivedHead
            } else if line.starts_with(b"<= Recv data") {
                Block::ReceivedData
            } else {
                Block::Nothing
            };
        } else if let (Some(bytes), Some(raw)) = (hexadecimal(line), all.last_mut()) {
            match block {
                Block::Nothing => {}
                Block::SentHead => raw.head_sent.extend(bytes),
                Block::SentData => raw.data_sent += bytes.len(),
                Block::ReceivedHead => raw.heads_received.extend(bytes),
                Block::ReceivedData => raw.data_received += bytes.len(),
            }
        }
    }
    all
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

impl Session {
    fn learn(&mut self, info: &str) {
        // A new connection has a session of its own.
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

fn facts(url: &str, raw: &Raw, certificates: Option<&[u8]>) -> TlsFacts {
    let session = raw.tls.clone();
    TlsFacts {
        server_name: host(url),
        alpn_offered: session.offered,
        alpn: session.accepted,
        version: session.version,
        cipher: session.cipher,
        peer_certificate: certificates.and_then(first_certificate),
        ..TlsFacts::default()
    }
}

fn first_certificate(text: &[u8]) -> Option<PeerCertificate> {
    let der = CertificateDer::pem_slice_iter(text).next()?.ok()?;
    describe(&der)
}

impl Raw {
    /// The final response, if its head came whole.
    fn response(&self, body: &[u8], truncated: bool) -> Option<Response> {
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
