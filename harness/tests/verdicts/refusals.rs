//! When a server refused a client's certificate, and when the handshake only failed.

use std::sync::{LazyLock, OnceLock};

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::claim::Claims;
use meshproof_harness::scenario::Scenario;
use meshproof_model::{Exchange, TlsFailure, Verdict};
use serde_json::{Value, json};

use crate::fake::{HOST, exchange};
use crate::hunt::{ONE, QUIET, Script, Scripted, ask, connected, judged, report_of, seen, story};
use crate::requests::ANSWERED;

/// The same one for every test of this file: claims compare its subject and serial.
fn stranger() -> &'static Issued {
    static STRANGER: OnceLock<Issued> = OnceLock::new();
    STRANGER.get_or_init(|| {
        Authority::new(KeyAlgorithm::EcdsaP256).unwrap().client("client.example.com").issue().unwrap()
    })
}

static REFUSED_CLIENT: LazyLock<Scenario> = LazyLock::new(|| {
    story(ONE, |mesh| {
        Box::pin(async move {
            let reply = ask(mesh).await?;
            let refused = mesh.service(HOST).during(&reply).refused_client(stranger());
            mesh.check("claim", reply.fails().and(refused))
        })
    })
});

/// A request that fails while the server sees this handshake.
async fn failed_handshake(send: Script) -> (Verdict, String) {
    judged(&report_of(Scripted { send, ..QUIET }, &REFUSED_CLIENT).await)
}

fn handshake(failure: &str, kind: &TlsFailure, more: Value) -> Value {
    let mut tls = json!({"failure": failure, "failure_kind": kind});
    tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"tls": tls})
}

fn alert_sent(alert: &str) -> TlsFailure {
    TlsFailure::AlertSent { alert: alert.to_owned() }
}

/// The stranger's certificate as a server shows it that refuses it.
fn refused(certificate: &Issued) -> Value {
    json!({"peer_certificate": certificate.facts(), "peer_verification": "FAILED:UnknownIssuer"})
}

#[tokio::test]
async fn an_alert_that_the_server_sent_about_this_certificate_is_a_refusal() {
    let shown: Script = |seat, request| {
        let failure = "invalid peer certificate: UnknownIssuer";
        connected(seat, handshake(failure, &alert_sent("unknown_ca"), refused(stranger())));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(shown).await;
    assert_eq!(verdict, Verdict::Passed, "{reason}");
    let unshown: Script = |seat, request| {
        connected(seat, handshake("certificate verify failed", &alert_sent("unknown_ca"), json!({})));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(unshown).await;
    assert_eq!(verdict, Verdict::Passed, "{reason}");
}

#[tokio::test]
async fn a_client_that_resets_the_connection_was_not_refused() {
    let send: Script = |seat, request| {
        let failure = "Connection reset by peer (os error 104)";
        connected(seat, handshake(failure, &TlsFailure::PeerVanished, json!({})));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(send).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

#[tokio::test]
async fn a_client_that_closes_the_connection_in_the_handshake_was_not_refused() {
    let send: Script = |seat, request| {
        connected(seat, handshake("tls handshake eof", &TlsFailure::PeerVanished, json!({})));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(send).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

#[tokio::test]
async fn a_client_that_presents_no_certificate_does_not_show_that_this_one_is_refused() {
    let send: Script = |seat, request| {
        let failure = "peer sent no certificates";
        connected(seat, handshake(failure, &alert_sent("certificate_required"), json!({})));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(send).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

#[tokio::test]
async fn a_refusal_of_another_certificate_is_not_a_refusal_of_this_one() {
    let send: Script = |seat, request| {
        let another = Authority::new(KeyAlgorithm::EcdsaP256).unwrap().client("another").issue().unwrap();
        let failure = "invalid peer certificate: UnknownIssuer";
        connected(seat, handshake(failure, &alert_sent("unknown_ca"), refused(&another)));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(send).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    assert!(reason.contains("another"), "{reason}");
}

#[tokio::test]
async fn a_handshake_that_failed_for_any_other_reason_is_no_refusal() {
    let garbled: Script = |seat, request| {
        connected(seat, handshake("received corrupt message", &TlsFailure::Other, json!({})));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(garbled).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
    let untyped: Script = |seat, request| {
        connected(seat, json!({"tls": {"failure": "invalid peer certificate: UnknownIssuer"}}));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = failed_handshake(untyped).await;
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

#[tokio::test]
async fn a_proxy_that_refuses_the_server_is_not_a_server_that_refuses_the_proxy() {
    let send: Script = |seat, request| {
        let alert = TlsFailure::AlertReceived { alert: "unknown_ca".to_owned() };
        connected(seat, handshake("received fatal alert: UnknownCA", &alert, json!({})));
        exchange(&request.url, 503)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &REFUSED_CLIENT).await);
    assert_eq!(verdict, Verdict::Failed, "{reason}");
}

#[tokio::test]
async fn a_client_without_any_certificate_does_not_show_that_the_strangers_credential_was_used() {
    // `untrusted-client-refused` is to show "that the gateway uses the credential it was given".
    let send: Script = |seat, request| {
        let tls = json!({"peer_verification": "NONE"});
        seen(seat, Some(&request.token), json!({"status": 400, "tls": tls}));
        exchange(&request.url, 400)
    };
    let (verdict, reason) = judged(&report_of(Scripted { send, ..QUIET }, &REFUSED_CLIENT).await);
    assert_ne!(verdict, Verdict::Passed, "{reason}");
}

#[tokio::test]
async fn a_failure_is_explained_by_the_handshake_with_the_name_of_its_own_host() {
    let send: Script = |seat, request| {
        for (name, alert) in [("other.example", "bad_certificate"), (HOST, "decrypt_error")] {
            let received = TlsFailure::AlertReceived { alert: alert.to_owned() };
            connected(seat, handshake("received fatal alert", &received, json!({"server_name": name})));
        }
        Exchange { duration_us: 1_000_000, ..exchange(&request.url, 503) }
    };
    let report = report_of(Scripted { send, ..QUIET }, &ANSWERED).await;
    let deviations: Vec<&str> =
        report.checks().flat_map(|c| &c.deviations).map(|d| d.seen.as_str()).collect();
    assert!(deviations.iter().any(|d| d.contains("decrypt_error")), "{deviations:?}");
    assert!(!deviations.iter().any(|d| d.contains("bad_certificate")), "{deviations:?}");
}

#[tokio::test]
async fn an_answer_of_the_server_is_not_explained_by_a_handshake_that_failed_elsewhere() {
    let send: Script = |seat, request| {
        let received = TlsFailure::AlertReceived { alert: "bad_certificate".to_owned() };
        connected(
            seat,
            handshake("received fatal alert", &received, json!({"server_name": "other.example"})),
        );
        Exchange { duration_us: 1_000_000, ..exchange(&request.url, 400) }
    };
    let report = report_of(Scripted { send, ..QUIET }, &ANSWERED).await;
    let deviations: Vec<&str> =
        report.checks().flat_map(|c| &c.deviations).map(|d| d.seen.as_str()).collect();
    assert_eq!(deviations.len(), 1, "{deviations:?}");
}
