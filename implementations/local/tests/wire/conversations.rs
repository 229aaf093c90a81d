//! Conversations over TCP and gRPC calls, without a proxy between the two ends.

use meshproof_harness::conversation::{Conversation, TcpProtocol};
use meshproof_harness::external::HttpVersions;
use meshproof_harness::external_server::Site;
use meshproof_harness::grpc::{self, Call, DEADLINE_EXCEEDED, ECHO, LATE};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::{HttpChoice, Method, RequestSpec};
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::ExchangeErrorKind;

use crate::support::{HOST, LIMIT, connections, error, get, parties, requests, response, timeouts};

const ALL: [(u16, TcpProtocol, Conversation); 6] = [
    (5432, TcpProtocol::Postgres, Conversation::Postgres),
    (6379, TcpProtocol::Redis, Conversation::Redis),
    (3306, TcpProtocol::MySql, Conversation::MySql),
    (27017, TcpProtocol::Mongo, Conversation::Mongo),
    (7000, TcpProtocol::Stream, Conversation::ClientEndsFirst(100_000)),
    (7001, TcpProtocol::Stream, Conversation::ServerEndsFirst(100_000)),
];

async fn databases(store: &Store) -> Box<dyn RunningService> {
    let site = Site::at(HOST).certificate(&parties().server);
    let site = ALL.into_iter().fold(site, |site, (port, protocol, _)| site.speaking(port, protocol));
    start_embedded(site.into_parts().0, store.clone(), &Timeouts::default()).await.unwrap()
}

fn client(service: &dyn RunningService) -> WorkloadClient {
    let route = service
        .ports()
        .into_iter()
        .fold(Route::default(), |route, port| route.and(HOST, port, service.address(port).unwrap()));
    WorkloadClient::new("sleep", route, parties().ca.certificate_pem(), &timeouts(LIMIT)).unwrap()
}

#[tokio::test]
async fn every_conversation_is_held_over_tls_and_recorded_at_both_ends() {
    for (port, _, conversation) in ALL {
        let store = Store::default();
        let service = databases(&store).await;
        let url = format!("tls://{HOST}:{port}");
        let request = RequestSpec { conversation: Some(conversation), ..get(&url) };
        let exchange = client(service.as_ref()).exchange(&request).await;
        let heard = response(&exchange);
        service.settle().await.unwrap();
        let [seen] = &requests(&store)[..] else { panic!("{conversation:?}") };
        let (hop, answer) = (&exchange.hops[0], seen.answer.as_ref().unwrap());
        assert!(seen.is_conversation() && heard.is_conversation() && seen.over_tls);
        assert_eq!(
            (seen.body_bytes, &seen.body_sha256),
            (hop.body_bytes, &hop.body_sha256),
            "{conversation:?}"
        );
        assert_eq!((answer.body_bytes, &answer.body_sha256), (heard.body_bytes, &heard.body_sha256));
        assert_eq!(seen.tls.as_ref().unwrap().server_name.as_deref(), Some(HOST));
        assert_eq!(seen.tls.as_ref().unwrap().alpn_offered.as_deref(), Some(&[][..]));
    }
}

#[tokio::test]
async fn plain_text_at_a_port_with_tls_is_shown_and_a_foreign_protocol_is_closed() {
    let store = Store::default();
    let service = databases(&store).await;
    let ask = async |url: &str, conversation| {
        let request = RequestSpec { conversation: Some(conversation), ..get(&format!("{url}:6379")) };
        client(service.as_ref()).exchange(&request).await
    };
    let plain = ask(&format!("tcp://{HOST}"), Conversation::Redis).await;
    assert_eq!(error(&plain).kind, ExchangeErrorKind::ConnectionClosed);
    assert!(connections(&store)[0].clear_bytes.contains("SETNAME"));
    let foreign = ask(&format!("tls://{HOST}"), Conversation::Postgres).await;
    assert_eq!(error(&foreign).kind, ExchangeErrorKind::ConnectionClosed);
    assert!(requests(&store).is_empty());
}

#[tokio::test]
async fn calls_are_answered_message_by_message_and_end_with_their_outcome() {
    let store = Store::default();
    let site = Site::at(HOST).certificate(&parties().server).http_versions(HttpVersions::Http2);
    let service = start_embedded(site.into_parts().0, store.clone(), &Timeouts::default()).await.unwrap();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let call = async |path: &str, call: Call| {
        let request = RequestSpec {
            method: Method::POST,
            http: HttpChoice::Http2,
            headers: vec![header("content-type", grpc::CONTENT_TYPE), header("te", "trailers")],
            grpc: Some(call),
            ..get(&format!("https://{HOST}{path}"))
        };
        client(service.as_ref()).exchange(&request).await
    };
    let exchange = call(ECHO, Call::of(&["one", "two"])).await;
    let answer = response(&exchange);
    assert_eq!(
        (answer.messages.as_slice(), answer.trailers[0].value.as_str()),
        (&["one", "two"].map(str::to_owned)[..], grpc::OK)
    );
    let late = call(LATE, Call::of(&["one"])).await;
    assert_eq!(response(&late).header(grpc::STATUS), Some(DEADLINE_EXCEEDED));
    let cancelled = call(ECHO, Call::of(&["one", "two"]).cancelled()).await;
    assert_eq!(error(&cancelled).message, grpc::cancelled_after(2));
    service.settle().await.unwrap();
    let seen = requests(&store);
    assert_eq!(seen[0].body_bytes, exchange.hops[0].body_bytes);
    assert_eq!(seen.last().unwrap().messages, ["one", "two"]);
}
