//! HTTP/1.1 requests without content that are all written before the first answer is read (RFC 9112, section 9.3.2). hyper's client
//! does not do that, so this one writes the heads, and reads the answers with the parser that hyper uses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use httparse::Status;
use meshproof_harness::digest::sha256;
use meshproof_harness::store::bounded;
use meshproof_harness::workload::{MAX_BODY_KEPT, MAX_HEAD};
use meshproof_model::{ExchangeError, ExchangeErrorKind, Header, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connection::{Dialled, MAX_HEADERS, Wire, dial};
use super::failure::sorted;
use super::prepared::Target;
use super::spoken::{Spoken, stays_open, timed_out};
use crate::tap::Watch as _;

/// How long the content of one answer may be.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Why an answer is not whole.
const BROKEN_OFF: &str = "connection closed in the middle of an answer";

/// Whether a request can be one of several that are written at once: a client must be able to send it again (RFC 9112, section
/// 9.3.2).
pub(super) fn fits(target: &Target) -> bool {
    let safe = matches!(target.method.as_str(), "GET" | "HEAD" | "OPTIONS");
    safe && target.body.is_empty() && target.websocket.is_none() && target.grpc.is_none()
}

/// Sends requests over one connection, all at once. Those that the other end leaves unanswered when it closes the connection in
/// order stay in `targets`.
pub(super) async fn pipelined(targets: &mut VecDeque<Target>, spoken: &mut Vec<Spoken>, limit: Duration) {
    let began = Instant::now();
    let Some(first) = targets.front() else { return };
    let wires: Vec<Arc<Wire>> = targets.iter().map(|_| Arc::default()).collect();
    let opened = match timeout(limit, dial(first, &Arc::default())).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(timed_out(limit)),
    };
    let mut end = |targets: &mut VecDeque<Target>, wire: &Wire, result| {
        targets.pop_front();
        spoken.push(Spoken::now(result, wire, began));
    };
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(error) => return end(targets, &Wire::default(), Err(error)),
    };
    let mut heads = Vec::new();
    for (target, wire) in targets.iter().zip(&wires) {
        let head = head(target);
        wire.sent(&head);
        heads.extend(head);
    }
    if let Err(error) = stream.write_all(&heads).await {
        return end(targets, &wires[0], Err(sorted(&error)));
    }
    let mut arrived = BytesMut::new();
    for (place, wire) in wires.iter().enumerate() {
        let is_head = targets.front().is_some_and(|target| target.method == "HEAD");
        let result = match timeout(limit, answer(&mut stream, &mut arrived, is_head)).await {
            Ok(Ok(response)) => Ok(response),
            // The connection was closed after an answer.
            Ok(Err(None)) if place > 0 => return,
            Ok(Err(None)) => Err(error("connection closed before message completed")),
            Ok(Err(Some(error))) => Err(error),
            Err(_) => Err(timed_out(limit)),
        };
        let goes_on = result.as_ref().is_ok_and(stays_open);
        end(targets, wire, result);
        if !goes_on {
            return;
        }
    }
}

fn head(target: &Target) -> Vec<u8> {
    let path = if target.path_and_query.is_empty() { "/" } else { &target.path_and_query };
    let mut head = format!("{} {path} HTTP/1.1\r\n", target.method).into_bytes();
    for (name, value) in &target.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn error(message: &str) -> ExchangeError {
    ExchangeError { kind: ExchangeErrorKind::ConnectionClosed, message: message.to_owned() }
}

fn malformed(what: &str) -> Option<ExchangeError> {
    let message = format!("the answer is not HTTP: {what}");
    Some(ExchangeError { kind: ExchangeErrorKind::Protocol, message })
}

/// Reads more; no error: the connection was closed in order between two answers.
async fn more(stream: &mut Dialled, arrived: &mut BytesMut) -> Result<(), Option<ExchangeError>> {
    match stream.read_buf(arrived).await {
        Ok(0) if arrived.is_empty() => Err(None),
        Ok(0) => Err(Some(error(BROKEN_OFF))),
        Ok(_) => Ok(()),
        Err(e) => Err(Some(sorted(&e))),
    }
}

/// The same within an answer, where no end is in order.
fn whole<T>(read: Result<T, Option<ExchangeError>>) -> Result<T, Option<ExchangeError>> {
    read.map_err(|error_or_end| error_or_end.or_else(|| Some(error(BROKEN_OFF))))
}

/// What was read at the beginning of what has arrived, and how many bytes it takes; nothing: there is more to come.
type Read<T> = Result<Option<(usize, T)>, String>;

async fn read<T>(
    stream: &mut Dialled,
    arrived: &mut BytesMut,
    from: impl Fn(&[u8]) -> Read<T>,
) -> Result<T, Option<ExchangeError>> {
    loop {
        if let Some((length, found)) = from(arrived).map_err(|what| malformed(&what))? {
            arrived.advance(length);
            return Ok(found);
        }
        if arrived.len() > MAX_HEAD {
            return Err(malformed("the head is too long"));
        }
        more(stream, arrived).await?;
    }
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<Header> {
    let field = |f: &httparse::Header<'_>| Header {
        name: f.name.to_ascii_lowercase(),
        value: String::from_utf8_lossy(f.value).into_owned(),
    };
    fields.iter().map(field).collect()
}

/// The status, HTTP's minor version and the fields.
fn head_of_answer(bytes: &[u8]) -> Read<(u16, u8, Vec<Header>)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut fields);
    let status = head.parse(bytes).map_err(|e| e.to_string())?;
    let (Status::Complete(length), Some(code), Some(minor)) = (status, head.code, head.version) else {
        return Ok(None);
    };
    Ok(Some((length, (code, minor, owned(head.headers)))))
}

