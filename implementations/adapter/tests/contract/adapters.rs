//! The adapters in this repository keep the contract, and their proxies pass what they declare.

use std::path::Path;

use meshproof_adapter::check::{Outcome, check};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_model::{Level, Report, Verdict};

use crate::runs::run;
use crate::support::{hostile, installed};

fn node() -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters/node/adapter.js");
    format!("node '{}'", program.display())
}

fn command(name: &str) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../adapters/{name}/adapter.py"));
    format!("python3 '{}'", program.display())
}

async fn broken(command: &str) -> Vec<(&'static str, String)> {
    let points = check(command, &Timeouts::default()).await.unwrap();
    points
        .into_iter()
        .filter_map(|p| match p.outcome {
            Outcome::Broken(words) => Some((p.id, words)),
            Outcome::Kept(_) | Outcome::NotAsked(_) => None,
        })
        .collect()
}

/// Every MUST that ran passes, except for those in `fails` (`SCENARIO/CHECK`, or in one configuration
/// `SCENARIO:CONFIGURATION/CHECK`). Every skipped check needs a feature in `lacks`. The checks in `passes` passed.
#[track_caller]
fn assert_passes(report: &Report, lacks: &[&str], fails: &[&str], passes: &[&str]) {
    let mut wrong = Vec::new();
    let each = report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |check| (s.selector(), check)));
    for (selector, check) in each {
        let name = check.id.split_once('/').unwrap().1;
        let fails = fails.contains(&check.id.as_str()) || fails.contains(&&*format!("{selector}/{name}"));
        let reason = check.reason.trim_end_matches('.');
        let fine = match check.verdict {
            Verdict::Skipped => {
                lacks.iter().any(|f| reason.ends_with(f))
                    || reason.ends_with(&["support ", lacks[0]].concat())
            }
            Verdict::Failed => fails || check.level != Level::Must,
            // A check that is listed as failing must fail.
            Verdict::Passed => !fails,
            Verdict::Inconclusive | Verdict::Error => check.level != Level::Must,
        };
        if !fine {
            wrong.push(format!("{} {}: {}", check.verdict, check.id, check.reason));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for id in passes {
        let all = report.checks().filter(|c| c.id == *id).all(|c| c.verdict == Verdict::Passed);
        assert!(all && report.checks().any(|c| c.id == *id), "{id}");
    }
}

/// The DestinationRule has a server name and no subjectAltNames, so only the chain must be verified. HAProxy
/// and nginx always compare the certificate with the server name that they send.
const SNI_IS_THE_NAME: &str = "egress-gateway-mutual/sni-as-configured";

/// Neither HAProxy nor nginx removes the fields that a request's Connection field names.
const KEEPS_CONNECTION_FIELDS: &str = "generated-traffic/connection-fields-removed";

/// Likewise where no generated exchange puts it to the test.
const KEEPS_CONNECTION_FIELDS_EVERYWHERE: &str = "generated-traffic/every-request-accounted-for";

/// HAProxy falls back to the common name, and so does OpenSSL, which nginx asks; see docs/path-validation.md.
const COMMON_NAME_COUNTS: &str = "certificate-chains/common-name-does-not-count";
/// See [`COMMON_NAME_COUNTS`].
const COMMON_NAME_ALONE_COUNTS: &str = "path-validation/common-name-only";

/// After two HAProxys, an answer in pieces that its server breaks off looks complete to the client (RFC 9112, section 8).
const BREAK_OFF_IS_HIDDEN: &str = "generated-traffic:egress-gateway/truncation-visible";

/// An answer that follows an interim one does not come back whole. nginx 1.22 takes every interim answer but 100 for the final one.
const TAKES_INTERIM_ANSWER: &str = "generated-traffic/interim-answer-passed-over";

/// A short request timeout: the example reads a whole request before it answers, so one check waits for it.
fn hasty() -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::Request, std::time::Duration::from_secs(3));
    timeouts
}

#[tokio::test]
async fn the_python_example_keeps_the_contract_and_passes_what_it_declares() {
    if !installed("python3", "--version") {
        return;
    }
    assert_eq!(broken(&command("python")).await, []);
    let report = run(&command("python"), &[], hasty()).await.unwrap();
    assert_passes(
        &report,
        &[
            "mesh-mtls",
            "mutual-origination",
            "tls-passthrough",
            "egress-gateway",
            "ingress-gateway",
            "http2",
            "web-socket",
            "tcp-origination",
            "route-rules",
            "reconfigure-without-restart",
            "gateway-tls",
        ],
        &[],
        &[
            "sidecar-origination/single-response",
            "sidecar-origination/one-upstream-request",
            "sidecar-origination/no-plaintext-leak",
            "sidecar-origination/sidecar-access-log",
            "external-web-service/http-by-application-originated",
        ],
    );
}

