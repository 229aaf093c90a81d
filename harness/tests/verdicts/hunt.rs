//! Situations that once got a wrong verdict: each test states the right one.

#![allow(clippy::unwrap_used, reason = "a test's helpers report by panicking, as tests do")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use meshproof_harness::access_log::read_line;
use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::claim::Claims;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec};
use meshproof_harness::feature::Feature;
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::runner::{Options, Selected, run};
use meshproof_harness::scenario::{Scenario, Story};
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, Target, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::topology::Topology;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{
    CredentialStatus, Exchange, ExternalService, Fact, Implementation, Report, Side, Verdict,
};
use serde_json::{Value, json};

use crate::fake::{HOST, described, exchange};

pub(crate) const PROXY: &str = "sleep";

/// What happens when a request is sent.
pub(crate) type Script = fn(&Seat, &RequestSpec) -> Exchange;

#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) send: Script,
    /// What every change is answered with.
    pub(crate) change: fn() -> Result<(), TargetError>,
    pub(crate) features: &'static [Feature],
    /// What still happens while it is taken down.
    pub(crate) stop: fn(&Seat),
}

pub(crate) const QUIET: Scripted = Scripted {
    send: |_, request| exchange(&request.url, 200),
    change: || Ok(()),
    features: &[],
    stop: |_| {},
};

#[async_trait]
impl Target for Scripted {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        Ok(Implementation {
            name: "scripted".into(),
            version: "1".into(),
            target: "scripted".into(),
            features: self.features.iter().copied().map(Into::into).collect(),
            details: Default::default(),
        })
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        Ok(Box::new(ScriptedInstance { script: self.clone(), seat }))
    }
}

struct ScriptedInstance {
    script: Scripted,
    seat: Seat,
}

#[async_trait]
impl Instance for ScriptedInstance {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        Ok(described(specs, "scripted", "1"))
    }

    async fn change(&self, _: &ConfigChange) -> Result<(), TargetError> {
        (self.script.change)()
    }

    async fn set_running(&self, _: &str, _: bool) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_variable(&self, _: &str, _: &str, _: &str) -> Result<(), TargetError> {
        Ok(())
    }

    async fn send(&self, _: &str, request: &RequestSpec) -> Result<Exchange, TargetError> {
        Ok((self.script.send)(&self.seat, request))
    }

    async fn probe(&self, _: &Probe, request: &RequestSpec) -> Result<Exchange, TargetError> {
        Ok((self.script.send)(&self.seat, request))
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
        (self.script.stop)(&self.seat);
        Ok(())
    }
}

pub(crate) async fn report_of(target: Scripted, scenario: &'static Scenario) -> Report {
    let work = tempfile::tempdir().unwrap();
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::ExternalServiceReady, Duration::from_millis(50));
    run(Options {
        external: ExternalChoice::Embedded,
        timeouts,
        work: work.path().to_owned(),
        command: "meshproof run".into(),
        repeat: "meshproof run".into(),
        ..Options::new(Arc::new(target), vec![Selected { scenario, configuration: "only", checks: None }])
    })
    .await
    .unwrap()
}

#[track_caller]
pub(crate) fn judged(report: &Report) -> (Verdict, String) {
    let check = report.checks().last().unwrap();
    (check.verdict, check.reason.clone())
}

pub(crate) fn story(checks: &[&str], run: for<'a> fn(&'a Mesh) -> Story<'a>) -> Scenario {
    let checks = checks.iter().map(|id| Check::must(*id, "A", "The claim under test."));
    Scenario::new(Catalogue::new("hunt").checks(checks), Fixtures::default(), Topology::default(), run)
}

pub(crate) const ONE: &[&str] = &["claim"];

pub(crate) async fn ask(mesh: &Mesh) -> Result<meshproof_harness::claim::Reply, Stop> {
    mesh.workload(PROXY).get("http://service.example/private?of=today").await
}

fn merged(mut base: Value, members: Value) -> Value {
    let members = members.as_object().unwrap().clone();
    base.as_object_mut().unwrap().extend(members);
    base
}

/// Records a request at the server: the one that the scenario sends, with these members changed.
pub(crate) fn seen(seat: &Seat, token: Option<&str>, members: Value) {
    let base = json!({
        "connection": 1, "port": 443, "over_tls": true, "peer": "127.0.0.1:1", "method": "GET",
        "target": "/private?of=today", "authority": HOST, "version": "HTTP/1.1", "headers": [], "status": 200,
    });
    let request = serde_json::from_value(merged(base, members)).unwrap();
    let side = Side::Service { host: HOST.into() };
    seat.store.record(side, token.map(str::to_owned), Fact::Request(request));
}