fn trailer_fields(bytes: &[u8]) -> Read<Vec<Header>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(bytes, &mut fields).map_err(|e| e.to_string())? {
        Status::Complete((length, fields)) => Ok(Some((length, owned(fields)))),
        Status::Partial => Ok(None),
    }
}

fn chunk_size(bytes: &[u8]) -> Read<u64> {
    match httparse::parse_chunk_size(bytes).map_err(|_| "a chunk's length".to_owned())? {
        Status::Complete(found) => Ok(Some(found)),
        Status::Partial => Ok(None),
    }
}

/// The end of a chunk's content.
fn chunk_end(bytes: &[u8]) -> Read<()> {
    match bytes {
        [b'\r', b'\n', ..] => Ok(Some((2, ()))),
        [] | [b'\r'] => Ok(None),
        _ => Err("a chunk that is longer than it says".to_owned()),
    }
}

async fn take(
    stream: &mut Dialled,
    arrived: &mut BytesMut,
    length: usize,
    body: &mut BytesMut,
) -> Result<(), Option<ExchangeError>> {
    if length > MAX_BODY - body.len().min(MAX_BODY) {
        return Err(malformed("the content is too long"));
    }
    while arrived.len() < length {
        whole(more(stream, arrived).await)?;
    }
    body.extend_from_slice(&arrived[..length]);
    arrived.advance(length);
    Ok(())
}

/// One answer (RFC 9112, section 6.3), with the interim ones before it.
async fn answer(
    stream: &mut Dialled,
    arrived: &mut BytesMut,
    is_head: bool,
) -> Result<Response, Option<ExchangeError>> {
    let mut informational = Vec::new();
    let (status, minor, headers) = loop {
        let (status, minor, headers) = match read(stream, arrived, head_of_answer).await {
            Err(None) if !informational.is_empty() => return Err(Some(error(BROKEN_OFF))),
            other => other?,
        };
        if !(100..200).contains(&status) || status == 101 {
            break (status, minor, headers);
        }
        informational.push(status);
    };
    let header = |name: &str| headers.iter().find(|h| h.name == name).map(|h| h.value.as_str());
    let (mut body, mut trailers) = (BytesMut::new(), Vec::new());
    let chunked = header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
    if is_head || matches!(status, 101 | 204 | 304) {
    } else if chunked {
        loop {
            let size = whole(read(stream, arrived, chunk_size).await)?;
            if size == 0 {
                trailers = whole(read(stream, arrived, trailer_fields).await)?;
                break;
            }
            // What does not fit is too long.
            take(stream, arrived, usize::try_from(size).unwrap_or(usize::MAX), &mut body).await?;
            whole(read(stream, arrived, chunk_end).await)?;
        }
    } else if let Some(length) = length {
        take(stream, arrived, length, &mut body).await?;
    } else {
        loop {
            match more(stream, arrived).await {
                Ok(()) if arrived.len() <= MAX_BODY => {}
                Ok(()) => return Err(malformed("the content is too long")),
                // The end of the connection is the end of the content.
                Err(None) | Err(Some(ExchangeError { kind: ExchangeErrorKind::ConnectionClosed, .. })) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        body = arrived.split();
    }
    let text = String::from_utf8_lossy(&body);
    let kept = bounded(&text, MAX_BODY_KEPT);
    Ok(Response {
        version: format!("HTTP/1.{minor}"),
        status,
        body_bytes: body.len() as u64,
        body_truncated: kept.len() < text.len(),
        body_sha256: (!body.is_empty()).then(|| sha256(&body)),
        body: kept,
        headers,
        trailers,
        informational,
        messages: Vec::new(),
    })
}
