//! Made-up reports for tests: every verdict, every level, every kind of evidence, and text that tries to break out of
//! whatever it is rendered in.

use crate::feature::Feature;
use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{
    AccessLog, Change, Connection, CredentialState, CredentialStatus, Evidence, EvidenceId, Exchange,
    ExchangeError, ExchangeErrorKind, Fact, Header, Hop, HopResult, LogFields, PeerCertificate, Response,
    ServerRequest, Side, TlsFacts,
};
use crate::kills::{KillCheck, KillMatrix, KillSaboteur};
use crate::report::{
    CheckResult, Document, ExternalService, Implementation, Level, Report, Run, SCHEMA, ScenarioResult, Step,
    SuiteFault, Timing, Verdict,
};

/// Text that tries to break out: of HTML, of an attribute, of a terminal's line, of the reading direction.
pub const HOSTILE: &str = "<script>alert('x')</script>\"'>&amp; \x1b[2J\x1b[31mPASSED\x1b[0m\x07\r\n::error::x ##[error] \u{202e}dessap\u{9b}31m";

/// Texts that try to break out, each in its own way: of elements, attributes, comments, scripts, styles, templates,
/// addresses, encodings, layouts. A script that runs sets `pwned` on its window.
pub const HOSTILE_STRINGS: [&str; 60] = [
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "</style><script>window.pwned=1</script>",
    "</title><script>window.pwned=1</script>",
    "</textarea><script>window.pwned=1</script>",
    "</noscript><script>window.pwned=1</script>",
    "--><script>window.pwned=1</script><!--",
    "]]><script>window.pwned=1</script>",
    "\"><script>window.pwned=1</script>",
    "'><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"><img src=x onerror=window.pwned=1>",
    "<svg onload=window.pwned=1>",
    "<svg><script>window.pwned=1</script></svg>",
    "</text></svg><img src=x onerror=window.pwned=1>",
    "<svg><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    "<math><mtext></mtext><script>window.pwned=1</script></math>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<object data='data:text/html,<script>parent.pwned=1</script>'></object>",
    "<embed src='javascript:window.pwned=1'>",
    "<body onload=window.pwned=1>",
    "<details open ontoggle=window.pwned=1>",
    "<video><source onerror=window.pwned=1></video>",
    "<input autofocus onfocus=window.pwned=1>",
    "<form action=javascript:window.pwned=1><button>x</button></form>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=data:text/html,x'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>*{display:none}</style>",
    "<template><script>window.pwned=1</script></template>",
    "javascript:window.pwned=1",
    "JaVaScRiPt:window.pwned=1",
    "\u{1}javascript:window.pwned=1",
    "data:text/html,<script>window.pwned=1</script>",
    "https://x.example/\" onmouseover=\"window.pwned=1",
    "\" onfocus=window.pwned=1 autofocus x=\"",
    "' onfocus=window.pwned=1 autofocus x='",
    "` onfocus=window.pwned=1 autofocus x=`",
    "\" style=\"position:fixed;inset:0;background:red",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "&#60;script&#62;window.pwned=1&#60;/script&#62;",
    "\u{ff1c}script\u{ff1e}window.pwned=1",
    "+ADw-script+AD4-window.pwned=1+ADw-/script+AD4-",
    "\\u003cscript\\u003ewindow.pwned=1",
    "${window.pwned=1}",
    "{{constructor.constructor('window.pwned=1')()}}",
    "<%= window.pwned=1 %>",
    "';window.pwned=1;//",
    "\";window.pwned=1;//",
    "\u{2028}window.pwned=1\u{2029}",
    "__proto__",
    "constructor",
    "\u{202e}txet desrever\u{202c}",
    "\u{0}\u{8}\u{1b}[2J\u{1b}]0;pwned\u{7}",
    "a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308}\u{309}\u{30a}",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "\n\n\n\n\r\n\t\t\t|||\u{85}\u{b}\u{c}",
    "\u{feff}\u{200b}\u{200d}\u{2060}\u{ad}",
    "</main></body></html><script>window.pwned=1</script>",
    "",
];

