//! The resources are deleted one after the other, in the order in which the document prints them.

use meshproof_harness::claim::{Claim, Claims, Reply, Upstream};
use meshproof_harness::mesh::{Mesh, Stop};

use super::{GATEWAY, POLITICS, SECURE};
use crate::sites::CNN;

pub(super) async fn in_the_printed_order(
    mesh: &Mesh,
    untouched: &Reply,
    unopened: &Reply,
    at_gateway: &Upstream,
) -> Result<(), Stop> {
    mesh.step("Cleanup the TLS origination example");
    let (sleep, cnn) = (mesh.workload("sleep"), mesh.external(CNN));
    let before = sleep.get(POLITICS).await?;
    let mut states = Vec::new();
    for (kind, name) in [("Gateway", GATEWAY), ("ServiceEntry", "cnn")] {
        mesh.delete_one(kind, "default", name).await?;
        let reply = sleep.get(POLITICS).await?;
        let kept_in = mesh.proxy("sleep").logged(&reply).no_upstream_but(at_gateway).where_logged();
        let unseen = cnn.during(&reply).nothing().or_unobserved(kept_in);
        states.push(reply.fails().and(unseen).of(&format!("without the {kind}")));
    }
    mesh.check(
        "no-bypass-during-cleanup",
        Claim::all(states).provided("the request before the deletion", before.ends_with(200)),
    )?;

    mesh.delete_one("VirtualService", "default", "direct-cnn-through-egress-gateway").await?;
    mesh.delete_one("DestinationRule", "default", "originate-tls-for-edition-cnn-com").await?;
    mesh.delete_one("DestinationRule", "default", "egressgateway-for-cnn").await?;
    let restored = sleep.get(POLITICS).await?;
    let closed = mesh.proxy(GATEWAY).probe(80).get(POLITICS).await?;
    let as_before = restored.ends_as(untouched);
    // Where the external service is not observed, only the redirect shows that origination has ended.
    let redirected = as_before.clone().provided("the redirect", restored.hop(0).redirects(301, SECURE));
    mesh.check(
        "cleanup-restores",
        as_before
            .and(cnn.during(&restored).saw_in_clear("/politics").or_unobserved(redirected))
            .and(closed.ends_as(unopened).of("a plain client of the gateway's port")),
    )
}
