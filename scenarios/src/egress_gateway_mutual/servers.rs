//! Which servers the gateway accepts, and which server name it sends them.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claims, Reply};
use meshproof_harness::mesh::{External, Mesh, Stop};

use super::{HOST, Parties, URL};
use crate::sites;

pub(super) async fn another_server_name(
    mesh: &Mesh,
    nginx: &External<'_>,
    welcome: &Reply,
) -> Result<(), Stop> {
    mesh.step("Another server name");
    mesh.apply(&["originate-another-sni"]).await?;
    let renamed = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "sni-as-configured",
        nginx
            .saw(welcome)
            .server_name(HOST)
            .and(nginx.saw(&renamed).exactly(1).server_name("nginx.example.com")),
    )?;
    mesh.apply(&["originate"]).await
}

/// The nginx of the document with this certificate instead.
async fn nginx_with<'a>(mesh: &'a Mesh, parties: &Parties, server: &Issued) -> Result<External<'a>, Stop> {
    mesh.deploy_external(sites::nginx(HOST, server).requiring_clients_of(&parties.ca)).await
}

pub(super) async fn another_ca(mesh: &Mesh, parties: &Parties, welcome: &Reply) -> Result<(), Stop> {
    mesh.step("A server of another CA");
    let foreign = parties.another_ca.server(HOST).without_san().key_of(&parties.server).issue()?;
    let impostor = nginx_with(mesh, parties, &foreign).await?;
    let deceived = mesh.workload("sleep").get(URL).await?;
    mesh.check(
        "server-of-another-ca-refused",
        deceived
            .unlike("the same request to a server of the right CA", welcome)
            .and(impostor.never_received(&deceived)),
    )?;
    nginx_with(mesh, parties, &parties.server).await?;
    Ok(())
}

pub(super) async fn another_san(mesh: &Mesh, parties: &Parties) -> Result<(), Stop> {
    let (ca, sleep) = (&parties.ca, mesh.workload("sleep"));
    mesh.step("SAN validation for the destination");
    let named = ca.server(HOST).key_of(&parties.server).issue()?;
    mesh.apply(&["originate-automatic"]).await?;
    let unnamed = sleep.get(URL).await?;
    let never_served = mesh.external(HOST).never_received(&unnamed);
    let nginx = nginx_with(mesh, parties, &named).await?;
    let automatic = sleep.get(URL).await?;
    mesh.check(
        "automatic-sni-and-san",
        automatic
            .ok()
            .and(nginx.received(&automatic).server_name(HOST).client_certificate(&parties.client))
            .and(unnamed.fails().and(never_served).of("a server whose certificate has no alternative name")),
    )?;
    mesh.apply(&["originate-san-match"]).await?;
    let matched = sleep.get(URL).await?;
    mesh.check("san-match-accepted", matched.ok().and(nginx.received(&matched)))?;

    mesh.apply(&["originate-san-mismatch"]).await?;
    let mismatched = sleep.get(URL).await?;
    // The reverse as well: the right name is configured, and the server has another. Only a proxy that reads the certificate
    // tells the two cases from the first.
    mesh.apply(&["originate-san-match"]).await?;
    let other = ca.server("another-nginx.mesh-external.svc.cluster.local").key_of(&parties.server).issue()?;
    let elsewhere = nginx_with(mesh, parties, &other).await?;
    let misnamed = sleep.get(URL).await?;
    let misnamed_refused = misnamed.fails().and(elsewhere.never_received(&misnamed));
    mesh.check(
        "san-mismatch-refused",
        mismatched
            .fails()
            .and(nginx.never_received(&mismatched))
            .and(misnamed_refused.of("a server with another name"))
            .provided("the same request with the right name", matched.ok()),
    )?;
    nginx_with(mesh, parties, &named).await?;
    mesh.apply(&["originate"]).await
}
