//! Saboteurs: the reference, broken on purpose in one named way each, to prove that a check can fail.
//!
//! Those that misread the configuration are in [`resources`], [`plan`] and [`secrets`]; those that break the data plane
//! itself are switches at the place that they break, found by the variant's name.

pub(crate) mod external;
pub(crate) mod outage;
pub(crate) mod plan;
pub(crate) mod resources;
pub(crate) mod secrets;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use meshproof_local::data_plane::{Boot, Update};
use meshproof_plan::model::{Credential, Plan};

/// What a data plane carries out in place of what it was told.
pub(crate) struct Wanted {
    pub(crate) plan: Plan,
    pub(crate) credentials: BTreeMap<String, Vec<Credential>>,
}

/// What saboteurs remember from one configuration to the next.
#[derive(Default)]
pub(crate) struct Memory {
    secrets: secrets::Memory,
    plan: plan::Memory,
}

impl Memory {
    /// What to carry out; without a saboteur, what the update says.
    pub(crate) fn twist(&mut self, saboteur: Option<Saboteur>, boot: &Boot, update: &Update<'_>) -> Wanted {
        let mut wanted = Wanted { plan: update.plan.clone(), credentials: update.credentials.clone() };
        if let Some(saboteur) = saboteur {
            self.secrets.twist(saboteur, boot, update, &mut wanted);
            self.plan.twist(saboteur, update, &mut wanted);
        }
        wanted
    }
}

macro_rules! saboteurs {
    ($($variant:ident $name:literal $description:literal;)*) => {
        /// One way in which the reference can be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Saboteur {
            $(#[doc = $description] $variant,)*
        }

        impl Saboteur {
            /// Every saboteur.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name on the command line, in kebab-case; stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it does, in one line.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }
        }
    };
}

saboteurs! {
    PlaintextUpstream "plaintext-upstream" "Sends in plain text what should be sent over TLS.";
    PlainPortUpstream "plain-port-upstream" "Sends to the host's plain port what should be sent over TLS.";
    OriginateUnasked "originate-unasked" "Opens TLS to the host's TLS port where nothing asks for it.";
    FallBackToPlaintext "fall-back-to-plaintext" "When TLS fails, sends the request to the host's plain port instead.";
    NoSni "no-sni" "Opens TLS without a server name.";
    WrongSni "wrong-sni" "Opens TLS with a server name of its own.";
    SniBeforeRewrite "sni-before-rewrite" "Takes the automatic server name from the Host before it is rewritten.";
    IgnoreCertificate "ignore-certificate" "Believes any certificate of anybody.";
    NoVerificationByDefault "no-verification-by-default" "Verifies nothing where no CA is configured.";
    IgnoreSans "ignore-sans" "Verifies the chain and never the name.";
    IgnoreCrl "ignore-crl" "Accepts certificates that the credential's revocation list names.";
    AcceptExpired "accept-expired" "Accepts certificates outside their period of validity.";
    AcceptSelfSigned "accept-self-signed" "Accepts a certificate that signed itself.";
    VerifyOnce "verify-once" "Verifies the first server that a cluster connects to after a change, and no other.";
    IgnoreKeyUsage "ignore-key-usage" "Accepts a certificate that was not issued for servers.";
    NoClientCertificate "no-client-certificate" "Never presents the configured client certificate.";
    OtherClientCertificate "other-client-certificate" "Presents its mesh certificate instead of the configured client certificate.";
    AnonymousWithoutSecret "anonymous-without-secret" "While a secret is missing, connects without it.";
    CredentialFromAnyNamespace "credential-from-any-namespace" "Takes a secret of the right name from any namespace.";
    StaleCredential "stale-credential" "Keeps the first version of a credential for ever.";
    OutageWhileRotating "outage-while-rotating" "Refuses requests while a credential is being replaced.";
    DefaultNamespaceCredentialStatus "default-namespace-credential-status" "Reports every credential as active, whether it has it or not.";
    OriginateAtSidecar "originate-at-sidecar" "The sidecar goes past the egress gateway and opens TLS to the external service itself.";
    BypassWhenGatewayDown "bypass-when-gateway-down" "When the gateway cannot be reached, the sidecar goes to the external service itself.";
    NoMutualTlsToGateway "no-mutual-tls-to-gateway" "Speaks plain text between sidecar and gateway.";
    BelieveAnyMeshPeer "believe-any-mesh-peer" "Speaks mesh mutual TLS with whoever shows any certificate.";
    GatewayAcceptsAnonymous "gateway-accepts-anonymous" "The gateway does not demand a client certificate.";
    PermissiveInbound "permissive-inbound" "Accepts plain text where mesh mutual TLS is STRICT.";
    InboundAcceptsAnyClient "inbound-accepts-any-client" "Where mesh mutual TLS is STRICT, the sidecar looks at no client's certificate.";
    StrictBreaksOrigination "strict-breaks-origination" "With mesh mutual TLS STRICT, uses the mesh's certificate and CA outside the mesh too.";
    MeshAlpn "mesh-alpn" "Offers mesh-internal ALPN values to external services.";
    NoHttp2Upstream "no-http2-upstream" "Never speaks HTTP/2 to an external service.";
    TerminateApplicationTls "terminate-application-tls" "Terminates the application's own HTTPS and encrypts it again.";
    BlockPassthroughHttps "block-passthrough-https" "Closes the application's own HTTPS once TLS origination is configured.";
    DoubleTls "double-tls" "Wraps the application's own HTTPS into another TLS connection.";
    LastRuleWins "last-rule-wins" "Of several DestinationRules for one host keeps the last alone.";
    TopLevelPolicyEverywhere "top-level-policy-everywhere" "Applies the TLS settings of one port to all ports of the host.";
    FollowRedirect "follow-redirect" "The proxy follows a redirect itself.";
    SendTwice "send-twice" "Sends each request without a body twice.";
    ProbePlainPort "probe-plain-port" "Sends a HEAD request to the host's plain port before each request.";
    HandshakePerRequest "handshake-per-request" "Opens a new connection for each request.";
    DropInFlightOnChange "drop-in-flight-on-change" "Drops every connection whenever the configuration changes.";
    LeakMeshHeaders "leak-mesh-headers" "Sends mesh-internal headers to external services.";
    HostNotRewritten "host-not-rewritten" "Leaves Host as it came where it should be rewritten.";
    DropUnknownHeaders "drop-unknown-headers" "Loses headers of requests that no document defines.";
    OneValuePerHeader "one-value-per-header" "Keeps the last value of a header that comes several times.";
    AuthorityWithPort "authority-with-port" "Appends the port to Host.";
    ForwardedProtoHttp "forwarded-proto-http" "Always says `X-Forwarded-Proto: http`.";
    DropQuery "drop-query" "Loses the query string.";
    NormalizePath "normalize-path" "Writes paths in lower case.";
    MethodToGet "method-to-get" "Turns every HEAD into a GET.";
    DropBody "drop-body" "Loses the request's body.";
    DropTrailers "drop-trailers" "Loses the response's trailers.";
    CutChunkedBody "cut-chunked-body" "Ends a response without a length after its first piece, as if that were all.";
    RefuseExpect "refuse-expect" "Answers 417 to a request that waits for 100 Continue.";
    Http2Upstream "http2-upstream" "Speaks HTTP/2 to every external service.";
    TruncateLargeBody "truncate-large-body" "Loses what exceeds 64 KiB of a response's body.";
    RefuseUpgrade "refuse-upgrade" "Does not pass a protocol upgrade on.";
    NoAccessLog "no-access-log" "Writes no access log.";
    LogTwice "log-twice" "Writes each access-log line twice.";
    LogWrongAuthority "log-wrong-authority" "Logs the upstream address in place of the authority.";
    LogWrongCluster "log-wrong-cluster" "Logs the cluster's host with port 80 whatever its port is.";
    LogPassthroughPath "log-passthrough-path" "Claims a method and a path for TLS that was passed through.";
    MostSpecificRoute "most-specific-route" "Prefers the longest matching prefix to the first matching route.";
    CatchAllDoesNotStop "catch-all-does-not-stop" "Considers routes that follow a catch-all before it.";
    PrefixAsExact "prefix-as-exact" "Treats a path prefix as the whole path.";
    ServeUnknownHost "serve-unknown-host" "Serves any Host at a gateway by the first virtual host.";
    ExportToIgnored "export-to-ignored" "Lets every namespace see resources that are exported to their own alone.";
    AllowAny "allow-any" "Ignores REGISTRY_ONLY.";
    LenientServer "lenient-server" "The external service demands no client certificate.";
    ServerOfAnotherCa "server-of-another-ca" "The external service demands client certificates of another CA.";
    KeepGateway "keep-gateway" "A gateway goes on listening and routing after its Gateway was deleted.";
    StaleConfiguration "stale-configuration" "Keeps deleted resources in force.";
}

