//! `--live` without the internet: servers of the suite stand in for the real hosts. Only the resolver and the roots that this
//! machine trusts are replaced.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof::kill_matrix::KillMatrix;
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::{
    ExternalChoice, ExternalSpec, HttpVersions, Page, PlainPort, Refusal, TlsPort, TlsVersions,
};
use meshproof_harness::runner::{self, Options};
use meshproof_harness::select::select_live;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::real_hosts::{RealHosts, Resolver};
use meshproof_model::{Report, Verdict};
use meshproof_scenarios::ALL;

/// Servers that stand in for the real hosts.
#[derive(Default)]
struct StandIns(Vec<Box<dyn RunningService>>);

#[async_trait]
impl Resolver for StandIns {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "the name server does not know it");
        let server = self.0.iter().find(|server| server.describe().host == host).ok_or_else(unknown)?;
        Ok(server.address(port).into_iter().collect())
    }
}

/// What the hosts do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hosts {
    /// As their documents say.
    AsDocumented,
    /// Plain requests are answered, and not redirected to `https`: the site has changed.
    WithoutRedirect,
    /// Their certificates are issued by an authority that this machine does not trust.
    Untrusted,
    /// No name server knows them.
    Unknown,
}

async fn stand_ins(hosts: Hosts) -> RealHosts {
    let authority = || Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let (trusted, stranger) = (authority(), authority());
    let issuer = if hosts == Hosts::Untrusted { &stranger } else { &trusted };
    let mut servers = Vec::new();
    for (host, path, content_type, body) in [
        ("edition.cnn.com", "/politics", "text/html", "<h1>Politics</h1>"),
        (
            "www.googleapis.com",
            "/books/v1/volumes",
            "application/json",
            r#"{"items":[{"volumeInfo":{"title":"A title","publisher":"A publisher"}}]}"#,
        ),
    ] {
        let certificate = issuer.server(host).issue().unwrap();
        let spec = ExternalSpec {
            aliases: Vec::new(),
            host: host.to_owned(),
            plain: if hosts == Hosts::WithoutRedirect {
                PlainPort::Serve
            } else {
                PlainPort::RedirectToHttps
            },
            tls: Some(TlsPort {
                certificate: certificate.certificate_pem().to_owned(),
                key: certificate.key(),
                client_ca: None,
                refusal: Refusal::default(),
                versions: TlsVersions::Both,
                http: HttpVersions::Both,
                by_name: Vec::new(),
            }),
            ipv6: false,
            tcp: Vec::new(),
            pages: vec![Page {
                path: path.to_owned(),
                content_type: content_type.into(),
                body: body.to_owned(),
            }],
            keep_alive: true,
        };
        servers.push(start_embedded(spec, Store::new(), &Timeouts::default()).await.unwrap());
    }
    let resolver = if hosts == Hosts::Unknown { StandIns::default() } else { StandIns(servers) };
    RealHosts::new(Arc::new(resolver), trusted.certificate_pem())
}

async fn live(name: &str, hosts: Hosts) -> Report {
    let settings = meshproof_targets::Settings {
        real_hosts: stand_ins(hosts).await,
        ..meshproof_targets::Settings::default()
    };
    let target = meshproof_targets::by_name(name, &settings).unwrap();
    let selection = select_live(&ALL, &[]).unwrap();
    runner::run(Options {
        external: ExternalChoice::Live,
        command: "meshproof run".to_owned(),
        repeat: "meshproof run".to_owned(),
        ..Options::new(target, selection)
    })
    .await
    .unwrap()
}

fn with(report: &Report, verdicts: &[Verdict]) -> BTreeSet<String> {
    report.checks().filter(|c| verdicts.contains(&c.verdict)).map(|c| c.id.clone()).collect()
}

