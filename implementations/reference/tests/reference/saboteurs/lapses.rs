//! Saboteurs that verify servers only for a while, or have no patience, and those of what requests carry besides.

use std::time::Duration;

use http::Method;
use meshproof_harness::access_log::read_line;

use crate::situation::{Situation, SituationOutcome, differs, status, usual};
use crate::support::authority::{CertificateSpec, TestAuthority};
use crate::support::plans::{self, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, client, free, reference};

/// Longer than the saboteurs wait.
const SILENCE: Duration = Duration::from_millis(600);

#[tokio::test]
async fn servers_are_verified_for_a_while() {
    let distrusted = |times| {
        move |s: &mut Situation| {
            s.trusted = false;
            s.times = times;
        }
    };
    differs("verify-forty-times", distrusted(41), status, "503", "200").await;
    differs("verify-forty-times", distrusted(40), status, "503", "503").await;
    differs("verify-until-a-failure", distrusted(2), status, "503", "200").await;
    differs("verify-until-a-failure", distrusted(1), status, "503", "503").await;
    let asked_by = |method: Method| {
        move |s: &mut Situation| {
            s.trusted = false;
            s.method = method.clone();
        }
    };
    differs("verify-for-reading-alone", asked_by(Method::POST), status, "503", "200").await;
    differs("verify-for-reading-alone", asked_by(Method::GET), status, "503", "503").await;
    for (saboteur, statuses) in [(None, [503, 503]), (Some("verify-while-busy"), [503, 200])] {
        let (trusted, other) = (TestAuthority::new("trusted"), TestAuthority::new("other"));
        let (mut bench, bind) = (Bench::with(reference(saboteur), &trusted.pem()).await, free());
        let server = TestServer::tls(other.server(HOST)).await;
        bench.apply(&plans::originating(bind, server.address, plans::simple())).await;
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.push(client::get(bind, HOST, "/").await.status.as_u16());
            tokio::time::sleep(SILENCE).await;
        }
        assert_eq!(seen, statuses, "{saboteur:?}");
    }
}

#[tokio::test]
async fn a_late_answer_is_not_waited_for() {
    let late = |s: &mut Situation| s.target = "/late".to_owned();
    differs("impatient-with-servers", late, status, "200", "504").await;
    differs("impatient-with-servers", usual, status, "200", "200").await;
}

#[tokio::test]
async fn a_common_name_counts_beside_alternative_names_of_other_kinds() {
    let spec = |dns: &'static [&'static str], uri: Option<&'static str>| {
        move |s: &mut Situation| {
            s.server.issued =
                s.ca.issue(&CertificateSpec { name: HOST, dns, uri, ..CertificateSpec::default() });
        }
    };
    let uri = || spec(&[], Some("https://somewhere.example/"));
    differs("common-name-without-dns-names", uri(), status, "503", "200").await;
    differs("common-name-without-dns-names", spec(&["other.example"], None), status, "503", "503").await;
    // Without any alternative name, another saboteur accepts it.
    differs("common-name-without-dns-names", spec(&[], None), status, "503", "503").await;
}

#[tokio::test]
async fn requests_lose_their_content_or_their_via_or_keep_what_is_for_one_connection() {
    let with = |name: &'static str, value: &'static str| {
        move |s: &mut Situation| s.headers = vec![("connection", name), (name, value)]
    };
    let has = |name: &'static str| {
        move |saw: &SituationOutcome| {
            let value = saw.tls_requests[0].headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            value.unwrap_or_default()
        }
    };
    let via = |s: &mut Situation| s.headers = vec![("via", "1.0 fred")];
    differs("drop-via", via, has("via"), "1.0 fred", "").await;
    let kept = with("keep-alive", "timeout=7");
    differs("pass-keep-alive", kept, has("keep-alive"), "", "timeout=7").await;
    let content = |s: &mut Situation| s.body = "content".to_owned();
    let bytes = |saw: &SituationOutcome| saw.tls_requests[0].body_bytes.to_string();
    differs("drop-content-of-get", content, bytes, "7", "0").await;
    let post = |s: &mut Situation| {
        content(s);
        s.method = Method::POST;
    };
    differs("drop-content-of-get", post, bytes, "7", "7").await;
}

#[tokio::test]
async fn a_log_line_has_another_duration_or_request_id() {
    let late = |s: &mut Situation| s.target = "/late".to_owned();
    let fields = |saw: &SituationOutcome| read_line(saw.lines[0].as_bytes()).fields.unwrap();
    let long = |saw: &SituationOutcome| (fields(saw).duration_ms.unwrap() > 500).to_string();
    differs("log-no-duration", late, long, "true", "false").await;
    differs("log-duration-in-seconds", late, long, "true", "false").await;
    let own = |saw: &SituationOutcome| {
        let received = saw.tls_requests[0].headers["x-request-id"].to_str().unwrap().to_owned();
        (fields(saw).request_id == Some(received)).to_string()
    };
    differs("log-other-request-id", usual, own, "true", "false").await;
    let all = |saw: &SituationOutcome| {
        let ids = saw.lines.iter().map(|line| read_line(line.as_bytes()).fields.unwrap().request_id);
        ids.flatten().count().to_string()
    };
    differs("log-no-request-id-for-some", |s| s.times = 2, all, "2", "1").await;
}
