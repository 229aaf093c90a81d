//! Sample reports for tests: every verdict, every level, every kind of evidence, and hostile text that tries
//! to escape from its output format.

use crate::feature::Feature;
use std::collections::{BTreeMap, BTreeSet};

use crate::credential::{CredentialState, CredentialStatus};
use crate::evidence::{
    AccessLog, Change, ExchangeError, ExchangeErrorKind, Fact, HopResult, PeerCertificate, Side, TlsFacts,
};
use crate::kills::{KillCheck, KillMatrix, KillSaboteur};
use crate::report::{
    Document, ExternalService, Implementation, Level, Report, Run, SCHEMA, ScenarioResult, Step, SuiteFault,
    Timing, Verdict,
};

mod build;
mod hostile;

use build::*;
pub use hostile::{HOSTILE, HOSTILE_STRINGS};

/// A run with every verdict, more than one level, an environment error, and hostile text.
#[must_use]
pub fn report() -> Report {
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        run: run(),
        implementation: Implementation {
            name: "Istio".to_owned(),
            version: "1.30.1".to_owned(),
            target: "cluster".to_owned(),
            features: [Feature::CredentialStatus, Feature::MeshMtls, Feature::EgressGateway]
                .map(Into::into)
                .into(),
            details: BTreeMap::from([("revision".to_owned(), "default".to_owned())]),
        },
        scenarios: vec![sidecar(), mutual(), routing(), unreached()],
        causes: vec![],
        diagnosis: None,
    };
    report.derive_causes();
    report
}

/// A run in which every check passed.
#[must_use]
pub fn passing() -> Report {
    let mut scenario = sidecar();
    scenario.checks.retain(|c| c.verdict == Verdict::Passed);
    Report {
        schema: SCHEMA.to_owned(),
        run: Run { command: "meshproof run reference sidecar-origination".to_owned(), ..run() },
        implementation: Implementation {
            name: "meshproof reference".to_owned(),
            version: "0.1.0".to_owned(),
            target: "reference".to_owned(),
            features: vec![],
            details: BTreeMap::new(),
        },
        scenarios: vec![scenario],
        causes: vec![],
        diagnosis: None,
    }
}

/// [`passing`], stopped early.
#[must_use]
pub fn partial() -> Report {
    let mut report = passing();
    report.run.partial = true;
    report.run.partial_reason = Some("interrupted (Ctrl-C)".to_owned());
    report
}

/// A kill matrix with a check that detects no saboteur and a saboteur that no check detects.
#[must_use]
pub fn kills() -> KillMatrix {
    let check = |id: &str| KillCheck {
        id: id.to_owned(),
        level: Level::Must,
        requirement: "It must hold.".to_owned(),
    };
    let saboteur = |name: &str| KillSaboteur {
        name: name.to_owned(),
        description: format!("Breaks something. {HOSTILE}"),
    };
    KillMatrix {
        benign: Vec::new(),
        false_alarms: BTreeMap::new(),
        checks: vec![
            check("sidecar-origination/sni-is-host"),
            check("sidecar-origination/idle"),
            check(HOSTILE),
        ],
        saboteurs: vec![saboteur("no-sni"), saboteur("unnoticed"), saboteur(HOSTILE)],
        whole: true,
        kills: BTreeMap::from([
            ("no-sni".to_owned(), BTreeSet::from(["sidecar-origination/sni-is-host".to_owned()])),
            (HOSTILE.to_owned(), BTreeSet::from([HOSTILE.to_owned()])),
        ]),
    }
}

fn run() -> Run {
    Run {
        id: "7f3a91".to_owned(),
        meshproof: "0.1.0".to_owned(),
        started: "2025-06-30T16:17:56Z".to_owned(),
        duration_us: 83_400_000,
        partial: false,
        partial_reason: None,
        shard: None,
        command: "meshproof run cluster --context kind-meshproof".to_owned(),
    }
}

