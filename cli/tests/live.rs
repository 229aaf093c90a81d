//! `--live` without an internet: the reference beside hosts that show nothing of what they saw. Scenarios and claims are those of a live
//! run; only the cluster and the hosts are others.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof::sabotage::KillMatrix;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec, PlainPort};
use meshproof_harness::runner::{self, Options};
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, Target, TargetError};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{CredentialStatus, Exchange, ExternalService, Implementation, Report, Verdict};
use meshproof_scenarios::select::select_live;

/// A local target whose external services pass for real hosts.
struct Unobserved {
    local: Arc<dyn Target>,
    /// They redirect nobody to `https`, as a site does that has changed.
    changed: bool,
}

#[async_trait]
impl Target for Unobserved {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        self.local.identify().await
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        let local = self.local.start(Seat { external: ExternalChoice::Embedded, ..seat }).await?;
        Ok(Box::new(Host { local, changed: self.changed }))
    }
}

struct Host {
    local: Box<dyn Instance>,
    changed: bool,
}

#[async_trait]
impl Instance for Host {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        let spoilt = |(spec, documented): (ExternalSpec, Documented)| {
            let plain = if self.changed { PlainPort::Serve } else { spec.plain };
            (ExternalSpec { plain, ..spec }, documented)
        };
        let deployed = self.local.deploy_externals(specs.into_iter().map(spoilt).collect()).await?;
        let real = |told| ExternalService { kind: ExternalService::LIVE.to_owned(), ..told };
        Ok(deployed.into_iter().map(real).collect())
    }

    async fn change(&self, change: &ConfigChange) -> Result<(), TargetError> {
        self.local.change(change).await
    }

    async fn set_running(&self, proxy: &str, running: bool) -> Result<(), TargetError> {
        self.local.set_running(proxy, running).await
    }

    async fn set_variable(&self, workload: &str, name: &str, value: &str) -> Result<(), TargetError> {
        self.local.set_variable(workload, name, value).await
    }

    async fn send(&self, workload: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        self.local.send(workload, request).await
    }

    async fn probe(&self, probe: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        // A local probe has a way to one port alone; in a cluster the redirect's port is as near.
        let straight = RequestSpec { follow_redirects: false, ..request.clone() };
        let mut exchange = self.local.probe(probe, &straight).await?;
        let redirect = exchange.last_response().and_then(|r| r.header("location")).map(str::to_owned);
        if let Some(url) = redirect.filter(|_| request.follow_redirects) {
            exchange.hops.extend(self.local.probe(probe, &RequestSpec { url, ..straight }).await?.hops);
        }
        Ok(exchange)
    }

    async fn settle(&self) -> Result<(), TargetError> {
        self.local.settle().await
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        self.local.credentials(proxy).await
    }

    fn upstream_address(&self, host: &str, port: u16) -> Option<String> {
        self.local.upstream_address(host, port)
    }

    async fn stop(&self) -> Result<(), TargetError> {
        self.local.stop().await
    }
}

async fn live(name: &str, changed: bool) -> Report {
    let local = meshproof_targets::by_name(name, &meshproof_targets::Settings::default()).unwrap();
    let selection = select_live(&[]).unwrap();
    runner::run(Options {
        external: ExternalChoice::Live,
        command: "meshproof run".to_owned(),
        repeat: "meshproof run".to_owned(),
        ..Options::new(Arc::new(Unobserved { local, changed }), selection)
    })
    .await
    .unwrap()
}

fn with(report: &Report, verdicts: &[Verdict]) -> BTreeSet<String> {
    report.checks().filter(|c| verdicts.contains(&c.verdict)).map(|c| c.id.clone()).collect()
}

/// What only the external side can show, and so nobody judges.
const NOT_JUDGED: [&str; 13] = [
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
async fn a_live_run_judges_what_two_sides_can_tell_and_skips_what_the_third_alone_could() {
    let report = live("reference", false).await;
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
        assert!(check.reason.contains("is not known: with --live it is the real host"), "{}", check.reason);
    }
    assert_eq!(report.exit_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_lists_what_is_judged_in_a_live_run_and_what_is_not() {
    let report = live("reference", false).await;
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

/// For each saboteur, a judged check that ought to notice it without the third side.
const OUGHT: [(&str, &str); 12] = [
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
async fn saboteurs_are_noticed_in_a_live_run_by_what_is_judged_and_no_check_fails_that_passes_observed() {
    let kept = KillMatrix::kept().unwrap();
    for (saboteur, ought) in OUGHT {
        let report = live(&format!("reference:{saboteur}"), false).await;
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
async fn a_site_that_has_changed_is_no_failure_of_the_mesh() {
    let report = live("reference", true).await;
    for scenario in report.scenarios.iter().filter(|s| s.id != "external-web-service") {
        assert!(scenario.checks.iter().all(|c| c.verdict == Verdict::Error), "{}", scenario.selector());
        let words = &scenario.faults[0].message;
        assert!(words.contains("301, then 200") && words.contains("run without --live"), "{words}");
    }
    assert_eq!(report.exit_code(), 3);
}
