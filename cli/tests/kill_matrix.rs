//! Every check can fail, and every saboteur is noticed, by the checks that must notice it.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;

use meshproof::kill_matrix::KillMatrix;
use meshproof::sabotage::{Scope, compute};
use meshproof::suite::Suite;
use meshproof_harness::catalogue::Catalogue;
use meshproof_reference::Variant;
use meshproof_scenarios::ALL;

/// For each saboteur, checks that must notice it. More checks can notice it: those that depend on a broken step.
const MUST_NOTICE: &[(&str, &[&str])] = &[
    (
        "plaintext-upstream",
        &["sidecar-origination/no-plaintext-leak", "egress-gateway-simple/one-upstream-request"],
    ),
    ("fall-back-to-plaintext", &["tls-verification/unknown-ca-refused"]),
    ("no-sni", &["sidecar-origination/sni-is-host", "egress-gateway-mutual/sni-as-configured"]),
    ("wrong-sni", &["sidecar-origination/sni-is-host", "external-web-service/sni-is-host"]),
    ("ignore-certificate", &["tls-verification/unknown-ca-refused", "tls-verification/self-signed-refused"]),
    ("verify-once", &["tls-verification/unknown-ca-refused", "tls-verification/wrong-host-refused"]),
    ("last-rule-wins", &["origination-scope/second-destination-rule"]),
    ("ignore-sans", &["egress-gateway-mutual/san-mismatch-refused"]),
    ("no-client-certificate", &["egress-gateway-mutual/client-certificate-presented"]),
    ("other-client-certificate", &["egress-gateway-mutual/client-certificate-presented"]),
    ("credential-from-any-namespace", &["egress-gateway-mutual/credential-in-wrong-namespace"]),
    (
        "stale-credential",
        &["credentials/credential-rotation", "egress-gateway-mutual/untrusted-client-refused"],
    ),
    (
        "originate-at-sidecar",
        &["egress-gateway-simple/originated-by-gateway", "egress-gateway-simple/gateway-access-log"],
    ),
    ("bypass-when-gateway-down", &["egress-gateway-simple/no-bypass"]),
    ("no-mutual-tls-to-gateway", &["egress-gateway-simple/hop-to-gateway-is-mutual-tls"]),
    ("gateway-accepts-anonymous", &["egress-gateway-simple/hop-to-gateway-is-mutual-tls"]),
    ("terminate-application-tls", &["sidecar-origination/https-end-to-end-before-origination"]),
    ("follow-redirect", &["sidecar-origination/redirect-before-origination"]),
    ("send-twice", &["sidecar-origination/one-upstream-request"]),
    ("probe-plain-port", &["sidecar-origination/no-plaintext-leak"]),
    (
        "no-access-log",
        &["sidecar-origination/sidecar-access-log", "egress-gateway-simple/gateway-access-log"],
    ),
    ("log-twice", &["sidecar-origination/sidecar-access-log"]),
    ("log-wrong-authority", &["sidecar-origination/sidecar-access-log"]),
    ("log-passthrough-path", &["external-web-service/only-sni-visible"]),
    ("most-specific-route", &["path-based-routing/catch-all-first"]),
    ("prefix-as-exact", &["path-based-routing/prefix-boundaries"]),
    ("host-not-rewritten", &["path-based-routing/host-rewritten"]),
    ("forwarded-proto-http", &["path-based-routing/forwarded-proto"]),
    ("export-to-ignored", &["path-based-routing/export-confined"]),
    ("allow-any", &["external-web-service/blocked-by-default"]),
    (
        "stale-configuration",
        &["sidecar-origination/cleanup-restores", "external-web-service/cleanup-restores"],
    ),
    ("mesh-alpn", &["tls-verification/external-alpn"]),
    ("handshake-per-request", &["traffic-fidelity/connection-reuse"]),
    ("drop-in-flight-on-change", &["traffic-fidelity/hitless-origination"]),
    ("leak-mesh-headers", &["traffic-fidelity/header-hygiene"]),
    (
        "authority-with-port",
        &["sidecar-origination/host-and-path-preserved", "traffic-fidelity/request-body-preserved"],
    ),
    (
        "normalize-path",
        &["sidecar-origination/host-and-path-preserved", "traffic-fidelity/request-body-preserved"],
    ),
    ("method-to-get", &["egress-gateway-simple/host-and-path-preserved", "traffic-fidelity/head-and-204"]),
    ("drop-body", &["traffic-fidelity/request-body-preserved", "traffic-fidelity/expect-continue"]),
    ("refuse-expect", &["traffic-fidelity/expect-continue"]),
    ("drop-trailers", &["traffic-fidelity/response-trailers"]),
    ("truncate-large-body", &["traffic-fidelity/large-body"]),
    ("cut-chunked-body", &["traffic-fidelity/chunked-body"]),
    ("refuse-upgrade", &["traffic-fidelity/websocket-upgrade"]),
    ("no-http2-upstream", &["traffic-fidelity/http2-origin"]),
    ("http2-upstream", &["traffic-fidelity/http1-only-origin"]),
    ("outage-while-rotating", &["credentials/rotation-under-load"]),
    ("keep-gateway", &["egress-gateway-simple/cleanup-restores", "path-based-routing/cleanup-restores"]),
    ("inbound-accepts-any-client", &["external-web-service/independent-of-mesh-mtls"]),
    ("drop-unknown-headers", &["traffic-fidelity/request-headers-preserved"]),
    ("one-value-per-header", &["traffic-fidelity/request-headers-preserved"]),
    ("believe-any-mesh-peer", &["tls-verification/mesh-ca-required"]),
    ("ignore-certificate@egress-gateway", EVERY_VERIFICATION),
    ("ignore-certificate@ingress-gateway", EVERY_VERIFICATION),
    (
        "verify-three-times@sidecar",
        &["tls-verification/unknown-ca-refused", "tls-verification/wrong-host-refused"],
    ),
    (
        "verify-three-times@egress-gateway",
        &["tls-verification/unknown-ca-refused", "tls-verification/wrong-host-refused"],
    ),
    (
        "verify-three-times@ingress-gateway",
        &["tls-verification/unknown-ca-refused", "tls-verification/wrong-host-refused"],
    ),
    ("ignore-sans@egress-gateway", &["tls-verification/wrong-host-refused"]),
    ("ignore-sans@ingress-gateway", &["tls-verification/wrong-host-refused"]),
    (
        "system-roots-beside-credential@egress-gateway",
        &["tls-verification/configured-ca-replaces-system-roots"],
    ),
    (
        "system-roots-beside-credential@ingress-gateway",
        &["tls-verification/configured-ca-replaces-system-roots"],
    ),
    ("system-roots-beside-credential@sidecar", &["tls-verification/configured-ca-replaces-system-roots"]),
    ("mesh-certificate-for-strangers@sidecar", &["tls-verification/client-certificate-as-configured"]),
    ("mesh-certificate-for-strangers@egress-gateway", &["tls-verification/client-certificate-as-configured"]),
    (
        "mesh-certificate-for-strangers@ingress-gateway",
        &["tls-verification/client-certificate-as-configured"],
    ),
    ("offer-old-tls@sidecar", &["tls-verification/tls-version-floor"]),
    ("offer-old-tls@egress-gateway", &["tls-verification/tls-version-floor"]),
    ("offer-old-tls@ingress-gateway", &["tls-verification/tls-version-floor"]),
    (
        "any-mesh-identity",
        &["egress-gateway-access/gateway-identity-verified", "egress-gateway-access/peer-identity-verified"],
    ),
    ("system-roots-for-mesh-peers", &["egress-gateway-access/system-roots-not-mesh-roots"]),
    ("gateway-trusts-system-roots", &["egress-gateway-access/system-roots-not-mesh-roots"]),
    ("gateway-accepts-expired-identity", &["egress-gateway-access/expired-identity-refused"]),
    (
        "gateway-takes-any-server-name",
        &[
            "egress-gateway-access/other-server-names-refused",
            "gateway-termination/other-server-names-refused",
        ],
    ),
    ("no-https-redirect", &["gateway-termination/plain-requests-redirected"]),
    ("gateway-with-mesh-certificate", &["gateway-termination/own-certificate-presented"]),
    ("gateway-asks-no-client", &["gateway-termination/clients-verified"]),
    ("gateway-takes-any-client", &["gateway-termination/clients-verified"]),
    ("gateway-takes-any-optional-client", &["gateway-termination/optional-clients-verified"]),
    ("gateway-serves-revoked-clients", &["gateway-termination/revoked-clients-refused"]),
    ("gateway-ignores-client-names", &["gateway-termination/client-names-verified"]),
    ("gateway-as-open-proxy@egress-gateway", &["egress-gateway-access/other-hosts-not-served"]),
    ("gateway-as-open-proxy@ingress-gateway", &["path-based-routing/unknown-host-not-served"]),
    ("serve-unknown-host@egress-gateway", &["egress-gateway-access/other-hosts-not-served"]),
    ("drop-authorization", &["generated-traffic/exchanges-preserved"]),
    ("drop-cookie", &["generated-traffic/exchanges-preserved"]),
    ("drop-empty-headers", &["generated-traffic/exchanges-preserved"]),
    ("drop-underscore-headers", &["generated-traffic/exchanges-preserved"]),
    ("drop-conditions", &["generated-traffic/exchanges-preserved"]),
    ("decode-slashes", &["generated-traffic/exchanges-preserved"]),
    ("merge-slashes", &["generated-traffic/exchanges-preserved"]),
    ("drop-empty-query", &["generated-traffic/exchanges-preserved"]),
    ("unknown-method-to-post", &["generated-traffic/exchanges-preserved"]),
    ("merge-set-cookie", &["generated-traffic/exchanges-preserved"]),
    ("drop-etag", &["generated-traffic/exchanges-preserved"]),
    ("location-to-http", &["generated-traffic/exchanges-preserved"]),
    ("hide-authentication", &["generated-traffic/exchanges-preserved"]),
    ("server-errors-as-502", &["generated-traffic/exchanges-preserved"]),
    ("cross-answers", &["generated-traffic/exchanges-preserved"]),
    ("collect-answers", &["generated-traffic/events-streamed"]),
    ("hide-breaks", &["generated-traffic/truncation-visible"]),
    ("cross-streams", &["generated-traffic/exchanges-preserved"]),
    ("alter-request-trailers", &["generated-traffic/exchanges-preserved"]),
    ("hints-as-headers", &["generated-traffic/interim-answer-passed-over"]),
    ("wait-for-clients-bytes", &["tcp-origination/server-speaks-first"]),
    ("end-with-client", &["tcp-origination/client-ends-first"]),
    ("end-with-server", &["tcp-origination/server-ends-first"]),
    ("cut-long-streams", &["tcp-origination/large-transfer"]),
    ("swallow-nul-bytes", &["tcp-origination/client-speaks-first"]),
    ("bytes-in-clear", &["tcp-origination/no-plaintext-leak"]),
    ("first-database", &["tcp-origination/same-port-by-address", "tcp-origination/tcp-route"]),
    ("miscount-bytes", &["tcp-origination/tcp-access-log"]),
    ("swallow-resets", &["traffic-fidelity/grpc-cancellation"]),
    ("remove-te", &["traffic-fidelity/grpc-unary"]),
    ("shorten-deadlines", &["traffic-fidelity/grpc-deadline"]),
    ("first-endpoint", &["service-entries/every-endpoint-used", "service-entries/dual-stack"]),
    ("no-ipv6", &["service-entries/ipv6-endpoint"]),
    ("credentials-of-another-proxy", &["service-entries/second-egress-gateway"]),
    ("ignore-delegates", &["service-entries/delegate-route"]),
    ("ignore-sidecars", &["service-entries/sidecar-egress-hosts"]),
    ("close-quiet-web-sockets", &["generated-traffic/exchanges-preserved"]),
    ("server-name-of-first-site", &["generated-traffic/exchanges-preserved"]),
    ("impatient-heads", &["generated-traffic/exchanges-preserved"]),
    ("answer-old-clients", &["generated-traffic/exchanges-preserved"]),
    ("post-twice", &["generated-traffic/exchanges-preserved"]),
    ("cut-long-uploads", &["generated-traffic/exchanges-preserved"]),
    ("end-streams-together", &["generated-traffic/exchanges-preserved"]),
    ("keep-divided-cookies", &["generated-traffic/exchanges-preserved"]),
    ("lose-pipelined-requests", &["generated-traffic/exchanges-preserved"]),
    ("log-no-flags-of-failures", &["generated-traffic/exchanges-preserved"]),
    ("log-no-broken-answers", &["generated-traffic/truncation-visible"]),
    ("drop-grpc-encoding", &["traffic-fidelity/every-request-accounted-for"]),
    ("pass-h2c-upgrade", &["generated-traffic/connection-fields-removed"]),
    ("wildcard-takes-apex", &["generated-traffic/exchanges-preserved"]),
    ("borrow-missing-secret", &["service-entries/second-egress-gateway"]),
    ("host-from-subject-alt-names", &["certificate-chains/every-request-accounted-for"]),
    ("forget-recreated-hosts", &["origination-scope/recreated-resources-apply"]),
    ("forget-recreated-rules", &["origination-scope/recreated-resources-apply"]),
    ("gateway-accepts-server-certificates", &["egress-gateway-access/client-auth-eku-required"]),
    ("pass-connection-fields", &["generated-traffic/connection-fields-removed"]),
    ("pass-keep-alive", &["generated-traffic/connection-fields-removed"]),
    ("drop-via", &["generated-traffic/exchanges-preserved"]),
    ("drop-content-of-get", &["generated-traffic/exchanges-preserved"]),
    ("log-no-duration", &["generated-traffic/exchanges-preserved"]),
    ("log-duration-in-seconds", &["generated-traffic/exchanges-preserved"]),
    ("log-other-request-id", &["generated-traffic/exchanges-preserved"]),
    ("log-no-request-id-for-some", &["generated-traffic/exchanges-preserved"]),
    ("ignore-response-edits", &["generated-traffic/exchanges-preserved"]),
    ("ignore-edits-of-destinations", &["generated-traffic/every-request-accounted-for"]),
    ("add-as-set", &["generated-traffic/exchanges-preserved"]),
    ("remove-nothing", &["generated-traffic/exchanges-preserved"]),
    ("wildcard-before-exact", &["generated-traffic/exchanges-preserved"]),
    ("shortest-wildcard", &["generated-traffic/exchanges-preserved"]),
    ("verify-forty-times", &["generated-traffic/verified-after-silence"]),
    ("verify-until-a-failure", &["generated-traffic/verified-after-silence"]),
    ("equal-weights", &["generated-traffic/weights-respected"]),
    ("gateway-serves-hosts-of-other-servers", &["gateway-termination/hosts-of-other-servers-not-served"]),
    ("ignore-header-conditions", &["generated-traffic/routes-matched"]),
    ("ignore-query-conditions", &["generated-traffic/routes-matched"]),
    ("verify-for-reading-alone", &["generated-traffic/verified-whatever-is-asked"]),
    ("verify-while-busy", &["generated-traffic/verified-after-silence"]),
    ("impatient-with-servers", &["generated-traffic/silence-kept"]),
    ("close-silent-web-sockets", &["generated-traffic/silence-kept"]),
    ("ignore-timeouts", &["generated-traffic/timeout-respected"]),
    ("first-destination-alone", &["generated-traffic/weights-respected"]),
    ("common-name-without-dns-names", &["certificate-chains/common-name-does-not-count"]),
    ("resume-unverified-sessions", &["tls-verification/verification-can-be-disabled"]),
    ("resume-sessions-of-another-identity", &["policy-isolation/connections-per-policy"]),
    ("copy-in-plain-text", &["sidecar-origination/every-request-accounted-for"]),
    ("log-wrong-status", &["sidecar-origination/every-request-accounted-for"]),
    ("log-wrong-method", &["sidecar-origination/every-request-accounted-for"]),
    ("log-head-bytes", &["sidecar-origination/every-request-accounted-for"]),
    ("log-wrong-source", &["sidecar-origination/every-request-accounted-for"]),
    ("log-for-gateway", &["sidecar-origination/every-request-accounted-for"]),
    ("grace-after-expiry", &["certificate-chains/expired-by-minutes-refused"]),
    ("grace-before-start", &["certificate-chains/early-by-minutes-refused"]),
    (
        "ignore-intermediates",
        &["certificate-chains/chain-with-intermediates", "certificate-chains/cross-signed-root"],
    ),
    ("strict-order", &["certificate-chains/chain-in-any-order"]),
    ("system-roots-as-well", &["certificate-chains/system-roots-replaced"]),
    ("mesh-roots-as-well", &["certificate-chains/mesh-root-inside-only"]),
    ("first-root-only", &["certificate-chains/every-root-counts"]),
    ("first-list-only", &["certificate-chains/revoked-leaf-refused"]),
    ("last-list-only", &["certificate-chains/revoked-leaf-refused", "certificate-chains/list-of-another-ca"]),
    ("client-leaf-only", &["certificate-chains/client-chain-sent"]),
    ("http2-unverified", &["certificate-chains/verified-over-http2"]),
    ("files-unverified", &["certificate-chains/certificates-from-files"]),
    ("files-read-once", &["certificate-chains/files-replaced"]),
    ("other-spelling-first", &["certificate-chains/secret-key-precedence"]),
    ("separate-ca-ignored", &["certificate-chains/separate-ca-secret-counts"]),
    ("opaque-secrets-only", &["certificate-chains/tls-type-secret"]),
    ("wide-wildcard", &["certificate-chains/wildcard-covers-one-label"]),
    ("suffix-names", &["certificate-chains/similar-name-refused"]),
    ("prefix-names", &["certificate-chains/similar-name-refused"]),
    ("common-name-fallback", &["certificate-chains/common-name-does-not-count"]),
    (
        "first-name-only",
        &[
            "certificate-chains/every-name-counts",
            "certificate-chains/wildcard-name",
            "certificate-chains/case-of-names-ignored",
        ],
    ),
    ("names-anywhere", &["certificate-chains/names-of-other-kinds"]),
    ("name-of-any-certificate", &["certificate-chains/only-the-leaf-counts"]),
    ("capitals-unverified", &["certificate-chains/upper-case-host-verified"]),
    ("rewritten-unverified", &["certificate-chains/verified-after-host-rewrite"]),
    ("client-certificate-for-every-host", &["policy-isolation/client-certificate-stays-with-its-host"]),
    ("another-secret-for-missing", &["policy-isolation/missing-credential-not-replaced"]),
    ("mesh-certificate-for-missing-secret", &["policy-isolation/missing-credential-not-replaced"]),
    ("system-roots-for-missing-ca", &["policy-isolation/missing-ca-not-replaced"]),
    ("pool-across-policies", &["policy-isolation/connections-per-policy"]),
    ("pool-across-hosts", &["policy-isolation/connections-per-host"]),
    ("exact-match-as-prefix", &["policy-isolation/exact-path-match"]),
    ("match-decoded-paths", &["path-based-routing/prefix-boundaries"]),
    ("terminate-application-tls", &["policy-isolation/own-tls-preserved"]),
    ("drop-in-flight-on-change", &["policy-isolation/own-tls-survives-changes"]),
    ("answer-from-memory", &["traffic-fidelity/answers-not-reused"]),
    ("repeat-post", &["traffic-fidelity/post-not-repeated"]),
    ("failure-as-404", &["tls-verification/every-request-accounted-for"]),
    ("gateway-grows-careless", &["egress-gateway-access/strangers-refused-every-time"]),
    ("bypass-with-forged-log", &["egress-gateway-access/hop-reaches-the-gateway"]),
    ("keep-stopped-gateway", &["egress-gateway-access/stopped-gateway-refuses-connections"]),
    ("log-wrong-protocol", &["sidecar-origination/every-request-accounted-for"]),
    ("log-old-start-time", &["sidecar-origination/every-request-accounted-for"]),
    ("log-no-failures", &["sidecar-origination/every-request-accounted-for"]),
    ("log-failure-as-success", &["policy-isolation/every-request-accounted-for"]),
    ("log-swapped-bytes", &["sidecar-origination/every-request-accounted-for"]),
    ("log-other-authority", &["sidecar-origination/every-request-accounted-for"]),
    ("log-every-second-upstream", &["sidecar-origination/every-request-accounted-for"]),
    ("log-no-connection-bytes", &["sidecar-origination/every-request-accounted-for"]),
    ("another-content-type", &["sidecar-origination/response-headers-unchanged"]),
    (
        "plaintext-upstream",
        &[
            "sidecar-origination/clear-hop-to-the-sidecar",
            "sidecar-origination/http-to-port-443-originated",
            "sidecar-origination/own-https-on-http-port",
            "sidecar-origination/bystander-https",
            "sidecar-origination/duration",
            "egress-gateway-simple/own-https-beside-the-gateway",
            "egress-gateway-simple/plain-hop-to-gateway",
            "external-web-service/own-https-with-origination",
        ],
    ),
    (
        "stale-configuration",
        &[
            "sidecar-origination/origination-ends-with-the-service-entry",
            "external-web-service/first-cleanup-restores",
        ],
    ),
    (
        "originate-at-sidecar",
        &[
            "egress-gateway-simple/sidecar-access-log",
            "egress-gateway-mutual/sidecar-access-log",
            "egress-gateway-mutual/originated-by-gateway",
        ],
    ),
    (
        "log-without-request-id",
        &["egress-gateway-simple/gateway-log-values", "egress-gateway-simple/request-id-at-gateway"],
    ),
    ("keep-gateway", &["egress-gateway-simple/no-bypass-during-cleanup"]),
    (
        "bypass-when-gateway-down",
        &["egress-gateway-mutual/no-bypass", "egress-gateway-mutual/no-bypass-during-cleanup"],
    ),
    ("no-mutual-tls-to-gateway", &["egress-gateway-mutual/hop-to-gateway-is-mutual-tls"]),
    ("ignore-sans", &["egress-gateway-mutual/automatic-sni-and-san"]),
    ("block-unknown-destinations", &["external-web-service/allowed-by-todays-default"]),
    ("registry-only-blocks-services", &["external-web-service/other-services-unharmed"]),
    ("subsets-ignored", &["external-web-service/details-v2-serves-all"]),
    ("paths-ignored", &["external-web-service/one-api-allowed-by-path"]),
    ("strict-without-policy", &["external-web-service/independent-in-permissive-mode"]),
    ("allow-any", &["external-web-service/virtual-service-alone"]),
    ("terminate-application-tls", &["external-web-service/service-entry-alone"]),
    ("forwarded-for-replaced", &["path-based-routing/load-balancer-client-kept"]),
    ("normalize-path", &["path-based-routing/signed-request-untouched"]),
    ("export-to-ignored", &["path-based-routing/rule-confined"]),
    ("lenient-server", &["credentials/server-demands-certificate"]),
    ("other-client-certificate", &["credentials/credential-active", "credentials/welcome-page"]),
    ("no-access-log", &["credentials/originating-proxy-logs"]),
    ("credential-from-any-namespace", &["credentials/credential-in-wrong-namespace"]),
    (
        "stale-credential",
        &["credentials/untrusted-client-refused", "gateway-termination/replaced-certificate-presented"],
    ),
    ("selector-not-required", &["credentials/selector-required-at-sidecar"]),
];

