//! VirtualService.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{NotCarriedOut, PortSelector, StringMatch};

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
    pub(crate) tcp: NotCarriedOut,
    #[serde(default, alias = "export_to")]
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
    #[serde(default, alias = "direct_response")]
    pub(crate) direct_response: Option<DirectResponse>,
    #[serde(default)]
    pub(crate) delegate: NotCarriedOut,
    #[serde(default)]
    pub(crate) rewrite: Option<Rewrite>,
    #[serde(default)]
    pub(crate) timeout: Option<String>,
    #[serde(default)]
    pub(crate) retries: NotCarriedOut,
    #[serde(default)]
    pub(crate) fault: NotCarriedOut,
    #[serde(default)]
    pub(crate) mirror: NotCarriedOut,
    #[serde(default)]
    pub(crate) mirrors: NotCarriedOut,
    #[serde(default, alias = "mirror_percent")]
    pub(crate) mirror_percent: NotCarriedOut,
    #[serde(default, alias = "mirror_percentage")]
    pub(crate) mirror_percentage: NotCarriedOut,
    #[serde(default, alias = "cors_policy")]
    pub(crate) cors_policy: NotCarriedOut,
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
    pub(crate) scheme: NotCarriedOut,
    #[serde(default)]
    pub(crate) method: Option<StringMatch>,
    #[serde(default)]
    pub(crate) authority: Option<StringMatch>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, StringMatch>,
    #[serde(default)]
    pub(crate) port: u32,
    #[serde(default, alias = "source_labels")]
    pub(crate) source_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) gateways: Vec<String>,
    #[serde(default, alias = "query_params")]
    pub(crate) query_params: BTreeMap<String, StringMatch>,
    #[serde(default, alias = "ignore_uri_case")]
    pub(crate) ignore_uri_case: bool,
    #[serde(default, alias = "without_headers")]
    pub(crate) without_headers: NotCarriedOut,
    #[serde(default, alias = "source_namespace")]
    pub(crate) source_namespace: String,
    /// A prefix for statistics; it changes nothing else.
    #[serde(default, rename = "statPrefix", alias = "stat_prefix")]
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
    #[serde(default, alias = "prefix_rewrite")]
    pub(crate) prefix_rewrite: String,
    #[serde(default)]
    pub(crate) authority: String,
    #[serde(default)]
    pub(crate) port: Option<u32>,
    #[serde(default, alias = "derive_port")]
    pub(crate) derive_port: Option<DerivePort>,
    #[serde(default)]
    pub(crate) scheme: String,
    #[serde(default, alias = "redirect_code")]
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
    pub(crate) bytes: NotCarriedOut,
}

/// HTTPRewrite.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rewrite {
    #[serde(default)]
    pub(crate) uri: String,
    #[serde(default)]
    pub(crate) authority: String,
    #[serde(default, alias = "uri_regex_rewrite")]
    pub(crate) uri_regex_rewrite: NotCarriedOut,
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
    #[serde(default, alias = "sni_hosts")]
    pub(crate) sni_hosts: Vec<String>,
    #[serde(default, alias = "destination_subnets")]
    pub(crate) destination_subnets: Vec<String>,
    #[serde(default)]
    pub(crate) port: u32,
    #[serde(default, alias = "source_labels")]
    pub(crate) source_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) gateways: Vec<String>,
    #[serde(default, alias = "source_namespace")]
    pub(crate) source_namespace: String,
}
