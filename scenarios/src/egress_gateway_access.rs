//! Istio reference, "Gateway" and DestinationRule, "ClientTLSSettings": an egress gateway serves clients of the mesh, and only
//! the hosts that it was given; and sidecars send requests to the gateway alone. The suite asks with identities of its own.

mod strangers;

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Client, Mesh, Stop};

use crate::placement::Placement;
use crate::sites::{self, CNN, CNN_POLITICS, SLEEP_IDENTITY};

const GATEWAY_IDENTITY: &str =
    "spiffe://cluster.local/ns/istio-system/sa/istio-egressgateway-service-account";
const ANOTHER_IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/checkout";
const BYSTANDER: &str = "bystander.example";
const PEER: &str = "peer.mesh.example";
const POLITICS: &str = "http://edition.cnn.com/politics";
const SECURE: &str = "https://edition.cnn.com/politics";

/// Nothing of the request reached a host outside. Connections on which nothing is sent are no part of it.
fn kept_in(mesh: &Mesh, reply: &Reply) -> Claim {
    mesh.external(CNN).during(reply).nothing().and(mesh.external(BYSTANDER).during(reply).nothing())
}

/// Identities that only a comparison of the whole tells from this one: longer, shorter, and of another trust domain.
fn near(identity: &str) -> Vec<String> {
    let shorter = identity.trim_end_matches(|c| c != '-').trim_end_matches('-');
    let elsewhere = identity.replacen("cluster.local", "cluster.local.example", 1);
    vec![format!("{identity}-2"), shorter.to_owned(), elsewhere]
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let (sleep, gateway) = (mesh.workload("sleep"), Placement::EgressGateway.proxy(mesh));

    mesh.step("A gateway for one host");
    let certificate = mesh.public_authority().server(CNN).issue()?;
    let cnn = mesh.deploy_external(sites::cnn(&certificate)).await?;
    let certificate = mesh.public_authority().server(BYSTANDER).issue()?;
    mesh.deploy_external(sites::origin(BYSTANDER, &certificate)).await?;
    mesh.apply(&["access", "gateway"]).await?;
    mesh.apply(&["hop", "originate"]).await?;
    let served = |reply: &Reply| reply.ok().body_contains(CNN_POLITICS).and(cnn.received(reply));

    mesh.step("Another identity of the gateway");
    // Only implementations with the feature accept the manifest.
    if mesh.has_feature(Feature::SanValidation) {
        let usual = sleep.get(POLITICS).await?;
        mesh.apply(&["hop-to-another-identity"]).await?;
        let other = sleep.get(POLITICS).await?;
        mesh.apply(&["hop"]).await?;
        mesh.check(
            "gateway-identity-verified",
            other
                .fails()
                .and(kept_in(mesh, &other))
                .provided("the same request without subjectAltNames", served(&usual)),
        )?;
    }

    // Other implementations have identities of their own making, which the suite cannot take on.
    if !mesh.has_feature(Feature::MeshCa) {
        return Ok(());
    }
    mesh.step("Clients with an identity of the mesh");
    let mesh_ca = mesh.mesh_authority()?;
    let identity = mesh_ca.mesh_identity(SLEEP_IDENTITY).issue()?;
    let another = mesh_ca.mesh_identity(ANOTHER_IDENTITY).issue()?;
    let client = |identity: &Issued| gateway.probe(80).identity(identity);
    let own = client(&identity).get(SECURE).await?;
    let of_another = client(&another).get(SECURE).await?;
    let usual = served(&own).and(served(&of_another).of("another workload"));
    mesh.check("mesh-client-served", usual.clone())?;

    mesh.step("Hosts and server names that the gateway was not given");
    let refused = |reply: &Reply| reply.is_refused().and(kept_in(mesh, reply));
    let mut of_other_hosts = Vec::new();
    for host in [BYSTANDER, "unknown.example", "sport.edition.cnn.com", "edition.cnn.com.example"] {
        let reply = client(&identity).host(host).get(SECURE).await?;
        of_other_hosts.push(refused(&reply).of(host));
    }
    let usual_host = "the same request for the gateway's own host";
    mesh.check("other-hosts-not-served", Claim::all(of_other_hosts).provided(usual_host, usual.clone()))?;
    let unnamed = client(&identity).host(CNN).get("https://192.0.2.1/politics").await?;
    let mut by_name = vec![unnamed.is_cut_off().and(kept_in(mesh, &unnamed)).of("without a server name")];
    for name in [BYSTANDER, "sport.edition.cnn.com"] {
        let reply = client(&identity).server_name(name).get(SECURE).await?;
        by_name.push(reply.is_cut_off().and(kept_in(mesh, &reply)).of(name));
    }
    let usual_name = "the same request with the server name of the gateway's own host";
    mesh.check("other-server-names-refused", Claim::all(by_name).provided(usual_name, usual.clone()))?;

    mesh.step("Certificates that give no identity in the mesh");
    let expired = mesh_ca.mesh_identity(SLEEP_IDENTITY).expired().issue()?;
    let expired = client(&expired).get(SECURE).await?;
    let valid = "the same request with a valid certificate of the mesh's CA";
    mesh.check("expired-identity-refused", refused(&expired).provided(valid, usual.clone()))?;
    let of_servers = mesh_ca.mesh_identity(SLEEP_IDENTITY).server_auth_only().issue()?;
    let of_servers = client(&of_servers).get(SECURE).await?;
    mesh.check("client-auth-eku-required", refused(&of_servers).provided(valid, usual.clone()))?;
    let public = mesh.public_authority();
    let of_public_ca = client(&public.mesh_identity(SLEEP_IDENTITY).issue()?).get(SECURE).await?;

    strangers::every_time(mesh, &usual, &refused).await?;
    strangers::of_a_stopped_gateway(mesh, &client(&identity)).await?;

    mesh.step("A server in the place of the gateway");
    let ask = async |client: &Client<'_>, certificate: &Issued| -> Result<Reply, Stop> {
        mesh.deploy_external(sites::origin(PEER, certificate).asking_clients_of(mesh_ca).embedded()).await?;
        client.get("http://peer.mesh.example/private/report").await
    };
    mesh.apply(&["peer"]).await?;
    let right = ask(&sleep, &mesh_ca.mesh_identity(GATEWAY_IDENTITY).issue()?).await?;
    let by_public_ca = ask(&sleep, &public.mesh_identity(GATEWAY_IDENTITY).issue()?).await?;
    let peer = mesh.external(PEER);
    let right_peer = right.ok().and(peer.received(&right).client_identity(SLEEP_IDENTITY));
    let unsent = |reply: &Reply| reply.fails().and(peer.never_received(reply));
    mesh.check(
        "system-roots-not-mesh-roots",
        refused(&of_public_ca).provided(valid, usual).and(
            unsent(&by_public_ca)
                .provided("the same request to a server of the mesh's CA", right_peer.clone()),
        ),
    )?;
    if mesh.has_feature(Feature::SanValidation) {
        let mut impostors = vec![unsent(&ask(&sleep, &another).await?).of(ANOTHER_IDENTITY)];
        for identity in near(GATEWAY_IDENTITY) {
            let reply = ask(&sleep, &mesh_ca.mesh_identity(&identity).issue()?).await?;
            impostors.push(unsent(&reply).of(&identity));
        }
        let with_right = "the same request to a server with the configured identity";
        mesh.check("peer-identity-verified", Claim::all(impostors).provided(with_right, right_peer))?;
    }
    strangers::in_the_gateways_place(mesh).await
}
