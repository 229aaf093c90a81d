//! Exchanges and connections on which neither side sends anything for a second. Istio has no time limit for requests but the one that a route
//! sets (Istio reference, VirtualService, "HTTPRoute", `timeout`), and verification does not wear off.

use std::time::Duration;

use meshproof_harness::mesh::{Client, Mesh, Stop};
use meshproof_harness::traffic::{
    AnswerFraming, AnswerSpec, Aspect, ClientHttp, GeneratedConnection, GeneratedExchange, Grammar,
};

use super::{ANY, HTTP1, REFUSED};

/// How long neither side sends anything. Part of what is asked, and no wait for a condition.
const SILENCE: Duration = Duration::from_millis(1100);
/// The length of a body with a pause in its middle.
const BODY: usize = 2000;

pub(super) async fn story(mesh: &Mesh, client: &Client<'_>, grammar: Grammar<'_>) -> Result<(), Stop> {
    mesh.step("A second of silence");
    let kept = client.quiet(&silent(grammar)).await?;
    // No connection was opened for a second. A proxy that then verifies less accepts one of these servers.
    let after = REFUSED.into_iter().chain([ANY]).map(GeneratedExchange::plain);
    let after = client.quiet(&after.map(GeneratedConnection::of).collect::<Vec<_>>()).await?;
    mesh.check("silence-kept", kept.accounted_for(Aspect::Preservation))?;
    mesh.check("verified-after-silence", after.accounted_for(Aspect::Preservation))
}

/// A connection for each place in an exchange at which neither side may send anything.
fn silent(grammar: Grammar<'_>) -> Vec<GeneratedConnection> {
    let ms = u64::try_from(SILENCE.as_millis()).unwrap_or(u64::MAX);
    let plain = GeneratedExchange::plain(HTTP1);
    let before_the_answer = GeneratedExchange {
        answer: AnswerSpec { delay_ms: ms, body: BODY, ..AnswerSpec::plain() },
        ..plain.clone()
    };
    let within_the_answer = GeneratedExchange {
        answer: AnswerSpec {
            pause_ms: ms,
            body: BODY,
            framing: AnswerFraming::Pieces,
            ..AnswerSpec::plain()
        },
        ..plain.clone()
    };
    let within_the_request = GeneratedExchange {
        method: "POST".to_owned(),
        body: BODY,
        chunked: true,
        pause_ms: ms,
        ..plain.clone()
    };
    let over_http2 = GeneratedConnection {
        client: ClientHttp::Http2,
        ..GeneratedConnection::of(GeneratedExchange { host: ANY.to_owned(), ..before_the_answer.clone() })
    };
    let between_messages = grammar.web_socket.first().map(|host| GeneratedExchange {
        messages: ["before the silence", "after it"].map(str::to_owned).to_vec(),
        pause_ms: ms,
        answer: AnswerSpec { status: 101, framing: AnswerFraming::WebSocket, ..AnswerSpec::plain() },
        ..GeneratedExchange::plain(host)
    });
    let exchanges = [before_the_answer, within_the_answer, within_the_request];
    let mut connections: Vec<_> =
        exchanges.into_iter().chain(between_messages).map(GeneratedConnection::of).collect();
    connections.extend(grammar.http2.then_some(over_http2));
    connections
}
