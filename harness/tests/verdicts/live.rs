//! Runs against real hosts. The suite cannot observe what they receive, so no claim about that can pass, and a host that does
//! not answer as its document says is an error of the environment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use meshproof_harness::catalogue::{Catalogue, Check, Promise};
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply, Upstream};
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec, PlainPort};
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::{External, Mesh, Stop};
use meshproof_harness::runner::{Options, Selected, run};
use meshproof_harness::scenario::{Scenario, Story};
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, Target, TargetError};
use meshproof_harness::topology::Topology;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{
    CredentialStatus, Exchange, ExternalService, Fact, Implementation, Report, Side, Verdict,
};
use serde_json::json;

use crate::fake::{HOST, described, exchange};

/// What the real host does.
#[derive(Clone, Copy, Debug, Default)]
struct Real {
    /// From this request on it answers 503 to direct requests.
    gone_at: Option<usize>,
    /// The evidence contains what it received, although it must not count.
    shown: bool,
}

#[async_trait]
impl Target for Real {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        let name = || "real".to_owned();
        Ok(Implementation {
            name: name(),
            version: name(),
            target: name(),
            features: Vec::new(),
            details: Default::default(),
        })
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        Ok(Box::new(RealInstance { real: *self, seat, asked: AtomicUsize::new(0) }))
    }
}

struct RealInstance {
    real: Real,
    seat: Seat,
    asked: AtomicUsize,
}

#[async_trait]
impl Instance for RealInstance {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        Ok(described(specs, ExternalService::LIVE, "its own"))
    }

    async fn change(&self, _: &ConfigChange) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_running(&self, _: &str, _: bool) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_variable(&self, _: &str, _: &str, _: &str) -> Result<(), TargetError> {
        Ok(())
    }

    async fn send(&self, _: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        if self.real.shown {
            let side = || Side::Service { host: HOST.into() };
            let of_request = json!({"connection": 1, "port": 443, "over_tls": true, "peer": "10.0.0.1:1", "method": "GET",
                "target": "/private", "authority": HOST, "version": "HTTP/1.1", "headers": [], "status": 200});
            let token = Some(request.token.clone());
            let fact = Fact::Request(serde_json::from_value(of_request).unwrap());
            self.seat.store.record(side(), token.clone(), fact);
            let line = format!(
                "[2026-01-01T00:00:00.000Z] \"GET /private HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 1 0 \"-\" \"meshproof/{}\" \
                 \"id\" \"{HOST}\" \"192.0.2.7:443\" outbound|443||{HOST} 10.0.0.1:1 1.2.3.4:80 10.1.0.5:2 - default",
                request.token
            );
            let log = meshproof_harness::access_log::read_line(line.as_bytes());
            self.seat.store.record(Side::Proxy { name: "sleep".into() }, token, Fact::AccessLog(log));
        }
        Ok(exchange(&request.url, 200))
    }

    async fn probe(&self, _: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let gone = self.real.gone_at.is_some_and(|at| asked >= at);
        Ok(exchange(&request.url, if gone { 503 } else { 200 }))
    }

    async fn settle(&self) -> Result<(), TargetError> {
        Ok(())
    }

    async fn credentials(&self, _: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        Ok(Vec::new())
    }

    fn upstream_address(&self, _: &str, _: u16) -> Option<String> {
        None
    }

    async fn stop(&self) -> Result<(), TargetError> {
        Ok(())
    }
}

fn answers() -> Promise {
    Promise::new("http://service.example/private", &[200], "HTTP/1.1")
}

fn scenario(
    promises: impl IntoIterator<Item = Promise>,
    checks: &[&str],
    run: for<'a> fn(&'a Mesh) -> Story<'a>,
) -> Scenario {
    let checks = checks.iter().map(|id| Check::must(*id, "A", "The claim under test."));
    let mut catalogue = Catalogue::new("live").checks(checks);
    catalogue.live.extend(promises);
    Scenario::new(catalogue, Fixtures::default(), Topology::default(), run)
}

