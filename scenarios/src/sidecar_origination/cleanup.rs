//! The resources are deleted one after the other, in the order in which the document prints them.

use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};

use super::{POLITICS, SECURE};
use crate::sites::CNN;

const NAME: &str = "edition-cnn-com";

pub(super) async fn in_the_printed_order(mesh: &Mesh, untouched: &Reply, after: &Reply) -> Result<(), Stop> {
    mesh.step("Cleanup");
    let (sleep, cnn) = (mesh.workload("sleep"), mesh.external(CNN));
    let earlier: &[&str] = match mesh.configuration() {
        "port-rewrite" => &["ServiceEntry", "VirtualService"],
        _ => &["ServiceEntry"],
    };
    let mut states = Vec::new();
    for kind in earlier {
        mesh.delete_one(kind, "default", NAME).await?;
        let reply = sleep.get(POLITICS).await?;
        let redirected = reply.hop(0).redirects(301, SECURE);
        states.push(reply.fails().or_recorded(redirected).of(&format!("without the {kind}")));
    }
    mesh.check(
        "origination-ends-with-the-service-entry",
        Claim::all(states).provided("the request before the deletion", after.ends_with(200)),
    )?;

    mesh.delete_one("DestinationRule", "default", NAME).await?;
    let restored = sleep.get(POLITICS).await?;
    let as_before = restored.ends_as(untouched);
    // Where the external service is not observed, only the redirect shows that origination has ended.
    let redirected = as_before.clone().provided("the redirect", restored.hop(0).redirects(301, SECURE));
    mesh.check(
        "cleanup-restores",
        as_before.and(cnn.during(&restored).saw_in_clear("/politics").or_unobserved(redirected)),
    )
}
