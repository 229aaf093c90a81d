//! What the documents say beside their main path.

use http::Method;
use meshproof_plan::model::{PathMatch, Route, RouteAction, VirtualHost};

use crate::situation::{Situation, SituationOutcome, differs};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::TestServer;
use crate::support::{Bench, client, free, reference};

#[tokio::test]
async fn headers_of_requests_and_responses_are_replaced() {
    let content_type = |saw: &SituationOutcome| {
        let value = saw.headers.get("content-type");
        (value.is_some_and(|v| v == "application/octet-stream")).to_string()
    };
    let typed = |s: &mut Situation| s.target = "/json".to_owned();
    differs("another-content-type", typed, content_type, "false", "true").await;
    let forwarded = |saw: &SituationOutcome| {
        let value = saw.tls_requests[0].headers.get("x-forwarded-for");
        value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
    };
    let balanced = |s: &mut Situation| s.headers = vec![("x-forwarded-for", "203.0.113.7")];
    differs("forwarded-for-replaced", balanced, forwarded, "203.0.113.7", "192.0.2.1").await;
}

#[tokio::test]
async fn request_id_is_not_logged() {
    let identified = |s: &mut Situation| s.headers = vec![("x-request-id", "cf76518d")];
    let logged = |saw: &SituationOutcome| saw.lines[0].contains("\"cf76518d\"").to_string();
    differs("log-without-request-id", identified, logged, "true", "false").await;
}

/// The answer of a sidecar with this virtual host, before a server that answers 200.
async fn answered(saboteur: Option<&str>, host: &VirtualHost, method: &Method) -> u16 {
    let (server, bind) = (TestServer::plain().await, free());
    let mut bench = Bench::with(reference(saboteur), "").await;
    bench.endpoint(HOST, 80, server.address);
    let clusters = vec![plans::cluster(EXTERNAL, server.address, None)];
    let chains = vec![plans::any_http(vec![host.clone()])];
    let listeners = vec![plans::outbound(bind, chains)];
    bench.apply(&plans::plan(vec![plans::proxy("sleep", listeners, clusters)])).await;
    let mut request = client::request(HOST, "/one");
    *request.method_mut() = method.clone();
    client::send(bind, request).await.status.as_u16()
}

fn refusing(status: u16) -> Route {
    plans::route(PathMatch::Any, RouteAction::DirectResponse { status, body: String::new() })
}

#[tokio::test]
async fn a_request_takes_another_way_by_its_method() {
    let routes = vec![
        plans::route(PathMatch::Prefix("/one".to_owned()), RouteAction::Forward(plans::forward(EXTERNAL))),
        refusing(404),
    ];
    let routed = plans::host(HOST, routes);
    let closed = VirtualHost { name: "block_all".to_owned(), ..plans::host("*", vec![refusing(502)]) };
    for (saboteur, host, get, post) in [
        (None, &routed, 200, 200),
        (Some("posts-by-last-route"), &routed, 200, 404),
        (None, &closed, 502, 502),
        (Some("registry-only-blocks-get-alone"), &closed, 502, 200),
    ] {
        assert_eq!(answered(saboteur, host, &Method::GET).await, get, "{saboteur:?}");
        assert_eq!(answered(saboteur, host, &Method::POST).await, post, "{saboteur:?}");
    }
}