#[tokio::test]
async fn the_template_for_node_keeps_the_contract_and_passes_what_it_declares() {
    if !installed("node", "--version") {
        return;
    }
    assert_eq!(broken(&node()).await, []);
    let report = run(&node(), &[], Timeouts::default()).await.unwrap();
    assert_passes(
        &report,
        &[
            "mesh-mtls",
            "mutual-origination",
            "tls-passthrough",
            "egress-gateway",
            "ingress-gateway",
            "http2",
            "web-socket",
            "reconfigure-without-restart",
            "tcp-origination",
            "route-rules",
            "gateway-tls",
        ],
        &[],
        &["sidecar-origination/single-response", "sidecar-origination/no-plaintext-leak"],
    );
}

/// In the scenarios whose external services have certificates that Go's library accepts by their names. Where only the chain counts,
/// and with revocation lists, Caddy refuses servers that it must accept.
#[tokio::test]
async fn caddy_keeps_the_contract_and_passes_what_it_declares() {
    if !(installed("python3", "--version")
        && installed("caddy", "version")
        && installed("openssl", "version"))
    {
        return;
    }
    assert_eq!(broken(&command("caddy")).await, []);
    let selectors = [
        "sidecar-origination",
        "egress-gateway-simple",
        "path-based-routing",
        "tls-verification",
        "origination-scope",
        "policy-isolation",
    ];
    let report = run(&command("caddy"), &selectors, Timeouts::default()).await.unwrap();
    assert_passes(
        &report,
        &[
            "mesh-ca",
            "tls-passthrough",
            "san-validation",
            "credential-status",
            "upstream-local-address",
            "web-socket",
            "tcp-origination",
            "route-rules",
            "gateway-tls",
        ],
        &[],
        &[
            "sidecar-origination/single-response",
            "egress-gateway-simple/no-bypass",
            "path-based-routing/host-rewritten",
            "tls-verification/wrong-host-refused",
            "policy-isolation/connections-per-host",
        ],
    );
}

/// A sidecar only: mod_proxy sends the Host of the request as the server name, and no directive sets another one. The listed checks
/// need another one where a route replaces the Host.
#[tokio::test]
async fn apache_httpd_keeps_the_contract_and_passes_what_it_declares() {
    if !(installed("python3", "--version") && installed("apache2", "-v") && installed("openssl", "version")) {
        return;
    }
    assert_eq!(broken(&command("apache")).await, []);
    let selectors = ["sidecar-origination", "tls-verification:sidecar", "generated-traffic:sidecar"];
    let report = run(&command("apache"), &selectors, Timeouts::default()).await.unwrap();
    assert_passes(
        &report,
        &[
            "tls-passthrough",
            "mesh-mtls",
            "san-validation",
            "http2",
            "web-socket",
            "tcp-origination",
            "route-rules",
            "credential-status",
            "upstream-local-address",
            "gateway-tls",
        ],
        &["tls-verification/sni-follows-host-rewrite", "tls-verification/every-request-accounted-for"],
        &[
            "sidecar-origination/single-response",
            "sidecar-origination/no-plaintext-leak",
            "generated-traffic/exchanges-preserved",
            "tls-verification/wrong-host-refused",
            "tls-verification/tls-version-floor",
        ],
    );
}

/// The plans of these scenarios contain nothing that the example does not declare. So even an adapter that
/// refuses such a plan loses no check.
#[tokio::test]
async fn an_adapter_loses_no_check_for_features_that_the_check_does_not_need() {
    if !installed("python3", "--version") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let strict = format!(
        "python3 '{}' '{}'",
        folder.join("tests/contract/strict.py").display(),
        folder.join("../adapters/python").display()
    );
    let selectors = ["tls-verification:sidecar", "external-web-service", "sidecar-origination"];
    let report = run(&strict, &selectors, hasty()).await.unwrap();
    assert_passes(
        &report,
        &[
            "mesh-mtls",
            "tls-passthrough",
            "reconfigure-without-restart",
            "san-validation",
            "http2",
            "gateway-tls",
        ],
        &[],
        &["external-web-service/http-by-application-originated", "tls-verification/wrong-host-refused"],
    );
    let passed = |scenario: &str| {
        let of = report.scenarios.iter().filter(|s| s.id == scenario);
        of.flat_map(|s| &s.checks).filter(|c| c.verdict == Verdict::Passed).count()
    };
    assert_eq!((passed("tls-verification"), passed("external-web-service")), (15, 11));
}

