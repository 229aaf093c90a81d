//! Istio reference, DestinationRule: how far a rule that opens TLS reaches. It covers the ports that it names, it is merged
//! with the other rules of its host, and it has no effect on other hosts.

mod own_tls;

use meshproof_harness::claim::{Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};

use crate::placement::Placement;
use crate::sites::{self, CNN, CNN_POLITICS};

const BYSTANDER: &str = "bystander.example";
const HTTP: &str = "http://edition.cnn.com/politics";

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let client = placement.client(mesh);

    mesh.step("Two external services");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let page = "Plain pages of the day";
    let cnn = sites::cnn(&certificate).serving_in_clear().text("/plain", page);
    let cnn = mesh.deploy_external(cnn).await?;
    let other = mesh.public_authority().server(BYSTANDER).issue()?;
    let bystander = sites::origin(BYSTANDER, &other).serving_in_clear();
    let bystander = mesh.deploy_external(bystander).await?;
    let ways: &[&str] = match placement {
        Placement::Sidecar => &["access"],
        Placement::EgressGateway => &["access", "egress-gateway", "routes-at-gateway"],
        Placement::IngressGateway => &["access", "ingress-gateway", "routes-at-gateway"],
    };
    mesh.apply(ways).await?;
    let originated = |reply: &Reply| reply.ok().body_contains(CNN_POLITICS).and(cnn.received(reply));
    if placement == Placement::Sidecar {
        own_tls::of_the_application(mesh, &certificate, &other).await?;
        mesh.apply(&["routes-at-sidecar"]).await?;
    }

    mesh.step("Another port and another host");
    mesh.apply(&["one-port-alone"]).await?;
    let with_rule = client.get(HTTP).await?;
    let on_another_port = client.get("http://edition.cnn.com/plain").await?;
    let of_another_host = client.get("http://bystander.example/private/report").await?;
    mesh.delete(&["one-port-alone"]).await?;
    let in_clear = cnn.saw_on(80, &on_another_port).exactly(1).in_clear();
    mesh.check(
        "other-ports-untouched",
        originated(&with_rule).and(on_another_port.ok().body_contains(page)).and(in_clear),
    )?;
    let untouched = bystander.saw_on(80, &of_another_host).exactly(1).in_clear();
    mesh.check(
        "other-hosts-untouched",
        of_another_host
            .ok()
            .and(untouched)
            .provided("the request for the host with the rule", originated(&with_rule)),
    )?;

    mesh.step("Two rules for one host");
    mesh.apply(&["two-rules"]).await?;
    let second = client.get(HTTP).await?;
    mesh.delete(&["two-rules"]).await?;
    mesh.apply(&["two-rules-policy-first"]).await?;
    let first = client.get(HTTP).await?;
    mesh.check(
        "second-destination-rule",
        originated(&second)
            .of("the policy in the second rule")
            .and(originated(&first).of("the policy in the first rule")),
    )?;

    mesh.step("Resources that are deleted and created again");
    let rules: &[&str] = match placement {
        Placement::Sidecar => &["routes-at-sidecar", "two-rules-policy-first"],
        Placement::EgressGateway | Placement::IngressGateway => &["two-rules-policy-first"],
    };
    let all: Vec<&str> = ways.iter().chain(rules).copied().collect();
    mesh.delete(&all).await?;
    // A proxy may have to be asked before it shows what it has forgotten.
    let without = client.get(HTTP).await?;
    mesh.apply(&all).await?;
    let again = client.get(HTTP).await?;
    let gone = cnn.saw_on(443, &without).none();
    mesh.check(
        "recreated-resources-apply",
        originated(&again).provided("the request without the resources", gone),
    )
}
