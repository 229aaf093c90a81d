//! Istio reference, VirtualService: routes with a timeout, and with destinations by weight.

use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::{Client, Mesh, Stop};
use meshproof_harness::traffic::{AnswerSpec, DIRECTIONS};

use super::{ANY, HTTP1, RULED, SITES};
use crate::placement::Placement;

/// The number of requests that two destinations share four to one. By chance alone, the smaller one gets none of them once in five
/// thousand million runs, and more than [`MOST`] of them once in a million.
const MANY: usize = 100;
/// The most that the smaller of them may get. It gets more with even shares, but for one run in thirty.
const MOST: usize = 40;
/// How long the server takes for its answer, in milliseconds: much longer than the route's timeout, and less than the client waits.
const TOO_LONG_MS: u64 = 5000;

/// The manifest with the rules.
pub(super) fn manifest(placement: Placement) -> &'static str {
    match placement {
        Placement::Sidecar => "rules-at-sidecar",
        Placement::EgressGateway => "rules-at-egress-gateway",
        Placement::IngressGateway => "rules-at-ingress-gateway",
    }
}

pub(super) async fn story(mesh: &Mesh, client: &Client<'_>) -> Result<(), Stop> {
    mesh.step("A route with a timeout");
    let answering = |answer: AnswerSpec| client.clone().header(DIRECTIONS, &answer.to_header());
    let url = |path: &str| format!("http://{RULED}{path}");
    let late = AnswerSpec { delay_ms: TOO_LONG_MS, ..AnswerSpec::plain() };
    let late = mesh.resting(answering(late).get(&url("/timed"))).await?;
    let at_once = answering(AnswerSpec::plain()).get(&url("/timed")).await?;
    let served = at_once.ok().and(mesh.external(SITES[0]).received(&at_once));
    mesh.check("timeout-respected", late.fails().provided("a request that is answered at once", served))?;

    mesh.step("Destinations by weight");
    let many = answering(AnswerSpec::plain()).get_all(&vec![url("/weighted"); MANY]).await?;
    let all = Claim::all(many.iter().map(|reply| reply.ok().into()));
    let [any, http1, none] = [ANY, HTTP1, SITES[0]].map(|host| mesh.external(host));
    let shared = any.received_some(&many, RULED).and(http1.received_at_most(MOST, &many, RULED));
    let of_weight_zero = Claim::all(many.iter().map(|reply| none.saw(reply).none().into()));
    mesh.check("weights-respected", all.and(shared).and(of_weight_zero))
}