/// What only the external side could show, and what is therefore skipped.
const NOT_JUDGED: [&str; 17] = [
    "sidecar-origination/bystander-https",
    "egress-gateway-simple/every-request-accounted-for",
    "external-web-service/every-request-accounted-for",
    "sidecar-origination/every-request-accounted-for",
    "egress-gateway-simple/host-and-path-preserved",
    "egress-gateway-simple/no-plaintext-leak",
    "egress-gateway-simple/one-upstream-request",
    "egress-gateway-simple/originated-by-gateway",
    "egress-gateway-simple/sni-is-host",
    "external-web-service/no-plaintext-leak",
    "external-web-service/one-upstream-request",
    "external-web-service/sni-is-host",
    "sidecar-origination/host-and-path-preserved",
    "sidecar-origination/no-plaintext-leak",
    "sidecar-origination/one-upstream-request",
    "sidecar-origination/plaintext-seen-before-origination",
    "sidecar-origination/sni-is-host",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_judges_what_two_sides_show_and_skips_what_only_the_host_could_show() {
    let report = live("reference", Hosts::AsDocumented).await;
    let scenarios: Vec<String> =
        report.scenarios.iter().map(meshproof_model::ScenarioResult::selector).collect();
    assert_eq!(
        scenarios,
        [
            "sidecar-origination:port-rewrite",
            "sidecar-origination:target-port",
            "egress-gateway-simple:simple",
            "external-web-service:bookinfo-details",
        ]
    );
    let wrong: Vec<_> = report
        .checks()
        .filter(|c| !matches!(c.verdict, Verdict::Passed | Verdict::Skipped))
        .map(|c| (&c.id, &c.reason))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(with(&report, &[Verdict::Skipped]), NOT_JUDGED.map(str::to_owned).into());
    for check in report.checks().filter(|c| c.verdict == Verdict::Skipped) {
        assert!(
            check.reason.contains("is the real host, so the suite cannot observe what it received"),
            "{}",
            check.reason
        );
    }
    assert_eq!(report.exit_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_lists_the_checks_that_a_live_run_judges_and_skips() {
    let report = live("reference", Hosts::AsDocumented).await;
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cluster.md")).unwrap();
    for scenario in ["sidecar-origination", "egress-gateway-simple", "external-web-service"] {
        let row = docs.lines().find(|l| l.starts_with(&format!("| `{scenario}` |"))).unwrap();
        let names = |column: usize| -> BTreeSet<String> {
            let cell = row.split('|').nth(column).unwrap();
            cell.split('`').skip(1).step_by(2).map(|name| format!("{scenario}/{name}")).collect()
        };
        let of_it = |verdict: Verdict| -> BTreeSet<String> {
            let prefix = format!("{scenario}/");
            with(&report, &[verdict]).into_iter().filter(|id| id.starts_with(&prefix)).collect()
        };
        assert_eq!((names(2), names(3)), (of_it(Verdict::Passed), of_it(Verdict::Skipped)), "{scenario}");
    }
}

/// For each saboteur, a check that must notice it without evidence from the external service.
const MUST_NOTICE: [(&str, &str); 12] = [
    ("plaintext-upstream", "sidecar-origination/single-response"),
    ("plain-port-upstream", "external-web-service/http-by-application-originated"),
    ("originate-at-sidecar", "egress-gateway-simple/gateway-access-log"),
    ("bypass-when-gateway-down", "egress-gateway-simple/no-bypass"),
    ("no-mutual-tls-to-gateway", "egress-gateway-simple/hop-to-gateway-is-mutual-tls"),
    ("terminate-application-tls", "sidecar-origination/https-end-to-end-before-origination"),
    ("follow-redirect", "sidecar-origination/redirect-before-origination"),
    ("no-access-log", "sidecar-origination/sidecar-access-log"),
    ("log-passthrough-path", "external-web-service/only-sni-visible"),
    ("allow-any", "external-web-service/blocked-by-default"),
    ("stale-configuration", "sidecar-origination/cleanup-restores"),
    ("inbound-accepts-any-client", "external-web-service/independent-of-mesh-mtls"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_notices_saboteurs_and_fails_no_check_that_passes_with_all_evidence() {
    let kept = KillMatrix::kept().unwrap();
    for (saboteur, ought) in MUST_NOTICE {
        let report = live(&format!("reference:{saboteur}"), Hosts::AsDocumented).await;
        let noticed = with(&report, &[Verdict::Failed, Verdict::Inconclusive]);
        assert!(noticed.contains(ought), "{saboteur}: {noticed:?}");
        let beyond: Vec<_> =
            with(&report, &[Verdict::Failed]).difference(&kept.kills[saboteur]).cloned().collect();
        assert!(beyond.is_empty(), "{saboteur}: {beyond:?}");
        assert!(with(&report, &[Verdict::Error]).is_empty(), "{saboteur}");
        assert_eq!(report.exit_code(), 1, "{saboteur}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_has_changed_is_an_error_and_not_a_failure_of_the_mesh() {
    let report = live("reference", Hosts::WithoutRedirect).await;
    for scenario in report.scenarios.iter().filter(|s| s.id != "external-web-service") {
        assert!(scenario.checks.iter().all(|c| c.verdict == Verdict::Error), "{}", scenario.selector());
        let message = &scenario.faults[0].message;
        assert!(message.contains("301, then 200") && message.contains("run without --live"), "{message}");
    }
    assert_eq!(report.exit_code(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_this_machine_does_not_trust_or_find_is_an_error_and_not_a_failure_of_the_mesh() {
    for (hosts, reason) in [
        (Hosts::Untrusted, "invalid peer certificate"),
        (Hosts::Unknown, "its name cannot be resolved (the name server does not know it)"),
    ] {
        let report = live("reference", hosts).await;
        for scenario in &report.scenarios {
            assert!(scenario.checks.iter().all(|c| c.verdict == Verdict::Error), "{}", scenario.selector());
            let message = &scenario.faults[0].message;
            assert!(message.contains(reason) && message.contains("run without --live"), "{message}");
        }
        assert_eq!(report.exit_code(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_says_that_the_hosts_are_real() {
    let report = live("reference", Hosts::AsDocumented).await;
    assert_eq!(report.implementation.details["hosts"], "the documents' own (--live)");
    let services = report.scenarios.iter().flat_map(|s| &s.external_services);
    assert!(services.clone().count() > 0 && services.clone().all(|s| !s.is_observed()));
}
