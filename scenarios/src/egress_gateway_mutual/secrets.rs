//! Which credential the gateway uses: the one in its own namespace, in every format that Istio supports.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;

use super::{GATEWAY_NAMESPACE, HOST, Parties, SECRET, URL};

/// Where Istio looks for the CA of [`SECRET`] first.
const CA_SECRET: &str = "client-credential-cacert";

pub(super) async fn of_an_unrelated_ca(mesh: &Mesh, parties: &Parties, welcome: &Reply) -> Result<(), Stop> {
    mesh.step("A credential of an unrelated CA");
    let stranger = parties.another_ca.client("client.example.com").key_of(&parties.client).issue()?;
    mesh.create_secret(parties.secret(GATEWAY_NAMESPACE, SECRET, &stranger)).await?;
    let untrusted = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "untrusted-client-refused",
        untrusted
            .unlike("the same request with the documented credential", welcome)
            .and(mesh.external(HOST).during(&untrusted).refused_client(&stranger)),
    )
}

pub(super) async fn in_the_wrong_namespace(mesh: &Mesh, parties: &Parties) -> Result<(), Stop> {
    mesh.step("A credential in the wrong namespace");
    let (sleep, nginx) = (mesh.workload("sleep"), mesh.external(HOST));
    // A name that the gateway never held: istiod does not withdraw a Secret that it has sent (pilot/pkg/xds/sds.go, `Generate`,
    // leaves out what is gone), so a proxy may keep using a Secret that was deleted.
    let name = "lent-credential";
    mesh.apply(&["originate-lent"]).await?;
    mesh.create_secret(parties.secret("default", name, &parties.client)).await?;
    let misplaced = sleep.get(URL).await?;
    mesh.create_secret(parties.secret(GATEWAY_NAMESPACE, name, &parties.client)).await?;
    let beside = sleep.get(URL).await?;
    mesh.check(
        "credential-in-wrong-namespace",
        misplaced.fails().and(nginx.never_received(&misplaced)).provided(
            "the same request with the Secret in the gateway's namespace",
            beside.ok().and(nginx.received(&beside).client_certificate(&parties.client)),
        ),
    )?;
    mesh.delete_secret("default", name).await?;
    mesh.apply(&["originate"]).await?;
    mesh.delete_secret(GATEWAY_NAMESPACE, name).await
}

/// Creates these Secrets, and claims that the gateway then uses this client certificate.
async fn takes_up<const N: usize>(mesh: &Mesh, secrets: [Secret; N], client: &Issued) -> Result<Claim, Stop> {
    for secret in secrets {
        mesh.create_secret(secret).await?;
    }
    let reply = mesh.workload("sleep").get(URL).await?;
    Ok(reply.ok().and(mesh.external(HOST).received(&reply).client_certificate(client)))
}

pub(super) async fn in_every_format(mesh: &Mesh, parties: &Parties) -> Result<(), Stop> {
    mesh.step("The Secret formats that Istio supports");
    let ca = &parties.ca;
    // A certificate of its own for each format shows that the gateway does not use the one of the format before.
    let client = |serial| ca.client("client.example.com").serial(serial).key_of(&parties.client).issue();
    let secret = || Secret::new(GATEWAY_NAMESPACE, SECRET);

    let client_2 = client(2)?;
    let tls = takes_up(mesh, [secret().key_pair(&client_2).ca(ca)], &client_2).await?;
    mesh.delete_secret(GATEWAY_NAMESPACE, SECRET).await?;

    let client_3 = client(3)?;
    let generic = [secret().generic_key_pair(&client_3).generic_ca(ca)];
    let generic = takes_up(mesh, generic, &client_3).await?;
    mesh.delete_secret(GATEWAY_NAMESPACE, SECRET).await?;

    let client_4 = client(4)?;
    let ca_secret = || Secret::new(GATEWAY_NAMESPACE, CA_SECRET);
    let separate = takes_up(mesh, [secret().key_pair(&client_4), ca_secret().ca(ca)], &client_4).await?;
    // The CA in the Secret of its own must be the one that decides.
    mesh.create_secret(ca_secret().ca(&parties.another_ca)).await?;
    let refused = mesh.workload("sleep").get(URL).await?;
    let refused = refused.fails().and(mesh.external(HOST).never_received(&refused));
    mesh.check(
        "credential-formats",
        tls.of("tls.crt, tls.key, ca.crt").and(generic.of("cert, key, cacert")).and(
            separate.and(refused.of("with another CA")).of("client-credential with client-credential-cacert"),
        ),
    )?;
    mesh.delete_secret(GATEWAY_NAMESPACE, SECRET).await?;
    mesh.delete_secret(GATEWAY_NAMESPACE, CA_SECRET).await
}
