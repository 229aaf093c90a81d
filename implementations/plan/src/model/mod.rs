//! The plan: what each proxy must do, with every Istio rule already applied. A data plane that carries out
//! a plan needs no knowledge of Istio's API.
//!
//! Names (listeners, clusters, virtual hosts) are those that istiod gives, because access logs show them.

mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::tls::{
    ClientCertificate, Credential, DownstreamTls, NameCheck, Origination, ServerName, ServerTls, TlsVersion,
    Trust, UpstreamTls,
};

/// What every proxy of a scenario must do. A proxy that is running and absent from a plan must stop: its
/// listeners close, its connections are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// One entry a running proxy.
    pub proxies: Vec<ProxyPlan>,
}

/// What one proxy must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProxyPlan {
    /// `sleep`, `istio-egressgateway`; unique within a scenario.
    pub name: String,
    /// The namespace that it lives in; also that of the secrets it may use.
    pub namespace: String,
    /// What it is in the mesh.
    #[serde(default)]
    pub role: Role,
    /// Its identity in the mesh, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub identity: String,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Where it connects to.
    pub clusters: Vec<Cluster>,
}

/// What a proxy is in the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Beside an application.
    #[default]
    Sidecar,
    /// A gateway for traffic that leaves the mesh.
    EgressGateway,
    /// A gateway for traffic that enters the mesh.
    IngressGateway,
}

impl ProxyPlan {
    /// The cluster of this name.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|c| c.name == name)
    }
}

/// Which way the traffic of a listener goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// A sidecar's capture of what its application sends.
    Outbound,
    /// A sidecar's capture of what is sent to its application.
    Inbound,
    /// A gateway's server.
    Gateway,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// istiod's name for it: `0.0.0.0_80`, `virtualInbound`.
    pub name: String,
    /// The port that a client dials in the documents: 80, 443. For a gateway: the Service's port.
    pub port: u16,
    /// Where to listen on this machine.
    pub bind: SocketAddr,
    /// Which way its traffic goes.
    pub direction: Direction,
    /// Tried in order; the first whose `matches` holds is taken. If none holds, the connection is closed.
    pub chains: Vec<FilterChain>,
}

/// What to do with a connection that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilterChain {
    /// For people.
    pub name: String,
    /// Which connections it takes.
    pub matches: ChainMatch,
    /// How to terminate TLS; absent: the bytes are handled as they come.
    pub tls: Option<DownstreamTls>,
    /// What to do with them.
    pub action: Action,
}

/// Which connections a chain takes. Both conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainMatch {
    /// Whether the connection begins with a TLS ClientHello (found by looking at its first bytes).
    pub transport: Transport,
    /// The ClientHello's server name: one of these, or `*.suffix`. Empty: any, also none.
    pub server_names: Vec<String>,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Either; no need to look.
    #[default]
    Any,
    /// A TLS ClientHello.
    Tls,
    /// Anything else.
    Plain,
    /// A request line or preface of HTTP in plain text (Envoy's HTTP inspector).
    PlainHttp,
}

/// What to do with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Speak HTTP/1.1 or HTTP/2 and route each request.
    Http(HttpRoutes),
    /// Pass the bytes on, both ways, to this cluster. Logged as one line when the connection ends.
    Tcp {
        /// The cluster's name.
        cluster: String,
    },
    /// Likewise, with a choice of the cluster by weight for each connection.
    TcpWeighted(Vec<WeightedCluster>),
}

/// The routes of one HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRoutes {
    /// istiod's route configuration name: `80`, `http.8080`, `https.443.https.istio-egressgateway.default`.
    pub name: String,
    /// Found by the request's host: an exact domain before the longest `*.suffix` before `*`. No virtual host: 404, `NR`.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// The routes of one set of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualHost {
    /// `edition.cnn.com:80`, `allow_any`, `block_all`.
    pub name: String,
    /// Lower case, with and without a port: `edition.cnn.com`, `edition.cnn.com:80`, `*`.
    pub domains: Vec<String>,
    /// Tried in order; the first that matches is taken. None matches: 404, `NR`.
    pub routes: Vec<Route>,
    /// Whether plain requests are redirected to HTTPS (`httpsRedirect`): 301 before any route is tried.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_tls: bool,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// `%ROUTE_NAME%` of the access log: the VirtualService route's name, `default`, `allow_any`, `block_all`.
    pub name: String,
    /// Which requests it takes.
    pub matches: RouteMatch,
    /// What happens to them.
    pub action: RouteAction,
}

/// Which requests a route takes. All conditions must hold; an empty one always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteMatch {
    /// On the path without the query.
    pub path: PathMatch,
    /// On header values, by lower-case name; `:method` and `:authority` included.
    pub headers: BTreeMap<String, StringMatch>,
    /// On query parameters.
    pub query: BTreeMap<String, StringMatch>,
    /// Headers that must not match. A missing header counts as an empty value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Whether the path is compared without regard to case; a regular expression is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
}

/// A condition on a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathMatch {
    /// Every path.
    #[default]
    Any,
    /// Begins with this text, as text: `/a` takes `/ab`. (Istio's `prefix`.)
    Prefix(String),
    /// Is this text.
    Exact(String),
    /// Matches this RE2 expression as a whole.
    Regex(String),
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StringMatch {
    /// Is this text.
    Exact(String),
    /// Begins with this text.
    Prefix(String),
    /// Matches this RE2 expression as a whole.
    Regex(String),
    /// Is present, whatever its value.
    Present,
}

