//! VirtualService.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{Percent, PortSelector, StringMatch};
use super::faults::{CorsPolicy, Fault};

/// istio.io/api networking/v1alpha3, VirtualService.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VirtualService {
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) gateways: Vec<String>,
    #[serde(default)]
    pub(crate) http: Vec<HttpRoute>,
    #[serde(default)]
    pub(crate) tls: Vec<TlsRoute>,
    #[serde(default)]
    pub(crate) tcp: Vec<TcpRoute>,
    #[serde(default)]
    pub(crate) export_to: Vec<String>,
}

/// HTTPRoute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpRoute {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default, rename = "match")]
    pub(crate) matches: Vec<HttpMatch>,
    #[serde(default)]
    pub(crate) route: Vec<HttpDestination>,
    #[serde(default)]
    pub(crate) redirect: Option<Redirect>,
    #[serde(default)]
    pub(crate) direct_response: Option<DirectResponse>,
    #[serde(default)]
    pub(crate) delegate: Option<Delegate>,
    #[serde(default)]
    pub(crate) rewrite: Option<Rewrite>,
    #[serde(default)]
    pub(crate) timeout: Option<String>,
    #[serde(default)]
    pub(crate) retries: Option<Retries>,
    #[serde(default)]
    pub(crate) fault: Option<Fault>,
    #[serde(default)]
    pub(crate) mirror: Option<Destination>,
    #[serde(default)]
    pub(crate) mirrors: Vec<Mirror>,
    #[serde(default, alias = "mirror_percent")]
    pub(crate) mirror_percent: Option<u32>,
    #[serde(default)]
    pub(crate) mirror_percentage: Option<Percent>,
    #[serde(default)]
    pub(crate) cors_policy: Option<CorsPolicy>,
    #[serde(default)]
    pub(crate) headers: Option<Headers>,
}

/// HTTPMatchRequest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpMatch {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uri: Option<StringMatch>,
    #[serde(default)]
    pub(crate) scheme: Option<StringMatch>,
    #[serde(default)]
    pub(crate) method: Option<StringMatch>,
    #[serde(default)]
    pub(crate) authority: Option<StringMatch>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, StringMatch>,
    #[serde(default)]
    pub(crate) port: u32,
    #[serde(default)]
    pub(crate) source_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) gateways: Vec<String>,
    #[serde(default)]
    pub(crate) query_params: BTreeMap<String, StringMatch>,
    #[serde(default)]
    pub(crate) ignore_uri_case: bool,
    #[serde(default)]
    pub(crate) without_headers: BTreeMap<String, StringMatch>,
    #[serde(default)]
    pub(crate) source_namespace: String,
    /// A prefix for statistics; it changes nothing else.
    #[serde(default, rename = "statPrefix")]
    pub(crate) _stat_prefix: String,
}

/// HTTPRouteDestination.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpDestination {
    #[serde(default)]
    pub(crate) destination: Option<Destination>,
    #[serde(default)]
    pub(crate) weight: i32,
    #[serde(default)]
    pub(crate) headers: Option<Headers>,
}

/// RouteDestination.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RouteDestination {
    #[serde(default)]
    pub(crate) destination: Option<Destination>,
    #[serde(default)]
    pub(crate) weight: i32,
}

/// Destination.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Destination {
    #[serde(default)]
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) subset: String,
    #[serde(default)]
    pub(crate) port: Option<PortSelector>,
}

/// Headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Headers {
    #[serde(default)]
    pub(crate) request: Option<HeaderOperations>,
    #[serde(default)]
    pub(crate) response: Option<HeaderOperations>,
}

/// Headers.HeaderOperations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderOperations {
    #[serde(default)]
    pub(crate) set: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) add: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) remove: Vec<String>,
}

/// HTTPRedirect.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Redirect {
    #[serde(default)]
    pub(crate) uri: String,
    #[serde(default)]
    pub(crate) prefix_rewrite: String,
    #[serde(default)]
    pub(crate) authority: String,
    #[serde(default)]
    pub(crate) port: Option<u32>,
    #[serde(default)]
    pub(crate) derive_port: Option<DerivePort>,
    #[serde(default)]
    pub(crate) scheme: String,
    #[serde(default)]
    pub(crate) redirect_code: u32,
}

/// HTTPRedirect.RedirectPortSelection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum DerivePort {
    FromProtocolDefault,
    FromRequestPort,
}

/// HTTPDirectResponse.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectResponse {
    #[serde(default)]
    pub(crate) status: u32,
    #[serde(default)]
    pub(crate) body: Option<Body>,
}

/// HTTPBody.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    #[serde(default)]
    pub(crate) string: Option<String>,
    #[serde(default)]
    pub(crate) bytes: Option<String>,
}

impl Body {
    /// Both kinds as text; bytes are written in base64.
    pub(crate) fn text(&self) -> String {
        use base64::Engine as _;
        if let Some(text) = &self.string {
            return text.clone();
        }
        let decoded = self.bytes.as_ref().map(|b| base64::engine::general_purpose::STANDARD.decode(b));
        decoded.and_then(Result::ok).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }
}

/// HTTPRewrite.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rewrite {
    #[serde(default)]
    pub(crate) uri: String,
    #[serde(default)]
    pub(crate) authority: String,
    #[serde(default)]
    pub(crate) uri_regex_rewrite: Option<UriRegexRewrite>,
}

/// RegexRewrite.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UriRegexRewrite {
    #[serde(default, rename = "match")]
    pub(crate) pattern: String,
    #[serde(default)]
    pub(crate) rewrite: String,
}

/// Delegate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delegate {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) namespace: String,
}

/// HTTPRetry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Retries {
    #[serde(default)]
    pub(crate) attempts: i32,
    #[serde(default)]
    pub(crate) per_try_timeout: Option<String>,
    #[serde(default)]
    pub(crate) retry_on: String,
    #[serde(default)]
    pub(crate) retry_remote_localities: Option<bool>,
    #[serde(default)]
    pub(crate) retry_ignore_previous_hosts: Option<bool>,
    #[serde(default)]
    pub(crate) backoff: Option<String>,
}

/// HTTPMirrorPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mirror {
    #[serde(default)]
    pub(crate) destination: Option<Destination>,
    #[serde(default)]
    pub(crate) percentage: Option<Percent>,
}

/// TCPRoute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpRoute {
    #[serde(default, rename = "match")]
    pub(crate) matches: Vec<L4Match>,
    #[serde(default)]
    pub(crate) route: Vec<RouteDestination>,
}

/// L4MatchAttributes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct L4Match {
    #[serde(default)]
    pub(crate) destination_subnets: Vec<String>,
    #[serde(default)]
    pub(crate) port: u32,
    #[serde(default)]
    pub(crate) source_subnet: String,
    #[serde(default)]
    pub(crate) source_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) gateways: Vec<String>,
    #[serde(default)]
    pub(crate) source_namespace: String,
}

/// TLSRoute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsRoute {
    #[serde(default, rename = "match")]
    pub(crate) matches: Vec<TlsMatch>,
    #[serde(default)]
    pub(crate) route: Vec<RouteDestination>,
}

/// TLSMatchAttributes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TlsMatch {
    #[serde(default)]
    pub(crate) sni_hosts: Vec<String>,
    #[serde(default)]
    pub(crate) destination_subnets: Vec<String>,
    #[serde(default)]
    pub(crate) port: u32,
    #[serde(default)]
    pub(crate) source_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) gateways: Vec<String>,
    #[serde(default)]
    pub(crate) source_namespace: String,
}