/// Records a connection at the server.
pub(crate) fn connected(seat: &Seat, members: Value) {
    let base = json!({"number": 1, "port": 443, "tls_port": true, "peer": "127.0.0.1:1", "clear_bytes": ""});
    let connection = serde_json::from_value(merged(base, members)).unwrap();
    seat.store.record(Side::Service { host: HOST.into() }, None, Fact::Connection(connection));
}

pub(crate) fn logged(seat: &Seat, token: Option<&str>, line: &str) {
    let log = read_line(line.as_bytes());
    let side = Side::Proxy { name: PROXY.into() };
    seat.store.record(side, token.map(str::to_owned), Fact::AccessLog(log));
}

// What a broken mesh must not pass.

static ONE_UPSTREAM: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check(
                "claim",
                mesh.service(HOST)
                    .saw(&reply)
                    .exactly(1)
                    .over_tls()
                    .and(mesh.service(HOST).during(&reply).only_request()),
            )
        })
    })
});

#[tokio::test]
async fn a_second_request_upstream_without_the_token_is_not_one_upstream_request() {
    let send: Script = |seat, request| {
        seen(seat, None, json!({}));
        seen(seat, Some(&request.token), json!({}));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &ONE_UPSTREAM).await);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

static NO_PLAINTEXT: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            let claim = mesh.service(HOST).during(&reply).no_plaintext(&["/private"]);
            let _the_next_one = mesh.workload(PROXY).get("http://service.example/another").await?;
            mesh.check("claim", claim.provided("the request itself", reply.ends_with(200)))
        })
    })
});

#[tokio::test]
async fn a_plaintext_copy_that_is_sent_a_moment_later_and_without_the_token_is_a_leak() {
    let send: Script = |seat, request| {
        if request.url.ends_with("another") {
            let clear = "GET /private?of=today HTTP/1.1\r\n\r\n";
            connected(seat, json!({"port": 80, "tls_port": false, "clear_bytes": clear}));
        }
        seen(seat, Some(&request.token), json!({}));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &NO_PLAINTEXT).await);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

static FORWARDED_PROTO: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.service(HOST).saw(&reply).header("x-forwarded-proto", "https"))
        })
    })
});

#[tokio::test]
async fn a_header_with_two_values_fails_a_claim_about_the_first_value() {
    let send: Script = |seat, request| {
        let header = |value: &str| json!({"name": "x-forwarded-proto", "value": value});
        seen(seat, Some(&request.token), json!({"headers": [header("https"), header("http")]}));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &FORWARDED_PROTO).await);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

/// A line of Istio's text format, and of Envoy's own default format.
fn line(token: &str, format: &str) -> String {
    let (details, cluster) = match format {
        "istio" => (
            "- via_upstream - \"-\"",
            " outbound|443||service.example 10.0.0.1:1 10.0.0.2:80 10.0.0.3:1 - default",
        ),
        _ => ("-", ""),
    };
    format!(
        "[2026-03-01T10:20:30.456Z] \"GET /private?of=today HTTP/1.1\" 200 {details} 0 0 1 1 \"-\" \
         \"meshproof/{token}\" \"id\" \"service.example\" \"10.0.0.9:443\"{cluster}"
    )
}

static LOGGED: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            let line = mesh.proxy(PROXY).logged(&reply).method("GET").status(200).authority(HOST);
            mesh.check("claim", line.upstream_cluster("outbound|443||service.example"))
        })
    })
});

#[tokio::test]
async fn a_request_with_a_second_unreadable_log_line_is_not_logged_once() {
    let send: Script = |seat, request| {
        logged(seat, Some(&request.token), &line(&request.token, "istio"));
        logged(seat, None, &format!("REPEATED {}", line(&request.token, "istio")));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &LOGGED).await);
    assert_ne!(verdict, Verdict::Passed, "{reason}");
}

static PASSED_THROUGH: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.proxy(PROXY).passed_through(&reply, HOST))
        })
    })
});

