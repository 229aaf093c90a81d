//! Istio, "Egress Gateways with TLS Origination": "Perform TLS origination with an egress gateway".

mod beside;
mod cleanup;

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claims, Count, Reply};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::topology::{Gateway, Topology, Workload};

use crate::sites::{self, CNN, CNN_POLITICS, SLEEP_IDENTITY};

const GATEWAY: &str = "istio-egressgateway";
const GATEWAY_HOST: &str = "istio-egressgateway.istio-system.svc.cluster.local";
const POLITICS: &str = "http://edition.cnn.com/politics";
const SECURE: &str = "https://edition.cnn.com/politics";

pub(crate) fn topology() -> Topology {
    Topology::default().workload(Workload::sleep()).gateway(Gateway::egress())
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let (sleep, gateway) = (mesh.workload("sleep"), mesh.proxy(GATEWAY));

    mesh.step("Before you begin");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let cnn = mesh.deploy_external(sites::cnn(&certificate)).await?;
    let untouched = sleep.get(POLITICS).await?;
    let unopened = gateway.probe(80).get(POLITICS).await?;

    mesh.step("Define a ServiceEntry for edition.cnn.com");
    mesh.apply(&["access"]).await?;
    let before = sleep.get(POLITICS).await?;
    let redirected = before.statuses(&[301, 200]).and(before.hop(0).redirects(301, SECURE));
    mesh.check("redirect-before-origination", redirected)?;

    mesh.step("Perform TLS origination with an egress gateway");
    mesh.apply(&["gateway"]).await?;
    mesh.apply(&["originate"]).await?;
    let after = sleep.get(POLITICS).await?;
    mesh.check("single-response", after.ok().shows(cnn.own(CNN_POLITICS)))?;
    mesh.check("one-upstream-request", cnn.received_only(&after))?;
    mesh.check(
        "no-plaintext-leak",
        cnn.during(&after)
            .no_plaintext(&["/politics", CNN])
            .provided("the same request without origination", cnn.during(&before).saw_in_clear("/politics"))
            .provided("the request itself", after.ends_with(200)),
    )?;
    mesh.check("sni-is-host", cnn.saw_on(443, &after).server_name(CNN))?;
    mesh.check(
        "gateway-access-log",
        gateway
            .logged(&after)
            .method("GET")
            .path("/politics")
            .status(200)
            .authority(CNN)
            .upstream_host(mesh.upstream(CNN, 443))
            .upstream_cluster("outbound|443||edition.cnn.com"),
    )?;
    mesh.check("gateway-log-protocol", gateway.protocol_recorded(&after))?;
    let at_gateway = mesh.upstream(GATEWAY_HOST, 80);
    mesh.check(
        "originated-by-gateway",
        cnn.connection_opened_by(GATEWAY, &after)
            .and(cnn.during(&after).no_other_connection())
            .and(mesh.proxy("sleep").logged(&after).upstream_host(at_gateway.clone())),
    )?;
    let hop = mesh.proxy("sleep").logged(&after).method("GET").path("/politics").status(200).authority(CNN);
    let cluster = format!("outbound|80|cnn|{GATEWAY_HOST}");
    mesh.check("sidecar-access-log", hop.upstream_host(at_gateway.clone()).upstream_cluster(&cluster))?;
    mesh.check("gateway-log-values", gateway.logged_in_full(&after))?;
    mesh.check("request-id-at-gateway", gateway.request_id_recorded_beside(&mesh.proxy("sleep"), &after))?;
    mesh.check("host-and-path-preserved", sites::request_preserved(mesh, &cnn).await?)?;

    beside::https_of_the_application(mesh, &certificate, &after).await?;

    mesh.step("Ask the gateway without a mesh identity");
    let plain = gateway.probe(80).get(POLITICS).await?;
    let anonymous = gateway.probe(80).get(SECURE).await?;
    let impostor = Authority::new(KeyAlgorithm::EcdsaP256)?.mesh_identity(SLEEP_IDENTITY).issue()?;
    let stranger = gateway.probe(80).identity(&impostor).get(SECURE).await?;
    let unserved = |reply: &Reply| {
        let not_logged = gateway.logged(reply).count(Count::Exactly(0));
        cnn.during(reply).nothing().or_unobserved(not_logged)
    };
    mesh.check(
        "hop-to-gateway-is-mutual-tls",
        plain
            .is_refused()
            .of("a plain client of the gateway's port")
            .and(anonymous.is_refused().of("a TLS client of the gateway's port without a certificate"))
            .and(stranger.is_refused().of("a client with a certificate of another CA"))
            .and(unserved(&stranger))
            .and(unserved(&plain))
            .and(unserved(&anonymous))
            .provided("the sidecar's own request", after.ends_with(200))
            // A retry has a line of its own.
            .and(gateway.logged(&after).count(Count::AtLeast(1)).requested_server_name(CNN)),
    )?;

    beside::without_mesh_mutual_tls(mesh, &plain).await?;

    mesh.step("Stop the gateway");
    mesh.set_running(GATEWAY, false).await?;
    let away = sleep.get(POLITICS).await?;
    let kept_in = mesh.proxy("sleep").logged(&away).no_upstream_but(&at_gateway).where_logged();
    mesh.set_running(GATEWAY, true).await?;
    let back = sleep.get(POLITICS).await?;
    mesh.check(
        "no-bypass",
        away.fails()
            .and(cnn.during(&away).nothing().or_unobserved(kept_in))
            .provided("the same request with the gateway back", back.ok()),
    )?;

    cleanup::in_the_printed_order(mesh, &untouched, &unopened, &at_gateway).await
}
