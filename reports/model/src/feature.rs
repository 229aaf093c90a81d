//! What an implementation may declare that it can do. A scenario or a check that needs an undeclared feature
//! is skipped and names that feature; a declared feature that does not work is a failure. A feature is never
//! inferred from a failure.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::did_you_mean;

/// One feature. Its name, in JSON and for people, is its variant's name in kebab case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// A proxy beside an application.
    Sidecar,
    /// A proxy through which requests leave the mesh.
    EgressGateway,
    /// A proxy through which requests enter the mesh.
    IngressGateway,
    /// Mutual TLS between the mesh's own proxies.
    MeshMtls,
    /// Mutual TLS between proxies with the certificates of the suite's mesh CA.
    MeshCa,
    /// TLS origination with a client certificate.
    MutualOrigination,
    /// Server certificates are verified against configured names.
    SanValidation,
    /// An application's own TLS is forwarded as it is.
    TlsPassthrough,
    /// TLS ends at an ingress gateway.
    GatewayTls,
    /// Hosts that are not registered are refused.
    RegistryOnly,
    /// A changed configuration takes effect without a restart.
    ReconfigureWithoutRestart,
    /// HTTP/2 to servers and to applications.
    Http2,
    /// WebSocket.
    WebSocket,
    /// TLS origination for bytes that are not HTTP.
    TcpOrigination,
    /// Rules of routes: changes to headers, timeouts, weights.
    RouteRules,
    /// Access logs in a format that the suite reads.
    AccessLog,
    /// Access logs that show the proxy's own end of the connection to the server.
    UpstreamLocalAddress,
    /// The credentials that a proxy holds can be listed.
    CredentialStatus,
}

impl Feature {
    /// Every feature, in the order in which the documentation lists them.
    pub const ALL: &[Self] = &[
        Self::Sidecar,
        Self::EgressGateway,
        Self::IngressGateway,
        Self::MeshMtls,
        Self::MeshCa,
        Self::MutualOrigination,
        Self::SanValidation,
        Self::TlsPassthrough,
        Self::GatewayTls,
        Self::RegistryOnly,
        Self::ReconfigureWithoutRestart,
        Self::Http2,
        Self::WebSocket,
        Self::TcpOrigination,
        Self::RouteRules,
        Self::AccessLog,
        Self::UpstreamLocalAddress,
        Self::CredentialStatus,
    ];