impl fmt::Display for Saboteur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No saboteur has this name.
#[derive(Debug, thiserror::Error)]
#[error("no saboteur is named {name:?}{}", near_text(.near))]
pub struct UnknownSaboteur {
    /// What was asked for.
    pub name: String,
    /// The names nearest to it; may be empty.
    pub near: Vec<&'static str>,
}

fn near_text(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) }
}

impl FromStr for Saboteur {
    type Err = UnknownSaboteur;

    fn from_str(name: &str) -> Result<Self, UnknownSaboteur> {
        // Bounded before it is compared or repeated: it may come from anywhere.
        let name: String = name.chars().take(100).collect();
        if let Some(found) = Self::ALL.iter().find(|s| s.name() == name) {
            return Ok(*found);
        }
        let mut near: Vec<(f64, &'static str)> =
            Self::ALL.iter().map(|s| (strsim::jaro_winkler(&name, s.name()), s.name())).collect();
        near.retain(|(likeness, known)| *likeness > 0.8 || (name.len() > 2 && known.contains(&name)));
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        Err(UnknownSaboteur { name, near: near.into_iter().take(3).map(|(_, n)| n).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_unique_kebab_case_and_parses_to_its_saboteur() {
        let mut names = std::collections::BTreeSet::new();
        for s in Saboteur::ALL {
            assert!(names.insert(s.name()), "{s} twice");
            assert!(
                s.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{s}"
            );
            assert_eq!(s.name().parse::<Saboteur>().unwrap(), *s);
            assert!(s.description().ends_with('.') && !s.description().contains('\n'), "{s}");
        }
    }

    #[test]
    fn unknown_name_is_refused_with_the_names_near_it() {
        let error = "ignore-certifcate".parse::<Saboteur>().unwrap_err();
        assert_eq!(error.near.first(), Some(&"ignore-certificate"));
        assert!(error.to_string().contains("near it: ignore-certificate"), "{error}");
        assert_eq!("zzz".parse::<Saboteur>().unwrap_err().to_string(), "no saboteur is named \"zzz\"");
    }
}