/// A run with every verdict at more than one level, a fault, and hostile text.
#[must_use]
pub fn report() -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        run: run(),
        implementation: Implementation {
            name: "Istio".to_owned(),
            version: "1.30.1".to_owned(),
            target: "cluster".to_owned(),
            features: vec![Feature::CredentialStatus, Feature::MeshMtls, Feature::EgressGateway],
            details: BTreeMap::from([("revision".to_owned(), "default".to_owned())]),
        },
        scenarios: vec![sidecar(), mutual(), routing(), unreached()],
    }
}

/// A run in which everything passed.
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
    }
}

/// [`passing`], cut short.
#[must_use]
pub fn partial() -> Report {
    let mut report = passing();
    report.run.partial = true;
    report.run.partial_reason = Some("interrupted (Ctrl-C)".to_owned());
    report
}

/// A kill matrix with a check that notices nothing and a saboteur that nobody notices.
#[must_use]
pub fn kills() -> KillMatrix {
    let check = |id: &str| KillCheck {
        id: id.to_owned(),
        level: Level::Must,
        requirement: "It must hold.".to_owned(),
    };
    let saboteur =
        |name: &str| KillSaboteur { name: name.to_owned(), description: format!("Does it wrong. {HOSTILE}") };
    KillMatrix {
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
        command: "meshproof run cluster --context kind-meshproof".to_owned(),
    }
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&v| v.to_owned()).collect()
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned() }
}

fn workload() -> Side {
    Side::Workload { name: "sleep".to_owned() }
}

fn proxy(name: &str) -> Side {
    Side::Proxy { name: name.to_owned() }
}

fn service(host: &str) -> Side {
    Side::Service { host: host.to_owned() }
}

/// Numbers the facts of a scenario and lets a second pass between any two.
fn evidence(facts: Vec<(usize, Side, Option<&str>, Fact)>) -> Vec<Evidence> {
    (1_u64..)
        .zip(facts)
        .map(|(n, (step, side, token, fact))| Evidence {
            id: EvidenceId(format!("e{n}")),
            at_us: n * 1_000_000,
            step,
            side,
            token: token.map(str::to_owned),
            fact,
        })
        .collect()
}

fn check(id: &str, level: Level, verdict: Verdict, reason: &str, evidence: &[&str]) -> CheckResult {
    let scenario = id.split('/').next().unwrap_or_default();
    CheckResult {
        id: id.to_owned(),
        level,
        control: false,
        verdict,
        reason: reason.to_owned(),
        requirement:
            "With origination, the same client request gives exactly one response, 200, and no redirect \
                      anywhere."
                .to_owned(),
        section: "TLS origination for egress traffic".to_owned(),
        expected: "one response with status 200".to_owned(),
        seen: reason.to_owned(),
        evidence: evidence.iter().map(|&e| EvidenceId(e.to_owned())).collect(),
        differences: vec![],
        expected_failure: None,
        feature: None,
        repeat: format!("meshproof run cluster {scenario} --check {id}"),
    }
}

fn exchange(url: &str, hops: Vec<Hop>) -> Fact {
    Fact::Exchange(Exchange { url: url.to_owned(), hops, duration_us: 41_250 })
}

fn hop(url: &str, tls: Option<TlsFacts>, result: HopResult) -> Hop {
    let sent =
        "GET /politics HTTP/1.1\r\nhost: edition.cnn.com\r\nuser-agent: meshproof/7f3a91-so.00002\r\n\r\n";
    Hop {
        method: "GET".to_owned(),
        url: url.to_owned(),
        sent: sent.to_owned(),
        sent_bytes: sent.len() as u64,
        tls,
        result,
    }
}

fn response(status: u16, headers: Vec<Header>, body: &str) -> HopResult {
    HopResult::Response(Response {
        version: "HTTP/1.1".to_owned(),
        status,
        headers,
        body: body.to_owned(),
        body_bytes: body.len() as u64,
        body_truncated: false,
        body_sha256: None,
        trailers: Vec::new(),
        informational: Vec::new(),
        messages: Vec::new(),
    })
}

