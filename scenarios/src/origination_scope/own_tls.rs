//! The application's own TLS beside origination at its sidecar.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};

use super::{BYSTANDER, HTTP};
use crate::sites::{CNN, CNN_POLITICS};

const HTTPS: &str = "https://edition.cnn.com/politics";

pub(super) async fn of_the_application(
    mesh: &Mesh,
    certificate: &Issued,
    other: &Issued,
) -> Result<(), Stop> {
    let (sleep, cnn, bystander) = (mesh.workload("sleep"), mesh.external(CNN), mesh.external(BYSTANDER));
    let alone = sleep.get(HTTPS).await?;

    mesh.step("TLS on a port whose clients already encrypt");
    mesh.apply(&["double-tls"]).await?;
    let twice = sleep.get(HTTPS).await?;
    let end_to_end = |reply: &Reply| reply.hop(0).answers(200, "HTTP/2").certificate(certificate.sha256());
    mesh.check(
        "double-tls",
        twice
            .is_cut_off()
            .and(cnn.during(&twice).served_nothing())
            .provided("the same request without the rule", end_to_end(&alone)),
    )?;
    let beside = sleep.get("https://bystander.example/private/report").await?;
    let passed_through = beside.hop(0).answers(200, "HTTP/2").certificate(other.sha256());
    mesh.check("bystander-https", passed_through.and(bystander.received(&beside)))?;

    mesh.step("One port's settings");
    mesh.apply(&["port-level"]).await?;
    let http = sleep.get(HTTP).await?;
    let https = sleep.get(HTTPS).await?;
    mesh.delete(&["port-level"]).await?;
    let originated = http.ok().body_contains(CNN_POLITICS).and(cnn.received(&http));
    mesh.check("port-level-settings-apply", originated.and(end_to_end(&https)))
}
