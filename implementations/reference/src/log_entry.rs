//! One line of the access log, in Istio's default text format: `EnvoyTextLogFormat` in Istio's
//! `pilot/pkg/model/telemetry_logging.go`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{HeaderMap, USER_AGENT};
use jiff::Timestamp;

/// What an access-log line says about one request or connection. Absent values are logged as `-`.
#[derive(Default)]
pub(crate) struct LogEntry {
    /// Only for HTTP.
    pub(crate) request: Option<RequestLine>,
    pub(crate) status: u16,
    pub(crate) flag: Option<&'static str>,
    pub(crate) details: Option<Cow<'static, str>>,
    pub(crate) failure: Option<String>,
    pub(crate) received: Arc<AtomicU64>,
    pub(crate) sent: u64,
    pub(crate) upstream_time_ms: Option<u64>,
    pub(crate) forwarded_for: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) request_id: Option<String>,
    /// After any rewrite of the Host.
    pub(crate) authority: Option<String>,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) cluster: Option<String>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) downstream_local: Option<SocketAddr>,
    pub(crate) downstream_remote: Option<SocketAddr>,
    pub(crate) server_name: Option<String>,
    pub(crate) route: Option<String>,
}

/// The request line as the client sent it, before any rewrite.
pub(crate) struct RequestLine {
    pub(crate) method: Cow<'static, str>,
    pub(crate) path: Cow<'static, str>,
    pub(crate) protocol: &'static str,
}

impl LogEntry {
    /// Takes the logged values from the request's headers, which routes may have changed since the last call.
    pub(crate) fn take_headers(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        self.user_agent = text(USER_AGENT.as_str());
        self.request_id = text("x-request-id");
        self.forwarded_for = text("x-forwarded-for");
    }

    /// Records why the request ended; the first reason counts.
    pub(crate) fn ended(&mut self, flag: &'static str, details: &'static str) {
        if self.flag.is_none() {
            self.flag = Some(flag);
            self.details = Some(details.into());
        }
    }

    /// The line, without its line end.
    pub(crate) fn line(&self, started: Timestamp, duration: Duration) -> String {
        let mut line = String::with_capacity(512);
        // Writing to a String does not fail.
        let _ = write!(line, "[{started:.3}] ");
        match &self.request {
            Some(r) => {
                let _ = write!(line, "\"{} {} {}\" ", one_line(&r.method), one_line(&r.path), r.protocol);
            }
            None => line.push_str("\"- - -\" "),
        }
        let reason = self.failure.as_deref().map(one_word);
        let _ = write!(
            line,
            "{} {} {} - \"{}\" {} {} {} ",
            self.status,
            self.flag.unwrap_or("-"),
            self.details.as_deref().map_or(Cow::Borrowed("-"), one_word),
            reason.as_deref().unwrap_or("-"),
            self.received.load(Ordering::Relaxed),
            self.sent,
            duration.as_millis(),
        );
        match self.upstream_time_ms {
            Some(ms) => {
                let _ = write!(line, "{ms} ");
            }
            None => line.push_str("- "),
        }
        for value in [
            self.forwarded_for.as_deref(),
            self.user_agent.as_deref(),
            self.request_id.as_deref(),
            self.authority.as_deref(),
            self.upstream_host.map(|a| a.to_string()).as_deref(),
        ] {
            let _ = write!(line, "\"{}\" ", value.map_or(Cow::Borrowed("-"), one_line));
        }
        let address = |a: Option<SocketAddr>| a.map_or_else(|| "-".to_owned(), |a| a.to_string());
        let _ = write!(
            line,
            "{} {} {} {} {} {}",
            self.cluster.as_deref().map_or(Cow::Borrowed("-"), one_word),
            address(self.upstream_local),
            address(self.downstream_local),
            address(self.downstream_remote),
            self.server_name.as_deref().map_or(Cow::Borrowed("-"), one_word),
            self.route.as_deref().map_or(Cow::Borrowed("-"), one_word),
        );
        line
    }
}

/// A value inside quotes. Envoy writes it as received. Control characters, which would break the line, cannot
/// occur in HTTP, but are replaced nevertheless.
fn one_line(value: &str) -> Cow<'_, str> {
    if value.chars().any(char::is_control) {
        value.chars().map(|c| if c.is_control() { '_' } else { c }).collect::<String>().into()
    } else {
        value.into()
    }
}

/// A value without quotes, which must stay one word. Envoy replaces white space likewise
/// (`StringUtil::replaceAllEmptySpace`).
fn one_word(value: &str) -> Cow<'_, str> {
    if value.is_empty() {
        return "-".into();
    }
    let breaks = |c: char| c.is_whitespace() || c.is_control() || c == '"';
    if value.chars().any(breaks) {
        value.chars().map(|c| if breaks(c) { '_' } else { c }).collect::<String>().into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> LogEntry {
        LogEntry {
            request: Some(RequestLine {
                method: "GET".into(),
                path: "/politics?q=1".into(),
                protocol: "HTTP/1.1",
            }),
            status: 200,
            user_agent: Some("meshproof/r-s.00001".to_owned()),
            request_id: Some("id".to_owned()),
            authority: Some("edition.cnn.com".to_owned()),
            upstream_host: Some("127.0.0.1:443".parse().unwrap()),
            cluster: Some("outbound|443||edition.cnn.com".to_owned()),
            route: Some("default".to_owned()),
            ..LogEntry::default()
        }
    }

    fn line(entry: &LogEntry) -> String {
        entry.line("2026-03-01T10:20:30.4567Z".parse().unwrap(), Duration::from_millis(3))
    }

    #[test]
    fn request_is_logged_in_istios_format() {
        assert_eq!(
            line(&entry()),
            "[2026-03-01T10:20:30.456Z] \"GET /politics?q=1 HTTP/1.1\" 200 - - - \"-\" 0 0 3 - \"-\" \
             \"meshproof/r-s.00001\" \"id\" \"edition.cnn.com\" \"127.0.0.1:443\" \
             outbound|443||edition.cnn.com - - - - default"
        );
    }

    #[test]
    fn hostile_values_stay_on_one_line() {
        let mut entry = entry();
        entry.failure = Some("TLS error: \"x\"\r\n[forged]".to_owned());
        entry.user_agent = Some("a\r\nb\u{85}".to_owned());
        entry.server_name = Some("a b".to_owned());
        let line = line(&entry);
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains("\"TLS_error:__x___[forged]\"") && line.contains("\"a__b_\""), "{line}");
        assert!(line.ends_with(" a_b default"), "{line}");
    }
}
