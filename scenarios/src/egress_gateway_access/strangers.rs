//! Clients that the gateway must refuse however many it has served before, and a gateway that has been stopped.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Client, Mesh, Stop};

use super::SECURE;
use crate::placement::Placement;
use crate::sites::SLEEP_IDENTITY;

/// The proxy as the target names it.
const GATEWAY: &str = "istio-egressgateway";

pub(super) async fn every_time(
    mesh: &Mesh,
    usual: &Claim,
    refused: &impl Fn(&Reply) -> Claim,
) -> Result<(), Stop> {
    mesh.step("Strangers, again and again");
    let gateway = Placement::EgressGateway.proxy(mesh);
    let impostor = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(SLEEP_IDENTITY).issue()?;
    let anonymous = gateway.probe(80).get_each([SECURE; 6]).await?;
    let strangers = gateway.probe(80).identity(&impostor).get_each([SECURE; 6]).await?;
    let all = anonymous.iter().map(|reply| refused(reply).of("without a certificate"));
    let all = all.chain(strangers.iter().map(|reply| refused(reply).of("with a certificate of another CA")));
    mesh.check(
        "strangers-refused-every-time",
        Claim::all(all).provided("clients with an identity of the mesh", usual.clone()),
    )
}

pub(super) async fn of_a_stopped_gateway(mesh: &Mesh, client: &Client<'_>) -> Result<(), Stop> {
    mesh.step("A stopped gateway");
    let before = client.get(SECURE).await?;
    mesh.set_running(GATEWAY, false).await?;
    let stopped = client.get(SECURE).await?;
    mesh.set_running(GATEWAY, true).await?;
    let again = client.get(SECURE).await?;
    mesh.check(
        "stopped-gateway-serves-nobody",
        stopped.is_cut_off().provided("the same request before and after", before.ok().and(again.ok())),
    )
}
