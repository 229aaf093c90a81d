//! Istio reference, DestinationRule, "ClientTLSSettings": whom a proxy believes when it opens TLS. One server for each
//! kind of certificate that must not be believed, and one that must.

use meshproof_harness::certificates::{
    Authority, CertificateError, Issued, KeyAlgorithm, KeyPool, self_signed,
};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external::{Documented, TlsVersions};
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{External, Mesh, Stop};
use meshproof_harness::scenario::{Check, Configuration, Scenario};
use meshproof_harness::topology::{Gateway, Topology, Workload};

use crate::sites;

const SETTINGS: &str = "ClientTLSSettings";
const HEADERS: &str = "Headers.HeaderOperations";

/// A negative that is told in one sentence.
const fn refused(id: &'static str, requirement: &'static str, why: &'static str) -> Check {
    Check::must(id, SETTINGS, requirement).why(why).observed(
        "The workload's exchange and the server's requests on both its ports; the twin is the same server with insecureSkipVerify.",
    )
}

pub(crate) static SCENARIO: Scenario = Scenario {
    id: "tls-verification",
    title: "A proxy that opens TLS verifies whom it talks to",
    document: "Destination Rule: ClientTLSSettings",
    url: "https://istio.io/latest/docs/reference/config/networking/destination-rule/#ClientTLSSettings",
    features: &[Feature::Sidecar],
    configurations: &[
        Configuration { id: "sidecar", title: "origination at the sidecar" },
        Configuration { id: "ingress-gateway", title: "origination at a gateway" },
    ],
    checks: &[
        refused(
            "unknown-ca-refused",
            "A server whose certificate comes from a CA that nobody configured is refused: the request does not reach it.",
            "Without it anybody on the way can answer in the server's place.",
        ),
        refused(
            "self-signed-refused",
            "A server whose certificate signed itself is refused: the request does not reach it.",
            "It is the certificate that an attacker has first.",
        ),
        refused(
            "expired-certificate-refused",
            "A server whose certificate has expired is refused: the request does not reach it.",
            "Expiry bounds the harm of a lost key.",
        ),
        refused(
            "not-yet-valid-refused",
            "A server whose certificate is not valid yet is refused: the request does not reach it.",
            "The period of validity has two ends (RFC 5280, 4.1.2.5).",
        ),
        refused(
            "wrong-host-refused",
            "A server whose certificate names another host is refused, with neither sni nor subjectAltNames configured: the request does not reach it.",
            "A trusted CA has issued certificates to everybody; only the name tells them apart.",
        ),
        refused(
            "server-auth-eku-required",
            "A server whose certificate was issued for clients alone is refused: the request does not reach it.",
            "A client's certificate must not make a server of it (RFC 5280, 4.2.1.12).",
        ),
        Check::must(
            "verification-can-be-disabled",
            SETTINGS,
            "With insecureSkipVerify: true, each of those servers is talked to, over TLS; and only then: without it again, each is refused again.",
        )
        .why("It is the documented way out, and it proves that nothing but verification refused them.")
        .observed("The workload's exchanges and the servers' requests."),
        Check::must(
            "system-roots-by-default",
            SETTINGS,
            "With no CA configured, a CA among the system's roots is believed and a private one is not.",
        )
        .why("The default decides for everybody who configures nothing.")
        .observed("The workload's exchanges and the servers' requests."),
        Check::must(
            "sni-follows-host-rewrite",
            HEADERS,
            "After a Host rewrite, the automatic server name and the verified name are the new host's.",
        )
        .why("A server name that disagrees with Host reaches the wrong server, or none.")
        .observed("The server's handshake and request."),
        Check::must(
            "external-alpn",
            SETTINGS,
            "The ALPN offered to a server outside is http/1.1, h2, both or none; never a mesh-internal value.",
        )
        .why("Mesh-internal values tell outsiders what runs here, and make strict servers refuse the handshake.")
        .observed("The ALPN offers in the server's handshakes."),
        Check::must(
            "tls12-only-origin",
            SETTINGS,
            "A server that speaks TLS 1.2 alone is talked to in TLS 1.2.",
        )
        .why("Many servers outside are older than the mesh.")
        .observed("The server's handshake and the workload's exchange."),
        Check::must(
            "tls13-origin",
            SETTINGS,
            "A server that speaks TLS 1.3 alone is talked to in TLS 1.3.",
        )
        .why("Some servers outside have given up what is older.")
        .observed("The server's handshake and the workload's exchange."),
        Check::must(
            "mesh-ca-required",
            "ClientTLSSettings.TLSmode",
            "With ISTIO_MUTUAL, a peer whose certificate does not come from the mesh's CA is refused, whatever identity it claims: the request does not reach it.",
        )
        .only_in(&["sidecar"])
        .feature(Feature::MeshMtls)
        .why("Whoever believes any peer hands the mesh's requests to anybody who stands in a gateway's place.")
        .observed("The workload's exchange and the peer's requests; the twin is the same peer with SIMPLE and insecureSkipVerify."),
    ],
    fixtures: crate::fixtures!("tls-verification":
        "servers", "gateway", "originate", "originate-unverified", "peer", "peer-mutual", "peer-unverified"),
    live: &[],
    topology: || Topology {
        workloads: vec![Workload::sleep()],
        gateways: vec![Gateway::ingress()],
        ..Topology::default()
    },
    run: |mesh| Box::pin(run(mesh)),
};

