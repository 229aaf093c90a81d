//! Every field of the API that changes what leaves a proxy has a check. The fields are those of Istio's own schema.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;

use meshproof_scenarios::ALL;

/// A field of the API.
struct Field {
    name: &'static str,
    /// The checks that see what it does.
    checks: &'static [&'static str],
    /// Why there is none.
    why_none: &'static str,
}

const fn seen(name: &'static str, checks: &'static [&'static str]) -> Field {
    Field { name, checks, why_none: "" }
}

const fn unseen(name: &'static str, why_none: &'static str) -> Field {
    Field { name, checks: &[], why_none }
}

/// DestinationRule `spec.trafficPolicy.tls` (manifests/charts/base/files/crd-all.gen.yaml in istio/istio, 1.32-dev).
const CLIENT_TLS_SETTINGS: &str = "caCertificates caCrl clientCertificate credentialName insecureSkipVerify mode privateKey sni \
                                   subjectAltNames";
/// DestinationRule `spec.trafficPolicy.connectionPool.http`, likewise.
const HTTP_SETTINGS: &str = "h2UpgradePolicy http1MaxPendingRequests http2KeepAlive http2MaxRequests idleTimeout \
                             maxConcurrentStreams maxRequestsPerConnection maxRetries useClientProtocol";

const TLS: &[Field] = &[
    seen(
        "mode",
        &["sidecar-origination/one-upstream-request", "tls-verification/client-certificate-as-configured"],
    ),
    seen(
        "clientCertificate",
        &["certificate-chains/certificates-from-files", "certificate-chains/files-replaced"],
    ),
    seen("privateKey", &["certificate-chains/certificates-from-files", "certificate-chains/files-replaced"]),
    seen(
        "caCertificates",
        &["certificate-chains/certificates-from-files", "certificate-chains/files-replaced"],
    ),
    seen("caCrl", &["certificate-chains/list-from-file"]),
    seen(
        "credentialName",
        &["credentials/missing-credential-refused", "policy-isolation/missing-ca-not-replaced"],
    ),
    seen(
        "subjectAltNames",
        &["egress-gateway-mutual/san-mismatch-refused", "tcp-origination/wrong-name-refused"],
    ),
    seen("sni", &["egress-gateway-mutual/sni-as-configured", "tcp-origination/sni-as-configured"]),
    seen("insecureSkipVerify", &["tls-verification/verification-can-be-disabled"]),
];

const HTTP: &[Field] = &[
    seen("h2UpgradePolicy", &["traffic-fidelity/http2-origin"]),
    seen("useClientProtocol", &["traffic-fidelity/client-protocol"]),
    unseen("http1MaxPendingRequests", "it refuses requests under overload and changes none that leaves"),
    unseen("http2MaxRequests", "it refuses requests under overload and changes none that leaves"),
    unseen("maxRetries", "it limits how many retries are outstanding at a time and changes none that leaves"),
    unseen("idleTimeout", "it closes connections on which nothing is sent"),
    unseen("http2KeepAlive", "its PING frames are answered below what a server records"),
    unseen("maxConcurrentStreams", "the plan says that it does not support it yet"),
    unseen("maxRequestsPerConnection", "the plan says that it does not support it yet"),
];

#[test]
fn every_field_of_the_api_is_in_the_list_and_no_other() {
    for (listed, api) in [(TLS, CLIENT_TLS_SETTINGS), (HTTP, HTTP_SETTINGS)] {
        let listed: BTreeSet<&str> = listed.iter().map(|field| field.name).collect();
        assert_eq!(listed, api.split_whitespace().collect());
    }
}

#[test]
fn every_field_has_a_check_that_exists_or_a_reason() {
    let known: BTreeSet<String> =
        ALL.iter().flat_map(|s| s.catalogue.checks.iter().map(|check| s.catalogue.check_id(check))).collect();
    for field in TLS.iter().chain(HTTP) {
        assert_ne!(field.checks.is_empty(), field.why_none.is_empty(), "{}", field.name);
        for check in field.checks {
            assert!(known.contains(*check), "{}: {check}", field.name);
        }
    }
}

/// A check sees a field only if its scenario sets it.
#[test]
fn every_field_with_a_check_is_set_in_a_manifest_of_the_checks_scenario() {
    for field in TLS.iter().chain(HTTP) {
        for check in field.checks {
            let scenario = check.split('/').next().unwrap();
            let scenario = ALL.iter().find(|s| s.id() == scenario).unwrap();
            let mut manifests = scenario.fixtures.manifests();
            let is_set = manifests.any(|(_, yaml)| yaml.contains(&format!("{}:", field.name)));
            assert!(is_set, "{} in {}", field.name, scenario.id());
        }
    }
}
