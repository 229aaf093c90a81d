//! Clients that the gateway must refuse however many it has served before, a gateway that has been stopped, and a server that has
//! the gateway's place.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external_server::Site;
use meshproof_harness::mesh::{Client, Mesh, Stop};

use super::{GATEWAY_IDENTITY, POLITICS, SECURE, kept_in};
use crate::placement::Placement;
use crate::sites::SLEEP_IDENTITY;

/// The proxy as the target names it, and its service.
const GATEWAY: &str = "istio-egressgateway";
const GATEWAY_HOST: &str = "istio-egressgateway.istio-system.svc.cluster.local";

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
        "stopped-gateway-refuses-connections",
        stopped.is_cut_off().provided("the same request before and after", before.ok().and(again.ok())),
    )
}

/// What only the logs say of the hop to the gateway, this shows: the sidecar's request arrives at the server that has the gateway's
/// address and identity. Nothing of the scenario may follow, because the server keeps that place.
pub(super) async fn in_the_gateways_place(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("The suite in the place of the gateway");
    let (sleep, mesh_ca) = (mesh.workload("sleep"), mesh.mesh_authority()?);
    let before = sleep.get(POLITICS).await?;
    let identity = mesh_ca.mesh_identity(GATEWAY_IDENTITY).issue()?;
    let server = Site::at(GATEWAY_HOST).certificate(&identity).text("/politics", "in the gateway's place");
    let stand_in = mesh.deploy_external(server.asking_clients_of(mesh_ca).embedded()).await?;
    let reply = sleep.get(POLITICS).await?;
    let arrived = stand_in.received(&reply).client_identity(SLEEP_IDENTITY);
    mesh.check(
        "hop-reaches-the-gateway",
        reply
            .ok()
            .and(arrived)
            .and(kept_in(mesh, &reply))
            .provided("the same request through the gateway itself", before.ok()),
    )
}
