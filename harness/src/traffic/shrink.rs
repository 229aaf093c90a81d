//! Makes a failing exchange smaller.

use super::answer::{AnswerFraming, AnswerSpec};
use super::exchange::GeneratedExchange;

/// Simpler variants of an exchange, the simplest first. The exchange is as small as it gets when none of them fails.
pub(crate) fn candidates(exchange: &GeneratedExchange) -> Vec<GeneratedExchange> {
    let mut simpler = Vec::new();
    let mut add = |candidate: GeneratedExchange| {
        if candidate != *exchange && !simpler.contains(&candidate) {
            simpler.push(candidate);
        }
    };
    add(GeneratedExchange { answer: AnswerSpec::plain(), ..exchange.clone() });
    add(GeneratedExchange { headers: Vec::new(), ..exchange.clone() });
    add(GeneratedExchange { body: 0, chunked: false, ..exchange.clone() });
    add(GeneratedExchange { target: "/".to_owned(), ..exchange.clone() });
    add(GeneratedExchange { times: 1, ..exchange.clone() });
    add(GeneratedExchange { host_header: None, ..exchange.clone() });
    if exchange.body == 0 {
        add(GeneratedExchange { method: "GET".to_owned(), ..exchange.clone() });
    }
    let answer = |answer: AnswerSpec| GeneratedExchange { answer, ..exchange.clone() };
    add(answer(AnswerSpec { headers: Vec::new(), ..exchange.answer.clone() }));
    add(answer(AnswerSpec { body: 0, framing: AnswerFraming::Length, ..exchange.answer.clone() }));
    add(answer(AnswerSpec { status: 200, ..exchange.answer.clone() }));
    add(answer(AnswerSpec { framing: AnswerFraming::Length, ..exchange.answer.clone() }));
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
    use super::*;

    #[test]
    fn shrinking_ends_at_the_one_header_that_fails() {
        let mut generator = super::super::Generator::new(5, &["a.example"]);
        let mut exchange = generator.next_exchange();
        exchange.headers = (0..20).map(|n| (format!("x-{n}"), n.to_string())).collect();
        let fails = |e: &GeneratedExchange| e.headers.iter().any(|(name, _)| name == "x-13");
        let mut steps = 0;
        while let Some(smaller) = candidates(&exchange).into_iter().find(|c| fails(c)) {
            exchange = smaller;
            steps += 1;
            assert!(steps < 200, "shrinking does not end");
        }
        assert_eq!(exchange.headers, [("x-13".to_owned(), "13".to_owned())]);
        assert_eq!((exchange.target.as_str(), exchange.body, exchange.times), ("/", 0, 1));
        assert_eq!(exchange.answer, AnswerSpec::plain());
    }
}