fn tls() -> TlsFacts {
    TlsFacts {
        server_name: Some("edition.cnn.com".to_owned()),
        alpn_offered: Some(texts(&["h2", "http/1.1"])),
        alpn: Some("http/1.1".to_owned()),
        version: Some("TLSv1.3".to_owned()),
        cipher: Some("TLS13_AES_128_GCM_SHA256".to_owned()),
        peer_certificate: None,
        peer_verification: Some("NONE".to_owned()),
        failure: None,
        failure_kind: None,
    }
}

fn change(applied: &[&str], deleted: &[&str]) -> Fact {
    Fact::Change(Change {
        applied: texts(applied),
        deleted: texts(deleted),
        convergence_us: 812_000,
        refused: None,
    })
}

const SERVICE_ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: edition-cnn-com
  namespace: default
spec:
  hosts:
  - edition.cnn.com
  ports:
  - number: 80
    name: http-port
    protocol: HTTP
    targetPort: 443
  resolution: DNS
";

const DESTINATION_RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: edition-cnn-com
  namespace: default
spec:
  host: edition.cnn.com
  trafficPolicy:
    portLevelSettings:
    - port:
        number: 80
      tls:
        mode: SIMPLE
";

const LOG_LINE: &str = "[2025-06-30T16:17:56.763Z] \"GET /politics HTTP/1.1\" 301 - via_upstream - \"-\" 0 162 41 40 \
                        \"-\" \"meshproof/7f3a91-so.00002\" \"cf76518d-3209-9ab7-a1d0-e6002728ef5b\" \
                        \"edition.cnn.com\" \"151.101.129.67:80\" outbound|80||edition.cnn.com \
                        10.244.0.170:54280 151.101.129.67:80 10.244.0.171:35628 - default";

fn access_log() -> Fact {
    Fact::AccessLog(AccessLog {
        line: LOG_LINE.to_owned(),
        format: Some("istio-text".to_owned()),
        fields: Some(LogFields {
            method: Some("GET".to_owned()),
            path: Some("/politics".to_owned()),
            protocol: Some("HTTP/1.1".to_owned()),
            response_code: Some(301),
            authority: Some("edition.cnn.com".to_owned()),
            upstream_host: Some("151.101.129.67:80".to_owned()),
            upstream_cluster: Some("outbound|80||edition.cnn.com".to_owned()),
            response_code_details: Some("via_upstream".to_owned()),
            ..LogFields::default()
        }),
        unreadable: None,
    })
}

fn request(target: &str, over_tls: bool, headers: Vec<Header>, status: u16) -> Fact {
    Fact::Request(ServerRequest {
        connection: 3,
        port: if over_tls { 443 } else { 80 },
        over_tls,
        peer: "10.244.0.170:54280".to_owned(),
        method: "GET".to_owned(),
        target: target.to_owned(),
        authority: "edition.cnn.com".to_owned(),
        version: "HTTP/1.1".to_owned(),
        headers,
        status,
        body_bytes: Some(0),
        body_sha256: None,
        tls: over_tls.then(tls),
    })
}

fn connection(port: u16, clear_bytes: &str, tls: Option<TlsFacts>) -> Fact {
    Fact::Connection(Connection {
        number: 3,
        port,
        tls_port: port == 443,
        peer: "10.244.0.170:54280".to_owned(),
        clear_bytes: clear_bytes.to_owned(),
        tls,
    })
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
                "two responses: 301, then 200; the sidecar sent the request on in plain text",
                &["e3", "e4", "e5", "e6"],
            ),
            check(&id("sni-is-host"), Must, Passed, "server name edition.cnn.com", &["e7"]),
            check(
                &id("header-hygiene"),
                Should,
                Failed,
                "x-envoy-attempt-count reached the service",
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
    skipped.feature = Some(Feature::CredentialStatus);
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
                "the request failed, and so did its positive twin: nothing shows that the certificate was the reason",
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
                    serial: Some("01".to_owned()),
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
            message: "the log stream of istio-egressgateway broke off; check the API server's connection and run again"
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
                    format: None,
                    fields: None,
                    unreadable: Some("the line fits none of the known formats".to_owned()),
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
        "left out by --filter",
        &[],
    )];
    scenario.evidence.clear();
    scenario.external_services.clear();
    scenario.faults.clear();
    scenario.timing = Timing::default();
    scenario
}
