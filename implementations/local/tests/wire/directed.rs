//! Answers that the request asks for, and clients that send several requests over one connection.

use meshproof_harness::external::{ExternalSpec, PlainPort};
use meshproof_harness::store::Store;
use meshproof_harness::traffic::{
    AnswerFraming, AnswerSpec, ClientHttp, EVENT, GeneratedConnection, GeneratedExchange,
};
use meshproof_harness::workload::RequestSpec;
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::workload::WorkloadClient;
use meshproof_model::{Exchange, ServerRequest};

use crate::support::*;

struct Wire {
    service: Box<dyn RunningService>,
    store: Store,
    client: WorkloadClient,
}

async fn wire() -> Wire {
    let store = Store::new();
    let spec: ExternalSpec = site(PlainPort::Serve, None);
    let service = start_embedded(spec, store.clone(), &timeouts(LIMIT)).await.unwrap();
    let client = client_of(&*service).reporting_to(store.deliveries().clone());
    Wire { service, store, client }
}

fn plain() -> GeneratedExchange {
    GeneratedExchange::plain(HOST)
}

fn answered(answer: AnswerSpec) -> GeneratedExchange {
    GeneratedExchange { answer, ..plain() }
}

impl Wire {
    async fn send(&self, connection: &GeneratedConnection) -> Vec<Exchange> {
        let requests = connection.requests().unwrap();
        let numbered = requests.into_iter().enumerate();
        let requests: Vec<RequestSpec> =
            numbered.map(|(n, r)| RequestSpec { token: format!("t-1.{n}"), ..r }).collect();
        let exchanges = self.client.in_line(&requests).await;
        self.service.settle().await.unwrap();
        assert!(exchanges.is_sorted_by_key(|e| e.ended) || connection.client == ClientHttp::Http2);
        exchanges.into_iter().map(|e| e.exchange).collect()
    }

    async fn one(&self, exchange: GeneratedExchange) -> (Exchange, ServerRequest) {
        let exchange = self.send(&GeneratedConnection::of(exchange)).await.remove(0);
        (exchange, requests(&self.store).pop().unwrap())
    }

    fn connections(&self) -> usize {
        connections(&self.store).len()
    }
}

