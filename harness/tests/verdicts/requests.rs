//! Requests that could not be sent, and baselines that did not succeed: neither is the implementation's failure.

use std::sync::LazyLock;

use meshproof_harness::scenario::Scenario;
use meshproof_model::{Exchange, ExchangeError, ExchangeErrorKind, HopResult, Verdict};

use crate::fake::exchange;
use crate::hunt::{ONE, QUIET, Script, Scripted, ask, judged, report_of, story};

/// An exchange that ended in this error.
fn failed(url: &str, kind: ExchangeErrorKind, message: &str) -> Exchange {
    let mut exchange = exchange(url, 200);
    exchange.hops[0].result = HopResult::Error(ExchangeError { kind, message: message.to_owned() });
    exchange
}

/// A request must be answered 200.
pub(crate) static ANSWERED: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", reply.ok())
        })
    })
});

#[tokio::test]
async fn a_request_that_the_suite_cannot_send_is_an_error_and_no_failed_check() {
    let send: Script = |_, request| {
        failed(&request.url, ExchangeErrorKind::ClientFailed, "no route to service.example port 8081")
    };
    let report = report_of(Scripted { send, ..QUIET }, &ANSWERED).await;
    let (verdict, reason) = judged(&report);
    assert_eq!(verdict, Verdict::Error, "{reason}");
    assert!(reason.contains("no route to service.example port 8081"), "{reason}");
    assert_eq!(report.exit_code(), 3);
}

/// The same request before and after.
static AS_BEFORE: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let before = ask(mesh).await?;
            let after = ask(mesh).await?;
            mesh.check("claim", after.ends_as(&before))
        })
    })
});

fn is_first(token: &str) -> bool {
    token.ends_with("00001")
}

#[tokio::test]
async fn a_baseline_that_did_not_succeed_makes_the_check_inconclusive() {
    let timed_out: Script = |_, request| match is_first(&request.token) {
        true => failed(&request.url, ExchangeErrorKind::Timeout, "no response within 10 s"),
        false => exchange(&request.url, 200),
    };
    let unavailable: Script = |_, request| match is_first(&request.token) {
        true => exchange(&request.url, 503),
        false => exchange(&request.url, 200),
    };
    let both: Script =
        |_, request| failed(&request.url, ExchangeErrorKind::Timeout, "no response within 10 s");
    for send in [timed_out, unavailable, both] {
        let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &AS_BEFORE).await);
        assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    }
}

#[tokio::test]
async fn a_baseline_that_was_refused_or_answered_is_compared() {
    let refused: Script =
        |_, request| failed(&request.url, ExchangeErrorKind::ConnectionRefused, "connection refused");
    let (verdict, reason) = judged(&report_of(Scripted { send: refused, ..QUIET }, &AS_BEFORE).await);
    assert_eq!(verdict, Verdict::Passed, "{reason}");
    let another: Script = |_, request| match is_first(&request.token) {
        true => exchange(&request.url, 301),
        false => failed(&request.url, ExchangeErrorKind::Timeout, "no response within 10 s"),
    };
    let (verdict, reason) = judged(&report_of(Scripted { send: another, ..QUIET }, &AS_BEFORE).await);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}
