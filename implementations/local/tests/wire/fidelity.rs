//! Bodies, trailers, interim responses, WebSocket: the forms that traffic has, at the client and at the embedded service.

use std::net::Ipv4Addr;
use std::time::Duration;

use meshproof_harness::digest::{MAX_SAMPLE, sample, sha256};
use meshproof_harness::external::PlainPort;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::workload::{Delivery, HttpChoice, Method, RequestSpec};
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{Exchange, ExchangeErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

const ORIGIN: &str = "http://edition.cnn.com";

async fn service() -> (Box<dyn RunningService>, Store) {
    let store = Store::new();
    let spec = site(PlainPort::Serve, Some(open_port(&parties().server)));
    (start_embedded(spec, store.clone(), &Timeouts::default()).await.unwrap(), store)
}

fn to(path: &str) -> RequestSpec {
    get(&format!("{ORIGIN}{path}"))
}

fn posting(bytes: usize, delivery: Delivery) -> RequestSpec {
    RequestSpec { method: Method::POST, body: sample(bytes), delivery, ..to("/echo") }
}

#[tokio::test]
async fn a_large_body_arrives_with_its_length_and_its_digest() {
    let (service, _) = service().await;
    let exchange = client_of(&*service).exchange(&to("/bytes/3000000")).await;
    let response = response(&exchange);
    assert_eq!(response.header("content-length"), Some("3000000"));
    assert_eq!((response.body_bytes, response.body_truncated), (3_000_000, true));
    assert_eq!(response.body_sha256, Some(sha256(&sample(3_000_000))));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_body_in_pieces_has_no_length_and_arrives_whole() {
    let (service, _) = service().await;
    let exchange = client_of(&*service).exchange(&to("/chunked/200000")).await;
    let response = response(&exchange);
    assert_eq!(response.header("content-length"), None);
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.body_sha256, Some(sha256(&sample(200_000))));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn trailers_arrive_over_http2_and_over_http1_if_the_client_accepts_them() {
    let (service, _) = service().await;
    let client = client_of(&*service);
    let takes =
        RequestSpec { headers: vec![("te".to_owned(), "trailers".to_owned())], ..to("/trailers/1000") };
    let http2 = RequestSpec { http: HttpChoice::Http2, ..get("https://edition.cnn.com/trailers/1000") };
    for (request, expected) in [(takes, 1), (http2, 1), (to("/trailers/1000"), 0)] {
        let exchange = client.exchange(&request).await;
        let response = response(&exchange);
        assert_eq!(response.body_sha256, Some(sha256(&sample(1000))));
        assert_eq!(response.trailers.len(), expected, "{request:?}");
        for trailer in &response.trailers {
            assert_eq!((&*trailer.name, &trailer.value), ("x-body-sha256", &sha256(&sample(1000))));
        }
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_204_has_neither_body_nor_length_and_an_answer_to_head_has_a_length_alone() {
    let (service, _) = service().await;
    let client = client_of(&*service);
    let exchange = client.exchange(&to("/no-content")).await;
    let none = response(&exchange);
    assert_eq!((none.status, none.body_bytes, &none.body_sha256), (204, 0, &None));
    assert_eq!((none.header("content-length"), none.header("transfer-encoding")), (None, None));
    let head = RequestSpec { method: Method::HEAD, ..to("/bytes/1000") };
    let exchange = client.exchange(&head).await;
    let head = response(&exchange);
    assert_eq!((head.status, head.body_bytes, head.header("content-length")), (200, 0, Some("1000")));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_body_is_recorded_completely_with_every_delivery() {
    for (delivery, framing, interim) in [
        (Delivery::Whole, ("content-length", "300000"), vec![]),
        (Delivery::Pieces, ("transfer-encoding", "chunked"), vec![]),
        (Delivery::Expecting, ("expect", "100-continue"), vec![100]),
    ] {
        let (service, store) = service().await;
        let exchange = client_of(&*service).exchange(&posting(300_000, delivery)).await;
        assert_eq!(response(&exchange).status, 200, "{delivery:?}");
        assert_eq!(response(&exchange).informational, interim, "{delivery:?}");
        let [request] = requests(&store).try_into().unwrap();
        assert_eq!(request.header(framing.0), Some(framing.1), "{delivery:?}");
        assert_eq!(request.body_bytes, Some(300_000));
        assert_eq!(request.body_sha256, Some(sha256(&sample(300_000))));
        service.stop().await.unwrap();
    }
}

/// Answers one connection with these bytes once the head has come; returns all that the client sent.
async fn scripted(answer: &'static str) -> (WorkloadClient, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut timeouts = timeouts(LIMIT);
    timeouts.set(Timeout::Continue, Duration::from_millis(50));
    let route = Route::capture([(80, listener.local_addr().unwrap())]);
    let client = WorkloadClient::new("sleep", route, parties().ca.certificate_pem(), &timeouts).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let whole = |got: &[u8]| match got.windows(4).position(|w| w == b"\r\n\r\n") {
            Some(head) if got.starts_with(b"POST") => got.len() == head + 4 + 100,
            Some(_) => true,
            None => false,
        };
        while !whole(&got) {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0, "the client gave up");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(got).unwrap()
    });
    (client, task)
}

#[tokio::test]
async fn without_100_continue_the_body_is_sent_after_the_timeout() {
    let (client, task) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let exchange = client.exchange(&posting(100, Delivery::Expecting)).await;
    assert_eq!(response(&exchange).status, 200);
    assert_eq!(response(&exchange).informational, Vec::<u16>::new());
    assert!(task.await.unwrap().ends_with(std::str::from_utf8(&sample(100)).unwrap()));
    assert!(exchange.duration_us >= 50_000, "waited for the timeout `continue`");
}

#[tokio::test]
async fn a_refused_expectation_is_the_answer_and_no_body_is_waited_for() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let route = Route::capture([(80, listener.local_addr().unwrap())]);
    let client =
        WorkloadClient::new("sleep", route, parties().ca.certificate_pem(), &timeouts(LIMIT)).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let exchange = client.exchange(&posting(100, Delivery::Expecting)).await;
    task.await.unwrap();
    assert_eq!(response(&exchange).status, 417);
}

fn talking(path: &str) -> RequestSpec {
    RequestSpec { websocket: Some(vec!["is anyone there?".to_owned()]), ..to(path) }
}

#[tokio::test]
async fn a_web_socket_message_comes_back_and_the_handshake_is_recorded() {
    for url in [ORIGIN, "https://edition.cnn.com"] {
        let (service, store) = service().await;
        let request =
            RequestSpec { url: format!("{url}/websocket"), http: HttpChoice::Http1, ..talking("/websocket") };
        let exchange = client_of(&*service).exchange(&request).await;
        assert_eq!(response(&exchange).status, 101, "{exchange:#?}");
        assert_eq!(response(&exchange).messages, ["is anyone there?"]);
        let [request] = requests(&store).try_into().unwrap();
        assert_eq!((request.status, request.header("upgrade")), (101, Some("websocket")));
        service.settle().await.unwrap();
        service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_web_socket_handshake_gets_426_and_an_ordinary_page_stays_one() {
    let (service, store) = service().await;
    let client = client_of(&*service);
    let exchange = client.exchange(&to("/websocket")).await;
    assert_eq!((response(&exchange).status, response(&exchange).header("upgrade")), (426, Some("websocket")));
    assert_eq!(requests(&store)[0].status, 426);
    let exchange = client.exchange(&talking("/politics")).await;
    assert_eq!((response(&exchange).status, response(&exchange).messages.len()), (200, 0));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_switch_that_does_not_answer_the_key_is_a_protocol_error() {
    let (client, task) = scripted(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: aGVsbG8=\r\n\r\n",
    )
    .await;
    let exchange = client.exchange(&talking("/websocket")).await;
    task.await.unwrap();
    assert_eq!(error_kind(&exchange), ExchangeErrorKind::Protocol);
}

fn statuses(exchange: &Exchange) -> Vec<Option<u16>> {
    exchange.hops.iter().map(|h| h.response().map(|r| r.status)).collect()
}

#[tokio::test]
async fn several_requests_go_over_one_connection_and_each_is_a_hop() {
    let (service, store) = service().await;
    for (url, version) in [(ORIGIN, "HTTP/1.1"), ("https://edition.cnn.com", "HTTP/2")] {
        let request = RequestSpec { times: 5, ..get(&format!("{url}/bytes/1000")) };
        let exchange = client_of(&*service).exchange(&request).await;
        assert_eq!(statuses(&exchange), [Some(200); 5]);
        assert!(exchange.hops.iter().all(|h| h.response().unwrap().version == version));
        assert_eq!(exchange.hops.iter().filter(|h| h.sent_bytes > 0).count(), 1, "sent once");
    }
    service.settle().await.unwrap();
    assert_eq!((connections(&store).len(), requests(&store).len()), (2, 10));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_ends_before_the_last_of_several_requests_shows_the_earlier_answers() {
    let (client, task) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let exchange = client.exchange(&RequestSpec { times: 3, ..to("/") }).await;
    task.await.unwrap();
    assert_eq!(statuses(&exchange), [Some(200), None]);
    assert_eq!(error_kind(&exchange), ExchangeErrorKind::ConnectionClosed);
}

#[tokio::test]
async fn half_of_an_answer_is_withheld_until_it_is_released() {
    let (service, _) = service().await;
    let client = client_of(&*service);
    let (one, two) = (to("/hold/key"), to("/hold/key"));
    let mut held = std::pin::pin!(async { tokio::join!(client.exchange(&one), client.exchange(&two)) });
    tokio::select! {
        _ = &mut held => panic!("they were not released"),
        there = client.exchange_ok("/held/key/2") => there,
    }
    client.exchange_ok("/release/key").await;
    let (one, two) = held.await;
    for exchange in [one, two] {
        assert_eq!(response(&exchange).body_sha256, Some(sha256(&sample(4096))));
    }
    // Released once, released for good; and none is held any more.
    client.exchange_ok("/hold/key").await;
    client.exchange_ok("/held/key/0").await;
    service.stop().await.unwrap();
}

trait Ok {
    async fn exchange_ok(&self, path: &str);
}

impl Ok for WorkloadClient {
    async fn exchange_ok(&self, path: &str) {
        assert_eq!(response(&self.exchange(&to(path)).await).status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_service_that_stops_does_not_wait_for_answers_that_it_withholds() {
    let (service, _) = service().await;
    let (client, request) = (client_of(&*service), to("/hold/key"));
    let holding = client.exchange(&request);
    let stopping = async {
        client.exchange_ok("/held/key/1").await;
        service.stop().await.unwrap();
    };
    let (exchange, ()) = tokio::join!(holding, stopping);
    assert_eq!(error_kind(&exchange), ExchangeErrorKind::ConnectionClosed);
}

#[tokio::test]
async fn sizes_beyond_the_bound_and_keys_beyond_their_number_are_refused() {
    let (service, _) = service().await;
    let client = client_of(&*service);
    for (path, status) in [
        (format!("/bytes/{}", MAX_SAMPLE + 1), 404),
        ("/bytes/-1".to_owned(), 404),
        ("/bytes".to_owned(), 404),
        ("/no-content/1".to_owned(), 404),
        (format!("/hold/{}", "k".repeat(1000)), 503),
    ] {
        assert_eq!(response(&client.exchange(&to(&path)).await).status, status, "{path}");
    }
    let post = RequestSpec { method: Method::POST, ..to("/bytes/10") };
    assert_eq!(response(&client.exchange(&post).await).status, 405);
    for key in 0..64 {
        client.exchange_ok(&format!("/release/{key}")).await;
    }
    assert_eq!(response(&client.exchange(&to("/release/64")).await).status, 503);
    service.stop().await.unwrap();
}
