//! The access-log reader: it turns a line of a proxy's log into fields, or into the reason why the line cannot be
//! parsed.
//!
//! Envoy writes header values into its text formats unchanged, including quotes (Envoy, "Access logging", format
//! strings: only the JSON format escapes). A request can therefore imitate the rest of a line, for example with the
//! path `/x HTTP/1.1" 200 - via_upstream`. So a line is parsed only if it has exactly one reading. Every field that a
//! peer can influence may hold any text, so the reading that the proxy meant is always among the readings, and a single
//! reading is the right one. A line with several readings is unreadable, with that reason.
//!
//! The tokenizer is written by hand: a parser library takes the first reading that fits, but this reader must count
//! all of them.

mod format;
mod json;
mod template;
mod text;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use meshproof_model::{AccessLog, LogFields};

pub use format::{FormatError, LogFormat};

use crate::store::{MAX_TEXT, bounded};
use crate::token::token_of;

/// Istio's JSON format, as [`AccessLog::format`] names it (istiod, `telemetry_logging.go`, `EnvoyJSONLogFormatIstio`).
pub const ISTIO_JSON: &str = "istio-json";
/// Istio's text format since 1.9 (istiod, `telemetry_logging.go`, `EnvoyTextLogFormat`).
pub const ISTIO_TEXT: &str = "istio-text";
/// Istio's text format of 1.8, without response code details (istiod 1.8.0, `accesslog.go`, `EnvoyTextLogFormat`).
pub const ISTIO_1_8_TEXT: &str = "istio-1.8-text";
/// Istio's text format of 1.3 to 1.7, with Mixer's status (istiod 1.7.0, `listener.go`, `EnvoyTextLogFormat`).
pub const ISTIO_1_3_TEXT: &str = "istio-1.3-text";
/// Envoy's own default text format (Envoy, "Access logging", default format string), which Istio used before 1.1.
pub const ENVOY_TEXT: &str = "envoy-text";

/// A format of the mesh's own configuration, as [`AccessLog::format`] names it.
pub const CONFIGURED: &str = "configured";