    /// Its name: `egress-gateway`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::EgressGateway => "egress-gateway",
            Self::IngressGateway => "ingress-gateway",
            Self::MeshMtls => "mesh-mtls",
            Self::MeshCa => "mesh-ca",
            Self::MutualOrigination => "mutual-origination",
            Self::SanValidation => "san-validation",
            Self::TlsPassthrough => "tls-passthrough",
            Self::GatewayTls => "gateway-tls",
            Self::RegistryOnly => "registry-only",
            Self::ReconfigureWithoutRestart => "reconfigure-without-restart",
            Self::Http2 => "http2",
            Self::WebSocket => "web-socket",
            Self::TcpOrigination => "tcp-origination",
            Self::RouteRules => "route-rules",
            Self::AccessLog => "access-log",
            Self::UpstreamLocalAddress => "upstream-local-address",
            Self::CredentialStatus => "credential-status",
        }
    }

    /// What an implementation that declares it can do.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Sidecar => "runs a proxy beside an application, which captures what the application sends",
            Self::EgressGateway => "runs a proxy through which requests leave the mesh",
            Self::IngressGateway => {
                "runs a proxy through which requests enter the mesh, and routes them by host and path"
            }
            Self::MeshMtls => {
                "uses mutual TLS between its own proxies (ISTIO_MUTUAL), and requires it where the plan does"
            }
            Self::MeshCa => {
                "uses for mesh mutual TLS the certificates that it is given, with their SPIFFE identities, so that the suite can take part in it"
            }
            Self::MutualOrigination => {
                "presents a client certificate from a credential when it originates TLS"
            }
            Self::SanValidation => {
                "verifies the server's certificate against configured names that differ from the server name sent"
            }
            Self::TlsPassthrough => {
                "forwards an application's own TLS by its server name, without terminating it"
            }
            Self::GatewayTls => {
                "terminates TLS at an ingress gateway with the certificates of a Secret, verifies clients, and redirects plain requests to HTTPS"
            }
            Self::RegistryOnly => "refuses hosts that are not registered (outbound policy REGISTRY_ONLY)",
            Self::ReconfigureWithoutRestart => {
                "puts a changed configuration into force while it runs, and loses no request"
            }
            Self::Http2 => {
                "speaks HTTP/2 to servers where a DestinationRule says so, and to applications with prior knowledge"
            }
            Self::WebSocket => "forwards a WebSocket handshake and the messages that follow it",
            Self::TcpOrigination => {
                "opens TLS for connections that are not HTTP, passes on every byte as it comes, and the end of each direction on its own"
            }
            Self::RouteRules => {
                "carries out what the plan says of a route: changes to the headers of requests and answers, timeouts, weights"
            }
            Self::AccessLog => {
                "writes one line per request, and one line per connection that it forwards, in a format that the suite reads"
            }
            Self::UpstreamLocalAddress => {
                "shows in its access log its own address of the connection to the server"
            }
            Self::CredentialStatus => "lists the credentials that it holds, with their serial numbers",
        }
    }

    /// The names of these features, separated by commas.
    #[must_use]
    pub fn list(features: &[Self]) -> String {
        features.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Feature {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, UnknownFeature> {
        let found = Self::ALL.iter().find(|feature| feature.name() == name);
        found.copied().ok_or_else(|| UnknownFeature(name.to_owned()))
    }
}

/// No feature has this name. Says which names are near, and which there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFeature(pub String);

impl fmt::Display for UnknownFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no feature {:?}", self.0)?;
        let near = did_you_mean(&self.0, Feature::ALL.iter().map(|feature| feature.name()));
        write!(f, "{near}; the features are {}", Feature::list(Feature::ALL))
    }
}

impl std::error::Error for UnknownFeature {}

/// A feature in a report. A report of another version of meshproof may name a feature that this version does not know; the
/// report can be read nevertheless, and its names are kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportedFeature {
    /// A feature that this version knows.
    Known(Feature),
    /// The name of another feature.
    Unknown(String),
}

impl ReportedFeature {
    /// The feature's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Known(feature) => feature.name(),
            Self::Unknown(name) => name,
        }
    }

    /// The names of these features, separated by commas.
    #[must_use]
    pub fn list(features: &[Self]) -> String {
        features.iter().map(Self::name).collect::<Vec<_>>().join(", ")
    }
}

impl From<Feature> for ReportedFeature {
    fn from(feature: Feature) -> Self {
        Self::Known(feature)
    }
}

impl From<String> for ReportedFeature {
    fn from(name: String) -> Self {
        name.parse().map_or(Self::Unknown(name), Self::Known)
    }
}

impl PartialEq<Feature> for ReportedFeature {
    fn eq(&self, other: &Feature) -> bool {
        *self == Self::Known(*other)
    }
}

impl fmt::Display for ReportedFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for ReportedFeature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ReportedFeature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

/// The schema of the names that this version writes.
impl JsonSchema for ReportedFeature {
    fn inline_schema() -> bool {
        Feature::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Feature::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        Feature::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Feature::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_in_json_and_for_people_and_reads_back() {
        for feature in Feature::ALL {
            assert_eq!(serde_json::to_value(feature).unwrap(), feature.name());
            assert_eq!(feature.name().parse(), Ok(*feature));
            assert_eq!(feature.to_string(), feature.name());
        }
    }

    #[test]
    fn a_misspelt_name_is_answered_with_near_names_and_all_names() {
        let words = "egress-gatway".parse::<Feature>().unwrap_err().to_string();
        assert!(
            words.starts_with(
                "there is no feature \"egress-gatway\"; did you mean egress-gateway or ingress-gateway?; the features are \
                 sidecar, "
            ),
            "{words}"
        );
        let words = "gateway".parse::<Feature>().unwrap_err().to_string();
        assert!(words.contains("did you mean gateway-tls, egress-gateway or ingress-gateway?"), "{words}");
        assert!(!"zzz".parse::<Feature>().unwrap_err().to_string().contains("did you mean"));
    }
}
