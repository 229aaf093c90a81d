//! curl's exit codes (its manual, "EXIT CODES").

use meshproof_harness::store::bounded;
use meshproof_model::{ExchangeError, ExchangeErrorKind};

/// What curl says where the network of the cluster, and no proxy, has no way to an address (`strerror` of
/// EHOSTUNREACH and ENETUNREACH).
const UNREACHABLE: [&str; 4] =
    ["No route to host", "Host is unreachable", "Network is unreachable", "Network unreachable"];
/// What it says where the other end closed the connection under it.
const CLOSED: [&str; 4] = ["Send failure", "Recv failure", "Broken pipe", "reset by peer"];

/// What a failed curl observed. `redirected`: whether a response sent it to another URL.
///
/// # Errors
/// The failure is the suite's own or the cluster's and says nothing of the mesh, in words: the request could
/// not be sent, curl could not be run, or the code is one that the suite does not know.
pub(super) fn observed(code: Option<i32>, stderr: &[u8], redirected: bool) -> Result<ExchangeError, String> {
    let text = String::from_utf8_lossy(stderr);
    let words =
        text.lines().rev().find(|line| line.starts_with("curl: ")).unwrap_or("curl printed no message");
    let says = |wanted: &[&str]| wanted.iter().any(|w| words.contains(w));
    let Some(code) = code else {
        return Err("how curl ended was not reported".to_owned());
    };
    let message = bounded(&format!("{words} (exit code {code})"), 1000);
    let kind = match code {
        7 if is_unreachable(&text) => {
            return Err(format!(
                "the cluster's network has no route to the address of the request: {message}"
            ));
        }
        7 => ExchangeErrorKind::ConnectionRefused,
        // A connection that is closed while HTTP/2 begins is reported as a failed frame; the words of the
        // socket say what happened.
        16 | 92 if says(&CLOSED) => ExchangeErrorKind::ConnectionClosed,
        18 | 52 | 55 | 56 => ExchangeErrorKind::ConnectionClosed,
        35 | 51 | 60 | 80 | 83 | 91 | 98 => ExchangeErrorKind::Tls,
        28 => ExchangeErrorKind::Timeout,
        1 | 8 | 16 | 61 | 92 => ExchangeErrorKind::Protocol,
        // The URL of a redirect is malformed; the suite's own are not.
        3 if redirected => ExchangeErrorKind::Protocol,
        // Too many redirects.
        47 => ExchangeErrorKind::Other,
        2 | 4 | 126 | 127 => {
            return Err(format!(
                "curl could not be run: {message}; the image must have curl 7.88 or newer, and sh; see \
                 --image workload="
            ));
        }
        _ => return Err(format!("curl failed for a reason that says nothing of the mesh: {message}")),
    };
    Ok(ExchangeError { kind, message })
}

/// By what curl itself says: its lines begin so, and those of the trace's bytes do not.
fn is_unreachable(text: &str) -> bool {
    let mut own = text.lines().filter(|line| line.starts_with("== Info: ") || line.starts_with("curl: "));
    own.any(|line| UNREACHABLE.iter().any(|words| line.contains(words)))
}
