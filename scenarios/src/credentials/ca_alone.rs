//! One-way TLS with a CA from a Secret.

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::claim::Claims;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;

use super::{HOST, URL};
use crate::placement::Placement;
use crate::sites;

/// `manifests` have the name of a Secret without the suffix of a CA's Secret, and with it.
pub(super) async fn of_the_server(
    mesh: &Mesh,
    ca: &Authority,
    server: &Issued,
    manifests: [&str; 2],
) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let (apps, namespace) = (placement.client(mesh), placement.namespace());
    mesh.step("A CA alone");
    let nginx = mesh.deploy_external(sites::nginx(HOST, server)).await?;
    let stranger = Authority::new(KeyAlgorithm::EcdsaP256)?;
    for (check, secret, manifest) in [
        ("ca-only-credential", "origin-ca", manifests[0]),
        ("credential-name-ends-in-cacert", "origin-cacert", manifests[1]),
    ] {
        mesh.create_secret(Secret::new(namespace, secret).ca(ca)).await?;
        mesh.apply(&[manifest]).await?;
        let right = apps.get(URL).await?;
        mesh.create_secret(Secret::new(namespace, secret).ca(&stranger)).await?;
        let wrong = apps.get(URL).await?;
        mesh.check(
            check,
            nginx
                .certificate_refused(&wrong)
                .and(nginx.never_received(&wrong))
                .and(wrong.fails())
                .of("with another CA")
                .provided("the same request with the server's CA", right.ok().and(nginx.received(&right))),
        )?;
    }
    Ok(())
}
