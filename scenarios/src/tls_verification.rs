//! Istio reference, DestinationRule, "ClientTLSSettings": which servers a proxy accepts when it opens TLS. There is one
//! server for each kind of certificate that must be refused, and one whose certificate must be accepted. Every proxy that
//! opens TLS is asked: a sidecar, an egress gateway and an ingress gateway, with one-way and with mutual TLS.

mod mesh_peer;
mod origination;
mod servers;

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, nothing_weak_offered};
use meshproof_harness::external::TlsVersions;
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};

use self::origination::{Origination, Replies};
use self::servers::{NEIGHBOUR, OF_TLS12, REFUSED, TRUSTED, UNKNOWN_CA, VERSIONS};
use crate::sites;

const ALIAS: &str = "alias.origin.example";
/// How often servers are asked: a proxy must verify the certificate of every connection, the last as the first. Every server is
/// asked twice, and some of them as often as this.
const ROUNDS: usize = 4;

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("Servers with certificates of every kind");
    let private = Authority::named("A private CA", "not among the roots", KeyAlgorithm::EcdsaP256)?;
    let tls = Origination::new(mesh, &private)?;
    let trusted_certificate = tls.cas.trusted.server(TRUSTED).issue()?;
    let mut servers = vec![tls.server(TRUSTED, &trusted_certificate)];
    for (_, host, certificate) in REFUSED {
        let server = tls.server(host, &certificate(&tls.cas, host)?);
        servers.push(if OF_TLS12.contains(&host) { server.tls_versions(TlsVersions::Tls12) } else { server });
    }
    for (_, host, versions, _) in VERSIONS {
        servers.push(tls.server(host, &tls.cas.trusted.server(host).issue()?).tls_versions(versions));
    }
    mesh.deploy_externals(servers).await?;
    tls.prepare().await?;

    mesh.step("Origination");
    tls.originate(true).await?;
    let bad = REFUSED.map(|(_, host, _)| host);
    let [a, b, c, d, e, f, g] = bad;
    // Together with a server that must be accepted, so that a failure is due to the certificate.
    let all = [TRUSTED, a, b, c, d, e, f, g];
    let mut rounds = vec![tls.ask(all).await?, tls.ask(all).await?];
    while rounds.len() < ROUNDS {
        rounds.push(tls.ask([TRUSTED, UNKNOWN_CA, NEIGHBOUR]).await?);
    }
    let alias = &tls.ask([ALIAS]).await?[ALIAS];
    let by_version = tls.ask(VERSIONS.map(|(_, host, ..)| host)).await?;
    for (check, host, _, version) in VERSIONS {
        let spoken = mesh.external(host).received(&by_version[host]).tls_version(version);
        mesh.check(check, tls.accepted(host, &by_version).and(spoken))?;
    }
    let rewritten = mesh.external(TRUSTED).received(alias).host(TRUSTED).server_name(TRUSTED);
    mesh.check("sni-follows-host-rewrite", alias.ok().and(rewritten))?;

    mesh.step("Origination with insecureSkipVerify");
    tls.originate(false).await?;
    let unverified = tls.ask(bad).await?;

    mesh.step("Origination with verification again");
    tls.originate(true).await?;
    let again = tls.ask(all).await?;
    let unverified_accepted = |host: &str| tls.accepted(host, &unverified).of(host);
    let always_refused = |host: &str| {
        let asked = rounds.iter().filter(|replies| replies.contains_key(host));
        let refused = Claim::all(asked.map(|replies| tls.refused(host, replies)));
        let reached = mesh.external(host).during(&rounds[0][host]).reached();
        refused.and(reached).provided("the same request with insecureSkipVerify", unverified_accepted(host))
    };
    // A check may have several servers, which stand next to each other.
    for servers in REFUSED.chunk_by(|(check, ..), (next, ..)| check == next) {
        mesh.check(servers[0].0, Claim::all(servers.iter().map(|(_, host, _)| always_refused(host))))?;
    }
    let trusted_accepted =
        |replies: &Replies| tls.accepted(TRUSTED, replies).of("beside servers that are refused");
    let roots =
        if tls.is_mutual() { "configured-ca-replaces-system-roots" } else { "system-roots-by-default" };
    mesh.check(roots, always_refused(UNKNOWN_CA).and(Claim::all(rounds.iter().map(trusted_accepted))))?;
    let all_accepted = Claim::all(bad.map(unverified_accepted));
    let all_refused = Claim::all(bad.map(|host| tls.refused(host, &again).of("verified again")));
    mesh.check(
        "verification-can-be-disabled",
        all_accepted.clone().and(
            all_refused
                .and(trusted_accepted(&again))
                .provided("the same requests with insecureSkipVerify", all_accepted),
        ),
    )?;

    mesh.step("What is offered to the server");
    // A stock nginx does not show the ALPN offer. From here on the embedded server is needed, so that a target without one
    // runs everything before.
    let witness = sites::origin(TRUSTED, &trusted_certificate).asking_clients_of(tls.cas.trusted).embedded();
    let witness = mesh.deploy_external(witness).await?;
    let seen = tls.ask([TRUSTED]).await?;
    let offered = witness.saw(&seen[TRUSTED]).exactly(1).alpn_offered_among(&["h2", "http/1.1"]);
    mesh.check("external-alpn", offered.and(seen[TRUSTED].ok()))?;
    let direct_client = tls.cas.trusted.client("client.example.com").issue()?;
    let direct =
        witness.probe(Some(&direct_client)).get("https://trusted.origin.example/private/report").await?;
    mesh.check(
        "client-certificate-as-configured",
        tls.accepted(TRUSTED, &seen).provided(
            "the server's view of a client that presents a certificate",
            witness.received(&direct).client_certificate(&direct_client),
        ),
    )?;
    mesh.check("tls-version-floor", nothing_weak_offered())?;
    // Only implementations with the feature accept the manifest.
    if mesh.configuration() == "sidecar" && mesh.has_feature(Feature::MeshMtls) {
        mesh_peer::of_another_ca(&tls).await?;
    }
    Ok(())
}
