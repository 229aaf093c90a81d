//! The kinds of findings. A code is never reused; `docs/findings/` has a page for each.

use meshproof_model::verification::Severity;

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// `MP0001`.
    pub code: &'static str,
    /// `credential-without-selector`.
    pub name: &'static str,
    /// How much it matters, unless the finding says otherwise.
    pub severity: Severity,
    /// What it is, in one line.
    pub title: &'static str,
}

macro_rules! codes {
    ($($constant:ident $code:literal $name:literal $severity:ident $title:literal;)*) => {
        $(pub(crate) const $constant: Code =
            Code { code: $code, name: $name, severity: Severity::$severity, title: $title };)*
        /// All kinds, by code.
        pub const ALL: &[Code] = &[$($constant),*];
    };
}

codes! {
    CREDENTIAL_WITHOUT_SELECTOR "MP0001" "credential-without-selector" Error
        "credentialName has no effect at sidecars in a rule without workloadSelector";
    DOUBLE_TLS "MP0002" "double-tls" Error
        "A rule opens TLS around TLS that clients have opened already";
    PORT_WITHOUT_TLS "MP0003" "settings-for-another-port" Error
        "TLS settings are for a port that no request uses";
    MISSING_TARGET_PORT "MP0004" "missing-target-port" Error
        "TLS goes to a port that serves plain HTTP";
    RULE_NOT_VISIBLE "MP0005" "rule-not-visible" Error
        "A DestinationRule does not reach the proxy that needs it";
    ENTRY_NOT_VISIBLE "MP0006" "entry-not-visible" Error
        "A ServiceEntry or Service does not reach the proxy that needs it";
    SECRET_NOT_READABLE "MP0007" "secret-not-readable" Error
        "A Secret is not in the namespace of the proxy, or lacks a key";
    MISSING_AUTHORITY_REWRITE "MP0008" "missing-authority-rewrite" Error
        "A request goes to another host with the first host's name";
    UNREACHABLE_ROUTE "MP0009" "unreachable-route" Error
        "An earlier route takes every request of a route";
    HOP_REFUSED "MP0010" "hop-without-server" Error
        "No server of the gateway takes the server name of the hop";
    DESTINATION_WITHOUT_SERVICE "MP0011" "destination-without-service" Error
        "A route leads to a host or port that no service has";
    SUBSET_WITHOUT_CLUSTER "MP0012" "subset-without-cluster" Error
        "A route leads to a subset that does not exist";
    ENTRIES_NOT_MERGED "MP0013" "entries-not-merged" Error
        "ServiceEntries of one host are not merged, and ports are lost";
    NAMES_NOT_CHECKED "MP0014" "names-not-checked" Warning
        "An explicit sni turns off the check of the certificate's name";
    CERTIFICATE_NOT_CHECKED "MP0015" "certificate-not-checked" Warning
        "insecureSkipVerify accepts any certificate";
    NO_LISTENER "MP0016" "no-listener" Error
        "A route has no effect, because its port has no HTTP listener";
    SWALLOWED_BY_TCP "MP0017" "swallowed-by-tcp" Error
        "A TCP service without address takes the connections of another";
    NO_ENDPOINT "MP0018" "no-endpoint" Error
        "A cluster has no endpoint, such as a wildcard host at an egress gateway";
    HTTPS_PORT_DECLARED_HTTP "MP0019" "https-port-declared-http" Error
        "Port 443 is declared HTTP, and clients' own HTTPS is refused";
    VIRTUAL_SERVICE_WITHOUT_HOSTS "MP0020" "virtual-service-without-hosts" Error
        "A VirtualService has no hosts";
    GATEWAY_PORT_WITHOUT_SERVICE "MP0021" "gateway-port-without-service" Error
        "A Gateway has a server on a port that its Service lacks";
    PAST_THE_GATEWAY "MP0022" "past-the-gateway" Warning
        "Requests can leave past the egress gateway";
    PLAIN_TEXT_BESIDE "MP0023" "plain-text-beside-the-rule" Warning
        "Plain HTTP to the same host leaves the mesh beside the rule";
    REFUSED "MP0024" "refused-by-istio" Error
        "Istio refuses a resource";
    HOP_OF_OTHER_TLS "MP0025" "hop-of-another-kind" Error
        "The gateway expects another kind of TLS than the hop brings";
    MESH_TLS_OUTSIDE "MP0026" "mesh-tls-outside" Error
        "Mutual TLS of the mesh goes to a server outside the mesh";
    ROUTES_NOT_VISIBLE "MP0027" "routes-not-visible" Error
        "A VirtualService does not reach the proxy that it is for";
    RULE_SHADOWED "MP0028" "rule-shadowed" Error
        "An older DestinationRule of the same host keeps a rule from having an effect";
    PLAIN_TEXT_TO_TLS "MP0029" "plain-text-to-tls-port" Error
        "Plain HTTP arrives at a port that expects TLS";
    PORT_SETTINGS_WITHOUT_TLS "MP0030" "port-settings-without-tls" Error
        "Settings for a port replace the rule's TLS and have none of their own";
    RULE_FOR_UNKNOWN_HOST "MP0031" "rule-for-another-host" Error
        "A DestinationRule is for a host that no service has";
    DELEGATE_NOT_FOUND "MP0032" "delegate-not-found" Error
        "A route delegates to a VirtualService that does not exist";
    GATEWAY_WITHOUT_SERVER "MP0033" "gateway-without-server" Error
        "A route leads to a port of a gateway that no Gateway serves";
    ROUTE_IN_A_CIRCLE "MP0034" "route-in-a-circle" Error
        "A gateway sends a request to itself";
    NOT_SUPPORTED "MP0101" "not-looked-at" Note
        "meshproof does not look at this yet";
    SECRET_NOT_IN_FILES "MP0102" "secret-not-in-files" Note
        "A credential's Secret is not among the files";
    RBAC_FOR_CREDENTIAL "MP0103" "rbac-for-credential" Note
        "A sidecar needs permission to read the Secret";
    OLDER_ROUTE_FIRST "MP0104" "older-route-first" Note
        "A route of an older VirtualService comes first";
    OWN_TLS_IN_TLS "MP0105" "own-tls-in-tls" Note
        "Clients that open TLS themselves get a second layer";
    OWN_TLS_PASSES_BY "MP0106" "own-tls-passes-by" Note
        "Clients' own HTTPS passes by a port that is declared HTTP";
    ISTIO_WARNS "MP0107" "istio-warns" Note
        "Istio warns of a resource";
    CHAIN_ALONE_CHECKED "MP0108" "chain-alone-checked" Note
        "The server's certificate is checked without its name";
    NO_RULE "MP0109" "no-rule-in-files" Note
        "Plain HTTP goes to a TLS port, and no rule for the host is among the files";
    OVERWRITTEN "MP0110" "written-twice" Note
        "A resource is written twice";
    NOT_IN_FILES "MP0111" "not-in-files" Note
        "Something that a resource refers to is not among the files";
    OWN_TLS_PAST_GATEWAY "MP0112" "own-tls-past-the-gateway" Note
        "Clients' own HTTPS goes past the egress gateway";
}

/// The kind of this code or name.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|c| c.code == code || c.name == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_notes_begin_at_mp0101() {
        for (i, one) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|o| o.code < one.code && o.name != one.name), "{}", one.code);
            assert_eq!(one.severity == Severity::Note, one.code > "MP0100", "{}", one.code);
        }
    }
}
