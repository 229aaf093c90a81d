//! What an implementation may declare that it can do. A scenario or a check that needs what is not declared is skipped and
//! says which feature is missing; what is declared and then not done is a failure. A feature is never inferred from a
//! failure.

/// Name, and what whoever declares it can do. Scenarios and checks use no other name; a test holds them to it.
pub const KNOWN: &[(&str, &str)] = &[
    ("sidecar", "runs a proxy beside an application, which captures what the application sends"),
    ("egress-gateway", "runs a proxy through which requests leave the mesh"),
    (
        "ingress-gateway",
        "runs a proxy through which requests enter the mesh, and routes them by host and path",
    ),
    (
        "mesh-mtls",
        "speaks mutual TLS between its own proxies (ISTIO_MUTUAL), and demands it where the plan does",
    ),
    ("mutual-origination", "shows a client certificate from a credential when it opens TLS"),
    (
        "san-validation",
        "holds the server's certificate against configured names that differ from the server name sent",
    ),
    ("tls-passthrough", "passes an application's own TLS on by its server name, without ending it"),
    ("registry-only", "refuses hosts that are not registered (outbound policy REGISTRY_ONLY)"),
    (
        "reconfigure-without-restart",
        "takes up a changed configuration while it runs, and loses no request over it",
    ),
    (
        "http2",
        "speaks HTTP/2 to servers where a DestinationRule says so, and to applications with prior knowledge",
    ),
    ("web-socket", "passes a WebSocket handshake on, and the messages that follow it"),
    (
        "access-log",
        "writes a line a request, and a line a connection that it passes on, in a format that the suite reads",
    ),
    ("upstream-local-address", "shows in its access log its own end of the connection to the server"),
    ("credential-status", "tells which credentials it holds, and their serial numbers"),
];

/// The names alone.
pub const NAMES: &[&str] = &{
    let mut names = [""; KNOWN.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = KNOWN[i].0;
        i += 1;
    }
    names
};

/// The first of `needed` that is not among `declared`.
#[must_use]
pub fn missing(needed: impl IntoIterator<Item = &'static str>, declared: &[String]) -> Option<&'static str> {
    needed.into_iter().find(|n| !declared.iter().any(|d| d == n))
}

/// What a skipped check says.
#[must_use]
pub fn why_skipped(feature: &str) -> String {
    format!("the implementation does not declare the feature {feature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_feature_that_is_not_declared_is_the_missing_one() {
        let declared = ["sidecar".to_owned(), "access-log".to_owned()];
        assert_eq!(missing(["sidecar", "tls-passthrough", "mesh-mtls"], &declared), Some("tls-passthrough"));
        assert_eq!(missing(["sidecar", "access-log"], &declared), None);
        assert_eq!(missing([], &declared), None);
    }

    #[test]
    fn no_feature_is_there_twice() {
        let different: std::collections::BTreeSet<&str> = NAMES.iter().copied().collect();
        assert_eq!(different.len(), NAMES.len());
    }
}