#[tokio::test]
async fn haproxy_keeps_the_contract_and_passes_what_it_declares() {
    if !(installed("python3", "--version") && installed("haproxy", "-v") && installed("openssl", "version")) {
        return;
    }
    assert_eq!(broken(&command("haproxy")).await, []);
    let report = run(&command("haproxy"), &[], Timeouts::default()).await.unwrap();
    assert_passes(
        &report,
        &["mesh-ca", "san-validation", "credential-status", "tcp-origination", "route-rules", "gateway-tls"],
        &[
            SNI_IS_THE_NAME,
            KEEPS_CONNECTION_FIELDS,
            KEEPS_CONNECTION_FIELDS_EVERYWHERE,
            COMMON_NAME_COUNTS,
            COMMON_NAME_ALONE_COUNTS,
            "path-validation/common-name-beside-another",
            BREAK_OFF_IS_HIDDEN,
            // The protocol of a server is fixed in HAProxy's configuration.
            "traffic-fidelity:sidecar/client-protocol",
            "traffic-fidelity:ingress-gateway/client-protocol",
        ],
        &[
            "sidecar-origination/https-clients-unaffected",
            "egress-gateway-simple/originated-by-gateway",
            "egress-gateway-mutual/client-certificate-presented",
            "path-based-routing/export-confined",
            "external-web-service/only-sni-visible",
            "tls-verification/wrong-host-refused",
        ],
    );
}

#[tokio::test]
async fn nginx_keeps_the_contract_and_passes_what_it_declares() {
    if !(installed("python3", "--version") && installed("nginx", "-v") && installed("openssl", "version")) {
        return;
    }
    assert_eq!(broken(&command("nginx")).await, []);
    let report = run(&command("nginx"), &[], Timeouts::default()).await.unwrap();
    assert_passes(
        &report,
        &[
            "mesh-ca",
            "tls-passthrough",
            "san-validation",
            "credential-status",
            "http2",
            "tcp-origination",
            "route-rules",
            "upstream-local-address",
            "gateway-tls",
        ],
        &[
            SNI_IS_THE_NAME,
            "egress-gateway-mutual/every-request-accounted-for",
            KEEPS_CONNECTION_FIELDS,
            KEEPS_CONNECTION_FIELDS_EVERYWHERE,
            COMMON_NAME_COUNTS,
            COMMON_NAME_ALONE_COUNTS,
            TAKES_INTERIM_ANSWER,
            // nginx decodes %2F before it selects a location, also where it forwards the path as it was received.
            "path-based-routing/prefix-boundaries",
            "path-based-routing/every-request-accounted-for",
        ],
        &[
            "sidecar-origination/single-response",
            "egress-gateway-simple/no-bypass",
            "egress-gateway-mutual/client-certificate-presented",
            "path-based-routing/host-rewritten",
            "external-web-service/http-by-application-originated",
            "tls-verification/wrong-host-refused",
        ],
    );
}

#[tokio::test]
async fn the_check_shows_what_an_unfinished_adapter_already_keeps() {
    if !installed("python3", "--version") {
        return;
    }
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::AdapterAnswer, std::time::Duration::from_secs(1));
    let points = check(&hostile("knows-no-apply"), &timeouts).await.unwrap();
    let of = |wanted: fn(&Outcome) -> bool| -> Vec<&str> {
        points.iter().filter(|p| wanted(&p.outcome)).map(|p| p.id).collect()
    };
    let kept = of(|o| matches!(o, Outcome::Kept(_)));
    assert_eq!(kept, ["hello", "features-known", "unknown-members", "stop", "end-of-input"]);
    assert_eq!(of(|o| matches!(o, Outcome::Broken(_))), ["apply-empty"]);
}

#[tokio::test]
async fn the_check_names_the_point_that_an_adapter_breaks() {
    if !installed("python3", "--version") {
        return;
    }
    for (way, point) in [
        ("dies-at-hello", "hello"),
        ("unknown-feature", "features-known"),
        ("wrong-revision", "apply-empty"),
        ("dies-at-the-end", "stop"),
        ("", "apply-listens"),
        ("exits-without-stopped", "stop"),
        ("stays-after-its-input", "end-of-input"),
    ] {
        let mut timeouts = Timeouts::default();
        timeouts.set(Timeout::AdapterStop, std::time::Duration::from_secs(1));
        let points = check(&hostile(way), &timeouts).await.unwrap();
        let outcome = &points.iter().find(|p| p.id == point).unwrap().outcome;
        let Outcome::Broken(words) = outcome else { panic!("{way}: {point}: {outcome:?}") };
        if way == "wrong-revision" {
            assert_eq!(words, "`apply` of revision 1 was answered with `applied` for revision 2");
        }
    }
}
