//! A proxy does not answer from memory, and does not repeat what must be sent once.

use meshproof_harness::claim::Claims;
use meshproof_harness::mesh::{Client, External, Mesh, Stop};
use meshproof_harness::traffic::{AnswerFraming, AnswerSpec, DIRECTIONS};
use meshproof_harness::workload::Method;

pub(super) async fn story(mesh: &Mesh, client: &Client<'_>, api: &External<'_>) -> Result<(), Stop> {
    mesh.step("RFC 9111 and RFC 9110, section 9.2.2");
    // The answer describes the request, the token in its User-Agent included.
    let uncached = client.clone().header("cache-control", "no-store");
    let first = uncached.get("http://api.example.com/echo").await?;
    let second = uncached.get("http://api.example.com/echo").await?;
    let fresh = second.ok().body_contains(&second.token).and(api.received(&second));
    mesh.check(
        "answers-not-reused",
        fresh.provided("the first request", first.ok().body_contains(&first.token).and(api.received(&first))),
    )?;

    // The server closes the connection when the request has arrived, which is what a server that closes idle connections looks
    // like to a proxy that had just taken one of them.
    let no_answer = AnswerSpec { framing: AnswerFraming::NoAnswer, ..AnswerSpec::plain() }.to_header();
    let unanswered = client.clone().header(DIRECTIONS, &no_answer).method(Method::POST);
    let post = unanswered.get("http://api.example.com/orders").await?;
    let answered = client.clone().method(Method::POST).get("http://api.example.com/echo").await?;
    mesh.check(
        "post-not-repeated",
        post.fails()
            .and(api.saw(&post).exactly(1))
            .provided("a POST that is answered", answered.ok().and(api.received(&answered))),
    )
}