fn sidecar() -> ScenarioResult {
    use Level::{May, Must, Should};
    use Verdict::{Failed, Passed};
    let id = |name: &str| format!("sidecar-origination/{name}");
    let url = "http://edition.cnn.com/politics";
    let https = "https://edition.cnn.com/politics";
    let redirect = || response(301, vec![header("location", https)], "");
    let page = || response(200, vec![header("content-type", "text/html")], "<h1>Politics</h1>");
    let token = Some("7f3a91-so.00002");
    let mut control = check(
        &id("redirect-before-origination"),
        Must,
        Passed,
        "301 to https://edition.cnn.com/politics, then 200",
        &["e1"],
    );
    control.control = true;
    ScenarioResult {
        id: "sidecar-origination".to_owned(),
        configuration: "target-port".to_owned(),
        title: "A sidecar opens TLS for an application's plain HTTP requests".to_owned(),
        proves: None,
        source: None,
        document: Document {
            title: "Egress TLS Origination".to_owned(),
            url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-tls-origination/"
                .to_owned(),
        },
        checks: vec![
            control,
            check(
                &id("single-response"),
                Must,
                Failed,
                "two responses: 301, then 200; the sidecar forwarded the request in plain text",
                &["e3", "e4", "e5", "e6"],
            ),
            check(&id("sni-is-host"), Must, Passed, "server name edition.cnn.com", &["e7"]),
            check(
                &id("header-hygiene"),
                Should,
                Failed,
                "the external service received the header x-envoy-attempt-count",
                &["e6"],
            ),
            check(&id("gateway-log-protocol"), May, Passed, "HTTP/1.1", &["e4"]),
        ],
        external_services: vec![ExternalService {
            host: "edition.cnn.com".to_owned(),
            kind: "pod".to_owned(),
            version: "nginx/1.27.4".to_owned(),
        }],
        steps: vec![
            Step { title: "Before origination".to_owned(), at_us: 0 },
            Step { title: "TLS origination for egress traffic".to_owned(), at_us: 1_500_000 },
        ],
        evidence: evidence(vec![
            (
                0,
                workload(),
                Some("7f3a91-so.00001"),
                exchange(url, vec![hop(url, None, redirect()), hop(https, Some(tls()), page())]),
            ),
            (1, Side::Suite, None, change(&[SERVICE_ENTRY, DESTINATION_RULE], &[])),
            (
                1,
                workload(),
                token,
                exchange(url, vec![hop(url, None, redirect()), hop(https, Some(tls()), page())]),
            ),
            (1, proxy("sleep"), token, access_log()),
            (1, service("edition.cnn.com"), token, connection(80, "GET /politics HTTP/1.1\r\n", None)),
            (
                1,
                service("edition.cnn.com"),
                token,
                request(
                    "/politics",
                    false,
                    vec![
                        header("user-agent", "meshproof/7f3a91-so.00002"),
                        header("x-envoy-attempt-count", "1"),
                    ],
                    301,
                ),
            ),
            (1, service("edition.cnn.com"), None, connection(443, "", Some(tls()))),
        ]),
        timing: Timing {
            setup_us: 2_100_000,
            convergence_us: 812_000,
            requests_us: 93_000,
            teardown_us: 640_000,
            total_us: 3_900_000,
        },
        faults: vec![],
    }
}

fn mutual() -> ScenarioResult {
    use Level::Must;
    use Verdict::{Error, Inconclusive, Passed, Skipped};
    let id = |name: &str| format!("egress-gateway-mutual/{name}");
    let host = "my-nginx.mesh-external.svc.cluster.local";
    let url = "http://my-nginx.mesh-external.svc.cluster.local/";
    let mut skipped = check(
        &id("credential-active"),
        Must,
        Skipped,
        "Istio 1.30.1 does not declare credential-status",
        &[],
    );
    skipped.feature = Some(Feature::CredentialStatus.into());
    let handshake = TlsFacts {
        server_name: Some(host.to_owned()),
        peer_certificate: Some(PeerCertificate {
            subject: "CN=client.example.com,O=client organization".to_owned(),
            issuer: "CN=example.com,O=example Inc.".to_owned(),
            serial: "01".to_owned(),
            sha256: None,
            alternative_names: vec![],
        }),
        peer_verification: Some("SUCCESS".to_owned()),
        ..tls()
    };
    let reset = HopResult::Error(ExchangeError {
        kind: ExchangeErrorKind::ConnectionClosed,
        message: "connection closed before message completed".to_owned(),
    });
    ScenarioResult {
        id: "egress-gateway-mutual".to_owned(),
        configuration: String::new(),
        title: "An egress gateway presents a client certificate".to_owned(),
        proves: None,
        source: None,
        document: Document {
            title: "Egress Gateways with TLS Origination".to_owned(),
            url: "https://istio.io/latest/docs/tasks/traffic-management/egress/egress-gateway-tls-origination/"
                .to_owned(),
        },
        checks: vec![
            check(&id("client-certificate-presented"), Must, Passed, "serial 01, verified", &["e3"]),
            check(
                &id("untrusted-client-refused"),
                Must,
                Inconclusive,
                "the request failed, and so did the control request with a trusted certificate: the evidence does not show that the certificate was the cause",
                &["e2", "e4"],
            ),
            skipped,
            check(&id("gateway-access-log"), Must, Error, "the gateway's log could not be read", &["e5"]),
        ],
        external_services: vec![ExternalService {
            host: host.to_owned(),
            kind: "pod".to_owned(),
            version: "nginx/1.27.4".to_owned(),
        }],
        steps: vec![Step {
            title: "Perform mutual TLS origination with an egress gateway".to_owned(),
            at_us: 0,
        }],
        evidence: evidence(vec![
            (
                0,
                Side::Suite,
                None,
                Fact::Change(Change {
                    applied: texts(&["apiVersion: v1\nkind: Secret\nmetadata:\n  name: client-credential\ndata:\n  \
                                      tls.crt: (withheld)\n  tls.key: (withheld)\n"]),
                    deleted: texts(&["Secret istio-system/client-credential-old"]),
                    convergence_us: 95_000,
                    refused: Some("admission webhook denied the request".to_owned()),
                }),
            ),
            (0, workload(), None, exchange(url, vec![hop(url, None, reset)])),
            (0, service(host), None, connection(443, "", Some(handshake))),
            (
                0,
                proxy("istio-egressgateway"),
                None,
                Fact::Credential(CredentialStatus {
                    name: "kubernetes://client-credential".to_owned(),
                    state: CredentialState::Warming,
                    kind: None,
                    serial: Some("01".to_owned()),
                    not_before: None,
                    not_after: None,
                }),
            ),
            (
                0,
                proxy("istio-egressgateway"),
                None,
                Fact::Note { text: "stream of logs ended: connection reset by peer".to_owned() },
            ),
        ]),
        timing: Timing { setup_us: 8_000_000, total_us: 9_100_000, ..Timing::default() },
        faults: vec![SuiteFault {
            message: "the log stream of istio-egressgateway was interrupted. Check the connection to the API server and run again"
                .to_owned(),
            step: Some("Perform mutual TLS origination with an egress gateway".to_owned()),
        }],
    }
}

