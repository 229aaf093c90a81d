//! The access log, in Istio's default text format: `EnvoyTextLogFormat` in Istio's
//! `pilot/pkg/model/telemetry_logging.go`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::header::{HeaderMap, USER_AGENT};
use jiff::Timestamp;
use meshproof_local::data_plane::LogSink;

use crate::saboteurs::Saboteur;

/// What a request or connection came to; written as one line when it is dropped, if it was not written before.
pub(crate) struct Record {
    sink: Arc<dyn LogSink>,
    saboteur: Option<Saboteur>,
    proxy: String,
    started: Instant,
    at: Timestamp,
    written: bool,
    pub(crate) fields: Fields,
}

/// The fields that are found out on the way. Absent ones are logged as `-`.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) request: Option<RequestFields>,
    pub(crate) status: u16,
    pub(crate) flag: Option<&'static str>,
    pub(crate) details: Option<Cow<'static, str>>,
    pub(crate) failure: Option<String>,
    pub(crate) received: Arc<AtomicU64>,
    pub(crate) sent: u64,
    pub(crate) upstream_time_ms: Option<u64>,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) cluster: Option<String>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) downstream_local: Option<SocketAddr>,
    pub(crate) downstream_remote: Option<SocketAddr>,
    pub(crate) server_name: Option<String>,
    pub(crate) route: Option<String>,
}

/// What only HTTP has.
pub(crate) struct RequestFields {
    pub(crate) method: String,
    /// As the client asked for it, before any rewrite.
    pub(crate) path: String,
    pub(crate) protocol: &'static str,
    pub(crate) forwarded_for: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) request_id: Option<String>,
    /// After a rewrite.
    pub(crate) authority: String,
}

impl RequestFields {
    /// Takes what the log shows of the headers, which routes may have changed since.
    pub(crate) fn take_headers(&mut self, headers: &HeaderMap) {
        self.user_agent = text(headers, USER_AGENT.as_str());
        self.request_id = text(headers, "x-request-id");
        self.forwarded_for = text(headers, "x-forwarded-for");
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
}

impl Record {
    pub(crate) fn new(sink: Arc<dyn LogSink>, proxy: &str, saboteur: Option<Saboteur>) -> Self {
        Self {
            sink,
            saboteur,
            proxy: proxy.to_owned(),
            started: Instant::now(),
            at: Timestamp::now(),
            written: false,
            fields: Fields::default(),
        }
    }

    /// Says why it ended; the first reason counts.
    pub(crate) fn ended(&mut self, flag: &'static str, details: &'static str) {
        if self.fields.flag.is_none() {
            self.fields.flag = Some(flag);
            self.fields.details = Some(details.into());
        }
    }

    /// Writes the line, once.
    pub(crate) fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) || self.saboteur == Some(Saboteur::NoAccessLog) {
            return;
        }
        let line = self.line();
        self.sink.line(&self.proxy, &line);
        if self.saboteur == Some(Saboteur::LogTwice) {
            self.sink.line(&self.proxy, &line);
        }
    }

    fn line(&self) -> String {
        let f = &self.fields;
        let mut line = String::with_capacity(512);
        // Writing to a String does not fail.
        let _ = write!(line, "[{:.3}] ", self.at);
        match &f.request {
            Some(r) => {
                let _ = write!(line, "\"{} {} {}\" ", plain(&r.method), plain(&r.path), r.protocol);
            }
            None if self.claims_path() => line.push_str("\"GET / HTTP/1.1\" "),
            None => line.push_str("\"- - -\" "),
        }
        let reason = f.failure.as_deref().map(word);
        let _ = write!(
            line,
            "{} {} {} - \"{}\" {} {} {} ",
            f.status,
            f.flag.unwrap_or("-"),
            f.details.as_deref().map_or(Cow::Borrowed("-"), word),
            reason.as_deref().unwrap_or("-"),
            f.received.load(Ordering::Relaxed),
            f.sent,
            self.started.elapsed().as_millis(),
        );
        match f.upstream_time_ms {
            Some(ms) => {
                let _ = write!(line, "{ms} ");
            }
            None => line.push_str("- "),
        }
        let r = f.request.as_ref();
        let authority = match (self.saboteur, f.upstream_host) {
            (Some(Saboteur::LogWrongAuthority), Some(host)) => Some(host.to_string()),
            (_, _) => r.map(|r| r.authority.clone()),
        };
        for value in [
            r.and_then(|r| r.forwarded_for.as_deref()),
            r.and_then(|r| r.user_agent.as_deref()),
            r.and_then(|r| r.request_id.as_deref()),
            authority.as_deref(),
            f.upstream_host.map(|a| a.to_string()).as_deref(),
        ] {
            let _ = write!(line, "\"{}\" ", value.map_or(Cow::Borrowed("-"), plain));
        }
        let cluster = match (self.saboteur, &f.cluster) {
            (Some(Saboteur::LogWrongCluster), Some(name)) => Some(with_port_80(name)),
            (_, name) => name.clone(),
        };
        let address = |a: Option<SocketAddr>| a.map_or_else(|| "-".to_owned(), |a| a.to_string());
        let _ = write!(
            line,
            "{} {} {} {} {} {}",
            cluster.as_deref().map_or(Cow::Borrowed("-"), word),
            address(f.upstream_local),
            address(f.downstream_local),
            address(f.downstream_remote),
            f.server_name.as_deref().map_or(Cow::Borrowed("-"), word),
            f.route.as_deref().map_or(Cow::Borrowed("-"), word),
        );
        line
    }

    fn claims_path(&self) -> bool {
        self.saboteur == Some(Saboteur::LogPassthroughPath)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // A request that is dropped without an answer has lost its client.
        if self.fields.request.is_some() && self.fields.status == 0 {
            self.ended("DC", "downstream_remote_disconnect");
        }
        self.write();
    }
}