/// The checks that notice a proxy which verifies no certificate.
const EVERY_VERIFICATION: &[&str] = &[
    "tls-verification/unknown-ca-refused",
    "tls-verification/self-signed-refused",
    "tls-verification/expired-certificate-refused",
    "tls-verification/not-yet-valid-refused",
    "tls-verification/wrong-host-refused",
    "tls-verification/server-auth-eku-required",
    "tls-verification/system-roots-by-default",
    "tls-verification/configured-ca-replaces-system-roots",
];

fn check_ids() -> BTreeSet<String> {
    let ids = |c: &'static Catalogue| c.checks.iter().map(|check| c.check_id(check));
    ALL.iter().flat_map(|s| ids(&s.catalogue)).collect()
}

#[test]
fn the_list_names_only_saboteurs_and_checks_that_exist() {
    let known = check_ids();
    for (saboteur, checks) in MUST_NOTICE {
        assert!(saboteur.parse::<Variant>().is_ok(), "{saboteur}");
        for check in *checks {
            assert!(known.contains(*check), "{check}");
        }
    }
}

/// Runs, for each saboteur, one scenario that detects it; with `MESHPROOF_BLESS`, every scenario.
#[tokio::test(flavor = "multi_thread")]
async fn every_check_notices_a_saboteur_and_every_saboteur_is_noticed_by_its_checks() {
    let (_sender, interrupt) = tokio::sync::watch::channel(None);
    let bless = std::env::var_os("MESHPROOF_BLESS").is_some();
    let benign = Variant::benign().filter(|_| bless);
    let saboteurs: Vec<Variant> = Variant::saboteurs().chain(benign).collect();
    // All scenarios with all saboteurs take many minutes without optimisation. `meshproof sabotage` runs them all, and so does
    // MESHPROOF_BLESS=1, which writes the file that is compared here.
    let scope = if bless { Scope::Everything } else { Scope::Representative };
    let computed = compute(Suite::of(&ALL), &saboteurs, interrupt, scope, |_, _| {}).await;
    let matrix = computed.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(matrix.unnoticed(), Vec::<&str>::new(), "saboteurs that no check notices");
    assert_eq!(matrix.false_alarms(), Vec::<&str>::new(), "benign variants that a check fails");
    if bless {
        let text = serde_json::to_string_pretty(&matrix).unwrap() + "\n";
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/kill-matrix.json"), text).unwrap();
        return;
    }
    let kept = KillMatrix::kept().unwrap();
    assert_eq!(kept.unnoticed(), Vec::<&str>::new(), "saboteurs that no check notices");
    assert_eq!(kept.idle_checks(), Vec::<&str>::new(), "checks that notice no saboteur");
    for (of, checks) in [("cli/kill-matrix.json", &kept.checks), ("the computed matrix", &matrix.checks)] {
        let differing: Vec<String> = checks.symmetric_difference(&check_ids()).cloned().collect();
        assert_eq!(differing, Vec::<String>::new(), "checks that {of} or the catalogues alone have");
    }
    assert_eq!(kept.kills.keys().collect::<Vec<_>>(), matrix.kills.keys().collect::<Vec<_>>());
    for (saboteur, checks) in MUST_NOTICE {
        for check in *checks {
            assert!(kept.kills[*saboteur].contains(*check), "{check} must notice {saboteur}");
        }
    }
    for (saboteur, kills) in &matrix.kills {
        assert!(
            !kills.is_disjoint(&kept.kills[saboteur]),
            "{saboteur} is noticed by {kills:?}, and cli/kill-matrix.json says {:?}. Read the difference, then rewrite the file with \
             MESHPROOF_BLESS=1 cargo test -p meshproof --test kill_matrix",
            kept.kills[saboteur]
        );
    }
}

/// The second half of the matrix, in two scenarios; `meshproof sabotage` runs all scenarios with each variant.
#[tokio::test(flavor = "multi_thread")]
async fn no_benign_variant_fails_a_must_check() {
    let (_sender, interrupt) = tokio::sync::watch::channel(None);
    let variants: Vec<Variant> = Variant::benign().collect();
    assert!(variants.len() >= 25, "{} benign variants", variants.len());
    let computed = compute(Suite::of(&ALL), &variants, interrupt, Scope::Representative, |_, _| {}).await;
    let matrix = computed.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(matrix.benign.len(), variants.len());
    assert_eq!(matrix.false_alarms(), Vec::<&str>::new());
}
