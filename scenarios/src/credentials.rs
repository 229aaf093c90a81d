//! Istio, "Egress Gateways with TLS Origination", and the reference of ClientTLSSettings: the life of a proxy's credential,
//! while it is missing, replaced, revoked, or holds a CA alone. Each proxy that opens TLS is asked.

mod ca_alone;
mod use_of;

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;

use crate::placement::Placement;
use crate::sites;

const HOST: &str = "partner.example";
const URL: &str = "http://partner.example/";

/// The manifests of a placement: the ways to the server, and the DestinationRules.
struct Manifests {
    ways: &'static [&'static str],
    originate: &'static str,
    ca_only: &'static str,
    name_ends_in_cacert: &'static str,
}

fn manifests(placement: Placement) -> Manifests {
    let at_gateway = |ways| Manifests {
        ways,
        originate: "originate-at-gateway",
        ca_only: "ca-only-at-gateway",
        name_ends_in_cacert: "name-ends-in-cacert-at-gateway",
    };
    match placement {
        Placement::Sidecar => Manifests {
            ways: &["partner"],
            originate: "originate-at-sidecar",
            ca_only: "ca-only-at-sidecar",
            name_ends_in_cacert: "name-ends-in-cacert-at-sidecar",
        },
        Placement::EgressGateway => at_gateway(&["partner", "egress-gateway", "route-at-gateway"]),
        Placement::IngressGateway => at_gateway(&["partner", "ingress-gateway", "route-at-gateway"]),
    }
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let (apps, namespace) = (placement.client(mesh), placement.namespace());
    let Manifests { ways, originate, ca_only, name_ends_in_cacert } = manifests(placement);
    let ca = Authority::new(KeyAlgorithm::EcdsaP256)?;
    let client = |serial| ca.client("client.example.com").serial(serial).issue();
    let credential = |client: &Issued| Secret::new(namespace, "client-credential").key_pair(client).ca(&ca);

    mesh.step("A server that requires client certificates");
    let server = ca.server(HOST).issue()?;
    let nginx = mesh.deploy_external(sites::nginx(HOST, &server).requiring_clients_of(&ca)).await?;
    mesh.apply(ways).await?;
    mesh.apply(&[originate]).await?;

    mesh.step("The Secret is missing, then appears");
    let missing = apps.get(URL).await?;
    let while_missing = placement.proxy(mesh).credentials().await?;
    let first = client(1)?;
    let elsewhere = if namespace == "default" { "istio-system" } else { "default" };
    mesh.create_secret(Secret::new(elsewhere, "client-credential").key_pair(&first).ca(&ca)).await?;
    let misplaced = apps.get(URL).await?;
    mesh.create_secret(credential(&first)).await?;
    let appeared = apps.get(URL).await?;
    let with_secret = appeared.ok().and(nginx.received(&appeared).client_certificate(&first));
    mesh.check(
        "missing-credential-refused",
        missing
            .fails()
            .and(nginx.never_received(&missing))
            .and(while_missing.gone("kubernetes://client-credential"))
            .provided("the same request with the Secret", with_secret.clone()),
    )?;
    mesh.check(
        "credential-in-wrong-namespace",
        misplaced
            .fails()
            .and(nginx.never_received(&misplaced))
            .provided("the same request with the Secret in the proxy's namespace", with_secret),
    )?;

    use_of::the_certificate(mesh, &ca, &appeared, &first).await?;
    use_of::other_secrets(mesh, &ca, &first, &appeared).await?;
    if placement == Placement::Sidecar {
        use_of::a_rule_without_a_selector(mesh, &appeared).await?;
    }

    mesh.step("Three rotations");
    let mut rotations = Vec::new();
    for rotation in 1..=3 {
        let client = client(rotation + 1)?;
        mesh.create_secret(credential(&client)).await?;
        for _ in 0..2 {
            let reply = apps.get(URL).await?;
            let used = reply.ok().and(nginx.received(&reply).client_certificate(&client));
            rotations.push(used.of(&format!("rotation {rotation}")));
        }
    }
    mesh.check("credential-rotation", Claim::all(rotations))?;

    mesh.step("A revocation list");
    mesh.create_secret(credential(&first).revocation_list(&ca.revocation_list([])?)).await?;
    let with_empty_list = apps.get(URL).await?;
    mesh.create_secret(credential(&first).revocation_list(&ca.revocation_list([&server])?)).await?;
    let revoked = apps.get(URL).await?;
    mesh.check(
        "revoked-by-crl-refused",
        revoked
            .unlike("the same request with an empty list", &with_empty_list)
            .and(nginx.never_received(&revoked)),
    )?;

    ca_alone::of_the_server(mesh, &ca, &server, [ca_only, name_ends_in_cacert]).await?;

    mesh.step("A rotation under load");
    // Only the embedded server can hold a response back. This step is the last one, so that a target without an embedded server
    // runs all the others.
    mesh.apply(&[originate]).await?;
    let holding = sites::nginx(HOST, &server).requiring_clients_of(&ca).serving_in_clear().embedded();
    let holding = mesh.deploy_external(holding).await?;
    let (old, new) = (client(5)?, client(6)?);
    mesh.create_secret(credential(&old)).await?;
    let before = apps.get(URL).await?;
    let rotation = mesh.create_secret(credential(&new));
    let load = apps.under_load(&format!("http://{HOST}"), rotation).await?;
    let after = apps.get(URL).await?;
    mesh.check(
        "rotation-under-load",
        load.loses_nothing()
            .and(holding.received(&after).client_certificate(&new))
            .provided("the request before the rotation", holding.received(&before).client_certificate(&old)),
    )
}
