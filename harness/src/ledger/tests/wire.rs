//! Versions, connections and streams.

use super::*;

#[test]
fn a_request_must_not_be_taken_away_from_a_server_that_is_going_to_answer_it() {
    let taken = |answer: &str, status: Option<u16>| {
        Books::with(|b| {
            b.request.answer = None;
            b.request.status = 0;
            b.request.headers.push(Header { name: "meshproof-answer".into(), value: answer.into() });
            b.without = vec!["log"];
            match status {
                Some(status) => b.answer().status = status,
                None => {
                    b.hop.result = HopResult::Error(meshproof_model::ExchangeError {
                        kind: meshproof_model::ExchangeErrorKind::Timeout,
                        message: "no whole answer".into(),
                    });
                }
            }
        })
    };
    let whole = r#"{"status":200,"body":3}"#;
    fails_with(taken(whole, Some(503)), "with which the server was going to answer");
    // The server ended it itself.
    balances(taken(r#"{"status":200,"framing":"no-answer"}"#, Some(503)));
    // The client did not wait.
    balances(taken(whole, None));
}
