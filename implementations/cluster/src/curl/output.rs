//! curl's output, read as an exchange.

use std::time::Duration;

use meshproof_harness::certificates::describe;
use meshproof_harness::store::{MAX_TEXT, bounded};
use meshproof_harness::workload::{MAX_HOPS, RequestSpec};
use meshproof_model::{
    Exchange, ExchangeErrorKind, Hop, HopResult, PeerCertificate, Response, TlsFacts, TlsFailure,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;

use super::exit_code::observed;
use super::trace::{TracedTls, read_trace, split};
use crate::api::ExecOutput;

/// The exchange that curl's output shows. `url` is the one that it was given; the hops of redirects have the
/// URLs that were requested.
///
/// # Errors
/// In words: curl failed for a reason that is no observation of the mesh, such as a request that could not be
/// sent.
pub fn exchange(
    request: &RequestSpec,
    url: &str,
    output: &ExecOutput,
    took: Duration,
) -> Result<Exchange, String> {
    let (trace, certificates) = split(&output.stderr);
    let (mut sent, last_tls) = read_trace(trace);
    sent.truncate(MAX_HOPS);
    let mut hops = Vec::new();
    let mut at = url.to_owned();
    let count = sent.len();
    for (index, raw) in sent.into_iter().enumerate() {
        let last = index + 1 == count;
        let is_tls = at.starts_with("https:");
        let tls = is_tls.then(|| facts(raw.tls.clone(), last.then_some(certificates)));
        let response = raw.response(if last { &output.stdout } else { &[] }, output.truncated);
        let next = response.as_ref().and_then(|r| redirect(&at, r));
        let result = match response {
            Some(response) => HopResult::Response(response),
            None => HopResult::Error(observed(output.code, &output.stderr, false)?),
        };
        let clear = if is_tls { String::new() } else { String::from_utf8_lossy(&raw.head_sent).into_owned() };
        hops.push(Hop {
            method: request.method.to_string(),
            url: at.clone(),
            sent: bounded(&clear, MAX_TEXT),
            sent_bytes: (raw.head_sent.len() + raw.data_sent) as u64,
            headers: Vec::new(),
            body_bytes: None,
            body_sha256: None,
            trailers: Vec::new(),
            messages: Vec::new(),
            tls,
            result,
        });
        if let Some(next) = next {
            at = next;
        }
    }
    let answered = hops.last().is_some_and(|h| h.response().is_some());
    let failed = output.code != Some(0);
    if failed && answered && !follows(request, hops.last()) {
        // The head arrived, and the body was cut.
        if let Some(hop) = hops.last_mut() {
            hop.result = HopResult::Error(observed(output.code, &output.stderr, false)?);
        }
    } else if hops.is_empty() || (failed && answered) {
        // No request was sent there.
        let error = observed(output.code, &output.stderr, answered)?;
        let tls = (error.kind == ExchangeErrorKind::Tls).then(|| TlsFacts {
            failure: Some(error.message.clone()),
            failure_kind: Some(tls_failure(&error.message)),
            ..facts(last_tls, None)
        });
        hops.push(Hop {
            method: request.method.to_string(),
            url: at,
            sent: String::new(),
            sent_bytes: 0,
            headers: Vec::new(),
            body_bytes: None,
            body_sha256: None,
            trailers: Vec::new(),
            messages: Vec::new(),
            tls,
            result: HopResult::Error(error),
        });
    }
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Ok(Exchange { url: url.to_owned(), hops, duration_us })
}

fn follows(request: &RequestSpec, hop: Option<&Hop>) -> bool {
    let response = hop.and_then(Hop::response);
    request.follow_redirects && response.is_some_and(|r| is_redirect(r.status))
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
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

fn redirect(at: &str, response: &Response) -> Option<String> {
    let target = response.header("location").filter(|_| is_redirect(response.status))?;
    Some(Url::parse(at).ok()?.join(target).ok()?.to_string())
}

/// Server name and ALPN are those of the ClientHello that was sent, as far as the trace has it.
fn facts(traced: TracedTls, certificates: Option<&[u8]>) -> TlsFacts {
    let (server_name, offered) = match traced.client_hello() {
        Some(hello) => (hello.server_name, Some(hello.alpn)),
        None => (None, None),
    };
    TlsFacts {
        server_name,
        alpn_offered: offered.or(traced.offered),
        alpn: traced.accepted,
        version: traced.version,
        cipher: traced.cipher,
        peer_certificate: certificates.and_then(first_certificate),
        ..TlsFacts::default()
    }
}

fn first_certificate(text: &[u8]) -> Option<PeerCertificate> {
    let der = CertificateDer::pem_slice_iter(text).next()?.ok()?;
    describe(&der)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
