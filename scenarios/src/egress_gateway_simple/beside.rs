//! What the document's task leaves to its reader: the application's own HTTPS while plain requests go through the gateway, and a
//! mesh whose proxies do not speak mutual TLS.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};

use super::{GATEWAY, POLITICS, SECURE};
use crate::sites::{CNN, CNN_POLITICS};

pub(super) async fn https_of_the_application(
    mesh: &Mesh,
    certificate: &Issued,
    after: &Reply,
) -> Result<(), Stop> {
    let cnn = mesh.external(CNN);
    let own = mesh.workload("sleep").get(SECURE).await?;
    let whole: Claim = own.hop(0).answers(200, "HTTP/2").certificate(cnn.certificate(certificate)).into();
    let not_served = own.fails().and_outside(cnn.during(&own).served_nothing());
    let either = whole.or_recorded(not_served);
    mesh.check(
        "own-https-beside-the-gateway",
        either.provided("a plain request through the gateway", after.ends_with(200)),
    )
}

/// `refused` is a plain client's request while the gateway still required mesh mutual TLS.
pub(super) async fn without_mesh_mutual_tls(mesh: &Mesh, refused: &Reply) -> Result<(), Stop> {
    mesh.step("The same without mutual TLS in the mesh");
    let (cnn, gateway) = (mesh.external(CNN), mesh.proxy(GATEWAY));
    mesh.apply(&["gateway-without-mutual-tls"]).await?;
    let reply = mesh.workload("sleep").get(POLITICS).await?;
    let outside = gateway.probe(80).get(POLITICS).await?;
    mesh.apply(&["gateway"]).await?;
    let served = |reply: &Reply| reply.ok().shows(cnn.own(CNN_POLITICS)).and_outside(cnn.received(reply));
    let by_gateway = gateway.logged(&reply).status(200).upstream_host(mesh.upstream(CNN, 443));
    mesh.check(
        "plain-hop-to-gateway",
        served(&reply)
            .and(by_gateway)
            .and(served(&outside).of("a plain client of the gateway's port"))
            .provided("a plain client while mutual TLS is required", refused.is_refused()),
    )
}
