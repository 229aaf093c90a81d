//! Makes a failing connection smaller.

use super::answer::{AnswerFraming, AnswerSpec};
use super::connection::{ClientHttp, GeneratedConnection};
use super::exchange::GeneratedExchange;

/// As long as a connection has more exchanges than this, only whole exchanges are left out.
const FEW: usize = 2;

/// Simpler variants of a connection, the simplest first. The connection is as small as it gets when none of them fails.
pub(crate) fn candidates(connection: &GeneratedConnection) -> Vec<GeneratedConnection> {
    let with = |exchanges: Vec<GeneratedExchange>| GeneratedConnection { exchanges, ..connection.clone() };
    let mut simpler = Vec::new();
    let exchanges = &connection.exchanges;
    if exchanges.len() > 1 {
        simpler.extend(exchanges.iter().map(|exchange| with(vec![exchange.clone()])));
        let (first, second) = exchanges.split_at(exchanges.len() / 2);
        simpler.extend([first, second].map(|half| with(half.to_vec())));
        simpler.extend((0..exchanges.len()).map(|left_out| {
            let rest = exchanges.iter().enumerate().filter(|(at, _)| *at != left_out);
            with(rest.map(|(_, exchange)| exchange.clone()).collect())
        }));
    }
    if connection.client != ClientHttp::Http1 {
        simpler.push(GeneratedConnection { client: ClientHttp::Http1, ..connection.clone() });
    }
    if connection.segment.is_some() {
        simpler.push(GeneratedConnection { segment: None, ..connection.clone() });
    }
    if exchanges.len() <= FEW {
        for (at, exchange) in exchanges.iter().enumerate() {
            for candidate in of_exchange(exchange) {
                let mut all = exchanges.clone();
                all[at] = candidate;
                simpler.push(with(all));
            }
        }
    }
    let mut each: Vec<GeneratedConnection> = Vec::new();
    for candidate in simpler {
        if candidate != *connection && !each.contains(&candidate) {
            each.push(candidate);
        }
    }
    each
}

fn of_exchange(exchange: &GeneratedExchange) -> Vec<GeneratedExchange> {
    let mut simpler = Vec::new();
    let mut add = |candidate: GeneratedExchange| {
        if candidate != *exchange && !simpler.contains(&candidate) {
            simpler.push(candidate);
        }
    };
    if exchange.messages.is_empty() {
        add(GeneratedExchange { answer: AnswerSpec::plain(), ..exchange.clone() });
    } else {
        add(GeneratedExchange::plain(&exchange.host));
        for message in &exchange.messages {
            add(GeneratedExchange { messages: vec![message.clone()], ..exchange.clone() });
        }
        if exchange.messages.len() > 1 {
            add(GeneratedExchange { messages: exchange.messages[1..].to_vec(), ..exchange.clone() });
        }
    }
    add(GeneratedExchange { headers: Vec::new(), ..exchange.clone() });
    add(GeneratedExchange { trailers: Vec::new(), ..exchange.clone() });
    add(GeneratedExchange { body: 0, chunked: false, trailers: Vec::new(), ..exchange.clone() });
    add(GeneratedExchange { target: "/".to_owned(), ..exchange.clone() });
    add(GeneratedExchange { host_header: None, ..exchange.clone() });
    if exchange.body == 0 {
        add(GeneratedExchange { method: "GET".to_owned(), ..exchange.clone() });
    }
    let answer = |answer: AnswerSpec| GeneratedExchange { answer, ..exchange.clone() };
    add(answer(AnswerSpec { early_hints: false, ..exchange.answer.clone() }));
    add(answer(AnswerSpec { closes: false, ..exchange.answer.clone() }));
    add(answer(AnswerSpec { delay_ms: 0, pause_ms: 0, ..exchange.answer.clone() }));
    add(answer(AnswerSpec { headers: Vec::new(), ..exchange.answer.clone() }));
    // A switch to WebSocket has nothing else that could be simpler.
    if exchange.messages.is_empty() {
        add(answer(AnswerSpec { body: 0, framing: AnswerFraming::Length, ..exchange.answer.clone() }));
        add(answer(AnswerSpec { status: 200, ..exchange.answer.clone() }));
        add(answer(AnswerSpec { framing: AnswerFraming::Length, ..exchange.answer.clone() }));
    }
    // Halves, then one by one.
    for list in halves_and_singles(&exchange.headers) {
        add(GeneratedExchange { headers: list, ..exchange.clone() });
    }
    for list in halves_and_singles(&exchange.answer.headers) {
        add(answer(AnswerSpec { headers: list, ..exchange.answer.clone() }));
    }
    if let Some((path, _)) = exchange.target.split_once('?') {
        add(GeneratedExchange { target: path.to_owned(), ..exchange.clone() });
    }
    let segments: Vec<&str> = exchange.target.split('/').skip(1).collect();
    if segments.len() > 1 {
        add(GeneratedExchange {
            target: format!("/{}", segments[..segments.len() / 2].join("/")),
            ..exchange.clone()
        });
        add(GeneratedExchange {
            target: format!("/{}", segments[segments.len() / 2..].join("/")),
            ..exchange.clone()
        });
    }
    if exchange.body > 1 {
        add(GeneratedExchange { body: exchange.body / 2, ..exchange.clone() });
    }
    if exchange.answer.body > 1 {
        add(answer(AnswerSpec { body: exchange.answer.body / 2, ..exchange.answer.clone() }));
    }
    simpler
}

