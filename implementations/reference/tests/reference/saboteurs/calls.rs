//! Saboteurs of gRPC calls.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::HttpVersions;
use meshproof_harness::external_server::Site;
use meshproof_harness::grpc::{self, Call, ECHO, FAIL};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::{HttpChoice, Method, RequestSpec};
use meshproof_local::external::start_embedded;
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{Exchange, ServerRequest};
use meshproof_plan::model::{Cluster, UpstreamProtocol, UpstreamTls};

use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::{Bench, free, reference, until};

/// What the server has of a call that is cancelled after its last message.
async fn called(saboteur: Option<&str>) -> ServerRequest {
    talked(saboteur, ECHO, Call::of(&["first", "second"]).cancelled()).await.1
}

/// What the client and the server have of a call.
async fn talked(saboteur: Option<&str>, path: &str, call: Call) -> (Exchange, ServerRequest) {
    let public = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let site = Site::at(HOST).certificate(&public.server(HOST).issue().unwrap());
    let (store, timeouts) = (Store::default(), Timeouts::default());
    let spec = site.http_versions(HttpVersions::Http2).into_parts().0;
    let server = start_embedded(spec, store.clone(), &timeouts).await.unwrap();
    let mut bench = Bench::with(reference(saboteur), public.certificate_pem()).await;
    let bind = free();
    let origination = meshproof_plan::model::Origination { alpn: vec!["h2".to_owned()], ..plans::simple() };
    let tls = Some(UpstreamTls::Originate(origination));
    let cluster = plans::cluster(EXTERNAL, server.address(443).unwrap(), tls);
    let cluster = Cluster { protocol: UpstreamProtocol::Http2, ..cluster };
    bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
    let route = Route::default().and(HOST, 80, bind);
    let client = WorkloadClient::new("sleep", route, public.certificate_pem(), &timeouts).unwrap();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let request = RequestSpec {
        method: Method::POST,
        http: HttpChoice::Http2,
        headers: vec![
            header("content-type", grpc::CONTENT_TYPE),
            header("te", "trailers"),
            header("grpc-timeout", "5S"),
        ],
        grpc: Some(call),
        ..RequestSpec::get(format!("http://{HOST}{path}"), "t-1.00001")
    };
    let exchange = client.exchange(&request).await;
    let seen = || -> Option<ServerRequest> {
        store.with(|all| all.iter().find_map(|e| e.fact.as_request().cloned()))
    };
    until("the server has the outcome of the call", || {
        seen().is_some_and(|r| r.answer.is_some_and(|a| !a.trailers.is_empty()))
    })
    .await;
    (exchange, seen().unwrap())
}

#[tokio::test]
async fn a_call_loses_its_reset_its_te_or_its_deadline() {
    let outcome = |seen: &ServerRequest| {
        let trailers = seen.answer.iter().flat_map(|a| &a.trailers);
        trailers.map(|t| format!("{}: {}", t.name, t.value)).collect::<String>()
    };
    let te = |seen: &ServerRequest| seen.header("te").unwrap_or("none").to_owned();
    let deadline = |seen: &ServerRequest| seen.header("grpc-timeout").unwrap_or("none").to_owned();
    let honest = called(None).await;
    assert_eq!((te(&honest), deadline(&honest)), ("trailers".to_owned(), "5S".to_owned()));
    assert_eq!(outcome(&honest), "grpc-status: 1");
    assert_eq!(outcome(&called(Some("swallow-resets")).await), "grpc-status: 0");
    assert_eq!(te(&called(Some("remove-te")).await), "none");
    assert_eq!(deadline(&called(Some("shorten-deadlines")).await), "1S");
}

#[tokio::test]
async fn a_call_that_fails_is_said_to_have_succeeded() {
    for (saboteur, expected) in [(None, grpc::NOT_FOUND), (Some("calls-always-succeed"), grpc::OK)] {
        let (exchange, _) = talked(saboteur, FAIL, Call::of(&["first"])).await;
        let trailers = &exchange.last_response().unwrap().trailers;
        let status = trailers.iter().find(|t| t.name == grpc::STATUS).map(|t| t.value.as_str());
        assert_eq!(status, Some(expected), "{saboteur:?}");
    }
}

#[tokio::test]
async fn the_encoding_of_an_answer_is_lost() {
    for (saboteur, expected) in [(None, Some(grpc::IDENTITY)), (Some("drop-grpc-encoding"), None)] {
        let (exchange, _) = talked(saboteur, ECHO, Call::of(&["first"])).await;
        assert_eq!(exchange.last_response().unwrap().header(grpc::ENCODING), expected, "{saboteur:?}");
    }
}
