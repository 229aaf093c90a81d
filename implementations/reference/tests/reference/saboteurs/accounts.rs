//! Saboteurs that lose, copy, exchange or misreport what no single promise is about.

use http::{HeaderValue, Method};

use crate::situation::{Situation, SituationOutcome, differs, status, usual};
use crate::support::plans::{self, HOST};
use crate::support::server::{TestServer, TestServerTls};
use crate::support::{Bench, authority::TestAuthority, client, free, reference};

/// The request's fields of this name at the server.
fn fields(name: &'static str) -> impl Fn(&SituationOutcome) -> String {
    move |saw| {
        let all = saw.tls_requests[0].headers.get_all(name).iter();
        all.map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(" and ")
    }
}

/// The answer's fields of this name at the client.
fn answered(name: &'static str) -> impl Fn(&SituationOutcome) -> String {
    move |saw| saw.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(" and ")
}

fn sending(name: &'static str, value: &'static str) -> impl Fn(&mut Situation) {
    move |s| s.headers = vec![(name, value), ("x-other", "1")]
}

#[tokio::test]
async fn request_fields_are_lost_or_pass_where_they_must_not() {
    differs(
        "drop-authorization",
        sending("authorization", "Basic x"),
        fields("authorization"),
        "Basic x",
        "",
    )
    .await;
    differs("drop-cookie", sending("cookie", "a=1"), fields("cookie"), "a=1", "").await;
    differs("drop-conditions", sending("range", "bytes=0-1"), fields("range"), "bytes=0-1", "").await;
    differs("drop-underscore-headers", sending("x_y", "1"), fields("x_y"), "1", "").await;
    let present = |saw: &SituationOutcome| saw.tls_requests[0].headers.contains_key("x-empty").to_string();
    differs("drop-empty-headers", sending("x-empty", ""), present, "true", "false").await;
    let named = |s: &mut Situation| s.headers = vec![("connection", "x-hop"), ("x-hop", "1")];
    differs("pass-connection-fields", named, fields("x-hop"), "", "1").await;
}

#[tokio::test]
async fn targets_and_methods_change_on_the_way() {
    let target = |saw: &SituationOutcome| saw.tls_requests[0].target.clone();
    let asking = |target: &'static str| move |s: &mut Situation| s.target = target.to_owned();
    differs("decode-slashes", asking("/a%2Fb"), target, "/a%2Fb", "/a/b").await;
    differs("merge-slashes", asking("//a///b?c=//"), target, "//a///b?c=//", "/a/b?c=//").await;
    differs("drop-empty-query", asking("/a?"), target, "/a?", "/a").await;
    let method = |saw: &SituationOutcome| saw.tls_requests[0].method.clone();
    let brew = |s: &mut Situation| s.method = Method::from_bytes(b"BREW").unwrap();
    differs("unknown-method-to-post", brew, method, "BREW", "POST").await;
}

#[tokio::test]
async fn answers_change_on_the_way() {
    let fields = |s: &mut Situation| s.target = "/fields".to_owned();
    differs("merge-set-cookie", fields, answered("set-cookie"), "a=1 and b=2", "a=1, b=2").await;
    differs("drop-etag", fields, answered("etag"), "\"1\"", "").await;
    let authentication =
        |saw: &SituationOutcome| format!("{} {}", saw.status, answered("www-authenticate")(saw));
    differs("hide-authentication", fields, authentication, "401 Basic", "403 ").await;
    let moved = |s: &mut Situation| s.target = "/moved".to_owned();
    let (before, after) = ("https://other.example/there", "http://other.example/there");
    differs("location-to-http", moved, answered("location"), before, after).await;
    let broken = |s: &mut Situation| s.target = "/broken".to_owned();
    differs("server-errors-as-502", broken, |saw| saw.status.to_string(), "501", "502").await;
}

#[tokio::test]
async fn copies_are_sent() {
    let plain = |saw: &SituationOutcome| {
        format!("{} plain, {} tls", saw.plain_requests.len(), saw.tls_requests.len())
    };
    differs("copy-in-plain-text", usual, plain, "0 plain, 1 tls", "1 plain, 1 tls").await;
    let post = |s: &mut Situation| {
        s.method = Method::POST;
        s.body = "body".to_owned();
    };
    let bodies = |saw: &SituationOutcome| {
        saw.tls_requests.iter().map(|r| r.body_bytes.to_string()).collect::<Vec<_>>().join(" and ")
    };
    differs("post-twice", post, bodies, "4", "0 and 4").await;
}

