//! Port 443 once it is declared as HTTP: the document says that clients only send plain HTTP there.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};

use super::SECURE;
use crate::sites::{self, CNN, CNN_POLITICS};

const BYSTANDER: &str = "bystander.example";

pub(super) async fn declared_as_http(mesh: &Mesh, certificate: &Issued) -> Result<(), Stop> {
    let (sleep, cnn) = (mesh.workload("sleep"), mesh.external(CNN));
    let plain = sleep.get("http://edition.cnn.com:443/politics").await?;
    let arrived = cnn.received(&plain).host(CNN).server_name(CNN);
    mesh.check("http-to-port-443-originated", plain.ok().shows(cnn.own(CNN_POLITICS)).and_outside(arrived))?;

    let own = sleep.get(SECURE).await?;
    let whole = |reply: &Reply, certificate| -> Claim {
        reply.hop(0).answers(200, "HTTP/2").certificate(certificate).into()
    };
    let not_served = own.fails().and_outside(cnn.during(&own).served_nothing());
    let (meanwhile, works) = ("a plain request to the same port", plain.ends_with(200));
    mesh.check(
        "own-https-on-http-port",
        whole(&own, cnn.certificate(certificate)).or_recorded(not_served).provided(meanwhile, works.clone()),
    )?;

    // A real host has no neighbour that the suite could ask. This claim is skipped, because the real host is not observed.
    if cnn.own("").is_none() {
        return mesh.check("bystander-https", cnn.during(&own).served_nothing());
    }
    mesh.step("Another host whose port 443 is HTTPS");
    let other = mesh.public_authority().server(BYSTANDER).issue()?;
    let bystander = mesh.deploy_external(sites::origin(BYSTANDER, &other)).await?;
    mesh.apply(&["bystander"]).await?;
    let beside = sleep.get("https://bystander.example/private/report").await?;
    let cut = beside.fails().and(bystander.during(&beside).served_nothing());
    mesh.check(
        "bystander-https",
        whole(&beside, bystander.certificate(&other)).or_recorded(cut).provided(meanwhile, works),
    )?;
    mesh.delete(&["bystander"]).await
}
