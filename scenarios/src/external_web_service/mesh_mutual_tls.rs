//! Origination is independent of the mutual TLS inside the mesh.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::Claims;
use meshproof_harness::mesh::{Mesh, Stop};

use super::{PAGE, shows_book};
use crate::sites::{BOOKS, SLEEP_IDENTITY};

const SECURE_PAGE: &str = "https://details.default.svc.cluster.local:9080/details/0486424618";

pub(super) async fn strict_and_off(mesh: &Mesh, title: &str) -> Result<(), Stop> {
    let (sleep, books, port) = (mesh.workload("sleep"), mesh.external(BOOKS), mesh.proxy("details"));
    mesh.step("Relation to Istio mutual TLS");
    mesh.apply(&["mesh-mtls-strict"]).await?;
    let strict = sleep.get(PAGE).await?;
    let strict_plain = port.probe_inbound().get(PAGE).await?;
    let anonymous = port.probe_inbound().get(SECURE_PAGE).await?;
    let impostor = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(SLEEP_IDENTITY).issue()?;
    let stranger = port.probe_inbound().identity(&impostor).get(SECURE_PAGE).await?;
    mesh.apply(&["mesh-mtls-permissive"]).await?;
    let permissive = sleep.get(PAGE).await?;
    let permissive_plain = port.probe_inbound().get(PAGE).await?;
    mesh.check(
        "independent-in-permissive-mode",
        shows_book(&permissive, title)
            .and_outside(books.received(&permissive))
            .and(shows_book(&permissive_plain, title).of("a plain client of the application")),
    )?;
    mesh.apply(&["mesh-mtls-off"]).await?;
    let off = sleep.get(PAGE).await?;
    let off_plain = port.probe_inbound().get(PAGE).await?;
    mesh.delete(&["mesh-mtls-off"]).await?;
    mesh.check(
        "independent-of-mesh-mtls",
        shows_book(&strict, title)
            .and_outside(books.received(&strict))
            .and(shows_book(&off, title))
            .and_outside(books.received(&off))
            .and(strict_plain.is_refused().of("a plain client of the application under STRICT"))
            .and(anonymous.is_refused().of("a TLS client without a certificate under STRICT"))
            .and(stranger.is_refused().of("a client with a certificate of another CA under STRICT"))
            .provided("a plain client without mesh mutual TLS", shows_book(&off_plain, title)),
    )
}