/// Why a line could not be read; its text becomes [`AccessLog::unreadable`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unreadable {
    #[error("the line is empty")]
    Empty,
    #[error("the line has {bytes} bytes; at most {MAX_TEXT} are parsed")]
    TooLong { bytes: usize },
    #[error("the line matches none of the known formats")]
    NoFormat,
    #[error(
        "the line can be read in more than one way: a value in it holds quotes or spaces that imitate the format"
    )]
    Ambiguous,
    #[error("{field} does not match the format: {value:?}")]
    Field { field: &'static str, value: String },
    #[error("the line begins like JSON but is not a JSON object: {0}")]
    Json(String),
    #[error("the JSON member {0:?} occurs twice")]
    DuplicateMember(String),
    #[error("the JSON object has no {0:?}, so it is not an access-log line")]
    MissingMember(&'static str),
}

/// Reads one line of an access log, with or without its line end. Bytes that are not UTF-8 become replacement
/// characters. A line of more than [`MAX_TEXT`] bytes is kept in part and not read.
///
/// Never fails: a line that cannot be parsed has no `fields`, and `unreadable` has the reason.
#[must_use]
pub fn read_line(line: &[u8]) -> AccessLog {
    let (kept, whole) = kept(line);
    let read = whole.and_then(|()| {
        if kept.starts_with('{') {
            json::read(&kept).map(|fields| (ISTIO_JSON, fields))
        } else {
            text::read(&kept)
        }
    });
    made(&kept, read, &[])
}

/// The part of a line that is kept, without its line end, and whether that is all of it.
fn kept(line: &[u8]) -> (std::borrow::Cow<'_, str>, Result<(), Unreadable>) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // One byte beyond the bound is enough to know that there is more; a replacement character has three bytes.
    let kept = String::from_utf8_lossy(line.get(..=MAX_TEXT).unwrap_or(line));
    let whole = if line.is_empty() {
        Err(Unreadable::Empty)
    } else if line.len() > MAX_TEXT || kept.len() > MAX_TEXT {
        Err(Unreadable::TooLong { bytes: line.len() })
    } else {
        Ok(())
    };
    (kept, whole)
}

fn made(kept: &str, read: Result<(&'static str, LogFields), Unreadable>, lacks: &[Field]) -> AccessLog {
    let line = bounded(kept, MAX_TEXT);
    let lacks = lacks.iter().map(|field| field.key().to_owned()).collect();
    match read {
        Ok((format, fields)) => {
            AccessLog { line, format: Some(format.to_owned()), fields: Some(fields), unreadable: None, lacks }
        }
        Err(why) => AccessLog {
            line,
            format: None,
            fields: None,
            unreadable: Some(bounded(&why.to_string(), MAX_REASON)),
            lacks,
        },
    }
}

/// The maximum length of a reason in bytes; it may quote a value of the line.
const MAX_REASON: usize = 512;

/// The correlation token in the logged User-Agent, if it is one of ours.
#[must_use]
pub fn token(fields: &LogFields) -> Option<&str> {
    fields.user_agent.as_deref().and_then(token_of)
}

/// Whether a value says that there is none. Every format of Envoy writes `-` (Envoy, "Access logging"), or null in JSON, which is read
/// as `-`; nginx and others write an empty text.
fn is_absent(value: &str) -> bool {
    matches!(value, "-" | "")
}

/// A socket address as evidence has it: a socket for both versions of IP reports an IPv4 address as one of IPv6 (RFC 4291, section
/// 2.5.5.2).
fn canonical(value: &str) -> String {
    match value.parse::<SocketAddr>() {
        Ok(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
        Err(_) => value.to_owned(),
    }
}

/// The fields of all formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Field {
    StartTime,
    Method,
    Path,
    Protocol,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    UpstreamTransportFailureReason,
    MixerStatus,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamServiceTime,
    XForwardedFor,
    UserAgent,
    RequestId,
    Authority,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    DownstreamLocalAddress,
    DownstreamRemoteAddress,
    RequestedServerName,
    RouteName,
}

impl Field {
    /// The field's key in Istio's JSON format; Mixer's status has the name of its metadata.
    const fn key(self) -> &'static str {
        match self {
            Self::StartTime => "start_time",
            Self::Method => "method",
            Self::Path => "path",
            Self::Protocol => "protocol",
            Self::ResponseCode => "response_code",
            Self::ResponseFlags => "response_flags",
            Self::ResponseCodeDetails => "response_code_details",
            Self::ConnectionTerminationDetails => "connection_termination_details",
            Self::UpstreamTransportFailureReason => "upstream_transport_failure_reason",
            Self::MixerStatus => "istio.mixer:status",
            Self::BytesReceived => "bytes_received",
            Self::BytesSent => "bytes_sent",
            Self::Duration => "duration",
            Self::UpstreamServiceTime => "upstream_service_time",
            Self::XForwardedFor => "x_forwarded_for",
            Self::UserAgent => "user_agent",
            Self::RequestId => "request_id",
            Self::Authority => "authority",
            Self::UpstreamHost => "upstream_host",
            Self::UpstreamCluster => "upstream_cluster",
            Self::UpstreamLocalAddress => "upstream_local_address",
            Self::DownstreamLocalAddress => "downstream_local_address",
            Self::DownstreamRemoteAddress => "downstream_remote_address",
            Self::RequestedServerName => "requested_server_name",
            Self::RouteName => "route_name",
        }
    }

    /// Puts a value into its place, unless it is absent.
    fn put(self, fields: &mut LogFields, value: &str) -> Result<(), Unreadable> {
        if is_absent(value) {
            return Ok(());
        }
        let text = || Some(value.to_owned());
        let address = || Some(canonical(value));
        match self {
            Self::StartTime => fields.start_time = text(),
            Self::Method => fields.method = text(),
            Self::Path => fields.path = text(),
            Self::Protocol => fields.protocol = text(),
            Self::ResponseCode => fields.response_code = Some(self.number(value)?),
            Self::ResponseFlags => {
                fields.response_flags = value.split(',').map(str::to_owned).collect();
            }
            Self::ResponseCodeDetails => fields.response_code_details = text(),
            Self::ConnectionTerminationDetails => fields.connection_termination_details = text(),
            Self::UpstreamTransportFailureReason => fields.upstream_transport_failure_reason = text(),
            Self::MixerStatus => {
                fields.other.insert(self.key().to_owned(), value.to_owned());
            }
            Self::BytesReceived => fields.bytes_received = Some(self.number(value)?),
            Self::BytesSent => fields.bytes_sent = Some(self.number(value)?),
            Self::Duration => fields.duration_ms = Some(self.number(value)?),
            Self::UpstreamServiceTime => fields.upstream_service_time_ms = Some(self.number(value)?),
            Self::XForwardedFor => fields.x_forwarded_for = text(),
            Self::UserAgent => fields.user_agent = text(),
            Self::RequestId => fields.request_id = text(),
            Self::Authority => fields.authority = text(),
            Self::UpstreamHost => fields.upstream_host = address(),
            Self::UpstreamCluster => fields.upstream_cluster = text(),
            Self::UpstreamLocalAddress => fields.upstream_local_address = address(),
            Self::DownstreamLocalAddress => fields.downstream_local_address = address(),
            Self::DownstreamRemoteAddress => fields.downstream_remote_address = address(),
            Self::RequestedServerName => fields.requested_server_name = text(),
            Self::RouteName => fields.route_name = text(),
        }
        Ok(())
    }

    fn number<N: std::str::FromStr>(self, value: &str) -> Result<N, Unreadable> {
        // `from_str` would take a sign, which no proxy writes.
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        let wrong = || Unreadable::Field { field: self.key(), value: bounded(value, 64) };
        if digits { value.parse().map_err(|_| wrong()) } else { Err(wrong()) }
    }
}