#[tokio::test]
async fn a_path_in_an_unreadable_line_still_fails_the_claim() {
    let send: Script = |seat, request| {
        logged(
            seat,
            None,
            "[2026-03-01T10:20:30.456Z] \"- - -\" 0 - - - \"-\" 1 1 1 - \"-\" \"-\" \"-\" \"-\" \"10.0.0.9:443\" \
             outbound|443||service.example 10.0.0.1:1 10.0.0.2:443 10.0.0.3:1 service.example -",
        );
        logged(seat, None, "decrypted: GET /private?of=today");
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &PASSED_THROUGH).await);
    assert_ne!(verdict, Verdict::Passed, "{reason}");
}

// What a correct mesh fails.

#[tokio::test]
async fn a_proxy_that_logs_in_envoys_own_format_need_not_show_the_upstream_cluster() {
    let send: Script = |seat, request| {
        logged(seat, Some(&request.token), &line(&request.token, "envoy"));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &LOGGED).await);
    assert_eq!(verdict, Verdict::Passed, "{reason}");
}

static SERVER_NAME_LOGGED: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.proxy(PROXY).logged(&reply).status(200).requested_server_name(HOST))
        })
    })
});

#[tokio::test]
async fn a_log_format_without_the_server_name_is_inconclusive() {
    let send: Script = |seat, request| {
        logged(seat, Some(&request.token), &line(&request.token, "envoy"));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &SERVER_NAME_LOGGED).await);
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    let send: Script = |seat, request| {
        let token = &request.token;
        let line = json!({"start_time": "2026-03-01T10:20:30.456Z", "response_code": 200, "user_agent": format!("meshproof/{token}")});
        logged(seat, Some(token), &line.to_string());
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &SERVER_NAME_LOGGED).await);
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
}

#[tokio::test]
async fn a_log_format_with_an_absent_server_name_shows_a_hop_without_one() {
    let send: Script = |seat, request| {
        logged(seat, Some(&request.token), &line(&request.token, "istio"));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &SERVER_NAME_LOGGED).await);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

#[tokio::test]
async fn a_passed_through_connection_in_a_log_format_without_the_server_name_is_inconclusive() {
    let send: Script = |seat, request| {
        logged(
            seat,
            None,
            "[2026-03-01T10:20:30.456Z] \"- - -\" 0 - 1 1 1 - \"-\" \"-\" \"-\" \"-\" \"10.0.0.9:443\"",
        );
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &PASSED_THROUGH).await);
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
}

static SERVED_NOTHING: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", reply.fails().and(mesh.service(HOST).during(&reply).served_nothing()))
        })
    })
});

#[tokio::test]
async fn a_request_that_was_never_answered_was_not_served() {
    // The embedded service keeps status 0 where a request's body broke off before there was an answer.
    let send: Script = |seat, request| {
        seen(seat, Some(&request.token), json!({"status": 0}));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &SERVED_NOTHING).await);
    assert_eq!(verdict, Verdict::Passed, "{reason}");
}

static CUT_OFF: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let plain = mesh.proxy("gateway").probe(80).get("http://service.example/").await?;
            mesh.check("claim", plain.is_refused().and(mesh.service(HOST).during(&plain).nothing()))
        })
    })
});

#[tokio::test]
async fn a_gateway_that_refuses_a_plain_client_with_400_has_refused_it() {
    // nginx ("The plain HTTP request was sent to HTTPS port") and Go's net/http do so, and nginx answers anonymous
    // clients likewise.
    let send: Script = |_, request| exchange(&request.url, 400);
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &CUT_OFF).await);
    assert_eq!(verdict, Verdict::Passed, "{reason}");
}

// Whose fault it is.

const TWO: &[&str] = &["first", "claim"];

static APPLIES: LazyLock<Scenario> = LazyLock::new(|| {
    story(TWO, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("first", reply.ends_with(200))?;
            mesh.change(ConfigChange::default()).await?;
            let reply = ask(mesh).await?;
            mesh.check("claim", reply.ends_with(200))
        })
    })
});

#[tokio::test]
async fn what_an_implementation_declares_and_then_calls_unsupported_fails() {
    let unsupported = || Err(TargetError::Unsupported(Feature::MutualOrigination));
    let target = Scripted { change: unsupported, features: &[Feature::MutualOrigination], ..QUIET };
    let report = report_of(target, &APPLIES).await;
    let (verdict, reason) = judged(&report);
    assert_eq!((verdict, report.exit_code()), (Verdict::Failed, 1), "{reason}");
}