fn live(checks: &[&str], run: for<'a> fn(&'a Mesh) -> Story<'a>) -> Scenario {
    scenario([answers()], checks, run)
}

async fn report_of(real: Real, external: ExternalChoice, scenario: &'static Scenario) -> Report {
    let work = tempfile::tempdir().unwrap();
    run(Options {
        external,
        work: work.path().to_owned(),
        command: "meshproof run".into(),
        repeat: "meshproof run".into(),
        ..Options::new(Arc::new(real), vec![Selected { scenario, configuration: "only", checks: None }])
    })
    .await
    .unwrap()
}

async fn asked(mesh: &Mesh) -> Result<(External<'_>, Reply), Stop> {
    let spec = ExternalSpec {
        aliases: Vec::new(),
        host: HOST.to_owned(),
        plain: PlainPort::Serve,
        tls: None,
        ipv6: false,
        tcp: Vec::new(),
        pages: Vec::new(),
        keep_alive: true,
    };
    let host = mesh.deploy_external((spec, Documented::Site)).await?;
    let reply = mesh.workload("sleep").get("http://service.example/private").await?;
    Ok((host, reply))
}

fn verdicts(report: &Report) -> Vec<(&str, Verdict)> {
    report.checks().map(|c| (c.id.rsplit('/').next().unwrap(), c.verdict)).collect()
}

/// Every claim on what the host saw, alone and put together with what the other sides show.
static SIDES: LazyLock<Scenario> = LazyLock::new(|| {
    live(
        &[
            "saw",
            "saw-none",
            "saw-on",
            "nothing",
            "no-request",
            "served-nothing",
            "refused-client",
            "only-request",
            "no-other-connection",
            "no-plaintext",
            "saw-in-clear",
            "saw-all-over",
            "opened-by",
            "with-a-twin",
            "as-a-twin",
            "beside-another",
            "two-outside",
            "instead-of-another",
        ],
        |mesh| {
            Box::pin(async move {
                let (host, reply) = asked(mesh).await?;
                let window = || host.during(&reply);
                let stranger = Authority::new(KeyAlgorithm::EcdsaP256)?.client("stranger").issue()?;
                mesh.check("saw", host.saw(&reply).exactly(1).over_tls())?;
                mesh.check("saw-none", host.saw(&reply).none())?;
                mesh.check("saw-on", host.saw_on(443, &reply))?;
                mesh.check("nothing", window().nothing())?;
                mesh.check("no-request", window().no_request())?;
                mesh.check("served-nothing", window().served_nothing())?;
                mesh.check("refused-client", window().refused_client(&stranger))?;
                mesh.check("only-request", window().only_request())?;
                mesh.check("no-other-connection", window().no_other_connection())?;
                mesh.check("no-plaintext", window().no_plaintext(&["/private"]))?;
                mesh.check("saw-in-clear", window().saw_in_clear("/private"))?;
                mesh.check("saw-all-over", host.saw_all_over(1, &reply))?;
                mesh.check("opened-by", host.connection_opened_by("sleep", &reply))?;
                mesh.check("with-a-twin", window().nothing().provided("the request", reply.ends_with(200)))?;
                mesh.check("as-a-twin", reply.ends_with(200).provided("the sight", window().nothing()))?;
                mesh.check("beside-another", reply.ends_with(200).and(window().nothing()))?;
                mesh.check("two-outside", window().nothing().and_outside(window().no_request()))?;
                mesh.check("instead-of-another", window().nothing().or_unobserved(window().no_request()))
            })
        },
    )
});

