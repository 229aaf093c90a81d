//! Faults and CORS policies of a route. They do not change where a request goes; what istiod refuses in them is refused.

use serde::Deserialize;

use super::common::{Percent, StringMatch, is_header_name};
use super::durations::{check_duration, duration};
use super::problems::Problems;

/// HTTPFaultInjection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    #[serde(default)]
    delay: Option<Delay>,
    #[serde(default)]
    abort: Option<Abort>,
}

/// HTTPFaultInjection.Delay.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delay {
    /// Deprecated; `percentage` has taken its place.
    #[serde(default, rename = "percent")]
    _percent: i32,
    #[serde(default)]
    fixed_delay: Option<String>,
    #[serde(default)]
    exponential_delay: Option<String>,
    #[serde(default)]
    percentage: Option<Percent>,
}

/// HTTPFaultInjection.Abort.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Abort {
    #[serde(default)]
    http_status: Option<i32>,
    #[serde(default)]
    grpc_status: Option<String>,
    #[serde(default)]
    http2_error: Option<String>,
    #[serde(default)]
    percentage: Option<Percent>,
}

/// CorsPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CorsPolicy {
    /// Deprecated; `allowOrigins` has taken its place.
    #[serde(default, rename = "allowOrigin")]
    _allow_origin: Vec<String>,
    #[serde(default)]
    allow_origins: Vec<StringMatch>,
    #[serde(default)]
    allow_methods: Vec<String>,
    #[serde(default)]
    allow_headers: Vec<String>,
    #[serde(default)]
    expose_headers: Vec<String>,
    #[serde(default)]
    max_age: Option<String>,
    #[serde(default, rename = "allowCredentials")]
    _allow_credentials: Option<bool>,
    #[serde(default, rename = "unmatchedPreflights")]
    _unmatched_preflights: UnmatchedPreflights,
}

/// CorsPolicy.UnmatchedPreflights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum UnmatchedPreflights {
    #[default]
    Unspecified,
    Forward,
    Ignore,
}

/// `SupportedGRPCStatus` (pkg/util/grpc/codes.go).
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// `supportedCORSMethods` (pkg/config/validation/validation.go).
const CORS_METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

impl Fault {
    /// `validateHTTPFaultInjection` (pkg/config/validation/validation.go).
    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.abort.is_none() && self.delay.is_none() {
            problems.listed("HTTP fault injection must have an abort and/or a delay");
        }
        if let Some(abort) = &self.abort {
            abort.validate(problems);
        }
        if let Some(delay) = &self.delay {
            percentage(delay.percentage.as_ref(), problems);
            // Of two that are set, the conversion keeps one.
            if let Some(text) = &delay.fixed_delay {
                check_duration(text, problems);
            } else if let Some(text) = &delay.exponential_delay {
                check_duration(text, problems);
                problems.listed("exponentialDelay not supported yet");
            }
        }
    }
}

impl Abort {
    /// `validateHTTPFaultInjectionAbort`.
    fn validate(&self, problems: &mut Problems) {
        percentage(self.percentage.as_ref(), problems);
        if let Some(status) = self.http_status {
            if !(200..=600).contains(&status) {
                problems.error(format!("HTTP status {status} is not in range 200-599"));
            }
        } else if let Some(status) = &self.grpc_status {
            if !GRPC_STATUSES.contains(&status.as_str()) {
                problems.error(format!(
                    "gRPC status {status:?} is not supported. See \
                     https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a list of supported codes, \
                     for example 'NOT_FOUND'"
                ));
            }
        } else if self.http2_error.is_some() {
            problems.error("HTTP/2 abort fault injection not supported yet");
        }
        // That none is set istiod only warns of, and `validateHTTPFaultInjection` returns no warnings.
    }
}

/// `validatePercentage`.
fn percentage(share: Option<&Percent>, problems: &mut Problems) {
    if let Some(Percent { value }) = share
        && !(*value == 0.0 || (0.0001..=100.0).contains(value))
    {
        problems.error(format!("percentage {value} is neither 0.0, nor in range [0.0001, 100.0]"));
    }
}

impl CorsPolicy {
    /// `validateCORSPolicy`.
    pub(super) fn validate(&self, problems: &mut Problems) {
        for origin in &self.allow_origins {
            let text = [&origin.exact, &origin.prefix, &origin.regex].into_iter().flatten().next();
            if text.is_none_or(String::is_empty) {
                problems.error("'' is not a valid match type for CORS allow origins");
            } else {
                origin.validate("corsPolicy.allowOrigins", problems);
            }
        }
        for method in self.allow_methods.iter().filter(|m| !CORS_METHODS.contains(&m.as_str())) {
            problems.error(format!("{method:?} is not a supported HTTP method"));
        }
        for name in self.allow_headers.iter().chain(&self.expose_headers) {
            if name.is_empty() {
                problems.error("header name cannot be empty");
            } else if name != "*" && !is_header_name(name) {
                problems.error(format!("header name {name} is not a valid header name"));
            }
        }
        if let Some(text) = &self.max_age {
            check_duration(text, problems);
            if duration(text).is_ok_and(|d| d.subsec_nanos() > 0) {
                problems.listed("max_age duration is accurate only to seconds precision");
            }
        }
    }
}