const PEER: &str = "peer.mesh.example";
const TRUSTED: &str = "trusted.origin.example";

/// A server with a certificate that must be refused, and the check that says so.
struct Bad<'a> {
    check: &'static str,
    host: &'static str,
    server: External<'a>,
}

/// The same request for each of these hosts, side by side, to the proxy that is judged: the application's through its
/// sidecar, or an outsider's to the gateway.
async fn ask<const N: usize>(mesh: &Mesh, hosts: [&str; N]) -> Result<[Reply; N], Stop> {
    let urls = hosts.map(|host| format!("http://{host}/private/report?of=today"));
    let client = match mesh.configuration() {
        "sidecar" => mesh.workload("sleep"),
        _ => mesh.proxy("istio-ingressgateway").probe(80),
    };
    client.get_each(urls.each_ref().map(String::as_str)).await
}

fn with_trusted(bad: [&'static str; 7]) -> [&'static str; 8] {
    let [a, b, c, d, e, f, g] = bad;
    [TRUSTED, a, b, c, d, e, f, g]
}

/// The server's own page came, by one request to it and to nobody else: under its name, in TLS that was opened under its name.
fn answered_by(server: &External<'_>, host: &str, reply: &Reply) -> Claim {
    let seen = server.saw(reply).exactly(1).over_tls().host(host).server_name(host);
    reply.only_response().is(200).body_contains(host).and(seen)
}

fn bad_certificate(mesh: &Mesh, host: &str) -> Result<Issued, CertificateError> {
    let ca = mesh.public_authority();
    match host {
        "unknown-ca.origin.example" => {
            Authority::named("A private CA", "nobody in particular", KeyAlgorithm::EcdsaP256)?
                .server(host)
                .issue()
        }
        "self-signed.origin.example" => self_signed(&KeyPool::fresh(), host, KeyAlgorithm::EcdsaP256),
        "expired.origin.example" => ca.server(host).expired().issue(),
        "not-yet-valid.origin.example" => ca.server(host).not_yet_valid().issue(),
        // A name that this very proxy talks to, and still not this host's.
        "neighbour.origin.example" => ca.server(TRUSTED).issue(),
        "wrong-host.origin.example" => ca.server("somewhere-else.example").issue(),
        _ => ca.server(host).client_auth_only().issue(),
    }
}

async fn run(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("Servers with certificates of every kind");
    let ca = mesh.public_authority();
    let bad = [
        ("unknown-ca-refused", "unknown-ca.origin.example"),
        ("self-signed-refused", "self-signed.origin.example"),
        ("expired-certificate-refused", "expired.origin.example"),
        ("not-yet-valid-refused", "not-yet-valid.origin.example"),
        ("wrong-host-refused", "wrong-host.origin.example"),
        ("wrong-host-refused", "neighbour.origin.example"),
        ("server-auth-eku-required", "client-only.origin.example"),
    ];
    let versions = [
        ("tls12-only-origin", "tls12.origin.example", TlsVersions::Tls12, "TLSv1.2"),
        ("tls13-origin", "tls13.origin.example", TlsVersions::Tls13, "TLSv1.3"),
    ];
    let of_trusted = sites::origin(TRUSTED, &ca.server(TRUSTED).issue()?);
    let mut specs = vec![of_trusted.clone()];
    for (_, host) in bad {
        specs.push(sites::origin(host, &bad_certificate(mesh, host)?));
    }
    for (_, host, only, _) in versions {
        let mut spec = sites::origin(host, &ca.server(host).issue()?);
        if let Some(tls) = &mut spec.tls {
            tls.versions = only;
        }
        specs.push(spec);
    }
    let specs = specs.into_iter().map(|spec| (spec, Documented::Site)).collect();
    let mut servers = mesh.deploy_externals(specs).await?.into_iter();
    let (bad_hosts, version_hosts) = (bad.map(|(_, host)| host), versions.map(|(_, host, ..)| host));
    let mut next = || servers.next().ok_or_else(|| Stop::Suite("a server is missing".to_owned()));
    let trusted = next()?;
    let bad = bad.map(|(check, host)| next().map(|server| Bad { check, host, server }));
    let bad = bad.into_iter().collect::<Result<Vec<_>, _>>()?;
    let versions = versions.map(|(check, host, _, name)| next().map(|server| (check, host, name, server)));
    let versions = versions.into_iter().collect::<Result<Vec<_>, _>>()?;
    mesh.apply(&["servers"]).await?;
    if mesh.configuration() == "ingress-gateway" {
        mesh.apply(&["gateway"]).await?;
    }

    mesh.step("Origination with nothing said of a CA");
    mesh.apply(&["originate"]).await?;
    // Beside one that must be believed, so that what fails does so on its own account; and twice, because who has looked at a
    // certificate once must do so again.
    let [first_believed, first @ ..] = ask(mesh, with_trusted(bad_hosts)).await?;
    let [second_believed, second @ ..] = ask(mesh, with_trusted(bad_hosts)).await?;
    let [alias] = ask(mesh, ["alias.origin.example"]).await?;
    let believed =
        |reply: &Reply| answered_by(&trusted, TRUSTED, reply).of("beside servers that are refused");
    let believed_works = believed(&first_believed).and(believed(&second_believed));
    for ((check, host, version, server), reply) in versions.iter().zip(ask(mesh, version_hosts).await?) {
        let spoken = server.saw(&reply).exactly(1).tls_version(version);
        mesh.check(check, answered_by(server, host, &reply).and(spoken))?;
    }
    mesh.check(
        "sni-follows-host-rewrite",
        alias.only_response().is(200).and(trusted.saw(&alias).exactly(1).host(TRUSTED).server_name(TRUSTED)),
    )?;

    mesh.step("Origination with insecureSkipVerify");
    mesh.apply(&["originate-unverified"]).await?;
    let replies = bad.iter().zip(ask(mesh, bad_hosts).await?);
    let unverified: Vec<Claim> =
        replies.map(|(b, reply)| answered_by(&b.server, b.host, &reply).of(b.host)).collect();

    mesh.step("Origination with verification again");
    mesh.apply(&["originate"]).await?;
    let [still_believed, once_more @ ..] = ask(mesh, with_trusted(bad_hosts)).await?;
    let refuses = |b: &Bad<'_>, reply: &Reply| {
        let unseen = b.server.during(reply).no_request();
        reply.fails().and(unseen).and(b.server.during(reply).no_plaintext(&["/private/report"])).of(b.host)
    };
    let again = bad.iter().zip(&once_more).map(|(b, reply)| refuses(b, reply).of("verified again"));
    let again: Vec<Claim> = again.chain([believed(&still_believed)]).collect();
    let mut judged: Vec<(&str, Vec<Claim>)> = Vec::new();
    for (((b, first), second), twin) in bad.iter().zip(&first).zip(&second).zip(&unverified) {
        let refused = refuses(b, first).and(b.server.during(first).reached()).and(refuses(b, second));
        let claim = refused.provided("the same with insecureSkipVerify", twin.clone());
        match judged.iter_mut().find(|(check, _)| *check == b.check) {
            Some((_, claims)) => claims.push(claim),
            None => judged.push((b.check, vec![claim])),
        }
    }
    let private_refused = judged.first().map(|(_, claims)| Claim::all(claims.clone()));
    for (check, claims) in judged {
        mesh.check(check, Claim::all(claims))?;
    }
    mesh.check("system-roots-by-default", Claim::all(private_refused).and(believed_works))?;
    mesh.check(
        "verification-can-be-disabled",
        Claim::all(unverified.clone())
            .and(Claim::all(again).provided("the same before", Claim::all(unverified))),
    )?;

    mesh.step("The ALPN that is offered");
    // A stock nginx does not show it. Last, so that a target which has no other server is asked everything else.
    let witness = mesh.deploy_external(of_trusted, Documented::Embedded).await?;
    let [seen] = ask(mesh, [TRUSTED]).await?;
    mesh.check(
        "external-alpn",
        witness
            .saw(&seen)
            .exactly(1)
            .alpn_offered_among(&["h2", "http/1.1"])
            .and(seen.only_response().is(200)),
    )?;
    // Asked only of implementations with the feature, because the others refuse the manifest.
    if mesh.configuration() == "sidecar" && mesh.has_feature(Feature::MeshMtls) {
        impostor(mesh).await?;
    }
    Ok(())
}

/// A server that claims to be the mesh's egress gateway, with a certificate that another CA signed.
async fn impostor(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("A peer that is not of the mesh");
    let claimed = "spiffe://cluster.local/ns/istio-system/sa/istio-egressgateway-service-account";
    let certificate = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(claimed).issue()?;
    // Another mesh may offer ALPN values that a stock nginx refuses before it shows its certificate.
    let server = sites::origin(PEER, &certificate);
    let server = mesh.deploy_external(server, Documented::Embedded).await?;
    mesh.apply(&["peer", "peer-mutual"]).await?;
    let [mutual] = ask(mesh, [PEER]).await?;
    mesh.apply(&["peer-unverified"]).await?;
    let [unverified] = ask(mesh, [PEER]).await?;
    mesh.check(
        "mesh-ca-required",
        mutual
            .fails()
            .and(server.during(&mutual).no_request())
            .and(server.during(&mutual).no_plaintext(&["/private/report"]))
            .provided(
                "the same with SIMPLE and insecureSkipVerify",
                unverified.only_response().is(200).and(server.saw(&unverified).exactly(1).over_tls()),
            ),
    )
}