#[tokio::test]
async fn claims_about_what_a_real_host_received_are_skipped() {
    for shown in [false, true] {
        let report = report_of(Real { shown, ..Real::default() }, ExternalChoice::Live, &SIDES).await;
        assert_eq!(report.checks().count(), SIDES.catalogue.checks.len());
        for check in report.checks() {
            assert_eq!(check.verdict, Verdict::Skipped, "{}, shown {shown}: {}", check.id, check.reason);
            assert!(
                check.reason.contains("ith --live, service.example is the real host"),
                "{}",
                check.reason
            );
            assert!(check.evidence.is_empty(), "{} rests on {:?}", check.id, check.evidence);
        }
        assert_eq!(report.exit_code(), 3, "nothing was judged");
        // Each claim has a verdict if the host is observed.
        let report = report_of(Real { shown, ..Real::default() }, ExternalChoice::Embedded, &SIDES).await;
        assert!(report.checks().all(|c| c.verdict != Verdict::Skipped), "{:?}", verdicts(&report));
    }
}

static OTHERS: LazyLock<Scenario> = LazyLock::new(|| {
    live(
        &[
            "own-holds",
            "own-is-broken",
            "broken-beside-it",
            "instead-holds",
            "instead-is-broken",
            "another-host",
            "right-port",
            "wrong-port",
        ],
        |mesh| {
            Box::pin(async move {
                let (host, reply) = asked(mesh).await?;
                let (good, bad) = (reply.ends_with(200), reply.ends_with(204));
                let nothing = || -> Claim { host.during(&reply).nothing() };
                mesh.check("own-holds", good.clone().and_outside(nothing()))?;
                mesh.check("own-is-broken", bad.clone().and_outside(nothing()))?;
                mesh.check("broken-beside-it", nothing().and(bad.clone()))?;
                mesh.check("instead-holds", nothing().or_unobserved(good))?;
                mesh.check("instead-is-broken", nothing().or_unobserved(bad))?;
                mesh.check("another-host", mesh.service("inside.example").saw(&reply).none())?;
                let logged =
                    |port| mesh.proxy("sleep").logged(&reply).upstream_host(mesh.upstream(HOST, port));
                mesh.check("right-port", logged(443))?;
                mesh.check("wrong-port", logged(80))
            })
        },
    )
});

#[tokio::test]
async fn the_other_sides_decide_and_the_finding_says_that_one_side_is_missing() {
    let report = report_of(Real { shown: true, ..Real::default() }, ExternalChoice::Live, &OTHERS).await;
    assert_eq!(
        verdicts(&report),
        [
            ("own-holds", Verdict::Passed),
            ("own-is-broken", Verdict::Failed),
            ("broken-beside-it", Verdict::Failed),
            ("instead-holds", Verdict::Passed),
            ("instead-is-broken", Verdict::Failed),
            ("another-host", Verdict::Passed),
            ("right-port", Verdict::Passed),
            ("wrong-port", Verdict::Failed),
        ]
    );
    for check in report.checks().filter(|c| c.id.ends_with("-holds")) {
        assert!(check.reason.contains("ith --live, service.example is the real host"), "{}", check.reason);
    }
    assert_eq!(report.implementation.details["hosts"], "the documents' own (--live)");
    assert!(!report.scenarios[0].external_services[0].is_observed());
    let observed =
        report_of(Real { shown: true, ..Real::default() }, ExternalChoice::Embedded, &OTHERS).await;
    assert_eq!(verdicts(&observed)[0], ("own-holds", Verdict::Failed), "where it is observed, it counts");
    assert_eq!(verdicts(&observed)[3], ("instead-holds", Verdict::Failed), "and nothing takes its place");
}

static LOGS: LazyLock<Scenario> = LazyLock::new(|| {
    live(&["no-other-upstream", "another-upstream", "where-logged", "where-logged-otherwise"], |mesh| {
        Box::pin(async move {
            let (_host, reply) = asked(mesh).await?;
            let logged = || mesh.proxy("sleep").logged(&reply);
            let known = Upstream::At("192.0.2.7:443".to_owned());
            mesh.check("no-other-upstream", logged().no_upstream_but(&known))?;
            mesh.check("another-upstream", logged().no_upstream_but(&Upstream::Nowhere))?;
            mesh.check("where-logged", logged().no_upstream_but(&known).where_logged())?;
            mesh.check("where-logged-otherwise", logged().no_upstream_but(&Upstream::Nowhere).where_logged())
        })
    })
});