/// A value inside quotes. Envoy writes it as it came; what would end the line cannot occur in HTTP, and is replaced all
/// the same.
fn plain(value: &str) -> Cow<'_, str> {
    if value.chars().any(char::is_control) {
        value.chars().map(|c| if c.is_control() { '_' } else { c }).collect::<String>().into()
    } else {
        value.into()
    }
}

/// A value that stands without quotes: it must stay one word. Envoy replaces white space likewise
/// (`StringUtil::replaceAllEmptySpace`).
fn word(value: &str) -> Cow<'_, str> {
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

fn with_port_80(cluster: &str) -> String {
    let mut parts: Vec<&str> = cluster.split('|').collect();
    if let [_, port, _, _] = parts.as_mut_slice() {
        *port = "80";
    }
    parts.join("|")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl LogSink for Lines {
        fn line(&self, _proxy: &str, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    fn record(saboteur: Option<Saboteur>) -> (Arc<Lines>, Record) {
        let lines = Arc::new(Lines::default());
        let mut record = Record::new(lines.clone(), "sleep", saboteur);
        record.at = "2026-03-01T10:20:30.4567Z".parse().unwrap();
        record.fields.request = Some(RequestFields {
            method: "GET".to_owned(),
            path: "/politics?q=1".to_owned(),
            protocol: "HTTP/1.1",
            forwarded_for: None,
            user_agent: Some("meshproof/r-s.00001".to_owned()),
            request_id: Some("id".to_owned()),
            authority: "edition.cnn.com".to_owned(),
        });
        record.fields.status = 200;
        record.fields.upstream_host = Some("127.0.0.1:443".parse().unwrap());
        record.fields.cluster = Some("outbound|443||edition.cnn.com".to_owned());
        record.fields.route = Some("default".to_owned());
        (lines, record)
    }

    #[test]
    fn a_request_is_logged_in_istios_format_once() {
        let (lines, mut r) = record(None);
        r.write();
        drop(r);
        let lines = lines.0.lock().unwrap();
        let duration_is_zero = lines[0].replace(" 0 1 - ", " 0 0 - ");
        assert_eq!(
            duration_is_zero,
            "[2026-03-01T10:20:30.456Z] \"GET /politics?q=1 HTTP/1.1\" 200 - - - \"-\" 0 0 0 - \"-\" \
             \"meshproof/r-s.00001\" \"id\" \"edition.cnn.com\" \"127.0.0.1:443\" \
             outbound|443||edition.cnn.com - - - - default"
        );
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn a_record_that_is_dropped_is_logged_and_hostile_values_stay_on_one_line() {
        let (lines, mut r) = record(None);
        r.fields.failure = Some("TLS error: \"x\"\r\n[forged]".to_owned());
        r.fields.request.as_mut().unwrap().user_agent = Some("a\r\nb\u{85}".to_owned());
        r.fields.server_name = Some("a b".to_owned());
        drop(r);
        let line = lines.0.lock().unwrap()[0].clone();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains("\"TLS_error:__x___[forged]\"") && line.contains("\"a__b_\""), "{line}");
        assert!(line.ends_with(" a_b default"), "{line}");
    }
}
