//! Istio reference, DestinationRule, "ClientTLSSettings": each destination has its own policy. Its certificate, its CA, its server
//! name and its connections are used for it alone, also by a proxy that holds those of others.

mod by_namespace;
mod own_tls;

pub(crate) use self::by_namespace::topology as sidecar_topology;
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external_server::{ExternalServer, Site};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;

use crate::placement::Placement;

const PARTNER: &str = "partner.example";
const BYSTANDER: &str = "bystander.example";
const UNREADY: &str = "unready.example";
const VENDOR: &str = "vendor.example";
const SHARED: &str = "shared.example";
const EAST: &str = "east.shared.example";
const WEST: &str = "west.shared.example";

/// The path of the route that has a client certificate.
const CERTIFIED: &str = "/with-certificate";

/// Paths that are not that one.
const OTHERS: [&str; 3] = ["/with-certificate/more", "/with-certificates", "/With-Certificate"];

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let client = placement.client(mesh);
    let ask = async |host: &str, path: &str| client.get(&format!("http://{host}{path}")).await;
    let public = mesh.public_authority();
    let clients = Authority::new(KeyAlgorithm::EcdsaP256)?;
    let own = clients.client("client.example.com").serial(1).issue()?;
    let late = clients.client("client.example.com").serial(2).issue()?;
    let secret = |name| Secret::new(placement.namespace(), name);

    mesh.step("Servers that ask for a client certificate and serve clients without one");
    let server = |host: &str| -> Result<ExternalServer, Stop> {
        let certificate = public.server(host).with_san([host, EAST, WEST]).issue()?;
        let site = Site::at(host).certificate(&certificate).asking_clients_of(&clients).embedded();
        let paths = ["/", "/east", "/west", CERTIFIED].into_iter().chain(OTHERS);
        Ok(paths.fold(site, |site, path| site.text(path, host)))
    };
    let servers = [PARTNER, BYSTANDER, UNREADY, VENDOR, SHARED].map(server);
    mesh.deploy_externals(servers.into_iter().collect::<Result<_, _>>()?).await?;
    mesh.create_secret(secret("client-credential").key_pair(&own).ca(public)).await?;
    let (ways, originate): (&[&str], _) = match placement {
        Placement::Sidecar => (&["servers", "routes-at-sidecar"], "originate-at-sidecar"),
        Placement::EgressGateway => {
            (&["servers", "egress-gateway", "routes-at-gateway"], "originate-at-gateway")
        }
        Placement::IngressGateway => {
            (&["servers", "ingress-gateway", "routes-at-gateway"], "originate-at-gateway")
        }
    };
    mesh.apply(ways).await?;
    mesh.apply(&[originate]).await?;

    mesh.step("A certificate for one host");
    let identified = |host: &str, reply: &Reply, certificate| {
        reply.ok().and(mesh.external(host).received(reply).client_certificate(certificate))
    };
    let anonymous = |host: &str, reply: &Reply| {
        reply.ok().and(mesh.external(host).received(reply).no_client_certificate())
    };
    let partner = ask(PARTNER, "/").await?;
    let bystander = ask(BYSTANDER, "/").await?;
    let control = identified(PARTNER, &partner, &own);
    mesh.check(
        "client-certificate-stays-with-its-host",
        anonymous(BYSTANDER, &bystander).provided("a request to the host with the certificate", control),
    )?;

    mesh.step("Secrets that do not exist yet");
    let unserved = |host: &str, reply: &Reply| reply.fails().and(mesh.external(host).never_received(reply));
    let missing = ask(UNREADY, "/").await?;
    // The CA may come in a Secret of its own (Istio: NAME-cacert).
    mesh.create_secret(secret("late-credential-cacert").ca(public)).await?;
    let ca_alone = ask(UNREADY, "/").await?;
    mesh.create_secret(secret("late-credential").key_pair(&late).ca(public)).await?;
    let there = ask(UNREADY, "/").await?;
    let without_pair = unserved(UNREADY, &ca_alone).of("with the CA alone");
    mesh.check(
        "missing-credential-not-replaced",
        unserved(UNREADY, &missing)
            .and(without_pair)
            .provided("the same request with the Secret", identified(UNREADY, &there, &late)),
    )?;
    let missing = ask(VENDOR, "/").await?;
    mesh.create_secret(secret("vendor-ca").ca(public)).await?;
    let there = ask(VENDOR, "/").await?;
    mesh.check(
        "missing-ca-not-replaced",
        unserved(VENDOR, &missing).provided(
            "the same request with the Secret",
            there.ok().and(mesh.external(VENDOR).received(&there)),
        ),
    )?;

    mesh.step("One address, two rules and three hosts");
    let mut by_rule = Vec::new();
    for turn in 1..=3 {
        let with = ask(SHARED, CERTIFIED).await?;
        let without = ask(SHARED, "/").await?;
        by_rule.push(identified(SHARED, &with, &own).of(&format!("turn {turn} with a certificate")));
        by_rule.push(anonymous(SHARED, &without).of(&format!("turn {turn} without a certificate")));
    }
    mesh.check("connections-per-policy", Claim::all(by_rule))?;
    let mut by_host = Vec::new();
    for (path, host) in [("/", SHARED), ("/east", EAST), ("/west", WEST), ("/east", EAST), ("/", SHARED)] {
        let reply = ask(SHARED, path).await?;
        let received = mesh.external(SHARED).received(&reply).host(host).server_name(host);
        by_host.push(reply.ok().and(received).of(host));
    }
    mesh.check("connections-per-host", Claim::all(by_host))?;

    mesh.step("A route with an exact path");
    let queried = ask(SHARED, "/with-certificate?of=today").await?;
    let mut paths = vec![identified(SHARED, &queried, &own).of("with a query")];
    for path in OTHERS {
        let reply = ask(SHARED, path).await?;
        let received = mesh.external(SHARED).received(&reply).target(path).no_client_certificate();
        paths.push(Claim::from(received).of(path));
    }
    mesh.check("exact-path-match", Claim::all(paths))?;
    if placement == Placement::Sidecar {
        by_namespace::story(mesh, PARTNER, &clients, &own).await?;
        own_tls::story(mesh).await?;
    }
    Ok(())
}