#[tokio::test]
async fn a_log_that_replaces_the_hosts_evidence_decides_only_with_a_line() {
    let of = async |shown| report_of(Real { shown, ..Real::default() }, ExternalChoice::Live, &LOGS).await;
    let logged = of(true).await;
    let found: Vec<Verdict> = logged.checks().map(|c| c.verdict).collect();
    assert_eq!(found, [Verdict::Passed, Verdict::Failed, Verdict::Passed, Verdict::Failed]);
    let silent = of(false).await;
    let found: Vec<Verdict> = silent.checks().map(|c| c.verdict).collect();
    assert_eq!(found, [Verdict::Failed, Verdict::Failed, Verdict::Inconclusive, Verdict::Inconclusive]);
}

const GOOD_AND_BAD: &[&str] = &["good", "bad"];

fn good_and_bad(mesh: &Mesh) -> Story<'_> {
    Box::pin(async move {
        let (_host, reply) = asked(mesh).await?;
        mesh.check("good", reply.ends_with(200))?;
        mesh.check("bad", reply.ends_with(204))
    })
}

static CHANGING: LazyLock<Scenario> = LazyLock::new(|| live(GOOD_AND_BAD, good_and_bad));

#[tokio::test]
async fn a_real_host_that_does_not_answer_as_its_document_says_is_the_environments_fault() {
    let report =
        report_of(Real { gone_at: Some(0), ..Real::default() }, ExternalChoice::Live, &CHANGING).await;
    assert_eq!(verdicts(&report), [("good", Verdict::Error), ("bad", Verdict::Error)]);
    let words = &report.scenarios[0].faults[0].message;
    for part in ["http://service.example/private", "Expected: status 200", "503", "run without --live"] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    assert_eq!(report.exit_code(), 3);
}

#[tokio::test]
async fn a_failure_while_a_real_host_changes_is_an_error_and_a_pass_stays_a_pass() {
    let steady = report_of(Real::default(), ExternalChoice::Live, &CHANGING).await;
    assert_eq!(verdicts(&steady), [("good", Verdict::Passed), ("bad", Verdict::Failed)]);
    let report =
        report_of(Real { gone_at: Some(1), ..Real::default() }, ExternalChoice::Live, &CHANGING).await;
    assert_eq!(verdicts(&report), [("good", Verdict::Passed), ("bad", Verdict::Error)]);
    let words = &report.checks().last().unwrap().reason;
    assert!(
        words.contains("because at the end of the scenario, the real host service.example did not answer"),
        "{words}"
    );
    assert_eq!(report.scenarios[0].faults.len(), 1);
}

static NO_HOST: LazyLock<Scenario> = LazyLock::new(|| scenario([], GOOD_AND_BAD, good_and_bad));
static OTHER_HOST: LazyLock<Scenario> = LazyLock::new(|| {
    let other = Promise::new("http://other.example/", &[200], "HTTP/1.1");
    scenario([other], GOOD_AND_BAD, good_and_bad)
});

#[tokio::test]
async fn a_scenario_without_a_promise_of_the_real_host_cannot_run_with_live() {
    for (scenario, words) in
        [(&NO_HOST, "uses no host on the internet"), (&OTHER_HOST, "does not say what the real host")]
    {
        let report = report_of(Real::default(), ExternalChoice::Live, scenario).await;
        for check in report.checks() {
            assert_eq!(check.verdict, Verdict::Error);
            assert!(check.reason.contains(words), "{}", check.reason);
        }
    }
}