fn halves_and_singles(list: &[(String, String)]) -> Vec<Vec<(String, String)>> {
    let mut smaller = Vec::new();
    if list.len() > 2 {
        smaller.push(list[..list.len() / 2].to_vec());
        smaller.push(list[list.len() / 2..].to_vec());
    }
    for left_out in 0..list.len() {
        let rest = list.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, h)| h.clone());
        smaller.push(rest.collect());
    }
    smaller
}

#[cfg(test)]
mod tests {
    use super::super::{Generator, Grammar};
    use super::*;

    fn smallest(
        mut connection: GeneratedConnection,
        fails: impl Fn(&GeneratedConnection) -> bool,
    ) -> GeneratedConnection {
        let mut steps = 0;
        while let Some(smaller) = candidates(&connection).into_iter().find(|c| fails(c)) {
            connection = smaller;
            steps += 1;
            assert!(steps < 200, "shrinking does not end");
        }
        connection
    }

    #[test]
    fn shrinking_ends_at_the_one_header_that_fails() {
        let grammar = Grammar {
            hosts: &["a.example"],
            web_socket: &["a.example"],
            streams: &[],
            refused: &[],
            http2: true,
        };
        let mut generator = Generator::new(5, grammar);
        let mut connection = generator.next_connection(48);
        connection.exchanges.extend(generator.next_connection(48).exchanges);
        connection.segment = Some(3);
        connection.exchanges[1].headers = (0..20).map(|n| (format!("x-{n}"), n.to_string())).collect();
        let shrunk = smallest(connection, |c| {
            c.exchanges.iter().flat_map(|e| &e.headers).any(|(name, _)| name == "x-13")
        });
        let [exchange] = shrunk.exchanges.as_slice() else { panic!("{shrunk:?}") };
        assert_eq!(exchange.headers, [("x-13".to_owned(), "13".to_owned())]);
        assert_eq!((exchange.target.as_str(), exchange.body, shrunk.segment), ("/", 0, None));
        assert_eq!(exchange.answer, AnswerSpec::plain());
    }

    #[test]
    fn exchanges_that_fail_only_together_stay_together() {
        let of = |host: &str| GeneratedExchange::plain(host);
        let exchanges = ["a", "b", "c", "d", "e"].map(of).to_vec();
        let connection = GeneratedConnection { client: ClientHttp::Http2, segment: None, exchanges };
        let has = |c: &GeneratedConnection, host: &str| c.exchanges.iter().any(|e| e.host == host);
        let shrunk = smallest(connection, |c| c.client == ClientHttp::Http2 && has(c, "b") && has(c, "e"));
        let hosts: Vec<&str> = shrunk.exchanges.iter().map(|e| e.host.as_str()).collect();
        assert_eq!((hosts, shrunk.client), (vec!["b", "e"], ClientHttp::Http2));
    }
}
