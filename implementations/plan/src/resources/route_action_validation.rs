//! What istiod's validation says about the parts of a route (pkg/config/validation/validation.go).

use super::common::{is_authority, is_status, port_number, regex};
use super::durations::check_duration;
use super::problems::Problems;
use super::virtual_service::{DirectResponse, Headers, HttpMatch, Redirect, Retries, Rewrite};

impl Redirect {
    /// `validateHTTPRedirect`: the first problem alone.
    pub(super) fn validate(&self, conditions: &[HttpMatch], problems: &mut Problems) {
        problems.check(self.first_problem(conditions));
    }

    fn first_problem(&self, conditions: &[HttpMatch]) -> Result<(), String> {
        if !self.uri.is_empty() && !self.prefix_rewrite.is_empty() {
            return Err("redirect may only specify one of uri or prefix_rewrite".to_owned());
        }
        let other_than_prefix = |m: &HttpMatch| m.uri.as_ref().is_some_and(|u| u.prefix.is_none());
        if !self.prefix_rewrite.is_empty() && conditions.iter().any(other_than_prefix) {
            return Err(
                "redirect prefix_rewrite requires all URI matches to use prefix match type".to_owned()
            );
        }
        let port = self.port.is_some() || self.derive_port.is_some();
        let texts = [&self.uri, &self.prefix_rewrite, &self.authority, &self.scheme];
        if !port && texts.into_iter().all(String::is_empty) {
            return Err("redirect must specify URI, authority, scheme, or port".to_owned());
        }
        if !matches!(self.redirect_code, 0 | 300..=399) {
            return Err(format!("{} is not a valid redirect code, must be 3xx", self.redirect_code));
        }
        if !matches!(self.scheme.as_str(), "" | "http" | "https") {
            return Err("invalid redirect scheme, must be \"http\" or \"https\"".to_owned());
        }
        match self.port {
            Some(port) if port > 0 => port_number(port),
            Some(_) | None => Ok(()),
        }
    }
}

impl DirectResponse {
    /// `validateHTTPDirectResponse`.
    pub(super) fn validate(&self, problems: &mut Problems) {
        let size = self.body.as_ref().map_or(0, |b| b.text().len());
        if size > 1024 * 1024 {
            problems
                .error("large direct_responses may impact control plane performance, must be less than 1MB");
        } else if size > 100 * 1024 {
            problems.warn("large direct_responses may impact control plane performance");
        }
        if !(200..=600).contains(&self.status) {
            problems.error(format!("HTTP status {} is not in range 200-599", self.status));
        }
    }
}

impl Rewrite {
    /// `validateHTTPRewrite`.
    pub(super) fn validate(&self, problems: &mut Problems) {
        if !self.uri.is_empty() && self.uri_regex_rewrite.is_some() {
            problems.error("rewrite may only contain one of URI or UriRegexRewrite");
            return;
        }
        if self.uri.is_empty() && self.authority.is_empty() && self.uri_regex_rewrite.is_none() {
            problems.error(
                "rewrite must specify at least one of URI, UriRegexRewrite, or authority. Only one of URI or \
                 UriRegexRewrite may be specified",
            );
            return;
        }
        let Some(rewrite) = &self.uri_regex_rewrite else { return };
        let result = if rewrite.pattern.is_empty() || rewrite.rewrite.is_empty() {
            Err("UriRegexRewrite requires both Rewrite and Match fields to be specified".to_owned())
        } else {
            regex(&rewrite.pattern, "HTTPRewrite.UriRegexRewrite.Match")
        };
        problems.check(result.map_err(|text| format!("UriRegexRewrite has errors\n{text}")));
    }
}

/// `supportedRetryOnPolicies`.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

impl Retries {
    /// `ValidateHTTPRetry` (agent/validation.go).
    pub(super) fn validate(&self, place: &str, problems: &mut Problems) {
        if self.attempts < 0 {
            problems.listed("attempts cannot be negative");
        }
        let configured = self.per_try_timeout.is_some()
            || !self.retry_on.is_empty()
            || self.retry_remote_localities.is_some();
        if self.attempts == 0 && configured {
            problems.error("http retry policy configured when attempts are set to 0 (disabled)");
        }
        if let Some(text) = &self.per_try_timeout {
            check_duration(text, problems);
        }
        for policy in self.retry_on.split(',').filter(|_| !self.retry_on.is_empty()) {
            let status = policy.parse::<u16>().is_ok_and(is_status);
            if !status && !RETRY_ON.contains(&policy) {
                problems.error(format!("{policy:?} is not a valid retryOn policy"));
            }
        }
        if let Some(text) = &self.backoff {
            check_duration(text, problems);
        }
        let passed_over = [
            ("perTryTimeout", self.per_try_timeout.is_some()),
            ("backoff", self.backoff.is_some()),
            ("retryRemoteLocalities", self.retry_remote_localities.is_some()),
            ("retryIgnorePreviousHosts", self.retry_ignore_previous_hosts.is_some()),
        ];
        problems.pass_over(place, &passed_over);
    }
}

impl Headers {
    pub(super) fn validate(&self, problems: &mut Problems) {
        for (operations, request) in [(&self.request, true), (&self.response, false)] {
            let Some(operations) = operations else { continue };
            for (name, value) in operations.add.iter().chain(&operations.set) {
                problems.check(if request { request_header(name) } else { header_operation(name) });
                problems.check(header_value(value));
            }
            for name in &operations.remove {
                problems.check(header_operation(name));
            }
        }
    }
}

/// `ValidateHTTPHeaderWithAuthorityOperationName`.
fn request_header(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("header name cannot be empty".to_owned());
    }
    if name.starts_with(':') && !is_authority(name) {
        return Err(format!("invalid header {name:?}: header cannot have \":\" prefix"));
    }
    Ok(())
}

/// `ValidateHTTPHeaderOperationName`.
fn header_operation(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("header name cannot be empty".to_owned());
    }
    if name.eq_ignore_ascii_case("host") {
        return Err(format!("invalid header {name:?}: cannot set Host header"));
    }
    if name.starts_with(':') {
        return Err(format!("invalid header {name:?}: header cannot have \":\" prefix"));
    }
    Ok(())
}

/// `ValidateHTTPHeaderValue`: percent signs enclose Envoy's substitutions, `%%` is one of them.
fn header_value(value: &str) -> Result<(), String> {
    if value.chars().any(|c| (c.is_ascii_control() && c != '\t') || c == '\u{7f}') {
        return Err(format!("header value configuration {value} is invalid"));
    }
    let invalid =
        |what: &str| Err(format!("header value configuration: invalid header configuration. {what}"));
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        rest = &rest[at + 1..];
        if rest.is_empty() {
            return invalid("Un-escaped %");
        }
        match rest.strip_prefix('%') {
            Some(after) => rest = after,
            None => match rest.find('%') {
                Some(end) => rest = &rest[end + 1..],
                None => return invalid(&format!("Un-terminated variable expression '{value}'")),
            },
        }
    }
    Ok(())
}
