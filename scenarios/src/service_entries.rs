//! Istio reference, "ServiceEntry": how the servers outside the mesh are found. However that is, the proxy opens TLS to them as the
//! DestinationRule says, with the server name of the host that was asked for.

mod ipv6;
mod team;

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external_server::{ExternalServer, Site};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::topology::{Gateway, Topology, Workload};

use crate::placement::Placement;

/// The number of requests for a service with several endpoints. A proxy that chooses among two at random leaves one of them out
/// once in half a million runs.
const MANY: usize = 20;

pub(crate) fn topology(configuration: &str) -> Topology {
    let topology = Topology::default().workload(Workload::sleep());
    match configuration {
        "sidecar" => topology,
        _ => topology.gateway(Gateway::egress()).gateway(team::gateway()),
    }
}

/// A server for this host, with one page.
fn site(host: &str, certificate: &Issued) -> ExternalServer {
    Site::at(host).certificate(certificate).text("/", host).text("/team", host).embedded()
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let client = mesh.workload("sleep");
    let public = mesh.public_authority();

    mesh.step("Servers that are found in different ways");
    let own = |host: &str| Ok::<_, Stop>(site(host, &public.server(host).issue()?));
    let both = public.server("static.example").issue()?;
    let several = public.server("one.example").with_san(["one.example", "two.example"]).issue()?;
    let wild = public.server("wild.example").with_san(["*.wild.example"]).issue()?;
    mesh.deploy_externals(vec![
        own("dns.example")?,
        site("static.example", &both).also_for(&["203.0.113.1"]),
        site("second.static.example", &both).also_for(&["203.0.113.2"]),
        own("rotating.example")?.serving_in_clear(),
        site("one.example", &several).also_for(&["two.example"]),
        own("portal.example")?,
        own("none.example")?,
        site("a.wild.example", &wild).also_for(&["b.wild.example"]),
    ])
    .await?;
    let [dns, first, second] =
        ["dns.example", "static.example", "second.static.example"].map(|h| mesh.external(h));
    let [rotating, several, wild] =
        ["rotating.example", "one.example", "a.wild.example"].map(|h| mesh.external(h));
    mesh.apply(match placement {
        Placement::Sidecar => {
            &["entries", "original-destination", "wildcard-at-sidecar", "delegate-at-sidecar"]
        }
        Placement::EgressGateway | Placement::IngressGateway => {
            &["entries", "egress-gateway", "routes-at-gateway", "wildcard-at-gateway", "delegate-at-gateway"]
        }
    })
    .await?;
    let urls = ["dns", "rotating", "one", "two", "a.wild", "b.wild", "portal"]
        .map(|h| format!("http://{h}.example/"));
    let [by_dns, by_rotation, one, two, a, b, portal] =
        client.get_each(urls.each_ref().map(String::as_str)).await?;
    let arrived = |server: &meshproof_harness::mesh::External<'_>, reply: &Reply, host: &str| -> Claim {
        reply.ok().and(server.received(reply).host(host).server_name(host))
    };
    mesh.check("dns-resolution", arrived(&dns, &by_dns, "dns.example"))?;
    mesh.check("dns-round-robin", arrived(&rotating, &by_rotation, "rotating.example"))?;
    mesh.check(
        "several-hosts",
        arrived(&several, &one, "one.example").and(arrived(&several, &two, "two.example")),
    )?;
    // The wildcard is not for the host that it is below (Istio reference, ServiceEntry, `hosts`): the ledger sees where this goes.
    let _apex = client.get("http://wild.example/").await?;
    mesh.check(
        "wildcard-hosts",
        arrived(&wild, &a, "a.wild.example").and(arrived(&wild, &b, "b.wild.example")),
    )?;
    let many = client.get_all(&vec!["http://static.example/"; MANY]).await?;
    let all = Claim::all(many.iter().map(|reply| reply.ok().into()));
    mesh.check("static-resolution", all.and(first.received_some(&many, "static.example")))?;
    mesh.check(
        "every-endpoint-used",
        first.received_some(&many, "static.example").and(second.received_some(&many, "static.example")),
    )?;

    mesh.step("A delegate");
    let delegated = client.get("http://portal.example/team").await?;
    let of_others = arrived(&mesh.external("portal.example"), &portal, "portal.example");
    mesh.check(
        "delegate-route",
        arrived(&dns, &delegated, "dns.example").provided("a path that is not delegated", of_others),
    )?;

    if placement == Placement::Sidecar {
        let by_itself = client.get("http://none.example/").await?;
        let received = arrived(&mesh.external("none.example"), &by_itself, "none.example");
        mesh.check("no-resolution", received)?;
        mesh.step("A Sidecar with egress hosts");
        mesh.apply(&["narrow"]).await?;
        let [listed, unlisted] = client.get_each(["http://dns.example/", "http://rotating.example/"]).await?;
        mesh.delete(&["narrow"]).await?;
        let passed = unlisted.ok().and(rotating.saw(&unlisted).exactly(1).in_clear());
        let listed = arrived(&dns, &listed, "dns.example");
        mesh.check("sidecar-egress-hosts", passed.provided("a host that is listed", listed))?;
    } else {
        team::story(mesh).await?;
    }
    ipv6::story(mesh, placement).await
}
