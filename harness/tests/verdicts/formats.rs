//! Access-log formats that the mesh's operators configured: a claim that needs a field which the format does not have is skipped
//! with that reason, and everything else is judged as ever.

use std::sync::LazyLock;

use meshproof_harness::access_log::LogFormat;
use meshproof_harness::scenario::Scenario;
use meshproof_harness::target::Seat;
use meshproof_model::{Fact, Side, Verdict};

use crate::fake::{HOST, exchange};
use crate::hunt::{ONE, PROXY, QUIET, Script, Scripted, ask, judged, report_of, story};

fn logged(seat: &Seat, token: &str, format: &str, line: &str) {
    let log = LogFormat::text(format).unwrap().read_line(line.as_bytes()).unwrap();
    seat.store.record(Side::Proxy { name: PROXY.into() }, Some(token.to_owned()), Fact::AccessLog(log));
}

static FULL: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            let line = mesh.proxy(PROXY).logged(&reply).status(200).requested_server_name(HOST);
            mesh.check("claim", line.upstream_cluster("outbound|443||service.example"))
        })
    })
});

#[tokio::test]
async fn a_check_whose_fields_the_configured_format_does_not_have_is_skipped_and_names_them() {
    let send: Script = |seat, request| {
        let line = format!("meshproof/{} 200", request.token);
        logged(seat, &request.token, "%REQ(USER-AGENT)% %RESPONSE_CODE%", &line);
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &FULL).await);
    assert_eq!(verdict, Verdict::Skipped, "{reason}");
    assert!(reason.contains("requested server name, upstream cluster"), "{reason}");
    assert!(reason.contains("format that is configured for proxy"), "{reason}");
}

#[tokio::test]
async fn the_fields_that_a_configured_format_has_are_judged() {
    let send: Script = |seat, request| {
        let line = format!("meshproof/{} 503", request.token);
        logged(seat, &request.token, "%REQ(USER-AGENT)% %RESPONSE_CODE%", &line);
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &FULL).await);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    let send: Script = |seat, request| {
        let format = "%REQ(USER-AGENT)% %RESPONSE_CODE% %REQUESTED_SERVER_NAME% %UPSTREAM_CLUSTER%";
        let line = format!("meshproof/{} 200 service.example outbound|443||service.example", request.token);
        logged(seat, &request.token, format, &line);
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &FULL).await);
    assert_eq!(verdict, Verdict::Passed, "{reason}");
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
async fn a_format_without_method_and_path_cannot_show_that_a_connection_was_not_read() {
    let send: Script = |seat, request| {
        logged(seat, &request.token, "%REQ(USER-AGENT)% %REQUESTED_SERVER_NAME%", "- service.example");
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &PASSED_THROUGH).await);
    assert_eq!(verdict, Verdict::Skipped, "{reason}");
    assert!(reason.contains("method or path"), "{reason}");
}

#[tokio::test]
async fn a_line_with_the_token_that_has_several_readings_decides_nothing() {
    let send: Script = |seat, request| {
        let format =
            LogFormat::text("ua=%REQ(USER-AGENT)% status=%RESPONSE_CODE% path=%REQ(:PATH)%").unwrap();
        let line = format!("ua=meshproof/{} status=200 path=/a status=200 path=/b c", request.token);
        let log = format.read_line(line.as_bytes()).unwrap();
        seat.store.record(Side::Proxy { name: PROXY.into() }, None, Fact::AccessLog(log));
        exchange(&request.url, 200)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &FULL).await);
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    assert!(reason.contains("more than one way"), "{reason}");
}
