//! What the generator makes.

use super::*;

const ALL: Grammar<'_> = Grammar {
    hosts: &["a.example", "b.example"],
    web_socket: &["b.example"],
    streams: &["b.example"],
    refused: &["refused.example"],
    http2: true,
};

#[test]
fn the_same_seed_makes_the_same_exchanges_and_another_seed_others() {
    let make = |seed| {
        let mut generator = Generator::new(seed, ALL);
        (0..200).map(|_| generator.next_connection(48)).collect::<Vec<_>>()
    };
    assert_eq!(make(7), make(7));
    assert_ne!(make(7), make(8));
}

#[test]
fn every_generated_connection_can_be_sent_and_read_back_from_its_case() {
    let mut generator = Generator::new(3, ALL);
    for _ in 0..2000 {
        let connection = generator.next_connection(4);
        assert!((1..=4).contains(&connection.exchanges.len()));
        assert_eq!(connection.requests().unwrap().len(), connection.exchanges.len());
        assert_eq!(serde_json::from_str::<GeneratedConnection>(&connection.case()).unwrap(), connection);
        for exchange in &connection.exchanges {
            let header = exchange.answer.to_header();
            assert_eq!(AnswerSpec::from_header(&header).as_ref(), Some(&exchange.answer));
        }
    }
}

#[test]
fn the_first_exchanges_have_something_of_everything() {
    let mut generator = Generator::new(1, ALL);
    let first: Vec<_> = (0..KINDS.len()).map(|_| generator.next_connection(48)).collect();
    let exchanges = || first.iter().flat_map(|connection| &connection.exchanges);
    let framed = |framing| exchanges().any(|e| e.answer.framing == framing);
    for framing in [
        AnswerFraming::Events,
        AnswerFraming::WebSocket,
        AnswerFraming::BreaksOff,
        AnswerFraming::PiecesBreakOff,
        AnswerFraming::NoAnswer,
    ] {
        assert!(framed(framing), "{framing:?}");
    }
    assert!(exchanges().any(|e| !e.trailers.is_empty()));
    assert!(exchanges().any(|e| e.answer.early_hints) && exchanges().any(|e| e.answer.closes));
    assert!(first.iter().any(|c| c.segment.is_some()));
    assert!(first.iter().any(|c| c.client == ClientHttp::Http2 && c.exchanges.len() > 1));
    assert!(first.iter().any(|c| c.client == ClientHttp::Http10));
    assert!(exchanges().any(|e| e.host == "refused.example") && exchanges().any(|e| e.answer.delay_ms > 0));
    assert!(exchanges().any(|e| e.headers.iter().any(|(name, _)| name == "connection")));
    assert!(exchanges().any(|e| e.messages.iter().any(|message| message.len() > 40_000)));
    assert!(exchanges().any(|e| e.chunked && e.body > 8 << 20));
    let reset_among = |c: &GeneratedConnection| {
        let ends = |e: &GeneratedExchange| e.answer.framing == AnswerFraming::NoAnswer;
        c.client == ClientHttp::Http2 && c.exchanges.iter().any(ends) && !c.exchanges.iter().all(ends)
    };
    assert!(first.iter().any(reset_among));
    assert!(first.iter().any(|c| c.client == ClientHttp::Pipelined && c.exchanges.len() > 2));
}

#[test]
fn the_default_budget_has_every_element() {
    let mut generator = Generator::new(1, ALL);
    let mut exchanges = Vec::new();
    while exchanges.len() < 150 {
        exchanges.extend(generator.next_connection(150).exchanges);
    }
    let has = |what: &dyn Fn(&GeneratedExchange) -> bool| exchanges.iter().any(what);
    for method in METHODS {
        assert!(has(&|e| e.method == *method), "{method}");
    }
    for part in SEGMENTS.iter().chain(QUERIES) {
        assert!(has(&|e| e.target.contains(part)), "{part}");
    }
    for status in STATUSES {
        assert!(has(&|e| e.answer.status == *status), "{status}");
    }
    let among =
        |headers: &[(String, String)], (n, v): &(&str, &str)| headers.iter().any(|h| h.0 == *n && h.1 == *v);
    for header in HEADERS {
        assert!(has(&|e| among(&e.headers, header)), "{header:?}");
    }
    for header in ANSWER_HEADERS {
        assert!(has(&|e| among(&e.answer.headers, header)), "{header:?}");
    }
    assert!(has(&|e| e.answer.headers.iter().any(|(name, _)| name == "x-large")));
    assert!(has(&|e| e.answer.headers.iter().any(|(name, _)| name == "x-number-49")));
}

#[test]
fn what_is_left_out_is_not_generated_any_more() {
    let mut generator = Generator::new(1, ALL);
    generator.leave_out(Aspect::Interim);
    generator.leave_out(Aspect::Truncation);
    generator.leave_out(Aspect::ConnectionFields);
    for _ in 0..500 {
        assert_eq!(generator.next_connection(48).aspect(), Aspect::Preservation);
    }
}

#[test]
fn what_an_implementation_lacks_is_not_generated() {
    let mut generator = Generator::new(1, Grammar { web_socket: &[], http2: false, ..ALL });
    for _ in 0..500 {
        let connection = generator.next_connection(48);
        assert_ne!(connection.client, ClientHttp::Http2);
        assert!(connection.exchanges.iter().all(|e| e.messages.is_empty()));
    }
}
