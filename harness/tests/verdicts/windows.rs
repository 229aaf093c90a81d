//! Which evidence of a server counts for a request.

use std::sync::LazyLock;

use meshproof_harness::claim::Claims;
use meshproof_harness::scenario::Scenario;
use meshproof_model::{Field, ValueKind, Verdict};
use serde_json::json;

use crate::fake::{HOST, exchange};
use crate::hunt::{ONE, PROXY, QUIET, Script, Scripted, ask, connected, judged, report_of, seen, story};

static ONLY_REQUEST: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            let _the_next_one = mesh.workload(PROXY).get("http://service.example/another").await?;
            mesh.check("claim", mesh.service(HOST).during(&reply).only_request())
        })
    })
});

async fn only_request(target: Scripted) -> (Verdict, String) {
    judged(&report_of(target, &ONLY_REQUEST).await)
}

const ARRIVES: Script = |seat, request| {
    seen(seat, Some(&request.token), json!({}));
    exchange(&request.url, 200)
};

#[tokio::test]
async fn a_late_copy_without_the_token_counts() {
    let later: Script = |seat, request| {
        if request.url.ends_with("another") {
            seen(seat, None, json!({}));
        }
        ARRIVES(seat, request)
    };
    let (verdict, reason) = only_request(Scripted { send: later, ..QUIET }).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    let at_the_end = Scripted { send: ARRIVES, stop: |seat| seen(seat, None, json!({})), ..QUIET };
    let (verdict, reason) = only_request(at_the_end).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    let (verdict, reason) = only_request(Scripted { send: ARRIVES, ..QUIET }).await;
    assert_eq!(verdict, Verdict::Passed, "{reason}");
}

static REACHED: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", reply.fails().and(mesh.service(HOST).during(&reply).reached()))
        })
    })
});

#[tokio::test]
async fn a_request_that_fails_before_it_reaches_the_server_does_not_show_that_the_server_was_refused() {
    let away: Script = |_, request| exchange(&request.url, 503);
    let (verdict, reason) = judged(&report_of(Scripted { send: away, ..QUIET }, &REACHED).await);
    assert_eq!(verdict, Verdict::Inconclusive, "{reason}");
    assert!(reason.contains("its certificate was not examined"), "{reason}");
    let examined: Script = |seat, request| {
        connected(seat, json!({"tls": {"failure": "received fatal alert: UnknownCA"}}));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send: examined, ..QUIET }, &REACHED).await);
    assert_eq!(verdict, Verdict::Passed, "{reason}");
}

static NOTHING: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.service(HOST).during(&reply).nothing())
        })
    })
});
static NO_OTHER: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.service(HOST).during(&reply).no_other_connection())
        })
    })
});

/// Beside the request's own connection, one on which nothing is sent.
const IDLE: Script = |seat, request| {
    connected(seat, json!({"number": 2, "peer": "127.0.0.1:2", "tls": {"version": "TLSv1.3"}}));
    exchange(&request.url, 200)
};
const IN_CLEAR: Script = |seat, request| {
    connected(seat, json!({"number": 2, "peer": "127.0.0.1:2", "clear_bytes": "GET / HTTP/1.1"}));
    exchange(&request.url, 200)
};
const HANDSHAKE_FAILED: Script = |seat, request| {
    connected(seat, json!({"number": 2, "peer": "127.0.0.1:2", "tls": {"failure": "no TLS"}}));
    exchange(&request.url, 200)
};
const CARRIES_ANOTHER_REQUEST: Script = |seat, request| {
    seen(seat, Some("r1-other.00001"), json!({"connection": 2, "peer": "127.0.0.1:2"}));
    IDLE(seat, request)
};

async fn verdicts<const N: usize>(claims: [&'static Scenario; N], send: Script) -> Vec<Verdict> {
    let mut all = Vec::new();
    for claim in claims {
        all.push(judged(&report_of(Scripted { send, ..QUIET }, claim).await).0);
    }
    all
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_sent_is_no_use_of_a_server() {
    use Verdict::{Failed, Passed};
    let claims: [&'static Scenario; 2] = [&NOTHING, &NO_OTHER];
    assert_eq!(verdicts(claims, QUIET.send).await, [Passed, Passed]);
    assert_eq!(verdicts(claims, IDLE).await, [Passed, Passed]);
    for used in [IN_CLEAR, HANDSHAKE_FAILED, CARRIES_ANOTHER_REQUEST] {
        assert_eq!(verdicts(claims, used).await, [Failed, Failed]);
    }
}

static RECEIVED: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.external(HOST).received(&reply))
        })
    })
});
static RECEIVED_ONLY: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.external(HOST).received_only(&reply))
        })
    })
});
static NEVER_RECEIVED: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.external(HOST).never_received(&reply))
        })
    })
});

#[tokio::test]
async fn a_request_is_received_once_over_tls_and_alone_or_never() {
    use Verdict::{Failed, Passed};
    let claims: [&'static Scenario; 3] = [&RECEIVED, &RECEIVED_ONLY, &NEVER_RECEIVED];
    let twice: Script = |seat, request| {
        seen(seat, Some(&request.token), json!({}));
        ARRIVES(seat, request)
    };
    let in_clear: Script = |seat, request| {
        seen(seat, Some(&request.token), json!({"over_tls": false, "port": 80}));
        exchange(&request.url, 200)
    };
    let beside: Script = |seat, request| {
        seen(seat, None, json!({}));
        ARRIVES(seat, request)
    };
    let without_token: Script = |seat, request| {
        seen(seat, None, json!({}));
        exchange(&request.url, 200)
    };
    for (send, expected) in [
        (ARRIVES, [Passed, Passed, Failed]),
        (twice, [Failed, Failed, Failed]),
        (in_clear, [Failed, Failed, Failed]),
        (beside, [Passed, Failed, Failed]),
        (without_token, [Failed, Failed, Failed]),
        (QUIET.send, [Failed, Failed, Passed]),
        (HANDSHAKE_FAILED, [Failed, Failed, Passed]),
    ] {
        assert_eq!(verdicts(claims, send).await, expected);
    }
}

static RECEIVED_SOME: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            mesh.check("claim", mesh.external(HOST).received_some(&[reply], HOST))
        })
    })
});

#[tokio::test]
async fn of_many_requests_a_handshake_without_a_server_name_is_another_cause_than_a_wrong_one() {
    const NAMELESS: Script = |seat, request| {
        seen(seat, Some(&request.token), json!({"over_tls": true, "tls": {"version": "TLSv1.3"}}));
        exchange(&request.url, 200)
    };
    const MISNAMED: Script = |seat, request| {
        seen(seat, Some(&request.token), json!({"over_tls": true, "tls": {"server_name": "other.example"}}));
        exchange(&request.url, 200)
    };
    for (send, kind) in [(NAMELESS, ValueKind::Absent), (MISNAMED, ValueKind::Other)] {
        let report = report_of(Scripted { send, ..QUIET }, &RECEIVED_SOME).await;
        let found: Vec<_> =
            report.checks().flat_map(|c| &c.deviations).map(|d| (d.field, d.seen_kind)).collect();
        assert!(found.contains(&(Field::ServerName, kind)), "{found:?}");
    }
}
