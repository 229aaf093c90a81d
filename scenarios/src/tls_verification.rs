//! Istio reference, DestinationRule, "ClientTLSSettings": which servers a proxy accepts when it opens TLS. There is one
//! server for each kind of certificate that must be refused, and one whose certificate must be accepted.

mod mesh_peer;
mod servers;

use std::collections::BTreeMap;

use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::topology::{Gateway, Topology, Workload};

use self::servers::{PRIVATE, REFUSED, TRUSTED, VERSIONS};
use crate::sites::{self, REPORT};

const ALIAS: &str = "alias.origin.example";

pub(crate) fn topology() -> Topology {
    Topology::default().workload(Workload::sleep()).gateway(Gateway::ingress())
}

/// The same request for each of these hosts, side by side, to the proxy that is judged: the application's through its
/// sidecar, or an outside client's to the gateway.
async fn ask<const N: usize>(mesh: &Mesh, hosts: [&'static str; N]) -> Result<Replies, Stop> {
    let urls = hosts.map(|host| format!("http://{host}{REPORT}?of=today"));
    let client = match mesh.configuration() {
        "sidecar" => mesh.workload("sleep"),
        _ => mesh.proxy("istio-ingressgateway").probe(80),
    };
    let replies = client.get_each(urls.each_ref().map(String::as_str)).await?;
    Ok(hosts.into_iter().zip(replies).collect())
}

/// The replies by host.
type Replies = BTreeMap<&'static str, Reply>;

/// The server's own page came, by one request to this server: under its name, in TLS that was opened under its name.
fn accepted(mesh: &Mesh, host: &str, replies: &Replies) -> Claim {
    let reply = &replies[host];
    let received = mesh.external(host).received(reply).host(host).server_name(host);
    reply.ok().body_contains(host).and(received)
}

fn refused(mesh: &Mesh, host: &str, replies: &Replies) -> Claim {
    let (server, reply) = (mesh.external(host), &replies[host]);
    let unseen = server.never_received(reply).and(server.during(reply).no_plaintext(&[REPORT]));
    reply.fails().and(unseen).of(host)
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("Servers with certificates of every kind");
    let ca = mesh.public_authority();
    let trusted = sites::origin(TRUSTED, &ca.server(TRUSTED).issue()?);
    let mut servers = vec![trusted.clone()];
    for (_, host, certificate) in REFUSED {
        servers.push(sites::origin(host, &certificate(ca, host)?));
    }
    for (_, host, versions, _) in VERSIONS {
        servers.push(sites::origin(host, &ca.server(host).issue()?).tls_versions(versions));
    }
    mesh.deploy_externals(servers).await?;
    mesh.apply(&["servers"]).await?;
    if mesh.configuration() == "ingress-gateway" {
        mesh.apply(&["gateway"]).await?;
    }

    mesh.step("Origination without a configured CA");
    mesh.apply(&["originate"]).await?;
    let bad = REFUSED.map(|(_, host, _)| host);
    let [a, b, c, d, e, f, g] = bad;
    // Together with a server that must be accepted, so that a failure is due to the certificate.
    let all = [TRUSTED, a, b, c, d, e, f, g];
    let first = ask(mesh, all).await?;
    // Again, because a proxy must verify the certificate of every connection.
    let second = ask(mesh, all).await?;
    let alias = &ask(mesh, [ALIAS]).await?[ALIAS];
    let by_version = ask(mesh, VERSIONS.map(|(_, host, ..)| host)).await?;
    for (check, host, _, version) in VERSIONS {
        let spoken = mesh.external(host).received(&by_version[host]).tls_version(version);
        mesh.check(check, accepted(mesh, host, &by_version).and(spoken))?;
    }
    let rewritten = mesh.external(TRUSTED).received(alias).host(TRUSTED).server_name(TRUSTED);
    mesh.check("sni-follows-host-rewrite", alias.ok().and(rewritten))?;

    mesh.step("Origination with insecureSkipVerify");
    mesh.apply(&["originate-unverified"]).await?;
    let unverified = ask(mesh, bad).await?;

    mesh.step("Origination with verification again");
    mesh.apply(&["originate"]).await?;
    let again = ask(mesh, all).await?;
    let unverified_accepted = |host: &str| accepted(mesh, host, &unverified).of(host);
    let refused_twice = |host: &str| {
        refused(mesh, host, &first)
            .and(mesh.external(host).during(&first[host]).reached())
            .and(refused(mesh, host, &second))
            .provided("the same request with insecureSkipVerify", unverified_accepted(host))
    };
    // A check may have several servers, which stand next to each other.
    for servers in REFUSED.chunk_by(|(check, ..), (next, ..)| check == next) {
        mesh.check(servers[0].0, Claim::all(servers.iter().map(|(_, host, _)| refused_twice(host))))?;
    }
    let trusted_accepted = |replies| accepted(mesh, TRUSTED, replies).of("beside servers that are refused");
    mesh.check(
        "system-roots-by-default",
        refused_twice(PRIVATE).and(trusted_accepted(&first)).and(trusted_accepted(&second)),
    )?;
    let all_accepted = Claim::all(bad.map(unverified_accepted));
    let all_refused = Claim::all(bad.map(|host| refused(mesh, host, &again).of("verified again")));
    mesh.check(
        "verification-can-be-disabled",
        all_accepted.clone().and(
            all_refused
                .and(trusted_accepted(&again))
                .provided("the same requests with insecureSkipVerify", all_accepted),
        ),
    )?;

    mesh.step("The ALPN that is offered");
    // A stock nginx does not show the offer. From here on the embedded server is needed, so that a target without one runs
    // everything before.
    let witness = mesh.deploy_external(trusted.embedded()).await?;
    let seen = &ask(mesh, [TRUSTED]).await?[TRUSTED];
    let offered = witness.saw(seen).exactly(1).alpn_offered_among(&["h2", "http/1.1"]);
    mesh.check("external-alpn", offered.and(seen.ok()))?;
    // Only implementations with the feature accept the manifest.
    if mesh.configuration() == "sidecar" && mesh.has_feature(Feature::MeshMtls) {
        mesh_peer::of_another_ca(mesh).await?;
    }
    Ok(())
}
