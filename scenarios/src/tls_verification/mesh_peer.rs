//! ISTIO_MUTUAL: the mesh's CA decides, and not the identity that a certificate claims.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::Claims;
use meshproof_harness::mesh::Stop;

use super::origination::Origination;
use crate::sites;

const PEER: &str = "peer.mesh.example";

/// A server that claims to be the mesh's egress gateway, with a certificate that another CA signed.
pub(super) async fn of_another_ca(tls: &Origination<'_>) -> Result<(), Stop> {
    let mesh = tls.mesh;
    mesh.step("A peer outside the mesh that claims to be the egress gateway");
    let claimed = "spiffe://cluster.local/ns/istio-system/sa/istio-egressgateway-service-account";
    let certificate = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(claimed).issue()?;
    // Another mesh may offer ALPN values that a stock nginx refuses before it shows its certificate.
    let server = mesh.deploy_external(sites::origin(PEER, &certificate).embedded()).await?;
    mesh.apply(&["peer", "peer-mutual"]).await?;
    let mutual = tls.ask([PEER]).await?;
    mesh.apply(&["peer-unverified"]).await?;
    let unverified = &tls.ask([PEER]).await?[PEER];
    mesh.check(
        "mesh-ca-required",
        tls.refused(PEER, &mutual).provided(
            "the same request with SIMPLE and insecureSkipVerify",
            unverified.ok().and(server.received(unverified)),
        ),
    )
}
