//! Istio reference, DestinationRule: how far a rule that opens TLS reaches. To the ports that it names, beside the
//! rules of the same host, and to no other host.

use meshproof_harness::claim::{Claims, Reply};
use meshproof_harness::external::Documented;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Topology, Workload};

use crate::sites::{self, CNN, CNN_POLITICS};

const PORTS: &str = "TrafficPolicy.PortTrafficPolicy";
const SETTINGS: &str = "ClientTLSSettings";
const SPLIT: &str = "Destination Rule";
const BYSTANDER: &str = "bystander.example";

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "origination-scope",
    title: "A rule that opens TLS reaches its own ports and host, and no further",
    document: "Destination Rule",
    url: "https://istio.io/latest/docs/reference/config/networking/destination-rule/",
    features: &[Feature::Sidecar],
    configurations: &[Configuration { id: "sidecar", title: "origination at the sidecar" }],
    checks: &[
        Check::must(
            "double-tls",
            SETTINGS,
            "TLS opened on a port whose clients already encrypt fails cleanly: the application's handshake fails, nothing is served.",
        )
        .feature(Feature::TlsPassthrough)
        .why("It is the commonest mistake with origination; it must be seen at once, not hang or half work.")
        .observed("The workload's exchange and the external service's requests; the twin is the same request without the rule."),
        Check::must(
            "bystander-https",
            SETTINGS,
            "With such a rule in force, the application's own HTTPS to another host still works end to end.",
        )
        .feature(Feature::TlsPassthrough)
        .why("One host's mistake must not become another's outage.")
        .observed("The workload's handshake and response."),
        Check::must(
            "port-level-settings-apply",
            PORTS,
            "What is said of a port replaces what is said of all: port 80 is originated, port 443 stays the application's own.",
        )
        .feature(Feature::TlsPassthrough)
        .why("Settings that leak from port to port encrypt twice, or not at all.")
        .observed("The workload's exchanges and the external service's requests on both ports."),
        Check::must(
            "second-destination-rule",
            SPLIT,
            "Of two DestinationRules for one host, the traffic policy of the second is in force when the first has none, and that of the first when the second has none.",
        )
        .why("Rules for one host are merged; one that is dropped silently sends the request in plain text.")
        .observed("The workload's exchange and the external service's request."),
    ],
    fixtures: crate::fixtures!("origination-scope": "access", "double-tls", "port-level", "two-rules", "two-rules-policy-first"),
    live: &[],
    topology: || Topology { workloads: vec![Workload::sleep()], ..Topology::default() },
    run: |mesh| Box::pin(run(mesh)),
};

const HTTPS: &str = "https://edition.cnn.com/politics";
const HTTP: &str = "http://edition.cnn.com/politics";

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("Two hosts outside");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let cnn = mesh.deploy_external(sites::cnn(&certificate), Documented::Site).await?;
    let other = mesh.public_authority().server(BYSTANDER).issue()?;
    let bystander = mesh.deploy_external(sites::origin(BYSTANDER, &other), Documented::Site).await?;
    mesh.apply(&["access"]).await?;
    let alone = mesh.workload("sleep").get(HTTPS).await?;

    mesh.step("TLS on a port whose clients already encrypt");
    mesh.apply(&["double-tls"]).await?;
    let twice = mesh.workload("sleep").get(HTTPS).await?;
    mesh.check(
        "double-tls",
        twice.is_cut_off().and(cnn.during(&twice).served_nothing()).provided(
            "the same request without the rule",
            alone.hop(0).answers(200, "HTTP/2").certificate(certificate.sha256()),
        ),
    )?;
    let beside = mesh.workload("sleep").get("https://bystander.example/private/report").await?;
    mesh.check(
        "bystander-https",
        beside
            .hop(0)
            .answers(200, "HTTP/2")
            .certificate(other.sha256())
            .and(bystander.saw(&beside).exactly(1).over_tls()),
    )?;

    mesh.step("One port's settings");
    mesh.apply(&["port-level"]).await?;
    let http = mesh.workload("sleep").get(HTTP).await?;
    let https = mesh.workload("sleep").get(HTTPS).await?;
    mesh.check(
        "port-level-settings-apply",
        http.only_response()
            .is(200)
            .body_contains(CNN_POLITICS)
            .and(cnn.saw(&http).exactly(1).over_tls())
            .and(https.hop(0).answers(200, "HTTP/2").certificate(certificate.sha256())),
    )?;
    mesh.delete(&["port-level"]).await?;

    mesh.step("Two rules for one host");
    mesh.apply(&["two-rules"]).await?;
    let second = mesh.workload("sleep").get(HTTP).await?;
    mesh.delete(&["two-rules"]).await?;
    mesh.apply(&["two-rules-policy-first"]).await?;
    let first = mesh.workload("sleep").get(HTTP).await?;
    let in_force = |reply: &Reply, which: &str| {
        let seen = cnn.saw(reply).exactly(1).over_tls();
        reply.only_response().is(200).body_contains(CNN_POLITICS).and(seen).of(which)
    };
    mesh.check(
        "second-destination-rule",
        in_force(&second, "the policy in the second").and(in_force(&first, "the policy in the first")),
    )
}
