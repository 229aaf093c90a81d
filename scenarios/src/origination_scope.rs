//! Istio reference, DestinationRule: how far a rule that opens TLS reaches. It covers the ports that it names, it is merged
//! with the other rules of its host, and it has no effect on other hosts.

use meshproof_harness::claim::{Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::topology::{Topology, Workload};

use crate::sites::{self, CNN, CNN_POLITICS};

const BYSTANDER: &str = "bystander.example";
const HTTPS: &str = "https://edition.cnn.com/politics";
const HTTP: &str = "http://edition.cnn.com/politics";

pub(crate) fn topology() -> Topology {
    Topology::default().workload(Workload::sleep())
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let sleep = mesh.workload("sleep");

    mesh.step("Two external services");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let cnn = mesh.deploy_external(sites::cnn(&certificate)).await?;
    let other = mesh.public_authority().server(BYSTANDER).issue()?;
    let bystander = mesh.deploy_external(sites::origin(BYSTANDER, &other)).await?;
    mesh.apply(&["access"]).await?;
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
    let originated = |reply: &Reply| reply.ok().body_contains(CNN_POLITICS).and(cnn.received(reply));
    mesh.check("port-level-settings-apply", originated(&http).and(end_to_end(&https)))?;
    mesh.delete(&["port-level"]).await?;

    mesh.step("Two rules for one host");
    mesh.apply(&["two-rules"]).await?;
    let second = sleep.get(HTTP).await?;
    mesh.delete(&["two-rules"]).await?;
    mesh.apply(&["two-rules-policy-first"]).await?;
    let first = sleep.get(HTTP).await?;
    mesh.check(
        "second-destination-rule",
        originated(&second)
            .of("the policy in the second rule")
            .and(originated(&first).of("the policy in the first rule")),
    )
}
