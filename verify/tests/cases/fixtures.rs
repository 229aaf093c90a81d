//! The manifests of the documents: correct ones get no finding.

use std::path::Path;

use super::{found, said, verified};

/// Files of `fixtures/` that are in force together, and the codes that are right for them.
const SETS: &[(&[&str], &[&str])] = &[
    (&["sidecar-origination/port-rewrite-access", "sidecar-origination/port-rewrite-originate"], &[]),
    (&["sidecar-origination/target-port-access", "sidecar-origination/target-port-originate"], &[]),
    (
        &["egress-gateway-simple/access", "egress-gateway-simple/gateway", "egress-gateway-simple/originate"],
        &[],
    ),
    (
        &["egress-gateway-mutual/gateway", "egress-gateway-mutual/route", "egress-gateway-mutual/originate"],
        &[],
    ),
    (
        &[
            "egress-gateway-mutual/gateway",
            "egress-gateway-mutual/route",
            "egress-gateway-mutual/originate-san-match",
        ],
        &[],
    ),
    (
        &[
            "egress-gateway-mutual/gateway",
            "egress-gateway-mutual/route",
            "egress-gateway-mutual/originate-another-sni",
        ],
        &[],
    ),
    (&["external-web-service/access", "external-web-service/originate"], &[]),
    (&["external-web-service/route-by-server-name"], &[]),
    (
        &[
            "path-based-routing/bucket",
            "path-based-routing/gateway",
            "path-based-routing/routes",
            "path-based-routing/originate",
        ],
        &[],
    ),
    // The documents' catch-all comes first.
    (
        &[
            "path-based-routing/bucket",
            "path-based-routing/gateway",
            "path-based-routing/routes-as-printed",
            "path-based-routing/originate",
        ],
        &["MP0009", "MP0009"],
    ),
    (&["origination-scope/access", "origination-scope/port-level"], &[]),
    (&["origination-scope/access", "origination-scope/two-rules"], &[]),
    // Port 443 is HTTPS, and the TLS of all ports holds for it too.
    (&["origination-scope/access", "origination-scope/one-port-alone"], &["MP0002"]),
    // Deliberately so.
    (&["origination-scope/access", "origination-scope/double-tls"], &["MP0003"]),
    (&["tls-verification/servers", "tls-verification/originate"], &[]),
    (&["tls-verification/servers", "tls-verification/originate-unverified"], &["MP0015"]),
    (
        &[
            "tls-verification/servers",
            "tls-verification/originate",
            "tls-verification/ingress-gateway",
            "tls-verification/routes-at-gateway",
        ],
        &[],
    ),
    (&["tls-verification/servers", "tls-verification/mutual-at-sidecar"], &[]),
    (
        &[
            "tls-verification/servers",
            "tls-verification/mutual-at-gateway",
            "tls-verification/ingress-gateway",
            "tls-verification/routes-at-gateway",
        ],
        &[],
    ),
    (&["generated-traffic/origins", "generated-traffic/sidecar"], &[]),
    (&["generated-traffic/origins", "generated-traffic/egress-gateway"], &[]),
    (&["generated-traffic/origins", "generated-traffic/ingress-gateway"], &[]),
    (
        &[
            "credentials/partner",
            "credentials/ingress-gateway",
            "credentials/route-at-gateway",
            "credentials/originate-at-gateway",
        ],
        &[],
    ),
    (&["credentials/partner", "credentials/originate-at-sidecar"], &[]),
];

#[test]
fn the_documents_manifests_get_no_finding_that_is_wrong() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let mut wrong = String::new();
    for (names, expected) in SETS {
        let texts: Vec<(String, String)> = names
            .iter()
            .map(|n| {
                let path = fixtures.join(format!("{n}.yaml"));
                (format!("{n}.yaml"), std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{n}: {e}")))
            })
            .collect();
        let files: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let verified = verified(&files);
        let codes: Vec<String> = found(&verified).into_iter().map(|(code, _)| code).collect();
        if codes != *expected {
            wrong
                .push_str(&format!("{names:?}: expected {expected:?}, found {codes:?}\n{}", said(&verified)));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The third document as it is printed: its VirtualService has no hosts, and its catch-all comes first.
#[test]
fn the_bucket_document_as_printed_gets_its_findings() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/path-based-routing");
    let read = |name: &str| std::fs::read_to_string(fixtures.join(name)).unwrap();
    let printed = read("routes-as-printed.yaml").replace("  hosts:\n    - example.com\n", "");
    let files = [
        ("bucket", read("bucket.yaml")),
        ("gateway", read("gateway.yaml")),
        ("routes", printed),
        ("originate", read("originate.yaml")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let verified = verified(&files);
    let codes: Vec<String> = found(&verified).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["MP0020", "MP0009", "MP0009"], "{}", said(&verified));
}