#[tokio::test]
async fn requests_in_line_share_a_connection_and_each_gets_its_own_answer() {
    for client in [ClientHttp::Http1, ClientHttp::Http2] {
        let wire = wire().await;
        // The plain port speaks HTTP/1.1; HTTP/2 in plain text ends with an error for each.
        let exchanges = [201, 404, 500].map(|status| answered(AnswerSpec { status, ..AnswerSpec::plain() }));
        let connection = GeneratedConnection { client, segment: None, exchanges: exchanges.to_vec() };
        let got = wire.send(&connection).await;
        assert_eq!((got.len(), wire.connections()), (3, 1), "{client:?}");
        if client == ClientHttp::Http1 {
            let statuses: Vec<u16> = got.iter().map(|e| response(e).status).collect();
            assert_eq!(statuses, [201, 404, 500]);
            assert!(got.iter().all(|e| e.hops[0].sent.starts_with("GET / HTTP/1.1\r\n")));
        } else {
            assert!(got.iter().all(|e| e.last_response().is_none()));
        }
        wire.service.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_pipeline_is_sent_at_once_and_answered_in_its_order() {
    let wire = wire().await;
    let head = GeneratedExchange {
        method: "HEAD".into(),
        ..answered(AnswerSpec { body: 7, ..AnswerSpec::plain() })
    };
    let pieces = AnswerSpec { body: 3000, framing: AnswerFraming::Pieces, ..AnswerSpec::plain() };
    let hinted = AnswerSpec { early_hints: true, status: 404, body: 5, ..AnswerSpec::plain() };
    let exchanges = vec![head, answered(pieces), answered(hinted), plain()];
    let connection = GeneratedConnection { client: ClientHttp::Pipelined, segment: None, exchanges };
    let got = wire.send(&connection).await;
    let answers: Vec<(u16, u64)> = got.iter().map(|e| (response(e).status, response(e).body_bytes)).collect();
    assert_eq!(answers, [(200, 0), (200, 3000), (404, 5), (200, 0)]);
    assert_eq!(response(&got[2]).informational, [103]);
    let sums: Vec<_> = requests(&wire.store).iter().map(|r| r.answer.clone().unwrap().body_sha256).collect();
    assert_eq!(response(&got[1]).body_sha256, sums[1]);
    assert!(got[0].hops[0].sent.starts_with("HEAD / HTTP/1.1\r\n"));
    assert_eq!(wire.connections(), 1);
    wire.service.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_pipeline_leaves_unanswered_is_sent_again() {
    let wire = wire().await;
    let broken = answered(AnswerSpec { body: 10, framing: AnswerFraming::BreaksOff, ..AnswerSpec::plain() });
    let exchanges = vec![plain(), broken, plain(), plain()];
    let connection = GeneratedConnection { client: ClientHttp::Pipelined, segment: None, exchanges };
    let got = wire.send(&connection).await;
    let answered: Vec<bool> = got.iter().map(|e| e.last_response().is_some()).collect();
    assert_eq!(answered, [true, false, true, true]);
    wire.service.stop().await.unwrap();
}

#[tokio::test]
async fn a_line_goes_on_over_a_new_connection_when_the_server_has_closed_the_first() {
    let wire = wire().await;
    let closing = answered(AnswerSpec { closes: true, ..AnswerSpec::plain() });
    let first = wire.send(&GeneratedConnection::of(closing)).await;
    assert_eq!(response(&first[0]).header("connection"), None);
    assert!(requests(&wire.store)[0].answer.as_ref().unwrap().closes);
    let broken = answered(AnswerSpec { body: 10, framing: AnswerFraming::BreaksOff, ..AnswerSpec::plain() });
    let exchanges = vec![plain(), broken, plain()];
    let got = wire.send(&GeneratedConnection { exchanges, ..GeneratedConnection::of(plain()) }).await;
    assert_eq!((response(&got[0]).status, response(&got[2]).status), (200, 200));
    assert!(got[1].last_response().is_none());
    assert_eq!(wire.connections(), 3);
    wire.service.stop().await.unwrap();
}

#[tokio::test]
async fn an_interim_answer_comes_before_the_final_one() {
    let wire = wire().await;
    let hinted = AnswerSpec { early_hints: true, status: 203, body: 5, ..AnswerSpec::plain() };
    let (exchange, _) = wire.one(answered(hinted)).await;
    let response = response(&exchange);
    assert_eq!(
        (response.status, response.body_bytes, response.informational.as_slice()),
        (203, 5, &[103][..])
    );
    wire.service.stop().await.unwrap();
}

#[tokio::test]
async fn trailers_of_a_request_are_recorded_at_both_ends() {
    let wire = wire().await;
    let trailers = vec![("x-sum".to_owned(), "5".to_owned())];
    let post = GeneratedExchange { method: "POST".into(), body: 5, chunked: true, trailers, ..plain() };
    let (exchange, request) = wire.one(post).await;
    assert_eq!(request.trailers, exchange.hops[0].trailers);
    assert_eq!((request.trailers[0].value.as_str(), request.body_bytes), ("5", Some(5)));
    wire.service.stop().await.unwrap();
}

#[tokio::test]
async fn a_conversation_is_recorded_at_both_ends() {
    let wire = wire().await;
    let messages = vec!["a".to_owned(), "twice: b".to_owned(), String::new()];
    let answer = AnswerSpec { status: 101, framing: AnswerFraming::WebSocket, ..AnswerSpec::plain() };
    let (exchange, request) =
        wire.one(GeneratedExchange { messages: messages.clone(), answer, ..plain() }).await;
    assert_eq!((&exchange.hops[0].messages, &request.messages), (&messages, &messages));
    let said = request.answer.unwrap().messages;
    assert_eq!(said, ["a", "twice: b", "again: b", ""]);
    assert_eq!(response(&exchange).messages, said);
    wire.service.stop().await.unwrap();
}

#[tokio::test]
async fn events_wait_for_the_client_and_a_client_that_is_late_is_noted() {
    let wire = wire().await;
    let events = AnswerSpec { body: 3 * EVENT, framing: AnswerFraming::Events, ..AnswerSpec::plain() };
    let (exchange, request) = wire.one(answered(events.clone())).await;
    assert_eq!(response(&exchange).body_bytes, 3 * EVENT as u64);
    assert_eq!(request.answer.unwrap().held_up_after, None);
    // A client that does not say what it has.
    let silent = Wire { client: client_of(&*wire.service), ..wire };
    let (exchange, request) = silent.one(answered(events)).await;
    assert_eq!(response(&exchange).body_bytes, 3 * EVENT as u64);
    assert_eq!(request.answer.unwrap().held_up_after, Some(EVENT as u64));
    silent.service.stop().await.unwrap();
}

#[tokio::test]
async fn an_old_client_says_so_and_a_head_in_small_segments_is_read() {
    let wire = wire().await;
    let old = GeneratedConnection { client: ClientHttp::Http10, ..GeneratedConnection::of(plain()) };
    let got = wire.send(&old).await;
    assert!(got[0].hops[0].is_http10() && response(&got[0]).status == 200);
    assert_eq!(requests(&wire.store)[0].version, "HTTP/1.0");
    let small = GeneratedConnection { segment: Some(3), ..GeneratedConnection::of(plain()) };
    let got = wire.send(&small).await;
    assert_eq!(response(&got[0]).status, 200);
    // 15 pauses of a millisecond.
    assert!(got[0].duration_us >= 15_000, "{}", got[0].duration_us);
    wire.service.stop().await.unwrap();
}