fn routing() -> ScenarioResult {
    use Level::{May, Must};
    use Verdict::Failed;
    let id = |name: &str| format!("path-based-routing/{name}");
    let long = "long-value-".repeat(1_000);
    let mut failed = check(&id("host-rewritten"), Must, Failed, HOSTILE, &["e1", "e2", "e3", "e99"]);
    failed.seen = format!("Host is {long}");
    failed.expected = HOSTILE.to_owned();
    ScenarioResult {
        id: "path-based-routing".to_owned(),
        configuration: "root-last".to_owned(),
        title: format!("An ingress gateway sends two paths to a bucket {HOSTILE}"),
        proves: None,
        source: None,
        document: Document { title: HOSTILE.to_owned(), url: "javascript:alert(1)".to_owned() },
        checks: vec![
            failed,
            check(&id("without-origination-text"), May, Failed, "502 with an empty body", &["e3"]),
        ],
        external_services: vec![ExternalService {
            host: HOSTILE.to_owned(),
            kind: "container".to_owned(),
            version: HOSTILE.to_owned(),
        }],
        steps: vec![Step { title: HOSTILE.to_owned(), at_us: 0 }],
        evidence: evidence(vec![
            (
                0,
                workload(),
                Some(HOSTILE),
                exchange(
                    HOSTILE,
                    vec![hop(
                        HOSTILE,
                        None,
                        response(502, vec![header("x-hostile", HOSTILE), header("x-long", &long)], HOSTILE),
                    )],
                ),
            ),
            (
                0,
                service(HOSTILE),
                None,
                request(&format!("/{HOSTILE}/{long}"), true, vec![header("x-hostile", HOSTILE)], 200),
            ),
            (
                0,
                proxy(HOSTILE),
                None,
                Fact::AccessLog(AccessLog {
                    line: format!("{HOSTILE} {long}"),
                    unreadable: Some("the line matches none of the known formats".to_owned()),
                    ..AccessLog::default()
                }),
            ),
        ]),
        timing: Timing { requests_us: 12_000, total_us: 2_000_000, ..Timing::default() },
        faults: vec![],
    }
}

fn unreached() -> ScenarioResult {
    let mut scenario = mutual();
    scenario.id = "external-web-service".to_owned();
    scenario.title = "A service inside the mesh calls one outside".to_owned();
    scenario.checks = vec![check(
        "external-web-service/blocked-by-default",
        Level::Must,
        Verdict::Skipped,
        "excluded by --filter",
        &[],
    )];
    scenario.evidence.clear();
    scenario.external_services.clear();
    scenario.faults.clear();
    scenario.timing = Timing::default();
    scenario
}
