//! The way through the gateway, and its end.

use meshproof_harness::claim::{Claim, Claims, Count, Reply};
use meshproof_harness::mesh::{External, Mesh, Stop};

use super::{GATEWAY, GATEWAY_HOST, HOST, URL, URL_TLS};

pub(super) async fn to_the_gateway(mesh: &Mesh, nginx: &External<'_>, welcome: &Reply) -> Result<(), Stop> {
    let (gateway, sidecar) = (mesh.proxy(GATEWAY), mesh.proxy("sleep"));
    let hop = sidecar.logged(welcome).method("GET").path("/").status(200).authority(HOST);
    let at_gateway = mesh.upstream(GATEWAY_HOST, 443);
    let cluster = format!("outbound|443|nginx|{GATEWAY_HOST}");
    mesh.check("sidecar-access-log", hop.upstream_host(at_gateway.clone()).upstream_cluster(&cluster))?;
    mesh.check(
        "originated-by-gateway",
        nginx
            .connection_opened_by(GATEWAY, welcome)
            .and(nginx.during(welcome).no_other_connection())
            .and(sidecar.logged(welcome).upstream_host(at_gateway)),
    )?;
    let plain = gateway.probe(443).get(URL).await?;
    let anonymous = gateway.probe(443).get(URL_TLS).await?;
    mesh.check(
        "hop-to-gateway-is-mutual-tls",
        plain
            .is_refused()
            .of("a plain client of the gateway's port")
            .and(anonymous.is_refused().of("a TLS client of the gateway's port without a certificate"))
            .and(nginx.during(&plain).nothing())
            .and(nginx.during(&anonymous).nothing())
            .provided("the sidecar's own request", welcome.ends_with(200))
            // A retry has a line of its own.
            .and(gateway.logged(welcome).count(Count::AtLeast(1)).requested_server_name(HOST)),
    )
}

pub(super) async fn without_the_gateway(mesh: &Mesh, nginx: &External<'_>) -> Result<(), Stop> {
    mesh.step("Stop the gateway");
    let sleep = mesh.workload("sleep");
    mesh.set_running(GATEWAY, false).await?;
    let away = sleep.get(URL).await?;
    mesh.set_running(GATEWAY, true).await?;
    let back = sleep.get(URL).await?;
    mesh.check(
        "no-bypass",
        away.fails()
            .and(nginx.during(&away).nothing())
            .provided("the same request with the gateway back", back.ok()),
    )
}

/// Deletes, in the document's order, what leads to the gateway, and asks after each step.
pub(super) async fn cleaned_up(mesh: &Mesh, nginx: &External<'_>, last: &Reply) -> Result<(), Stop> {
    mesh.delete_one("Gateway", "default", GATEWAY).await?;
    let reply = mesh.workload("sleep").get(URL).await?;
    let unserved: Claim = reply.fails().and(nginx.during(&reply).nothing());
    mesh.check(
        "no-bypass-during-cleanup",
        unserved.provided("the same request before the deletion", last.ends_with(200)),
    )?;
    mesh.delete_one("VirtualService", "default", "direct-nginx-through-egress-gateway").await?;
    mesh.delete_one("DestinationRule", "istio-system", "originate-mtls-for-nginx").await?;
    mesh.delete_one("DestinationRule", "default", "egressgateway-for-nginx").await
}