/// What happens to a request.
#[allow(clippy::large_enum_variant, reason = "nearly every route forwards, and a plan has few routes")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RouteAction {
    /// Send it on.
    Forward(Forward),
    /// Answer it without an upstream request.
    DirectResponse {
        /// The status code.
        status: u16,
        /// The body.
        body: String,
    },
    /// Answer with a redirect.
    Redirect {
        /// The status code.
        status: u16,
        /// Replaces the scheme.
        scheme: Option<String>,
        /// Replaces the host.
        authority: Option<String>,
        /// Replaces the path.
        path: Option<String>,
        /// Replaces the matched prefix of the path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// Replaces the port.
        port: Option<u16>,
    },
}

/// Where a request is sent, and how it is changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forward {
    /// Cluster names with their weights; a choice by weight. Never empty.
    pub clusters: Vec<WeightedCluster>,
    /// Replaces Host.
    pub host_rewrite: Option<String>,
    /// Replaces the path, or the matched prefix of it.
    pub path_rewrite: Option<String>,
    /// Replaces the parts of the path that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex_rewrite: Option<RegexRewrite>,
    /// Changes to the request's headers.
    pub request_headers: HeaderChanges,
    /// Changes to the response's headers.
    pub response_headers: HeaderChanges,
    /// The longest a request may take, in milliseconds; absent: as long as it takes.
    pub timeout_ms: Option<u64>,
    /// When a failed attempt is repeated; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Clusters that receive a copy of each request; their answers are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// A rewrite of the path by an expression (`uriRegexRewrite`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegexRewrite {
    /// RE2.
    pub pattern: String,
    /// With `\\1` for the first group.
    pub substitution: String,
}

/// When a failed attempt is repeated (`ConvertPolicy` in pilot/pkg/networking/core/route/retry/retry.go).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retry {
    /// Envoy's conditions, separated by commas.
    pub on: String,
    /// How often, besides the first attempt.
    pub attempts: u32,
}

/// One of several destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightedCluster {
    /// The cluster's name. One that the plan does not hold (no such service, port or subset): 503, `NC`.
    pub cluster: String,
    /// Its share; the shares' sum is the whole.
    pub weight: u32,
    /// Replaces Host for this destination alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_rewrite: Option<String>,
    /// Changes to the request's headers for this destination alone, before those of the route.
    #[serde(default, skip_serializing_if = "HeaderChanges::is_empty")]
    pub request_headers: HeaderChanges,
    /// Changes to the response's headers for this destination alone, before those of the route.
    #[serde(default, skip_serializing_if = "HeaderChanges::is_empty")]
    pub response_headers: HeaderChanges,
}

impl WeightedCluster {
    /// A destination that changes nothing.
    #[must_use]
    pub fn new(cluster: impl Into<String>, weight: u32) -> Self {
        Self { cluster: cluster.into(), weight, ..Self::default() }
    }

    /// Whether this destination changes the request or the response.
    #[must_use]
    pub fn changes_messages(&self) -> bool {
        self.host_rewrite.is_some() || !self.request_headers.is_empty() || !self.response_headers.is_empty()
    }
}

/// Changes to headers, in this order: remove, set, add. Names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderChanges {
    /// Removed.
    pub remove: Vec<String>,
    /// Replaced or added.
    pub set: Vec<(String, String)>,
    /// Added beside what is there.
    pub add: Vec<(String, String)>,
}

impl HeaderChanges {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Where a proxy connects to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// istiod's name, shown in access logs: `outbound|443||edition.cnn.com`, `outbound|80|cnn|istio-egressgateway...`,
    /// `inbound|9080||`, `PassthroughCluster`, `BlackHoleCluster`.
    pub name: String,
    /// How an address is found.
    pub discovery: Discovery,
    /// What is spoken there.
    pub protocol: UpstreamProtocol,
    /// How TLS is opened; absent: plain text.
    pub tls: Option<UpstreamTls>,
}

/// How a cluster finds an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Discovery {
    /// One of these, in turn. Empty: 503, `UH`.
    Endpoints(Vec<SocketAddr>),
    /// Where the application was going (`PassthroughCluster`). There is no redirection on this machine, so the
    /// original address is found by host (HTTP's Host without its port, or the ClientHello's server name) and the
    /// listener's port. A name that is not here does not resolve: 503, `UF` for HTTP; closed for anything else.
    OriginalDestination(Vec<OriginalDestination>),
    /// Nowhere (`BlackHoleCluster`): a connection is closed, a request gets 503, `UH`.
    Nowhere,
}

/// Where a host name and port lead on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OriginalDestination {
    /// Lower case.
    pub host: String,
    /// As the application dials it.
    pub port: u16,
    /// The address on this machine.
    pub address: SocketAddr,
}

/// What is spoken with an upstream host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1; also for TCP, where it means nothing.
    Http1,
    /// HTTP/2 with prior knowledge, or by ALPN inside TLS.
    Http2,
    /// As the downstream request came (useClientProtocol, and `PassthroughCluster`).
    Downstream,
}
