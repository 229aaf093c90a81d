//! The plan: what each proxy must do, with every Istio rule already applied. A data plane that carries out
//! a plan needs no knowledge of Istio's API.
//!
//! Names (listeners, clusters, virtual hosts) are those that istiod gives, because access logs show them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Its identity in the mesh, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub identity: String,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Where it connects to.
    pub clusters: Vec<Cluster>,
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
}

/// How a proxy terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DownstreamTls {
    /// ISTIO_MUTUAL: the proxy's own mesh certificate; a client certificate of the mesh's CA is required.
    /// ALPN: `h2`, `http/1.1`.
    MeshMutual,
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
        /// Replaces the port.
        port: Option<u16>,
    },
}

/// Where a request is sent, and how it is changed on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forward {
    /// Cluster names with their weights; a choice by weight. Never empty.
    pub clusters: Vec<WeightedCluster>,
    /// Replaces Host.
    pub host_rewrite: Option<String>,
    /// Replaces the path, or the matched prefix of it.
    pub path_rewrite: Option<String>,
    /// Changes to the request's headers.
    pub request_headers: HeaderChanges,
    /// Changes to the response's headers.
    pub response_headers: HeaderChanges,
    /// The longest a request may take, in milliseconds; absent: as long as it takes.
    pub timeout_ms: Option<u64>,
}

/// One of several destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightedCluster {
    /// The cluster's name. One that the plan does not hold (no such service, port or subset): 503, `NC`.
    pub cluster: String,
    /// Its share; the shares' sum is the whole.
    pub weight: u32,
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

/// How a proxy opens TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTls {
    /// ISTIO_MUTUAL: the proxy's own mesh certificate, the mesh's CA.
    MeshMutual {
        /// The ClientHello's server name.
        sni: String,
        /// SPIFFE identities that the server may have; empty: any of the mesh.
        peer_identities: Vec<String>,
        /// ALPN to offer; mesh-internal values are in place here.
        alpn: Vec<String>,
    },
    /// SIMPLE or MUTUAL: TLS to a server outside.
    Originate(Origination),
}

/// TLS to a server outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origination {
    /// The ClientHello's server name.
    pub sni: ServerName,
    /// Which certificates are trusted.
    pub trust: Trust,
    /// Which names the server's certificate must hold.
    pub names: NameCheck,
    /// The client's certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// ALPN to offer, in this order: `h2`, `http/1.1`. Empty: none.
    pub alpn: Vec<String>,
    /// `TLSv1_2` and so on; absent: the data plane's default (1.2).
    pub min_version: Option<TlsVersion>,
    /// Likewise (1.3).
    pub max_version: Option<TlsVersion>,
    /// The revocation list of the credential is used where it has one.
    pub credential: Option<String>,
}

/// TLS protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// Where a ClientHello's server name comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerName {
    /// The DestinationRule's `sni`.
    Fixed(String),
    /// The request's Host after any rewrite, without its port (Envoy's auto_sni).
    FromHost,
    /// No server name (a TCP cluster without `sni`).
    Absent,
}

/// Which certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The system's roots, which for a local target are `Boot::system_roots`.
    SystemRoots,
    /// The `ca` of the credential with this name. While it is missing, no connection is made: 503.
    Credential(String),
    /// A PEM file on the proxy's own file system (`caCertificates`).
    File(String),
    /// Any certificate: `insecureSkipVerify: true`.
    Anybody,
}

/// Which names the server's certificate must hold. Only looked at where [`Trust`] is not `Anybody`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NameCheck {
    /// The request's Host after any rewrite (Envoy's auto_san_validation).
    FromHost,
    /// One of these as a DNS name, IP address or URI.
    OneOf(Vec<String>),
    /// None: the chain alone is verified.
    ChainOnly,
}

/// The certificate that a proxy shows to a server outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// `certificate` and `key` of the credential with this name. While it is missing, no connection is made: 503.
    Credential(String),
    /// PEM files on the proxy's own file system (`clientCertificate`, `privateKey`).
    Files {
        /// The chain.
        certificate: String,
        /// The key.
        key: String,
    },
}

/// What a proxy may use of one Secret, by Istio's rules on its keys. PEM throughout.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The `credentialName` that refers to it.
    pub name: String,
    /// The client's chain.
    pub certificate: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// The roots to believe.
    pub ca: Option<String>,
    /// Revocation lists.
    pub crl: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key never gets into a log, a report or an error.
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("certificate", &self.certificate.is_some())
            .field("key", &self.key.as_ref().map(|_| "(withheld)"))
            .field("ca", &self.ca.is_some())
            .field("crl", &self.crl.is_some())
            .finish()
    }
}