#[tokio::test]
async fn the_access_log_lies() {
    let broken = |s: &mut Situation| s.target = "/broken".to_owned();
    let says = |text: &'static str| move |saw: &SituationOutcome| saw.lines[0].contains(text).to_string();
    differs("log-wrong-status", broken, says("\" 501 "), "true", "false").await;
    let head = |s: &mut Situation| s.method = Method::HEAD;
    differs("log-wrong-method", head, says("\"HEAD /"), "true", "false").await;
    differs("log-wrong-source", usual, says("127.0.0.1:1 "), "false", "true").await;
    // `hello` has five bytes.
    differs("log-head-bytes", usual, says(" 0 205 "), "false", "true").await;
    differs("log-swapped-bytes", usual, says(" 5 0 "), "false", "true").await;
    differs("log-wrong-protocol", usual, says("HTTP/1.0\""), "false", "true").await;
    differs("log-old-start-time", usual, says("[2019-"), "false", "true").await;
    differs("log-other-authority", usual, says("\"other.example\""), "false", "true").await;
    let distrust = |s: &mut Situation| s.trusted = false;
    differs("log-failure-as-success", distrust, says("\" 200 - "), "false", "true").await;
    let lines = |saw: &SituationOutcome| saw.lines.len().to_string();
    differs("log-no-failures", distrust, lines, "1", "0").await;
    let twice = |s: &mut Situation| s.times = 2;
    let upstreams = |saw: &SituationOutcome| {
        saw.lines.iter().filter(|line| line.contains(" \"127.0.0.1:")).count().to_string()
    };
    differs("log-every-second-upstream", twice, upstreams, "2", "1").await;
}

#[tokio::test]
async fn the_log_of_a_passed_through_connection_says_that_it_carried_nothing() {
    for (saboteur, nothing) in [(None, false), (Some("log-no-connection-bytes"), true)] {
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let server = TestServer::plain().await;
        let listener = plans::outbound(
            bind,
            vec![plans::chain(meshproof_plan::model::ChainMatch::default(), None, plans::tcp("c"))],
        );
        let cluster = plans::cluster("c", server.address, None);
        bench.apply(&plans::plan(vec![plans::proxy("sleep", vec![listener], vec![cluster])])).await;
        let mut client = client::TestClient::connect(bind).await;
        client.get(HOST, "/").await;
        client.close().await;
        let line = bench.only_line("sleep").await;
        assert_eq!(line.contains(" 0 0 "), nothing, "{line}");
    }
}

#[tokio::test]
async fn answers_come_from_memory_or_posts_are_repeated_or_failures_blame_the_server() {
    let distrust = |s: &mut Situation| s.trusted = false;
    differs("failure-as-404", distrust, status, "503", "404").await;
    let unanswered = |s: &mut Situation| {
        s.method = Method::POST;
        s.target = "/closed".to_owned();
    };
    let requests = |saw: &SituationOutcome| saw.tls_requests.len().to_string();
    differs("repeat-post", unanswered, requests, "1", "2").await;
    for (saboteur, second) in [(None, "second"), (Some("answer-from-memory"), "first!")] {
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let server = TestServer::plain().await;
        let sidecar = plans::sidecar(bind, plans::cluster("c", server.address, None));
        bench.apply(&plans::plan(vec![sidecar])).await;
        for (asked, expected) in [("first!", "first!"), ("second", second)] {
            let mut request = client::request(HOST, "/json");
            *request.method_mut() = Method::POST;
            *request.body_mut() = asked.to_owned().into();
            let reply = client::send(bind, request).await;
            assert_eq!(reply.body, expected, "{saboteur:?}");
        }
    }
}

#[tokio::test]
async fn lines_are_written_to_the_log_of_the_egress_gateway() {
    for (saboteur, expected) in [(None, 0), (Some("log-for-gateway"), 1)] {
        let ca = TestAuthority::new("public");
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        let server = TestServer::start(Some(TestServerTls::of(ca.server(HOST)))).await;
        bench.apply(&plans::originating(bind, server.address, plans::simple())).await;
        client::get(bind, HOST, "/").await;
        assert_eq!(bench.lines("istio-egressgateway").await.len(), expected, "{saboteur:?}");
    }
}

#[tokio::test]
async fn two_requests_in_flight_get_each_others_answers() {
    for (saboteur, crossed) in [(None, false), (Some("cross-answers"), true)] {
        let ca = TestAuthority::new("public");
        let (mut bench, bind) = (Bench::with(reference(saboteur), &ca.pem()).await, free());
        let server = TestServer::start(Some(TestServerTls::of(ca.server(HOST)))).await;
        bench.apply(&plans::originating(bind, server.address, plans::simple())).await;
        let ask = |name: &'static str| async move {
            let mut request = client::request(HOST, "/named");
            request.headers_mut().insert("x-name", HeaderValue::from_static(name));
            client::send(bind, request).await.header("x-name").map(str::to_owned)
        };
        // They cross only if they are in flight together, which the second attempt and later ones make likely.
        let mut seen = false;
        for _ in 0..50 {
            let (first, second) = tokio::join!(ask("first"), ask("second"));
            seen |= first.as_deref() == Some("second") && second.as_deref() == Some("first");
        }
        assert_eq!(seen, crossed, "{saboteur:?}");
    }
}
